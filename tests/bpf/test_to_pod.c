/* SPDX-License-Identifier: Apache-2.0 */
/* to_pod: who sent what comes by way of the host, and how it is delivered. */
#include <linux/pkt_cls.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>

#include "harness/lab.h"
#include "lib/auto.h"
#include "lib/inet.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define INGRESS ENDPOINT_INGRESS_ISOLATED
#define EGRESS  ENDPOINT_EGRESS_ISOLATED

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
	/* B may send nothing to A, but answers the node, which A asked: from_pod saw to that. */
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

static void test_an_address_without_a_pod_refuses_at_once(void **state)
{
	const struct segment syn = { TCP(OUTSIDE, NOBODY, 40000, 80, SYN), .seq = 1000 };
	const struct segment datagram = { UDP(OUTSIDE, NOBODY, 40000, 53), .payload = 700 };
	struct addr nobody = at(NOBODY), client = at(OUTSIDE);
	struct frame sent = lab_frame(&syn);
	struct outcome outcome = lab_send(&syn);
	struct segment got = frame_read(&outcome.frame);

	(void)state;
	assert_int_equal(outcome.reason, DROP_NO_ENDPOINT);
	assert_int_equal(outcome.action, TC_ACT_REDIRECT);
	assert_true(addr_equal(&got.from, &nobody));
	assert_true(addr_equal(&got.to, &client));
	assert_int_equal(got.sport, 80);
	assert_int_equal(got.dport, 40000);
	assert_int_equal(got.flags, RST | ACK);
	assert_int_equal(got.ack, 1001);
	assert_true(frame_sums_hold(&outcome.frame));
	/* It comes in by the device that it left by. */
	assert_memory_equal(outcome.frame.bytes, sent.bytes + 6, 6);
	outcome = lab_send(&datagram);
	got = frame_read(&outcome.frame);
	assert_int_equal(outcome.reason, DROP_NO_ENDPOINT);
	assert_int_equal(outcome.action, TC_ACT_REDIRECT);
	assert_true(addr_equal(&got.from, &nobody));
	assert_true(addr_equal(&got.to, &client));
	assert_int_equal(got.icmp_type, lab.ipv6 ? 1 : 3);
	assert_int_equal(got.icmp_code, lab.ipv6 ? 4 : 3);
	assert_true(frame_sums_hold(&outcome.frame));
	assert_memory_equal(outcome.frame.bytes, sent.bytes + 6, 6);
	/* No answer to an answer. */
	assert_int_equal(lab_send(&(struct segment){ TCP(OUTSIDE, NOBODY, 1, 2, RST) }).action,
			 TC_ACT_SHOT);
	assert_int_equal(
		lab_send(&(struct segment){ PORT_UNREACHABLE(OUTSIDE, NOBODY), .embedded = &syn })
			.action,
		TC_ACT_SHOT);
}

static void test_the_host_speaks_protocols_of_the_link_to_its_pods(void **state)
{
	struct frame lldp = lab_frame(&(struct segment){ UDP(NODE, POD_A, 1, 2) });

	(void)state;
	isolate(POD_A, INGRESS);
	lldp.bytes[12] = 0x88;
	lldp.bytes[13] = 0xcc;
	FRAME_IS(lab_to_pod_device(POD_A, &lldp, 0), &lldp, NONE);
	/* Not by way of the host. */
	FRAME_IS(lab_to_pod_device(POD_A, &lldp, UPLINK), &lldp, UNKNOWN_PROTOCOL);
}

/* A host route to the pod's own device leads around HOST_DEVICE, not around policy. */
static void test_ingress_policy_holds_on_the_pods_own_device(void **state)
{
	const struct segment syn = { TCP(OUTSIDE, POD_A, 40000, 80, SYN) };
	const struct segment through = { TCP(OUTSIDE, ELSEWHERE, 40000, 80, SYN) };
	const struct segment own = { TCP(NODE, POD_A, 40000, 80, SYN) };
	struct frame frame = lab_frame(&syn), routed = lab_frame(&through);
	struct frame node = lab_frame(&own);
	struct outcome outcome = lab_to_pod_device(POD_A, &frame, UPLINK);

	(void)state;
	assert_int_equal(outcome.action, TC_ACT_OK);
	assert_int_equal(outcome.received_by, lab.pods->pod[POD_A].slot);
	isolate(POD_A, INGRESS);
	FRAME_IS(lab_to_pod_device(POD_A, &frame, UPLINK), &frame, INGRESS_DENIED);
	FRAME_IS(lab_to_pod_device(POD_A, &routed, UPLINK), &routed, INGRESS_DENIED);
	FRAME_IS(lab_to_pod_device(POD_A, &node, 0), &node, NONE);
	allow(POD_A, DIR_INGRESS, OUTSIDE, IPPROTO_TCP, 80);
	FRAME_IS(lab_to_pod_device(POD_A, &frame, UPLINK), &frame, NONE);
	assert_int_equal(endpoint_map_del(lab.datapath, lab.pods->pod[POD_A].slot), 0);
	FRAME_IS(lab_to_pod_device(POD_A, &frame, UPLINK), &frame, NO_ENDPOINT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH_FAMILIES(test_a_pods_address_from_elsewhere_is_forged),
		BOTH_FAMILIES(test_a_pod_behind_the_nodes_address_is_still_that_pod),
		BOTH_FAMILIES(test_an_answer_through_the_nodes_nat_is_not_judged_twice),
		BOTH_FAMILIES(test_to_pod_delivers_with_the_pods_macs),
		BOTH_FAMILIES(test_an_address_without_a_pod_is_dropped_with_that_reason),
		BOTH_FAMILIES(test_an_address_without_a_pod_refuses_at_once),
		BOTH_FAMILIES(test_ingress_policy_holds_on_the_pods_own_device),
		BOTH_FAMILIES(test_the_host_speaks_protocols_of_the_link_to_its_pods),
	};

	return LAB_RUN(tests);
}
