/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Socket acceleration over real sockets: whose messages go from socket to socket, and that no byte
 * overtakes another.  Each row of the table in doc/acceleration.md that the guard prevents has a
 * case here or in test_accel_life.c.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

#include "harness/scratch.h"
#include "harness/streams.h"
#include "lib/auto.h"
#include "lib/netns.h"

#include <cmocka.h> /* last: its fail() is a macro */

/* ---- who is accelerated --------------------------------------------------------------------- */

static void test_both_families(void **state)
{
	struct store *store = *state;
	const struct pod *server = &store->pods->pod[SERVER];
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
		struct endpoint_stats before = stats_of(store, CLIENT);

		pair_open_as(store, cases[i].family, cases[i].to, cases[i].listener_family, &pair);
		assert_int_equal(sockets_registered(store), 2);
		assert_int_equal(say(store, &pair, CLIENT, "question"), 8);
		hear(&pair, SERVER, "question");
		assert_int_equal(say(store, &pair, SERVER, "answer"), 6);
		hear(&pair, CLIENT, "answer");
		assert_int_equal(stats_of(store, CLIENT).accel_connections,
				 before.accel_connections + 1);
		assert_int_equal(stats_of(store, CLIENT).accel_fallbacks, before.accel_fallbacks);
		/* Nothing of it went by packet. */
		assert_int_equal(tcp_info_of(pair.fd[CLIENT]).tcpi_bytes_sent, 0);
	}
	assert_int_equal(sockets_registered(store), 0);
}

/* Sockets of pods that did not ask are in no map, and their bytes go by packet. */
static void assert_untouched(struct store *store, const char *why)
{
	auto_pair struct pair pair = PAIR_INIT;

	pair_open(store, &pair);
	if (sockets_registered(store))
		fail_msg("%s: registered", why);
	assert_int_equal(say(store, &pair, CLIENT, "question"), 0);
	hear(&pair, SERVER, "question");
	assert_int_equal(say(store, &pair, SERVER, "answer"), 0);
	hear(&pair, CLIENT, "answer");
	assert_int_equal(tcp_info_of(pair.fd[CLIENT]).tcpi_bytes_sent, 8);
	assert_int_equal(tcp_info_of(pair.fd[SERVER]).tcpi_bytes_sent, 6);
	assert_int_equal(tcp_info_of(pair.fd[CLIENT]).tcpi_bytes_received, 6);
}

static void test_opt_in(void **state)
{
	struct store *store = *state;

	endpoint_change(store, CLIENT, 0, 0);
	assert_untouched(store, "only the server asked");
	endpoint_change(store, SERVER, 0, 0);
	assert_untouched(store, "nobody asked");
	endpoint_change(store, CLIENT, ENDPOINT_ACCEL, 0);
	assert_untouched(store, "only the client asked");
	endpoint_change(store, SERVER, ENDPOINT_ACCEL, 0);
	redirect_allow(store, false);
	assert_untouched(store, "acceleration is off");
	assert_int_equal(stats_of(store, CLIENT).accel_fallbacks, 0);
}

/* Neither a namespace that is no pod's, nor a pod's connection to itself. */
static void test_strangers(void **state)
{
	struct store *store = *state;
	const struct pod *server = &store->pods->pod[SERVER];
	auto_close int listener = listener_new(server, AF_INET);
	auto_pair struct pair stranger = PAIR_INIT, self = PAIR_INIT;

	assert_int_equal(endpoint_map_del(store->datapath, store->pods->pod[CLIENT].slot), 0);
	stranger.fd[CLIENT] = connect_start(&store->pods->pod[CLIENT], AF_INET, &server->v4);
	connect_accept(listener, &stranger);
	assert_int_equal(send(stranger.fd[CLIENT], "x", 1, 0), 1);
	hear(&stranger, SERVER, "x");
	self.fd[CLIENT] = connect_start(server, AF_INET, &server->v4);
	connect_accept(listener, &self);
	assert_int_equal(send(self.fd[CLIENT], "x", 1, 0), 1);
	hear(&self, SERVER, "x");
	assert_int_equal(sockets_registered(store), 0);
}

/* ---- order ---------------------------------------------------------------------------------- */

/* Once a byte went by packet, no later one may overtake it. */
static void test_packets_are_final(void **state)
{
	struct store *store = *state;
	auto_pair struct pair pair = PAIR_INIT;

	pair_open(store, &pair);
	redirect_allow(store, false);
	assert_int_equal(say(store, &pair, CLIENT, "first "), 0);
	redirect_allow(store, true);
	for (int i = 0; i < 3; i++)
		assert_int_equal(say(store, &pair, CLIENT, "later "), 0);
	hear(&pair, SERVER, "first later later later ");
	assert_int_equal(stats_of(store, CLIENT).accel_fallbacks, 1);
	/* The other direction has sent nothing yet and is free to. */
	assert_int_equal(say(store, &pair, SERVER, "answer"), 6);
	hear(&pair, CLIENT, "answer");
}

static void test_fallback_keeps_order(void **state)
{
	struct store *store = *state;
	auto_pair struct pair pair = PAIR_INIT;

	pair_open(store, &pair);
	assert_int_equal(say(store, &pair, CLIENT, "one "), 4);
	assert_int_equal(say(store, &pair, CLIENT, "two "), 4);
	redirect_allow(store, false);
	assert_int_equal(say(store, &pair, CLIENT, "three "), 0);
	redirect_allow(store, true);
	assert_int_equal(say(store, &pair, CLIENT, "four "), 0);
	hear(&pair, SERVER, "one two three four ");
	assert_int_equal(stats_of(store, CLIENT).accel_fallbacks, 1);
	assert_int_equal(stats_of(store, CLIENT).accel_bytes, 8);
}

/* Bytes that were written before the socket was established went by packet without anybody asking
 * the sk_msg program. */
static void test_written_before_established(void **state)
{
	struct store *store = *state;
	const struct pod *server = &store->pods->pod[SERVER];
	auto_close int listener = listener_new(server, AF_INET);
	auto_pair struct pair pair = PAIR_INIT;
	struct sockaddr_storage address;
	socklen_t len = sockaddr_fill(&server->v4, PORT, AF_INET, &address);

	pair.fd[CLIENT] = pods_socket(&store->pods->pod[CLIENT], AF_INET, SOCK_STREAM);
	assert_true(pair.fd[CLIENT] >= 0);
	assert_int_equal(sendto(pair.fd[CLIENT], "first ", 6, MSG_FASTOPEN,
				(struct sockaddr *)&address, len),
			 6);
	connect_accept(listener, &pair);
	assert_int_equal(sockets_registered(store), 2);
	assert_int_equal(say(store, &pair, CLIENT, "second"), 0);
	hear(&pair, SERVER, "first second");
}

/* A socket that is disconnected and connects again cannot enter the map a second time; what it
 * decided for its first stream must not reach into the second. */
static void test_socket_reused(void **state)
{
	struct store *store = *state;
	const struct pod *server = &store->pods->pod[SERVER];
	auto_close int listener = listener_new(server, AF_INET);
	auto_pair struct pair pair = PAIR_INIT;
	struct sockaddr_storage address;
	socklen_t len = sockaddr_fill(&server->v4, PORT, AF_INET, &address);

	pair.fd[CLIENT] = connect_start(&store->pods->pod[CLIENT], AF_INET, &server->v4);
	connect_accept(listener, &pair);
	assert_int_equal(say(store, &pair, CLIENT, "once"), 4);
	hear(&pair, SERVER, "once");
	assert_int_equal(connect(pair.fd[CLIENT], &(struct sockaddr){ .sa_family = AF_UNSPEC },
				 sizeof(struct sockaddr)),
			 0);
	close(take_fd(&pair.fd[SERVER]));
	if (connect(pair.fd[CLIENT], (struct sockaddr *)&address, len) < 0)
		assert_int_equal(errno, EINPROGRESS);
	connect_accept(listener, &pair);
	assert_int_equal(say(store, &pair, CLIENT, "again"), 0);
	assert_int_equal(say(store, &pair, SERVER, "answer"), 0);
	hear(&pair, SERVER, "again");
	hear(&pair, CLIENT, "answer");
}

/* accel_peer_map of the trial, by the program that is attached to the cgroup. */
static int peer_map_open(void)
{
	uint32_t programs[4] = {}, maps[16] = {}, count = ARRAY_SIZE(programs);
	struct bpf_prog_info program = { .nr_map_ids = ARRAY_SIZE(maps),
					 .map_ids = (uintptr_t)maps };
	auto_close int cgroup = open(scratch_cgroup(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_close int fd = -1;
	uint32_t len = sizeof(program);

	assert_int_equal(bpf_prog_query(cgroup, BPF_CGROUP_SOCK_OPS, 0, NULL, programs, &count), 0);
	assert_int_equal(count, 1);
	fd = bpf_prog_get_fd_by_id(programs[0]);
	assert_int_equal(bpf_obj_get_info_by_fd(fd, &program, &len), 0);
	for (uint32_t i = 0; i < program.nr_map_ids; i++) {
		auto_close int map = bpf_map_get_fd_by_id(maps[i]);
		struct bpf_map_info info = {};

		len = sizeof(info);
		assert_int_equal(bpf_obj_get_info_by_fd(map, &info, &len), 0);
		if (strcmp(info.name, "accel_peer_map") == 0)
			return take_fd(&map);
	}
	fail_msg("the program uses no accel_peer_map");
	return -1;
}

/* The socket behind a peer's pointer may have been freed and its memory become another's, connected
 * between the same ports: only the cookie tells. */
static void test_peer_that_is_another_socket(void **state)
{
	struct store *store = *state;
	auto_pair struct pair pair = PAIR_INIT;
	auto_close int map = peer_map_open();
	struct accel_key key, *before = NULL;
	struct accel_peer peer;

	pair_open(store, &pair);
	for (int i = 0; i < 2; i++, before = &key) {
		assert_int_equal(bpf_map_get_next_key(map, before, &key), 0);
		assert_int_equal(bpf_map_lookup_elem(map, &key, &peer), 0);
		peer.cookie++;
		assert_int_equal(bpf_map_update_elem(map, &key, &peer, BPF_EXIST), 0);
	}
	assert_int_equal(say(store, &pair, CLIENT, "question"), 0);
	hear(&pair, SERVER, "question");
	assert_int_equal(say(store, &pair, SERVER, "answer"), 0);
	hear(&pair, CLIENT, "answer");
	assert_int_equal(stats_of(store, CLIENT).accel_fallbacks, 1);
}

/* The handshake's last ACK and the first data are lost: the client is established, the server is
 * not yet, and the first bytes arrive after the later ones were sent. */
static void test_lost_handshake_ack(void **state)
{
	struct store *store = *state;
	const struct pod *client = &store->pods->pod[CLIENT];
	const struct pod *server = &store->pods->pod[SERVER];
	auto_close int listener = listener_new(server, AF_INET);
	auto_pair struct pair pair = PAIR_INIT;
	int loss = loss_begin(store->pods, client);

	pair.fd[CLIENT] = connect_start(client, AF_INET, &server->v4);
	assert_true(is_ready(pair.fd[CLIENT], POLLOUT, WAIT_MS));
	assert_int_equal(say(store, &pair, CLIENT, "first "), 0);
	loss_end(store->pods, client, loss);
	/* "first" waits for its retransmission, while the next segment completes the handshake. */
	assert_int_equal(say(store, &pair, CLIENT, "second "), 0);
	connect_accept(listener, &pair);
	assert_int_equal(say(store, &pair, CLIENT, "third "), 0);
	hear(&pair, SERVER, "first second third ");
	assert_int_equal(say(store, &pair, SERVER, "answer"), 6);
	hear(&pair, CLIENT, "answer");
}

#define CASE(name, function)                                          \
	{                                                             \
		name, function, streams_setup, streams_teardown, NULL \
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
		CASE("another socket in the peer's place is noticed",
		     test_peer_that_is_another_socket),
	};

	return streams_run("accel", tests, ARRAY_SIZE(tests));
}
