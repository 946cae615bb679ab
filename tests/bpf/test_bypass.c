/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packets between pods and uplinks that bypass the host's stack (NODE_BYPASS): from_pod sends them
 * out by the uplink or the tunnel itself, and from_uplink delivers them to pods.
 *
 *      POD_A, POD_B ---- node ---- uplink0 ---- router ---- ELSEWHERE, a pod of another node
 *                                                      \--- OUTSIDE
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/pkt_cls.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include "harness/lab_service.h"
#include "harness/lab_uplink.h"
#include "lib/inet.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define TTL 64 /* of what the lab sends */

#define LAB_CPUS_MAX 1024

static int from_uplink;

static int bypass_setup(void **state)
{
	if (lab_setup(state) || lab_uplink_make())
		return -1;
	from_uplink = datapath_program_fd(lab.datapath, "from_uplink");
	return 0;
}

/* The datapath asks the kernel anew for each flow. */
static void ways_forget(void)
{
	static const struct leave_way none[LAB_CPUS_MAX];

	assert_in_range(libbpf_num_possible_cpus(), 1, LAB_CPUS_MAX);
	for (uint32_t i = 0; i < LEAVE_WAYS; i++)
		assert_int_equal(bpf_map_update_elem(lab_map("leave_map"), &i, none, 0), 0);
}

static void is_uplink(bool is)
{
	const struct uplink_entry entry = { 0 };

	ways_forget();
	if (is)
		assert_int_equal(uplink_map_set(lab.datapath, UPLINK_INDEX, &entry), 0);
	else
		uplink_map_keep(lab.datapath, NULL, 0);
}

/* Where the tunnel leads for this host; anywhere will do as tunnel device. */
static void tunnel_leads_to(enum host host, bool leads, uint32_t flags)
{
	const struct cidr_key key = { .prefixlen = 128, .addr = at(host) };
	const struct cluster_entry entry = { .node = outside_addr(false, 0xc0000202, 0, 0),
					     .flags = flags };

	ways_forget();
	if (leads)
		assert_int_equal(bpf_map_update_elem(lab_map("cluster_map"), &key, &entry, 0), 0);
	else
		bpf_map_delete_elem(lab_map("cluster_map"), &key);
}

static void tunnel_leads(enum host host, bool leads)
{
	tunnel_leads_to(host, leads, 0);
}

static int bypass_reset(void **state)
{
	if (lab_reset(state))
		return -1;
	maps_node(lab.datapath)->flags |= NODE_BYPASS;
	maps_node(lab.datapath)->tunnel_ifindex = UPLINK_INDEX;
	maps_node(lab.datapath)->wireguard_ifindex = 0;
	is_uplink(true);
	tunnel_leads(ELSEWHERE, false);
	return 0;
}

static void flag(uint32_t flags)
{
	maps_node(lab.datapath)->flags |= flags;
}

/* ---- out of the node ------------------------------------------------------------------------- */

#define LEAVES(...) leaves(&(struct segment){ __VA_ARGS__ }, __FILE__, __LINE__)
static void leaves(const struct segment *segment, const char *file, int line)
{
	struct outcome outcome = lab_send(segment);
	struct segment got = frame_read(&outcome.frame);

	_assert_int_equal(outcome.reason, DROP_NONE, file, line);
	_assert_int_equal(outcome.action, TC_ACT_REDIRECT, file, line);
	_assert_int_equal(lab_ttl(&outcome.frame), TTL - 1, file, line);
	_assert_true(addr_equal(&got.from, &segment->from), "source", file, line);
	_assert_true(addr_equal(&got.to, &segment->to), "destination", file, line);
	_assert_true(segment->more || segment->offset || frame_sums_hold(&outcome.frame), "sums",
		     file, line);
}

/* The host's stack gets the frame as it is. */
static void to_stack(const struct outcome *outcome, const struct frame *sent, int action,
		     const char *file, int line)
{
	_assert_int_equal(outcome->reason, DROP_NONE, file, line);
	_assert_int_equal(outcome->action, action, file, line);
	_assert_int_equal(outcome->received_by, 0, file, line);
	_assert_int_equal(outcome->frame.len, sent->len, file, line);
	_assert_memory_equal(outcome->frame.bytes, sent->bytes, sent->len, file, line);
}

static void stays(const struct frame *frame, const char *file, int line)
{
	struct outcome outcome = lab_from_pod(POD_A, frame);

	to_stack(&outcome, frame, TC_ACT_OK, file, line);
}
#define FRAME_STAYS(frame) stays(frame, __FILE__, __LINE__)
#define STAYS(...)                                                                 \
	do {                                                                       \
		struct frame frame_ = lab_frame(&(struct segment){ __VA_ARGS__ }); \
		FRAME_STAYS(&frame_);                                              \
	} while (0)

static void test_pods_send_straight_to_the_uplink(void **state)
{
	(void)state;
	LEAVES(TCP(POD_A, ELSEWHERE, 40000, 80, SYN));
	LEAVES(TCP(POD_A, OUTSIDE, 40000, 80, ACK), .payload = 1000);
	LEAVES(UDP(POD_A, ELSEWHERE, 40000, 53));
	LEAVES(ECHO_REQUEST(POD_A, ELSEWHERE, 7));
	LEAVES(PORT_UNREACHABLE(POD_A, ELSEWHERE),
	       .embedded = &(struct segment){ UDP(ELSEWHERE, POD_A, 1, 2) });
}

static void test_otherwise_the_host_routes(void **state)
{
	(void)state;
	maps_node(lab.datapath)->flags &= ~(uint32_t)NODE_BYPASS;
	STAYS(TCP(POD_A, ELSEWHERE, 40000, 80, SYN));
	flag(NODE_BYPASS | NODE_TAKEOVER);
	STAYS(TCP(POD_A, ELSEWHERE, 40000, 80, SYN));
	maps_node(lab.datapath)->flags &= ~(uint32_t)NODE_TAKEOVER;
	is_uplink(false); /* of another device the datapath knows nothing */
	STAYS(TCP(POD_A, ELSEWHERE, 40000, 80, SYN));
	STAYS(TCP(POD_A, NODE, 40000, 80, SYN));
}

static void ttl_set(struct frame *frame, uint8_t ttl)
{
	uint8_t *at = &frame->bytes[FRAME_L3 + (lab.ipv6 ? 7 : 8)];

	if (!lab.ipv6) {
		uint8_t *check = &frame->bytes[FRAME_L3 + 10];
		uint32_t sum = ((uint32_t)check[0] << 8 | check[1]) + ((uint32_t)(*at - ttl) << 8);

		sum = (sum & 0xffff) + (sum >> 16);
		check[0] = (uint8_t)(sum >> 8);
		check[1] = (uint8_t)sum;
	}
	*at = ttl;
}

/* An IP option that does nothing, or an empty extension header. */
static void option_insert(struct frame *frame)
{
	static const uint8_t noop[4] = { 1, 1, 1, 0 };
	uint8_t padding[8] = { 0, 0, 1, 4 }; /* PadN */
	uint32_t sum = 0;

	if (lab.ipv6) {
		padding[0] = frame->bytes[FRAME_L3 + 6];
		frame->bytes[FRAME_L3 + 6] = 60; /* destination options */
		frame_insert(frame, FRAME_L3 + 40, padding, sizeof(padding));
		frame_set_length(frame, frame->len - FRAME_L3 - 40);
		return;
	}
	frame_insert(frame, FRAME_L3 + 20, noop, sizeof(noop));
	frame->bytes[FRAME_L3] = 0x46;
	frame_set_length(frame, frame->len - FRAME_L3);
	memset(&frame->bytes[FRAME_L3 + 10], 0, 2);
	for (size_t i = 0; i < 24; i += 2)
		sum += (uint32_t)frame->bytes[FRAME_L3 + i] << 8 | frame->bytes[FRAME_L3 + i + 1];
	sum = ~((sum & 0xffff) + (sum >> 16));
	frame->bytes[FRAME_L3 + 10] = (uint8_t)(sum >> 8);
	frame->bytes[FRAME_L3 + 11] = (uint8_t)sum;
}

/* It answers with ICMP, cuts into fragments, or asks for a neighbour. */
static void test_what_the_host_knows_better_is_left_to_it(void **state)
{
	const struct segment segment = { UDP(POD_A, ELSEWHERE, 40000, 53) };
	struct frame frame = lab_frame(&segment);

	(void)state;
	ttl_set(&frame, 2);
	assert_int_equal(lab_from_pod(POD_A, &frame).action, TC_ACT_REDIRECT);
	ttl_set(&frame, 1);
	FRAME_STAYS(&frame);
	frame = lab_frame(&segment);
	option_insert(&frame);
	FRAME_STAYS(&frame);
	STAYS(UDP(POD_A, ELSEWHERE, 40000, 53), .payload = UPLINK_MTU);
	LEAVES(UDP(POD_A, ELSEWHERE, 40000, 53), .payload = UPLINK_MTU - 48);
}

/* Only for a moment: after that, a route that is gone is no way any more. */
static void test_a_flow_keeps_its_way_for_a_moment(void **state)
{
	const struct segment segment = { TCP(POD_A, ELSEWHERE, 40000, 80, ACK) };
	struct frame frame = lab_frame(&segment);
	struct outcome outcome;

	(void)state;
	LEAVES(TCP(POD_A, ELSEWHERE, 40000, 80, ACK));
	uplink_map_keep(lab.datapath, NULL, 0);
	STAYS(TCP(POD_A, ELSEWHERE, 40001, 80, ACK)); /* another flow */
	do
		outcome = lab_from_pod(POD_A, &frame);
	while (outcome.action == TC_ACT_REDIRECT);
	FRAME_STAYS(&frame);
	/* What does not fit asks the host at once. */
	is_uplink(true);
	LEAVES(UDP(POD_A, ELSEWHERE, 40000, 53));
	STAYS(UDP(POD_A, ELSEWHERE, 40000, 53), .payload = UPLINK_MTU);
	LEAVES(UDP(POD_A, ELSEWHERE, 40000, 53));
}

static void test_fragments_leave_too(void **state)
{
	(void)state;
	LEAVES(UDP(POD_A, ELSEWHERE, 40000, 53), .more = true, .payload = 64, .fragment_id = 7);
	LEAVES(UDP(POD_A, ELSEWHERE, 40000, 53), .offset = 72, .payload = 64, .fragment_id = 7);
}

static void test_policy_decides_before_a_pod_sends(void **state)
{
	(void)state;
	isolate(POD_A, ENDPOINT_EGRESS_ISOLATED);
	DROPS(EGRESS_DENIED, TCP(POD_A, OUTSIDE, 40000, 80, SYN));
	allow(POD_A, DIR_EGRESS, OUTSIDE, IPPROTO_TCP, 80);
	LEAVES(TCP(POD_A, OUTSIDE, 40000, 80, SYN));
	DROPS(EGRESS_DENIED, TCP(POD_A, OUTSIDE, 40000, 81, SYN));
}

static void test_a_pod_still_speaks_for_itself_alone(void **state)
{
	struct frame frame = lab_frame(&(struct segment){ TCP(POD_B, ELSEWHERE, 40000, 80, SYN) });

	(void)state;
	memcpy(&frame.bytes[6], lab.pods->pod[POD_A].mac, 6);
	FRAME_DROPS(SPOOFED_ADDRESS, POD_A, &frame);
}

static void test_pods_of_other_nodes_are_reached_by_the_tunnel(void **state)
{
	const struct segment segment = { UDP(POD_A, ELSEWHERE, 40000, 53) };
	struct frame frame = lab_frame(&segment);

	(void)state;
	flag(NODE_TUNNEL);
	tunnel_leads(ELSEWHERE, true);
	is_uplink(false);
	LEAVES(TCP(POD_A, ELSEWHERE, 40000, 80, SYN));
	LEAVES(UDP(POD_A, ELSEWHERE, 40000, 53), .payload = UPLINK_MTU - 48);
	STAYS(UDP(POD_A, ELSEWHERE, 40000, 53), .payload = UPLINK_MTU);
	ttl_set(&frame, 1);
	FRAME_STAYS(&frame);
	STAYS(TCP(POD_A, OUTSIDE, 40000, 80, SYN));
	is_uplink(true);
	LEAVES(TCP(POD_A, OUTSIDE, 40000, 80, SYN));
}

static void test_peers_are_reached_by_wireguard(void **state)
{
	struct node_state *node = maps_node(lab.datapath);

	(void)state;
	flag(NODE_WIREGUARD);
	node->wireguard_ifindex = UPLINK_INDEX;
	node->tunnel_ifindex = 0;
	is_uplink(false);
	tunnel_leads_to(ELSEWHERE, true, CLUSTER_SEALED);
	LEAVES(TCP(POD_A, ELSEWHERE, 40000, 80, SYN));
	STAYS(UDP(POD_A, ELSEWHERE, 40000, 53), .payload = UPLINK_MTU);
	STAYS(TCP(POD_A, OUTSIDE, 40000, 80, SYN));
	/* Without its key: by the route, which the uplink does not take here. */
	tunnel_leads_to(ELSEWHERE, true, 0);
	STAYS(TCP(POD_A, ELSEWHERE, 40000, 80, SYN));
	is_uplink(true);
	LEAVES(TCP(POD_A, ELSEWHERE, 40000, 80, SYN));
	/* Or not at all: the host's route leads to where it is dropped. */
	flag(NODE_STRICT);
	ways_forget();
	STAYS(TCP(POD_A, ELSEWHERE, 40000, 80, SYN));
	tunnel_leads_to(ELSEWHERE, true, CLUSTER_SEALED);
	LEAVES(TCP(POD_A, ELSEWHERE, 40000, 80, SYN));
}

/* ---- into the node --------------------------------------------------------------------------- */

#define ARRIVES(pod, ...) arrives(pod, &(struct segment){ __VA_ARGS__ }, __FILE__, __LINE__)
static struct segment arrives(enum host pod, const struct segment *segment, const char *file,
			      int line)
{
	struct frame frame = lab_uplink_frame(segment);
	struct outcome outcome = lab_run_program(from_uplink, &frame, UPLINK_INDEX, UPLINK_INDEX);

	_assert_int_equal(outcome.reason, DROP_NONE, file, line);
	_assert_int_equal(outcome.action, TC_ACT_REDIRECT, file, line);
	_assert_int_equal(outcome.received_by, lab.pods->pod[pod].slot, file, line);
	_assert_int_equal(lab_ttl(&outcome.frame), TTL - 1, file, line);
	_assert_true(segment->more || segment->offset || frame_sums_hold(&outcome.frame), "sums",
		     file, line);
	return frame_read(&outcome.frame);
}

static void passes_on(const struct frame *frame, const char *file, int line)
{
	struct outcome outcome = lab_run_program(from_uplink, frame, UPLINK_INDEX, UPLINK_INDEX);

	to_stack(&outcome, frame, TC_ACT_UNSPEC, file, line);
}
#define FRAME_PASSES_ON(frame) passes_on(frame, __FILE__, __LINE__)
#define PASSES_ON(...)                                                                    \
	do {                                                                              \
		struct frame frame_ = lab_uplink_frame(&(struct segment){ __VA_ARGS__ }); \
		FRAME_PASSES_ON(&frame_);                                                 \
	} while (0)

static void refused(enum drop_reason reason, const struct segment *segment, const char *file,
		    int line)
{
	struct frame frame = lab_uplink_frame(segment);
	struct outcome outcome = lab_run_program(from_uplink, &frame, UPLINK_INDEX, UPLINK_INDEX);

	_assert_int_equal(outcome.reason, reason, file, line);
	_assert_int_equal(outcome.action, TC_ACT_SHOT, file, line);
	_assert_int_equal(outcome.received_by, 0, file, line);
}
#define REFUSED(reason, ...) \
	refused(DROP_##reason, &(struct segment){ __VA_ARGS__ }, __FILE__, __LINE__)

static void test_what_comes_in_goes_straight_to_the_pod(void **state)
{
	(void)state;
	ARRIVES(POD_A, TCP(ELSEWHERE, POD_A, 40000, 80, SYN));
	ARRIVES(POD_B, TCP(OUTSIDE, POD_B, 40000, 80, ACK), .payload = 1000);
	ARRIVES(POD_A, UDP(ELSEWHERE, POD_A, 40000, 53));
	ARRIVES(POD_A, ECHO_REQUEST(ELSEWHERE, POD_A, 7));
	ARRIVES(POD_A, PORT_UNREACHABLE(ELSEWHERE, POD_A),
		.embedded = &(struct segment){ UDP(POD_A, ELSEWHERE, 1, 2) });
	PASSES_ON(TCP(ELSEWHERE, NODE, 40000, 80, SYN));
	PASSES_ON(TCP(ELSEWHERE, NOBODY, 40000, 80, SYN));
	maps_node(lab.datapath)->flags &= ~(uint32_t)NODE_BYPASS;
	PASSES_ON(TCP(ELSEWHERE, POD_A, 40000, 80, SYN));
	flag(NODE_BYPASS | NODE_TAKEOVER);
	PASSES_ON(TCP(ELSEWHERE, POD_A, 40000, 80, SYN));
}

static void test_what_the_host_knows_better_passes_on_to_it(void **state)
{
	const struct segment segment = { UDP(ELSEWHERE, POD_A, 40000, 53) };
	struct frame frame = lab_uplink_frame(&segment);

	(void)state;
	ttl_set(&frame, 1);
	FRAME_PASSES_ON(&frame);
	frame = lab_uplink_frame(&segment);
	option_insert(&frame);
	FRAME_PASSES_ON(&frame);
	isolate(POD_A, ENDPOINT_CHAINED);
	PASSES_ON(UDP(ELSEWHERE, POD_A, 40000, 53));
}

static void test_nobody_outside_is_of_this_node(void **state)
{
	(void)state;
	REFUSED(SPOOFED_ADDRESS, TCP(POD_B, POD_A, 40000, 80, SYN));
	REFUSED(SPOOFED_ADDRESS, TCP(POD_A, POD_A, 40000, 80, SYN));
	REFUSED(SPOOFED_ADDRESS, TCP(NODE, POD_A, 40000, 80, SYN));
	flag(NODE_TUNNEL);
	maps_node(lab.datapath)->tunnel_ifindex = UPLINK_INDEX + 1;
	tunnel_leads(ELSEWHERE, true); /* so that is the only way for its packets */
	REFUSED(TUNNEL_SOURCE, TCP(ELSEWHERE, POD_A, 40000, 80, SYN));
	ARRIVES(POD_A, TCP(OUTSIDE, POD_A, 40000, 80, SYN));
}

static void test_other_nodes_send_nothing_in_clear(void **state)
{
	(void)state;
	flag(NODE_WIREGUARD);
	maps_node(lab.datapath)->tunnel_ifindex = 0;
	maps_node(lab.datapath)->wireguard_ifindex = UPLINK_INDEX + 1;
	tunnel_leads_to(ELSEWHERE, true, CLUSTER_SEALED);
	ARRIVES(POD_A, TCP(ELSEWHERE, POD_A, 40000, 80, SYN)); /* it may not know our key yet */
	flag(NODE_STRICT);
	REFUSED(NOT_ENCRYPTED, TCP(ELSEWHERE, POD_A, 40000, 80, SYN));
	ARRIVES(POD_A, TCP(OUTSIDE, POD_A, 40000, 80, SYN));
	maps_node(lab.datapath)->wireguard_ifindex = UPLINK_INDEX;
	ARRIVES(POD_A, TCP(ELSEWHERE, POD_A, 40000, 80, SYN));
}

static void test_policy_decides_before_a_pod_receives(void **state)
{
	(void)state;
	isolate(POD_A, ENDPOINT_INGRESS_ISOLATED);
	REFUSED(INGRESS_DENIED, TCP(OUTSIDE, POD_A, 40000, 80, SYN));
	REFUSED(INGRESS_DENIED, UDP(OUTSIDE, POD_A, 40000, 53));
	allow(POD_A, DIR_INGRESS, OUTSIDE, IPPROTO_TCP, 80);
	ARRIVES(POD_A, TCP(OUTSIDE, POD_A, 40000, 80, SYN));
	REFUSED(INGRESS_DENIED, TCP(ELSEWHERE, POD_A, 40000, 80, SYN));
	/* Answers have their entry. */
	LEAVES(UDP(POD_A, ELSEWHERE, 40001, 53));
	ARRIVES(POD_A, UDP(ELSEWHERE, POD_A, 53, 40001));
	REFUSED(INGRESS_DENIED, UDP(ELSEWHERE, POD_A, 53, 40002));
	REFUSED(UNRELATED_ERROR, PORT_UNREACHABLE(ELSEWHERE, POD_A),
		.embedded = &(struct segment){ UDP(POD_A, ELSEWHERE, 40002, 53) });
	ARRIVES(POD_A, PORT_UNREACHABLE(ELSEWHERE, POD_A),
		.embedded = &(struct segment){ UDP(POD_A, ELSEWHERE, 40001, 53) });
}

static void test_fragments_follow_their_first(void **state)
{
	(void)state;
	isolate(POD_A, ENDPOINT_INGRESS_ISOLATED);
	allow(POD_A, DIR_INGRESS, OUTSIDE, IPPROTO_UDP, 53);
	ARRIVES(POD_A, UDP(OUTSIDE, POD_A, 40000, 53), .more = true, .payload = 64,
		.fragment_id = 7);
	ARRIVES(POD_A, UDP(OUTSIDE, POD_A, 0, 0), .offset = 72, .payload = 64, .fragment_id = 7);
	REFUSED(FRAGMENT, UDP(OUTSIDE, POD_A, 0, 0), .offset = 72, .payload = 64, .fragment_id = 8);
}

/* from_pod translates the request per packet, from_uplink the answer. */
static void test_a_services_backend_elsewhere(void **state)
{
	struct addr from = at(SERVICE), to = at(ELSEWHERE);
	struct outcome outcome;
	struct segment got;

	(void)state;
	SERVES(80, SERVICE_ID, { ELSEWHERE, 8080 });
	outcome = lab_send(&(struct segment){ TCP(POD_A, SERVICE, 40000, 80, SYN) });
	assert_int_equal(outcome.action, TC_ACT_REDIRECT);
	got = frame_read(&outcome.frame);
	assert_true(addr_equal(&got.to, &to) && got.dport == 8080);
	assert_int_equal(lab_ttl(&outcome.frame), TTL - 1);
	got = ARRIVES(POD_A, TCP(ELSEWHERE, POD_A, 8080, 40000, SYN | ACK));
	assert_true(addr_equal(&got.from, &from) && got.sport == 80);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH_FAMILIES_AFTER(bypass_reset, test_pods_send_straight_to_the_uplink),
		BOTH_FAMILIES_AFTER(bypass_reset, test_otherwise_the_host_routes),
		BOTH_FAMILIES_AFTER(bypass_reset, test_what_the_host_knows_better_is_left_to_it),
		BOTH_FAMILIES_AFTER(bypass_reset, test_a_flow_keeps_its_way_for_a_moment),
		BOTH_FAMILIES_AFTER(bypass_reset, test_fragments_leave_too),
		BOTH_FAMILIES_AFTER(bypass_reset, test_policy_decides_before_a_pod_sends),
		BOTH_FAMILIES_AFTER(bypass_reset, test_a_pod_still_speaks_for_itself_alone),
		BOTH_FAMILIES_AFTER(bypass_reset,
				    test_pods_of_other_nodes_are_reached_by_the_tunnel),
		BOTH_FAMILIES_AFTER(bypass_reset, test_what_comes_in_goes_straight_to_the_pod),
		BOTH_FAMILIES_AFTER(bypass_reset, test_what_the_host_knows_better_passes_on_to_it),
		BOTH_FAMILIES_AFTER(bypass_reset, test_nobody_outside_is_of_this_node),
		BOTH_FAMILIES_AFTER(bypass_reset, test_policy_decides_before_a_pod_receives),
		BOTH_FAMILIES_AFTER(bypass_reset, test_fragments_follow_their_first),
		BOTH_FAMILIES_AFTER(bypass_reset, test_a_services_backend_elsewhere),
		BOTH_FAMILIES_AFTER(bypass_reset, test_peers_are_reached_by_wireguard),
		BOTH_FAMILIES_AFTER(bypass_reset, test_other_nodes_send_nothing_in_clear),
	};

	return cmocka_run_group_tests_name(__FILE__, tests, bypass_setup, lab_teardown);
}
