/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pods that reach the outside under the node's address: to_uplink on the way there, from_uplink on
 * the way back.
 *
 *      POD_A, POD_B ---- node ---- uplink (NODE) ---- OUTSIDE, ELSEWHERE
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/pkt_cls.h>
#include <net/if.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "harness/lab.h"
#include "lib/auto.h"
#include "lib/inet.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define SNAT_MIN 20000
#define SNAT_MAX 20999

static const uint8_t router_mac[6] = { 2, 0x54, 0, 0, 9, 1 };
static uint8_t uplink_mac[6];
static int from_uplink, to_uplink;

/* Any device will do. */
static void mac_read(void)
{
	auto_close int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = { 0 };

	assert_non_null(if_indextoname((unsigned int)lab.pods->host_ifindex, request.ifr_name));
	assert_int_equal(ioctl(fd, SIOCGIFHWADDR, &request), 0);
	memcpy(uplink_mac, request.ifr_hwaddr.sa_data, sizeof(uplink_mac));
}

static int masquerade_setup(void **state)
{
	struct datapath_options options = { .limits = { .endpoints = 16, .connections = 512 } };
	struct errmsg err = { 0 };

	if (lab_setup(state) || datapath_load_uplinks(lab.datapath, &options, &err))
		return -1;
	mac_read();
	from_uplink = datapath_program_fd(lab.datapath, "from_uplink");
	to_uplink = datapath_program_fd(lab.datapath, "to_uplink");
	return 0;
}

static void uplink_address(enum host host)
{
	struct uplink_entry entry = { .v4 = at(host), .v6 = at(host) };

	assert_int_equal(uplink_map_set(lab.datapath, lab.pods->host_ifindex, &entry), 0);
}

static void inside(enum host host, bool is)
{
	const struct cidr_key key = { .prefixlen = 128, .addr = at(host) };
	const struct cluster_entry entry = { 0 };

	if (is)
		assert_int_equal(bpf_map_update_elem(lab_map("cluster_map"), &key, &entry, 0), 0);
	else
		bpf_map_delete_elem(lab_map("cluster_map"), &key);
}

static int masquerade_reset(void **state)
{
	struct node_state *node = maps_node(lab.datapath);

	if (lab_reset(state))
		return -1;
	node->flags |= NODE_MASQUERADE;
	node->snat_port_min = SNAT_MIN;
	node->snat_port_max = SNAT_MAX;
	uplink_address(NODE);
	inside(ELSEWHERE, false);
	return 0;
}

/* ---- there and back ------------------------------------------------------------------------- */

static struct outcome leaves(enum host pod, const struct segment *segment)
{
	uint32_t device = ENDPOINT_IFINDEX_BASE + lab.pods->pod[pod].slot;
	struct frame frame = lab_frame(segment);

	return lab_run_program(to_uplink, &frame, (uint32_t)lab.pods->host_ifindex, device);
}

/* Goes on to the wire, as from this host. */
static struct segment leaves_from(enum host pod, const struct segment *segment, enum host from)
{
	struct outcome outcome = leaves(pod, segment);
	struct segment got = frame_read(&outcome.frame);
	struct addr address = at(from);

	assert_int_equal(outcome.reason, DROP_NONE);
	assert_int_equal(outcome.action, TC_ACT_UNSPEC);
	assert_true(addr_equal(&got.from, &address));
	assert_true(addr_equal(&got.to, &segment->to));
	assert_true(segment->more || segment->offset || frame_sums_hold(&outcome.frame));
	return got;
}
#define LEAVES_FROM(pod, from, ...) leaves_from(pod, &(struct segment){ __VA_ARGS__ }, from)
#define LEAVES_AS_IT_IS(pod, ...)   LEAVES_FROM(pod, pod, __VA_ARGS__)

static void stays(enum host pod, enum drop_reason reason, const struct segment *segment)
{
	struct outcome outcome = leaves(pod, segment);

	assert_int_equal(outcome.reason, reason);
	assert_int_equal(outcome.action, TC_ACT_SHOT);
}
#define STAYS(pod, reason, ...) stays(pod, DROP_##reason, &(struct segment){ __VA_ARGS__ })

static struct outcome arrives(const struct segment *segment)
{
	uint32_t device = (uint32_t)lab.pods->host_ifindex;
	struct frame frame;

	frame_build(segment, router_mac, uplink_mac, &frame);
	return lab_run_program(from_uplink, &frame, device, device);
}

static struct segment arrives_at(enum host pod, const struct segment *segment)
{
	struct outcome outcome = arrives(segment);
	struct segment got = frame_read(&outcome.frame);
	struct addr address = at(pod);

	assert_int_equal(outcome.reason, DROP_NONE);
	assert_int_equal(outcome.action, TC_ACT_UNSPEC); /* the host's stack leads it on */
	assert_true(addr_equal(&got.to, &address));
	assert_true(segment->more || segment->offset || frame_sums_hold(&outcome.frame));
	return got;
}
#define ARRIVES_AT(pod, ...) arrives_at(pod, &(struct segment){ __VA_ARGS__ })

static void test_requests_come_from_the_node_and_answers_find_the_pod(void **state)
{
	struct segment got, back;

	(void)state;
	got = LEAVES_FROM(POD_A, NODE, TCP(POD_A, OUTSIDE, 40000, 443, SYN));
	assert_in_range(got.sport, SNAT_MIN, SNAT_MAX);
	assert_int_equal(got.dport, 443);
	back = ARRIVES_AT(POD_A, TCP(OUTSIDE, NODE, 443, got.sport, SYN | ACK));
	assert_int_equal(back.dport, 40000);
	assert_int_equal(
		LEAVES_FROM(POD_A, NODE, TCP(POD_A, OUTSIDE, 40000, 443, ACK), .payload = 700)
			.sport,
		got.sport);
	ARRIVES_AT(POD_A, TCP(OUTSIDE, NODE, 443, got.sport, ACK), .payload = 1200);
	got = LEAVES_FROM(POD_B, NODE, UDP(POD_B, OUTSIDE, 40000, 53), .payload = 33);
	ARRIVES_AT(POD_B, UDP(OUTSIDE, NODE, 53, got.sport), .payload = 99);
	got = LEAVES_FROM(POD_A, NODE, .from = at(POD_A), .to = at(OUTSIDE), .proto = IPPROTO_SCTP,
			  .sport = 40000, .dport = 443, .chunk = 1, .payload = 30);
	ARRIVES_AT(POD_A, .from = at(OUTSIDE), .to = at(NODE), .proto = IPPROTO_SCTP, .sport = 443,
		   .dport = got.sport, .chunk = 2, .payload = 77);
}

static void test_an_echo_has_an_identifier_in_place_of_a_port(void **state)
{
	struct segment got, back;

	(void)state;
	for (uint16_t payload = 0; payload < 4; payload++) {
		got = LEAVES_FROM(POD_A, NODE, ECHO_REQUEST(POD_A, OUTSIDE, 7), .payload = payload);
		assert_in_range(got.sport, SNAT_MIN, SNAT_MAX);
		back = ARRIVES_AT(POD_A, ECHO_REPLY(OUTSIDE, NODE, got.sport), .payload = payload);
		assert_int_equal(back.sport, 7);
	}
	/* Another pod with the same identifier. */
	got = LEAVES_FROM(POD_B, NODE, ECHO_REQUEST(POD_B, OUTSIDE, 7));
	ARRIVES_AT(POD_B, ECHO_REPLY(OUTSIDE, NODE, got.sport));
}

static void test_who_is_inside_sees_the_pod(void **state)
{
	(void)state;
	inside(ELSEWHERE, true);
	LEAVES_AS_IT_IS(POD_A, TCP(POD_A, ELSEWHERE, 40000, 443, SYN));
	LEAVES_AS_IT_IS(POD_A, UDP(POD_A, ELSEWHERE, 40000, 53));
	LEAVES_AS_IT_IS(POD_A, ECHO_REQUEST(POD_A, ELSEWHERE, 7));
	LEAVES_AS_IT_IS(POD_A, .from = at(POD_A), .to = at(ELSEWHERE), .proto = IPPROTO_GRE,
			.payload = 40);
	LEAVES_FROM(POD_A, NODE, TCP(POD_A, OUTSIDE, 40000, 443, SYN));
}

static void test_nothing_leaves_with_a_pods_address(void **state)
{
	(void)state;
	STAYS(POD_A, NOT_OPENED, TCP(POD_A, OUTSIDE, 80, 50000, SYN | ACK));
	STAYS(POD_A, NOT_OPENED, TCP(POD_A, OUTSIDE, 80, 50000, ACK), .payload = 10);
	STAYS(POD_A, NOT_OPENED, ECHO_REPLY(POD_A, OUTSIDE, 9));
	inside(ELSEWHERE, true);
	LEAVES_AS_IT_IS(POD_A, TCP(POD_A, ELSEWHERE, 80, 50000, SYN | ACK));
	LEAVES_AS_IT_IS(POD_A, ECHO_REPLY(POD_A, ELSEWHERE, 9));
}

static void test_what_nobody_could_answer_does_not_leave(void **state)
{
	const struct segment later = { .from = at(POD_A),
				       .to = at(OUTSIDE),
				       .proto = IPPROTO_UDP,
				       .offset = 72,
				       .payload = 40,
				       .fragment_id = 9 };

	(void)state;
	STAYS(POD_A, NO_MASQUERADE, .from = at(POD_A), .to = at(OUTSIDE), .proto = IPPROTO_GRE,
	      .payload = 40);
	stays(POD_A, DROP_FRAGMENT, &later);
	assert_int_equal(
		uplink_map_set(lab.datapath, lab.pods->host_ifindex, &(struct uplink_entry){ 0 }),
		0);
	STAYS(POD_A, NO_ROUTE, UDP(POD_A, OUTSIDE, 40000, 53));
}

/* The other node would take it for a packet of the tunnel, from any pod of this one. */
static void test_packets_of_the_tunnel_are_the_nodes_own(void **state)
{
	struct node_state *node = maps_node(lab.datapath);

	(void)state;
	node->tunnel_port = htons(8472);
	LEAVES_FROM(POD_A, NODE, UDP(POD_A, OUTSIDE, 40000, 8472));
	node->flags |= NODE_TUNNEL;
	STAYS(POD_A, TUNNEL_PORT, UDP(POD_A, OUTSIDE, 40001, 8472));
	LEAVES_FROM(POD_A, NODE, TCP(POD_A, OUTSIDE, 40001, 8472, SYN));
	LEAVES_FROM(POD_A, NODE, UDP(POD_A, OUTSIDE, 40001, 8473));
	node->flags &= ~(uint32_t)NODE_TUNNEL;
}

/* Nor has a pod whose address somebody else has changed to the node's before. */
static void test_packets_of_the_tunnel_are_nobody_elses(void **state)
{
	const struct cidr_key key = { .prefixlen = 128, .addr = at(ELSEWHERE) };
	const struct cluster_entry entry = { .node = at(ELSEWHERE), .flags = CLUSTER_NODE };
	struct node_state *node = maps_node(lab.datapath);

	(void)state;
	assert_int_equal(bpf_map_update_elem(lab_map("cluster_map"), &key, &entry, 0), 0);
	node->tunnel_port = htons(8472);
	node->flags &= ~(uint32_t)NODE_MASQUERADE;
	node->flags |= NODE_DSR;
	STAYS(POD_A, TUNNEL_PORT, UDP(NODE, ELSEWHERE, 40001, 8472));
	LEAVES_FROM(POD_A, NODE, UDP(NODE, ELSEWHERE, 40001, 53));
	LEAVES_FROM(POD_A, NODE, UDP(NODE, OUTSIDE, 40001, 8472)); /* answers a client */
	node->flags &= ~(uint32_t)NODE_DSR;
}

/* The last place where a packet may leave in clear. */
static void test_nothing_leaves_in_clear(void **state)
{
	const struct cidr_key key = { .prefixlen = 128, .addr = at(ELSEWHERE) };
	struct cluster_entry entry = { .node = at(NODE) };
	struct node_state *node = maps_node(lab.datapath);
	struct outcome outcome;

	(void)state;
	node->wireguard_ifindex = (uint32_t)lab.pods->host_ifindex;
	node->flags |= NODE_WIREGUARD;
	assert_int_equal(bpf_map_update_elem(lab_map("cluster_map"), &key, &entry, 0), 0);
	LEAVES_AS_IT_IS(POD_A, UDP(POD_A, ELSEWHERE, 40000, 53));
	node->flags |= NODE_STRICT;
	STAYS(POD_A, NO_KEY, UDP(POD_A, ELSEWHERE, 40000, 53));
	LEAVES_FROM(POD_A, NODE, UDP(POD_A, OUTSIDE, 40000, 53));
	entry.flags = CLUSTER_SEALED;
	assert_int_equal(bpf_map_update_elem(lab_map("cluster_map"), &key, &entry, 0), 0);
	outcome = leaves(POD_A, &(struct segment){ UDP(POD_A, ELSEWHERE, 40000, 53) });
	assert_int_equal(outcome.reason, DROP_NONE);
	assert_int_equal(outcome.action, TC_ACT_REDIRECT);
}

static void test_only_what_pods_send_themselves_is_masqueraded(void **state)
{
	struct segment segment = { UDP(POD_A, OUTSIDE, 40000, 53) };
	struct frame frame = lab_frame(&segment);
	struct outcome outcome;

	(void)state;
	/* The host's own NAT was there first. */
	LEAVES_FROM(POD_A, ELSEWHERE, UDP(ELSEWHERE, OUTSIDE, 40000, 53));
	/* The node itself, and somebody who is forwarded. */
	for (uint32_t device = 0; device <= UPLINK; device += UPLINK) {
		outcome = lab_run_program(to_uplink, &frame, (uint32_t)lab.pods->host_ifindex,
					  device);
		assert_int_equal(outcome.action, TC_ACT_UNSPEC);
		assert_memory_equal(outcome.frame.bytes, frame.bytes, frame.len);
	}
	maps_node(lab.datapath)->flags &= ~(uint32_t)NODE_MASQUERADE;
	LEAVES_AS_IT_IS(POD_A, UDP(POD_A, OUTSIDE, 40000, 53));
}

static void test_fragments_follow_their_first(void **state)
{
	const struct segment there = { .from = at(POD_A),
				       .to = at(OUTSIDE),
				       .proto = IPPROTO_UDP,
				       .offset = 72,
				       .payload = 40,
				       .fragment_id = 9 };
	const struct segment back = { .from = at(OUTSIDE),
				      .to = at(NODE),
				      .proto = IPPROTO_UDP,
				      .offset = 72,
				      .payload = 40,
				      .fragment_id = 8 };

	(void)state;
	maps_node(lab.datapath)->snat_port_max = SNAT_MIN;
	LEAVES_FROM(POD_A, NODE, UDP(POD_A, OUTSIDE, 40000, 53), .payload = 64, .more = true,
		    .fragment_id = 9);
	leaves_from(POD_A, &there, NODE);
	ARRIVES_AT(POD_A, UDP(OUTSIDE, NODE, 53, SNAT_MIN), .payload = 64, .more = true,
		   .fragment_id = 8);
	arrives_at(POD_A, &back);
}

/* ---- the uplink's address, ports ------------------------------------------------------------ */

static void test_flows_take_a_new_address_of_the_uplink(void **state)
{
	struct segment got;

	(void)state;
	LEAVES_FROM(POD_A, NODE, UDP(POD_A, OUTSIDE, 40000, 53));
	LEAVES_FROM(POD_A, NODE, TCP(POD_A, OUTSIDE, 40000, 443, SYN));
	uplink_address(ELSEWHERE);
	got = LEAVES_FROM(POD_A, ELSEWHERE, UDP(POD_A, OUTSIDE, 40000, 53));
	assert_in_range(got.sport, SNAT_MIN, SNAT_MAX);
	LEAVES_FROM(POD_A, ELSEWHERE, TCP(POD_A, OUTSIDE, 40000, 443, ACK), .payload = 9);
}

/* Sets when a flow was last seen, in both of its entries. */
static void silent_for(const struct segment *segment, uint64_t age_ns)
{
	struct flow key = { .saddr = segment->from,
			    .daddr = segment->to,
			    .sport = htons(segment->sport),
			    .dport = htons(segment->dport),
			    .proto = segment->proto };
	struct nat_entry entry;

	for (int way = 0; way < 2; way++) {
		assert_int_equal(nat_map_get(lab.datapath, &key, &entry), 0);
		entry.last_seen_ns -= age_ns;
		entry.seen_jiffies -= 100 * TOUCH_JIFFIES;
		assert_int_equal(bpf_map_update_elem(lab_map("nat_map"), &key, &entry, BPF_EXIST),
				 0);
		key = (struct flow){ .saddr = entry.flow.daddr,
				     .daddr = entry.flow.saddr,
				     .sport = entry.flow.dport,
				     .dport = entry.flow.sport,
				     .proto = entry.flow.proto };
	}
}

static void test_a_port_that_was_taken_over_is_not_used_by_two(void **state)
{
	const struct segment first = { UDP(POD_A, OUTSIDE, 40000, 53) };
	const struct segment second = { UDP(POD_B, OUTSIDE, 40000, 53) };

	(void)state;
	maps_node(lab.datapath)->snat_port_max = SNAT_MIN;
	leaves_from(POD_A, &first, NODE);
	STAYS(POD_B, NO_SNAT_PORT, UDP(POD_B, OUTSIDE, 40000, 53));
	/* Who goes on sending keeps the port, though nobody answers. */
	silent_for(&first, CT_OTHER_UNREPLIED_NS + 1);
	leaves_from(POD_A, &first, NODE);
	STAYS(POD_B, NO_SNAT_PORT, UDP(POD_B, OUTSIDE, 40000, 53));
	silent_for(&first, CT_OTHER_UNREPLIED_NS + 1);
	leaves_from(POD_B, &second, NODE);
	ARRIVES_AT(POD_B, UDP(OUTSIDE, NODE, 53, SNAT_MIN));
	STAYS(POD_A, NO_SNAT_PORT, UDP(POD_A, OUTSIDE, 40000, 53));
}

/* ---- errors --------------------------------------------------------------------------------- */

/* The packet that an ICMP error quotes. */
static struct segment quoted_of(const struct frame *frame)
{
	size_t inner = FRAME_L3 + (lab.ipv6 ? 48 : 28);
	struct frame quoted = { .len = FRAME_L3 + frame->len - inner };

	memcpy(quoted.bytes + FRAME_L3, frame->bytes + inner, frame->len - inner);
	return frame_read(&quoted);
}

static void test_errors_speak_of_what_the_pod_sent(void **state)
{
	struct segment sent[] = { { UDP(POD_A, OUTSIDE, 40000, 53) },
				  { ECHO_REQUEST(POD_A, OUTSIDE, 7) } };
	struct addr pod = at(POD_A), outside = at(OUTSIDE);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sent); i++) {
		struct segment quoted = leaves_from(POD_A, &sent[i], NODE);
		/* From a router on the way. */
		struct outcome outcome = arrives(&(struct segment){
			PORT_UNREACHABLE(ELSEWHERE, NODE), .embedded = &quoted });
		struct segment got = frame_read(&outcome.frame);

		assert_int_equal(outcome.action, TC_ACT_UNSPEC);
		assert_true(frame_sums_hold(&outcome.frame));
		assert_true(addr_equal(&got.to, &pod));
		got = quoted_of(&outcome.frame);
		assert_true(addr_equal(&got.from, &pod) && addr_equal(&got.to, &outside));
		assert_int_equal(got.sport, sent[i].sport);
	}
}

static void test_a_pods_errors_come_from_the_node(void **state)
{
	struct segment answer = { UDP(OUTSIDE, POD_A, 53, 40000) };
	struct addr node = at(NODE);
	struct outcome outcome;
	struct segment got = LEAVES_FROM(POD_A, NODE, UDP(POD_A, OUTSIDE, 40000, 53)), quoted;

	(void)state;
	outcome = leaves(
		POD_A, &(struct segment){ PORT_UNREACHABLE(POD_A, OUTSIDE), .embedded = &answer });
	assert_int_equal(outcome.action, TC_ACT_UNSPEC);
	assert_true(frame_sums_hold(&outcome.frame));
	quoted = frame_read(&outcome.frame);
	assert_true(addr_equal(&quoted.from, &node));
	quoted = quoted_of(&outcome.frame);
	assert_true(addr_equal(&quoted.to, &node));
	assert_int_equal(quoted.dport, got.sport);
}

static void test_an_uplink_without_an_address_uses_the_nodes(void **state)
{
	struct node_state *node = maps_node(lab.datapath);

	(void)state;
	assert_int_equal(
		uplink_map_set(lab.datapath, lab.pods->host_ifindex, &(struct uplink_entry){ 0 }),
		0);
	node->snat_v4 = node->snat_v6 = at(NODE);
	LEAVES_FROM(POD_A, NODE, UDP(POD_A, OUTSIDE, 40000, 53));
	node->snat_v4 = node->snat_v6 = (struct addr){ 0 };
}

/* Else the other end would take a SYN for one of the connection before. */
static void test_a_port_of_a_pod_has_the_same_port_again(void **state)
{
	uint16_t ports[8] = { 0 };

	(void)state;
	for (int again = 0; again < 2; again++) {
		for (uint16_t i = 0; i < ARRAY_SIZE(ports); i++) {
			uint16_t own = (uint16_t)(40000 + i);
			struct segment got =
				LEAVES_FROM(POD_A, NODE, TCP(POD_A, OUTSIDE, own, 443, SYN));

			if (again)
				assert_int_equal(got.sport, ports[i]);
			ports[i] = got.sport;
			LEAVES_FROM(POD_A, NODE, TCP(POD_A, OUTSIDE, own, 443, RST));
		}
	}
}

/* Opens and closes a connection of the pod, whose port 40000 becomes SNAT_MIN.  timestamp: of the
 * pod's FIN, if it is not 0. */
static void open_and_close(enum host pod, bool pod_first, uint32_t timestamp)
{
	const struct segment there = { TCP(pod, OUTSIDE, 40000, 443, FIN | ACK), .seq = 101,
				       .ack = pod_first ? 501 : 502, .timestamp = timestamp };
	const struct segment back = { TCP(OUTSIDE, NODE, 443, SNAT_MIN, FIN | ACK), .seq = 501,
				      .ack = pod_first ? 102 : 101 };

	LEAVES_FROM(pod, NODE, TCP(pod, OUTSIDE, 40000, 443, SYN), .seq = 100);
	ARRIVES_AT(pod, TCP(OUTSIDE, NODE, 443, SNAT_MIN, SYN | ACK), .seq = 500, .ack = 101);
	if (pod_first)
		leaves_from(pod, &there, NODE);
	arrives_at(pod, &back);
	if (!pod_first)
		leaves_from(pod, &there, NODE);
	if (pod_first)
		LEAVES_FROM(pod, NODE, TCP(pod, OUTSIDE, 40000, 443, ACK), .seq = 102, .ack = 502);
	else
		ARRIVES_AT(pod, TCP(OUTSIDE, NODE, 443, SNAT_MIN, ACK), .seq = 502, .ack = 102);
}

/* Its SYN would meet TIME_WAIT; the one of the same port of the same pod is known by its
 * timestamps. */
static void test_a_port_that_a_server_remembers_is_not_another_pods(void **state)
{
	(void)state;
	maps_node(lab.datapath)->snat_port_max = SNAT_MIN;
	open_and_close(POD_A, true, 0);
	open_and_close(POD_B, false, 0);
	STAYS(POD_A, NO_SNAT_PORT, TCP(POD_A, OUTSIDE, 40000, 443, SYN));
	open_and_close(POD_B, false, 0);
}

/* A server in TIME_WAIT takes a SYN by its timestamp, or else by its sequence number. */
static void test_a_later_syn_takes_the_port_that_a_server_remembers(void **state)
{
	struct nat_entry entry;
	struct flow key = { .saddr = at(POD_B),
			    .daddr = at(OUTSIDE),
			    .sport = htons(40000),
			    .dport = htons(443),
			    .proto = IPPROTO_TCP };

	(void)state;
	maps_node(lab.datapath)->snat_port_max = SNAT_MIN;
	open_and_close(POD_B, false, 0);
	STAYS(POD_A, NO_SNAT_PORT, TCP(POD_A, OUTSIDE, 40001, 443, SYN), .seq = 102);
	STAYS(POD_A, NO_SNAT_PORT, TCP(POD_A, OUTSIDE, 40001, 443, SYN), .seq = 1u << 31 | 200);
	LEAVES_FROM(POD_A, NODE, TCP(POD_A, OUTSIDE, 40001, 443, SYN), .seq = 103);
	assert_int_equal(nat_map_get(lab.datapath, &key, &entry), -ENOENT);
	LEAVES_FROM(POD_A, NODE, TCP(POD_A, OUTSIDE, 40001, 443, RST), .seq = 104);

	open_and_close(POD_B, false, 7000);
	STAYS(POD_A, NO_SNAT_PORT, TCP(POD_A, OUTSIDE, 40001, 443, SYN), .seq = 103,
	      .timestamp = 7000);
	STAYS(POD_A, NO_SNAT_PORT, TCP(POD_A, OUTSIDE, 40001, 443, SYN), .seq = 103,
	      .timestamp = 1u << 31 | 8000);
	STAYS(POD_A, NO_SNAT_PORT, TCP(POD_A, OUTSIDE, 40001, 443, SYN), .seq = 102);
	LEAVES_FROM(POD_A, NODE, TCP(POD_A, OUTSIDE, 40001, 443, SYN), .timestamp = 7001);
	ARRIVES_AT(POD_A, TCP(OUTSIDE, NODE, 443, SNAT_MIN, SYN | ACK));
	STAYS(POD_B, NO_SNAT_PORT, TCP(POD_B, OUTSIDE, 40000, 443, SYN), .seq = 9000,
	      .timestamp = 9000);
}

/* The pod's own, and the answer to its SYN from who has no such port. */
static void test_a_reset_that_is_true_gives_the_port_back(void **state)
{
	(void)state;
	maps_node(lab.datapath)->snat_port_max = SNAT_MIN;
	LEAVES_FROM(POD_A, NODE, TCP(POD_A, OUTSIDE, 40000, 443, SYN), .seq = 100);
	ARRIVES_AT(POD_A, TCP(OUTSIDE, NODE, 443, SNAT_MIN, SYN | ACK), .seq = 500, .ack = 101);
	LEAVES_FROM(POD_A, NODE, TCP(POD_A, OUTSIDE, 40000, 443, RST), .seq = 101);
	LEAVES_FROM(POD_B, NODE, TCP(POD_B, OUTSIDE, 40000, 443, SYN), .seq = 100);
	ARRIVES_AT(POD_B, TCP(OUTSIDE, NODE, 443, SNAT_MIN, RST | ACK), .ack = 102);
	STAYS(POD_A, NO_SNAT_PORT, TCP(POD_A, OUTSIDE, 40000, 443, SYN), .seq = 100);
	LEAVES_FROM(POD_B, NODE, TCP(POD_B, OUTSIDE, 40000, 443, SYN), .seq = 100);
	ARRIVES_AT(POD_B, TCP(OUTSIDE, NODE, 443, SNAT_MIN, RST | ACK), .ack = 101);
	LEAVES_FROM(POD_A, NODE, TCP(POD_A, OUTSIDE, 40000, 443, SYN), .seq = 100);
}

/* One pod cannot keep the others from a destination; its own live flows are not cut for new ones.
 */
static void test_a_pod_with_all_ports_leaves_some_to_others(void **state)
{
	const uint16_t ports = 64;

	(void)state;
	maps_node(lab.datapath)->snat_port_max = SNAT_MIN + ports - 1;
	for (uint16_t i = 0; i < ports; i++)
		LEAVES_FROM(POD_A, NODE, UDP(POD_A, OUTSIDE, (uint16_t)(40000 + i), 53));
	STAYS(POD_A, NO_SNAT_PORT, UDP(POD_A, OUTSIDE, 50000, 53));
	for (uint16_t i = 0; i < ports / 4; i++) {
		struct segment got =
			LEAVES_FROM(POD_B, NODE, UDP(POD_B, OUTSIDE, (uint16_t)(40000 + i), 53));

		ARRIVES_AT(POD_B, UDP(OUTSIDE, NODE, 53, got.sport));
	}
	LEAVES_FROM(POD_A, NODE, UDP(POD_A, OUTSIDE, 50000, 54));
}

/* Anybody outside may have sent it. */
static void test_a_reset_does_not_give_the_port_to_another_pod(void **state)
{
	(void)state;
	maps_node(lab.datapath)->snat_port_max = SNAT_MIN;
	LEAVES_FROM(POD_A, NODE, TCP(POD_A, OUTSIDE, 40000, 443, SYN));
	ARRIVES_AT(POD_A, TCP(OUTSIDE, NODE, 443, SNAT_MIN, SYN | ACK));
	ARRIVES_AT(POD_A, TCP(OUTSIDE, NODE, 443, SNAT_MIN, RST));
	STAYS(POD_B, NO_SNAT_PORT, TCP(POD_B, OUTSIDE, 40000, 443, SYN));
	LEAVES_FROM(POD_A, NODE, TCP(POD_A, OUTSIDE, 40000, 443, ACK), .payload = 9);
	ARRIVES_AT(POD_A, TCP(OUTSIDE, NODE, 443, SNAT_MIN, ACK), .payload = 9);
}

static void test_an_unanswered_connection_does_not_hold_its_port(void **state)
{
	const struct segment first = { TCP(POD_A, OUTSIDE, 40000, 443, SYN) };
	const struct segment second = { TCP(POD_B, OUTSIDE, 40000, 443, SYN) };

	(void)state;
	maps_node(lab.datapath)->snat_port_max = SNAT_MIN;
	leaves_from(POD_A, &first, NODE);
	silent_for(&first, CT_TCP_OPENING_NS + 1);
	leaves_from(POD_B, &second, NODE);
	ARRIVES_AT(POD_B, TCP(OUTSIDE, NODE, 443, SNAT_MIN, SYN | ACK));
	silent_for(&second, CT_TCP_OPENING_NS + 1);
	STAYS(POD_A, NO_SNAT_PORT, TCP(POD_A, OUTSIDE, 40001, 443, SYN));
}

static void test_a_flood_takes_nothing_from_another_pod(void **state)
{
	struct segment got;

	(void)state;
	got = LEAVES_FROM(POD_C, NODE, UDP(POD_C, OUTSIDE, 40000, 53));
	for (uint16_t port = 1; port < 20000; port++)
		LEAVES_FROM(POD_A, NODE, UDP(POD_A, OUTSIDE, 40000, port));
	ARRIVES_AT(POD_C, UDP(OUTSIDE, NODE, 53, got.sport));
	got = LEAVES_FROM(POD_C, NODE, TCP(POD_C, OUTSIDE, 40001, 443, SYN));
	ARRIVES_AT(POD_C, TCP(OUTSIDE, NODE, 443, got.sport, SYN | ACK));
}

/* Entries of nobody: no place says which of them could go. */
static void test_a_table_without_room_is_told(void **state)
{
	struct flow key = { .proto = 255 };
	struct nat_entry entry = {};

	(void)state;
	do
		key.sport++, key.saddr.w[0] += !key.sport;
	while (!bpf_map_update_elem(lab_map("nat_map"), &key, &entry, BPF_NOEXIST));
	assert_int_equal(errno, E2BIG);
	STAYS(POD_A, NAT_FULL, UDP(POD_A, OUTSIDE, 40000, 53));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH_FAMILIES_AFTER(masquerade_reset,
				    test_requests_come_from_the_node_and_answers_find_the_pod),
		BOTH_FAMILIES_AFTER(masquerade_reset,
				    test_an_echo_has_an_identifier_in_place_of_a_port),
		BOTH_FAMILIES_AFTER(masquerade_reset, test_who_is_inside_sees_the_pod),
		BOTH_FAMILIES_AFTER(masquerade_reset, test_nothing_leaves_with_a_pods_address),
		BOTH_FAMILIES_AFTER(masquerade_reset, test_what_nobody_could_answer_does_not_leave),
		BOTH_FAMILIES_AFTER(masquerade_reset,
				    test_only_what_pods_send_themselves_is_masqueraded),
		BOTH_FAMILIES_AFTER(masquerade_reset, test_packets_of_the_tunnel_are_the_nodes_own),
		BOTH_FAMILIES_AFTER(masquerade_reset, test_packets_of_the_tunnel_are_nobody_elses),
		BOTH_FAMILIES_AFTER(masquerade_reset, test_nothing_leaves_in_clear),
		BOTH_FAMILIES_AFTER(masquerade_reset, test_fragments_follow_their_first),
		BOTH_FAMILIES_AFTER(masquerade_reset, test_flows_take_a_new_address_of_the_uplink),
		BOTH_FAMILIES_AFTER(masquerade_reset,
				    test_a_port_that_was_taken_over_is_not_used_by_two),
		BOTH_FAMILIES_AFTER(masquerade_reset, test_errors_speak_of_what_the_pod_sent),
		BOTH_FAMILIES_AFTER(masquerade_reset, test_a_pods_errors_come_from_the_node),
		BOTH_FAMILIES_AFTER(masquerade_reset, test_a_flood_takes_nothing_from_another_pod),
		BOTH_FAMILIES_AFTER(masquerade_reset,
				    test_an_uplink_without_an_address_uses_the_nodes),
		BOTH_FAMILIES_AFTER(masquerade_reset, test_a_port_of_a_pod_has_the_same_port_again),
		BOTH_FAMILIES_AFTER(masquerade_reset,
				    test_a_port_that_a_server_remembers_is_not_another_pods),
		BOTH_FAMILIES_AFTER(masquerade_reset,
				    test_a_later_syn_takes_the_port_that_a_server_remembers),
		BOTH_FAMILIES_AFTER(masquerade_reset,
				    test_a_reset_that_is_true_gives_the_port_back),
		BOTH_FAMILIES_AFTER(masquerade_reset,
				    test_a_pod_with_all_ports_leaves_some_to_others),
		BOTH_FAMILIES_AFTER(masquerade_reset,
				    test_a_reset_does_not_give_the_port_to_another_pod),
		BOTH_FAMILIES_AFTER(masquerade_reset,
				    test_an_unanswered_connection_does_not_hold_its_port),
		BOTH_FAMILIES_AFTER(masquerade_reset, test_a_table_without_room_is_told),
	};

	return cmocka_run_group_tests_name(__FILE__, tests, masquerade_setup, lab_teardown);
}
