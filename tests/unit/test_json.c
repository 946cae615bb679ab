/* SPDX-License-Identifier: Apache-2.0 */
/* JSON texts, and the paths of their values. */
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
	struct json_node second = json_element(&ports, ports.value->child->next, 1);
	struct json_node port = json_member(&second, "port");
	char path[JSON_PATH_MAX];

	(void)state;
	assert_string_equal(json_path(&port, path), "spec.ports[1].port");
	assert_string_equal(json_path(&root, path), "document");
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
		cmocka_unit_test(test_long_paths_are_cut_not_overrun),
	};

	return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
