/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/output_test.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

#include "cli/output.h"
#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/xml.h"

bool test_passed(const struct test_result *result)
{
	return result->verdict && strcmp(result->verdict, result->expected) == 0;
}

void test_results_done(struct test_results *results)
{
	for (size_t i = 0; i < results->count; i++) {
		free(results->items[i].name);
		free(results->items[i].reason);
		cJSON_Delete(results->items[i].explanation);
	}
	free(results->items);
	*results = (struct test_results){ 0 };
}

static const char *result_verdict(const struct test_result *result)
{
	return result->verdict ? result->verdict : "no verdict";
}

/* Calls each() for every line of the reason, without control characters. */
static void reason_lines(const struct test_result *result, struct buffer *text,
			 void (*each)(const char *line, struct buffer *text))
{
	auto_free char *reason = xstrdup(result->reason);
	char *rest = reason, *line;

	while ((line = strsep(&rest, "\n"))) {
		if (*line) /* NOLINT(*Malloc): line points into reason */
			each(output_shown(line), text);
	}
}

/* ---- text ---- */

static void print_line(const char *line, struct buffer *text)
{
	(void)text;
	printf("     %s\n", line);
}

void test_results_print(const struct test_results *results)
{
	for (size_t i = 0; i < results->count; i++) {
		const struct test_result *result = &results->items[i];
		bool passed = test_passed(result);

		printf("%s%s%s  %s: %s\n", output_colour(passed ? COLOUR_GOOD : COLOUR_BAD),
		       passed ? "ok  " : "FAIL", output_colour_end(), output_shown(result->name),
		       result_verdict(result));
		if (passed)
			continue;
		printf("     %s:%zu: expected %s\n", output_shown(result->file), result->line,
		       result->expected);
		reason_lines(result, NULL, print_line);
	}
	printf("%zu passed, %zu failed\n", results->count - results->failed, results->failed);
}

/* ---- TAP ---- */

/* A description ends its line, and '#' would begin a directive. */
static void add_tap(struct buffer *text, const char *words)
{
	for (words = output_shown(words); *words; words++)
		buffer_print(text, *words == '#' || *words == '\\' ? "\\%c" : "%c", *words);
}

/* A YAML string in single quotes. */
static void add_yaml(struct buffer *text, const char *key, const char *words)
{
	buffer_print(text, "  %s'", key);
	for (words = output_shown(words); *words; words++)
		buffer_print(text, *words == '\'' ? "''" : "%c", *words);
	buffer_print(text, "'\n");
}

static void add_yaml_line(const char *line, struct buffer *text)
{
	add_yaml(text, "- ", line);
}

void test_results_tap(const struct test_results *results, struct buffer *text)
{
	char source[4200];

	buffer_print(text, "TAP version 13\n1..%zu\n", results->count);
	for (size_t i = 0; i < results->count; i++) {
		const struct test_result *result = &results->items[i];

		buffer_print(text, "%s %zu - ", test_passed(result) ? "ok" : "not ok", i + 1);
		add_tap(text, result->name);
		buffer_print(text, "\n");
		if (test_passed(result))
			continue;
		snprintf(source, sizeof(source), "%s:%zu", result->file, result->line);
		buffer_print(text, "  ---\n");
		add_yaml(text, "expected: ", result->expected);
		add_yaml(text, "got: ", result_verdict(result));
		add_yaml(text, "at: ", source);
		buffer_print(text, "  reason:\n");
		reason_lines(result, text, add_yaml_line);
		buffer_print(text, "  ...\n");
	}
}

/* ---- JUnit ---- */

static void add_attribute(struct buffer *text, const char *name, const char *value)
{
	buffer_print(text, " %s=\"", name);
	xml_add(text, value, SIZE_MAX);
	buffer_print(text, "\"");
}

static void add_testcase(struct buffer *text, const struct test_result *result)
{
	const char *element = result->verdict ? "failure" : "error";
	char message[64];

	buffer_print(text, "    <testcase");
	add_attribute(text, "classname", result->file);
	add_attribute(text, "name", result->name);
	add_attribute(text, "file", result->file);
	buffer_print(text, " line=\"%zu\"", result->line);
	if (test_passed(result)) {
		buffer_print(text, "/>\n");
		return;
	}
	snprintf(message, sizeof(message), "expected %s, got %s", result->expected,
		 result_verdict(result));
	buffer_print(text, ">\n      <%s", element);
	add_attribute(text, "message", message);
	buffer_print(text, ">");
	xml_add(text, result->reason, SIZE_MAX);
	buffer_print(text, "</%s>\n    </testcase>\n", element);
}

void test_results_junit(const struct test_results *results, struct buffer *text)
{
	size_t errors = 0;

	for (size_t i = 0; i < results->count; i++)
		errors += !results->items[i].verdict;
	buffer_print(text,
		     "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite "
		     "name=\"tendril policy test\" tests=\"%zu\" failures=\"%zu\" errors=\"%zu\" "
		     "skipped=\"0\">\n",
		     results->count, results->failed - errors, errors);
	for (size_t i = 0; i < results->count; i++)
		add_testcase(text, &results->items[i]);
	buffer_print(text, "  </testsuite>\n</testsuites>\n");
}

/* ---- JSON ---- */

static cJSON *result_json(const struct test_result *result)
{
	cJSON *json = cJSON_CreateObject();

	cJSON_AddStringToObject(json, "name", result->name);
	cJSON_AddStringToObject(json, "file", result->file);
	cJSON_AddNumberToObject(json, "line", (double)result->line);
	cJSON_AddStringToObject(json, "from", result->from);
	cJSON_AddStringToObject(json, "to", result->to);
	cJSON_AddStringToObject(json, "port", result->port);
	cJSON_AddStringToObject(json, "expected", result->expected);
	cJSON_AddBoolToObject(json, "passed", test_passed(result));
	if (result->verdict)
		cJSON_AddItemToObject(json, "explanation",
				      cJSON_Duplicate(result->explanation, true));
	else
		cJSON_AddStringToObject(json, "error", result->reason);
	return json;
}

cJSON *test_results_json(const struct test_results *results)
{
	cJSON *json = cJSON_CreateObject(), *array;

	cJSON_AddNumberToObject(json, "passed", (double)(results->count - results->failed));
	cJSON_AddNumberToObject(json, "failed", (double)results->failed);
	array = cJSON_AddArrayToObject(json, "tests");
	for (size_t i = 0; i < results->count; i++)
		cJSON_AddItemToArray(array, result_json(&results->items[i]));
	return json;
}
