/* SPDX-License-Identifier: Apache-2.0 */
/* See streams.h. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/scratch.h"
#include "harness/streams.h"
#include "lib/auto.h"
#include "lib/netns.h"

#include <cmocka.h> /* last: its fail() is a macro */

void pair_done(struct pair *pair)
{
	for (int i = 0; i < 2; i++) {
		if (pair->fd[i] >= 0)
			close(take_fd(&pair->fd[i]));
	}
}

/* ---- set-up --------------------------------------------------------------------------------- */

int streams_setup(void **state)
{
	struct store *store = calloc(1, sizeof(*store));
	struct datapath_options options = { .accel = true, .trial = true };
	struct errmsg err = {};

	*state = store;
	if (pods_new(POD_COUNT, true, &store->pods, &err) < 0)
		fail_msg("%s", err.text);
	options.cgroup = scratch_cgroup();
	if (datapath_open(&options, &store->datapath, &err) < 0 ||
	    pods_publish(store->pods, store->datapath, ENDPOINT_ACCEL, &err) < 0)
		fail_msg("%s", err.text);
	maps_node(store->datapath)->flags = NODE_ACCEL;
	return 0;
}

int streams_teardown(void **state)
{
	struct store *store = *state;

	datapath_close(store->datapath);
	pods_free(store->pods);
	free(store);
	return 0;
}

void redirect_allow(struct store *store, bool allow)
{
	maps_node(store->datapath)->flags = allow ? NODE_ACCEL : 0;
}

void endpoint_change(struct store *store, int pod, uint32_t flags, uint32_t policy_id)
{
	struct endpoint_entry endpoint = pods_endpoint(&store->pods->pod[pod]);

	endpoint.flags |= flags;
	endpoint.policy_id = policy_id;
	assert_int_equal(endpoint_map_set(store->datapath, store->pods->pod[pod].slot, &endpoint),
			 0);
	maps_bump_revision(store->datapath);
}

struct endpoint_stats stats_of(struct store *store, int pod)
{
	struct endpoint_stats stats = {};

	assert_int_equal(endpoint_stats_get(store->datapath, store->pods->pod[pod].slot, &stats),
			 0);
	return stats;
}

static int count_socket(const struct accel_key *key, uint64_t cookie, void *arg)
{
	(void)key;
	(void)cookie;
	(*(size_t *)arg)++;
	return 0;
}

size_t sockets_registered(struct store *store)
{
	size_t count = 0;

	assert_int_equal(accel_map_foreach(store->datapath, count_socket, &count), 0);
	return count;
}

/* ---- connections ---------------------------------------------------------------------------- */

bool is_ready(int fd, short events, int timeout_ms)
{
	struct pollfd poll_fd = { .fd = fd, .events = events };

	return poll(&poll_fd, 1, timeout_ms) == 1 && (poll_fd.revents & events);
}

socklen_t sockaddr_fill(const struct addr *addr, uint16_t port, int family,
			struct sockaddr_storage *ret)
{
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;
	struct sockaddr_in *in = (struct sockaddr_in *)ret;

	memset(ret, 0, sizeof(*ret));
	if (family == AF_INET6) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
		memcpy(&in6->sin6_addr, addr->w, 16);
		return sizeof(*in6);
	}
	in->sin_family = AF_INET;
	in->sin_port = htons(port);
	in->sin_addr.s_addr = addr->w[3];
	return sizeof(*in);
}

int listener_new(const struct pod *pod, int family)
{
	struct addr any = {};
	struct sockaddr_storage address;
	socklen_t len = sockaddr_fill(&any, PORT, family, &address);
	int fd = pods_socket(pod, family, SOCK_STREAM | SOCK_NONBLOCK);

	assert_true(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int));
	assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
	assert_int_equal(listen(fd, 128), 0);
	return fd;
}

int connect_start(const struct pod *from, int family, const struct addr *to)
{
	struct sockaddr_storage address;
	socklen_t len = sockaddr_fill(to, PORT, family, &address);
	int fd = pods_socket(from, family, SOCK_STREAM | SOCK_NONBLOCK);

	assert_true(fd >= 0);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
	if (connect(fd, (struct sockaddr *)&address, len) < 0)
		assert_int_equal(errno, EINPROGRESS);
	return fd;
}

void connect_accept(int listener, struct pair *pair)
{
	assert_true(is_ready(listener, POLLIN, WAIT_MS));
	assert_true(is_ready(pair->fd[CLIENT], POLLOUT, WAIT_MS));
	pair->fd[SERVER] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(pair->fd[SERVER] >= 0);
	setsockopt(pair->fd[SERVER], IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
}

void pair_open_as(struct store *store, int family, const struct addr *to, int listener_family,
		  struct pair *pair)
{
	auto_close int listener = listener_new(&store->pods->pod[SERVER], listener_family);

	pair->fd[CLIENT] = connect_start(&store->pods->pod[CLIENT], family, to);
	connect_accept(listener, pair);
}

void pair_open(struct store *store, struct pair *pair)
{
	pair_open_as(store, AF_INET, &store->pods->pod[SERVER].v4, AF_INET, pair);
}

size_t say(struct store *store, const struct pair *pair, int end, const char *text)
{
	uint64_t before = stats_of(store, end).accel_bytes;

	assert_int_equal(send(pair->fd[end], text, strlen(text), MSG_NOSIGNAL), strlen(text));
	return stats_of(store, end).accel_bytes - before;
}

void hear(const struct pair *pair, int end, const char *text)
{
	char buf[256] = "";
	size_t have = 0;

	while (have < strlen(text)) {
		ssize_t len;

		assert_true(is_ready(pair->fd[end], POLLIN, WAIT_MS));
		len = recv(pair->fd[end], buf + have, sizeof(buf) - 1 - have, 0);
		assert_true(len > 0);
		have += (size_t)len;
	}
	assert_string_equal(buf, text);
}

void hear_end(const struct pair *pair, int end)
{
	char byte;

	assert_true(is_ready(pair->fd[end], POLLIN, WAIT_MS));
	assert_int_equal(recv(pair->fd[end], &byte, 1, 0), 0);
}

struct tcp_info tcp_info_of(int fd)
{
	struct tcp_info info = {};
	socklen_t len = sizeof(info);

	assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len), 0);
	return info;
}

int loss_begin(const struct pods *pods, const struct pod *pod)
{
	const struct bpf_insn insns[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = 6, .src_reg = 1 },
		{ .code = BPF_LD | BPF_ABS | BPF_H, .imm = 12 },
		{ .code = BPF_JMP | BPF_JNE | BPF_K, .dst_reg = 0, .imm = 0x0800, .off = 6 },
		{ .code = BPF_LD | BPF_ABS | BPF_B, .imm = 14 + 9 },
		{ .code = BPF_JMP | BPF_JNE | BPF_K, .dst_reg = 0, .imm = IPPROTO_TCP, .off = 4 },
		{ .code = BPF_LD | BPF_ABS | BPF_B, .imm = 14 + 20 + 13 },
		{ .code = BPF_JMP | BPF_JSET | BPF_K, .dst_reg = 0, .imm = 2, .off = 2 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = TC_ACT_SHOT },
		{ .code = BPF_JMP | BPF_EXIT },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = TC_ACT_OK },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ENDPOINT_IFINDEX_BASE + pod->slot,
		    .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = 1, .priority = 1);
	auto_netns struct netns_scope scope = NETNS_SCOPE_INIT;
	struct errmsg err = {};
	int fd;

	fd = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "loss", "GPL", insns, ARRAY_SIZE(insns), NULL);
	assert_true(fd >= 0);
	assert_int_equal(netns_enter(pods->node_fd, &scope, &err), 0);
	assert_int_equal(bpf_tc_hook_create(&hook), 0);
	opts.prog_fd = fd;
	assert_int_equal(bpf_tc_attach(&hook, &opts), 0);
	return fd;
}

void loss_end(const struct pods *pods, const struct pod *pod, int fd)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ENDPOINT_IFINDEX_BASE + pod->slot,
		    .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = 1, .priority = 1);
	auto_netns struct netns_scope scope = NETNS_SCOPE_INIT;
	struct errmsg err = {};

	assert_int_equal(netns_enter(pods->node_fd, &scope, &err), 0);
	assert_int_equal(bpf_tc_detach(&hook, &opts), 0);
	close(fd);
}

static int group_setup(void **state)
{
	struct errmsg err = {};

	(void)state;
	if (scratch_init(&err) == 0)
		return 0;
	print_error("%s\n", err.text);
	return -1;
}

static int group_teardown(void **state)
{
	(void)state;
	scratch_done();
	return 0;
}

int streams_run(const char *group, const struct CMUnitTest *tests, size_t count)
{
	return _cmocka_run_group_tests(group, tests, count, group_setup, group_teardown);
}
