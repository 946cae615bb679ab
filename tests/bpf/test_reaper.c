/* SPDX-License-Identifier: Apache-2.0 */
/* Links are deleted by the child: one, many together, some gone before, and after our own end. */
#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/lib/auto.h"
#include "agent/reaper.h"
#include "harness/scratch.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define LINKS    20
#define FIRST    2000
#define WAIT_MS  5000
#define TAG_BASE 100

static bool answered[LINKS];

static int group_setup(void **state)
{
	(void)state;
	return unshare(CLONE_NEWNET);
}

static void links_make(void)
{
	struct errmsg err = {};
	char name[IF_NAMESIZE];

	for (int i = 0; i < LINKS; i++) {
		snprintf(name, sizeof(name), "t%d", i);
		answered[i] = false;
		if (scratch_veth(name, FIRST + i, &err) < 0)
			print_error("%s\n", err.text);
		assert_int_equal(err.code, 0);
	}
}

static bool link_exists(int ifindex)
{
	char name[IF_NAMESIZE];

	return if_indextoname((unsigned int)ifindex, name);
}

static void done(uint32_t tag, int result, void *arg)
{
	(void)arg;
	assert_int_equal(result, 0);
	assert_in_range(tag, TAG_BASE, TAG_BASE + LINKS - 1);
	assert_false(answered[tag - TAG_BASE]);
	answered[tag - TAG_BASE] = true;
}

static void test_links_go_and_each_is_answered_once(void **state)
{
	auto_(reaper) struct reaper *reaper = NULL;
	struct errmsg err = {};
	int count = 0;

	(void)state;
	links_make();
	assert_int_equal(scratch_link_del("t3", &err), 0); /* gone before it is its turn */
	assert_int_equal(reaper_new(&reaper, &err), 0);
	for (int i = 0; i < LINKS; i++)
		assert_int_equal(reaper_delete(reaper, FIRST + i, TAG_BASE + (uint32_t)i, &err), 0);
	while (count < LINKS) {
		int more = reaper_collect(reaper, WAIT_MS, done, NULL);

		assert_true(more > 0);
		count += more;
	}
	for (int i = 0; i < LINKS; i++)
		assert_false(link_exists(FIRST + i));
	assert_int_equal(reaper_collect(reaper, 0, done, NULL), 0);
}

static void test_links_of_others_stay(void **state)
{
	auto_(reaper) struct reaper *reaper = NULL;
	struct errmsg err = {};

	(void)state;
	links_make();
	assert_int_equal(reaper_new(&reaper, &err), 0);
	assert_int_equal(reaper_delete(reaper, FIRST, TAG_BASE, &err), 0);
	assert_int_equal(reaper_collect(reaper, WAIT_MS, done, NULL), 1);
	assert_false(link_exists(FIRST));
	for (int i = 1; i < LINKS; i++)
		assert_true(link_exists(FIRST + i));
	for (int i = 1; i < LINKS; i++)
		assert_int_equal(reaper_delete(reaper, FIRST + i, TAG_BASE + (uint32_t)i, &err), 0);
	/* Not collected: freeing waits until the child has done what it was given. */
	reaper_free(take_ptr(reaper));
	for (int i = 1; i < LINKS; i++)
		assert_false(link_exists(FIRST + i));
}

static void test_dead_child_is_noticed(void **state)
{
	auto_(reaper) struct reaper *reaper = NULL;
	struct errmsg err = {};
	siginfo_t info = {};

	(void)state;
	assert_int_equal(reaper_new(&reaper, &err), 0);
	assert_int_equal(kill(reaper_pid(reaper), SIGKILL), 0);
	assert_int_equal(waitid(P_PID, (id_t)reaper_pid(reaper), &info, WEXITED | WNOWAIT), 0);
	assert_int_equal(reaper_collect(reaper, WAIT_MS, done, NULL), -EPIPE);
	assert_int_equal(reaper_delete(reaper, FIRST, TAG_BASE, &err), -EPIPE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_links_go_and_each_is_answered_once),
		cmocka_unit_test(test_links_of_others_stay),
		cmocka_unit_test(test_dead_child_is_noticed),
	};

	return cmocka_run_group_tests_name("reaper", tests, group_setup, NULL);
}
