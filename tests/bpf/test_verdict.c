/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decisions 1, 2 and 9: who is asked at all, and what policy says of an opening.  What follows one
 * is test_tcp_state.c and test_protocols.c.
 */
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include "harness/lab.h"
#include "lib/auto.h"

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
	const struct segment received = { TCP(POD_B, POD_A, 80, 40001, ACK) };
	struct ct_entry entry;

	(void)state;
	PASSES(TCP(POD_A, POD_B, 40000, 80, SYN));
	PASSES(TCP(POD_A, POD_B, 40001, 80, ACK | PSH));
	PASSES(TCP(OUTSIDE, POD_B, 40001, 80, RST));
	PASSES(UDP(POD_B, OUTSIDE, 40000, 53));
	PASSES(ECHO_REPLY(POD_A, POD_B, 3));
	PASSES(PORT_UNREACHABLE(POD_A, POD_B), .embedded = &received);
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
	struct endpoint_entry endpoint;

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
	};

	return LAB_RUN(tests);
}
