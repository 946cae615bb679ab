/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What passed_map has of flows without connections, held against the packets that were sent: bytes
 * and packets of both ends, what ends, what goes on, and what happens when there is no room.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include "harness/lab.h"
#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/clock.h"
#include "lib/inet.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define FLOWS_MAX 8
#define FLOOD     20000

static struct passed_flow flows[FLOWS_MAX];
static bool opens[FLOWS_MAX];
static size_t flow_count; /* also of those that found no room in flows */
static uint64_t packet_count;

static void on_flow(const struct passed_flow *flow, bool open, void *arg)
{
	(void)arg;
	if (flow_count < FLOWS_MAX) {
		flows[flow_count] = *flow;
		opens[flow_count] = open;
	}
	flow_count++;
	packet_count += flow->packets[0] + flow->packets[1];
}

static void on_reported(const struct passed_flow *flow, void *arg)
{
	on_flow(flow, false, arg);
}

static void take(uint64_t later_ns, const struct addr *addresses, size_t count)
{
	struct passed_query query = {
		.now_ns = now_ns() + later_ns,
		.addresses = addresses,
		.count = count,
		.each = on_flow,
	};

	flow_count = 0;
	packet_count = 0;
	assert_int_equal(passed_flows_take(lab.datapath, &query), 0);
}

static void take_idle(void)
{
	take(PASSED_IDLE_NS + NS_PER_SEC, NULL, 0);
}

static int reset(void **state)
{
	int ret = lab_reset(state);

	maps_node(lab.datapath)->flags |= NODE_PASSED;
	take_idle();
	tcp_events_consume(lab.datapath, NULL, on_reported, NULL);
	return ret;
}

static void assert_flow(const struct passed_flow *flow, enum host from, enum host to, uint8_t proto)
{
	const struct addr saddr = at(from), daddr = at(to);

	assert_true(addr_equal(&flow->flow.saddr, &saddr));
	assert_true(addr_equal(&flow->flow.daddr, &daddr));
	assert_int_equal(flow->flow.proto, proto);
}

static void test_both_ends_are_counted(void **state)
{
	(void)state;
	PASSES(UDP(POD_A, POD_B, 40000, 53), .payload = 30);
	PASSES(UDP(POD_B, POD_A, 53, 40000), .payload = 100);
	PASSES(UDP(POD_A, POD_B, 40000, 53), .payload = 5);
	PASSES(UDP(OUTSIDE, POD_C, 40000, 53), .payload = 7);
	take(0, NULL, 0);
	assert_int_equal(flow_count, 0); /* they may go on */
	take_idle();
	assert_int_equal(flow_count, 2);
	for (size_t i = 0; i < 2; i++) {
		const struct addr a = at(POD_A);
		bool inside = addr_equal(&flows[i].flow.saddr, &a);

		assert_flow(&flows[i], inside ? POD_A : OUTSIDE, inside ? POD_B : POD_C,
			    IPPROTO_UDP);
		assert_int_equal(ntohs(flows[i].flow.sport), 40000);
		assert_int_equal(ntohs(flows[i].flow.dport), 53);
		assert_int_equal(flows[i].bytes[0], inside ? 35 : 7);
		assert_int_equal(flows[i].bytes[1], inside ? 100 : 0);
		assert_int_equal(flows[i].packets[0], inside ? 2 : 1);
		assert_int_equal(flows[i].packets[1], inside ? 1 : 0);
		assert_true(flows[i].first_ns && flows[i].last_ns >= flows[i].first_ns);
		assert_false(opens[i]);
	}
	take_idle();
	assert_int_equal(flow_count, 0);
}

static void test_other_protocols_and_what_is_left_out(void **state)
{
	const uint8_t icmp = lab.ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP;

	(void)state;
	isolate(POD_C, ENDPOINT_INGRESS_ISOLATED);
	PASSES(ECHO_REQUEST(POD_A, POD_B, 7), .payload = 56);
	PASSES(ECHO_REPLY(POD_B, POD_A, 7), .payload = 56);
	DROPS(INGRESS_DENIED, UDP(POD_A, POD_C, 40000, 53));
	PASSES(TCP(POD_A, POD_B, 40000, 80, TH_SYN));
	take_idle();
	assert_int_equal(flow_count, 1);
	assert_flow(&flows[0], POD_A, POD_B, icmp);
	assert_int_equal(flows[0].icmp_type, lab.ipv6 ? 128 : 8);
	assert_int_equal(flows[0].bytes[0], 56);
	assert_int_equal(flows[0].packets[1], 1);

	PASSES(.from = at(POD_A), .to = at(POD_B), .proto = IPPROTO_SCTP, .sport = 40000,
	       .dport = 80, .chunk = 1);
	take_idle();
	assert_int_equal(flow_count, 1);
	assert_flow(&flows[0], POD_A, POD_B, IPPROTO_SCTP);
	maps_node(lab.datapath)->flags &= ~(uint32_t)NODE_PASSED;
	PASSES(UDP(POD_A, POD_B, 40000, 53));
	take_idle();
	assert_int_equal(flow_count, 0);
}

/* As if the agent had been killed while it read the only flow. */
static void flow_hold(void)
{
	const int map = lab_map("passed_map");
	struct passed_set set;

	for (uint32_t i = 0; i < PASSED_SETS; i++) {
		assert_int_equal(bpf_map_lookup_elem(map, &i, &set), 0);
		if (set.ways[0].state == PASSED_LIVE)
			set.ways[0].state = PASSED_BUSY;
		assert_int_equal(bpf_map_update_elem(map, &i, &set, BPF_ANY), 0);
	}
}

static void test_what_a_killed_agent_held_is_given_back(void **state)
{
	(void)state;
	PASSES(UDP(POD_A, POD_B, 40000, 53), .payload = 30);
	flow_hold();
	take_idle();
	assert_int_equal(flow_count, 0);
	assert_int_equal(passed_flows_recover(lab.datapath), 0);
	PASSES(UDP(POD_A, POD_B, 40000, 53), .payload = 30);
	take_idle();
	assert_int_equal(flow_count, 1);
	assert_int_equal(flows[0].packets[0], 2);
}

/* As if the only flow had had a packet so much later; the machine may have been up for seconds. */
static void flow_touch(uint64_t later_ns)
{
	const int map = lab_map("passed_map");
	struct passed_set set;

	for (uint32_t i = 0; i < PASSED_SETS; i++) {
		assert_int_equal(bpf_map_lookup_elem(map, &i, &set), 0);
		if (set.ways[0].state != PASSED_LIVE)
			continue;
		set.ways[0].last_ns = set.ways[0].first_ns + later_ns;
		assert_int_equal(bpf_map_update_elem(map, &i, &set, BPF_ANY), 0);
	}
}

static void test_a_long_flow_comes_in_parts(void **state)
{
	(void)state;
	PASSES(UDP(POD_A, POD_B, 40000, 53), .payload = 30);
	flow_touch(PASSED_PART_NS / 2);
	take(PASSED_PART_NS / 2, NULL, 0);
	assert_int_equal(flow_count, 0);
	flow_touch(PASSED_PART_NS + NS_PER_SEC);
	take(PASSED_PART_NS + NS_PER_SEC, NULL, 0);
	assert_int_equal(flow_count, 1);
	assert_true(opens[0]);
	assert_int_equal(flows[0].bytes[0], 30);
	PASSES(UDP(POD_B, POD_A, 53, 40000), .payload = 9);
	take(PASSED_IDLE_NS + NS_PER_SEC, NULL, 0);
	assert_int_equal(flow_count, 1);
	assert_false(opens[0]);
	assert_int_equal(flows[0].bytes[0], 0);
	assert_int_equal(flows[0].bytes[1], 9);
}

static void test_flows_of_an_address_are_taken_at_once(void **state)
{
	const struct addr b = at(POD_B);

	(void)state;
	PASSES(UDP(POD_A, POD_B, 40000, 53));
	PASSES(UDP(POD_A, POD_C, 40000, 53));
	take(0, &b, 1);
	assert_int_equal(flow_count, 1);
	assert_flow(&flows[0], POD_A, POD_B, IPPROTO_UDP);
	take_idle();
	assert_int_equal(flow_count, 1);
	assert_flow(&flows[0], POD_A, POD_C, IPPROTO_UDP);
}

/* A pod's share of a second may be used up already. */
static void wait_second(void)
{
	const uint64_t second = now_ns() / NS_PER_SEC;

	while (now_ns() / NS_PER_SEC == second)
		poll(NULL, 0, 1);
}

/* A pod that opens more flows than there is room for: each packet is in a flow, or counted. */
static void test_a_flood_is_bounded_and_counted(void **state)
{
	const uint64_t lost = lab_metric(METRIC_NOTICES + NOTICE_FLOW_LOST);
	uint64_t reported = 0, missing;

	(void)state;
	wait_second();
	for (int i = 0; i < FLOOD; i++) {
		PASSES(UDP(POD_A, i & 1 ? POD_B : OUTSIDE, 1024 + i, 53));
		if (i % 1000)
			continue;
		packet_count = 0;
		tcp_events_consume(lab.datapath, NULL, on_reported, NULL);
		reported += packet_count;
	}
	packet_count = 0;
	tcp_events_consume(lab.datapath, NULL, on_reported, NULL);
	reported += packet_count;
	missing = lab_metric(METRIC_NOTICES + NOTICE_FLOW_LOST) - lost;
	assert_true(reported > 0);
	assert_true(missing > 0);
	take_idle();
	assert_true(flow_count <= (size_t)PASSED_SETS * PASSED_WAYS);
	assert_int_equal(reported + packet_count + missing, FLOOD);
}

static uint32_t dns_length;
static size_t dns_count;

static int on_dns(void *arg, void *data, size_t size)
{
	const struct dns_event *event = data;

	(void)arg;
	assert_int_equal(size, sizeof(*event));
	assert_int_equal(event->netns_cookie, lab.pods->pod[POD_A].netns_cookie);
	dns_length = event->length;
	dns_count++;
	return 0;
}

/* Answers to what a pod has asked, with as many bytes as there is room for; nothing else. */
static void test_answers_of_dns_are_handed_over(void **state)
{
	static const uint16_t lengths[] = { 1, 100, 511, 512, 513, 900 };
	struct ring_buffer *ring = ring_buffer__new(lab_map("dns_map"), on_dns, NULL, NULL);

	(void)state;
	assert_non_null(ring);
	wait_second();
	maps_node(lab.datapath)->flags |= NODE_DNS;
	ring_buffer__consume(ring);
	dns_count = 0;
	PASSES(UDP(POD_B, POD_A, 53, 40000), .payload = 50); /* nobody has asked */
	PASSES(UDP(POD_A, POD_B, 40001, 53), .payload = 50);
	PASSES(UDP(POD_A, POD_B, 40002, 54), .payload = 50);
	PASSES(UDP(POD_B, POD_A, 54, 40002), .payload = 50);
	PASSES(UDP(POD_B, POD_A, 53, 40001), .payload = 0);
	ring_buffer__consume(ring);
	assert_int_equal(dns_count, 0);
	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		PASSES(UDP(POD_B, POD_A, 53, 40001), .payload = lengths[i]);
		ring_buffer__consume(ring);
		assert_int_equal(dns_count, i + 1);
		assert_int_equal(dns_length,
				 lengths[i] < DNS_BYTES_MAX ? lengths[i] : DNS_BYTES_MAX);
	}
	for (int i = 0; i < 10 * DNS_RATE; i++)
		PASSES(UDP(POD_B, POD_A, 53, 40001), .payload = 50);
	ring_buffer__consume(ring);
	assert_true(dns_count < 10 * DNS_RATE);
	maps_node(lab.datapath)->flags &= ~(uint32_t)NODE_DNS;
	dns_count = 0;
	wait_second();
	PASSES(UDP(POD_B, POD_A, 53, 40001), .payload = 50);
	ring_buffer__consume(ring);
	assert_int_equal(dns_count, 0);
	ring_buffer__free(ring);
}

/* What a slot has used of its share, on all CPUs; it has used nothing from here on. */
static uint32_t flows_charged(uint32_t slot)
{
	unsigned int cpus = maps_cpus(lab.datapath);
	auto_free struct endpoint_budget *budgets = xcalloc(cpus, sizeof(*budgets));
	uint32_t sum = 0;

	assert_int_equal(bpf_map_lookup_elem(lab_map("budget_map"), &slot, budgets), 0);
	for (unsigned int i = 0; i < cpus; i++)
		sum += budgets[i].flows;
	memset(budgets, 0, cpus * sizeof(*budgets));
	assert_int_equal(bpf_map_update_elem(lab_map("budget_map"), &slot, budgets, BPF_ANY), 0);
	return sum;
}

/* Clients outside that flood a pod use up their own share, not the pod's. */
static void test_a_flood_from_outside_leaves_the_pod_its_share(void **state)
{
	const uint32_t pod = lab.pods->pod[POD_C].slot;

	(void)state;
	flows_charged(pod);
	flows_charged(0);
	for (int i = 0; i < FLOOD / 2; i++)
		PASSES(UDP(OUTSIDE, POD_C, 1024 + i, 40000));
	assert_true(flows_charged(0) > 0);
	assert_int_equal(flows_charged(pod), 0);
	for (int i = 0; i < 100; i++)
		PASSES(UDP(POD_C, POD_B, 1024 + i, 53));
	assert_true(flows_charged(pod) > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH_FAMILIES_AFTER(reset, test_both_ends_are_counted),
		BOTH_FAMILIES_AFTER(reset, test_other_protocols_and_what_is_left_out),
		BOTH_FAMILIES_AFTER(reset, test_a_long_flow_comes_in_parts),
		BOTH_FAMILIES_AFTER(reset, test_flows_of_an_address_are_taken_at_once),
		BOTH_FAMILIES_AFTER(reset, test_what_a_killed_agent_held_is_given_back),
		BOTH_FAMILIES_AFTER(reset, test_a_flood_is_bounded_and_counted),
		BOTH_FAMILIES_AFTER(reset, test_answers_of_dns_are_handed_over),
		BOTH_FAMILIES_AFTER(reset, test_a_flood_from_outside_leaves_the_pod_its_share),
	};

	return LAB_RUN(tests);
}
