/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pods that another plugin wired: A and B are ports of a bridge, whose device has the index BRIDGE;
 * C is ours.  What the programs leave in tc_index for each other, tests/net/test_chained.py shows.
 */
#include <errno.h>
#include <linux/pkt_cls.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include "harness/lab.h"
#include "harness/scratch.h"
#include "lib/auto.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define DEVICE_A 201u
#define DEVICE_B 202u
#define BRIDGE   203u
#define LET_GO   204u /* of a pod that was let go, with the programs still on it */

#define INGRESS ENDPOINT_INGRESS_ISOLATED
#define EGRESS  ENDPOINT_EGRESS_ISOLATED

#define NEIGHBOUR_SOLICITATION  135
#define NEIGHBOUR_ADVERTISEMENT 136
#define HOP_LIMIT               21 /* its place in a frame */

/* As endpoint_publish() does. */
static void chain(enum host pod, uint32_t ifindex)
{
	uint16_t slot = lab.pods->pod[pod].slot;
	struct endpoint_entry endpoint;

	assert_int_equal(endpoint_map_get(lab.datapath, slot, &endpoint), 0);
	endpoint.flags |= ENDPOINT_CHAINED;
	endpoint.bridge_ifindex = BRIDGE;
	assert_int_equal(endpoint_map_set(lab.datapath, slot, &endpoint), 0);
	assert_int_equal(chained_map_set(lab.datapath, (int)ifindex, slot), 0);
}

/* Each case begins with it. */
static void chain_a_and_b(void)
{
	static const struct {
		const char *name;
		uint32_t ifindex;
	} devices[] = {
		{ "cha", DEVICE_A }, { "chb", DEVICE_B }, { "cbr", BRIDGE }, { "cgo", LET_GO }
	};
	static bool made;
	struct errmsg err = { 0 };

	for (size_t i = 0; !made && i < ARRAY_SIZE(devices); i++)
		assert_int_equal(scratch_veth(devices[i].name, (int)devices[i].ifindex, &err), 0);
	made = true;
	chain(POD_A, DEVICE_A);
	chain(POD_B, DEVICE_B);
}

static struct outcome from_a(const struct frame *frame)
{
	return lab_run_program(lab.from_pod, frame, DEVICE_A, 0);
}

static struct outcome to_b(const struct frame *frame, uint32_t in_ifindex)
{
	return lab_run_program(lab.to_pod, frame, DEVICE_B, in_ifindex);
}

static void chained_isolate(enum host pod, uint32_t flags)
{
	isolate(pod, flags | ENDPOINT_CHAINED);
}

static void test_what_passes_goes_on_as_it_is(void **state)
{
	struct frame frame = lab_frame(&(struct segment){ UDP(POD_A, POD_B, 1, 2) });
	struct outcome outcome;

	(void)state;
	chain_a_and_b();
	outcome = from_a(&frame);
	assert_int_equal(outcome.action, TC_ACT_UNSPEC); /* for the filters behind ours */
	assert_int_equal(outcome.received_by, 0);        /* not yet */
	assert_int_equal(outcome.frame.len, frame.len);
	assert_memory_equal(outcome.frame.bytes, frame.bytes, frame.len);
	outcome = to_b(&frame, DEVICE_A);
	assert_int_equal(outcome.action, TC_ACT_UNSPEC);
	assert_int_equal(outcome.received_by, lab.pods->pod[POD_B].slot);
	assert_memory_equal(outcome.frame.bytes, frame.bytes, frame.len);
}

static void test_no_redirect_between_our_pods_and_others(void **state)
{
	struct frame to_ours = lab_frame(&(struct segment){ UDP(POD_A, POD_C, 1, 2) });
	struct frame from_ours = lab_frame(&(struct segment){ UDP(POD_C, POD_A, 1, 2) });
	struct outcome outcome;

	(void)state;
	chain_a_and_b();
	outcome = from_a(&to_ours);
	assert_int_equal(outcome.action, TC_ACT_UNSPEC);
	outcome = lab_from_pod(POD_C, &from_ours);
	assert_int_equal(outcome.action, TC_ACT_OK);
	/* A pod of another plugin is not behind tendril0. */
	FRAME_IS(lab_to_pod(&from_ours, UPLINK), &from_ours, SPOOFED_ADDRESS);
	from_ours = lab_frame(&(struct segment){ UDP(OUTSIDE, POD_A, 1, 2) });
	FRAME_IS(lab_to_pod(&from_ours, UPLINK), &from_ours, NO_ENDPOINT);
}

static void test_policy_of_both_ends_holds_at_both_programs(void **state)
{
	struct frame frame = lab_frame(&(struct segment){ UDP(POD_A, POD_B, 1, 2) });

	(void)state;
	chain_a_and_b();
	chained_isolate(POD_B, INGRESS);
	FRAME_IS(from_a(&frame), &frame, INGRESS_DENIED);
	FRAME_IS(to_b(&frame, DEVICE_A), &frame, INGRESS_DENIED);
	allow(POD_B, DIR_INGRESS, POD_A, IPPROTO_UDP, 2);
	FRAME_IS(from_a(&frame), &frame, NONE);
	FRAME_IS(to_b(&frame, DEVICE_A), &frame, NONE);
	chained_isolate(POD_A, EGRESS);
	FRAME_IS(from_a(&frame), &frame, EGRESS_DENIED);
	FRAME_IS(to_b(&frame, DEVICE_A), &frame, EGRESS_DENIED);
}

static void test_sources_are_proven(void **state)
{
	struct frame frame = lab_frame(&(struct segment){ UDP(POD_A, POD_B, 1, 2) });
	struct frame forged = lab_frame(&(struct segment){ UDP(POD_C, POD_B, 1, 2) });

	(void)state;
	chain_a_and_b();
	/* By the uplink, by the device of the bridge without from_pod's tag, by another pod. */
	FRAME_IS(to_b(&frame, UPLINK), &frame, SPOOFED_ADDRESS);
	FRAME_IS(to_b(&frame, BRIDGE), &frame, SPOOFED_ADDRESS);
	FRAME_IS(to_b(&forged, DEVICE_A), &forged, SPOOFED_ADDRESS);
	memcpy(forged.bytes + 6, lab.pods->pod[POD_A].mac, 6);
	FRAME_IS(from_a(&forged), &forged, SPOOFED_ADDRESS);
}

static void test_the_node_and_others_reach_it_as_policy_says(void **state)
{
	struct frame node = lab_frame(&(struct segment){ UDP(NODE, POD_B, 1, 2) });
	struct frame outside = lab_frame(&(struct segment){ UDP(OUTSIDE, POD_B, 1, 2) });

	(void)state;
	chain_a_and_b();
	chained_isolate(POD_B, INGRESS);
	FRAME_IS(to_b(&node, 0), &node, NONE);
	FRAME_IS(to_b(&outside, UPLINK), &outside, INGRESS_DENIED);
	allow(POD_B, DIR_INGRESS, OUTSIDE, IPPROTO_UDP, 2);
	FRAME_IS(to_b(&outside, UPLINK), &outside, NONE);
}

/* The programs stay on the device of a pod that was let go, and on one whose ADD is not done. */
static void test_a_device_without_a_pod_is_closed(void **state)
{
	struct frame frame = lab_frame(&(struct segment){ UDP(POD_A, POD_B, 1, 2) });
	struct frame node = lab_frame(&(struct segment){ UDP(NODE, POD_B, 1, 2) });
	struct outcome outcome;

	(void)state;
	chain_a_and_b();
	FRAME_IS(lab_run_program(lab.from_pod, &frame, LET_GO, 0), &frame, NO_ENDPOINT);
	outcome = lab_run_program(lab.to_pod, &node, LET_GO, 0);
	assert_int_equal(outcome.action, TC_ACT_SHOT);
	assert_int_equal(outcome.reason, DROP_NO_ENDPOINT);
	/* A slot without an endpoint is no better. */
	assert_int_equal(endpoint_map_del(lab.datapath, lab.pods->pod[POD_B].slot), 0);
	outcome = to_b(&node, 0);
	assert_int_equal(outcome.action, TC_ACT_SHOT);
	assert_int_equal(outcome.reason, DROP_NO_ENDPOINT);
}

/* On a bridge groups reach everybody, so that ingress policy must see them. */
static void test_groups_are_for_policy(void **state)
{
	struct segment segment = { UDP(POD_A, POD_B, 1, 2) };
	struct frame frame;

	(void)state;
	chain_a_and_b();
	segment.to = lab.ipv6 ? (struct addr){ { htonl(0xff020000), 0, 0, htonl(0xfb) } }
			      : (struct addr){ { 0, 0, htonl(0xffff), htonl(0xe00000fb) } };
	frame = lab_frame(&segment);
	FRAME_IS(from_a(&frame), &frame, NONE);
	FRAME_IS(to_b(&frame, DEVICE_A), &frame, NONE);
	chained_isolate(POD_B, INGRESS);
	FRAME_IS(to_b(&frame, DEVICE_A), &frame, INGRESS_DENIED);
	FRAME_IS(to_b(&frame, UPLINK), &frame, SPOOFED_ADDRESS);
	segment.from = at(NODE);
	frame = lab_frame(&segment);
	FRAME_IS(to_b(&frame, 0), &frame, NONE);
}

static struct frame neighbour(enum host from, enum host to, uint8_t type, uint8_t hop_limit)
{
	struct frame frame = lab_frame(&(struct segment){ .from = at(from),
							  .to = at(to),
							  .proto = IPPROTO_ICMPV6,
							  .icmp_type = type,
							  .payload = 24 });

	frame.bytes[HOP_LIMIT] = hop_limit;
	return frame;
}

/* Pods on a bridge find each other, whatever policy says; nothing else goes by that way. */
static void test_discovery_stays_on_the_bridge(void **state)
{
	struct frame frame;

	(void)state;
	chain_a_and_b();
	chained_isolate(POD_A, EGRESS);
	chained_isolate(POD_B, INGRESS);
	frame = neighbour(POD_A, POD_B, NEIGHBOUR_ADVERTISEMENT, 255);
	FRAME_IS(from_a(&frame), &frame, NONE);
	FRAME_IS(to_b(&frame, DEVICE_A), &frame, NONE);
	/* Somebody on the wire that the bridge is on. */
	frame = neighbour(OUTSIDE, POD_B, NEIGHBOUR_SOLICITATION, 255);
	FRAME_IS(to_b(&frame, UPLINK), &frame, NONE);
	frame = neighbour(OUTSIDE, POD_B, NEIGHBOUR_SOLICITATION, 254); /* a router forwarded it */
	FRAME_IS(to_b(&frame, UPLINK), &frame, INGRESS_DENIED);
	frame = neighbour(POD_A, OUTSIDE, NEIGHBOUR_ADVERTISEMENT, 255);
	FRAME_IS(from_a(&frame), &frame, EGRESS_DENIED);
	allow(POD_A, DIR_EGRESS, OUTSIDE, IPPROTO_ICMPV6, 0);
	FRAME_IS(from_a(&frame), &frame, NONE);
}

static void test_only_arp_passes_beside_ip(void **state)
{
	struct frame frame = lab_frame(&(struct segment){ UDP(POD_A, POD_B, 1, 2) });

	(void)state;
	chain_a_and_b();
	chained_isolate(POD_B, INGRESS);
	frame.bytes[12] = 0x08;
	frame.bytes[13] = 0x06;
	FRAME_IS(to_b(&frame, DEVICE_A), &frame, NONE);
	frame.bytes[12] = 0x88;
	frame.bytes[13] = 0xcc; /* LLDP: of the host, not of another pod */
	FRAME_IS(to_b(&frame, DEVICE_A), &frame, UNKNOWN_PROTOCOL);
	FRAME_IS(to_b(&frame, 0), &frame, NONE);
}

static bool is_a(int ifindex, uint16_t slot, void *arg)
{
	(void)arg;
	return ifindex == (int)DEVICE_A && slot == lab.pods->pod[POD_A].slot;
}

static bool is_none(int ifindex, uint16_t slot, void *arg)
{
	(void)ifindex, (void)slot, (void)arg;
	return false;
}

static void test_entries_of_nobody_are_removed(void **state)
{
	uint16_t slot = 0;

	(void)state;
	chain_a_and_b();
	chained_map_prune(lab.datapath, is_a, NULL);
	assert_int_equal(chained_map_get(lab.datapath, DEVICE_A, &slot), 0);
	assert_int_equal(slot, lab.pods->pod[POD_A].slot);
	assert_int_equal(chained_map_get(lab.datapath, DEVICE_B, &slot), -ENOENT);
	assert_true(maps_node(lab.datapath)->flags & NODE_CHAINED);
	chained_map_prune(lab.datapath, is_none, NULL);
	assert_int_equal(chained_map_get(lab.datapath, DEVICE_A, &slot), -ENOENT);
	assert_false(maps_node(lab.datapath)->flags & NODE_CHAINED);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		BOTH_FAMILIES(test_what_passes_goes_on_as_it_is),
		BOTH_FAMILIES(test_no_redirect_between_our_pods_and_others),
		BOTH_FAMILIES(test_policy_of_both_ends_holds_at_both_programs),
		BOTH_FAMILIES(test_sources_are_proven),
		BOTH_FAMILIES(test_the_node_and_others_reach_it_as_policy_says),
		BOTH_FAMILIES(test_a_device_without_a_pod_is_closed),
		BOTH_FAMILIES(test_groups_are_for_policy),
		{ "test_discovery_stays_on_the_bridge", test_discovery_stays_on_the_bridge,
		  lab_reset, NULL, (void *)"IPv6" },
		BOTH_FAMILIES(test_only_arp_passes_beside_ip),
		BOTH_FAMILIES(test_entries_of_nobody_are_removed),
	};

	return LAB_RUN(tests);
}
