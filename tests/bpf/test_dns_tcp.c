/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segments of TCP from port 53 are handed over if the pod's own socket opened the connection: all
 * of them, so that who reads them knows where messages begin.
 */
#include <arpa/inet.h>
#include <bpf/libbpf.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "harness/lab_socket.h"
#include "lib/auto.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define DNS 53

static struct dns_event last;
static size_t count;
static bool isolated;

static int on_event(void *arg, void *data, size_t size)
{
	(void)arg;
	assert_int_equal(size, sizeof(last));
	memcpy(&last, data, sizeof(last));
	count++;
	return 0;
}

static int reset(void **state)
{
	int ret = lab_reset(state);

	maps_node(lab.datapath)->flags |= NODE_DNS;
	count = 0;
	isolated = false;
	return ret;
}

/* Policy or none: what is judged by its entry is looked at, too. */
static int reset_isolated(void **state)
{
	int ret = reset(state);

	isolate(POD_A, ENDPOINT_INGRESS_ISOLATED);
	isolated = true;
	return ret;
}

/* Returns when the peer has it, so that what follows is a segment of its own. */
static void say(int from, int to, const char *text)
{
	struct pollfd readable = { .fd = to, .events = POLLIN };
	char got[64];

	assert_int_equal(send(from, text, strlen(text), 0), strlen(text));
	assert_int_equal(poll(&readable, 1, WAIT_MS), 1);
	assert_int_equal(recv(to, got, sizeof(got), 0), strlen(text));
}

static void test_answers_are_handed_over(void **state)
{
	struct ring_buffer *ring = ring_buffer__new(lab_map("dns_map"), on_event, NULL, NULL);
	const uint16_t port = lab_port();
	auto_close int client = -1, server = -1;
	uint32_t seq;

	(void)state;
	assert_non_null(ring);
	lab_attach();
	lab_connect(POD_A, port, POD_B, DNS, &client, &server);
	ring_buffer__consume(ring);
	count = 0;
	say(client, server, "a question");
	ring_buffer__consume(ring);
	assert_int_equal(count, 0);
	say(server, client, "answer");
	ring_buffer__consume(ring);
	assert_int_equal(count, 1);
	assert_int_equal(last.netns_cookie, lab.pods->pod[POD_A].netns_cookie);
	assert_int_equal(last.flow.proto, IPPROTO_TCP);
	assert_int_equal(ntohs(last.flow.dport), port);
	assert_int_equal(last.length, 6);
	assert_int_equal(last.payload, 6);
	assert_memory_equal(last.bytes, "answer", 6);
	assert_true(last.begins);
	seq = last.seq;
	say(server, client, "another");
	ring_buffer__consume(ring);
	assert_int_equal(count, 2);
	assert_false(last.begins);
	assert_int_equal(last.seq, seq + 6);
	assert_memory_equal(last.bytes, "another", 7);

	/* Nobody has asked for these. */
	if (isolated) {
		DROPS(INGRESS_DENIED, TCP(POD_C, POD_A, DNS, port, ACK | PSH), .payload = 5);
	} else {
		PASSES(TCP(POD_B, POD_A, DNS, port + 1, ACK | PSH), .payload = 5);
		PASSES(TCP(POD_C, POD_A, DNS, port, ACK | PSH), .payload = 5);
	}
	ring_buffer__consume(ring);
	assert_int_equal(count, 2);
	maps_node(lab.datapath)->flags &= ~(uint32_t)NODE_DNS;
	say(server, client, "again");
	ring_buffer__consume(ring);
	assert_int_equal(count, 2);
	ring_buffer__free(ring);
}

static void test_who_accepted_gets_no_answers(void **state)
{
	struct ring_buffer *ring = ring_buffer__new(lab_map("dns_map"), on_event, NULL, NULL);
	auto_close int client = -1, server = -1;

	(void)state;
	assert_non_null(ring);
	lab_attach();
	lab_connect(POD_B, DNS, POD_A, lab_port(), &client, &server);
	say(client, server, "no answer");
	ring_buffer__consume(ring);
	assert_int_equal(count, 0);
	ring_buffer__free(ring);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH_FAMILIES_AFTER(reset, test_answers_are_handed_over),
		BOTH_FAMILIES_AFTER(reset_isolated, test_answers_are_handed_over),
		BOTH_FAMILIES_AFTER(reset, test_who_accepted_gets_no_answers),
	};

	return LAB_RUN(tests);
}
