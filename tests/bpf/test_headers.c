/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decision 0: what a pod may send at all.  Own MAC, own addresses, whole headers; and decision 8,
 * fragments.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <linux/pkt_cls.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include "harness/lab.h"
#include "lib/auto.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define L4 (FRAME_L3 + (lab.ipv6 ? 40u : 20u))

static struct frame frame_of(struct segment segment)
{
	return lab_frame(&segment);
}

#define FRAME(...) frame_of((struct segment){ __VA_ARGS__ })

/* ---- where it goes -------------------------------------------------------------------------- */

static void test_a_packet_to_a_pod_goes_straight_to_it(void **state)
{
	struct frame sent = FRAME(TCP(POD_A, POD_B, 40000, 80, SYN));
	struct outcome outcome = lab_from_pod(POD_A, &sent);
	struct endpoint_stats stats;

	(void)state;
	assert_int_equal(outcome.action, TC_ACT_REDIRECT);
	assert_int_equal(outcome.received_by, lab.pods->pod[POD_B].slot);
	assert_int_equal(outcome.frame.len, sent.len);
	assert_memory_equal(outcome.frame.bytes, sent.bytes, sent.len);
	assert_int_equal(endpoint_stats_get(lab.datapath, lab.pods->pod[POD_A].slot, &stats), 0);
	assert_int_equal(stats.tx_packets, 1);
	assert_int_equal(stats.tx_bytes, sent.len);
}

static void test_a_packet_to_the_node_or_beyond_goes_to_the_host_stack(void **state)
{
	const enum host targets[] = { NODE, OUTSIDE, ELSEWHERE, NOBODY };
	struct outcome outcome;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
		outcome = lab_send(&(struct segment){ UDP(POD_A, targets[i], 40000, 53) });
		assert_int_equal(outcome.action, TC_ACT_OK);
		assert_int_equal(outcome.reason, DROP_NONE);
	}
}

/* Every bucket of slot_map holds this pod. */
static void cache_everywhere(enum host pod)
{
	uint32_t slot = lab.pods->pod[pod].slot;

	for (uint32_t bucket = 0; bucket < 2 * SLOT_MAP_BUCKETS; bucket++)
		assert_int_equal(bpf_map_update_elem(lab_map("slot_map"), &bucket, &slot, BPF_ANY),
				 0);
}

static uint64_t received(enum host pod)
{
	struct endpoint_stats stats = {};

	assert_int_equal(endpoint_stats_get(lab.datapath, lab.pods->pod[pod].slot, &stats), 0);
	return stats.rx_packets;
}

static void test_a_wrong_cached_slot_leads_nowhere(void **state)
{
	const enum host targets[] = { NODE, OUTSIDE, ELSEWHERE, NOBODY };
	struct frame frame = FRAME(TCP(POD_A, POD_C, 40000, 80, SYN));
	uint64_t before;

	(void)state;
	isolate(POD_C, ENDPOINT_INGRESS_ISOLATED);
	cache_everywhere(POD_B);
	before = received(POD_B);
	for (size_t i = 0; i < ARRAY_SIZE(targets); i++)
		assert_int_equal(
			lab_send(&(struct segment){ UDP(POD_A, targets[i], 40000, 53) }).action,
			TC_ACT_OK);
	DROPS(INGRESS_DENIED, TCP(POD_A, POD_C, 40000, 80, SYN));
	/* The unspecified address is not that of a pod without an address of this family. */
	cache_everywhere(POD_B);
	memset(frame.bytes + (lab.ipv6 ? 38 : 30), 0, lab.ipv6 ? 16 : 4);
	lab_from_pod(POD_A, &frame);
	assert_int_equal(received(POD_B), before);
	PASSES(TCP(POD_A, POD_B, 40000, 80, SYN));
	assert_int_equal(received(POD_B), before + 1);
}

static void test_a_device_without_an_endpoint_passes_nothing(void **state)
{
	struct frame sent = FRAME(TCP(POD_A, POD_B, 40000, 80, SYN));

	(void)state;
	assert_int_equal(endpoint_map_del(lab.datapath, lab.pods->pod[POD_A].slot), 0);
	FRAME_DROPS(NO_ENDPOINT, POD_A, &sent);
}

static void test_a_pod_that_is_being_removed_receives_nothing(void **state)
{
	(void)state;
	assert_int_equal(endpoint_map_del(lab.datapath, lab.pods->pod[POD_B].slot), 0);
	DROPS(NO_ENDPOINT, TCP(POD_A, POD_B, 40000, 80, SYN));
	DROPS(NO_ENDPOINT, TCP(OUTSIDE, POD_B, 40000, 80, SYN));
}

static void test_the_nodes_loopback_is_not_for_pods(void **state)
{
	struct addr loopback = { { 0, 0, htonl(0xffff), htonl(INADDR_LOOPBACK) } };

	(void)state;
	if (lab.ipv6)
		loopback = (struct addr){ { 0, 0, 0, htonl(1) } };
	DROPS(BAD_HEADER, .from = at(POD_A), .to = loopback, .proto = IPPROTO_UDP, .dport = 53);
}

/* ---- who sends ------------------------------------------------------------------------------ */

static void test_a_foreign_source_address_is_dropped(void **state)
{
	struct segment forged = { UDP(POD_B, POD_C, 1, 2) };
	struct frame frame;

	(void)state;
	frame_build(&forged, lab.pods->pod[POD_A].mac, lab.pods->pod[POD_A].host_mac, &frame);
	FRAME_DROPS(SPOOFED_ADDRESS, POD_A, &frame);
	forged.from = at(NODE);
	frame_build(&forged, lab.pods->pod[POD_A].mac, lab.pods->pod[POD_A].host_mac, &frame);
	FRAME_DROPS(SPOOFED_ADDRESS, POD_A, &frame);
}

static void test_the_unspecified_address_is_nobodys(void **state)
{
	struct segment forged = { UDP(POD_A, POD_C, 1, 2) };
	struct endpoint_entry endpoint;
	struct frame frame;
	uint16_t slot = lab.pods->pod[POD_A].slot;

	(void)state;
	/* Even an endpoint without an address of the family may not send from "::". */
	assert_int_equal(endpoint_map_get(lab.datapath, slot, &endpoint), 0);
	memset(lab.ipv6 ? &endpoint.v6 : &endpoint.v4, 0, sizeof(endpoint.v4));
	assert_int_equal(endpoint_map_set(lab.datapath, slot, &endpoint), 0);
	if (lab.ipv6)
		forged.from = (struct addr){ { 0 } };
	else
		forged.from.w[3] = 0;
	frame_build(&forged, lab.pods->pod[POD_A].mac, lab.pods->pod[POD_A].host_mac, &frame);
	FRAME_DROPS(SPOOFED_ADDRESS, POD_A, &frame);
}

static void test_a_foreign_mac_is_dropped(void **state)
{
	struct frame frame = FRAME(UDP(POD_A, POD_B, 1, 2));

	(void)state;
	for (size_t i = 6; i < 12; i++) {
		struct frame forged = frame;

		forged.bytes[i] ^= 0x80;
		FRAME_DROPS(SPOOFED_MAC, POD_A, &forged);
	}
}

static void test_ipv4_dressed_up_as_ipv6_is_dropped(void **state)
{
	struct addr v4 = lab.pods->pod[POD_A].v4;
	struct frame frame;

	(void)state;
	if (!lab.ipv6)
		return;
	frame = FRAME(UDP(POD_A, POD_B, 1, 2));
	memcpy(frame.bytes + FRAME_L3 + 8, &v4, sizeof(v4));
	FRAME_DROPS(BAD_HEADER, POD_A, &frame);
	frame = FRAME(UDP(POD_A, POD_B, 1, 2));
	memcpy(frame.bytes + FRAME_L3 + 24, &v4, sizeof(v4));
	FRAME_DROPS(BAD_HEADER, POD_A, &frame);
}

/* ---- ARP and neighbour discovery ------------------------------------------------------------ */

static struct frame arp_request(const uint8_t mac[6], const struct addr *sender)
{
	const uint8_t head[] = { 0, 1, 8, 0, 6, 4, 0, 1 };
	struct frame frame = { .len = 42 };

	memset(frame.bytes, 0xff, 6);
	memcpy(frame.bytes + 6, lab.pods->pod[POD_A].mac, 6);
	frame.bytes[12] = 0x08;
	frame.bytes[13] = 0x06;
	memcpy(frame.bytes + 14, head, sizeof(head));
	memcpy(frame.bytes + 22, mac, 6);
	memcpy(frame.bytes + 28, &sender->w[3], 4);
	memset(frame.bytes + 32, 1, 10);
	return frame;
}

static void test_arp_speaks_of_the_pod_alone(void **state)
{
	const struct pod *a = &lab.pods->pod[POD_A], *b = &lab.pods->pod[POD_B];
	const struct addr none = { { 0 } };
	struct frame frame = arp_request(a->mac, &a->v4);

	(void)state;
	assert_int_equal(lab_from_pod(POD_A, &frame).action, TC_ACT_OK);
	frame = arp_request(a->mac, &none);
	FRAME_PASSES(POD_A, &frame);
	frame = arp_request(a->mac, &b->v4);
	FRAME_DROPS(SPOOFED_ADDRESS, POD_A, &frame);
	frame = arp_request(b->mac, &a->v4);
	FRAME_DROPS(SPOOFED_MAC, POD_A, &frame);
	frame = arp_request(a->mac, &a->v4);
	frame.len = 24;
	FRAME_DROPS(TRUNCATED, POD_A, &frame);
	frame = arp_request(a->mac, &a->v4);
	frame.bytes[18] = 8; /* hardware address length */
	FRAME_DROPS(BAD_HEADER, POD_A, &frame);
}

/* The link-local address that a device makes of its MAC (EUI-64, RFC 4291). */
static struct addr link_local(const struct pod *pod)
{
	const uint8_t *mac = pod->mac;
	const uint8_t bytes[16] = { 0xfe,   0x80,   0,      0,    0,    0,      0,      0,
				    mac[0], mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5] };
	struct addr addr;

	memcpy(&addr, bytes, sizeof(addr));
	((uint8_t *)&addr)[8] ^= 2;
	return addr;
}

#define LINK_LOCAL link_local(&lab.pods->pod[POD_A])
#define ALL_NODES  ((struct addr){ { htonl(0xff020000), 0, 0, htonl(1) } })

static struct frame discovery(struct addr from, struct addr to, uint8_t type)
{
	struct segment segment = {
		.from = from, .to = to, .proto = IPPROTO_ICMPV6, .icmp_type = type, .payload = 16
	};
	struct frame frame;

	frame_build(&segment, lab.pods->pod[POD_A].mac, lab.pods->pod[POD_A].host_mac, &frame);
	return frame;
}

static void test_ipv6_discovery_goes_to_the_host_and_nowhere_else(void **state)
{
	const uint8_t types[] = { 133, 135, 136, 130, 131, 132, 143 };
	const struct addr invented = { { htonl(0xfe800000), 0, 0, htonl(0x1234) } };
	const struct addr none = { { 0 } };
	struct frame frame;

	(void)state;
	if (!lab.ipv6)
		return;
	isolate(POD_A, ENDPOINT_EGRESS_ISOLATED);
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		frame = discovery(LINK_LOCAL, ALL_NODES, types[i]);
		assert_int_equal(lab_from_pod(POD_A, &frame).action, TC_ACT_OK);
		frame = discovery(none, ALL_NODES, types[i]);
		assert_int_equal(lab_from_pod(POD_A, &frame).action, TC_ACT_OK);
		frame = discovery(at(POD_A), at(NODE), types[i]);
		assert_int_equal(lab_from_pod(POD_A, &frame).action, TC_ACT_OK);
		/* Not to another pod: its neighbour table is not ours to write. */
		frame = discovery(at(POD_A), at(POD_B), types[i]);
		FRAME_DROPS(BAD_HEADER, POD_A, &frame);
		frame = discovery(LINK_LOCAL, at(OUTSIDE), types[i]);
		FRAME_DROPS(BAD_HEADER, POD_A, &frame);
		frame = discovery(at(POD_B), ALL_NODES, types[i]);
		FRAME_DROPS(SPOOFED_ADDRESS, POD_A, &frame);
		/* Each would be an entry in the node's neighbour table. */
		frame = discovery(invented, ALL_NODES, types[i]);
		FRAME_DROPS(SPOOFED_ADDRESS, POD_A, &frame);
		frame = discovery(link_local(&lab.pods->pod[POD_B]), ALL_NODES, types[i]);
		FRAME_DROPS(SPOOFED_ADDRESS, POD_A, &frame);
	}
}

static struct frame neighbour_message(enum host pod)
{
	const struct pod *sender = &lab.pods->pod[pod];
	struct frame frame;

	if (lab.ipv6) {
		frame = discovery(sender->v6, ALL_NODES, 135);
		memcpy(frame.bytes + 6, sender->mac, 6);
	} else {
		frame = arp_request(sender->mac, &sender->v4);
		memcpy(frame.bytes + 6, sender->mac, 6);
	}
	return frame;
}

static void test_neighbour_messages_have_a_rate_for_each_pod(void **state)
{
	struct frame flood = neighbour_message(POD_A), quiet = neighbour_message(POD_B);
	struct outcome outcome = { 0 };

	(void)state;
	/* More than a second may have, whichever CPU and second they fall into. */
	for (int i = 0; i < 8 * NEIGHBOUR_RATE && !outcome.reason; i++)
		outcome = lab_from_pod(POD_A, &flood);
	FRAME_IS(outcome, &flood, RATE_LIMITED);
	FRAME_PASSES(POD_B, &quiet);
}

static void test_only_discovery_may_come_from_a_link_local_address(void **state)
{
	struct segment segment = { .from = LINK_LOCAL, .proto = IPPROTO_UDP, .dport = 53 };
	struct frame frame;

	(void)state;
	if (!lab.ipv6)
		return;
	segment.to = at(NODE);
	frame_build(&segment, lab.pods->pod[POD_A].mac, lab.pods->pod[POD_A].host_mac, &frame);
	FRAME_DROPS(SPOOFED_ADDRESS, POD_A, &frame);
	frame = discovery(LINK_LOCAL, at(NODE), 128);
	FRAME_DROPS(SPOOFED_ADDRESS, POD_A, &frame);
}

static void test_no_pod_advertises_or_redirects_routes(void **state)
{
	struct frame frame;

	(void)state;
	if (lab.ipv6) {
		frame = discovery(LINK_LOCAL, ALL_NODES, 134);
		FRAME_DROPS(BAD_HEADER, POD_A, &frame);
		frame = discovery(LINK_LOCAL, at(POD_B), 137);
		FRAME_DROPS(BAD_HEADER, POD_A, &frame);
		return;
	}
	DROPS(BAD_HEADER, .from = at(POD_A), .to = at(POD_B), .proto = IPPROTO_ICMP,
	      .icmp_type = 5);
}

/* ---- headers -------------------------------------------------------------------------------- */

static void test_other_protocols_and_vlans_are_dropped(void **state)
{
	static const uint8_t tag[] = { 0x81, 0, 0, 5 };
	struct frame frame = FRAME(UDP(POD_A, POD_B, 1, 2));

	(void)state;
	frame.bytes[12] = 0x88;
	frame.bytes[13] = 0xcc;
	FRAME_DROPS(UNKNOWN_PROTOCOL, POD_A, &frame);
	frame = FRAME(UDP(POD_A, POD_B, 1, 2));
	frame_insert(&frame, 12, tag, sizeof(tag));
	FRAME_DROPS(UNKNOWN_PROTOCOL, POD_A, &frame);
}

static void test_every_cut_is_noticed(void **state)
{
	const struct segment segments[] = {
		{ TCP(POD_A, POD_B, 1, 2, SYN) },
		{ UDP(POD_A, POD_B, 1, 2) },
		{ ECHO_REQUEST(POD_A, POD_B, 7), .payload = 8 },
		{ .from = at(POD_A), .to = at(POD_B), .proto = IPPROTO_SCTP, .chunk = 1 },
	};
	struct frame frame, cut;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(segments); i++) {
		frame = lab_frame(&segments[i]);
		FRAME_PASSES(POD_A, &frame);
		/* The test run itself refuses what ends inside the IP header. */
		for (cut = frame, cut.len--; cut.len >= L4; cut.len--)
			FRAME_DROPS(TRUNCATED, POD_A, &cut);
	}
}

static void test_a_header_that_contradicts_itself_is_dropped(void **state)
{
	struct frame frame = FRAME(TCP(POD_A, POD_B, 1, 2, SYN));

	(void)state;
	frame.bytes[FRAME_L3] = lab.ipv6 ? 0x40 : 0x65; /* version */
	FRAME_DROPS(BAD_HEADER, POD_A, &frame);
	frame = FRAME(TCP(POD_A, POD_B, 1, 2, SYN));
	frame.bytes[L4 + 12] = 4 << 4; /* TCP header of 16 bytes */
	FRAME_DROPS(BAD_HEADER, POD_A, &frame);
	frame.bytes[L4 + 12] = 15 << 4; /* of 60, in a packet that has 20 */
	FRAME_DROPS(BAD_HEADER, POD_A, &frame);
	if (lab.ipv6)
		return;
	frame = FRAME(TCP(POD_A, POD_B, 1, 2, SYN));
	frame.bytes[FRAME_L3] = 0x44; /* IP header of 16 bytes */
	FRAME_DROPS(BAD_HEADER, POD_A, &frame);
	frame = FRAME(TCP(POD_A, POD_B, 1, 2, SYN));
	frame_set_length(&frame, 10);
	FRAME_DROPS(BAD_HEADER, POD_A, &frame);
	frame = FRAME(UDP(POD_A, POD_B, 1, 2));
	frame_set_length(&frame, 27); /* the frame is whole, what IP says of it is not */
	FRAME_DROPS(TRUNCATED, POD_A, &frame);
}

static void frame_put_options(struct frame *frame, const uint8_t *options, size_t len)
{
	frame_insert(frame, FRAME_L3 + 20, options, len);
	frame->bytes[FRAME_L3] = (uint8_t)(0x40 | (5 + len / 4));
	frame_set_length(frame, frame->len - FRAME_L3);
}

static void test_ipv4_options_pass_but_source_routes_do_not(void **state)
{
	static const struct {
		uint8_t bytes[8];
		enum drop_reason want;
	} cases[] = {
		{ { 7, 7, 4, 0, 0, 0, 0, 0 }, DROP_NONE },   /* record route */
		{ { 1, 1, 1, 1, 148, 4, 0, 0 }, DROP_NONE }, /* router alert after padding */
		{ { 131, 7, 4, 10, 0, 0, 1, 0 }, DROP_BAD_HEADER },
		{ { 1, 137, 7, 4, 10, 0, 0, 1 }, DROP_BAD_HEADER },
		{ { 7, 3, 4, 131, 7, 4, 0, 0 }, DROP_BAD_HEADER },
		{ { 68, 1, 0, 0, 0, 0, 0, 0 }, DROP_BAD_HEADER },  /* shorter than itself */
		{ { 68, 40, 0, 0, 0, 0, 0, 0 }, DROP_BAD_HEADER }, /* longer than the header */
		{ { 0, 131, 7, 4, 10, 0, 0, 1 }, DROP_NONE },      /* after the end it is padding */
	};
	struct outcome outcome;
	struct frame frame;

	(void)state;
	if (lab.ipv6)
		return;
	isolate(POD_B, ENDPOINT_INGRESS_ISOLATED);
	allow(POD_B, DIR_INGRESS, POD_A, IPPROTO_TCP, 80);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		frame = FRAME(TCP(POD_A, POD_B, 40000, 80, SYN));
		frame_put_options(&frame, cases[i].bytes, sizeof(cases[i].bytes));
		outcome = lab_from_pod(POD_A, &frame);
		lab_expect_frame(&outcome, &frame, cases[i].want, __FILE__, __LINE__);
		/* The port is read behind the options. */
		frame = FRAME(TCP(POD_A, POD_B, 40000, 81, SYN));
		frame_put_options(&frame, cases[i].bytes, sizeof(cases[i].bytes));
		outcome = lab_from_pod(POD_A, &frame);
		lab_expect_frame(&outcome, &frame,
				 cases[i].want ? cases[i].want : DROP_INGRESS_DENIED, __FILE__,
				 __LINE__);
	}
}

/* Puts IPv6 extension headers of 8 bytes before the transport; type, then bytes 2 and 3. */
static void frame_put_extensions(struct frame *frame, const uint8_t (*headers)[3], size_t count)
{
	uint8_t transport = frame->bytes[FRAME_L3 + 6];

	for (size_t i = count; i-- > 0;) {
		uint8_t bytes[8] = { transport, 0, headers[i][1], headers[i][2] };

		if (headers[i][0] == IPPROTO_AH)
			bytes[1] = 0; /* (0 + 2) words of 4 bytes */
		frame_insert(frame, FRAME_L3 + 40, bytes, sizeof(bytes));
		transport = headers[i][0];
	}
	frame->bytes[FRAME_L3 + 6] = transport;
	frame_set_length(frame, frame->len - FRAME_L3 - 40);
}

static void test_ipv6_extensions_hide_no_port(void **state)
{
	static const uint8_t plain[][3] = { { 0, 1, 4 }, { 60, 1, 4 }, { 51, 0, 0 }, { 60, 1, 4 } };
	static const uint8_t many[][3] = { { 0, 1, 4 },  { 60, 1, 4 }, { 60, 1, 4 }, { 60, 1, 4 },
					   { 60, 1, 4 }, { 60, 1, 4 }, { 60, 1, 4 } };
	static const uint8_t route[][3] = { { 43, 0, 1 } }, used_route[][3] = { { 43, 4, 0 } };
	struct frame frame;

	(void)state;
	if (!lab.ipv6)
		return;
	isolate(POD_B, ENDPOINT_INGRESS_ISOLATED);
	allow(POD_B, DIR_INGRESS, POD_A, IPPROTO_TCP, 80);
	frame = FRAME(TCP(POD_A, POD_B, 40000, 80, SYN));
	frame_put_extensions(&frame, plain, ARRAY_SIZE(plain));
	FRAME_PASSES(POD_A, &frame);
	frame = FRAME(TCP(POD_A, POD_B, 40000, 81, SYN));
	frame_put_extensions(&frame, plain, ARRAY_SIZE(plain));
	FRAME_DROPS(INGRESS_DENIED, POD_A, &frame);
	frame = FRAME(TCP(POD_A, POD_B, 40000, 80, SYN));
	frame_put_extensions(&frame, many, ARRAY_SIZE(many));
	FRAME_DROPS(BAD_HEADER, POD_A, &frame);
	frame = FRAME(TCP(POD_A, POD_B, 40000, 80, SYN));
	frame_put_extensions(&frame, route, 1);
	FRAME_DROPS(BAD_HEADER, POD_A, &frame);
	frame = FRAME(TCP(POD_A, POD_B, 40000, 80, SYN));
	frame_put_extensions(&frame, used_route, 1);
	FRAME_PASSES(POD_A, &frame);
	frame.bytes[FRAME_L3 + 41] = 200; /* longer than the packet */
	FRAME_DROPS(TRUNCATED, POD_A, &frame);
}

/* ---- 8: fragments --------------------------------------------------------------------------- */

#define FIRST(from, to, dport, id) \
	UDP(from, to, 40000, dport), .more = true, .fragment_id = id, .payload = 64
#define LATER(from_, to_, id)                                                                \
	.from = at(from_), .to = at(to_), .proto = IPPROTO_UDP, .offset = 72, .payload = 40, \
	.fragment_id = id

static void test_later_fragments_share_the_fate_of_the_first(void **state)
{
	(void)state;
	isolate(POD_B, ENDPOINT_INGRESS_ISOLATED);
	allow(POD_B, DIR_INGRESS, POD_A, IPPROTO_UDP, 53);
	PASSES(UDP(POD_A, POD_B, 40000, 53));
	PASSES(FIRST(POD_A, POD_B, 53, 1));
	PASSES(LATER(POD_A, POD_B, 1));
	PASSES(LATER(POD_A, POD_B, 1), .more = true);
	DROPS(INGRESS_DENIED, FIRST(POD_A, POD_B, 54, 2));
	DROPS(INGRESS_DENIED, LATER(POD_A, POD_B, 2));
	/* and from outside */
	allow(POD_B, DIR_INGRESS, OUTSIDE, IPPROTO_UDP, 53);
	PASSES(FIRST(OUTSIDE, POD_B, 53, 3));
	PASSES(LATER(OUTSIDE, POD_B, 3));
}

static void test_a_fragment_without_its_first_is_dropped_where_ports_matter(void **state)
{
	(void)state;
	PASSES(LATER(POD_A, POD_B, 9));
	isolate(POD_B, ENDPOINT_INGRESS_ISOLATED);
	allow(POD_B, DIR_INGRESS, POD_A, IPPROTO_UDP, 53);
	DROPS(FRAGMENT, LATER(POD_A, POD_B, 9));
	PASSES(FIRST(POD_A, POD_B, 53, 10));
	DROPS(FRAGMENT, LATER(POD_A, POD_B, 11));
	DROPS(FRAGMENT, LATER(POD_C, POD_B, 10));
	DROPS(FRAGMENT, LATER(OUTSIDE, POD_B, 10));
	DROPS(FRAGMENT, LATER(POD_A, SERVICE, 10));
	/* Nobody minds what B sends. */
	PASSES(LATER(POD_B, POD_A, 12));
}

static void test_fragments_that_split_or_rewrite_a_header_are_dropped(void **state)
{
	struct frame frame;

	(void)state;
	DROPS(BAD_HEADER, .from = at(POD_A), .to = at(POD_B), .proto = IPPROTO_TCP, .offset = 8,
	      .payload = 40, .fragment_id = 1);
	DROPS(BAD_HEADER, .from = at(POD_A), .to = at(POD_B), .proto = IPPROTO_TCP, .offset = 16,
	      .payload = 40, .fragment_id = 1);
	PASSES(.from = at(POD_A), .to = at(POD_B), .proto = IPPROTO_TCP, .offset = 24,
	       .payload = 40, .fragment_id = 1);
	frame = FRAME(TCP(POD_A, POD_B, 1, 2, SYN), .more = true, .fragment_id = 2);
	FRAME_PASSES(POD_A, &frame);
	frame.len -= 4; /* a first fragment of 16 bytes */
	frame_set_length(&frame, frame.len - FRAME_L3 - (lab.ipv6 ? 40 : 0));
	FRAME_DROPS(BAD_HEADER, POD_A, &frame);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH_FAMILIES(test_a_packet_to_a_pod_goes_straight_to_it),
		BOTH_FAMILIES(test_a_packet_to_the_node_or_beyond_goes_to_the_host_stack),
		BOTH_FAMILIES(test_a_wrong_cached_slot_leads_nowhere),
		BOTH_FAMILIES(test_a_device_without_an_endpoint_passes_nothing),
		BOTH_FAMILIES(test_a_pod_that_is_being_removed_receives_nothing),
		BOTH_FAMILIES(test_the_nodes_loopback_is_not_for_pods),
		BOTH_FAMILIES(test_a_foreign_source_address_is_dropped),
		BOTH_FAMILIES(test_the_unspecified_address_is_nobodys),
		BOTH_FAMILIES(test_a_foreign_mac_is_dropped),
		BOTH_FAMILIES(test_ipv4_dressed_up_as_ipv6_is_dropped),
		BOTH_FAMILIES(test_arp_speaks_of_the_pod_alone),
		BOTH_FAMILIES(test_ipv6_discovery_goes_to_the_host_and_nowhere_else),
		BOTH_FAMILIES(test_only_discovery_may_come_from_a_link_local_address),
		BOTH_FAMILIES(test_no_pod_advertises_or_redirects_routes),
		BOTH_FAMILIES(test_other_protocols_and_vlans_are_dropped),
		BOTH_FAMILIES(test_every_cut_is_noticed),
		BOTH_FAMILIES(test_a_header_that_contradicts_itself_is_dropped),
		BOTH_FAMILIES(test_ipv4_options_pass_but_source_routes_do_not),
		BOTH_FAMILIES(test_ipv6_extensions_hide_no_port),
		BOTH_FAMILIES(test_later_fragments_share_the_fate_of_the_first),
		BOTH_FAMILIES(test_a_fragment_without_its_first_is_dropped_where_ports_matter),
		BOTH_FAMILIES(test_fragments_that_split_or_rewrite_a_header_are_dropped),
		BOTH_FAMILIES(test_neighbour_messages_have_a_rate_for_each_pod),
	};

	return LAB_RUN(tests);
}
