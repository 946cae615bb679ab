/* SPDX-License-Identifier: Apache-2.0 */
/* Long work in slices: what it leaves to the loop, in which order, and where it ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <event2/event.h>

#include "lib/clock.h"
#include "lib/task.h"

#include <cmocka.h>

#define WORK_NS 50000000 /* many slices */

static struct event_base *base;
static char order[20];
static char a[] = "a", b[] = "b", c[] = "c";

static void note(const char *mark)
{
	snprintf(order + strlen(order), sizeof(order) - strlen(order), "%s", mark);
}

static int setup(void **state)
{
	(void)state;
	order[0] = '\0';
	base = event_base_new();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	event_base_free(base);
	return 0;
}

static void work_long(void *arg)
{
	uint64_t end = now_ns() + WORK_NS;
	char deep[100000]; /* it has a stack to speak of */

	memset(deep, 1, sizeof(deep));
	while (now_ns() < end)
		task_pause();
	assert_int_equal(deep[sizeof(deep) - 1], 1);
	note(arg);
}

static void work_short(void *arg)
{
	note(arg);
}

static void test_short_work_is_done_at_once(void **state)
{
	(void)state;
	task_run(base, work_short, a);
	task_run(base, work_short, b);
	assert_string_equal(order, "ab");
	task_pause(); /* nothing outside of a task */
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	if (strlen(order) < 3)
		note("t");
}

/* Ends when the loop has gone round three times, or never could. */
static void work_until_ticks(void *arg)
{
	uint64_t end = now_ns() + 5000000000;

	while (strcmp(order, "ttt") != 0 && now_ns() < end)
		task_pause();
	note(arg);
}

static void test_the_loop_goes_on_meanwhile(void **state)
{
	static const struct timeval often = { .tv_usec = 100 };
	struct event *tick = event_new(base, -1, EV_PERSIST, on_tick, NULL);

	(void)state;
	event_add(tick, &often);
	task_run(base, work_until_ticks, a);
	assert_string_equal(order, "");
	while (!strchr(order, 'a'))
		event_base_loop(base, EVLOOP_ONCE);
	assert_string_equal(order, "ttta");
	event_free(tick);
}

static void test_tasks_come_one_after_the_other(void **state)
{
	(void)state;
	task_run(base, work_long, a);
	task_run(base, work_short, b); /* it must not see what the first is in the middle of */
	task_run(base, work_long, c);
	assert_string_equal(order, "");
	event_base_dispatch(base);
	assert_string_equal(order, "abc");
}

static void work_more(void *arg)
{
	work_long(arg);
	task_run(base, work_short, b);
	note("-");
}

static void test_a_task_may_add_another(void **state)
{
	(void)state;
	task_run(base, work_more, a);
	event_base_dispatch(base);
	assert_string_equal(order, "a-b");
}

static void test_all_can_be_ended_without_the_loop(void **state)
{
	(void)state;
	task_run(base, work_long, a);
	task_run(base, work_more, c);
	task_finish_all();
	assert_string_equal(order, "ac-b");
	task_finish_all();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_short_work_is_done_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_loop_goes_on_meanwhile, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tasks_come_one_after_the_other, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_a_task_may_add_another, setup, teardown),
		cmocka_unit_test_setup_teardown(test_all_can_be_ended_without_the_loop, setup,
						teardown),
	};

	return cmocka_run_group_tests_name("task", tests, NULL, NULL);
}
