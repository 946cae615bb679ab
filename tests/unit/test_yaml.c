/* SPDX-License-Identifier: Apache-2.0 */
/* YAML and JSON texts -> trees: how plain scalars are read, what is refused and where. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "lib/auto.h"
#include "lib/document.h"

#include <cmocka.h> /* last: it makes fail a macro */

/* The JSON of all documents, printed without white space. */
static char *json_of(const char *text)
{
	struct text_error error;
	cJSON *documents = documents_parse(text, strlen(text), &error);
	char *printed;

	if (!documents)
		fail_msg("%zu:%zu: %s", error.line, error.column, error.text);
	printed = cJSON_PrintUnformatted(documents);
	cJSON_Delete(documents);
	return printed;
}

static void expect_json(const char *text, const char *json)
{
	char *printed = json_of(text);

	assert_string_equal(printed, json);
	free(printed);
}

static void test_plain_scalars_are_read_as_kubernetes_reads_them(void **state)
{
	static const struct {
		const char *text;
		const char *json;
	} cases[] = {
		{ "yes", "true" },
		{ "Off", "false" },
		{ "y", "true" },
		{ "N", "false" },
		{ "true", "true" },
		{ "TRUE", "true" },
		{ "tRUE", "\"tRUE\"" },
		{ "~", "null" },
		{ "NULL", "null" },
		{ "nUll", "\"nUll\"" },
		{ "80", "80" },
		{ "-7", "-7" },
		{ "+7", "7" },
		{ "0x1F", "31" },
		{ "0o17", "15" },
		{ "017", "15" },
		{ "08", "8" },
		{ "0b101", "5" },
		{ "1_000", "1000" },
		{ "1.5", "1.5" },
		{ ".5", "0.5" },
		{ "1e3", "1000" },
		{ "1.", "1" },
		{ "1.2.3", "\"1.2.3\"" },
		{ "0x", "\"0x\"" },
		{ "-", "[null]" },
		{ "1e", "\"1e\"" },
		{ "2001-01-01", "\"2001-01-01\"" },
		{ "12:30", "\"12:30\"" },
		{ "10.0.0.1", "\"10.0.0.1\"" },
		{ "'80'", "\"80\"" },
		{ "\"yes\"", "\"yes\"" },
		{ "!!str 80", "\"80\"" },
		{ "! 80", "\"80\"" },
		{ "!!int 80", "80" },
		{ "|\n  a\n  b\n", "\"a\\nb\\n\"" },
		{ ">-\n  a\n  b\n", "\"a b\"" },
	};
	char text[100];
	char json[100];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		snprintf(text, sizeof(text), "%s", cases[i].text);
		snprintf(json, sizeof(json), "[%s]", cases[i].json);
		expect_json(text, json);
	}
}

static void test_keys_become_strings(void **state)
{
	(void)state;
	expect_json("1: a\nyes: b\n'no': c\n1.5: d\n? e\n: f\n",
		    "[{\"1\":\"a\",\"true\":\"b\",\"no\":\"c\",\"1.5\":\"d\",\"e\":\"f\"}]");
}

static void test_documents(void **state)
{
	(void)state;
	expect_json("", "[]");
	expect_json("# nothing\n", "[]");
	expect_json("a: 1\n---\n---\n[b]\n...\n", "[{\"a\":1},null,[\"b\"]]");
	expect_json("{\"a\": 1}\n {\"b\": 2}", "[{\"a\":1},{\"b\":2}]");
	expect_json("\xef\xbb\xbf{\"a\": 1}", "[{\"a\":1}]");
	expect_json("\xef\xbb\xbf"
		    "a: 1\nb: 2\n",
		    "[{\"a\":1,\"b\":2}]");
}

static void test_aliases(void **state)
{
	(void)state;
	expect_json("a: &x {k: 1}\nb: *x\nc: [*x, &s text, *s]\n",
		    "[{\"a\":{\"k\":1},\"b\":{\"k\":1},\"c\":[{\"k\":1},\"text\",\"text\"]}]");
	/* The latest of a name counts. */
	expect_json("- [&a 1, *a, &a 2, *a]", "[[[1,1,2,2]]]");
}

static void expect_error(const char *text, size_t line, size_t column, const char *part)
{
	struct text_error error;
	cJSON *documents = documents_parse(text, strlen(text), &error);

	assert_null(documents);
	if (error.line != line || error.column != column || !strstr(error.text, part))
		fail_msg("%s: got %zu:%zu: %s", text, error.line, error.column, error.text);
}

static void test_refusals_say_where(void **state)
{
	(void)state;
	expect_error("a: 1\nb: [\n", 3, 1, "not valid YAML");
	expect_error("a: *x\n", 1, 4, "no anchor");
	expect_error("a: &x [*x]\n", 1, 8, "contains itself");
	expect_error("a: 1\n---\nb: &y 1\n---\nc: *y\n", 5, 4, "no anchor");
	expect_error("<<: 1\n", 1, 1, "wants a mapping");
	expect_error("a: {<<: [1]}\n", 1, 5, "wants a mapping");
	expect_error("<<: *x\n", 1, 5, "no anchor");
	expect_error("a: &x {<<: *x}\n", 1, 12, "contains itself");
	expect_error("a: !x 1\n", 1, 4, "tag \"!x\"");
	expect_error("a: !!int x\n", 1, 4, "is no int");
	expect_error("a: !!binary aGk=\n", 1, 4, "tag");
	expect_error("x: {[a]: b}\n", 1, 5, "key");
	expect_error("~: b\n", 1, 1, "null as a key");
	expect_error("a: .inf\n", 1, 4, "no JSON form");
	expect_error("a: \"x\\0y\"\n", 1, 4, "NUL");
	expect_error("{\"a\": \"x\\u0000\"}", 1, 9, "NUL");
	expect_error("{\"a\": 1}\n{\"b\":\n x]}", 3, 2, "not valid JSON at \"x]}\"");
	expect_error("{\"a\": 1}\n---\nb: [\n", 4, 1, "not valid YAML");
	expect_error("{\"a\": 1} b: [\n", 2, 1, "not valid YAML");
	expect_error("{\"a\": 01, b]", 1, 7, "not valid JSON at \"01,\"");
	expect_error("{\"a\": 1\n", 1, 8, "too early");
	expect_error("a: \xff\n", 1, 4, "not valid YAML");
}

/* As kubectl reads them: JSON first, and YAML from where that ends. */
static void test_json_goes_on_as_yaml(void **state)
{
	(void)state;
	expect_json("{\"a\": 1}\n---\nb: 2\n---\nc: 3\n", "[{\"a\":1},{\"b\":2},{\"c\":3}]");
	expect_json("{\"a\": 1}\n{\"b\": 2}\n---\nc: 3\n", "[{\"a\":1},{\"b\":2},{\"c\":3}]");
	/* KYAML. */
	expect_json("{\n  a: \"1\",\n  b: [\n    2,\n  ],\n}\n", "[{\"a\":\"1\",\"b\":[2]}]");
	expect_json("{ # a comment\n  \"a\": 1,\n}\n---\n{b: 2}\n", "[{\"a\":1},{\"b\":2}]");
	expect_json("{\"a\": 1}\n---\n{\n  b: 2,\n}\n", "[{\"a\":1},{\"b\":2}]");
	expect_json("{\"a\": 'x'}", "[{\"a\":\"x\"}]");
	expect_json("[\n  a,\n]\n", "[[\"a\"]]");
}

static void test_json_is_read_as_written(void **state)
{
	(void)state;
	expect_json("{\"a\":[1,-2.5e+3,0,0.5],\"b\":[true,false,null,{},[]]}",
		    "[{\"a\":[1,-2500,0,0.5],\"b\":[true,false,null,{},[]]}]");
	expect_json("[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\u20ac\\ud83d\\ude00\"]",
		    "[[\"\\\"\\\\/\\b\\f\\n\\r\\t\u00e9\u20ac\U0001f600\"]]");
	expect_json("{\"a\":1,\"a\":2}", "[{\"a\":1,\"a\":2}]");
	expect_error("[\"\\ud83d\"]", 1, 3, "not valid JSON");
	expect_error("[\"\\udc00\"]", 1, 3, "not valid JSON");
	expect_error("[\"\\x\"", 1, 3, "not valid JSON at");
	expect_error("[\"\\x", 1, 5, "too early");
	expect_error("[\"1\" 2]", 1, 6, "not valid JSON at \"2]\"");
	expect_error("[tru", 1, 2, "not valid JSON at \"tru\"");
}

static void test_merge_keys(void **state)
{
	(void)state;
	expect_json("a: &x {k: 1, l: 2}\nb:\n  <<: *x\n  l: 3\n",
		    "[{\"a\":{\"k\":1,\"l\":2},\"b\":{\"l\":3,\"k\":1}}]");
	/* The map's own keys win wherever they stand, and then the first of a list. */
	expect_json(
		"a: &x {k: 1}\nb: &y {k: 2, m: 2}\nc: {k: 3, <<: [*x, *y]}\nd: {<<: [*x, *y]}\n",
		"[{\"a\":{\"k\":1},\"b\":{\"k\":2,\"m\":2},\"c\":{\"k\":3,\"m\":2},"
		"\"d\":{\"k\":1,\"m\":2}}]");
	/* Merged maps that were merged themselves, and anchors inside of what is merged. */
	expect_json("- &x {k: 1}\n- &y {<<: *x, l: 2}\n- {<<: *y}\n",
		    "[[{\"k\":1},{\"l\":2,\"k\":1},{\"l\":2,\"k\":1}]]");
	expect_json("- {<<: &z {k: &n [1]}, l: 2}\n- *z\n- *n\n",
		    "[[{\"l\":2,\"k\":[1]},{\"k\":[1]},[1]]]");
	/* In quotes it is a key like any other. */
	expect_json("\"<<\": {a: 1}\n", "[{\"<<\":{\"a\":1}}]");
}

static void test_merge_keys_do_not_multiply_without_bound(void **state)
{
	size_t size = 400000, len = 0;
	char *text = malloc(size);
	struct text_error error;

	(void)state;
	len += (size_t)snprintf(text + len, size - len, "a: &x {");
	for (int i = 0; i < 9000; i++)
		len += (size_t)snprintf(text + len, size - len, "k%d: 1, ", i);
	len += (size_t)snprintf(text + len, size - len, "}\nb: {<<: *x, <<: *x, ");
	for (int i = 0; i < 9000; i++)
		len += (size_t)snprintf(text + len, size - len, "l%d: 1, ", i);
	snprintf(text + len, size - len, "}\n");
	assert_null(documents_parse(text, strlen(text), &error));
	assert_non_null(strstr(error.text, "expand to too much"));
	free(text);
}

static void test_backslashes_before_u0000_count(void **state)
{
	(void)state;
	expect_json("{\"a\": \"\\\\u0000\"}", "[{\"a\":\"\\\\u0000\"}]");
}

static void test_nesting_is_bounded(void **state)
{
	char text[2 * TEXT_DEPTH_MAX + 4];
	size_t depth = TEXT_DEPTH_MAX;

	(void)state;
	memset(text, '[', depth);
	memset(text + depth, ']', depth);
	text[2 * depth] = '\0';
	free(json_of(text));
	text[0] = '-';
	text[1] = ' ';
	memset(text + 2, '[', depth);
	memset(text + 2 + depth, ']', depth);
	text[2 + 2 * depth] = '\0';
	expect_error(text, 1, depth + 2, "nested deeper");
}

static void test_json_too_deep_for_its_parser(void **state)
{
	char text[2 * CJSON_NESTING_LIMIT + 40];
	int len = snprintf(text, sizeof(text), "{\"]\": \"\\\"[\",\n \"deep\": ");

	(void)state;
	memset(text + len, '[', CJSON_NESTING_LIMIT);
	memset(text + len + CJSON_NESTING_LIMIT, ']', CJSON_NESTING_LIMIT);
	text[len + 2 * CJSON_NESTING_LIMIT] = '}';
	text[len + 2 * CJSON_NESTING_LIMIT + 1] = '\0';
	expect_error(text, 2, 10 + TEXT_DEPTH_MAX - 1, "nested deeper than 128");
}

static void test_aliases_do_not_nest_without_bound(void **state)
{
	char text[2000];
	size_t len = 0;

	(void)state;
	len += (size_t)snprintf(text, sizeof(text), "- &a0 [x]\n");
	for (int i = 1; i < 5; i++) {
		len += (size_t)snprintf(text + len, sizeof(text) - len, "- &a%d ", i);
		memset(text + len, '[', 40);
		len += 40;
		len += (size_t)snprintf(text + len, sizeof(text) - len, "*a%d", i - 1);
		memset(text + len, ']', 40);
		len += 40;
		len += (size_t)snprintf(text + len, sizeof(text) - len, "\n");
	}
	expect_error(text, 5, 47, "nested deeper than 128");
}

static void test_aliases_do_not_multiply_without_bound(void **state)
{
	static const char text[] =
		"a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"
		"c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
		"d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n"
		"e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e]\n";

	(void)state;
	expect_error(text, 6, 5, "expand to too much");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain_scalars_are_read_as_kubernetes_reads_them),
		cmocka_unit_test(test_keys_become_strings),
		cmocka_unit_test(test_documents),
		cmocka_unit_test(test_aliases),
		cmocka_unit_test(test_refusals_say_where),
		cmocka_unit_test(test_json_goes_on_as_yaml),
		cmocka_unit_test(test_json_is_read_as_written),
		cmocka_unit_test(test_merge_keys),
		cmocka_unit_test(test_merge_keys_do_not_multiply_without_bound),
		cmocka_unit_test(test_aliases_do_not_nest_without_bound),
		cmocka_unit_test(test_backslashes_before_u0000_count),
		cmocka_unit_test(test_nesting_is_bounded),
		cmocka_unit_test(test_json_too_deep_for_its_parser),
		cmocka_unit_test(test_aliases_do_not_multiply_without_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
