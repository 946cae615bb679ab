/* SPDX-License-Identifier: Apache-2.0 */
/* Decision 10: services packet by packet, where the socket layer does not translate. */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/pkt_cls.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "harness/lab_service.h"
#include "harness/lab_socket.h"
#include "lib/auto.h"
#include "lib/clock.h"
#include "lib/inet.h"

#include <cmocka.h> /* last: its fail() is a macro */

/* ---- there and back ----------------------------------------------------------------------- */

static void test_a_request_goes_to_the_backend_and_its_reply_comes_from_the_service(void **state)
{
	struct outcome outcome;

	(void)state;
	SERVES(80, SERVICE_ID, { POD_B, 8080 });
	SENT_AS(ENDS(POD_A, 40000), ENDS(POD_B, 8080), TCP(POD_A, SERVICE, 40000, 80, SYN));
	SENT_AS(ENDS(SERVICE, 80), ENDS(POD_A, 40000), TCP(POD_B, POD_A, 8080, 40000, SYN | ACK));
	SENT_AS(ENDS(POD_A, 40000), ENDS(POD_B, 8080), TCP(POD_A, SERVICE, 40000, 80, ACK),
		.payload = 333);
	SENT_AS(ENDS(SERVICE, 80), ENDS(POD_A, 40000), TCP(POD_B, POD_A, 8080, 40000, ACK),
		.payload = 1000);
	outcome = lab_send(&(struct segment){ TCP(POD_A, SERVICE, 40000, 80, ACK) });
	assert_int_equal(outcome.received_by, lab.pods->pod[POD_B].slot);
	SENT_AS(ENDS(POD_A, 40000), ENDS(POD_B, 8080), UDP(POD_A, SERVICE, 40000, 80),
		.payload = 99);
	SENT_AS(ENDS(SERVICE, 80), ENDS(POD_A, 40000), UDP(POD_B, POD_A, 8080, 40000),
		.payload = 100);
	/* What else the backend sends to the client is its own. */
	SENT_AS(ENDS(POD_B, 8081), ENDS(POD_A, 40000), TCP(POD_B, POD_A, 8081, 40000, SYN));
	SENT_AS(ENDS(POD_B, 8080), ENDS(POD_C, 40000), TCP(POD_B, POD_C, 8080, 40000, SYN));
}

static void test_a_backend_elsewhere_answers_through_to_pod(void **state)
{
	(void)state;
	SERVES(80, SERVICE_ID, { OUTSIDE, 8080 });
	SENT_AS(ENDS(POD_A, 40000), ENDS(OUTSIDE, 8080), TCP(POD_A, SERVICE, 40000, 80, SYN));
	SENT_AS(ENDS(SERVICE, 80), ENDS(POD_A, 40000), TCP(OUTSIDE, POD_A, 8080, 40000, SYN | ACK));
	SENT_AS(ENDS(OUTSIDE, 8081), ENDS(POD_A, 40000), UDP(OUTSIDE, POD_A, 8081, 40000));
}

static void test_a_pod_reaches_itself_through_its_service(void **state)
{
	(void)state;
	SERVES(80, SERVICE_ID, { POD_A, 8080 });
	isolate(POD_A, ENDPOINT_INGRESS_ISOLATED | ENDPOINT_EGRESS_ISOLATED);
	SENT_AS(ENDS(SERVICE, 40000), ENDS(POD_A, 8080), TCP(POD_A, SERVICE, 40000, 80, SYN));
	SENT_AS(ENDS(SERVICE, 80), ENDS(POD_A, 40000), TCP(POD_A, SERVICE, 8080, 40000, SYN | ACK));
	SENT_AS(ENDS(SERVICE, 40000), ENDS(POD_A, 8080), TCP(POD_A, SERVICE, 40000, 80, ACK));
	SENT_AS(ENDS(SERVICE, 40001), ENDS(POD_A, 8080), UDP(POD_A, SERVICE, 40001, 80));
	SENT_AS(ENDS(SERVICE, 80), ENDS(POD_A, 40001), UDP(POD_A, SERVICE, 8080, 40001));
}

static void test_a_datagram_without_a_sum_stays_without(void **state)
{
	struct segment segment = { UDP(POD_A, SERVICE, 40000, 80) };
	struct frame frame;
	struct outcome outcome;

	(void)state;
	if (lab.ipv6)
		return;
	SERVES(80, SERVICE_ID, { POD_B, 8080 });
	frame = lab_frame(&segment);
	memset(frame.bytes + FRAME_L3 + 20 + 6, 0, 2);
	outcome = lab_from_pod(POD_A, &frame);
	assert_int_equal(outcome.reason, DROP_NONE);
	assert_int_equal(frame_read(&outcome.frame).dport, 8080);
	assert_int_equal(outcome.frame.bytes[FRAME_L3 + 26] | outcome.frame.bytes[FRAME_L3 + 27],
			 0);
}

static void test_fragments_of_a_request_follow_it(void **state)
{
	const struct segment later = { .from = at(POD_A),
				       .to = at(SERVICE),
				       .proto = IPPROTO_UDP,
				       .offset = 72,
				       .payload = 40,
				       .fragment_id = 9 };
	struct addr backend = at(POD_B), service = at(SERVICE);
	struct outcome outcome;
	struct segment back = later, got;

	(void)state;
	SERVES(80, SERVICE_ID, { POD_B, 8080 });
	PASSES(UDP(POD_A, SERVICE, 40000, 80), .payload = 64, .more = true, .fragment_id = 9);
	outcome = lab_send(&later);
	assert_int_equal(outcome.reason, DROP_NONE);
	assert_int_equal(outcome.received_by, lab.pods->pod[POD_B].slot);
	got = frame_read(&outcome.frame);
	assert_true(addr_equal(&got.to, &backend));
	/* Nothing but addresses was touched behind the IP header. */
	assert_int_equal(outcome.frame.bytes[outcome.frame.len - 40], 0x5a);
	back.from = at(POD_B);
	back.to = at(POD_A);
	PASSES(UDP(POD_B, POD_A, 8080, 40000), .payload = 64, .more = true, .fragment_id = 9);
	outcome = lab_send(&back);
	got = frame_read(&outcome.frame);
	assert_true(addr_equal(&got.from, &service));
	back.fragment_id = 10;
	lab_expect(&back, DROP_FRAGMENT, __FILE__, __LINE__);
}

/* ---- policy --------------------------------------------------------------------------------- */

static void test_policy_sees_the_backend(void **state)
{
	struct ct_entry entry;

	(void)state;
	SERVES(80, SERVICE_ID, { POD_B, 8080 });
	isolate(POD_A, ENDPOINT_INGRESS_ISOLATED | ENDPOINT_EGRESS_ISOLATED);
	isolate(POD_B, ENDPOINT_INGRESS_ISOLATED | ENDPOINT_EGRESS_ISOLATED);
	allow(POD_A, DIR_EGRESS, POD_B, IPPROTO_TCP, 80);
	DROPS(EGRESS_DENIED, TCP(POD_A, SERVICE, 40000, 80, SYN));
	allow(POD_A, DIR_EGRESS, POD_B, IPPROTO_TCP, 8080);
	DROPS(INGRESS_DENIED, TCP(POD_A, SERVICE, 40000, 80, SYN));
	allow(POD_B, DIR_INGRESS, POD_A, IPPROTO_TCP, 8080);
	SENT_AS(ENDS(POD_A, 40000), ENDS(POD_B, 8080), TCP(POD_A, SERVICE, 40000, 80, SYN),
		.seq = 1);
	SENT_AS(ENDS(SERVICE, 80), ENDS(POD_A, 40000), TCP(POD_B, POD_A, 8080, 40000, SYN | ACK),
		.ack = 2);
	assert_true(lab_connection(POD_A, 40000, POD_B, 8080, IPPROTO_TCP, &entry));
	assert_false(lab_connection(POD_A, 40000, SERVICE, 80, IPPROTO_TCP, &entry));
}

/* ---- what there is not ---------------------------------------------------------------------- */

static void test_what_the_service_does_not_offer_is_dropped(void **state)
{
	(void)state;
	SERVES(80, SERVICE_ID, { POD_B, 8080 });
	DROPS(NO_SERVICE, TCP(POD_A, SERVICE, 40000, 81, SYN));
	DROPS(NO_SERVICE, TCP(POD_A, SERVICE, 40000, 81, ACK));
	DROPS(NO_SERVICE, UDP(POD_A, SERVICE, 40000, 81));
	DROPS(NO_SERVICE, ECHO_REQUEST(POD_A, SERVICE, 7));
	DROPS(NO_SERVICE, .from = at(POD_A), .to = at(SERVICE), .proto = IPPROTO_SCTP, .dport = 80);
	/* In the middle of a connection that nobody knows. */
	DROPS(NOT_OPENED, TCP(POD_A, SERVICE, 40000, 80, ACK));
	DROPS(NOT_OPENED, TCP(POD_A, SERVICE, 40000, 80, RST));
}

static void test_a_service_without_backends_refuses_a_connection(void **state)
{
	const struct segment syn = { TCP(POD_A, SERVICE, 40000, 80, SYN), .seq = 1000 };
	const struct pod *a = &lab.pods->pod[POD_A];
	struct addr service = at(SERVICE), client = at(POD_A);
	struct outcome outcome;
	struct segment got;

	(void)state;
	service_set(80, SERVICE_ID, NULL, 0);
	outcome = lab_send(&syn);
	assert_int_equal(outcome.reason, DROP_NO_BACKEND);
	assert_int_equal(outcome.action, TC_ACT_REDIRECT);
	got = frame_read(&outcome.frame);
	assert_true(addr_equal(&got.from, &service));
	assert_true(addr_equal(&got.to, &client));
	assert_int_equal(got.sport, 80);
	assert_int_equal(got.dport, 40000);
	assert_int_equal(got.flags, RST | ACK);
	assert_int_equal(got.ack, 1001);
	assert_true(frame_sums_hold(&outcome.frame));
	assert_memory_equal(outcome.frame.bytes, a->mac, 6);
	assert_memory_equal(outcome.frame.bytes + 6, a->host_mac, 6);
}

static void test_a_service_without_backends_refuses_a_datagram(void **state)
{
	const struct segment datagram = { UDP(POD_A, SERVICE, 40000, 80), .payload = 700 };
	struct addr service = at(SERVICE), client = at(POD_A);
	size_t quoted = (lab.ipv6 ? 40 : 20) + 8, head = FRAME_L3 + (lab.ipv6 ? 48 : 28);
	struct frame sent = lab_frame(&datagram);
	struct outcome outcome;
	struct segment got;

	(void)state;
	service_set(80, SERVICE_ID, NULL, 0);
	outcome = lab_send(&datagram);
	assert_int_equal(outcome.reason, DROP_NO_BACKEND);
	assert_int_equal(outcome.action, TC_ACT_REDIRECT);
	got = frame_read(&outcome.frame);
	assert_true(addr_equal(&got.from, &service));
	assert_true(addr_equal(&got.to, &client));
	assert_int_equal(got.icmp_type, lab.ipv6 ? 1 : 3);
	assert_int_equal(got.icmp_code, lab.ipv6 ? 4 : 3);
	assert_true(frame_sums_hold(&outcome.frame));
	assert_int_equal(outcome.frame.len, head + quoted);
	assert_memory_equal(outcome.frame.bytes + head, sent.bytes + FRAME_L3, quoted);
}

static void test_two_services_do_not_share_a_way_back(void **state)
{
	const uint32_t done = NAT_CLIENT_DONE | NAT_BACKEND_DONE |
			      (uint32_t)lab.pods->pod[POD_A].slot << NAT_OWNER_SHIFT;
	struct nat_entry entry;

	(void)state;
	SERVES(80, SERVICE_ID, { POD_B, 8080 });
	SERVES(81, SERVICE_ID + 1, { POD_B, 8080 });
	PASSES(TCP(POD_A, SERVICE, 40000, 80, SYN));
	DROPS(NO_SNAT_PORT, TCP(POD_A, SERVICE, 40000, 81, SYN));
	/* Another backend, or another port of the client, is fine. */
	PASSES(TCP(POD_A, SERVICE, 40001, 81, SYN));
	/* So is the same once the first connection is over. */
	PASSES(TCP(POD_A, SERVICE, 40000, 80, FIN | ACK));
	SENT_AS(ENDS(SERVICE, 80), ENDS(POD_A, 40000), TCP(POD_B, POD_A, 8080, 40000, FIN | ACK));
	assert_true(translation(POD_A, 40000, SERVICE, 80, IPPROTO_TCP, &entry));
	assert_int_equal(entry.flags, NAT_REQUEST | NAT_USED | done);
	assert_true(translation(POD_B, 8080, POD_A, 40000, IPPROTO_TCP, &entry));
	assert_int_equal(entry.flags, NAT_REPLIED | done);
	PASSES(TCP(POD_A, SERVICE, 40000, 81, SYN));
	SENT_AS(ENDS(SERVICE, 81), ENDS(POD_A, 40000), TCP(POD_B, POD_A, 8080, 40000, SYN | ACK));
}

static void test_a_port_that_had_a_service_may_come_back_without_it(void **state)
{
	(void)state;
	SERVES(80, SERVICE_ID, { POD_B, 8080 });
	PASSES(TCP(POD_A, SERVICE, 40000, 80, SYN));
	SENT_AS(ENDS(SERVICE, 80), ENDS(POD_A, 40000), TCP(POD_B, POD_A, 8080, 40000, SYN | ACK));
	PASSES(TCP(POD_A, SERVICE, 40000, 80, FIN | ACK));
	SENT_AS(ENDS(SERVICE, 80), ENDS(POD_A, 40000), TCP(POD_B, POD_A, 8080, 40000, FIN | ACK));
	SENT_AS(ENDS(SERVICE, 80), ENDS(POD_A, 40000), TCP(POD_B, POD_A, 8080, 40000, FIN | ACK));
	PASSES(TCP(POD_A, POD_B, 40000, 8080, SYN));
	SENT_AS(ENDS(POD_B, 8080), ENDS(POD_A, 40000), TCP(POD_B, POD_A, 8080, 40000, SYN | ACK));
	SENT_AS(ENDS(POD_B, 8080), ENDS(POD_A, 40000), TCP(POD_B, POD_A, 8080, 40000, ACK),
		.payload = 100);
	/* And with it again. */
	PASSES(TCP(POD_A, SERVICE, 40000, 80, SYN));
	SENT_AS(ENDS(SERVICE, 80), ENDS(POD_A, 40000), TCP(POD_B, POD_A, 8080, 40000, SYN | ACK));
}

/* ---- errors ------------------------------------------------------------------------------- */

static void test_an_error_about_a_translated_packet_speaks_of_the_service(void **state)
{
	const struct segment sent = { UDP(POD_A, POD_B, 40000, 8080) };
	const struct segment error = { PORT_UNREACHABLE(POD_B, POD_A), .embedded = &sent };
	size_t inner = FRAME_L3 + (lab.ipv6 ? 48 : 28);
	struct addr service = at(SERVICE);
	struct frame quoted = { 0 };
	struct outcome outcome;
	struct segment got;

	(void)state;
	SERVES(80, SERVICE_ID, { POD_B, 8080 });
	PASSES(UDP(POD_A, SERVICE, 40000, 80));
	outcome = lab_send(&error);
	assert_int_equal(outcome.reason, DROP_NONE);
	got = frame_read(&outcome.frame);
	assert_true(addr_equal(&got.from, &service));
	assert_true(frame_sums_hold(&outcome.frame));
	quoted.len = FRAME_L3 + outcome.frame.len - inner;
	memcpy(quoted.bytes + FRAME_L3, outcome.frame.bytes + inner, outcome.frame.len - inner);
	got = frame_read(&quoted);
	assert_true(addr_equal(&got.to, &service));
	assert_int_equal(got.sport, 40000);
	assert_int_equal(got.dport, 80);
}

/* ---- with real sockets ---------------------------------------------------------------------- */

/* Moves bytes from one end to the other; false if not all came within ten seconds. */
static bool transfer(int from, int to, size_t total)
{
	static char out[65536], in[65536];
	size_t sent = 0, got = 0;
	time_t limit = time(NULL) + 11;
	ssize_t n;

	while (got < total && time(NULL) < limit) {
		if (sent < total) {
			n = send(from, out, sizeof(out) < total - sent ? sizeof(out) : total - sent,
				 MSG_NOSIGNAL);
			sent += n > 0 ? (size_t)n : 0;
		}
		n = recv(to, in, sizeof(in), 0);
		if (n > 0)
			got += (size_t)n;
		else
			poll(&(struct pollfd){ .fd = to, .events = POLLIN }, 1, 10);
	}
	return got == total;
}

static void connect_by_service(enum host backend)
{
	uint16_t port = lab_port(), service = lab_port(), target = lab_port();
	auto_close int listener = -1, client = -1, server = -1;

	SERVES(service, SERVICE_ID, { backend, target });
	listener = lab_listen(backend, target);
	client = lab_connect_begin(POD_A, port, SERVICE, service);
	assert_int_equal(poll(&(struct pollfd){ .fd = listener, .events = POLLIN }, 1, 10000), 1);
	server = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
	assert_true(server >= 0);
	assert_true(lab_talks(client, server));
	assert_true(lab_talks(server, client));
	/* Large packets that are not yet segmented nor summed. */
	assert_true(transfer(client, server, 4 << 20));
	assert_true(transfer(server, client, 4 << 20));
}

static void test_real_connections_work_through_a_service(void **state)
{
	(void)state;
	lab_attach();
	connect_by_service(POD_B);
	isolate(POD_A, ENDPOINT_INGRESS_ISOLATED);
	isolate(POD_B, ENDPOINT_INGRESS_ISOLATED);
	allow(POD_B, DIR_INGRESS, POD_A, IPPROTO_TCP, 0);
	connect_by_service(POD_B);
}

static void test_a_real_hairpin_works(void **state)
{
	(void)state;
	lab_attach();
	isolate(POD_A, ENDPOINT_INGRESS_ISOLATED | ENDPOINT_EGRESS_ISOLATED);
	connect_by_service(POD_A);
}

static int error_of(int fd)
{
	socklen_t len = sizeof(int);
	int error = 0;

	poll(&(struct pollfd){ .fd = fd, .events = POLLOUT | POLLIN }, 1, 10000);
	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len), 0);
	return error;
}

static void test_a_real_connect_is_refused_at_once(void **state)
{
	uint16_t service = lab_port();
	auto_close int stream = -1, datagram = -1;
	uint64_t begin;

	(void)state;
	lab_attach();
	service_set(service, SERVICE_ID, NULL, 0);
	begin = now_ns();
	datagram = lab_socket(POD_A, SOCK_DGRAM);
	lab_peer(datagram, SERVICE, service);
	assert_int_equal(send(datagram, "x", 1, 0), 1);
	assert_int_equal(error_of(datagram), ECONNREFUSED);
	stream = lab_socket(POD_A, SOCK_STREAM);
	/* The reset comes back while connect() still holds the socket, and counts. */
	assert_int_equal(lab_try(stream, SERVICE, service), ECONNREFUSED);
	assert_true(now_ns() - begin < NS_PER_SEC); /* no SYN was sent twice */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH_FAMILIES(
			test_a_request_goes_to_the_backend_and_its_reply_comes_from_the_service),
		BOTH_FAMILIES(test_a_backend_elsewhere_answers_through_to_pod),
		BOTH_FAMILIES(test_a_pod_reaches_itself_through_its_service),
		BOTH_FAMILIES(test_a_datagram_without_a_sum_stays_without),
		BOTH_FAMILIES(test_fragments_of_a_request_follow_it),
		BOTH_FAMILIES(test_policy_sees_the_backend),
		BOTH_FAMILIES(test_what_the_service_does_not_offer_is_dropped),
		BOTH_FAMILIES(test_a_service_without_backends_refuses_a_connection),
		BOTH_FAMILIES(test_a_service_without_backends_refuses_a_datagram),
		BOTH_FAMILIES(test_two_services_do_not_share_a_way_back),
		BOTH_FAMILIES(test_a_port_that_had_a_service_may_come_back_without_it),
		BOTH_FAMILIES(test_an_error_about_a_translated_packet_speaks_of_the_service),
		BOTH_FAMILIES(test_real_connections_work_through_a_service),
		BOTH_FAMILIES(test_a_real_hairpin_works),
		BOTH_FAMILIES(test_a_real_connect_is_refused_at_once),
	};

	return LAB_RUN(tests);
}
