/* SPDX-License-Identifier: Apache-2.0 */
/* The allocator that aborts: what it returns, and that no failure gets past it. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/json.h"

#include <cmocka.h> /* last: it makes fail a macro */

/* The sanitizer returns NULL as libc does, instead of ending the program with a report. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "allocator_may_return_null=1";
}

static void test_what_is_allocated_can_be_used(void **state)
{
	auto_free char *zeroed = xcalloc(3, 4);
	auto_free char *copy = xstrdup("text");
	auto_free char *start = xstrndup("text", 2);
	auto_free char *whole = xstrndup("text", 9);
	auto_free char *bytes = xmemdup("a\0b", 3);
	auto_free char *printed = xasprintf("%d of %s", 1, "many");
	auto_free char *grown = xreallocarray(xstrdup("kept"), 100, 10);

	(void)state;
	assert_memory_equal(zeroed, "\0\0\0\0\0\0\0\0\0\0\0\0", 12);
	assert_string_equal(copy, "text");
	assert_string_equal(start, "te");
	assert_string_equal(whole, "text");
	assert_memory_equal(bytes, "a\0b", 3);
	assert_string_equal(printed, "1 of many");
	assert_string_equal(grown, "kept");
}

static void test_nothing_is_no_failure(void **state)
{
	auto_free void *none = xmalloc(0);
	auto_free void *zeroed = xcalloc(0, 8);
	auto_free void *grown = xreallocarray(NULL, 0, 8);
	auto_free void *copy = xmemdup(NULL, 0);

	(void)state;
	assert_non_null(none);
	assert_non_null(zeroed);
	assert_non_null(grown);
	assert_non_null(copy);
}

static volatile size_t too_much = SIZE_MAX / 2;

static void ask_malloc(void)
{
	free(xmalloc(too_much));
}

static void ask_calloc(void)
{
	free(xcalloc(too_much, 3));
}

static void ask_reallocarray(void)
{
	free(xreallocarray(NULL, too_much, 3));
}

static void ask_memdup(void)
{
	free(xmemdup("", too_much));
}

static void ask_realloc(void)
{
	free(xrealloc(NULL, too_much));
}

static void ask_json(void)
{
	json_init();
	cJSON_free(cJSON_malloc(too_much));
}

static const struct {
	const char *name;
	void (*ask)(void);
} failures[] = {
	{ "xmalloc", ask_malloc },
	{ "xcalloc, product overflows", ask_calloc },
	{ "xreallocarray, product overflows", ask_reallocarray },
	{ "xmemdup", ask_memdup },
	{ "xrealloc", ask_realloc },
	{ "cJSON", ask_json },
};

static void test_out_of_memory_prints_a_line_and_aborts(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(failures); i++) {
		const struct rlimit no_core = { 0 };
		char text[4096] = "";
		size_t len = 0;
		ssize_t got;
		int status;
		int pipe_fds[2];
		pid_t child;

		print_message("%s\n", failures[i].name);
		assert_int_equal(pipe(pipe_fds), 0);
		child = fork();
		assert_true(child >= 0);
		if (child == 0) {
			setrlimit(RLIMIT_CORE, &no_core);
			dup2(pipe_fds[1], STDERR_FILENO);
			signal(SIGABRT, SIG_DFL);
			failures[i].ask();
			_exit(0);
		}
		close(pipe_fds[1]);
		while ((got = read(pipe_fds[0], text + len, sizeof(text) - 1 - len)) > 0)
			len += (size_t)got;
		close(pipe_fds[0]);
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
		assert_non_null(strstr(text, "test_alloc: out of memory ("));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_allocated_can_be_used),
		cmocka_unit_test(test_nothing_is_no_failure),
		cmocka_unit_test(test_out_of_memory_prints_a_line_and_aborts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
