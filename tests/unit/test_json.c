/* SPDX-License-Identifier: Apache-2.0 */
/* Checked access to JSON: each complaint names the path and what is wrong there. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "lib/document.h"
#include "lib/json.h"

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

static void test_parse_names_line_and_column(void **state)
{
	static const struct {
		const char *text;
		const char *says;
	} cases[] = {
		{ "{\n  \"a\": 1,\n  \"b\": x\n}", "line 3, column 8" },
		{ "{} {}", "line 1, column 4" },
		{ "[1, 2", "line 1, column 6" },
		{ "", "line 1, column 1" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct cJSON *json = NULL;
		struct errmsg err = {};

		assert_int_equal(json_parse(cases[i].text, strlen(cases[i].text), &json, &err),
				 -EBADMSG);
		if (!strstr(err.text, cases[i].says))
			print_error("\"%s\": %s\n", cases[i].text, err.text);
		assert_non_null(strstr(err.text, cases[i].says));
		assert_null(json);
	}
}

static void test_parse_names_nesting_that_is_too_deep(void **state)
{
	char text[TEXT_DEPTH_MAX + 2];
	struct cJSON *json = NULL;
	struct errmsg err = {};

	(void)state;
	memset(text, '[', sizeof(text));
	text[0] = '\n';
	assert_int_equal(json_parse(text, sizeof(text), &json, &err), -EBADMSG);
	assert_string_equal(err.text, "line 2, column 129: nested deeper than 128");
}

static void test_parse_takes_space_around_and_no_terminator(void **state)
{
	const char text[] = { ' ', '[', '1', ']', '\n', '!' };
	struct cJSON *json = NULL;
	struct errmsg err = {};

	(void)state;
	assert_int_equal(json_parse(text, 5, &json, &err), 0);
	cJSON_Delete(json);
}

static void test_path_of_nested_value(void **state)
{
	auto_json struct cJSON *json = parsed("{\"spec\":{\"ports\":[{},{\"port\":70000}]}}");
	struct json_node root = json_root(json);
	struct json_node spec = json_member(&root, "spec");
	struct json_node ports = json_member(&spec, "ports");
	struct json_node second = json_at(&ports, 1);
	struct json_node port = json_member(&second, "port");
	char path[JSON_PATH_MAX];
	struct errmsg err = {};
	int64_t number = -1;

	(void)state;
	assert_string_equal(json_path(&port, path), "spec.ports[1].port");
	assert_string_equal(json_path(&root, path), "document");
	assert_int_equal(json_integer(&port, 1, 65535, &number, &err), -EINVAL);
	assert_string_equal(err.text, "spec.ports[1].port: 70000 is not between 1 and 65535");
	assert_int_equal(number, -1);
}

static void test_wrong_types_and_absence_are_told_apart(void **state)
{
	auto_json struct cJSON *json =
		parsed("{\"n\":1,\"s\":\"x\",\"b\":true,\"nil\":null,\"f\":1.5,\"big\":1e300}");
	struct json_node root = json_root(json);
	struct json_node n = json_member(&root, "n");
	struct json_node s = json_member(&root, "s");
	struct json_node b = json_member(&root, "b");
	struct json_node nil = json_member(&root, "nil");
	struct json_node f = json_member(&root, "f");
	struct json_node big = json_member(&root, "big");
	struct json_node absent = json_member(&root, "absent");
	struct json_node below = json_member(&absent, "below");
	const char *text = "unchanged";
	struct errmsg err = {};
	size_t count = 9;
	int64_t number = 9;
	bool flag = false;

	(void)state;
	assert_int_equal(json_string(&n, &text, &err), -EINVAL);
	assert_string_equal(err.text, "n: not a string");
	assert_int_equal(json_integer(&s, 0, 1, &number, &err), -EINVAL);
	assert_string_equal(err.text, "s: not a number");
	assert_int_equal(json_integer(&f, 0, 5, &number, &err), -EINVAL);
	assert_string_equal(err.text, "f: 1.5 is not a whole number");
	assert_int_equal(json_integer(&big, 0, INT64_MAX, &number, &err), -EINVAL);
	assert_int_equal(json_bool(&s, &flag, &err), -EINVAL);
	assert_int_equal(json_array(&s, &count, &err), -EINVAL);
	assert_string_equal(err.text, "s: not an array");
	assert_int_equal(json_object(&b, &err), -EINVAL);
	assert_int_equal(json_string(&nil, &text, &err), -EINVAL);
	assert_string_equal(err.text, "nil: missing");
	assert_int_equal(json_string(&below, &text, &err), -EINVAL);
	assert_string_equal(err.text, "absent.below: missing");
	assert_string_equal(text, "unchanged");
	assert_int_equal(number, 9);
	assert_int_equal(count, 9);
	assert_int_equal(json_bool(&b, &flag, &err), 0);
	assert_true(flag);
	assert_int_equal(json_string(&s, &text, &err), 0);
	assert_string_equal(text, "x");
}

static void test_optional_keeps_default_but_not_wrong_types(void **state)
{
	auto_json struct cJSON *json = parsed("{\"s\":1}");
	struct json_node root = json_root(json);
	struct json_node absent = json_member(&root, "absent");
	struct json_node s = json_member(&root, "s");
	const char *text = "default";
	struct errmsg err = {};
	int64_t number = 7;

	(void)state;
	assert_int_equal(json_string_opt(&absent, &text, &err), 0);
	assert_int_equal(json_integer_opt(&absent, 0, 1, &number, &err), 0);
	assert_string_equal(text, "default");
	assert_int_equal(number, 7);
	assert_int_equal(json_string_opt(&s, &text, &err), -EINVAL);
}

static void test_unknown_members_are_named(void **state)
{
	static const char *const known[] = { "a", "b" };
	auto_json struct cJSON *json = parsed("{\"x\":{\"a\":1,\"B\":2}}");
	struct json_node root = json_root(json);
	struct json_node x = json_member(&root, "x");
	struct errmsg err = {};

	(void)state;
	assert_int_equal(json_known(&x, known, ARRAY_SIZE(known), &err), -EINVAL);
	assert_string_equal(err.text, "x.B: unknown field");
}

static void test_long_paths_are_cut_not_overrun(void **state)
{
	auto_json struct cJSON *json = cJSON_CreateObject();
	struct json_node nodes[100];
	char path[JSON_PATH_MAX];

	(void)state;
	nodes[0] = json_root(json);
	for (size_t i = 1; i < ARRAY_SIZE(nodes); i++)
		nodes[i] = json_member(&nodes[i - 1], "a-rather-long-name");
	json_path(&nodes[99], path);
	assert_true(strlen(path) < JSON_PATH_MAX);
	assert_int_equal(strncmp(path, "a-rather-long-name.a-rather", 27), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse_names_line_and_column),
		cmocka_unit_test(test_parse_names_nesting_that_is_too_deep),
		cmocka_unit_test(test_parse_takes_space_around_and_no_terminator),
		cmocka_unit_test(test_path_of_nested_value),
		cmocka_unit_test(test_wrong_types_and_absence_are_told_apart),
		cmocka_unit_test(test_optional_keeps_default_but_not_wrong_types),
		cmocka_unit_test(test_unknown_members_are_named),
		cmocka_unit_test(test_long_paths_are_cut_not_overrun),
	};

	return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
