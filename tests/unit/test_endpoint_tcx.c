/* SPDX-License-Identifier: Apache-2.0 */
/* When endpoints are attached by TCX: once it is quiet, and also where it never is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/endpoint/endpoint_internal.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define MS    (NS_PER_SEC / 1000)
#define START (5 * NS_PER_SEC)

static void test_the_first_waits_for_a_quiet_second(void **state)
{
	struct tcx_wait wait = {};

	(void)state;
	assert_true(tcx_wait_note(&wait, START) == NS_PER_SEC);
	assert_true(tcx_wait_note(&wait, START + 500 * MS) == NS_PER_SEC);
	assert_true(tcx_wait_pause(&wait, START + 1500 * MS) == 10 * MS);
}

/* An endpoint every half second: each puts the step off, but not for ever. */
static void test_a_steady_stream_puts_it_off_for_ten_seconds(void **state)
{
	struct tcx_wait wait = {};
	uint64_t now = START, due = 0;

	(void)state;
	for (; !due || now < due; now += 500 * MS)
		due = now + tcx_wait_note(&wait, now);
	assert_true(due == START + 10 * NS_PER_SEC);
	/* From then on at once, with pauses in which ADDs find rtnl free. */
	assert_true(tcx_wait_note(&wait, now) == 0);
	assert_true(tcx_wait_pause(&wait, now + 100 * MS) == 200 * MS);
}

/* When all are attached, the next one waits anew. */
static void test_patience_begins_again(void **state)
{
	struct tcx_wait wait = {};

	(void)state;
	tcx_wait_note(&wait, START);
	wait.since_ns = 0;
	assert_true(tcx_wait_note(&wait, START + 60 * NS_PER_SEC) == NS_PER_SEC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_first_waits_for_a_quiet_second),
		cmocka_unit_test(test_a_steady_stream_puts_it_off_for_ten_seconds),
		cmocka_unit_test(test_patience_begins_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
