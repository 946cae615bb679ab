/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decisions 1 to 7 without sockets: policy, connection state, and what must not be forged.  The
 * evidence of sockets (decision 5) is test_sockets.c.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/pkt_cls.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include "agent/lib/auto.h"
#include "harness/lab.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define INGRESS ENDPOINT_INGRESS_ISOLATED
#define EGRESS  ENDPOINT_EGRESS_ISOLATED

/* ---- 1 and 2: nobody minds ------------------------------------------------------------------ */

static void test_a_pod_reaches_itself(void **state)
{
	(void)state;
	isolate(POD_A, INGRESS | EGRESS);
	PASSES(TCP(POD_A, POD_A, 40000, 80, SYN));
	PASSES(TCP(POD_A, POD_A, 40000, 80, ACK));
	PASSES(UDP(POD_A, POD_A, 40000, 80));
}

static void test_without_isolation_everything_passes_and_nothing_is_kept(void **state)
{
	struct ct_entry entry;

	(void)state;
	PASSES(TCP(POD_A, POD_B, 40000, 80, SYN));
	PASSES(TCP(POD_A, POD_B, 40001, 80, ACK | PSH));
	PASSES(TCP(OUTSIDE, POD_B, 40001, 80, RST));
	PASSES(UDP(POD_B, OUTSIDE, 40000, 53));
	PASSES(ECHO_REPLY(POD_A, POD_B, 3));
	PASSES(PORT_UNREACHABLE(POD_A, POD_B), .payload = 40);
	PASSES(.from = at(POD_A), .to = at(POD_B), .proto = 47, .payload = 20);
	assert_false(lab_connection(POD_A, 40000, POD_B, 80, IPPROTO_TCP, &entry));
	assert_false(lab_connection(POD_B, 40000, OUTSIDE, 53, IPPROTO_UDP, &entry));
}

/* ---- 9: policy ------------------------------------------------------------------------------ */

static void test_each_side_is_asked_for_its_direction(void **state)
{
	(void)state;
	isolate(POD_A, EGRESS);
	isolate(POD_B, INGRESS);
	DROPS(EGRESS_DENIED, TCP(POD_A, POD_B, 40000, 80, SYN));
	allow(POD_A, DIR_EGRESS, POD_B, IPPROTO_TCP, 80);
	DROPS(INGRESS_DENIED, TCP(POD_A, POD_B, 40000, 80, SYN));
	allow(POD_B, DIR_INGRESS, POD_A, IPPROTO_TCP, 80);
	PASSES(TCP(POD_A, POD_B, 40000, 80, SYN));
	DROPS(EGRESS_DENIED, TCP(POD_A, POD_B, 40000, 81, SYN));
	DROPS(EGRESS_DENIED, UDP(POD_A, POD_B, 40000, 80));
	/* Nothing was said of the other way round. */
	PASSES(TCP(POD_B, POD_A, 40000, 80, SYN));
}

static void test_an_entry_of_the_exact_peer_decides_alone(void **state)
{
	(void)state;
	isolate(POD_B, INGRESS);
	allow(POD_B, DIR_INGRESS, ANYONE, IPPROTO_TCP, 80);
	PASSES(TCP(POD_A, POD_B, 40000, 80, SYN));
	allow(POD_B, DIR_INGRESS, POD_A, IPPROTO_TCP, 81);
	DROPS(INGRESS_DENIED, TCP(POD_A, POD_B, 40000, 80, SYN));
	PASSES(TCP(POD_A, POD_B, 40000, 81, SYN));
	PASSES(TCP(POD_C, POD_B, 40000, 80, SYN));
	PASSES(TCP(OUTSIDE, POD_B, 40000, 80, SYN));
}

static void test_addresses_outside_are_known_by_prefix(void **state)
{
	(void)state;
	isolate(POD_B, INGRESS | EGRESS);
	allow(POD_B, DIR_INGRESS, OUTSIDE, IPPROTO_TCP, 80);
	allow(POD_B, DIR_EGRESS, OUTSIDE, IPPROTO_UDP, 53);
	PASSES(TCP(OUTSIDE, POD_B, 40000, 80, SYN));
	DROPS(INGRESS_DENIED, TCP(ELSEWHERE, POD_B, 40000, 80, SYN));
	PASSES(UDP(POD_B, OUTSIDE, 40000, 53));
	DROPS(EGRESS_DENIED, UDP(POD_B, ELSEWHERE, 40000, 53));
	/* Without CIDRs in policies the trie is not asked. */
	maps_node(lab.datapath)->flags = 0;
	DROPS(INGRESS_DENIED, TCP(OUTSIDE, POD_B, 40000, 80, SYN));
}

static void test_long_port_lists_are_looked_up(void **state)
{
	struct policy_key key = { .peer = identity_of(POD_A), .direction = DIR_INGRESS };
	struct policy_entry entry = { .port_set = 7 };
	struct port_key port = { .port_set = 7, .proto = IPPROTO_TCP };
	struct endpoint endpoint;

	(void)state;
	isolate(POD_B, INGRESS);
	assert_int_equal(endpoint_map_get(lab.datapath, lab.pods->pod[POD_B].slot, &endpoint), 0);
	key.policy_id = endpoint.policy_id;
	assert_int_equal(policy_map_set(lab.datapath, &key, &entry), 0);
	port.prefixlen = 56 - 4; /* 8000 .. 8015 */
	memcpy(port.port, (uint8_t[2]){ 0x1f, 0x40 }, 2);
	assert_int_equal(port_map_set(lab.datapath, &port, VERDICT_ALLOW), 0);
	port = (struct port_key){ .prefixlen = 40, .port_set = 7, .proto = IPPROTO_SCTP };
	assert_int_equal(port_map_set(lab.datapath, &port, VERDICT_ALLOW), 0);
	DROPS(INGRESS_DENIED, TCP(POD_A, POD_B, 40000, 7999, SYN));
	PASSES(TCP(POD_A, POD_B, 40000, 8000, SYN));
	PASSES(TCP(POD_A, POD_B, 40000, 8015, SYN));
	DROPS(INGRESS_DENIED, TCP(POD_A, POD_B, 40000, 8016, SYN));
	DROPS(INGRESS_DENIED, UDP(POD_A, POD_B, 40000, 8000));
	PASSES(.from = at(POD_A), .to = at(POD_B), .proto = IPPROTO_SCTP, .dport = 9, .chunk = 1);
	/* Every protocol. */
	port = (struct port_key){ .prefixlen = 40, .port_set = 7 };
	assert_int_equal(port_map_set(lab.datapath, &port, VERDICT_ALLOW), 0);
	PASSES(UDP(POD_A, POD_B, 40000, 8000));
	PASSES(.from = at(POD_A), .to = at(POD_B), .proto = 47, .payload = 20);
	assert_int_equal(port_map_del(lab.datapath, &port), 0);
}

static void test_the_nodes_own_traffic_always_reaches_its_pods(void **state)
{
	struct segment segment = { TCP(NODE, POD_B, 40000, 80, SYN) };
	struct frame frame = lab_frame(&segment);

	(void)state;
	isolate(POD_B, INGRESS | EGRESS);
	PASSES(TCP(NODE, POD_B, 40000, 80, SYN));
	PASSES(UDP(NODE, POD_B, 40000, 80));
	/* Forwarded under the node's address is not the node's own. */
	FRAME_IS(lab_to_pod(&frame, UPLINK), &frame, INGRESS_DENIED);
	allow(POD_B, DIR_INGRESS, NODE, IPPROTO_TCP, 80);
	FRAME_IS(lab_to_pod(&frame, UPLINK), &frame, NONE);
}

/* ---- 3 and 4: TCP --------------------------------------------------------------------------- */

/* A opens a connection from port 40000 to B's port 80; the answer is let through. */
static void handshake(void)
{
	PASSES(TCP(POD_A, POD_B, 40000, 80, SYN), .seq = 1000);
	PASSES(TCP(POD_B, POD_A, 80, 40000, SYN | ACK), .seq = 5000, .ack = 1001);
	PASSES(TCP(POD_A, POD_B, 40000, 80, ACK), .seq = 1001, .ack = 5001);
}

static void test_one_isolated_direction_keeps_no_state(void **state)
{
	struct ct_entry entry;

	(void)state;
	isolate(POD_B, INGRESS);
	allow(POD_B, DIR_INGRESS, POD_A, IPPROTO_TCP, 80);
	handshake();
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
	handshake();
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
	handshake();
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
	handshake();
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
	handshake();
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
	handshake();
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
	handshake();
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
	handshake();
	lab_connection_age(POD_A, 40000, POD_B, 80, IPPROTO_TCP, CT_TOUCH_NS + NS_PER_SEC);
	assert_true(lab_connection(POD_A, 40000, POD_B, 80, IPPROTO_TCP, &before));
	PASSES(TCP(POD_B, POD_A, 80, 40000, ACK));
	assert_true(lab_connection(POD_A, 40000, POD_B, 80, IPPROTO_TCP, &after));
	assert_true(after.last_seen_ns >= before.last_seen_ns + CT_TOUCH_NS);
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
	handshake();
	PASSES(TCP(POD_A, POD_B, 40000, 80, FIN | ACK));
	PASSES(TCP(POD_B, POD_A, 80, 40000, ACK));
	assert_true(lab_connection(POD_A, 40000, POD_B, 80, IPPROTO_TCP, &entry));
	PASSES(TCP(POD_B, POD_A, 80, 40000, FIN | ACK));
	assert_false(lab_connection(POD_A, 40000, POD_B, 80, IPPROTO_TCP, &entry));
	DROPS(INGRESS_DENIED, TCP(POD_B, POD_A, 80, 40000, ACK | PSH));
	/* The server ends first: its ACK is. */
	handshake();
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
	handshake();
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
	handshake();
	PASSES(TCP(POD_B, POD_A, 80, 40000, RST), .seq = 5001);
	assert_false(lab_connection(POD_A, 40000, POD_B, 80, IPPROTO_TCP, &entry));
	handshake();
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

/* ---- 6: other protocols --------------------------------------------------------------------- */

static void test_datagrams_get_answers(void **state)
{
	struct ct_entry entry;

	(void)state;
	isolate(POD_A, INGRESS | EGRESS);
	allow(POD_A, DIR_EGRESS, POD_B, IPPROTO_UDP, 53);
	allow(POD_A, DIR_EGRESS, OUTSIDE, IPPROTO_UDP, 53);
	DROPS(INGRESS_DENIED, UDP(POD_B, POD_A, 53, 40000));
	PASSES(UDP(POD_A, POD_B, 40000, 53));
	PASSES(UDP(POD_B, POD_A, 53, 40000));
	PASSES(UDP(POD_A, OUTSIDE, 40000, 53));
	PASSES(UDP(OUTSIDE, POD_A, 53, 40000));
	assert_true(lab_connection(POD_A, 40000, POD_B, 53, IPPROTO_UDP, &entry));
	assert_true(entry.flags & CT_REPLIED);
	DROPS(INGRESS_DENIED, UDP(POD_B, POD_A, 53, 40001));
	DROPS(INGRESS_DENIED, UDP(POD_C, POD_A, 53, 40000));
	DROPS(EGRESS_DENIED, UDP(POD_A, POD_B, 40000, 54));
	forbid(POD_A, DIR_EGRESS, POD_B);
	DROPS(INGRESS_DENIED, UDP(POD_B, POD_A, 53, 40000));
	PASSES(UDP(OUTSIDE, POD_A, 53, 40000));
}

static void test_a_datagram_flow_ends_by_silence(void **state)
{
	(void)state;
	isolate(POD_A, INGRESS);
	PASSES(UDP(POD_A, POD_B, 40000, 53));
	lab_connection_age(POD_A, 40000, POD_B, 53, IPPROTO_UDP,
			   CT_OTHER_UNREPLIED_NS + NS_PER_SEC);
	DROPS(INGRESS_DENIED, UDP(POD_B, POD_A, 53, 40000));
	PASSES(UDP(POD_A, POD_B, 40000, 53));
	PASSES(UDP(POD_B, POD_A, 53, 40000));
	lab_connection_age(POD_A, 40000, POD_B, 53, IPPROTO_UDP,
			   CT_OTHER_UNREPLIED_NS + NS_PER_SEC);
	PASSES(UDP(POD_B, POD_A, 53, 40000));
	lab_connection_age(POD_A, 40000, POD_B, 53, IPPROTO_UDP, CT_OTHER_REPLIED_NS + NS_PER_SEC);
	DROPS(INGRESS_DENIED, UDP(POD_B, POD_A, 53, 40000));
}

/* The answers of a request that policy let through are not openings of the other end's own, or the
 * flow would go on by them when policy has changed. */
static void test_answers_that_nobody_isolates_open_nothing(void **state)
{
	static const uint8_t protos[] = { IPPROTO_UDP, IPPROTO_SCTP };
	struct ct_entry entry;

	(void)state;
	isolate(POD_B, INGRESS);
	for (size_t i = 0; i < ARRAY_SIZE(protos); i++) {
		struct segment request = { UDP(POD_A, POD_B, 40000, 80), .chunk = 1 };
		struct segment answer = { UDP(POD_B, POD_A, 80, 40000), .chunk = 2 };

		request.proto = answer.proto = protos[i];
		allow(POD_B, DIR_INGRESS, POD_A, protos[i], 80);
		lab_expect(&request, DROP_NONE, __FILE__, __LINE__);
		lab_expect(&answer, DROP_NONE, __FILE__, __LINE__);
		assert_false(lab_connection(POD_A, 40000, POD_B, 80, protos[i], &entry));
		forbid(POD_B, DIR_INGRESS, POD_A);
		request.chunk = 0;
		lab_expect(&request, DROP_INGRESS_DENIED, __FILE__, __LINE__);
	}
	/* What B begins is answered. */
	PASSES(UDP(POD_B, POD_A, 80, 40001));
	PASSES(UDP(POD_A, POD_B, 40001, 80));
}

static void test_both_may_begin_with_the_same_ports(void **state)
{
	(void)state;
	isolate(POD_A, INGRESS | EGRESS);
	isolate(POD_B, INGRESS | EGRESS);
	allow(POD_A, DIR_EGRESS, POD_B, IPPROTO_UDP, 123);
	allow(POD_B, DIR_INGRESS, POD_A, IPPROTO_UDP, 123);
	PASSES(UDP(POD_A, POD_B, 123, 123));
	PASSES(UDP(POD_B, POD_A, 123, 123));
	/* Once only B may begin, its packets make the flow its own. */
	forbid(POD_A, DIR_EGRESS, POD_B);
	allow(POD_B, DIR_EGRESS, POD_A, IPPROTO_UDP, 123);
	allow(POD_A, DIR_INGRESS, POD_B, IPPROTO_UDP, 123);
	DROPS(EGRESS_DENIED, UDP(POD_A, POD_B, 123, 123));
	PASSES(UDP(POD_B, POD_A, 123, 123));
	PASSES(UDP(POD_A, POD_B, 123, 123));
}

static void test_echo_replies_answer_requests_and_open_nothing(void **state)
{
	struct ct_entry entry;

	(void)state;
	isolate(POD_A, INGRESS);
	DROPS(INGRESS_DENIED, ECHO_REPLY(POD_B, POD_A, 7));
	PASSES(ECHO_REQUEST(POD_A, POD_B, 7));
	PASSES(ECHO_REPLY(POD_B, POD_A, 7));
	DROPS(INGRESS_DENIED, ECHO_REPLY(POD_B, POD_A, 8));
	DROPS(INGRESS_DENIED, ECHO_REQUEST(POD_B, POD_A, 7));
	PASSES(ECHO_REPLY(POD_A, POD_B, 9));
	DROPS(INGRESS_DENIED, ECHO_REQUEST(POD_B, POD_A, 9));
	assert_false(lab_connection(POD_A, 0, POD_B, 9, IPPROTO_ICMP, &entry));
}

#define SCTP(from_, to_, sport_, dport_, chunk_)                                                   \
	.from = at(from_), .to = at(to_), .proto = IPPROTO_SCTP, .sport = sport_, .dport = dport_, \
	.chunk = chunk_

static void test_an_association_opens_by_its_init(void **state)
{
	(void)state;
	isolate(POD_A, INGRESS);
	PASSES(SCTP(POD_A, POD_B, 40000, 80, 1));
	PASSES(SCTP(POD_B, POD_A, 80, 40000, 2)); /* INIT ACK */
	PASSES(SCTP(POD_A, POD_B, 40000, 80, 10));
	PASSES(SCTP(POD_B, POD_A, 80, 40000, 11));
	/* An association of its own is not an answer. */
	DROPS(INGRESS_DENIED, SCTP(POD_B, POD_A, 80, 40000, 1));
	PASSES(SCTP(POD_B, POD_A, 80, 40000, 0));
}

static void test_protocols_without_ports_are_flows_too(void **state)
{
	(void)state;
	isolate(POD_A, INGRESS);
	DROPS(INGRESS_DENIED, .from = at(POD_B), .to = at(POD_A), .proto = 47, .payload = 20);
	PASSES(.from = at(POD_A), .to = at(POD_B), .proto = 47, .payload = 20);
	PASSES(.from = at(POD_B), .to = at(POD_A), .proto = 47, .payload = 20);
	isolate(POD_B, INGRESS);
	allow(POD_B, DIR_INGRESS, POD_C, 0, 0);
	DROPS(INGRESS_DENIED, .from = at(POD_A), .to = at(POD_B), .proto = 50, .payload = 20);
	PASSES(.from = at(POD_C), .to = at(POD_B), .proto = 50, .payload = 20);
}

/* ---- 7: ICMP errors ------------------------------------------------------------------------- */

static void test_an_error_about_a_known_flow_passes(void **state)
{
	const struct segment tcp = { TCP(POD_A, POD_B, 40000, 80, ACK) };
	const struct segment udp = { UDP(POD_A, OUTSIDE, 40000, 53) };
	const struct segment answer = { TCP(POD_A, OUTSIDE, 80, 40000, ACK) };
	const struct segment echo = { ECHO_REQUEST(POD_A, POD_B, 7) };

	(void)state;
	isolate(POD_A, INGRESS | EGRESS);
	allow(POD_A, DIR_EGRESS, ANYONE, 0, 0);
	allow(POD_A, DIR_INGRESS, OUTSIDE, IPPROTO_TCP, 80);
	handshake();
	PASSES(PORT_UNREACHABLE(POD_B, POD_A), .embedded = &tcp);
	/* by a router on the way */
	PASSES(PORT_UNREACHABLE(ELSEWHERE, POD_A), .embedded = &tcp);
	DROPS(UNRELATED_ERROR, PORT_UNREACHABLE(ELSEWHERE, POD_A), .embedded = &udp);
	PASSES(UDP(POD_A, OUTSIDE, 40000, 53));
	PASSES(PORT_UNREACHABLE(ELSEWHERE, POD_A), .embedded = &udp);
	/* about an answer of the receiver */
	DROPS(UNRELATED_ERROR, PORT_UNREACHABLE(OUTSIDE, POD_A), .embedded = &answer);
	PASSES(TCP(OUTSIDE, POD_A, 40000, 80, SYN));
	PASSES(PORT_UNREACHABLE(OUTSIDE, POD_A), .embedded = &answer);
	DROPS(UNRELATED_ERROR, PORT_UNREACHABLE(POD_B, POD_A), .embedded = &echo);
	PASSES(ECHO_REQUEST(POD_A, POD_B, 7));
	PASSES(PORT_UNREACHABLE(POD_B, POD_A), .embedded = &echo);
}

static void test_an_error_must_speak_of_the_receivers_own_packet(void **state)
{
	const struct segment foreign = { TCP(POD_C, POD_B, 40000, 80, ACK) };
	const struct segment reversed = { TCP(POD_B, POD_A, 80, 40000, ACK) };
	struct segment fragment = { UDP(POD_A, POD_B, 40000, 80), .offset = 64, .payload = 32 };

	(void)state;
	isolate(POD_A, INGRESS);
	isolate(POD_C, INGRESS);
	handshake();
	PASSES(TCP(POD_C, POD_B, 40000, 80, SYN));
	DROPS(UNRELATED_ERROR, PORT_UNREACHABLE(POD_B, POD_A), .embedded = &foreign);
	DROPS(UNRELATED_ERROR, PORT_UNREACHABLE(POD_B, POD_A), .embedded = &reversed);
	DROPS(UNRELATED_ERROR, PORT_UNREACHABLE(POD_B, POD_A), .payload = 60);
	DROPS(UNRELATED_ERROR, PORT_UNREACHABLE(POD_B, POD_A), .payload = 4);
	DROPS(UNRELATED_ERROR, PORT_UNREACHABLE(POD_B, POD_A), .embedded = &fragment);
	/* The node's own errors (a path too narrow) need no flow. */
	PASSES(PORT_UNREACHABLE(NODE, POD_A), .embedded = &foreign);
}

/* ---- to_pod: who sent it -------------------------------------------------------------------- */

static void test_a_pods_address_from_elsewhere_is_forged(void **state)
{
	const struct segment segment = { UDP(POD_A, POD_B, 1, 2) };
	struct frame frame = lab_frame(&segment);
	uint32_t own = ENDPOINT_IFINDEX_BASE + lab.pods->pod[POD_A].slot;

	(void)state;
	FRAME_IS(lab_to_pod(&frame, UPLINK), &frame, SPOOFED_ADDRESS);
	FRAME_IS(lab_to_pod(&frame, ENDPOINT_IFINDEX_BASE + lab.pods->pod[POD_C].slot), &frame,
		 SPOOFED_ADDRESS);
	FRAME_IS(lab_to_pod(&frame, own), &frame, NONE);
	/* A transparent proxy of this node may speak for it. */
	FRAME_IS(lab_to_pod(&frame, 0), &frame, NONE);
	/* By way of the host both sides' policy still holds. */
	isolate(POD_A, EGRESS);
	FRAME_IS(lab_to_pod(&frame, own), &frame, EGRESS_DENIED);
	allow(POD_A, DIR_EGRESS, POD_B, IPPROTO_UDP, 2);
	isolate(POD_B, INGRESS);
	FRAME_IS(lab_to_pod(&frame, own), &frame, INGRESS_DENIED);
}

static void test_a_pod_behind_the_nodes_address_is_still_that_pod(void **state)
{
	const struct segment segment = { TCP(NODE, POD_B, 1025, 80, SYN) };
	const struct segment reply = { TCP(POD_B, NODE, 80, 1025, SYN | ACK), .ack = 1 };
	struct frame frame = lab_frame(&segment);
	uint32_t from_a = ENDPOINT_IFINDEX_BASE + lab.pods->pod[POD_A].slot;
	uint32_t from_c = ENDPOINT_IFINDEX_BASE + lab.pods->pod[POD_C].slot;

	(void)state;
	isolate(POD_B, INGRESS | EGRESS);
	allow(POD_B, DIR_INGRESS, POD_A, IPPROTO_TCP, 80);
	FRAME_IS(lab_to_pod(&frame, from_c), &frame, INGRESS_DENIED);
	FRAME_IS(lab_to_pod(&frame, from_a), &frame, NONE);
	lab_expect(&reply, DROP_NONE, __FILE__, __LINE__);
	/* Its answers do not end because the node itself has no rule. */
	maps_bump_revision(lab.datapath);
	lab_expect(&reply, DROP_NONE, __FILE__, __LINE__);
	forbid(POD_B, DIR_INGRESS, POD_A);
	FRAME_IS(lab_to_pod(&frame, from_a), &frame, INGRESS_DENIED);
}

static void test_an_answer_through_the_nodes_nat_is_not_judged_twice(void **state)
{
	const struct segment answer = { TCP(NODE, POD_A, 8080, 40000, ACK) };
	struct frame frame = lab_frame(&answer);
	uint32_t from_b = ENDPOINT_IFINDEX_BASE + lab.pods->pod[POD_B].slot;

	(void)state;
	/* B may send nothing to A, but answers the node, which A asked: from_pod has seen to that.
	 */
	isolate(POD_B, EGRESS);
	FRAME_IS(lab_to_pod(&frame, from_b), &frame, NONE);
	isolate(POD_A, INGRESS);
	FRAME_IS(lab_to_pod(&frame, from_b), &frame, INGRESS_DENIED);
}

static void test_to_pod_delivers_with_the_pods_macs(void **state)
{
	const struct pod *b = &lab.pods->pod[POD_B];
	struct outcome outcome = lab_send(&(struct segment){ UDP(OUTSIDE, POD_B, 1, 2) });

	(void)state;
	assert_int_equal(outcome.action, TC_ACT_REDIRECT);
	assert_int_equal(outcome.received_by, b->slot);
	assert_memory_equal(outcome.frame.bytes, b->mac, 6);
	assert_memory_equal(outcome.frame.bytes + 6, b->host_mac, 6);
}

static void test_an_address_without_a_pod_is_dropped_with_that_reason(void **state)
{
	struct frame group = lab_frame(&(struct segment){ UDP(OUTSIDE, POD_B, 1, 2) });

	(void)state;
	DROPS(NO_ENDPOINT, UDP(OUTSIDE, NOBODY, 1, 2));
	DROPS(NO_ENDPOINT, UDP(NODE, OUTSIDE, 1, 2));
	/* What the host says to groups on that device is for nobody and not worth counting. */
	group.bytes[FRAME_L3 + (lab.ipv6 ? 24 : 16)] = lab.ipv6 ? 0xff : 0xe0;
	assert_int_equal(lab_to_pod(&group, 0).action, TC_ACT_OK);
}

/* ---- events --------------------------------------------------------------------------------- */

static struct flow_event seen_event;
static unsigned int seen_events;

static void on_event(const struct flow_event *event, void *arg)
{
	(void)arg;
	seen_event = *event;
	seen_events++;
}

static void events_drain(void)
{
	assert_true(events_consume(lab.datapath, on_event, NULL) >= 0);
}

static void test_a_drop_is_told_with_both_ends(void **state)
{
	struct endpoint_stats stats;

	(void)state;
	isolate(POD_B, INGRESS);
	events_drain();
	DROPS(INGRESS_DENIED, TCP(POD_A, POD_B, 40000, 80, SYN));
	events_drain();
	assert_int_equal(seen_event.type, EVENT_DROP);
	assert_int_equal(seen_event.reason, DROP_INGRESS_DENIED);
	assert_int_equal(seen_event.src_slot, lab.pods->pod[POD_A].slot);
	assert_int_equal(seen_event.dst_slot, lab.pods->pod[POD_B].slot);
	assert_int_equal(seen_event.src_identity, identity_of(POD_A));
	assert_int_equal(seen_event.dst_identity, identity_of(POD_B));
	assert_int_equal(seen_event.flow.dport, htons(80));
	assert_int_equal(seen_event.flow.proto, IPPROTO_TCP);
	assert_int_equal(seen_event.tcp_flags, SYN);
	assert_int_equal(endpoint_stats_get(lab.datapath, lab.pods->pod[POD_B].slot, &stats), 0);
	assert_int_equal(stats.drops, 1);
}

static void test_new_connections_are_told_while_someone_watches(void **state)
{
	(void)state;
	events_drain();
	seen_events = 0;
	PASSES(TCP(POD_A, POD_B, 40000, 80, SYN));
	events_drain();
	assert_int_equal(seen_events, 0);
	maps_node(lab.datapath)->flags |= NODE_VERDICT_EVENTS;
	PASSES(TCP(POD_A, POD_B, 40000, 80, SYN));
	PASSES(TCP(POD_A, POD_B, 40000, 80, ACK));
	events_drain();
	assert_int_equal(seen_events, 1);
	assert_int_equal(seen_event.type, EVENT_VERDICT);
	assert_int_equal(seen_event.reason, DROP_NONE);
}

static void test_events_have_a_budget_and_drops_are_counted_beyond_it(void **state)
{
	uint64_t lost = lab_metric(METRIC_NOTICES + NOTICE_EVENTS_LOST);

	(void)state;
	isolate(POD_B, INGRESS);
	/* More than a second can hold, whichever CPU and second they fall into. */
	for (int i = 0;
	     i < 5 * EVENT_RATE && lab_metric(METRIC_NOTICES + NOTICE_EVENTS_LOST) == lost; i++)
		DROPS(INGRESS_DENIED, UDP(POD_A, POD_B, 1, 2));
	assert_true(lab_metric(METRIC_NOTICES + NOTICE_EVENTS_LOST) > lost);
	events_drain();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH_FAMILIES(test_a_pod_reaches_itself),
		BOTH_FAMILIES(test_without_isolation_everything_passes_and_nothing_is_kept),
		BOTH_FAMILIES(test_each_side_is_asked_for_its_direction),
		BOTH_FAMILIES(test_an_entry_of_the_exact_peer_decides_alone),
		BOTH_FAMILIES(test_addresses_outside_are_known_by_prefix),
		BOTH_FAMILIES(test_long_port_lists_are_looked_up),
		BOTH_FAMILIES(test_the_nodes_own_traffic_always_reaches_its_pods),
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
		BOTH_FAMILIES(test_datagrams_get_answers),
		BOTH_FAMILIES(test_a_datagram_flow_ends_by_silence),
		BOTH_FAMILIES(test_answers_that_nobody_isolates_open_nothing),
		BOTH_FAMILIES(test_both_may_begin_with_the_same_ports),
		BOTH_FAMILIES(test_echo_replies_answer_requests_and_open_nothing),
		BOTH_FAMILIES(test_an_association_opens_by_its_init),
		BOTH_FAMILIES(test_protocols_without_ports_are_flows_too),
		BOTH_FAMILIES(test_an_error_about_a_known_flow_passes),
		BOTH_FAMILIES(test_an_error_must_speak_of_the_receivers_own_packet),
		BOTH_FAMILIES(test_a_pods_address_from_elsewhere_is_forged),
		BOTH_FAMILIES(test_a_pod_behind_the_nodes_address_is_still_that_pod),
		BOTH_FAMILIES(test_an_answer_through_the_nodes_nat_is_not_judged_twice),
		BOTH_FAMILIES(test_to_pod_delivers_with_the_pods_macs),
		BOTH_FAMILIES(test_an_address_without_a_pod_is_dropped_with_that_reason),
		BOTH_FAMILIES(test_a_drop_is_told_with_both_ends),
		BOTH_FAMILIES(test_new_connections_are_told_while_someone_watches),
		BOTH_FAMILIES(test_events_have_a_budget_and_drops_are_counted_beyond_it),
	};

	return LAB_RUN(tests);
}
