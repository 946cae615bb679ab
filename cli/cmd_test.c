/* SPDX-License-Identifier: Apache-2.0 */
/* tendril policy test: compares verdicts with those that files expect. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/command.h"
#include "cli/files.h"
#include "cli/output.h"
#include "cli/output_explain.h"
#include "cli/output_test.h"
#include "cli/store_load.h"
#include "lib/alloc.h"
#include "policy/analysis/expectation.h"

static const char *expected_name(const struct expectation *expectation)
{
	return verdict_name(expectation->allow ? VERDICT_ALLOW : VERDICT_DENY);
}

static char *result_name(const struct expectation *expectation)
{
	const char *slash = strchr(expectation->port, '/');

	return xasprintf("%s%s%s -> %s %s%s", expectation->name ? expectation->name : "",
			 expectation->name ? ": " : "", expectation->from, expectation->to,
			 expectation->port, slash ? "" : "/TCP");
}

/* A question that cannot be answered is a failed test with a reason; the other tests go on. */
static void result_fill(const struct cli_store *store, const struct expectation *expectation,
			struct test_result *result)
{
	auto_buffer struct buffer reason = { 0 };
	struct answers answers = { 0 };
	struct errmsg why = { 0 };
	const struct question question = { expectation->from, expectation->to, expectation->port,
					   NULL, 0 };
	int ret = explain_query(store, &question, &answers, &why);

	if (ret) {
		result->reason = xstrdup(why.text);
	} else {
		answers_expect(&answers, expectation->allow ? VERDICT_ALLOW : VERDICT_DENY);
		answers_text(&answers, &reason);
		result->verdict = verdict_name(answers.verdict);
		result->explanation = answers_json(&answers);
		result->reason = take_ptr(reason.data);
	}
	answers_done(&answers);
}

static void result_add(const struct cli_store *store, const char *file,
		       const struct expectation *expectation, struct test_results *results)
{
	struct test_result *result;

	if (results->count == results->capacity) {
		results->capacity = 2 * results->capacity + 16;
		results->items = xreallocarray(results->items, results->capacity, sizeof(*result));
	}
	result = &results->items[results->count++];
	*result = (struct test_result){
		.name = result_name(expectation),
		.file = file,
		.line = expectation->line,
		.from = expectation->from,
		.to = expectation->to,
		.port = expectation->port,
		.expected = expected_name(expectation),
	};
	result_fill(store, expectation, result);
	results->failed += !test_passed(result);
}

/* Prints all problems of a file on standard error, before anything is tested. */
static int file_parse(const char *file, struct expectations *list, size_t *errors,
		      struct errmsg *err)
{
	struct problems problems = { 0 };
	auto_free char *text = NULL;
	size_t len;
	int ret = file_read_text(file, &text, &len, err);

	if (ret)
		return ret;
	expectations_parse(text, len, list, &problems);
	for (size_t i = 0; i < problems.count; i++) {
		char line[1024];

		output_note("policy test: %s", problem_format(&problems.items[i], file_title(file),
							      line, sizeof(line)));
	}
	*errors += problems.errors;
	problems_done(&problems);
	return 0;
}

static int results_report(const struct arguments *args, const struct test_results *results,
			  struct errmsg *err)
{
	auto_buffer struct buffer report = { 0 }, junit = { 0 };
	cJSON *json;

	if (strcmp(args->output, "tap") == 0)
		test_results_tap(results, &report);
	if (strcmp(args->output, "junit") == 0)
		test_results_junit(results, &report);
	if (args->junit)
		test_results_junit(results, &junit);
	if (args->junit && file_write_text(args->junit, junit.data, junit.len, err))
		return err->code;
	if (report.data) {
		fwrite(report.data, 1, report.len, stdout);
	} else if (args->json) {
		json = test_results_json(results);
		output_json(json);
		cJSON_Delete(json);
	} else {
		test_results_print(results);
	}
	return results->failed ? EXIT_FAILED : EXIT_OK;
}

int cmd_policy_test(const struct arguments *args, struct errmsg *err)
{
	auto_(cli_store) struct cli_store *store = NULL;
	struct expectations lists[CLI_FILES_MAX] = { 0 };
	struct test_results results = { 0 };
	size_t errors = 0;
	int ret = 0;

	/* The report must not get into what is printed. */
	if (args->junit && strcmp(args->junit, "-") == 0)
		ret = misused(err, "--junit -: use -o junit for standard output");
	for (size_t i = 0; i < args->operand_count && !ret; i++)
		ret = file_parse(args->operands[i], &lists[i], &errors, err);
	if (!ret && errors)
		ret = fail_plain(err, -EINVAL, "%zu error%s, nothing was tested", errors,
				 errors > 1 ? "s" : "");
	if (!ret)
		ret = store_load(args, &store, err);
	for (size_t i = 0; i < args->operand_count && !ret; i++) {
		for (size_t n = 0; n < lists[i].count; n++)
			result_add(store, file_title(args->operands[i]), &lists[i].items[n],
				   &results);
	}
	if (!ret)
		ret = results_report(args, &results, err);
	test_results_done(&results);
	for (size_t i = 0; i < args->operand_count; i++)
		expectations_done(&lists[i]);
	return ret;
}
