/* SPDX-License-Identifier: Apache-2.0 */
/* Links are deleted by the child: one, many together, some gone before, and after our own end.  So
 * are programs attached. */
#include <bpf/bpf.h>
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

#include "agent/endpoint/link_worker.h"
#include "datapath/datapath.h"
#include "harness/scratch.h"
#include "lib/auto.h"
#include "lib/fork_server.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define LINKS    20
#define FIRST    2000
#define WAIT_MS  10000
#define TAG_BASE 100

#define TCX_INGRESS ((enum bpf_attach_type)46) /* Debian 12's headers do not know it */

static bool answered[LINKS];

static struct fork_server *server;

static const struct fork_server_kind kinds[] = { { LINK_WORKER_NAME, link_worker_run } };

static int group_setup(void **state)
{
	struct errmsg err = {};

	(void)state;
	return unshare(CLONE_NEWNET) ||
	       fork_server_new(NULL, kinds, ARRAY_SIZE(kinds), &server, &err);
}

static int group_teardown(void **state)
{
	(void)state;
	fork_server_free(server);
	return 0;
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

static void attached(uint32_t tag, int result, void *arg)
{
	if (tag != TAG_BASE + 1 || datapath_uses_tcx(arg))
		assert_int_equal(result, 0);
	else
		assert_int_not_equal(result, 0);
}

static void not_attached(uint32_t tag, int result, void *arg)
{
	(void)tag;
	(void)arg;
	assert_int_not_equal(result, 0);
}

/* How many TCX programs are on a device's ingress. */
static uint32_t programs_on(int ifindex)
{
	uint32_t ids[4], count = ARRAY_SIZE(ids), flags = 0;

	return bpf_prog_query(ifindex, TCX_INGRESS, 0, &flags, ids, &count) ? 0 : count;
}

static void test_links_go_and_each_is_answered_once(void **state)
{
	auto_(link_worker) struct link_worker *link_worker = NULL;
	struct errmsg err = {};
	int count = 0;

	(void)state;
	links_make();
	assert_int_equal(scratch_link_del("t3", &err), 0); /* gone before it is its turn */
	assert_int_equal(link_worker_new(server, -1, &link_worker, &err), 0);
	for (int i = 0; i < LINKS; i++)
		assert_int_equal(
			link_worker_delete(link_worker, FIRST + i, TAG_BASE + (uint32_t)i, &err),
			0);
	while (count < LINKS) {
		int more = link_worker_collect(link_worker, WAIT_MS, done, NULL);

		assert_true(more > 0);
		count += more;
	}
	for (int i = 0; i < LINKS; i++)
		assert_false(link_exists(FIRST + i));
	assert_int_equal(link_worker_collect(link_worker, 0, done, NULL), 0);
}

static void test_links_of_others_stay(void **state)
{
	auto_(link_worker) struct link_worker *link_worker = NULL;
	struct errmsg err = {};

	(void)state;
	links_make();
	assert_int_equal(link_worker_new(server, -1, &link_worker, &err), 0);
	assert_int_equal(link_worker_delete(link_worker, FIRST, TAG_BASE, &err), 0);
	assert_int_equal(link_worker_collect(link_worker, WAIT_MS, done, NULL), 1);
	assert_false(link_exists(FIRST));
	for (int i = 1; i < LINKS; i++)
		assert_true(link_exists(FIRST + i));
	for (int i = 1; i < LINKS; i++)
		assert_int_equal(
			link_worker_delete(link_worker, FIRST + i, TAG_BASE + (uint32_t)i, &err),
			0);
	/* Not collected: freeing waits until the child has done what it was given. */
	link_worker_free(take_ptr(link_worker));
	for (int i = 1; i < LINKS; i++)
		assert_false(link_exists(FIRST + i));
}

/* The program is attached, or the kernel has no TCX; either is told, and deletions go on. */
static void test_program_is_attached(void **state)
{
	struct datapath_options options = scratch_options();
	struct datapath *datapath = NULL;
	auto_(fork_server) struct fork_server *inside = NULL;
	auto_(link_worker) struct link_worker *link_worker = NULL;
	struct errmsg err = {};
	int program;

	(void)state;
	assert_int_equal(scratch_init(&err), 0); /* enters a namespace */
	assert_int_equal(fork_server_new(NULL, kinds, ARRAY_SIZE(kinds), &inside, &err), 0);
	links_make();
	assert_int_equal(datapath_open(&options, &datapath, &err), 0);
	program = datapath_program_fd(datapath, "from_pod");
	assert_int_equal(link_worker_new(inside, program, &link_worker, &err), 0);
	assert_int_equal(link_worker_delete(link_worker, FIRST, TAG_BASE, &err), 0);
	assert_int_equal(link_worker_attach(link_worker, FIRST + 1, TAG_BASE + 1, &err), 0);
	for (int i = 2; i < LINKS; i++)
		assert_int_equal(
			link_worker_delete(link_worker, FIRST + i, TAG_BASE + (uint32_t)i, &err),
			0);
	for (int count = 0; count < LINKS;) {
		int more = link_worker_collect(link_worker, WAIT_MS, attached, datapath);

		assert_true(more > 0);
		count += more;
	}
	assert_int_equal(programs_on(FIRST + 1), datapath_uses_tcx(datapath));
	assert_int_equal(link_worker_attach(link_worker, FIRST, TAG_BASE, &err),
			 0); /* it is gone */
	assert_int_equal(link_worker_collect(link_worker, WAIT_MS, not_attached, NULL), 1);
	datapath_close(datapath);
	scratch_done();
}

static void test_dead_child_is_noticed(void **state)
{
	auto_(link_worker) struct link_worker *link_worker = NULL;
	struct errmsg err = {};
	siginfo_t info = {};

	(void)state;
	assert_int_equal(link_worker_new(server, -1, &link_worker, &err), 0);
	assert_int_equal(kill(link_worker_pid(link_worker), SIGKILL), 0);
	assert_int_equal(
		waitid(P_PID, (id_t)link_worker_pid(link_worker), &info, WEXITED | WNOWAIT), 0);
	assert_int_equal(link_worker_collect(link_worker, WAIT_MS, done, NULL), -EPIPE);
	assert_int_equal(link_worker_delete(link_worker, FIRST, TAG_BASE, &err), -EPIPE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_links_go_and_each_is_answered_once),
		cmocka_unit_test(test_links_of_others_stay),
		cmocka_unit_test(test_program_is_attached),
		cmocka_unit_test(test_dead_child_is_noticed),
	};

	return cmocka_run_group_tests_name("link worker", tests, group_setup, group_teardown);
}
