/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What tcp_state reports of connections that end in every way, held against what their programs
 * sent and received: by packets of both families, and from socket to socket.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/bpf.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "harness/scratch.h"
#include "harness/streams.h"
#include "lib/auto.h"
#include "lib/clock.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define EVENTS_MAX 64
#define NS_PER_US  1000

static struct tcp_event events[EVENTS_MAX];
static size_t event_count; /* also of those that found no room */

static void on_event(const struct tcp_event *event, void *arg)
{
	(void)arg;
	if (event_count < EVENTS_MAX)
		events[event_count] = *event;
	event_count++;
}

static void events_read(struct store *store)
{
	assert_true(tcp_events_consume(store->datapath, on_event, NULL, NULL) >= 0);
}

static void events_forget(struct store *store)
{
	events_read(store);
	event_count = 0;
}

/* The one report of a pod's end; waits for it. */
static const struct tcp_event *event_of(struct store *store, int pod)
{
	uint64_t until = now_ns() + (uint64_t)WAIT_MS * 1000000;

	do {
		events_read(store);
		for (size_t i = 0; i < event_count && i < EVENTS_MAX; i++) {
			if (events[i].slot == store->pods->pod[pod].slot)
				return &events[i];
		}
		poll(NULL, 0, 1); /* pace of the poll */
	} while (now_ns() < until);
	fail_msg("no report of pod %d", pod);
	return NULL;
}

/* ---- set-up --------------------------------------------------------------------------------- */

static int setup(void **state, bool tcp)
{
	struct datapath_options options = scratch_options();
	struct store *store = calloc(1, sizeof(*store));
	struct errmsg err = {};

	*state = store;
	options.cgroup = scratch_cgroup();
	options.accel = true;
	options.limits.endpoints = 16;
	if (pods_new(POD_COUNT, true, &store->pods, &err) < 0 ||
	    datapath_open(&options, &store->datapath, &err) < 0 ||
	    pods_publish(store->pods, store->datapath, ENDPOINT_ACCEL, &err) < 0 ||
	    (tcp && datapath_load_tcp(store->datapath, &options, &err) < 0)) {
		print_error("%s\n", err.text);
		return -1;
	}
	maps_node(store->datapath)->flags = 0;
	events_forget(store);
	return 0;
}

static int setup_loaded(void **state)
{
	return setup(state, true);
}

static int setup_unloaded(void **state)
{
	return setup(state, false);
}

static int teardown(void **state)
{
	struct store *store = *state;
	struct errmsg err = {};

	datapath_close(store->datapath);
	pods_free(store->pods);
	free(store);
	return datapath_cleanup(SCRATCH_PIN_DIR, &err);
}

/* ---- what is reported ----------------------------------------------------------------------- */

static void close_end(struct pair *pair, int end)
{
	close(take_fd(&pair->fd[end]));
}

/* The client closes first, and the server when it sees that. */
static void close_in_order(struct pair *pair)
{
	assert_int_equal(shutdown(pair->fd[CLIENT], SHUT_WR), 0);
	hear_end(pair, SERVER);
	close_end(pair, SERVER);
	hear_end(pair, CLIENT);
	close_end(pair, CLIENT);
}

static void assert_ends(struct store *store, const struct tcp_event *event, int own, int peer,
			bool v6)
{
	const struct pod *mine = &store->pods->pod[own], *theirs = &store->pods->pod[peer];

	assert_memory_equal(&event->flow.saddr, v6 ? &mine->v6 : &mine->v4, 16);
	assert_memory_equal(&event->flow.daddr, v6 ? &theirs->v6 : &theirs->v4, 16);
	assert_int_equal(event->netns_cookie, mine->netns_cookie);
	assert_int_equal(event->opener, own == CLIENT);
	assert_int_equal(own == CLIENT ? event->flow.dport : event->flow.sport, htons(PORT));
	assert_int_not_equal(own == CLIENT ? event->flow.sport : event->flow.dport, 0);
}

static void assert_times(const struct tcp_event *event, uint64_t before, uint64_t after)
{
	assert_true(event->start_ns >= before);
	assert_true(event->time_ns >= event->start_ns);
	assert_true(event->time_ns <= after);
	assert_true(!event->opener ||
		    (event->handshake_us > 0 &&
		     event->handshake_us * NS_PER_US <= event->time_ns - event->start_ns));
	assert_true(event->srtt_us > 0 && event->srtt_us * NS_PER_US <= after - before);
}

static void assert_bytes(const struct tcp_event *event, uint64_t sent, uint64_t received)
{
	assert_int_equal(event->sent + event->accel_sent, sent);
	assert_int_equal(event->received + event->accel_received, received);
}

static void run_in_order(struct store *store, int family, bool v6, int listener_family, bool accel)
{
	const struct pod *server = &store->pods->pod[SERVER];
	auto_pair struct pair pair = PAIR_INIT;
	const struct tcp_event *event;
	uint64_t before = now_ns();

	events_forget(store);
	redirect_allow(store, accel);
	pair_open_as(store, family, v6 ? &server->v6 : &server->v4, listener_family, &pair);
	assert_int_equal(say(store, &pair, CLIENT, "question"), accel ? 8 : 0);
	hear(&pair, SERVER, "question");
	assert_int_equal(say(store, &pair, SERVER, "the answer"), accel ? 10 : 0);
	hear(&pair, CLIENT, "the answer");
	close_in_order(&pair);
	event = event_of(store, CLIENT);
	assert_ends(store, event, CLIENT, SERVER, v6);
	assert_times(event, before, now_ns());
	assert_bytes(event, 8, 10);
	assert_int_equal(event->accel_sent, accel ? 8 : 0);
	assert_int_equal(event->accel_received, accel ? 10 : 0);
	assert_true(event->fin_sent && event->fin_received);
	assert_int_equal(event->error, 0);
	assert_int_equal(event->retransmits, 0);
	assert_true(event->segments_out >= 2 && event->segments_in >= 2);
	event = event_of(store, SERVER);
	assert_ends(store, event, SERVER, CLIENT, v6);
	assert_times(event, before, now_ns());
	assert_bytes(event, 10, 8);
	assert_int_equal(event->accel_sent, accel ? 10 : 0);
	assert_int_equal(event->accel_received, accel ? 8 : 0);
	assert_true(event->fin_sent && event->fin_received);
	assert_int_equal(event->error, 0);
	assert_int_equal(event_count, 2);
}

static void test_each_end_reports_once(void **state)
{
	run_in_order(*state, AF_INET, false, AF_INET, false);
	run_in_order(*state, AF_INET6, true, AF_INET6, false);
	run_in_order(*state, AF_INET, false, AF_INET6, false); /* a dual-stack listener */
	run_in_order(*state, AF_INET6, false, AF_INET6, false);
}

static void test_accelerated_bytes_count(void **state)
{
	run_in_order(*state, AF_INET, false, AF_INET, true);
	run_in_order(*state, AF_INET6, true, AF_INET6, true);
}

/* Part of the bytes goes by packet, part from socket to socket. */
static void test_bytes_of_both_ways_add_up(void **state)
{
	struct store *store = *state;
	auto_pair struct pair pair = PAIR_INIT;

	redirect_allow(store, true);
	pair_open(store, &pair);
	assert_int_equal(say(store, &pair, CLIENT, "one "), 4);
	redirect_allow(store, false);
	assert_int_equal(say(store, &pair, CLIENT, "more"), 0);
	hear(&pair, SERVER, "one more");
	close_in_order(&pair);
	assert_bytes(event_of(store, CLIENT), 8, 0);
	assert_bytes(event_of(store, SERVER), 0, 8);
	assert_int_equal(event_of(store, SERVER)->accel_received, 4);
}

static void test_a_connection_without_a_byte(void **state)
{
	struct store *store = *state;
	auto_pair struct pair pair = PAIR_INIT;

	pair_open(store, &pair);
	close_in_order(&pair);
	for (int end = CLIENT; end <= SERVER; end++) {
		assert_bytes(event_of(store, end), 0, 0);
		assert_true(event_of(store, end)->fin_sent);
	}
}

static void test_a_reset_has_its_bytes(void **state)
{
	const struct linger at_once = { .l_onoff = 1 };
	struct store *store = *state;
	auto_pair struct pair pair = PAIR_INIT;

	pair_open(store, &pair);
	say(store, &pair, CLIENT, "question");
	hear(&pair, SERVER, "question");
	say(store, &pair, SERVER, "answer");
	hear(&pair, CLIENT, "answer");
	assert_int_equal(
		setsockopt(pair.fd[CLIENT], SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)), 0);
	close_end(&pair, CLIENT);
	assert_bytes(event_of(store, CLIENT), 8, 6);
	assert_int_equal(event_of(store, CLIENT)->old_state, BPF_TCP_ESTABLISHED);
	assert_int_equal(event_of(store, CLIENT)->error, 0);
	assert_false(event_of(store, CLIENT)->fin_sent);
	/* While its program still holds it. */
	assert_bytes(event_of(store, SERVER), 6, 8);
	assert_int_equal(event_of(store, SERVER)->error, ECONNRESET);
	assert_false(event_of(store, SERVER)->fin_received);
	close_end(&pair, SERVER);
	events_read(store);
	assert_int_equal(event_count, 2);
}

/* The client has ended its direction, the server goes on, and gives up in the end. */
static void test_a_connection_that_is_half_closed(void **state)
{
	struct store *store = *state;
	auto_pair struct pair pair = PAIR_INIT;

	pair_open(store, &pair);
	say(store, &pair, CLIENT, "all");
	assert_int_equal(shutdown(pair.fd[CLIENT], SHUT_WR), 0);
	hear(&pair, SERVER, "all");
	hear_end(&pair, SERVER);
	say(store, &pair, SERVER, "still here");
	hear(&pair, CLIENT, "still here");
	events_read(store);
	assert_int_equal(event_count, 0);
	close_end(&pair, SERVER);
	hear_end(&pair, CLIENT);
	close_end(&pair, CLIENT);
	assert_bytes(event_of(store, CLIENT), 3, 10);
	assert_bytes(event_of(store, SERVER), 10, 3);
}

static void test_connections_that_fail(void **state)
{
	struct store *store = *state;
	const struct pod *client = &store->pods->pod[CLIENT], *server = &store->pods->pod[SERVER];
	const struct addr nobody = { { 0, 0, htonl(0xffff), htonl(0xc0000201) } };
	auto_close int refused = connect_start(client, AF_INET, &server->v4);
	int alone;

	assert_true(refused >= 0);
	assert_int_equal(event_of(store, CLIENT)->error, ECONNREFUSED);
	assert_int_equal(event_of(store, CLIENT)->old_state, BPF_TCP_SYN_SENT);
	assert_true(event_of(store, CLIENT)->opener);
	assert_ends(store, event_of(store, CLIENT), CLIENT, SERVER, false);
	assert_bytes(event_of(store, CLIENT), 0, 0);
	events_forget(store);
	/* Nobody answers, and the program loses patience. */
	alone = connect_start(client, AF_INET, &nobody);
	close(alone);
	assert_int_equal(event_of(store, CLIENT)->old_state, BPF_TCP_SYN_SENT);
	assert_int_equal(event_of(store, CLIENT)->error, 0);
	assert_memory_equal(&event_of(store, CLIENT)->flow.daddr, &nobody, sizeof(nobody));
	assert_int_equal(event_of(store, CLIENT)->handshake_us, 0);
}

static void test_what_is_sent_again_counts_once(void **state)
{
	struct store *store = *state;
	const struct pod *client = &store->pods->pod[CLIENT];
	auto_pair struct pair pair = PAIR_INIT;
	int loss;

	pair_open(store, &pair);
	loss = loss_begin(store->pods, client);
	say(store, &pair, CLIENT, "question");
	loss_end(store->pods, client, loss);
	hear(&pair, SERVER, "question");
	close_in_order(&pair);
	assert_bytes(event_of(store, CLIENT), 8, 0);
	assert_bytes(event_of(store, SERVER), 0, 8);
	assert_true(event_of(store, CLIENT)->retransmits >= 1);
	assert_int_equal(event_of(store, SERVER)->retransmits, 0);
}

/* A connection over the loopback of a pod, or with -1 of the test's own namespace. */
static void assert_unreported(struct store *store, int where)
{
	auto_pair struct pair pair = PAIR_INIT;
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_port = htons(PORT),
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	auto_close int listener = -1;

	listener = where < 0 ? socket(AF_INET, SOCK_STREAM, 0)
			     : pods_socket(&store->pods->pod[where], AF_INET, SOCK_STREAM);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int));
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listener, 1), 0);
	pair.fd[CLIENT] = where < 0 ? socket(AF_INET, SOCK_STREAM, 0)
				    : pods_socket(&store->pods->pod[where], AF_INET, SOCK_STREAM);
	assert_int_equal(connect(pair.fd[CLIENT], (struct sockaddr *)&address, sizeof(address)), 0);
	connect_accept(listener, &pair);
	close_in_order(&pair);
	events_read(store);
	assert_int_equal(event_count, 0);
}

static void test_only_what_leaves_a_pod_is_reported(void **state)
{
	assert_unreported(*state, -1);
	assert_unreported(*state, CLIENT);
}

static void test_what_was_open_before_has_no_beginning(void **state)
{
	struct datapath_options options = scratch_options();
	struct store *store = *state;
	auto_pair struct pair pair = PAIR_INIT;
	struct errmsg err = {};

	options.cgroup = scratch_cgroup();
	options.limits.endpoints = 16;
	pair_open(store, &pair);
	assert_int_equal(datapath_load_tcp(store->datapath, &options, &err), 0);
	say(store, &pair, CLIENT, "late");
	hear(&pair, SERVER, "late");
	close_in_order(&pair);
	assert_int_equal(event_of(store, CLIENT)->start_ns, 0);
	assert_bytes(event_of(store, CLIENT), 4, 0);
	assert_int_equal(event_of(store, SERVER)->start_ns, 0);
	assert_bytes(event_of(store, SERVER), 0, 4);
}

/* Nobody reads: what finds no room is counted, and the connections do not notice. */
static void test_a_full_ring_is_counted(void **state)
{
	const struct linger at_once = { .l_onoff = 1 };
	struct store *store = *state;
	const size_t flood = 2000; /* two reports each; the ring holds some 3400 */
	uint64_t lost = 0;

	for (size_t i = 0; i < flood; i++) {
		auto_pair struct pair pair = PAIR_INIT;

		pair_open(store, &pair);
		setsockopt(pair.fd[SERVER], SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
		close_end(&pair, SERVER);
	}
	events_read(store);
	assert_int_equal(metric_get(store->datapath, METRIC_NOTICES + NOTICE_TCP_LOST, &lost), 0);
	assert_true(lost > 0);
	assert_int_equal(event_count + lost, 2 * flood);
	events_forget(store);
	test_a_connection_without_a_byte(state);
}

/* The agent sleeps while nothing ends, is woken by the first report, and may say that it looks by
 * itself. */
static void test_wakeups_are_the_agents_choice(void **state)
{
	struct store *store = *state;
	int fd = tcp_events_fd(store->datapath);

	assert_false(is_ready(fd, POLLIN, 0));
	maps_node(store->datapath)->flags = NODE_POLLS_TCP;
	test_a_connection_without_a_byte(state);
	assert_false(is_ready(fd, POLLIN, 0));
	events_forget(store);
	maps_node(store->datapath)->flags = 0;
	{
		auto_pair struct pair pair = PAIR_INIT;

		pair_open(store, &pair);
		close_in_order(&pair);
	}
	assert_true(is_ready(fd, POLLIN, WAIT_MS));
}

/* A later process puts its program in the place of the former one, which reports nothing more. */
static void test_a_restart_reports_once(void **state)
{
	struct datapath_options options = scratch_options();
	struct store *store = *state;
	auto_pair struct pair pair = PAIR_INIT;
	struct errmsg err = {};

	options.cgroup = scratch_cgroup();
	options.accel = true;
	options.limits.endpoints = 16;
	pair_open(store, &pair);
	datapath_close(store->datapath);
	assert_int_equal(datapath_open(&options, &store->datapath, &err), 0);
	assert_int_equal(datapath_load_tcp(store->datapath, &options, &err), 0);
	assert_int_equal(datapath_restore_links(store->datapath, &options, &err), 0);
	say(store, &pair, CLIENT, "after");
	hear(&pair, SERVER, "after");
	close_in_order(&pair);
	assert_bytes(event_of(store, CLIENT), 5, 0);
	assert_true(event_of(store, CLIENT)->start_ns > 0);
	assert_bytes(event_of(store, SERVER), 0, 5);
	assert_int_equal(event_count, 2);
}

#define CASE(function)                                            \
	{                                                         \
#function, function, setup_loaded, teardown, NULL \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_each_end_reports_once),
		CASE(test_accelerated_bytes_count),
		CASE(test_bytes_of_both_ways_add_up),
		CASE(test_a_connection_without_a_byte),
		CASE(test_a_reset_has_its_bytes),
		CASE(test_a_connection_that_is_half_closed),
		CASE(test_connections_that_fail),
		CASE(test_what_is_sent_again_counts_once),
		CASE(test_only_what_leaves_a_pod_is_reported),
		{ "test_what_was_open_before_has_no_beginning",
		  test_what_was_open_before_has_no_beginning, setup_unloaded, teardown, NULL },
		CASE(test_a_full_ring_is_counted),
		CASE(test_wakeups_are_the_agents_choice),
		CASE(test_a_restart_reports_once),
	};

	return streams_run("tcp", tests, ARRAY_SIZE(tests));
}
