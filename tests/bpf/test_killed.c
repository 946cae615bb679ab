/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SIGKILL at each system call that changes something, in the middle of ADD, of DEL and of a start:
 * what is left is closed or guarded, and the next agent leaves nothing behind.  The agent's real
 * modules run in a traced child; tests/unit/test_sync_incremental.c does the same for sync alone,
 * at each write to a map.
 *
 * A start has some hundred such calls: of those every STRIDE-th is tried, from another one each
 * time.  All of them:
 *
 *     STRIDE=1 tests/harness/rooted build/tests/bpf/test_killed
 */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "agent/sync/sync.h"
#include "datapath/state.h"
#include "harness/agent_node.h"
#include "harness/scratch.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define CALLS_MAX 5000
#define STRIDE    23
#define MARK      SYS_getppid /* from here on calls are counted */

static const char closed[] = "{\"apiVersion\":\"networking.k8s.io/v1\",\"kind\":\"NetworkPolicy\","
			     "\"metadata\":{\"name\":\"closed\",\"namespace\":\"default\"},"
			     "\"spec\":{\"podSelector\":{},"
			     "\"policyTypes\":[\"Ingress\",\"Egress\"]}}";

static struct agent_node agent;
static char run_dir[sizeof(agent.run_dir)];
static char pod_path[64];
static char pod_request[200];
static uint32_t addresses = AGENT_NODE_ADDRESSES;

static void agent_reset(void)
{
	agent = (struct agent_node){ .objects = closed, .addresses = addresses };
	memcpy(agent.run_dir, run_dir, sizeof(run_dir));
}

static unsigned int stride(void)
{
	const char *text = getenv("STRIDE");
	unsigned long value = text ? strtoul(text, NULL, 10) : STRIDE;

	return value ? (unsigned int)value : 1;
}

static unsigned int stride_begin(void)
{
	return 1 + (unsigned int)time(NULL) % stride();
}

/* ---- a child that is killed ------------------------------------------------------------------ */

static bool changes_something(uint64_t call)
{
	static const long calls[] = { SYS_bpf,    SYS_sendmsg, SYS_sendto, SYS_write,
				      SYS_rename, SYS_unlink,  SYS_mkdir,  SYS_unlinkat,
				      SYS_openat, SYS_clone,   SYS_setns };

	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		if (call == (uint64_t)calls[i])
			return true;
	}
	return false;
}

/* Lets the child run to its next system call; false: it has ended. */
static bool child_step(pid_t child, uint64_t *ret_call)
{
	struct __ptrace_syscall_info info = {};
	int status, pending = 0;

	for (;;) {
		assert_int_equal(ptrace(PTRACE_SYSCALL, child, NULL, (void *)(long)pending), 0);
		assert_int_equal(waitpid(child, &status, 0), child);
		if (!WIFSTOPPED(status)) {
			assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
			return false;
		}
		pending = WSTOPSIG(status) == (SIGTRAP | 0x80) ? 0 : WSTOPSIG(status);
		if (pending)
			continue;
		assert_true(ptrace(PTRACE_GET_SYSCALL_INFO, child, (void *)sizeof(info), &info) >
			    0);
		if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
			*ret_call = info.entry.nr;
			return true;
		}
	}
}

/* Runs what() in a child and kills it before the nth change after the mark; false: it had no nth.
 */
static bool kill_at(void (*what)(void), unsigned int nth)
{
	unsigned int count = 0;
	bool marked = false;
	uint64_t call = 0;
	pid_t child = fork();
	int status;

	if (child == 0) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		what();
		_exit(0);
	}
	assert_true(child > 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(ptrace(PTRACE_SETOPTIONS, child, NULL,
				(void *)(PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL)),
			 0);
	while (child_step(child, &call)) {
		marked |= call == MARK;
		count += marked && changes_something(call);
		if (count < nth)
			continue;
		assert_int_equal(kill(child, SIGKILL), 0);
		assert_int_equal(waitpid(child, &status, 0), child);
		return true;
	}
	return false;
}

/* ---- what must hold afterwards --------------------------------------------------------------- */

/* Whether some agent's from_pod, not necessarily the last one's, sees what a device receives. */
static bool is_guarded(int ifindex)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = 0x7e0d, .priority = 1);
	struct bpf_prog_info info = {};
	__u32 size = sizeof(info);
	auto_close int fd = -1;

	if (bpf_tc_query(&hook, &opts))
		return false;
	fd = bpf_prog_get_fd_by_id(opts.prog_id);
	return fd >= 0 && bpf_obj_get_info_by_fd(fd, &info, &size) == 0 &&
	       strcmp(info.name, "from_pod") == 0;
}

/* Before the next agent does anything: an interface that packets can pass has its program, and its
 * policy is that nobody may pass. */
static void check_closed(struct agent_node *node)
{
	auto_netlink struct netlink netlink = NETLINK_INIT;

	assert_int_equal(netlink_open(&netlink, -1, NULL), 0);
	for (uint16_t slot = 1; slot < AGENT_NODE_ENDPOINTS; slot++) {
		struct endpoint_entry entry = {};
		struct host_link link = {};

		if (host_link_get(&netlink, ENDPOINT_IFINDEX_BASE + slot, &link, NULL) < 0 ||
		    !(link.flags & IFF_UP))
			continue;
		assert_true(is_guarded(link.ifindex));
		assert_int_equal(endpoint_map_get(node->datapath, slot, &entry), 0);
		/* Without an entry the datapath drops what the pod sends. */
		if (!(entry.flags & ENDPOINT_VALID))
			continue;
		assert_true(entry.flags & ENDPOINT_INGRESS_ISOLATED);
		assert_true(entry.flags & ENDPOINT_EGRESS_ISOLATED);
	}
}

/* Starts the next agent over what is there; the former one may have left deletions to it. */
static void agent_restart(void)
{
	struct errmsg err = {};

	agent_reset();
	agent.opened = check_closed;
	if (agent_node_start(&agent, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(endpoints_wait_deleted(agent.endpoints, NULL, NULL, &err), 0);
}

static void agent_begin(void)
{
	struct errmsg err = {};

	agent_reset();
	if (agent_node_start(&agent, &err) < 0)
		fail_msg("%s", err.text);
}

/* In a child: as the real one, but its end is not a stop. */
static void child_agent_begin(void)
{
	agent_begin();
	syscall(MARK);
}

static int pod_fd_open(void)
{
	return open(pod_path, O_RDONLY | O_CLOEXEC);
}

static void run_add(void)
{
	struct endpoint_error error = {};

	child_agent_begin();
	if (agent_node_add(&agent, pod_request, pod_fd_open(), &error) < 0)
		_exit(1);
}

static void run_del(void)
{
	struct endpoint_error error = {};

	child_agent_begin();
	if (agent_node_del(&agent, pod_request, &error) < 0)
		_exit(1);
}

static void run_start(void)
{
	syscall(MARK);
	agent_begin();
}

static bool pod_is_ready(void)
{
	const struct endpoint *endpoint = endpoint_find(agent.endpoints, "killed", "eth0");

	return endpoint && endpoint->state == ENDPOINT_READY;
}

static void check_listing(const struct listing *expected, int pod_fd, unsigned int nth)
{
	auto_(listing) struct listing *now = listing_take(&agent, pod_fd);

	if (!listings_equal(expected, now))
		fail_msg("after a SIGKILL before change %u", nth);
}

/* ---- the cases ------------------------------------------------------------------------------- */

static void test_killed_in_add(void **state)
{
	auto_(listing) struct listing *before = NULL;
	auto_close int pod_fd = pod_fd_open();
	struct endpoint_error error = {};
	unsigned int nth = 1, undone = 0;

	(void)state;
	agent_begin();
	before = listing_take(&agent, pod_fd);
	agent_node_stop(&agent);
	while (kill_at(run_add, nth)) {
		agent_restart();
		/* Finished: it is there, and whoever did not hear the answer deletes it. */
		if (pod_is_ready())
			assert_int_equal(agent_node_del(&agent, pod_request, &error), 0);
		else
			undone++;
		check_listing(before, pod_fd, nth);
		/* The same ADD, as a runtime repeats it, works. */
		if (nth % 16 == 0) {
			assert_int_equal(agent_node_add(&agent, pod_request, pod_fd, &error), 0);
			assert_int_equal(agent_node_del(&agent, pod_request, &error), 0);
			check_listing(before, pod_fd, nth);
		}
		agent_node_stop(&agent);
		assert_true(nth++ < CALLS_MAX);
	}
	print_message("%u changes, %u undone\n", nth - 1, undone);
	assert_true(nth > 30 && undone > 30);
	/* The last child was not killed: its endpoint is there. */
	agent_restart();
	assert_int_equal(agent_node_del(&agent, pod_request, &error), 0);
	check_listing(before, pod_fd, nth);
	agent_node_stop(&agent);
}

static void test_killed_in_del(void **state)
{
	auto_(listing) struct listing *before = NULL;
	auto_close int pod_fd = pod_fd_open();
	struct endpoint_error error = {};
	unsigned int nth = 1;

	(void)state;
	agent_begin();
	before = listing_take(&agent, pod_fd);
	do {
		if (!agent.endpoints)
			agent_begin();
		assert_int_equal(agent_node_add(&agent, pod_request, pod_fd, &error), 0);
		agent_node_stop(&agent);
		if (!kill_at(run_del, nth))
			break;
		agent_restart();
		/* As a runtime does that got no answer. */
		assert_int_equal(agent_node_del(&agent, pod_request, &error), 0);
		check_listing(before, pod_fd, nth);
	} while (nth++ < CALLS_MAX);
	print_message("%u changes\n", nth - 1);
	assert_true(nth > 8);
	agent_restart();
	check_listing(before, pod_fd, nth);
	agent_node_stop(&agent);
}

static void test_killed_in_a_start(void **state)
{
	auto_(listing) struct listing *before = NULL;
	auto_close int pod_fd = pod_fd_open();
	struct endpoint_error error = {};
	const unsigned int first = stride_begin();
	unsigned int nth = first;

	(void)state;
	agent_begin();
	assert_int_equal(agent_node_add(&agent, pod_request, pod_fd, &error), 0);
	before = listing_take(&agent, pod_fd);
	agent_node_stop(&agent);
	/* A pod is there all the time: it stays as it is. */
	while (kill_at(run_start, nth)) {
		agent_restart();
		assert_true(pod_is_ready());
		check_listing(before, pod_fd, nth);
		agent_node_stop(&agent);
		assert_true(nth < CALLS_MAX);
		nth += stride();
	}
	print_message("%u changes, from %u on by %u\n", nth - 1, first, stride());
	assert_true(nth > 100);
	agent_restart();
	assert_int_equal(agent_node_del(&agent, pod_request, &error), 0);
	agent_node_stop(&agent);
}

/* Each start has another limit, so two maps are copied (datapath/takeover.c).  The pod has programs
 * all the time, and in the end only those of the new maps. */
static void test_killed_while_maps_are_copied(void **state)
{
	auto_(listing) struct listing *before = NULL;
	auto_close int pod_fd = pod_fd_open();
	struct endpoint_error error = {};
	const unsigned int step = stride() > 1 ? 3 * stride() : 1; /* each has two starts */
	const unsigned int first = stride_begin() * step / stride();
	unsigned int nth = first;
	bool killed;

	(void)state;
	agent_begin();
	assert_int_equal(agent_node_add(&agent, pod_request, pod_fd, &error), 0);
	before = listing_take(&agent, pod_fd);
	agent_node_stop(&agent);
	do {
		addresses = 3 * AGENT_NODE_ADDRESSES - addresses; /* or twice as many */
		killed = kill_at(run_start, nth);
		agent_restart();
		assert_int_equal(maps_capacity(agent.datapath, MAP_IPCACHE), addresses);
		assert_true(pod_is_ready());
		assert_false(maps_node(agent.datapath)->flags & NODE_TAKEOVER);
		assert_int_equal(filter_program(ENDPOINT_IFINDEX_BASE + 1, BPF_TC_INGRESS,
						PRIORITY_FALLBACK),
				 0);
		check_listing(before, pod_fd, nth);
		agent_node_stop(&agent);
		assert_true(nth < CALLS_MAX);
		nth += step;
	} while (killed);
	print_message("%u changes, from %u on by %u\n", nth - 1, first, step);
	assert_true(nth > 150);
	addresses = AGENT_NODE_ADDRESSES;
	agent_restart();
	assert_int_equal(agent_node_del(&agent, pod_request, &error), 0);
	agent_node_stop(&agent);
}

/* The very first start of a node, too. */
static void test_killed_in_the_first_start(void **state)
{
	const unsigned int first = stride_begin();
	unsigned int nth = first;
	struct errmsg err = {};

	(void)state;
	assert_int_equal(datapath_cleanup(SCRATCH_PIN_DIR, &err), 0);
	while (kill_at(run_start, nth)) {
		agent_restart();
		agent_node_stop(&agent);
		assert_int_equal(datapath_cleanup(SCRATCH_PIN_DIR, &err), 0);
		assert_true(nth < CALLS_MAX);
		nth += stride();
	}
	print_message("%u changes, from %u on by %u\n", nth - 1, first, stride());
	assert_true(nth > 100);
}

/* ADD sets it up, and it need not go down again. */
static int lo_up(int pod_fd)
{
	auto_netlink struct netlink netlink = NETLINK_INIT;
	int ret = netlink_open(&netlink, pod_fd, NULL);

	return ret ? ret : link_set_up(&netlink, 1, NULL);
}

static int group_setup(void **state)
{
	struct errmsg err = {};
	int fd = -1;

	(void)state;
	snprintf(run_dir, sizeof(run_dir), "/tmp/test_killed.XXXXXX");
	if (!mkdtemp(run_dir) || scratch_init(&err) < 0 || netns_new(&fd, &err) < 0) {
		print_error("%s\n", err.text);
		return -1;
	}
	if (lo_up(fd) < 0)
		return -1;
	snprintf(pod_path, sizeof(pod_path), "/proc/%d/fd/%d", getpid(), fd);
	snprintf(pod_request, sizeof(pod_request),
		 "{\"containerId\":\"killed\",\"ifname\":\"eth0\",\"netns\":\"%s\"}", pod_path);
	return 0;
}

static int group_teardown(void **state)
{
	(void)state;
	scratch_done();
	return scratch_dir_remove(run_dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_killed_in_add),
		cmocka_unit_test(test_killed_in_del),
		cmocka_unit_test(test_killed_in_a_start),
		cmocka_unit_test(test_killed_while_maps_are_copied),
		cmocka_unit_test(test_killed_in_the_first_start),
	};

	return cmocka_run_group_tests_name("killed", tests, group_setup, group_teardown);
}
