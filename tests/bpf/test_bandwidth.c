/* SPDX-License-Identifier: Apache-2.0 */
/* Bandwidth limits of pods: who is limited, what is too early, and when the rest departs. */
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <time.h>

#include "harness/lab.h"
#include "lib/auto.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define EGRESS_LIMITED  ENDPOINT_EGRESS_LIMITED
#define INGRESS_LIMITED ENDPOINT_INGRESS_LIMITED

/* A packet of 1,000 bytes and its headers is worth a minute or a second. */
#define A_MINUTE 17
#define A_SECOND 1000
#define THOUSAND .payload = 1000

static void limit(enum host pod, uint32_t flags, uint64_t bytes_per_s)
{
	isolate(pod, flags);
	assert_int_equal(endpoint_map_limit(lab.datapath, lab.pods->pod[pod].slot,
					    (uint64_t[]){ bytes_per_s, bytes_per_s }),
			 0);
}

static void test_what_a_pod_receives_is_limited(void **state)
{
	(void)state;
	limit(POD_B, INGRESS_LIMITED, A_MINUTE);
	PASSES(UDP(POD_A, POD_B, 1, 2), THOUSAND); /* it received nothing for a while */
	DROPS(BANDWIDTH, UDP(POD_A, POD_B, 1, 2), THOUSAND);
	DROPS(BANDWIDTH, UDP(OUTSIDE, POD_B, 1, 2));
	DROPS(BANDWIDTH, TCP(NODE, POD_B, 1, 2, SYN));
	PASSES(UDP(POD_A, POD_C, 1, 2), THOUSAND);
	PASSES(UDP(POD_B, OUTSIDE, 1, 2), THOUSAND);
}

static void test_what_a_pod_sends_out_of_the_node_is_limited(void **state)
{
	(void)state;
	limit(POD_A, EGRESS_LIMITED, A_MINUTE);
	PASSES(UDP(POD_A, OUTSIDE, 1, 2), THOUSAND);
	DROPS(BANDWIDTH, UDP(POD_A, OUTSIDE, 1, 2), THOUSAND);
	DROPS(BANDWIDTH, TCP(POD_A, ELSEWHERE, 1, 2, SYN));
	PASSES(UDP(POD_A, POD_B, 1, 2), THOUSAND);
	PASSES(UDP(POD_A, NODE, 1, 2), THOUSAND);
	PASSES(UDP(POD_B, OUTSIDE, 1, 2), THOUSAND);
	PASSES(UDP(OUTSIDE, POD_A, 1, 2), THOUSAND);
}

static void test_what_policy_denies_takes_nothing_of_the_limit(void **state)
{
	(void)state;
	limit(POD_B, ENDPOINT_INGRESS_ISOLATED | INGRESS_LIMITED, A_MINUTE);
	allow(POD_B, DIR_INGRESS, POD_A, IPPROTO_UDP, 53);
	for (int i = 0; i < 5; i++) {
		DROPS(INGRESS_DENIED, UDP(POD_A, POD_B, 1, 2), THOUSAND);
		DROPS(INGRESS_DENIED, UDP(OUTSIDE, POD_B, 1, 53), THOUSAND);
	}
	PASSES(UDP(POD_A, POD_B, 1, 53), THOUSAND);
	DROPS(BANDWIDTH, UDP(POD_A, POD_B, 1, 53), THOUSAND);
}

static void test_another_limit_counts_at_once(void **state)
{
	(void)state;
	limit(POD_B, INGRESS_LIMITED, A_MINUTE);
	PASSES(UDP(POD_A, POD_B, 1, 2), THOUSAND);
	DROPS(BANDWIDTH, UDP(POD_A, POD_B, 1, 2), THOUSAND);
	limit(POD_B, INGRESS_LIMITED, 1000000000);
	PASSES(UDP(POD_A, POD_B, 1, 2), THOUSAND);
	limit(POD_B, INGRESS_LIMITED, A_MINUTE);
	PASSES(UDP(POD_A, POD_B, 1, 2), THOUSAND);
	isolate(POD_B, 0);
	PASSES(UDP(POD_A, POD_B, 1, 2), THOUSAND);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_SEC + (uint64_t)now.tv_nsec;
}

static uint64_t departure(const struct outcome *outcome)
{
	assert_int_equal(outcome->reason, DROP_NONE);
	return outcome->departs_ns;
}

/* Where the uplinks keep to departure times, a packet is late rather than lost. */
static void test_packets_depart_at_the_rate(void **state)
{
	const struct segment segment = { UDP(POD_A, OUTSIDE, 1, 2), THOUSAND };
	const struct segment answer = { UDP(OUTSIDE, POD_A, 1, 2), THOUSAND };
	const uint64_t cost = (lab.ipv6 ? 1062ULL : 1042ULL) * NS_PER_SEC / A_SECOND;
	struct frame frame = lab_frame(&segment);
	struct outcome outcome[3];
	uint64_t began;

	(void)state;
	maps_node(lab.datapath)->flags |= NODE_PACED;
	limit(POD_A, EGRESS_LIMITED, A_SECOND);
	began = now_ns();
	for (size_t i = 0; i < 3; i++)
		outcome[i] = lab_from_pod(POD_A, &frame);
	assert_int_equal(departure(&outcome[0]), 0);
	assert_true(departure(&outcome[1]) >= began + cost);
	assert_true(departure(&outcome[1]) < began + 2 * cost);
	assert_int_equal(outcome[2].reason, DROP_BANDWIDTH); /* in more than two seconds */
	/* No departure time gets through WireGuard. */
	maps_node(lab.datapath)->flags |= NODE_WIREGUARD;
	limit(POD_A, EGRESS_LIMITED, A_SECOND + 1);
	assert_int_equal(lab_from_pod(POD_A, &frame).reason, DROP_NONE);
	assert_int_equal(lab_from_pod(POD_A, &frame).reason, DROP_BANDWIDTH);
	maps_node(lab.datapath)->flags &= ~(uint32_t)NODE_WIREGUARD;
	/* Ingress has no queue to wait in. */
	limit(POD_A, INGRESS_LIMITED, A_SECOND);
	assert_int_equal(lab_send(&answer).reason, DROP_NONE);
	assert_int_equal(lab_send(&answer).reason, DROP_BANDWIDTH);
}

/* Small packets of one pod do not fill the queue that all have. */
static void test_few_packets_wait(void **state)
{
	const struct segment segment = { UDP(POD_A, OUTSIDE, 1, 2), .payload = 1000 };
	const uint64_t cost = NS_PER_SEC / 1000;
	struct frame frame = lab_frame(&segment);
	uint64_t began, left;
	unsigned int count = 0;

	(void)state;
	maps_node(lab.datapath)->flags |= NODE_PACED;
	limit(POD_A, EGRESS_LIMITED, frame.len * 1000);
	began = now_ns();
	while (lab_from_pod(POD_A, &frame).reason == DROP_NONE)
		count++;
	left = (now_ns() - began) / cost;
	assert_in_range(count, BANDWIDTH_PACKETS, BANDWIDTH_PACKETS + left + 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH_FAMILIES(test_what_a_pod_receives_is_limited),
		BOTH_FAMILIES(test_what_a_pod_sends_out_of_the_node_is_limited),
		BOTH_FAMILIES(test_what_policy_denies_takes_nothing_of_the_limit),
		BOTH_FAMILIES(test_another_limit_counts_at_once),
		BOTH_FAMILIES(test_packets_depart_at_the_rate),
		BOTH_FAMILIES(test_few_packets_wait),
	};

	return LAB_RUN(tests);
}
