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

#include "harness/lab.h"
#include "lib/auto.h"
#include "lib/clock.h"
#include "lib/inet.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define SERVICE_ID 5

struct target {
	enum host host;
	uint16_t port;
};

/* SERVICE's port for both protocols. */
static void service_write(uint16_t port, const struct service *service)
{
	struct service_key key = { .addr = at(SERVICE), .port = htons(port) };

	key.proto = IPPROTO_TCP;
	assert_int_equal(service_map_set(lab.datapath, &key, service), 0);
	key.proto = IPPROTO_UDP;
	assert_int_equal(service_map_set(lab.datapath, &key, service), 0);
}

static void backends_write(uint32_t id, uint32_t first, const struct target *targets,
			   uint32_t count)
{
	struct backend_key key = { .service_id = id, .index = first };

	for (uint32_t i = 0; i < count; i++, key.index++) {
		struct backend backend = { .addr = at(targets[i].host),
					   .port = htons(targets[i].port) };

		assert_int_equal(backend_map_set(lab.datapath, &key, &backend), 0);
	}
	backend_map_del(lab.datapath, &key);
}

static void service_set(uint16_t port, uint32_t id, const struct target *targets, uint32_t count)
{
	struct service service = { .id = id, .backends = count };

	backends_write(id, 0, targets, count);
	service_write(port, &service);
}

#define SERVES(port, id, ...)                                         \
	service_set(port, id, (const struct target[]){ __VA_ARGS__ }, \
		    sizeof((const struct target[]){ __VA_ARGS__ }) / sizeof(struct target))

/* Sends it, and wants it to leave as between these ends, whole. */
static void sent_as(const struct segment *segment, struct target from, struct target to,
		    const char *file, int line)
{
	struct frame sent = lab_frame(segment);
	struct outcome outcome = lab_send(segment);
	struct segment got;
	struct addr from_addr = at(from.host), to_addr = at(to.host);

	lab_expect_frame(&outcome, &sent, DROP_NONE, file, line);
	got = frame_read(&outcome.frame);
	_assert_true(addr_equal(&got.from, &from_addr), "source address", file, line);
	_assert_true(addr_equal(&got.to, &to_addr), "destination address", file, line);
	_assert_int_equal(got.sport, from.port, file, line);
	_assert_int_equal(got.dport, to.port, file, line);
	_assert_int_equal(got.proto, segment->proto, file, line);
	_assert_true(frame_sums_hold(&outcome.frame), "checksums", file, line);
	_assert_int_equal(outcome.frame.len, sent.len, file, line);
}

#define ENDS(host, port) ((struct target){ host, port })
#define SENT_AS(from, to, ...) \
	sent_as(&(struct segment){ __VA_ARGS__ }, from, to, __FILE__, __LINE__)

static bool translation(enum host from, uint16_t sport, enum host to, uint16_t dport, uint8_t proto,
			struct nat_entry *ret)
{
	struct flow key = { .saddr = at(from),
			    .daddr = at(to),
			    .sport = htons(sport),
			    .dport = htons(dport),
			    .proto = proto };

	return !bpf_map_lookup_elem(lab_map("nat_map"), &key, ret);
}

/* ---- there and back ------------------------------------------------------------------------- */

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

/* ---- which backend -------------------------------------------------------------------------- */

static struct segment sent_to(const struct segment *segment)
{
	struct outcome outcome = lab_send(segment);

	assert_int_equal(outcome.reason, DROP_NONE);
	return frame_read(&outcome.frame);
}

static void test_connections_spread_and_keep_their_backend(void **state)
{
	unsigned int count[2] = { 0 };

	(void)state;
	SERVES(80, SERVICE_ID, { POD_B, 8080 }, { POD_C, 8081 });
	for (uint16_t port = 40000; port < 40200; port++) {
		struct segment segment = { TCP(POD_A, SERVICE, port, 80, SYN) };
		uint16_t chosen = sent_to(&segment).dport;

		count[chosen - 8080]++;
		assert_int_equal(sent_to(&segment).dport, chosen); /* the SYN again */
		segment.flags = ACK;
		assert_int_equal(sent_to(&segment).dport, chosen);
	}
	assert_true(count[0] > 50 && count[1] > 50);
}

static struct backend_entry counted(uint32_t index)
{
	const struct backend_key key = { .service_id = SERVICE_ID, .index = index };
	struct backend_entry entry;

	assert_int_equal(backend_map_get(lab.datapath, &key, &entry), 0);
	return entry;
}

static void test_a_connection_counts_once_for_its_backend(void **state)
{
	const struct service service = { .id = SERVICE_ID, .backends = 2, .affinity_s = 60 };
	uint32_t met[2] = { 0 }, before[2];

	(void)state;
	SERVES(80, SERVICE_ID, { POD_B, 8080 }, { POD_C, 8081 });
	for (uint16_t port = 40000; port < 40050; port++) {
		struct segment segment = { TCP(POD_A, SERVICE, port, 80, SYN) };

		met[sent_to(&segment).dport - 8080]++;
		sent_to(&segment); /* the SYN again */
		segment.flags = ACK;
		sent_to(&segment);
	}
	for (uint32_t i = 0; i < 2; i++)
		assert_int_equal(before[i] = counted(i).connections, met[i]);
	/* A backend that the client keeps is counted as well. */
	service_write(80, &service);
	for (uint16_t port = 41000; port < 41010; port++)
		met[sent_to(&(struct segment){ TCP(POD_A, SERVICE, port, 80, SYN) }).dport -
		    8080]++;
	for (uint32_t i = 0; i < 2; i++)
		assert_int_equal(counted(i).connections, met[i]);
	assert_int_equal(met[0] + met[1], 60);
	assert_true(met[0] == before[0] || met[1] == before[1]);
}

static uint32_t sent_length;

static void send_counted(const struct segment *segment)
{
	sent_length += (uint32_t)lab_frame(segment).len;
	assert_int_equal(lab_send(segment).reason, DROP_NONE);
}

static void test_bytes_both_ways_are_the_backends_when_the_connection_ends(void **state)
{
	const uint32_t seq = 1000, answer = 5000;

	(void)state;
	SERVES(80, SERVICE_ID, { POD_B, 8080 });
	sent_length = 0;
	send_counted(&(struct segment){ TCP(POD_A, SERVICE, 40000, 80, SYN), .seq = seq });
	send_counted(&(struct segment){ TCP(POD_B, POD_A, 8080, 40000, SYN | ACK), .seq = answer,
					.ack = seq + 1 });
	send_counted(&(struct segment){ TCP(POD_A, SERVICE, 40000, 80, ACK), .seq = seq + 1,
					.ack = answer + 1, .payload = 300 });
	assert_int_equal(counted(0).bytes, 0);
	send_counted(&(struct segment){ TCP(POD_A, SERVICE, 40000, 80, FIN | ACK), .seq = seq + 301,
					.ack = answer + 1 });
	send_counted(&(struct segment){ TCP(POD_B, POD_A, 8080, 40000, FIN | ACK),
					.seq = answer + 1, .ack = seq + 302 });
	send_counted(&(struct segment){ TCP(POD_A, SERVICE, 40000, 80, ACK), .seq = seq + 302,
					.ack = answer + 2 });
	assert_int_equal(counted(0).bytes, sent_length);
	assert_int_equal(counted(0).connections, 1);
}

static void flow_end(uint32_t service_id, const struct backend *backend, uint64_t bytes, void *arg)
{
	struct addr pod = at(POD_B);

	assert_int_equal(service_id, SERVICE_ID);
	assert_true(addr_equal(&backend->addr, &pod));
	assert_int_equal(backend->port, htons(8080));
	*(uint64_t *)arg += bytes;
}

static void test_bytes_of_a_flow_that_is_swept_are_told(void **state)
{
	uint64_t told = 0;

	(void)state;
	SERVES(80, SERVICE_ID, { POD_B, 8080 });
	sent_length = 0;
	send_counted(&(struct segment){ UDP(POD_A, SERVICE, 40000, 80), .payload = 100 });
	send_counted(&(struct segment){ UDP(POD_B, POD_A, 8080, 40000), .payload = 200 });
	nat_map_on_end(lab.datapath, flow_end, &told);
	assert_int_equal(nat_map_sweep(lab.datapath, now_ns() + 1000 * NS_PER_SEC), 2);
	nat_map_on_end(lab.datapath, NULL, NULL);
	assert_int_equal(told + counted(0).bytes, sent_length);
}

static void test_a_backend_that_is_gone_is_replaced_where_nothing_breaks(void **state)
{
	const struct segment syn = { TCP(POD_A, SERVICE, 40000, 80, SYN) };
	const struct segment data = { TCP(POD_A, SERVICE, 40000, 80, ACK) };
	const struct segment datagram = { UDP(POD_A, SERVICE, 40000, 80) };

	(void)state;
	SERVES(80, SERVICE_ID, { POD_B, 8080 });
	assert_int_equal(sent_to(&syn).dport, 8080);
	assert_int_equal(sent_to(&datagram).dport, 8080);
	SERVES(80, SERVICE_ID, { POD_C, 8081 });
	assert_int_equal(sent_to(&datagram).dport, 8081);
	assert_int_equal(sent_to(&data).dport, 8080); /* it may still end in peace */
	assert_int_equal(sent_to(&syn).dport, 8081);
	assert_int_equal(sent_to(&data).dport, 8081);
	/* None at all, and one again. */
	service_set(80, SERVICE_ID, NULL, 0);
	DROPS(NO_BACKEND, UDP(POD_A, SERVICE, 40000, 80));
	assert_int_equal(sent_to(&data).dport, 8081);
	SERVES(80, SERVICE_ID, { POD_B, 8080 });
	assert_int_equal(sent_to(&datagram).dport, 8080);
}

static void test_a_connection_to_a_backend_that_is_gone_is_reset(void **state)
{
	const struct segment data = { TCP(POD_A, SERVICE, 40000, 80, ACK), .seq = 500, .ack = 7000,
				      .payload = 10 };
	const struct flow key = { .saddr = at(POD_A),
				  .daddr = at(SERVICE),
				  .sport = htons(40000),
				  .dport = htons(80),
				  .proto = IPPROTO_TCP };
	struct addr service = at(SERVICE), client = at(POD_A);
	struct outcome outcome;
	struct nat_entry entry;
	struct segment got;

	(void)state;
	SERVES(80, SERVICE_ID, { POD_B, 8080 });
	SENT_AS(ENDS(POD_A, 40000), ENDS(POD_B, 8080), TCP(POD_A, SERVICE, 40000, 80, SYN));
	assert_true(translation(POD_A, 40000, SERVICE, 80, IPPROTO_TCP, &entry));
	assert_int_equal(nat_map_end(lab.datapath, &key, &entry), 0);
	outcome = lab_send(&data);
	assert_int_equal(outcome.reason, DROP_NO_BACKEND);
	assert_int_equal(outcome.action, TC_ACT_REDIRECT);
	got = frame_read(&outcome.frame);
	assert_true(addr_equal(&got.from, &service) && addr_equal(&got.to, &client));
	assert_int_equal(got.flags, RST | ACK);
	assert_int_equal(got.seq, 7000); /* else the client would not believe it */
	assert_int_equal(got.ack, 510);
	assert_true(frame_sums_hold(&outcome.frame));
	/* A reset is answered by nothing, and the client's port may be used again. */
	outcome = lab_send(&(struct segment){ TCP(POD_A, SERVICE, 40000, 80, RST) });
	assert_int_equal(outcome.reason, DROP_NO_BACKEND);
	assert_int_equal(outcome.action, TC_ACT_SHOT);
	SERVES(80, SERVICE_ID, { POD_C, 8081 });
	SENT_AS(ENDS(POD_A, 40000), ENDS(POD_C, 8081), TCP(POD_A, SERVICE, 40000, 80, SYN));
	SENT_AS(ENDS(POD_A, 40000), ENDS(POD_C, 8081), TCP(POD_A, SERVICE, 40000, 80, ACK));
}

/* Between the look and the end the client's port may have been used again. */
static void test_a_connection_that_took_the_place_of_an_ended_one_goes_on(void **state)
{
	const struct flow key = { .saddr = at(POD_A),
				  .daddr = at(SERVICE),
				  .sport = htons(40000),
				  .dport = htons(80),
				  .proto = IPPROTO_TCP };
	struct nat_entry entry, back;

	(void)state;
	SERVES(80, SERVICE_ID, { POD_B, 8080 });
	SENT_AS(ENDS(POD_A, 40000), ENDS(POD_B, 8080), TCP(POD_A, SERVICE, 40000, 80, SYN));
	assert_true(translation(POD_A, 40000, SERVICE, 80, IPPROTO_TCP, &entry));
	SERVES(80, SERVICE_ID, { POD_C, 8081 });
	SENT_AS(ENDS(POD_A, 40000), ENDS(POD_C, 8081), TCP(POD_A, SERVICE, 40000, 80, SYN));
	assert_int_equal(nat_map_end(lab.datapath, &key, &entry), 0);
	SENT_AS(ENDS(POD_A, 40000), ENDS(POD_C, 8081), TCP(POD_A, SERVICE, 40000, 80, ACK));
	/* The way back of the first is another client's by now. */
	assert_true(translation(POD_A, 40000, SERVICE, 80, IPPROTO_TCP, &entry));
	assert_true(translation(POD_C, 8081, POD_A, 40000, IPPROTO_TCP, &back));
	back.flow.dport = htons(40001);
	assert_int_equal(bpf_map_update_elem(lab_map("nat_map"),
					     &(struct flow){ .saddr = entry.flow.daddr,
							     .daddr = entry.flow.saddr,
							     .sport = entry.flow.dport,
							     .dport = entry.flow.sport,
							     .proto = IPPROTO_TCP },
					     &back, BPF_EXIST),
			 0);
	assert_int_equal(nat_map_end(lab.datapath, &key, &entry), 0);
	assert_true(translation(POD_A, 40000, SERVICE, 80, IPPROTO_TCP, &entry));
	assert_true(entry.flags & NAT_GONE);
	assert_true(translation(POD_C, 8081, POD_A, 40000, IPPROTO_TCP, &back));
	assert_false(back.flags & NAT_GONE);
}

static void test_a_backend_keeps_its_clients_when_others_come_and_go(void **state)
{
	const struct segment datagram = { UDP(POD_A, SERVICE, 40000, 80) };

	(void)state;
	SERVES(80, SERVICE_ID, { POD_B, 8080 });
	assert_int_equal(sent_to(&datagram).dport, 8080);
	SERVES(80, SERVICE_ID, { POD_C, 8081 }, { POD_C, 8082 }, { POD_B, 8080 });
	for (int i = 0; i < 20; i++)
		assert_int_equal(sent_to(&datagram).dport, 8080);
	SERVES(80, SERVICE_ID, { POD_B, 8080 }, { POD_C, 8081 });
	for (int i = 0; i < 20; i++)
		assert_int_equal(sent_to(&datagram).dport, 8080);
}

static void test_an_endpoint_that_terminates_keeps_its_flows_and_gets_no_new_ones(void **state)
{
	static const struct target targets[] = { { POD_C, 8081 }, { POD_B, 8080 } };
	const struct service leaving = { .id = SERVICE_ID, .backends = 1, .keeping = 1 };
	const struct segment datagram = { UDP(POD_A, SERVICE, 40000, 80) };

	(void)state;
	SERVES(80, SERVICE_ID, { POD_B, 8080 });
	assert_int_equal(sent_to(&datagram).dport, 8080);
	backends_write(SERVICE_ID, 0, targets, 2);
	service_write(80, &leaving);
	assert_int_equal(sent_to(&datagram).dport, 8080);
	for (uint16_t port = 41000; port < 41020; port++)
		assert_int_equal(sent_to(&(struct segment){ UDP(POD_A, SERVICE, port, 80) }).dport,
				 8081);
	SERVES(80, SERVICE_ID, { POD_C, 8081 });
	assert_int_equal(sent_to(&datagram).dport, 8081);
}

static void test_a_local_service_uses_the_endpoints_of_this_node(void **state)
{
	static const struct target all[] = { { POD_B, 8080 }, { OUTSIDE, 8081 } };
	struct service service = { .id = SERVICE_ID,
				   .backends = 2,
				   .local_backends = 1,
				   .flags = SERVICE_LOCAL | SERVICE_HAS_ENDPOINTS };

	(void)state;
	backends_write(SERVICE_ID, 0, all, 2);
	backends_write(SERVICE_ID, BACKEND_LOCAL, all, 1);
	service_write(80, &service);
	for (uint16_t port = 40000; port < 40020; port++)
		assert_int_equal(sent_to(&(struct segment){ UDP(POD_A, SERVICE, port, 80) }).dport,
				 8080);
	/* Others serve: this is silence, not refusal. */
	service.local_backends = 0;
	service_write(80, &service);
	DROPS(NO_LOCAL_BACKEND, TCP(POD_A, SERVICE, 40000, 80, SYN));
	DROPS(NO_LOCAL_BACKEND, UDP(POD_A, SERVICE, 41000, 80));
	/* A client inside the cluster does not care for externalTrafficPolicy. */
	service.kind = LOAD_BALANCER;
	service_write(80, &service);
	PASSES(UDP(POD_A, SERVICE, 41001, 80));
}

static void test_only_clients_in_the_source_ranges_pass(void **state)
{
	const struct service service = { .id = SERVICE_ID,
					 .backends = 1,
					 .kind = LOAD_BALANCER,
					 .flags = SERVICE_SOURCE_RANGES | SERVICE_HAS_ENDPOINTS };
	struct source_range_key range = { .prefixlen = 32 + 128, .service_id = SERVICE_ID + 1 };

	(void)state;
	SERVES(80, SERVICE_ID, { POD_B, 8080 });
	service_write(80, &service);
	DROPS(SOURCE_RANGE, TCP(POD_A, SERVICE, 40000, 80, SYN));
	range.addr = at(POD_A);
	assert_int_equal(range_map_set(lab.datapath, &range), 0); /* another service's */
	DROPS(SOURCE_RANGE, TCP(POD_A, SERVICE, 40000, 80, SYN));
	range.service_id = SERVICE_ID;
	assert_int_equal(range_map_set(lab.datapath, &range), 0);
	PASSES(TCP(POD_A, SERVICE, 40000, 80, SYN));
	DROPS(SOURCE_RANGE, TCP(POD_C, SERVICE, 40000, 80, SYN));
	range.prefixlen = lab.ipv6 ? 32 : 32 + 96; /* of this family, all */
	assert_int_equal(range_map_set(lab.datapath, &range), 0);
	PASSES(TCP(POD_C, SERVICE, 40000, 80, SYN));
}

/* ---- session affinity ----------------------------------------------------------------------- */

static void affinity_age(enum host client, uint64_t age_ns)
{
	struct affinity_key key = { .client = at(client), .service_id = SERVICE_ID };
	struct affinity affinity;

	assert_int_equal(bpf_map_lookup_elem(lab_map("affinity_map"), &key, &affinity), 0);
	affinity.last_used_ns -= age_ns;
	assert_int_equal(bpf_map_update_elem(lab_map("affinity_map"), &key, &affinity, BPF_ANY), 0);
}

static uint16_t connected_to(uint16_t port)
{
	return sent_to(&(struct segment){ TCP(POD_A, SERVICE, port, 80, SYN) }).dport;
}

static void test_a_client_keeps_its_backend_while_affinity_lasts(void **state)
{
	struct service service = { .id = SERVICE_ID, .backends = 3, .affinity_s = 60 };
	unsigned int others = 0;
	uint16_t chosen;

	(void)state;
	SERVES(80, SERVICE_ID, { POD_B, 8080 }, { POD_B, 8081 }, { POD_C, 8082 });
	service_write(80, &service);
	chosen = connected_to(40000);
	for (uint16_t port = 40001; port < 40030; port++) {
		affinity_age(POD_A, 59 * NS_PER_SEC); /* each use makes it young again */
		assert_int_equal(connected_to(port), chosen);
	}
	for (uint16_t port = 41000; port < 41040; port++) {
		affinity_age(POD_A, 61 * NS_PER_SEC);
		others += connected_to(port) != chosen;
	}
	assert_true(others > 5);
	/* Switched off at work: the choice is free. */
	service.affinity_s = 0;
	service_write(80, &service);
	chosen = connected_to(42000);
	others = 0;
	for (uint16_t port = 42001; port < 42040; port++)
		others += connected_to(port) != chosen;
	assert_true(others > 5);
}

static void test_affinity_to_a_backend_that_is_gone_ends_at_once(void **state)
{
	const struct service service = { .id = SERVICE_ID, .backends = 1, .affinity_s = 60 };

	(void)state;
	SERVES(80, SERVICE_ID, { POD_B, 8080 });
	service_write(80, &service);
	assert_int_equal(connected_to(40000), 8080);
	SERVES(80, SERVICE_ID, { POD_C, 8081 });
	service_write(80, &service);
	assert_int_equal(connected_to(40001), 8081);
	/* The other client's choice is its own. */
	SERVES(80, SERVICE_ID, { POD_C, 8082 }, { POD_C, 8081 });
	service_write(80, &(struct service){ SERVICE_ID, .backends = 2, .affinity_s = 60 });
	assert_int_equal(connected_to(40002), 8081);
}

/* A pod takes one place of the table for each service and family, whatever it sends. */
static void test_a_flood_leaves_the_affinity_of_another_pod(void **state)
{
	const struct service service = { .id = SERVICE_ID, .backends = 2, .affinity_s = 60 };
	struct affinity_key key = { .client = at(POD_C), .service_id = SERVICE_ID }, next;
	struct affinity kept, after;
	uint32_t entries = 0;

	(void)state;
	SERVES(80, SERVICE_ID, { POD_B, 8080 }, { POD_B, 8081 });
	service_write(80, &service);
	PASSES(UDP(POD_C, SERVICE, 40000, 80));
	assert_int_equal(bpf_map_lookup_elem(lab_map("affinity_map"), &key, &kept), 0);
	for (uint16_t port = 1; port < 20000; port++)
		PASSES(UDP(POD_A, SERVICE, port, 80));
	assert_int_equal(bpf_map_lookup_elem(lab_map("affinity_map"), &key, &after), 0);
	assert_memory_equal(&kept, &after, sizeof(kept));
	for (void *from = NULL; !bpf_map_get_next_key(lab_map("affinity_map"), from, &next);
	     entries++) {
		key = next;
		from = &key;
	}
	assert_int_equal(entries, 2);
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

/* ---- errors --------------------------------------------------------------------------------- */

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

/* Moves bytes from one end to the other; false if not all came within two seconds. */
static bool transfer(int from, int to, size_t total)
{
	static char out[65536], in[65536];
	size_t sent = 0, got = 0;
	time_t limit = time(NULL) + 3;
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
	assert_int_equal(poll(&(struct pollfd){ .fd = listener, .events = POLLIN }, 1, 1000), 1);
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

	poll(&(struct pollfd){ .fd = fd, .events = POLLOUT | POLLIN }, 1, 1000);
	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len), 0);
	return error;
}

static void test_a_real_connect_is_refused_at_once(void **state)
{
	uint16_t service = lab_port();
	auto_close int stream = -1, datagram = -1;
	struct timespec begin, end;

	(void)state;
	lab_attach();
	service_set(service, SERVICE_ID, NULL, 0);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	datagram = lab_socket(POD_A, SOCK_DGRAM);
	lab_peer(datagram, SERVICE, service);
	assert_int_equal(send(datagram, "x", 1, 0), 1);
	assert_int_equal(error_of(datagram), ECONNREFUSED);
	stream = lab_socket(POD_A, SOCK_STREAM);
	/* The reset comes back while connect() still holds the socket, and counts. */
	assert_int_equal(lab_try(stream, SERVICE, service), ECONNREFUSED);
	clock_gettime(CLOCK_MONOTONIC, &end);
	assert_true(end.tv_sec - begin.tv_sec < 1);
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
		BOTH_FAMILIES(test_connections_spread_and_keep_their_backend),
		BOTH_FAMILIES(test_a_connection_counts_once_for_its_backend),
		BOTH_FAMILIES(test_bytes_both_ways_are_the_backends_when_the_connection_ends),
		BOTH_FAMILIES(test_bytes_of_a_flow_that_is_swept_are_told),
		BOTH_FAMILIES(test_a_backend_that_is_gone_is_replaced_where_nothing_breaks),
		BOTH_FAMILIES(test_a_connection_to_a_backend_that_is_gone_is_reset),
		BOTH_FAMILIES(test_a_connection_that_took_the_place_of_an_ended_one_goes_on),
		BOTH_FAMILIES(test_a_backend_keeps_its_clients_when_others_come_and_go),
		BOTH_FAMILIES(
			test_an_endpoint_that_terminates_keeps_its_flows_and_gets_no_new_ones),
		BOTH_FAMILIES(test_a_local_service_uses_the_endpoints_of_this_node),
		BOTH_FAMILIES(test_only_clients_in_the_source_ranges_pass),
		BOTH_FAMILIES(test_a_client_keeps_its_backend_while_affinity_lasts),
		BOTH_FAMILIES(test_affinity_to_a_backend_that_is_gone_ends_at_once),
		BOTH_FAMILIES(test_a_flood_leaves_the_affinity_of_another_pod),
		BOTH_FAMILIES(test_two_services_do_not_share_a_way_back),
		BOTH_FAMILIES(test_a_port_that_had_a_service_may_come_back_without_it),
		BOTH_FAMILIES(test_an_error_about_a_translated_packet_speaks_of_the_service),
		BOTH_FAMILIES(test_real_connections_work_through_a_service),
		BOTH_FAMILIES(test_a_real_hairpin_works),
		BOTH_FAMILIES(test_a_real_connect_is_refused_at_once),
	};

	return LAB_RUN(tests);
}
