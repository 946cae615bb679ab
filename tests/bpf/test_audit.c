/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decision 12: what an audited end would refuse is counted, told and passes; the other end is
 * enforced as ever.  And flow_map, which notes who speaks to whom.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include "harness/lab.h"
#include "lib/auto.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define INGRESS ENDPOINT_INGRESS_ISOLATED
#define EGRESS  ENDPOINT_EGRESS_ISOLATED
#define AUDIT   ENDPOINT_AUDIT
#define SCTP(from_, to_, sport_, dport_, chunk_)                                                   \
	.from = at(from_), .to = at(to_), .proto = IPPROTO_SCTP, .sport = sport_, .dport = dport_, \
	.chunk = chunk_

static struct flow_event events[8];
static unsigned int event_count;

static void on_event(const struct flow_event *event, void *arg)
{
	(void)arg;
	if (event_count < ARRAY_SIZE(events))
		events[event_count] = *event;
	event_count++;
}

static unsigned int events_drain(void)
{
	event_count = 0;
	assert_true(events_consume(lab.datapath, on_event, NULL) >= 0);
	return event_count;
}

static uint64_t would_drops(enum host pod)
{
	struct endpoint_stats stats;

	assert_int_equal(endpoint_stats_get(lab.datapath, lab.pods->pod[pod].slot, &stats), 0);
	assert_int_equal(stats.drops, 0);
	return stats.would_drops;
}

/* The segment passes, and this end tells that it would not have. */
static void expect_told(const struct segment *segment, enum host pod, enum drop_reason reason,
			enum direction direction, int line)
{
	uint64_t noticed = lab_metric(METRIC_NOTICES + NOTICE_WOULD_DROP);
	uint64_t before = would_drops(pod);

	events_drain();
	lab_expect(segment, DROP_NONE, __FILE__, line);
	_assert_int_equal(events_drain(), 1, __FILE__, line);
	_assert_int_equal(events[0].type, EVENT_AUDIT, __FILE__, line);
	_assert_int_equal(events[0].reason, reason, __FILE__, line);
	_assert_int_equal(events[0].direction, direction, __FILE__, line);
	_assert_int_equal(would_drops(pod), before + 1, __FILE__, line);
	_assert_int_equal(lab_metric(METRIC_NOTICES + NOTICE_WOULD_DROP), noticed + 1, __FILE__,
			  line);
}
#define TOLD(pod, reason, direction, ...) \
	expect_told(&(struct segment){ __VA_ARGS__ }, pod, DROP_##reason, DIR_##direction, __LINE__)

/* It passes, and there is nothing to tell. */
static void expect_silent(const struct segment *segment, int line)
{
	uint64_t noticed = lab_metric(METRIC_NOTICES + NOTICE_WOULD_DROP);

	events_drain();
	lab_expect(segment, DROP_NONE, __FILE__, line);
	_assert_int_equal(events_drain(), 0, __FILE__, line);
	_assert_int_equal(lab_metric(METRIC_NOTICES + NOTICE_WOULD_DROP), noticed, __FILE__, line);
}
#define SILENT(...) expect_silent(&(struct segment){ __VA_ARGS__ }, __LINE__)

/* ---- every protocol -------------------------------------------------------------------------- */

static void test_what_an_audited_sender_may_not_is_told_and_passes(void **state)
{
	(void)state;
	isolate(POD_A, EGRESS | AUDIT);
	allow(POD_A, DIR_EGRESS, POD_C, 0, 0);
	TOLD(POD_A, EGRESS_DENIED, EGRESS, TCP(POD_A, POD_B, 40000, 80, SYN));
	TOLD(POD_A, EGRESS_DENIED, EGRESS, UDP(POD_A, POD_B, 40000, 53));
	TOLD(POD_A, EGRESS_DENIED, EGRESS, SCTP(POD_A, POD_B, 40000, 9, 1));
	TOLD(POD_A, EGRESS_DENIED, EGRESS, ECHO_REQUEST(POD_A, POD_B, 7));
	TOLD(POD_A, EGRESS_DENIED, EGRESS, TCP(POD_A, OUTSIDE, 40000, 80, SYN));
	TOLD(POD_A, EGRESS_DENIED, EGRESS, .from = at(POD_A), .to = at(POD_B), .proto = 47,
	     .payload = 20);
	SILENT(TCP(POD_A, POD_C, 40000, 80, SYN));
	SILENT(UDP(POD_A, POD_C, 40000, 53));
}

static void test_what_an_audited_receiver_refuses_is_told_and_passes(void **state)
{
	(void)state;
	isolate(POD_B, INGRESS | AUDIT);
	allow(POD_B, DIR_INGRESS, POD_C, 0, 0);
	TOLD(POD_B, INGRESS_DENIED, INGRESS, TCP(POD_A, POD_B, 40000, 80, SYN));
	TOLD(POD_B, INGRESS_DENIED, INGRESS, UDP(POD_A, POD_B, 40000, 53));
	TOLD(POD_B, INGRESS_DENIED, INGRESS, SCTP(POD_A, POD_B, 40000, 9, 1));
	TOLD(POD_B, INGRESS_DENIED, INGRESS, ECHO_REQUEST(POD_A, POD_B, 7));
	TOLD(POD_B, INGRESS_DENIED, INGRESS, TCP(OUTSIDE, POD_B, 40000, 80, SYN));
	TOLD(POD_B, INGRESS_DENIED, INGRESS, UDP(OUTSIDE, POD_B, 40000, 53));
	SILENT(TCP(POD_C, POD_B, 40000, 80, SYN));
	SILENT(TCP(NODE, POD_B, 40000, 80, SYN));
}

static void test_answers_of_what_an_audited_end_let_pass_pass(void **state)
{
	(void)state;
	isolate(POD_A, INGRESS | EGRESS | AUDIT);
	TOLD(POD_A, EGRESS_DENIED, EGRESS, TCP(POD_A, POD_B, 40000, 80, SYN), .seq = 1000);
	SILENT(TCP(POD_B, POD_A, 80, 40000, SYN | ACK), .seq = 5000, .ack = 1001);
	SILENT(TCP(POD_A, POD_B, 40000, 80, ACK), .seq = 1001, .ack = 5001);
	SILENT(TCP(POD_B, POD_A, 80, 40000, ACK | PSH), .seq = 5001, .payload = 9);
	TOLD(POD_A, EGRESS_DENIED, EGRESS, UDP(POD_A, POD_B, 40000, 53));
	SILENT(UDP(POD_B, POD_A, 53, 40000));
	TOLD(POD_A, EGRESS_DENIED, EGRESS, ECHO_REQUEST(POD_A, POD_B, 7));
	SILENT(ECHO_REPLY(POD_B, POD_A, 7));
}

static void test_both_ends_tell_for_themselves(void **state)
{
	(void)state;
	isolate(POD_A, EGRESS | AUDIT);
	isolate(POD_B, INGRESS | AUDIT);
	events_drain();
	PASSES(TCP(POD_A, POD_B, 40000, 80, SYN));
	assert_int_equal(events_drain(), 2);
	assert_int_equal(events[0].reason, DROP_EGRESS_DENIED);
	assert_int_equal(events[1].reason, DROP_INGRESS_DENIED);
	assert_int_equal(would_drops(POD_A), 1);
	assert_int_equal(would_drops(POD_B), 1);
	allow(POD_A, DIR_EGRESS, POD_B, 0, 0);
	TOLD(POD_B, INGRESS_DENIED, INGRESS, TCP(POD_A, POD_B, 40001, 80, SYN));
}

/* ---- missing state, fragments, errors ---------------------------------------------------------
 */

static void test_what_lacks_its_opening_passes_an_audited_end(void **state)
{
	(void)state;
	isolate(POD_B, INGRESS | AUDIT);
	TOLD(POD_B, INGRESS_DENIED, INGRESS, TCP(POD_A, POD_B, 80, 40000, SYN | ACK));
	TOLD(POD_B, INGRESS_DENIED, INGRESS, TCP(POD_A, POD_B, 81, 40001, ACK | PSH));
	TOLD(POD_B, INGRESS_DENIED, INGRESS, TCP(OUTSIDE, POD_B, 82, 40002, RST));
	TOLD(POD_B, INGRESS_DENIED, INGRESS, UDP(OUTSIDE, POD_B, 53, 40003));
	TOLD(POD_B, INGRESS_DENIED, INGRESS, ECHO_REPLY(POD_A, POD_B, 9));
	/* An answer before the handshake it belongs to. */
	isolate(POD_A, EGRESS | INGRESS | AUDIT);
	allow(POD_A, DIR_EGRESS, POD_B, IPPROTO_TCP, 80);
	isolate(POD_B, EGRESS | AUDIT);
	PASSES(TCP(POD_A, POD_B, 40000, 80, SYN), .seq = 1000);
	PASSES(TCP(POD_B, POD_A, 80, 40000, ACK | PSH), .seq = 5001, .payload = 9);
}

static void test_fragments_and_errors_pass_an_audited_end(void **state)
{
	struct segment about = { UDP(POD_B, POD_A, 40000, 53) };

	(void)state;
	isolate(POD_B, INGRESS | AUDIT);
	TOLD(POD_B, FRAGMENT, INGRESS, UDP(POD_A, POD_B, 0, 0), .offset = 1480, .fragment_id = 77,
	     .payload = 64);
	TOLD(POD_B, UNRELATED_ERROR, INGRESS, PORT_UNREACHABLE(POD_A, POD_B), .embedded = &about);
	isolate(POD_B, 0);
	isolate(POD_A, EGRESS | AUDIT);
	TOLD(POD_A, FRAGMENT, EGRESS, UDP(POD_A, POD_C, 0, 0), .offset = 1480, .fragment_id = 78,
	     .payload = 64);
}

/* ---- the other end --------------------------------------------------------------------------- */

static void test_the_other_end_is_enforced_as_ever(void **state)
{
	(void)state;
	isolate(POD_A, EGRESS | INGRESS | AUDIT);
	isolate(POD_B, INGRESS | EGRESS);
	DROPS(INGRESS_DENIED, TCP(POD_A, POD_B, 40000, 80, SYN));
	DROPS(INGRESS_DENIED, UDP(POD_A, POD_B, 40000, 53));
	DROPS(INGRESS_DENIED, TCP(POD_A, POD_B, 40000, 80, ACK));
	DROPS(EGRESS_DENIED, TCP(POD_B, POD_A, 40000, 80, SYN));
	DROPS(EGRESS_DENIED, UDP(POD_B, POD_A, 80, 40000));
	DROPS(NOT_OPENED, TCP(POD_A, POD_B, 80, 40000, SYN | ACK));
	DROPS(FRAGMENT, UDP(POD_A, POD_B, 0, 0), .offset = 1480, .fragment_id = 79, .payload = 64);
	/* Its rules allow it: only the audited end would not. */
	allow(POD_B, DIR_INGRESS, POD_A, 0, 0);
	PASSES(TCP(POD_A, POD_B, 40000, 80, SYN), .seq = 1000);
	PASSES(TCP(POD_B, POD_A, 80, 40000, SYN | ACK), .seq = 5000, .ack = 1001);
	PASSES(TCP(POD_A, POD_B, 40000, 80, ACK), .seq = 1001, .ack = 5001);
	PASSES(TCP(POD_B, POD_A, 80, 40000, ACK | PSH), .seq = 5001, .payload = 9);
	PASSES(UDP(POD_A, POD_B, 40000, 53));
	PASSES(UDP(POD_B, POD_A, 53, 40000));
	/* Nothing of it opens a door at the enforced end. */
	DROPS(EGRESS_DENIED, TCP(POD_B, POD_A, 80, 40000, SYN));
	DROPS(EGRESS_DENIED, UDP(POD_B, POD_A, 54, 40000));
}

static void test_what_nobody_may_do_is_dropped_at_audited_ends_too(void **state)
{
	struct segment forged = { TCP(POD_C, POD_B, 40000, 80, SYN) };
	struct frame frame;

	(void)state;
	isolate(POD_A, EGRESS | AUDIT);
	frame_build(&forged, lab.pods->pod[POD_A].mac, lab.pods->pod[POD_A].host_mac, &frame);
	FRAME_DROPS(SPOOFED_ADDRESS, POD_A, &frame);
}

/* ---- switching ------------------------------------------------------------------------------- */

static void test_enforcement_reaches_live_flows_with_their_next_packet(void **state)
{
	(void)state;
	isolate(POD_A, EGRESS | INGRESS | AUDIT);
	allow(POD_A, DIR_EGRESS, POD_B, IPPROTO_TCP, 81);
	for (uint16_t port = 80; port <= 81; port++) {
		PASSES(TCP(POD_A, POD_B, 40000, port, SYN), .seq = 1000);
		PASSES(TCP(POD_B, POD_A, port, 40000, SYN | ACK), .seq = 5000, .ack = 1001);
		PASSES(TCP(POD_A, POD_B, 40000, port, ACK), .seq = 1001, .ack = 5001);
	}
	PASSES(UDP(POD_A, POD_B, 40000, 53));
	isolate(POD_A, EGRESS | INGRESS);
	DROPS(EGRESS_DENIED, TCP(POD_A, POD_B, 40000, 80, ACK | PSH), .payload = 9);
	DROPS(INGRESS_DENIED, TCP(POD_B, POD_A, 80, 40000, ACK | PSH), .payload = 9);
	DROPS(EGRESS_DENIED, UDP(POD_A, POD_B, 40000, 53));
	DROPS(INGRESS_DENIED, UDP(POD_B, POD_A, 53, 40000));
	/* What policy allows lives on, answers too: audit kept the state for it. */
	PASSES(TCP(POD_A, POD_B, 40000, 81, ACK | PSH), .payload = 9);
	PASSES(TCP(POD_B, POD_A, 81, 40000, ACK | PSH), .payload = 9);
}

static void test_a_new_policy_tells_of_live_connections_once(void **state)
{
	(void)state;
	isolate(POD_A, EGRESS | INGRESS | AUDIT);
	allow(POD_A, DIR_EGRESS, POD_B, IPPROTO_TCP, 80);
	SILENT(TCP(POD_A, POD_B, 40000, 80, SYN), .seq = 1000);
	SILENT(TCP(POD_B, POD_A, 80, 40000, SYN | ACK), .seq = 5000, .ack = 1001);
	SILENT(TCP(POD_A, POD_B, 40000, 80, ACK), .seq = 1001, .ack = 5001);
	forbid(POD_A, DIR_EGRESS, POD_B);
	SILENT(TCP(POD_B, POD_A, 80, 40000, ACK | PSH), .payload = 9);
	TOLD(POD_A, EGRESS_DENIED, EGRESS, TCP(POD_A, POD_B, 40000, 80, ACK | PSH), .payload = 9);
	SILENT(TCP(POD_A, POD_B, 40000, 80, ACK | PSH), .payload = 9);
	SILENT(TCP(POD_B, POD_A, 80, 40000, ACK | PSH), .payload = 9);
}

static void test_a_flood_is_counted_and_told_once(void **state)
{
	uint64_t noticed = lab_metric(METRIC_NOTICES + NOTICE_WOULD_DROP);

	(void)state;
	isolate(POD_B, INGRESS | AUDIT);
	events_drain();
	for (uint16_t sport = 1; sport <= 500; sport++) {
		PASSES(UDP(POD_A, POD_B, sport, 53));
		PASSES(TCP(POD_A, POD_B, 40000, 80, ACK | PSH), .payload = 9);
	}
	assert_int_equal(events_drain(), 2);
	assert_int_equal(would_drops(POD_B), 1000);
	assert_int_equal(lab_metric(METRIC_NOTICES + NOTICE_WOULD_DROP), noticed + 1000);
}

/* ---- flows ----------------------------------------------------------------------------------- */

static bool flow_find(enum host from, enum host to, uint8_t proto, uint16_t port,
		      struct flow_record *ret)
{
	struct flow_key key = {
		.saddr = at(from), .daddr = at(to), .dport = htons(port), .proto = proto
	};

	return !bpf_map_lookup_elem(lab_map("flow_map"), &key, ret);
}

static int flow_count_one(const void *key, const void *value, void *arg)
{
	(void)key;
	(void)value;
	++*(unsigned int *)arg;
	return 0;
}

static unsigned int flow_count(void)
{
	unsigned int count = 0;

	assert_int_equal(maps_foreach(lab.datapath, MAP_FLOW, flow_count_one, &count), 0);
	return count;
}

static void test_nothing_is_noted_while_nobody_observes(void **state)
{
	(void)state;
	PASSES(TCP(POD_A, POD_B, 40000, 80, SYN));
	PASSES(UDP(POD_A, POD_B, 40000, 53));
	isolate(POD_B, INGRESS);
	DROPS(INGRESS_DENIED, UDP(POD_A, POD_B, 40000, 53));
	assert_int_equal(flow_count(), 0);
}

static void test_flows_are_noted_by_their_openings(void **state)
{
	struct flow_record record;

	(void)state;
	maps_node(lab.datapath)->flags |= NODE_FLOWS;
	PASSES(TCP(POD_A, POD_B, 40000, 80, SYN));
	PASSES(TCP(POD_B, POD_A, 80, 40000, SYN | ACK));
	PASSES(TCP(POD_A, POD_B, 40000, 80, ACK | PSH), .payload = 9);
	PASSES(TCP(POD_A, POD_B, 40001, 80, SYN));
	PASSES(UDP(POD_A, POD_B, 40000, 53));
	PASSES(UDP(POD_B, POD_A, 53, 40000));
	PASSES(UDP(POD_A, POD_B, 40000, 53));
	PASSES(SCTP(OUTSIDE, POD_B, 40000, 9, 1));
	PASSES(ECHO_REQUEST(POD_A, OUTSIDE, 7));
	PASSES(ECHO_REPLY(OUTSIDE, POD_A, 7));
	assert_int_equal(flow_count(), 4);
	assert_true(flow_find(POD_A, POD_B, IPPROTO_TCP, 80, &record));
	assert_int_equal(record.packets, 2);
	assert_int_equal(record.flags, FLOW_PASSED);
	assert_int_equal(record.sport, htons(40000));
	assert_true(record.first_ns && record.first_ns <= record.last_ns);
	assert_true(flow_find(POD_A, POD_B, IPPROTO_UDP, 53, &record));
	assert_int_equal(record.packets, 2);
	assert_true(flow_find(OUTSIDE, POD_B, IPPROTO_SCTP, 9, &record));
	assert_true(
		flow_find(POD_A, OUTSIDE, lab.ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP, 0, &record));
	PASSES(TCP(POD_A, POD_A, 40000, 80, SYN));
	assert_int_equal(flow_count(), 4);
}

static void test_flows_carry_what_became_of_them(void **state)
{
	struct flow_record record;

	(void)state;
	maps_node(lab.datapath)->flags |= NODE_FLOWS;
	isolate(POD_B, INGRESS);
	DROPS(INGRESS_DENIED, TCP(POD_A, POD_B, 40000, 80, SYN));
	assert_true(flow_find(POD_A, POD_B, IPPROTO_TCP, 80, &record));
	assert_int_equal(record.flags, FLOW_DENIED);
	allow(POD_B, DIR_INGRESS, POD_A, IPPROTO_TCP, 80);
	PASSES(TCP(POD_A, POD_B, 40000, 80, SYN));
	assert_true(flow_find(POD_A, POD_B, IPPROTO_TCP, 80, &record));
	assert_int_equal(record.flags, FLOW_DENIED | FLOW_PASSED);
	isolate(POD_B, INGRESS | AUDIT);
	PASSES(TCP(POD_A, POD_B, 40000, 81, SYN));
	assert_true(flow_find(POD_A, POD_B, IPPROTO_TCP, 81, &record));
	assert_int_equal(record.flags, FLOW_AUDITED | FLOW_PASSED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH_FAMILIES(test_what_an_audited_sender_may_not_is_told_and_passes),
		BOTH_FAMILIES(test_what_an_audited_receiver_refuses_is_told_and_passes),
		BOTH_FAMILIES(test_answers_of_what_an_audited_end_let_pass_pass),
		BOTH_FAMILIES(test_both_ends_tell_for_themselves),
		BOTH_FAMILIES(test_what_lacks_its_opening_passes_an_audited_end),
		BOTH_FAMILIES(test_fragments_and_errors_pass_an_audited_end),
		BOTH_FAMILIES(test_the_other_end_is_enforced_as_ever),
		BOTH_FAMILIES(test_what_nobody_may_do_is_dropped_at_audited_ends_too),
		BOTH_FAMILIES(test_enforcement_reaches_live_flows_with_their_next_packet),
		BOTH_FAMILIES(test_a_new_policy_tells_of_live_connections_once),
		BOTH_FAMILIES(test_a_flood_is_counted_and_told_once),
		BOTH_FAMILIES(test_nothing_is_noted_while_nobody_observes),
		BOTH_FAMILIES(test_flows_are_noted_by_their_openings),
		BOTH_FAMILIES(test_flows_carry_what_became_of_them),
	};

	return LAB_RUN(tests);
}
