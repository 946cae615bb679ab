/* SPDX-License-Identifier: Apache-2.0 */
/* Work that is asked for: how often it runs, and when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <event2/event.h>

#include "lib/clock.h"
#include "lib/task.h"
#include "lib/trigger.h"

#include <cmocka.h>

#define PAUSE_MS 50

static struct event_base *base;
static struct trigger trigger;
static unsigned int runs;
static unsigned int asks; /* while it runs */
static int64_t began_ms[4];

static void work(void *arg)
{
	unsigned int run = runs;

	assert_ptr_equal(arg, &trigger);
	assert_true(runs < 4);
	began_ms[runs] = now_ms();
	for (; asks > 0; asks--)
		trigger_fire(&trigger);
	for (int64_t end = now_ms() + 20; now_ms() < end;)
		task_pause(); /* the loop turns meanwhile */
	assert_int_equal(runs, run);
	runs++;
}

static int setup(void **state)
{
	(void)state;
	runs = asks = 0;
	base = event_base_new();
	trigger_init(&trigger, base, PAUSE_MS, work, &trigger);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	trigger_done(&trigger);
	event_base_free(base);
	return 0;
}

static void test_what_is_asked_for_often_runs_once(void **state)
{
	(void)state;
	for (int i = 0; i < 10; i++)
		trigger_fire(&trigger);
	assert_int_equal(runs, 0); /* not in the middle of who asks */
	event_base_dispatch(base);
	assert_int_equal(runs, 1);
}

static void test_what_is_asked_for_meanwhile_runs_once_more_after_a_pause(void **state)
{
	(void)state;
	asks = 10;
	trigger_fire(&trigger);
	event_base_dispatch(base);
	assert_int_equal(runs, 2);
	assert_true(began_ms[1] - began_ms[0] >= PAUSE_MS);
}

static void test_between_two_runs_is_a_pause(void **state)
{
	(void)state;
	trigger_fire(&trigger);
	event_base_dispatch(base);
	trigger_fire(&trigger);
	trigger_fire(&trigger);
	event_base_dispatch(base);
	assert_int_equal(runs, 2);
	assert_true(began_ms[1] - began_ms[0] >= PAUSE_MS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_what_is_asked_for_often_runs_once, setup,
						teardown),
		cmocka_unit_test_setup_teardown(
			test_what_is_asked_for_meanwhile_runs_once_more_after_a_pause, setup,
			teardown),
		cmocka_unit_test_setup_teardown(test_between_two_runs_is_a_pause, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
