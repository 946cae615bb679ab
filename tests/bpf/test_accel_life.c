/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accelerated connections as they live: unread data and its bound, changes of policy, half close,
 * the end, sockets that are not what they seem, and the agent's own test of all that.
 */
#include <errno.h>
#include <event2/event.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/accel/accel_tester.h"
#include "harness/entry.h"
#include "harness/scratch.h"
#include "harness/streams.h"
#include "lib/auto.h"
#include "lib/fork_server.h"
#include "lib/netns.h"
#include "lib/sockdiag.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define MPTCP 262 /* IPPROTO_MPTCP, younger than the C library */

/* ---- memory --------------------------------------------------------------------------------- */

/* Sends messages of one size until the socket is full; returns the bytes sent. */
static size_t send_until_full(struct store *store, const struct pair *pair, size_t size)
{
	auto_free char *message = calloc(1, size);
	size_t sent = 0;
	ssize_t len;

	(void)store;
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
	struct store *store = *state;

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		auto_pair struct pair pair = PAIR_INIT;
		uint64_t before = stats_of(store, CLIENT).accel_bytes, redirected;
		size_t sent;

		pair_open(store, &pair);
		sent = send_until_full(store, &pair, sizes[i]);
		redirected = stats_of(store, CLIENT).accel_bytes - before;
		/* Each message counts with what the kernel spends on it. */
		assert_in_range(redirected + redirected / sizes[i] * ACCEL_MESSAGE_COST,
				ACCEL_QUEUE_MAX / 2, ACCEL_QUEUE_MAX);
		assert_true(sent > redirected);
		assert_false(is_ready(pair.fd[CLIENT], POLLOUT, 0));
		assert_int_equal(stats_of(store, CLIENT).accel_fallbacks, i + 1);
		receive_all(&pair, sent);
		assert_true(is_ready(pair.fd[CLIENT], POLLOUT, WAIT_MS));
	}
}

/* A receiver that is always some messages behind, but reads, is not given up. */
static void test_queue_never_empty(void **state)
{
	struct store *store = *state;
	auto_pair struct pair pair = PAIR_INIT;
	char message[100] = "", buf[100];

	pair_open(store, &pair);
	for (int i = 0; i < 10; i++)
		assert_int_equal(send(pair.fd[CLIENT], message, sizeof(message), 0), 100);
	for (int i = 0; i < 20000; i++) {
		assert_int_equal(send(pair.fd[CLIENT], message, sizeof(message), 0), 100);
		assert_int_equal(recv(pair.fd[SERVER], buf, sizeof(buf), 0), 100);
	}
	assert_int_equal(stats_of(store, CLIENT).accel_bytes, 100 * 20010);
	assert_int_equal(stats_of(store, CLIENT).accel_fallbacks, 0);
}

/* ---- policy --------------------------------------------------------------------------------- */

#define POLICY 5

static void policy_allow(struct store *store, int pod, enum direction direction, int peer)
{
	struct policy_key key = { .policy_id = POLICY,
				  .peer = IDENTITY_FIRST + store->pods->pod[peer].slot,
				  .direction = direction };
	struct policy_entry entry = { .rule_count = 1,
				      .rules = { { .port_min = PORT,
						   .port_max = PORT,
						   .proto = IPPROTO_TCP,
						   .verdict = VERDICT_ALLOW } } };

	(void)pod;
	assert_int_equal(policy_map_set(store->datapath, &key, &entry), 0);
}

/* A change of policy that still allows the connection changes nothing for it. */
static void test_policy_still_allows(void **state)
{
	struct store *store = *state;
	auto_pair struct pair pair = PAIR_INIT;

	policy_allow(store, SERVER, DIR_INGRESS, CLIENT);
	pair_open(store, &pair);
	assert_int_equal(say(store, &pair, CLIENT, "one "), 4);
	endpoint_change(store, SERVER, ENDPOINT_ACCEL | ENDPOINT_INGRESS_ISOLATED, POLICY);
	assert_int_equal(say(store, &pair, CLIENT, "two "), 4);
	/* Answers are allowed with the connection, though nothing allows the server to open one. */
	endpoint_change(store, SERVER,
			ENDPOINT_ACCEL | ENDPOINT_INGRESS_ISOLATED | ENDPOINT_EGRESS_ISOLATED,
			POLICY);
	assert_int_equal(say(store, &pair, SERVER, "answer"), 6);
	hear(&pair, SERVER, "one two ");
	hear(&pair, CLIENT, "answer");
	assert_int_equal(stats_of(store, CLIENT).accel_fallbacks, 0);
}

/* Forbidden connections fall back with their next message, in both directions; the packets then
 * meet tc (which this plain router does not have, so here they arrive). */
static void test_policy_forbids(void **state)
{
	struct store *store = *state;
	const struct {
		int pod;
		uint32_t flag;
	} cases[] = {
		{ SERVER, ENDPOINT_INGRESS_ISOLATED },
		{ CLIENT, ENDPOINT_EGRESS_ISOLATED },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		auto_pair struct pair pair = PAIR_INIT;

		pair_open(store, &pair);
		assert_int_equal(say(store, &pair, CLIENT, "one "), 4);
		assert_int_equal(say(store, &pair, SERVER, "five "), 5);
		endpoint_change(store, cases[i].pod, ENDPOINT_ACCEL | cases[i].flag, POLICY);
		assert_int_equal(say(store, &pair, CLIENT, "two "), 0);
		assert_int_equal(say(store, &pair, SERVER, "six "), 0);
		endpoint_change(store, cases[i].pod, ENDPOINT_ACCEL, 0);
		assert_int_equal(say(store, &pair, CLIENT, "three "), 0);
		hear(&pair, SERVER, "one two three ");
		hear(&pair, CLIENT, "five six ");
		assert_int_equal(stats_of(store, CLIENT).accel_fallbacks, i + 1);
	}
	/* What the first packet passed under is not believed: policy is asked at the first message.
	 */
	for (int end = 0; end < 2; end++) {
		auto_pair struct pair pair = PAIR_INIT;

		pair_open(store, &pair);
		endpoint_change(store, SERVER, ENDPOINT_ACCEL | ENDPOINT_INGRESS_ISOLATED, POLICY);
		assert_int_equal(say(store, &pair, end, "one"), 0);
		endpoint_change(store, SERVER, ENDPOINT_ACCEL, 0);
	}
}

/* An endpoint that is no longer the one the connection was made with, or no longer asks. */
static void test_endpoint_changes(void **state)
{
	struct store *store = *state;
	const struct pod *server = &store->pods->pod[SERVER];
	struct endpoint_entry replaced = pods_endpoint(server);

	for (int i = 0; i < 3; i++) {
		auto_pair struct pair pair = PAIR_INIT;

		pair_open(store, &pair);
		assert_int_equal(say(store, &pair, CLIENT, "one "), 4);
		replaced = pods_endpoint(server);
		replaced.flags |= i == 0 ? 0 : ENDPOINT_ACCEL;
		if (i == 1) /* the same address, another namespace */
			replaced.netns_cookie = store->pods->pod[OTHER].netns_cookie;
		if (i == 2) /* the same namespace, another address */
			replaced.v4 = store->pods->pod[OTHER].v4;
		assert_int_equal(endpoint_map_set(store->datapath, server->slot, &replaced), 0);
		maps_bump_revision(store->datapath);
		assert_int_equal(say(store, &pair, CLIENT, "two"), 0);
		hear(&pair, SERVER, "one two");
		endpoint_change(store, SERVER, ENDPOINT_ACCEL, 0);
	}
}

/* ---- endings -------------------------------------------------------------------------------- */

static void test_half_close(void **state)
{
	struct store *store = *state;
	auto_pair struct pair pair = PAIR_INIT;

	pair_open(store, &pair);
	assert_int_equal(say(store, &pair, CLIENT, "question"), 8);
	shutdown(pair.fd[CLIENT], SHUT_WR);
	hear(&pair, SERVER, "question");
	hear_end(&pair, SERVER);
	assert_int_equal(say(store, &pair, SERVER, "answer"), 0);
	hear(&pair, CLIENT, "answer");
	close(take_fd(&pair.fd[SERVER]));
	hear_end(&pair, CLIENT);
}

/* Nothing is left in the maps, and each stream is whole although the FIN is right behind. */
static void test_short_connections(void **state)
{
	struct store *store = *state;
	const struct pod *server = &store->pods->pod[SERVER];
	auto_close int listener = listener_new(server, AF_INET);
	uint64_t before = stats_of(store, CLIENT).accel_bytes;

	for (int i = 0; i < 2000; i++) {
		auto_pair struct pair pair = PAIR_INIT;
		char buf[16];

		pair.fd[CLIENT] = connect_start(&store->pods->pod[CLIENT], AF_INET, &server->v4);
		connect_accept(listener, &pair);
		assert_int_equal(send(pair.fd[CLIENT], "short", 5, MSG_NOSIGNAL), 5);
		close(take_fd(&pair.fd[CLIENT]));
		assert_int_equal(recv(pair.fd[SERVER], buf, sizeof(buf), 0), 5);
		hear_end(&pair, SERVER);
	}
	assert_int_equal(stats_of(store, CLIENT).accel_bytes - before, 5 * 2000);
	assert_int_equal(sockets_registered(store), 0);
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

static uint64_t cookie_of(int fd)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len), 0);
	return cookie;
}

/* accel_map names sockets exactly, and only the one that is meant can be destroyed. */
static void test_destroy(void **state)
{
	struct store *store = *state;
	auto_netlink struct netlink netlink = NETLINK_INIT;
	auto_pair struct pair pair = PAIR_INIT;
	struct sockdiag_socket own = { .flow.proto = IPPROTO_TCP };
	struct errmsg err = {};
	struct found found = {};
	char byte;

	pair_open(store, &pair);
	assert_int_equal(accel_map_foreach(store->datapath, find_opener, &found), 1);
	assert_int_equal(found.cookie, cookie_of(pair.fd[CLIENT]));
	own.flow.saddr = found.key.local;
	own.flow.daddr = found.key.remote;
	own.flow.sport = found.key.local_port;
	own.flow.dport = found.key.remote_port;
	own.cookie = found.cookie + 1;
	assert_int_equal(sockdiag_open(&netlink, store->pods->pod[CLIENT].netns_fd, &err), 0);
	assert_int_equal(sockdiag_destroy(&netlink, &own, &err), -ENOENT);
	assert_int_equal(say(store, &pair, CLIENT, "alive"), 5);
	hear(&pair, SERVER, "alive");
	own.cookie = found.cookie;
	assert_int_equal(sockdiag_destroy(&netlink, &own, &err), 0);
	assert_true(is_ready(pair.fd[CLIENT], POLLERR, WAIT_MS));
	assert_int_equal(recv(pair.fd[CLIENT], &byte, 1, 0), -1);
	assert_int_equal(errno, ECONNABORTED);
	assert_true(is_ready(pair.fd[SERVER], POLLERR, WAIT_MS));
	assert_int_equal(sockdiag_destroy(&netlink, &own, &err), -ENOENT);
	pair_done(&pair); /* the kernel keeps them in the map until their programs close them */
	assert_int_equal(sockets_registered(store), 0);
}

/* A socket that claims a connection without a handshake (TCP_REPAIR) is not believed. */
static void test_repair(void **state)
{
	struct store *store = *state;
	const struct pod *server = &store->pods->pod[SERVER];
	struct sockaddr_storage address;
	socklen_t len = sockaddr_fill(&server->v4, PORT, AF_INET, &address);
	auto_close int fd = pods_socket(&store->pods->pod[CLIENT], AF_INET, SOCK_STREAM);

	assert_true(fd >= 0);
	assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &(int){ 1 }, sizeof(int)), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, len), 0);
	assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &(int){ 0 }, sizeof(int)), 0);
	assert_int_equal(sockets_registered(store), 0);
}

/* MPTCP carries one stream over several TCP sockets: those are not what they seem. */
static void test_mptcp(void **state)
{
	struct store *store = *state;
	const struct pod *server = &store->pods->pod[SERVER];
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
	pair.fd[CLIENT] = netns_socket(store->pods->pod[CLIENT].netns_fd, AF_INET,
				       SOCK_STREAM | SOCK_NONBLOCK, MPTCP, &err);
	assert_true(pair.fd[CLIENT] >= 0);
	if (connect(pair.fd[CLIENT], (struct sockaddr *)&address, len) < 0)
		assert_int_equal(errno, EINPROGRESS);
	connect_accept(listener, &pair);
	assert_int_equal(sockets_registered(store), 0);
	assert_int_equal(say(store, &pair, CLIENT, "question"), 0);
	hear(&pair, SERVER, "question");
	assert_int_equal(say(store, &pair, SERVER, "answer"), 0);
	hear(&pair, CLIENT, "answer");
}

/* ---- limits and the end --------------------------------------------------------------------- */

static void test_table_full(void **state)
{
	struct store *store = *state;
	const struct pod *server = &store->pods->pod[SERVER];
	auto_close int listener = listener_new(server, AF_INET);
	struct pair pairs[40];
	uint64_t notices = 0;
	size_t redirected = 0;

	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		pairs[i] = (struct pair)PAIR_INIT;
		pairs[i].fd[CLIENT] =
			connect_start(&store->pods->pod[CLIENT], AF_INET, &server->v4);
		connect_accept(listener, &pairs[i]);
	}
	/* A trial has room for 64 sockets; what found none talks by packet. */
	assert_int_equal(sockets_registered(store), 64);
	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		redirected += say(store, &pairs[i], CLIENT, "12345");
		hear(&pairs[i], SERVER, "12345");
		pair_done(&pairs[i]);
	}
	assert_int_equal(redirected, 5 * 32);
	assert_int_equal(metric_get(store->datapath, METRIC_NOTICES + NOTICE_ACCEL_FULL, &notices),
			 0);
	assert_int_equal(notices, 16);
	assert_int_equal(sockets_registered(store), 0);
}

/* After the datapath was removed nobody would change the policy of a live connection: it goes on by
 * packet. */
static void test_cleanup(void **state)
{
	struct store *store = *state;
	struct datapath_options options = scratch_options();
	struct datapath *trial = store->datapath;
	auto_pair struct pair pair = PAIR_INIT;
	struct errmsg err = {};

	redirect_allow(store, false); /* the trial's programs keep out of it */
	options.accel = true;
	options.cgroup = scratch_cgroup();
	if (datapath_open(&options, &store->datapath, &err) < 0 ||
	    pods_publish(store->pods, store->datapath, ENDPOINT_ACCEL, &err) < 0)
		fail_msg("%s", err.text);
	redirect_allow(store, true);
	assert_true(datapath_accel(store->datapath));
	pair_open(store, &pair);
	assert_int_equal(say(store, &pair, CLIENT, "before "), 7);
	if (datapath_cleanup(options.pin_dir, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(say(store, &pair, CLIENT, "after"), 0);
	hear(&pair, SERVER, "before after");
	datapath_close(store->datapath);
	store->datapath = trial;
}

/* ---- the agent's own test ------------------------------------------------------------------- */

struct selftest_run {
	struct event_base *base;
	struct fork_server *server;
	struct accel_tester *tester;
	unsigned int checks;
	char failure[240];
};

static void on_check(const struct selftest_check *check, void *arg)
{
	struct selftest_run *run = arg;

	print_message("self-test %s: %s %s\n", check->name, check->passed ? "passed" : "failed",
		      check->detail);
	if (check->required && !check->passed)
		fail_msg("self-test %s failed: %s", check->name, check->detail);
	assert_true(check->passed == (check->detail[0] == '\0'));
	run->checks++;
}

static void on_ended(const char *failure, void *arg)
{
	struct selftest_run *run = arg;

	snprintf(run->failure, sizeof(run->failure), "%s", failure ? failure : "");
	accel_tester_free(take_ptr(run->tester));
	event_base_loopbreak(run->base);
}

static void selftest_begin(struct selftest_run *run)
{
	static const struct fork_server_kind kinds[] = { { ACCEL_TESTER_NAME, accel_tester_run } };
	struct errmsg err = {};

	*run = (struct selftest_run){ .base = event_base_new() };
	assert_non_null(run->base);
	if (fork_server_new(NULL, kinds, ARRAY_SIZE(kinds), &run->server, &err) < 0)
		fail_msg("%s", err.text);
	if (accel_tester_new(run->base, run->server, on_check, on_ended, run, &run->tester, &err) <
	    0)
		fail_msg("%s", err.text);
}

static void selftest_end(struct selftest_run *run)
{
	event_base_dispatch(run->base);
	assert_null(run->tester);
	event_base_free(run->base);
	fork_server_free(run->server);
}

static void test_selftest(void **state)
{
	struct selftest_run run;

	(void)state;
	selftest_begin(&run);
	selftest_end(&run);
	assert_string_equal(run.failure, "");
	assert_true(run.checks >= 10);
}

static void test_selftest_that_dies(void **state)
{
	struct selftest_run run;

	(void)state;
	selftest_begin(&run);
	assert_int_equal(kill(accel_tester_pid(run.tester), SIGKILL), 0);
	selftest_end(&run);
	assert_string_equal(run.failure, "its process died");
}

#define CASE(name, function)                                          \
	{                                                             \
		name, function, streams_setup, streams_teardown, NULL \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
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
		cmocka_unit_test_setup_teardown(test_selftest_that_dies, NULL, NULL),
	};

	return streams_run("accel life", tests, ARRAY_SIZE(tests));
}
