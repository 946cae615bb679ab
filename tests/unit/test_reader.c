/* SPDX-License-Identifier: Apache-2.0 */
/* Typed reads: each complaint names the path and what is wrong there. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "lib/reader.h"

#include <cmocka.h> /* last: its fail() is a macro */

static struct cJSON *parsed(const char *text)
{
	struct cJSON *json = NULL;
	struct errmsg err = {};

	if (json_parse(text, strlen(text), &json, &err) < 0)
		print_error("%s\n", err.text);
	assert_non_null(json);
	return json;
}

static void test_a_problem_names_its_path(void **state)
{
	auto_json struct cJSON *json = parsed("{\"spec\":{\"ports\":[{},{\"port\":70000}]}}");
	struct json_node root = json_root(json);
	struct json_node spec = json_member(&root, "spec");
	struct json_node ports = json_member(&spec, "ports");
	struct json_node second = json_element(&ports, ports.value->child->next, 1);
	struct json_node port = json_member(&second, "port");
	struct errmsg err = {};
	struct reader reader = { .err = &err };

	(void)state;
	assert_int_equal(read_integer(&reader, &port, 1, 65535, -1), -1);
	assert_int_equal(reader.ret, -EINVAL);
	assert_int_equal(err.code, -EINVAL);
	assert_string_equal(err.text, "spec.ports[1].port: 70000 is not between 1 and 65535");
}

enum wanted { OBJECT, LIST, STRING, INTEGER, BOOLEAN };

/* What a reader of its own says; "" if all is well. */
static const char *problem_of(const struct json_node *root, const char *key, enum wanted wanted,
			      bool yaml)
{
	static struct errmsg err;
	struct json_node node = json_member(root, key);
	struct reader reader = { .err = &err, .yaml = yaml };

	err = (struct errmsg){};
	switch (wanted) {
	case OBJECT:
		assert_int_equal(read_is_object(&reader, &node), cJSON_IsObject(node.value));
		break;
	case LIST:
		assert_int_equal(read_is_array(&reader, &node), cJSON_IsArray(node.value));
		break;
	case STRING:
		if (read_string(&reader, &node))
			assert_true(cJSON_IsString(node.value));
		break;
	case INTEGER:
		if (!cJSON_IsNumber(node.value))
			assert_int_equal(read_integer(&reader, &node, 0, 5, 9), 9);
		else if (read_integer(&reader, &node, 0, 5, 9) == 9)
			assert_int_not_equal(reader.ret, 0);
		break;
	case BOOLEAN:
		if (!node.value)
			assert_true(read_bool(&reader, &node, true));
		else
			assert_int_equal(read_bool(&reader, &node, true), cJSON_IsTrue(node.value));
		break;
	}
	assert_int_equal(reader.ret, err.code);
	return err.text;
}

static void test_values_of_another_type_are_problems_and_absent_ones_are_not(void **state)
{
	static const struct {
		const char *key;
		enum wanted wanted;
		bool yaml;
		const char *says;
	} cases[] = {
		{ "n", STRING, false, "n: a number, where a string is needed (put it in quotes)" },
		{ "b", STRING, false, "b: a boolean, where a string is needed (put it in quotes)" },
		{ "o", STRING, false, "o: an object, where a string is needed" },
		{ "s", INTEGER, false, "s: a string, where a number is needed" },
		{ "f", INTEGER, false, "f: 1.5 is not a whole number" },
		{ "big", INTEGER, false, "big: 1e+300 is not a whole number" },
		{ "seven", INTEGER, false, "seven: 7 is not between 0 and 5" },
		{ "s", BOOLEAN, false, "s: a string, where a boolean is needed" },
		{ "s", LIST, false, "s: a string, where a list is needed" },
		{ "o", LIST, false, "o: an object, where a list is needed" },
		{ "o", LIST, true,
		  "o: an object, where a list is needed (begin its first line with \"- \")" },
		{ "b", OBJECT, false, "b: a boolean, where an object is needed" },
		{ "a", OBJECT, false, "a: a list, where an object is needed" },
		{ "s", STRING, false, "" },
		{ "n", INTEGER, false, "" },
		{ "b", BOOLEAN, false, "" },
		{ "o", OBJECT, false, "" },
		{ "a", LIST, false, "" },
		{ "absent", OBJECT, false, "" },
		{ "absent", LIST, false, "" },
		{ "absent", STRING, false, "" },
		{ "absent", INTEGER, false, "" },
		{ "absent", BOOLEAN, false, "" },
		{ "nil", STRING, false, "" },
	};
	auto_json struct cJSON *json =
		parsed("{\"n\":1,\"s\":\"x\",\"b\":true,\"nil\":null,\"f\":1.5,\"big\":1e300,"
		       "\"seven\":7,\"o\":{\"x\":1},\"a\":[1]}");
	struct json_node root = json_root(json);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_string_equal(problem_of(&root, cases[i].key, cases[i].wanted, cases[i].yaml),
				    cases[i].says);
}

static void test_required_fields_are_missing_and_null_is_no_item(void **state)
{
	auto_json struct cJSON *json = parsed("{\"nil\":null,\"list\":[null],\"s\":\"x\"}");
	struct json_node root = json_root(json);
	struct json_node nil = json_member(&root, "nil");
	struct json_node absent = json_member(&root, "absent");
	struct json_node below = json_member(&absent, "below");
	struct json_node list = json_member(&root, "list");
	struct json_node item = json_element(&list, list.value->child, 0);
	struct json_node s = json_member(&root, "s");
	struct errmsg err = {};
	struct reader reader = { .err = &err };

	(void)state;
	assert_string_equal(read_required_string(&reader, &s), "x");
	assert_int_equal(reader.ret, 0);
	assert_string_equal(read_required_string(&reader, &nil), "");
	assert_string_equal(err.text, "nil: missing");
	reader.ret = 0;
	assert_string_equal(read_required_string(&reader, &below), "");
	assert_string_equal(err.text, "absent.below: missing");
	reader.ret = 0;
	assert_string_equal(read_required_string(&reader, &item), "");
	assert_string_equal(err.text, "list[0]: null, where a string is needed");
}

static void test_the_first_problem_stays(void **state)
{
	auto_json struct cJSON *json = parsed("{\"a\":1,\"b\":2}");
	struct json_node root = json_root(json);
	struct json_node a = json_member(&root, "a");
	struct json_node b = json_member(&root, "b");
	struct errmsg err = {};
	struct reader reader = { .err = &err };
	struct reader silent = { .err = NULL };

	(void)state;
	assert_null(read_string(&reader, &a));
	assert_null(read_string(&reader, &b));
	reader_fail(&reader, -EPROTO, "another version");
	assert_int_equal(reader.ret, -EINVAL);
	assert_int_equal(strncmp(err.text, "a: ", 3), 0);
	reader_fail(&silent, -EPROTO, "another version");
	assert_null(read_string(&silent, &a));
	assert_int_equal(silent.ret, -EPROTO);
}

static struct {
	size_t count;
	char last[100];
} taken;

static void __attribute__((format(printf, 4, 0)))
take(struct reader *reader, const struct json_node *at, enum problem_kind kind, const char *fmt,
     va_list args)
{
	(void)reader;
	(void)at;
	assert_int_equal(kind, PROBLEM_ERROR);
	vsnprintf(taken.last, sizeof(taken.last), fmt, args);
	taken.count++;
}

static void test_a_function_takes_all_problems(void **state)
{
	auto_json struct cJSON *json = parsed("{\"a\":1,\"b\":{}}");
	struct json_node root = json_root(json);
	struct json_node a = json_member(&root, "a");
	struct json_node b = json_member(&root, "b");
	struct reader reader = { .problem = take };

	(void)state;
	read_string(&reader, &a);
	read_string(&reader, &b);
	assert_int_equal(taken.count, 2);
	assert_string_equal(taken.last, "an object, where a string is needed");
	assert_int_equal(reader.ret, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_problem_names_its_path),
		cmocka_unit_test(test_values_of_another_type_are_problems_and_absent_ones_are_not),
		cmocka_unit_test(test_required_fields_are_missing_and_null_is_no_item),
		cmocka_unit_test(test_the_first_problem_stays),
		cmocka_unit_test(test_a_function_takes_all_problems),
	};

	return cmocka_run_group_tests_name("reader", tests, NULL, NULL);
}
