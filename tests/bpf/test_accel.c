/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Socket acceleration over real sockets: two or three pods joined by a plain router, and a trial of
 * the acceleration programs, so whatever goes by packet needs none of ours.  Each row of the table
 * in doc/acceleration.md that the guard prevents has a case here.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/accel_selftest.h"
#include "agent/lib/auto.h"
#include "agent/lib/netns.h"
#include "agent/lib/sockdiag.h"
#include "harness/pods.h"
#include "harness/scratch.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define WAIT_MS 5000 /* only what is broken takes that long */
#define PORT    8080
#define MPTCP   262 /* IPPROTO_MPTCP, younger than the C library */

enum { CLIENT, SERVER, OTHER, POD_COUNT };

struct world {
	struct pods *pods;
	struct datapath *datapath;
};

/* A connection between two pods; fd[CLIENT] opened it. */
struct pair {
	int fd[2];
};
#define PAIR_INIT              \
	{                      \
		{              \
			-1, -1 \
		}              \
	}

static void pair_done(struct pair *pair)
{
	for (int i = 0; i < 2; i++) {
		if (pair->fd[i] >= 0)
			close(take_fd(&pair->fd[i]));
	}
}
#define auto_pair __attribute__((cleanup(pair_done)))

/* ---- set-up --------------------------------------------------------------------------------- */

static int world_new(void **state)
{
	struct world *world = calloc(1, sizeof(*world));
	struct datapath_options options = { .accel = true, .trial = true };
	struct errmsg err = {};

	*state = world;
	if (pods_new(POD_COUNT, true, &world->pods, &err) < 0)
		fail_msg("%s", err.text);
	options.cgroup = scratch_cgroup();
	if (datapath_open(&options, &world->datapath, &err) < 0 ||
	    pods_publish(world->pods, world->datapath, ENDPOINT_ACCEL, &err) < 0)
		fail_msg("%s", err.text);
	maps_node(world->datapath)->flags = NODE_ACCEL;
	return 0;
}

static int world_free(void **state)
{
	struct world *world = *state;

	datapath_close(world->datapath);
	pods_free(world->pods);
	free(world);
	return 0;
}

static void redirect_allow(struct world *world, bool allow)
{
	maps_node(world->datapath)->flags = allow ? NODE_ACCEL : 0;
}

static void endpoint_change(struct world *world, int pod, uint32_t flags, uint32_t policy_id)
{
	struct endpoint endpoint = pods_endpoint(&world->pods->pod[pod]);

	endpoint.flags |= flags;
	endpoint.policy_id = policy_id;
	assert_int_equal(endpoint_map_set(world->datapath, world->pods->pod[pod].slot, &endpoint),
			 0);
	maps_bump_revision(world->datapath);
}

static struct endpoint_stats stats_of(struct world *world, int pod)
{
	struct endpoint_stats stats = {};

	assert_int_equal(endpoint_stats_get(world->datapath, world->pods->pod[pod].slot, &stats),
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

static size_t sockets_registered(struct world *world)
{
	size_t count = 0;

	assert_int_equal(accel_map_foreach(world->datapath, count_socket, &count), 0);
	return count;
}

/* ---- connections ---------------------------------------------------------------------------- */

static bool is_ready(int fd, short events, int timeout_ms)
{
	struct pollfd poll_fd = { .fd = fd, .events = events };

	return poll(&poll_fd, 1, timeout_ms) == 1 && (poll_fd.revents & events);
}

static socklen_t sockaddr_fill(const struct addr *addr, uint16_t port, int family,
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

static int listener_new(const struct pod *pod, int family)
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

static int connect_start(const struct pod *from, int family, const struct addr *to)
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

static void connect_accept(int listener, struct pair *pair)
{
	assert_true(is_ready(listener, POLLIN, WAIT_MS));
	assert_true(is_ready(pair->fd[CLIENT], POLLOUT, WAIT_MS));
	pair->fd[SERVER] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(pair->fd[SERVER] >= 0);
	setsockopt(pair->fd[SERVER], IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
}

static void pair_open_as(struct world *world, int family, const struct addr *to,
			 int listener_family, struct pair *pair)
{
	auto_close int listener = listener_new(&world->pods->pod[SERVER], listener_family);

	pair->fd[CLIENT] = connect_start(&world->pods->pod[CLIENT], family, to);
	connect_accept(listener, pair);
}

static void pair_open(struct world *world, struct pair *pair)
{
	pair_open_as(world, AF_INET, &world->pods->pod[SERVER].v4, AF_INET, pair);
}

/* Sends text from one end; returns how many of its bytes went from socket to socket. */
static size_t say(struct world *world, const struct pair *pair, int end, const char *text)
{
	uint64_t before = stats_of(world, end).accel_bytes;

	assert_int_equal(send(pair->fd[end], text, strlen(text), MSG_NOSIGNAL), strlen(text));
	return stats_of(world, end).accel_bytes - before;
}

static void hear(const struct pair *pair, int end, const char *text)
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

static void hear_end(const struct pair *pair, int end)
{
	char byte;

	assert_true(is_ready(pair->fd[end], POLLIN, WAIT_MS));
	assert_int_equal(recv(pair->fd[end], &byte, 1, 0), 0);
}

static struct tcp_info tcp_info_of(int fd)
{
	struct tcp_info info = {};
	socklen_t len = sizeof(info);

	assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len), 0);
	return info;
}

static uint64_t cookie_of(int fd)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len), 0);
	return cookie;
}

/* ---- who is accelerated --------------------------------------------------------------------- */

static void test_both_families(void **state)
{
	struct world *world = *state;
	const struct pod *server = &world->pods->pod[SERVER];
	const struct {
		int family;
		const struct addr *to;
		int listener_family;
	} cases[] = {
		{ AF_INET, &server->v4, AF_INET },
		{ AF_INET6, &server->v6, AF_INET6 },
		{ AF_INET, &server->v4, AF_INET6 },  /* a dual-stack listener */
		{ AF_INET6, &server->v4, AF_INET6 }, /* ::ffff:a.b.c.d on both ends */
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		auto_pair struct pair pair = PAIR_INIT;
		struct endpoint_stats before = stats_of(world, CLIENT);

		pair_open_as(world, cases[i].family, cases[i].to, cases[i].listener_family, &pair);
		assert_int_equal(sockets_registered(world), 2);
		assert_int_equal(say(world, &pair, CLIENT, "question"), 8);
		hear(&pair, SERVER, "question");
		assert_int_equal(say(world, &pair, SERVER, "answer"), 6);
		hear(&pair, CLIENT, "answer");
		assert_int_equal(stats_of(world, CLIENT).accel_connections,
				 before.accel_connections + 1);
		assert_int_equal(stats_of(world, CLIENT).accel_fallbacks, before.accel_fallbacks);
		/* Nothing of it went by packet. */
		assert_int_equal(tcp_info_of(pair.fd[CLIENT]).tcpi_bytes_sent, 0);
	}
	assert_int_equal(sockets_registered(world), 0);
}

/* Sockets of pods that did not ask are in no map, and their bytes go by packet. */
static void assert_untouched(struct world *world, const char *why)
{
	auto_pair struct pair pair = PAIR_INIT;

	pair_open(world, &pair);
	if (sockets_registered(world))
		fail_msg("%s: registered", why);
	assert_int_equal(say(world, &pair, CLIENT, "question"), 0);
	hear(&pair, SERVER, "question");
	assert_int_equal(say(world, &pair, SERVER, "answer"), 0);
	hear(&pair, CLIENT, "answer");
	assert_int_equal(tcp_info_of(pair.fd[CLIENT]).tcpi_bytes_sent, 8);
	assert_int_equal(tcp_info_of(pair.fd[SERVER]).tcpi_bytes_sent, 6);
	assert_int_equal(tcp_info_of(pair.fd[CLIENT]).tcpi_bytes_received, 6);
}

static void test_opt_in(void **state)
{
	struct world *world = *state;

	endpoint_change(world, CLIENT, 0, 0);
	assert_untouched(world, "only the server asked");
	endpoint_change(world, SERVER, 0, 0);
	assert_untouched(world, "nobody asked");
	endpoint_change(world, CLIENT, ENDPOINT_ACCEL, 0);
	assert_untouched(world, "only the client asked");
	endpoint_change(world, SERVER, ENDPOINT_ACCEL, 0);
	redirect_allow(world, false);
	assert_untouched(world, "acceleration is off");
	assert_int_equal(stats_of(world, CLIENT).accel_fallbacks, 0);
}

/* Neither a namespace that is no pod's, nor a pod's connection to itself. */
static void test_strangers(void **state)
{
	struct world *world = *state;
	const struct pod *server = &world->pods->pod[SERVER];
	auto_close int listener = listener_new(server, AF_INET);
	auto_pair struct pair stranger = PAIR_INIT, self = PAIR_INIT;

	assert_int_equal(endpoint_map_del(world->datapath, world->pods->pod[CLIENT].slot), 0);
	stranger.fd[CLIENT] = connect_start(&world->pods->pod[CLIENT], AF_INET, &server->v4);
	connect_accept(listener, &stranger);
	assert_int_equal(send(stranger.fd[CLIENT], "x", 1, 0), 1);
	hear(&stranger, SERVER, "x");
	self.fd[CLIENT] = connect_start(server, AF_INET, &server->v4);
	connect_accept(listener, &self);
	assert_int_equal(send(self.fd[CLIENT], "x", 1, 0), 1);
	hear(&self, SERVER, "x");
	assert_int_equal(sockets_registered(world), 0);
}

/* ---- order ---------------------------------------------------------------------------------- */

/* Once a byte went by packet, no later one may overtake it. */
static void test_packets_are_final(void **state)
{
	struct world *world = *state;
	auto_pair struct pair pair = PAIR_INIT;

	pair_open(world, &pair);
	redirect_allow(world, false);
	assert_int_equal(say(world, &pair, CLIENT, "first "), 0);
	redirect_allow(world, true);
	for (int i = 0; i < 3; i++)
		assert_int_equal(say(world, &pair, CLIENT, "later "), 0);
	hear(&pair, SERVER, "first later later later ");
	assert_int_equal(stats_of(world, CLIENT).accel_fallbacks, 1);
	/* The other direction has sent nothing yet and is free to. */
	assert_int_equal(say(world, &pair, SERVER, "answer"), 6);
	hear(&pair, CLIENT, "answer");
}

static void test_fallback_keeps_order(void **state)
{
	struct world *world = *state;
	auto_pair struct pair pair = PAIR_INIT;

	pair_open(world, &pair);
	assert_int_equal(say(world, &pair, CLIENT, "one "), 4);
	assert_int_equal(say(world, &pair, CLIENT, "two "), 4);
	redirect_allow(world, false);
	assert_int_equal(say(world, &pair, CLIENT, "three "), 0);
	redirect_allow(world, true);
	assert_int_equal(say(world, &pair, CLIENT, "four "), 0);
	hear(&pair, SERVER, "one two three four ");
	assert_int_equal(stats_of(world, CLIENT).accel_fallbacks, 1);
	assert_int_equal(stats_of(world, CLIENT).accel_bytes, 8);
}

/* Bytes that were written before the socket was established went by packet without anybody asking
 * the sk_msg program. */
static void test_written_before_established(void **state)
{
	struct world *world = *state;
	const struct pod *server = &world->pods->pod[SERVER];
	auto_close int listener = listener_new(server, AF_INET);
	auto_pair struct pair pair = PAIR_INIT;
	struct sockaddr_storage address;
	socklen_t len = sockaddr_fill(&server->v4, PORT, AF_INET, &address);

	pair.fd[CLIENT] = pods_socket(&world->pods->pod[CLIENT], AF_INET, SOCK_STREAM);
	assert_true(pair.fd[CLIENT] >= 0);
	assert_int_equal(sendto(pair.fd[CLIENT], "first ", 6, MSG_FASTOPEN,
				(struct sockaddr *)&address, len),
			 6);
	connect_accept(listener, &pair);
	assert_int_equal(sockets_registered(world), 2);
	assert_int_equal(say(world, &pair, CLIENT, "second"), 0);
	hear(&pair, SERVER, "first second");
}

/* A socket that is disconnected and connects again cannot enter the map a second time; what it
 * decided for its first stream must not reach into the second. */
static void test_socket_reused(void **state)
{
	struct world *world = *state;
	const struct pod *server = &world->pods->pod[SERVER];
	auto_close int listener = listener_new(server, AF_INET);
	auto_pair struct pair pair = PAIR_INIT;
	struct sockaddr_storage address;
	socklen_t len = sockaddr_fill(&server->v4, PORT, AF_INET, &address);

	pair.fd[CLIENT] = connect_start(&world->pods->pod[CLIENT], AF_INET, &server->v4);
	connect_accept(listener, &pair);
	assert_int_equal(say(world, &pair, CLIENT, "once"), 4);
	hear(&pair, SERVER, "once");
	assert_int_equal(connect(pair.fd[CLIENT], &(struct sockaddr){ .sa_family = AF_UNSPEC },
				 sizeof(struct sockaddr)),
			 0);
	close(take_fd(&pair.fd[SERVER]));
	if (connect(pair.fd[CLIENT], (struct sockaddr *)&address, len) < 0)
		assert_int_equal(errno, EINPROGRESS);
	connect_accept(listener, &pair);
	assert_int_equal(say(world, &pair, CLIENT, "again"), 0);
	assert_int_equal(say(world, &pair, SERVER, "answer"), 0);
	hear(&pair, SERVER, "again");
	hear(&pair, CLIENT, "answer");
}

/* Drops every IPv4 TCP segment without SYN that a pod sends: its handshake ACK and its data. */
static int loss_begin(const struct pods *pods, const struct pod *pod)
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

static void loss_end(const struct pods *pods, const struct pod *pod, int fd)
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

/* The handshake's last ACK and the first data are lost: the client is established, the server is
 * not yet, and the first bytes arrive after the later ones were sent. */
static void test_lost_handshake_ack(void **state)
{
	struct world *world = *state;
	const struct pod *client = &world->pods->pod[CLIENT];
	const struct pod *server = &world->pods->pod[SERVER];
	auto_close int listener = listener_new(server, AF_INET);
	auto_pair struct pair pair = PAIR_INIT;
	int loss = loss_begin(world->pods, client);

	pair.fd[CLIENT] = connect_start(client, AF_INET, &server->v4);
	assert_true(is_ready(pair.fd[CLIENT], POLLOUT, WAIT_MS));
	assert_int_equal(say(world, &pair, CLIENT, "first "), 0);
	loss_end(world->pods, client, loss);
	/* "first" waits for its retransmission, while the next segment completes the handshake. */
	assert_int_equal(say(world, &pair, CLIENT, "second "), 0);
	connect_accept(listener, &pair);
	assert_int_equal(say(world, &pair, CLIENT, "third "), 0);
	hear(&pair, SERVER, "first second third ");
	assert_int_equal(say(world, &pair, SERVER, "answer"), 6);
	hear(&pair, CLIENT, "answer");
}

/* ---- memory --------------------------------------------------------------------------------- */

/* Sends messages of one size until the socket is full; returns the bytes sent. */
static size_t send_until_full(struct world *world, const struct pair *pair, size_t size)
{
	auto_free char *message = calloc(1, size);
	size_t sent = 0;
	ssize_t len;

	(void)world;
	assert_non_null(message);
	while ((len = send(pair->fd[CLIENT], message, size, MSG_NOSIGNAL)) > 0) {
		sent += (size_t)len;
		assert_in_range(sent, 1, 64 * 1024 * 1024);
	}
	assert_int_equal(errno, EAGAIN);
	return sent;
}

static void receive_all(const struct pair *pair, size_t want)
{
	static char buf[256 * 1024];

	while (want) {
		ssize_t len;

		assert_true(is_ready(pair->fd[SERVER], POLLIN, WAIT_MS));
		len = recv(pair->fd[SERVER], buf, sizeof(buf), 0);
		assert_true(len > 0 && (size_t)len <= want);
		want -= (size_t)len;
	}
}

static void test_unread_is_bounded(void **state)
{
	const size_t sizes[] = { 256 * 1024, 4096, 1 };
	struct world *world = *state;

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		auto_pair struct pair pair = PAIR_INIT;
		uint64_t before = stats_of(world, CLIENT).accel_bytes, redirected;
		size_t sent;

		pair_open(world, &pair);
		sent = send_until_full(world, &pair, sizes[i]);
		redirected = stats_of(world, CLIENT).accel_bytes - before;
		/* Each message counts with what the kernel spends on it. */
		assert_in_range(redirected + redirected / sizes[i] * ACCEL_MESSAGE_COST,
				ACCEL_QUEUE_MAX / 2, ACCEL_QUEUE_MAX);
		assert_true(sent > redirected);
		assert_false(is_ready(pair.fd[CLIENT], POLLOUT, 0));
		assert_int_equal(stats_of(world, CLIENT).accel_fallbacks, i + 1);
		receive_all(&pair, sent);
		assert_true(is_ready(pair.fd[CLIENT], POLLOUT, WAIT_MS));
	}
}

/* A receiver that is always some messages behind, but reads, is not given up. */
static void test_queue_never_empty(void **state)
{
	struct world *world = *state;
	auto_pair struct pair pair = PAIR_INIT;
	char message[100] = "", buf[100];

	pair_open(world, &pair);
	for (int i = 0; i < 10; i++)
		assert_int_equal(send(pair.fd[CLIENT], message, sizeof(message), 0), 100);
	for (int i = 0; i < 20000; i++) {
		assert_int_equal(send(pair.fd[CLIENT], message, sizeof(message), 0), 100);
		assert_int_equal(recv(pair.fd[SERVER], buf, sizeof(buf), 0), 100);
	}
	assert_int_equal(stats_of(world, CLIENT).accel_bytes, 100 * 20010);
	assert_int_equal(stats_of(world, CLIENT).accel_fallbacks, 0);
}

/* ---- policy --------------------------------------------------------------------------------- */

#define POLICY 5

static void policy_allow(struct world *world, int pod, enum direction direction, int peer)
{
	struct policy_key key = { .policy_id = POLICY,
				  .peer = IDENTITY_FIRST + world->pods->pod[peer].slot,
				  .direction = direction };
	struct policy_entry entry = { .rule_count = 1,
				      .rules = { { .port_min = PORT,
						   .port_max = PORT,
						   .proto = IPPROTO_TCP,
						   .verdict = VERDICT_ALLOW } } };

	(void)pod;
	assert_int_equal(policy_map_set(world->datapath, &key, &entry), 0);
}

/* A change of policy that still allows the connection changes nothing for it. */
static void test_policy_still_allows(void **state)
{
	struct world *world = *state;
	auto_pair struct pair pair = PAIR_INIT;

	policy_allow(world, SERVER, DIR_INGRESS, CLIENT);
	pair_open(world, &pair);
	assert_int_equal(say(world, &pair, CLIENT, "one "), 4);
	endpoint_change(world, SERVER, ENDPOINT_ACCEL | ENDPOINT_INGRESS_ISOLATED, POLICY);
	assert_int_equal(say(world, &pair, CLIENT, "two "), 4);
	/* Answers are allowed with the connection, though nothing allows the server to open one. */
	endpoint_change(world, SERVER,
			ENDPOINT_ACCEL | ENDPOINT_INGRESS_ISOLATED | ENDPOINT_EGRESS_ISOLATED,
			POLICY);
	assert_int_equal(say(world, &pair, SERVER, "answer"), 6);
	hear(&pair, SERVER, "one two ");
	hear(&pair, CLIENT, "answer");
	assert_int_equal(stats_of(world, CLIENT).accel_fallbacks, 0);
}

/* Forbidden connections fall back with their next message, in both directions; the packets then
 * meet tc (which this plain router does not have, so here they arrive). */
static void test_policy_forbids(void **state)
{
	struct world *world = *state;
	const struct {
		int pod;
		uint32_t flag;
	} cases[] = {
		{ SERVER, ENDPOINT_INGRESS_ISOLATED },
		{ CLIENT, ENDPOINT_EGRESS_ISOLATED },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		auto_pair struct pair pair = PAIR_INIT;

		pair_open(world, &pair);
		assert_int_equal(say(world, &pair, CLIENT, "one "), 4);
		assert_int_equal(say(world, &pair, SERVER, "five "), 5);
		endpoint_change(world, cases[i].pod, ENDPOINT_ACCEL | cases[i].flag, POLICY);
		assert_int_equal(say(world, &pair, CLIENT, "two "), 0);
		assert_int_equal(say(world, &pair, SERVER, "six "), 0);
		endpoint_change(world, cases[i].pod, ENDPOINT_ACCEL, 0);
		assert_int_equal(say(world, &pair, CLIENT, "three "), 0);
		hear(&pair, SERVER, "one two three ");
		hear(&pair, CLIENT, "five six ");
		assert_int_equal(stats_of(world, CLIENT).accel_fallbacks, i + 1);
	}
	/* What the first packet passed under is not believed: policy is asked at the first message.
	 */
	for (int end = 0; end < 2; end++) {
		auto_pair struct pair pair = PAIR_INIT;

		pair_open(world, &pair);
		endpoint_change(world, SERVER, ENDPOINT_ACCEL | ENDPOINT_INGRESS_ISOLATED, POLICY);
		assert_int_equal(say(world, &pair, end, "one"), 0);
		endpoint_change(world, SERVER, ENDPOINT_ACCEL, 0);
	}
}

/* An endpoint that is no longer the one the connection was made with, or no longer asks. */
static void test_endpoint_changes(void **state)
{
	struct world *world = *state;
	const struct pod *server = &world->pods->pod[SERVER];
	struct endpoint replaced = pods_endpoint(server);

	for (int i = 0; i < 3; i++) {
		auto_pair struct pair pair = PAIR_INIT;

		pair_open(world, &pair);
		assert_int_equal(say(world, &pair, CLIENT, "one "), 4);
		replaced = pods_endpoint(server);
		replaced.flags |= i == 0 ? 0 : ENDPOINT_ACCEL;
		if (i == 1) /* the same address, another namespace */
			replaced.netns_cookie = world->pods->pod[OTHER].netns_cookie;
		if (i == 2) /* the same namespace, another address */
			replaced.v4 = world->pods->pod[OTHER].v4;
		assert_int_equal(endpoint_map_set(world->datapath, server->slot, &replaced), 0);
		maps_bump_revision(world->datapath);
		assert_int_equal(say(world, &pair, CLIENT, "two"), 0);
		hear(&pair, SERVER, "one two");
		endpoint_change(world, SERVER, ENDPOINT_ACCEL, 0);
	}
}

/* ---- endings -------------------------------------------------------------------------------- */

static void test_half_close(void **state)
{
	struct world *world = *state;
	auto_pair struct pair pair = PAIR_INIT;

	pair_open(world, &pair);
	assert_int_equal(say(world, &pair, CLIENT, "question"), 8);
	shutdown(pair.fd[CLIENT], SHUT_WR);
	hear(&pair, SERVER, "question");
	hear_end(&pair, SERVER);
	assert_int_equal(say(world, &pair, SERVER, "answer"), 0);
	hear(&pair, CLIENT, "answer");
	close(take_fd(&pair.fd[SERVER]));
	hear_end(&pair, CLIENT);
}

/* Nothing is left in the maps, and each stream is whole although the FIN is right behind. */
static void test_short_connections(void **state)
{
	struct world *world = *state;
	const struct pod *server = &world->pods->pod[SERVER];
	auto_close int listener = listener_new(server, AF_INET);
	uint64_t before = stats_of(world, CLIENT).accel_bytes;

	for (int i = 0; i < 2000; i++) {
		auto_pair struct pair pair = PAIR_INIT;
		char buf[16];

		pair.fd[CLIENT] = connect_start(&world->pods->pod[CLIENT], AF_INET, &server->v4);
		connect_accept(listener, &pair);
		assert_int_equal(send(pair.fd[CLIENT], "short", 5, MSG_NOSIGNAL), 5);
		close(take_fd(&pair.fd[CLIENT]));
		assert_int_equal(recv(pair.fd[SERVER], buf, sizeof(buf), 0), 5);
		hear_end(&pair, SERVER);
	}
	assert_int_equal(stats_of(world, CLIENT).accel_bytes - before, 5 * 2000);
	assert_int_equal(sockets_registered(world), 0);
}

struct found {
	struct accel_key key;
	uint64_t cookie;
};

static int find_opener(const struct accel_key *key, uint64_t cookie, void *arg)
{
	struct found *found = arg;

	if (!key->opener)
		return 0;
	*found = (struct found){ *key, cookie };
	return 1;
}

/* accel_map names sockets exactly, and only the one that is meant can be destroyed. */
static void test_destroy(void **state)
{
	struct world *world = *state;
	auto_netlink struct netlink netlink = NETLINK_INIT;
	auto_pair struct pair pair = PAIR_INIT;
	struct flow flow = { .proto = IPPROTO_TCP };
	struct errmsg err = {};
	struct found found = {};
	char byte;

	pair_open(world, &pair);
	assert_int_equal(accel_map_foreach(world->datapath, find_opener, &found), 1);
	assert_int_equal(found.cookie, cookie_of(pair.fd[CLIENT]));
	flow.saddr = found.key.local;
	flow.daddr = found.key.remote;
	flow.sport = found.key.local_port;
	flow.dport = found.key.remote_port;
	assert_int_equal(sockdiag_open(&netlink, world->pods->pod[CLIENT].netns_fd, &err), 0);
	assert_int_equal(sockdiag_destroy(&netlink, &flow, found.cookie + 1, &err), -ENOENT);
	assert_int_equal(say(world, &pair, CLIENT, "alive"), 5);
	hear(&pair, SERVER, "alive");
	assert_int_equal(sockdiag_destroy(&netlink, &flow, found.cookie, &err), 0);
	assert_true(is_ready(pair.fd[CLIENT], POLLERR, WAIT_MS));
	assert_int_equal(recv(pair.fd[CLIENT], &byte, 1, 0), -1);
	assert_int_equal(errno, ECONNABORTED);
	assert_true(is_ready(pair.fd[SERVER], POLLERR, WAIT_MS));
	assert_int_equal(sockdiag_destroy(&netlink, &flow, found.cookie, &err), -ENOENT);
	pair_done(&pair); /* the kernel keeps them in the map until their programs close them */
	assert_int_equal(sockets_registered(world), 0);
}

/* A socket that claims a connection without a handshake (TCP_REPAIR) is not believed. */
static void test_repair(void **state)
{
	struct world *world = *state;
	const struct pod *server = &world->pods->pod[SERVER];
	struct sockaddr_storage address;
	socklen_t len = sockaddr_fill(&server->v4, PORT, AF_INET, &address);
	auto_close int fd = pods_socket(&world->pods->pod[CLIENT], AF_INET, SOCK_STREAM);

	assert_true(fd >= 0);
	assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &(int){ 1 }, sizeof(int)), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, len), 0);
	assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &(int){ 0 }, sizeof(int)), 0);
	assert_int_equal(sockets_registered(world), 0);
}

/* MPTCP carries one stream over several TCP sockets: those are not what they seem. */
static void test_mptcp(void **state)
{
	struct world *world = *state;
	const struct pod *server = &world->pods->pod[SERVER];
	auto_close int listener = -1;
	auto_pair struct pair pair = PAIR_INIT;
	struct sockaddr_storage address;
	socklen_t len = sockaddr_fill(&server->v4, PORT, AF_INET, &address);
	struct errmsg err = {};

	listener =
		netns_socket(server->netns_fd, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, MPTCP, &err);
	if (listener < 0)
		skip(); /* a kernel without MPTCP has nothing to mistake */
	assert_int_equal(bind(listener, (struct sockaddr *)&address, len), 0);
	assert_int_equal(listen(listener, 1), 0);
	pair.fd[CLIENT] = netns_socket(world->pods->pod[CLIENT].netns_fd, AF_INET,
				       SOCK_STREAM | SOCK_NONBLOCK, MPTCP, &err);
	assert_true(pair.fd[CLIENT] >= 0);
	if (connect(pair.fd[CLIENT], (struct sockaddr *)&address, len) < 0)
		assert_int_equal(errno, EINPROGRESS);
	connect_accept(listener, &pair);
	assert_int_equal(sockets_registered(world), 0);
	assert_int_equal(say(world, &pair, CLIENT, "question"), 0);
	hear(&pair, SERVER, "question");
	assert_int_equal(say(world, &pair, SERVER, "answer"), 0);
	hear(&pair, CLIENT, "answer");
}

/* ---- limits and the end --------------------------------------------------------------------- */

static void test_table_full(void **state)
{
	struct world *world = *state;
	const struct pod *server = &world->pods->pod[SERVER];
	auto_close int listener = listener_new(server, AF_INET);
	struct pair pairs[40];
	uint64_t notices = 0;
	size_t redirected = 0;

	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		pairs[i] = (struct pair)PAIR_INIT;
		pairs[i].fd[CLIENT] =
			connect_start(&world->pods->pod[CLIENT], AF_INET, &server->v4);
		connect_accept(listener, &pairs[i]);
	}
	/* A trial has room for 64 sockets; what found none talks by packet. */
	assert_int_equal(sockets_registered(world), 64);
	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		redirected += say(world, &pairs[i], CLIENT, "12345");
		hear(&pairs[i], SERVER, "12345");
		pair_done(&pairs[i]);
	}
	assert_int_equal(redirected, 5 * 32);
	assert_int_equal(metric_get(world->datapath, METRIC_NOTICES + NOTICE_ACCEL_FULL, &notices),
			 0);
	assert_int_equal(notices, 16);
	assert_int_equal(sockets_registered(world), 0);
}

/* After the datapath was removed nobody would change the policy of a live connection: it goes on by
 * packet. */
static void test_cleanup(void **state)
{
	struct world *world = *state;
	struct datapath_options options = scratch_options();
	struct datapath *trial = world->datapath;
	auto_pair struct pair pair = PAIR_INIT;
	struct errmsg err = {};

	redirect_allow(world, false); /* the trial's programs keep out of it */
	options.accel = true;
	options.cgroup = scratch_cgroup();
	if (datapath_open(&options, &world->datapath, &err) < 0 ||
	    pods_publish(world->pods, world->datapath, ENDPOINT_ACCEL, &err) < 0)
		fail_msg("%s", err.text);
	redirect_allow(world, true);
	assert_true(datapath_accel(world->datapath));
	pair_open(world, &pair);
	assert_int_equal(say(world, &pair, CLIENT, "before "), 7);
	if (datapath_cleanup(options.pin_dir, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(say(world, &pair, CLIENT, "after"), 0);
	hear(&pair, SERVER, "before after");
	datapath_close(world->datapath);
	world->datapath = trial;
}

/* ---- the agent's own test ------------------------------------------------------------------- */

static void test_selftest(void **state)
{
	struct selftest *selftest = NULL;
	struct selftest_check check;
	struct errmsg err = {};
	int count = 0;

	(void)state;
	if (selftest_new(&selftest, &err) < 0)
		fail_msg("%s", err.text);
	while (selftest_next(selftest, &check)) {
		print_message("self-test %s: %s %s\n", check.name,
			      check.passed ? "passed" : "failed", check.detail);
		if (check.required && !check.passed)
			fail_msg("self-test %s failed: %s", check.name, check.detail);
		assert_true(check.passed == (check.detail[0] == '\0'));
		count++;
	}
	selftest_free(selftest);
	assert_true(count >= 10);
}

#define CASE(name, function)                                \
	{                                                   \
		name, function, world_new, world_free, NULL \
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE("messages of two pods that asked go from socket to socket",
		     test_both_families),
		CASE("pods that did not ask are untouched", test_opt_in),
		CASE("strangers and a pod's own connections are untouched", test_strangers),
		CASE("no byte overtakes one that went by packet", test_packets_are_final),
		CASE("falling back keeps the order", test_fallback_keeps_order),
		CASE("order is kept when the handshake's ACK is lost", test_lost_handshake_ack),
		CASE("bytes written before establishment stay first",
		     test_written_before_established),
		CASE("a socket that connects again stays with packets", test_socket_reused),
		CASE("a receiver that does not read costs bounded memory", test_unread_is_bounded),
		CASE("a receiver that is behind but reads is not given up", test_queue_never_empty),
		CASE("a change of policy that still allows is not felt", test_policy_still_allows),
		CASE("a forbidden connection falls back at its next message", test_policy_forbids),
		CASE("another endpoint in the peer's place is noticed", test_endpoint_changes),
		CASE("half close", test_half_close),
		CASE("short connections leave nothing behind", test_short_connections),
		CASE("only the socket that is meant is destroyed", test_destroy),
		CASE("a repaired socket is not registered", test_repair),
		CASE("MPTCP is not registered", test_mptcp),
		CASE("a full table leaves connections to packets", test_table_full),
		CASE("cleanup sends connections back to packets", test_cleanup),
		cmocka_unit_test_setup_teardown(test_selftest, NULL, NULL),
	};

	return cmocka_run_group_tests_name("accel", tests, group_setup, group_teardown);
}
