/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decisions 3 and 4: TCP by its handshake, without sockets: what a connection's entry lets through,
 * what nobody can forge, and when it ends.  The evidence of sockets (decision 5) is test_sockets.c.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <setjmp.h>
#include <stdarg.h>

#include "harness/lab.h"
#include "lib/auto.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define INGRESS ENDPOINT_INGRESS_ISOLATED
#define EGRESS  ENDPOINT_EGRESS_ISOLATED

static void test_one_isolated_direction_keeps_no_state(void **state)
{
	struct ct_entry entry;

	(void)state;
	isolate(POD_B, INGRESS);
	allow(POD_B, DIR_INGRESS, POD_A, IPPROTO_TCP, 80);
	lab_handshake();
	PASSES(TCP(POD_A, POD_B, 40000, 80, FIN | ACK), .seq = 1001);
	assert_false(lab_connection(POD_A, 40000, POD_B, 80, IPPROTO_TCP, &entry));
	forbid(POD_B, DIR_INGRESS, POD_A);
	DROPS(INGRESS_DENIED, TCP(POD_A, POD_B, 40000, 80, ACK));
}

static void test_answers_pass_by_the_handshake(void **state)
{
	struct ct_entry entry;

	(void)state;
	isolate(POD_A, INGRESS);
	lab_handshake();
	PASSES(TCP(POD_B, POD_A, 80, 40000, ACK | PSH), .seq = 5001, .payload = 100);
	assert_true(lab_connection(POD_A, 40000, POD_B, 80, IPPROTO_TCP, &entry));
	assert_int_equal(entry.syn_seq, 1000);
	assert_true(entry.flags & CT_REPLIED);
	assert_true(entry.flags & CT_ESTABLISHED);
	assert_int_equal(entry.revision, maps_node(lab.datapath)->revision);
	/* Not to another port, not for another protocol, not from another pod. */
	DROPS(INGRESS_DENIED, TCP(POD_B, POD_A, 80, 40001, ACK));
	DROPS(INGRESS_DENIED, TCP(POD_B, POD_A, 81, 40000, ACK));
	DROPS(INGRESS_DENIED, UDP(POD_B, POD_A, 80, 40000));
	DROPS(INGRESS_DENIED, TCP(POD_C, POD_A, 80, 40000, ACK));
}

static void test_answers_pass_where_every_direction_is_isolated(void **state)
{
	(void)state;
	isolate(POD_A, INGRESS | EGRESS);
	isolate(POD_B, INGRESS | EGRESS);
	allow(POD_A, DIR_EGRESS, POD_B, IPPROTO_TCP, 80);
	allow(POD_B, DIR_INGRESS, POD_A, IPPROTO_TCP, 80);
	lab_handshake();
	PASSES(TCP(POD_B, POD_A, 80, 40000, ACK | PSH), .payload = 9);
	DROPS(EGRESS_DENIED, TCP(POD_B, POD_A, 80, 40000, SYN));
	DROPS(EGRESS_DENIED, TCP(POD_B, POD_A, 80, 40001, ACK));
}

static void test_remote_and_node_connections_get_answers(void **state)
{
	(void)state;
	isolate(POD_B, INGRESS | EGRESS);
	allow(POD_B, DIR_INGRESS, OUTSIDE, IPPROTO_TCP, 80);
	allow(POD_B, DIR_EGRESS, OUTSIDE, IPPROTO_TCP, 443);
	PASSES(TCP(OUTSIDE, POD_B, 40000, 80, SYN), .seq = 7);
	PASSES(TCP(POD_B, OUTSIDE, 80, 40000, SYN | ACK), .ack = 8);
	PASSES(TCP(OUTSIDE, POD_B, 40000, 80, ACK), .seq = 8);
	PASSES(TCP(POD_B, OUTSIDE, 80, 40000, ACK | PSH), .payload = 10);
	PASSES(TCP(POD_B, OUTSIDE, 40000, 443, SYN), .seq = 20);
	PASSES(TCP(OUTSIDE, POD_B, 443, 40000, SYN | ACK), .ack = 21);
	PASSES(TCP(NODE, POD_B, 50000, 22, SYN), .seq = 30);
	PASSES(TCP(POD_B, NODE, 22, 50000, SYN | ACK), .ack = 31);
	/* The node needs no rule, so no change of policy takes its connections. */
	maps_bump_revision(lab.datapath);
	PASSES(TCP(POD_B, NODE, 22, 50000, ACK));
	DROPS(EGRESS_DENIED, TCP(POD_B, NODE, 22, 50001, ACK));
}

static void test_no_answer_without_a_question(void **state)
{
	static const uint8_t flags[] = { SYN | ACK, ACK, ACK | PSH, FIN | ACK, RST,
					 RST | ACK, 0,   FIN | PSH, 0xff };

	(void)state;
	isolate(POD_A, INGRESS);
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		enum drop_reason want = flags[i] & SYN ? DROP_NOT_OPENED : DROP_INGRESS_DENIED;

		lab_expect(&(struct segment){ TCP(POD_B, POD_A, 80, 40000, flags[i]) }, want,
			   __FILE__, __LINE__);
		lab_expect(&(struct segment){ TCP(OUTSIDE, POD_A, 80, 40000, flags[i]) }, want,
			   __FILE__, __LINE__);
	}
	DROPS(INGRESS_DENIED, TCP(POD_B, POD_A, 80, 40000, SYN));
	DROPS(INGRESS_DENIED, TCP(POD_B, POD_A, 80, 40000, SYN | FIN));
	DROPS(INGRESS_DENIED, TCP(POD_B, POD_A, 80, 40000, SYN | RST));
}

static void test_only_the_right_syn_ack_opens(void **state)
{
	(void)state;
	isolate(POD_A, INGRESS);
	PASSES(TCP(POD_A, POD_B, 40000, 80, SYN), .seq = 1000);
	DROPS(NOT_OPENED, TCP(POD_B, POD_A, 80, 40000, ACK | PSH), .ack = 1001, .payload = 9);
	DROPS(NOT_OPENED, TCP(POD_B, POD_A, 80, 40000, FIN | ACK), .ack = 1001);
	DROPS(NOT_OPENED, TCP(POD_B, POD_A, 80, 40000, SYN | ACK), .ack = 1000);
	DROPS(NOT_OPENED, TCP(POD_B, POD_A, 80, 40000, SYN | ACK), .ack = 1002);
	DROPS(NOT_OPENED, TCP(POD_B, POD_A, 80, 40000, SYN | ACK), .ack = 77001);
	DROPS(NOT_OPENED, TCP(POD_B, POD_A, 80, 40000, RST), .seq = 1001);
	DROPS(NOT_OPENED, TCP(POD_B, POD_A, 80, 40000, RST | ACK), .ack = 999);
	/* and after all that: */
	PASSES(TCP(POD_B, POD_A, 80, 40000, SYN | ACK), .ack = 1001);
	PASSES(TCP(POD_B, POD_A, 80, 40000, ACK | PSH), .ack = 1001, .payload = 9);
}

static void test_a_refusal_is_an_answer(void **state)
{
	(void)state;
	isolate(POD_A, INGRESS);
	PASSES(TCP(POD_A, POD_B, 40000, 80, SYN), .seq = 0xffffffff);
	PASSES(TCP(POD_B, POD_A, 80, 40000, RST | ACK), .ack = 0);
}

static void test_data_in_the_syn_may_be_taken_or_not(void **state)
{
	(void)state;
	isolate(POD_A, INGRESS);
	PASSES(TCP(POD_A, POD_B, 40000, 80, SYN), .seq = 1000, .payload = 100);
	DROPS(NOT_OPENED, TCP(POD_B, POD_A, 80, 40000, SYN | ACK), .ack = 1102);
	PASSES(TCP(POD_B, POD_A, 80, 40000, SYN | ACK), .ack = 1101);
	PASSES(TCP(POD_A, POD_B, 40001, 80, SYN), .seq = 1000, .payload = 100);
	PASSES(TCP(POD_B, POD_A, 80, 40001, SYN | ACK), .ack = 1001);
}

static void test_a_repeated_syn_does_not_undo_its_answer(void **state)
{
	(void)state;
	isolate(POD_A, INGRESS);
	lab_handshake();
	PASSES(TCP(POD_A, POD_B, 40000, 80, SYN), .seq = 1000);
	PASSES(TCP(POD_B, POD_A, 80, 40000, ACK | PSH), .payload = 9);
	/* Another SYN is another connection. */
	PASSES(TCP(POD_A, POD_B, 40000, 80, SYN), .seq = 9000);
	DROPS(NOT_OPENED, TCP(POD_B, POD_A, 80, 40000, ACK | PSH), .payload = 9);
	PASSES(TCP(POD_B, POD_A, 80, 40000, SYN | ACK), .ack = 9001);
}

static void test_an_entry_admits_no_syn(void **state)
{
	(void)state;
	isolate(POD_A, INGRESS | EGRESS);
	isolate(POD_B, INGRESS);
	allow(POD_A, DIR_EGRESS, POD_B, IPPROTO_TCP, 80);
	allow(POD_B, DIR_INGRESS, POD_A, IPPROTO_TCP, 80);
	lab_handshake();
	DROPS(INGRESS_DENIED, TCP(POD_B, POD_A, 80, 40000, SYN), .seq = 5000);
	/* Nor does the opener's own, once policy no longer lets it. */
	forbid(POD_B, DIR_INGRESS, POD_A);
	DROPS(INGRESS_DENIED, TCP(POD_A, POD_B, 40000, 80, SYN), .seq = 1000);
}

static void test_a_change_of_policy_reaches_live_connections(void **state)
{
	struct ct_entry entry;

	(void)state;
	isolate(POD_A, INGRESS | EGRESS);
	isolate(POD_B, INGRESS | EGRESS);
	allow(POD_A, DIR_EGRESS, POD_B, IPPROTO_TCP, 80);
	allow(POD_B, DIR_INGRESS, POD_A, IPPROTO_TCP, 80);
	lab_handshake();
	/* A change that does not concern it: looked at again and kept, from either side. */
	maps_bump_revision(lab.datapath);
	PASSES(TCP(POD_B, POD_A, 80, 40000, ACK));
	assert_true(lab_connection(POD_A, 40000, POD_B, 80, IPPROTO_TCP, &entry));
	assert_int_equal(entry.revision, maps_node(lab.datapath)->revision);
	maps_bump_revision(lab.datapath);
	PASSES(TCP(POD_A, POD_B, 40000, 80, ACK));
	/* One that takes it: the server's next packet is an answer to nothing. */
	forbid(POD_B, DIR_INGRESS, POD_A);
	DROPS(EGRESS_DENIED, TCP(POD_B, POD_A, 80, 40000, ACK));
	DROPS(INGRESS_DENIED, TCP(POD_A, POD_B, 40000, 80, ACK));
	assert_false(lab_connection(POD_A, 40000, POD_B, 80, IPPROTO_TCP, &entry));
}

static void test_an_expired_entry_is_none(void **state)
{
	(void)state;
	isolate(POD_A, INGRESS);
	PASSES(TCP(POD_A, POD_B, 40000, 80, SYN), .seq = 1000);
	lab_connection_age(POD_A, 40000, POD_B, 80, IPPROTO_TCP, CT_TCP_OPENING_NS + NS_PER_SEC);
	DROPS(NOT_OPENED, TCP(POD_B, POD_A, 80, 40000, SYN | ACK), .ack = 1001);
	lab_handshake();
	PASSES(TCP(POD_B, POD_A, 80, 40000, ACK));
	lab_connection_age(POD_A, 40000, POD_B, 80, IPPROTO_TCP,
			   CT_TCP_ESTABLISHED_NS - NS_PER_SEC);
	PASSES(TCP(POD_B, POD_A, 80, 40000, ACK));
	lab_connection_age(POD_A, 40000, POD_B, 80, IPPROTO_TCP,
			   CT_TCP_ESTABLISHED_NS + NS_PER_SEC);
	DROPS(INGRESS_DENIED, TCP(POD_B, POD_A, 80, 40000, ACK));
}

static void test_a_remote_openers_ack_establishes(void **state)
{
	(void)state;
	isolate(POD_B, EGRESS);
	PASSES(TCP(OUTSIDE, POD_B, 40000, 80, SYN), .seq = 7);
	PASSES(TCP(POD_B, OUTSIDE, 80, 40000, SYN | ACK), .ack = 8);
	PASSES(TCP(OUTSIDE, POD_B, 40000, 80, ACK), .seq = 8);
	/* Then nobody says anything for an hour. */
	lab_connection_age(OUTSIDE, 40000, POD_B, 80, IPPROTO_TCP, 3600 * NS_PER_SEC);
	PASSES(TCP(OUTSIDE, POD_B, 40000, 80, ACK | PSH), .seq = 8);
	PASSES(TCP(POD_B, OUTSIDE, 80, 40000, ACK));
}

static void test_use_keeps_an_entry_alive(void **state)
{
	struct ct_entry before, after;

	(void)state;
	isolate(POD_A, INGRESS);
	lab_handshake();
	lab_connection_age(POD_A, 40000, POD_B, 80, IPPROTO_TCP, NS_PER_SEC);
	assert_true(lab_connection(POD_A, 40000, POD_B, 80, IPPROTO_TCP, &before));
	PASSES(TCP(POD_B, POD_A, 80, 40000, ACK));
	assert_true(lab_connection(POD_A, 40000, POD_B, 80, IPPROTO_TCP, &after));
	assert_true(after.last_seen_ns >= before.last_seen_ns + NS_PER_SEC);
	/* but not with every packet */
	PASSES(TCP(POD_B, POD_A, 80, 40000, ACK));
	assert_true(lab_connection(POD_A, 40000, POD_B, 80, IPPROTO_TCP, &before));
	assert_int_equal(after.last_seen_ns, before.last_seen_ns);
}

static void test_a_finished_connection_leaves_no_door(void **state)
{
	struct ct_entry entry;

	(void)state;
	isolate(POD_A, INGRESS);
	/* The client ends first: the second FIN is the last packet that needs the entry. */
	lab_handshake();
	PASSES(TCP(POD_A, POD_B, 40000, 80, FIN | ACK));
	PASSES(TCP(POD_B, POD_A, 80, 40000, ACK));
	assert_true(lab_connection(POD_A, 40000, POD_B, 80, IPPROTO_TCP, &entry));
	PASSES(TCP(POD_B, POD_A, 80, 40000, FIN | ACK));
	assert_false(lab_connection(POD_A, 40000, POD_B, 80, IPPROTO_TCP, &entry));
	DROPS(INGRESS_DENIED, TCP(POD_B, POD_A, 80, 40000, ACK | PSH));
	/* The server ends first: its ACK is. */
	lab_handshake();
	PASSES(TCP(POD_B, POD_A, 80, 40000, FIN | ACK));
	PASSES(TCP(POD_A, POD_B, 40000, 80, FIN | ACK));
	assert_true(lab_connection(POD_A, 40000, POD_B, 80, IPPROTO_TCP, &entry));
	PASSES(TCP(POD_B, POD_A, 80, 40000, ACK));
	assert_false(lab_connection(POD_A, 40000, POD_B, 80, IPPROTO_TCP, &entry));
	DROPS(INGRESS_DENIED, TCP(POD_B, POD_A, 80, 40000, ACK | PSH));
}

static void test_a_last_ack_that_is_never_seen_leaves_the_door_for_a_moment_only(void **state)
{
	(void)state;
	isolate(POD_A, INGRESS);
	lab_handshake();
	PASSES(TCP(POD_B, POD_A, 80, 40000, FIN | ACK));
	PASSES(TCP(POD_A, POD_B, 40000, 80, FIN | ACK));
	lab_connection_age(POD_A, 40000, POD_B, 80, IPPROTO_TCP, CT_TCP_CLOSING_NS + NS_PER_SEC);
	DROPS(INGRESS_DENIED, TCP(POD_B, POD_A, 80, 40000, ACK));
}

static void test_a_reset_to_a_pod_without_the_socket_ends_the_connection(void **state)
{
	struct ct_entry entry;

	(void)state;
	isolate(POD_A, INGRESS);
	lab_handshake();
	PASSES(TCP(POD_B, POD_A, 80, 40000, RST), .seq = 5001);
	assert_false(lab_connection(POD_A, 40000, POD_B, 80, IPPROTO_TCP, &entry));
	lab_handshake();
	PASSES(TCP(POD_A, POD_B, 40000, 80, RST), .seq = 1001);
	assert_false(lab_connection(POD_A, 40000, POD_B, 80, IPPROTO_TCP, &entry));
}

static void test_a_reset_to_someone_elsewhere_cannot_be_checked_and_ends_it_soon(void **state)
{
	struct ct_entry entry;

	(void)state;
	isolate(POD_A, INGRESS);
	PASSES(TCP(POD_A, OUTSIDE, 40000, 80, SYN), .seq = 1000);
	PASSES(TCP(OUTSIDE, POD_A, 80, 40000, SYN | ACK), .ack = 1001);
	PASSES(TCP(POD_A, OUTSIDE, 40000, 80, RST), .seq = 1001);
	assert_true(lab_connection(POD_A, 40000, OUTSIDE, 80, IPPROTO_TCP, &entry));
	lab_connection_age(POD_A, 40000, OUTSIDE, 80, IPPROTO_TCP, CT_TCP_CLOSING_NS + NS_PER_SEC);
	DROPS(INGRESS_DENIED, TCP(OUTSIDE, POD_A, 80, 40000, ACK));
}

static void test_a_full_table_is_said_and_stops_no_opening(void **state)
{
	uint64_t before = lab_metric(METRIC_NOTICES + NOTICE_CT_FULL);
	struct ct_key key = { .proto = 6 };
	struct ct_entry entry = { 0 };
	uint32_t count = 0;

	(void)state;
	while (!bpf_map_update_elem(lab_map("ct_map"), &key, &entry, BPF_ANY))
		key.a.w[0] = htonl(++count);
	assert_true(count >= 512);
	isolate(POD_A, INGRESS);
	PASSES(TCP(POD_A, POD_B, 40000, 80, SYN));
	PASSES(UDP(POD_A, POD_B, 40000, 80));
	assert_int_equal(lab_metric(METRIC_NOTICES + NOTICE_CT_FULL), before + 2);
	DROPS(NOT_OPENED, TCP(POD_B, POD_A, 80, 40000, SYN | ACK), .ack = 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH_FAMILIES(test_one_isolated_direction_keeps_no_state),
		BOTH_FAMILIES(test_answers_pass_by_the_handshake),
		BOTH_FAMILIES(test_answers_pass_where_every_direction_is_isolated),
		BOTH_FAMILIES(test_remote_and_node_connections_get_answers),
		BOTH_FAMILIES(test_no_answer_without_a_question),
		BOTH_FAMILIES(test_only_the_right_syn_ack_opens),
		BOTH_FAMILIES(test_a_refusal_is_an_answer),
		BOTH_FAMILIES(test_data_in_the_syn_may_be_taken_or_not),
		BOTH_FAMILIES(test_a_repeated_syn_does_not_undo_its_answer),
		BOTH_FAMILIES(test_an_entry_admits_no_syn),
		BOTH_FAMILIES(test_a_change_of_policy_reaches_live_connections),
		BOTH_FAMILIES(test_an_expired_entry_is_none),
		BOTH_FAMILIES(test_a_remote_openers_ack_establishes),
		BOTH_FAMILIES(test_use_keeps_an_entry_alive),
		BOTH_FAMILIES(test_a_finished_connection_leaves_no_door),
		BOTH_FAMILIES(test_a_last_ack_that_is_never_seen_leaves_the_door_for_a_moment_only),
		BOTH_FAMILIES(test_a_reset_to_a_pod_without_the_socket_ends_the_connection),
		BOTH_FAMILIES(test_a_reset_to_someone_elsewhere_cannot_be_checked_and_ends_it_soon),
		BOTH_FAMILIES(test_a_full_table_is_said_and_stops_no_opening),
	};

	return LAB_RUN(tests);
}
