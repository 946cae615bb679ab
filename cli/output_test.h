/* SPDX-License-Identifier: Apache-2.0 */
/* Results of tests: text for people, TAP, JUnit's XML, and JSON. */
#ifndef TENDRIL_CLI_OUTPUT_TEST_H
#define TENDRIL_CLI_OUTPUT_TEST_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/arena.h"

struct cJSON;

struct test_result {
	char *name; /* "NAME: FROM -> TO PORT" */
	const char *file;
	size_t line;
	const char *from; /* as written */
	const char *to;
	const char *port;
	const char *expected;      /* "allow", "deny" */
	const char *verdict;       /* NULL: the question could not be answered */
	char *reason;              /* what decides, line by line; or why there is no verdict */
	struct cJSON *explanation; /* as `policy explain` gives it; NULL if there is none */
};

struct test_results {
	struct test_result *items;
	size_t count;
	size_t capacity;
	size_t failed;
};

bool test_passed(const struct test_result *result);
void test_results_done(struct test_results *results);

void test_results_print(const struct test_results *results);
void test_results_tap(const struct test_results *results, struct buffer *text);
void test_results_junit(const struct test_results *results, struct buffer *text);
struct cJSON *test_results_json(const struct test_results *results);

#endif
