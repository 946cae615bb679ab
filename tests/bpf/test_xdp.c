/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uplink_xdp beside from_uplink: what passes through this node on its way to a backend elsewhere.
 *
 *      OUTSIDE ---- router ---- uplink0  node  ---- POD_A, POD_B, POD_C
 *                      |
 *                  ELSEWHERE, a pod of another node
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <linux/pkt_cls.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "harness/lab.h"
#include "harness/lab_uplink.h"
#include "lib/auto.h"
#include "lib/inet.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define SERVICE_ID 5
#define PORT       30080
#define SNAT_MIN   20000
#define SNAT_MAX   20999

static int from_uplink, uplink_xdp;

static int xdp_setup(void **state)
{
	struct datapath_options options = { .limits = { .endpoints = 16, .connections = 512 } };
	struct errmsg err = { 0 };

	if (lab_setup(state) || lab_uplink_make() ||
	    datapath_load_xdp(lab.datapath, &options, XDP_NATIVE, &err)) {
		print_error("%s\n", err.text);
		return -1;
	}
	from_uplink = datapath_program_fd(lab.datapath, "from_uplink");
	uplink_xdp = datapath_program_fd(lab.datapath, "uplink_xdp");
	return 0;
}

/* A node port with one backend. */
static void serve(enum host host)
{
	static const uint8_t protocols[] = { IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP };
	const struct service service = {
		.id = SERVICE_ID, .backends = 1, .flags = SERVICE_HAS_ENDPOINTS, .kind = NODE_PORT
	};
	const struct backend_key backend_key = { .service_id = SERVICE_ID };
	const struct backend backend = { .addr = at(host), .port = htons(8080) };

	assert_int_equal(backend_map_set(lab.datapath, &backend_key, &backend), 0);
	for (size_t i = 0; i < ARRAY_SIZE(protocols); i++) {
		const struct service_key key = { .addr = at(NODE),
						 .port = htons(PORT),
						 .proto = protocols[i] };

		assert_int_equal(service_map_set(lab.datapath, &key, &service), 0);
	}
}

static int xdp_reset(void **state)
{
	struct node_state *node;

	if (lab_reset(state))
		return -1;
	node = maps_node(lab.datapath);
	node->node_port_min = 30000;
	node->node_port_max = 32767;
	node->snat_port_min = SNAT_MIN;
	node->snat_port_max = SNAT_MAX;
	node->snat_v4 = outside_addr(false, 0x0a630001, 0, 0);
	node->snat_v6 = outside_addr(true, 0, 0xfd990000, 1);
	serve(ELSEWHERE);
	return 0;
}

/* ---- packets -------------------------------------------------------------------------------- */

static int xdp_run(const struct frame *frame, struct frame *left)
{
	struct xdp_md md = { .data_end = (uint32_t)frame->len, .ingress_ifindex = UPLINK_INDEX };
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame->bytes,
		    .data_size_in = (uint32_t)frame->len, .data_out = left->bytes,
		    .data_size_out = sizeof(left->bytes), .ctx_in = &md, .ctx_size_in = sizeof(md));

	assert_int_equal(bpf_prog_test_run_opts(uplink_xdp, &options), 0);
	left->len = options.data_size_out;
	return (int)options.retval;
}

/* By tc, as packets come that XDP passes on. */
static struct outcome by_tc(const struct segment *segment)
{
	struct frame frame = lab_uplink_frame(segment);

	return lab_run_program(from_uplink, &frame, UPLINK_INDEX, UPLINK_INDEX);
}

#define SENT_ON(...)   sent_on(&(struct segment){ __VA_ARGS__ }, __FILE__, __LINE__)
#define PASSED_ON(...) passed_on(&(struct segment){ __VA_ARGS__ }, __FILE__, __LINE__)

/* By XDP: back to the router, and by tc's own bytes from the IP header on. */
static struct segment sent_on(const struct segment *segment, const char *file, int line)
{
	struct frame frame = lab_uplink_frame(segment), left;
	struct segment got;
	struct outcome outcome;

	_assert_int_equal(xdp_run(&frame, &left), XDP_TX, file, line);
	got = frame_read(&left);
	_assert_true(frame_sums_hold(&left), "checksums", file, line);
	_assert_int_equal(lab_ttl(&left), 63, file, line);
	_assert_memory_equal(left.bytes, router_mac, 6, file, line);
	_assert_memory_equal(left.bytes + 6, uplink_mac, 6, file, line);
	outcome = by_tc(segment);
	_assert_int_equal(outcome.action, TC_ACT_REDIRECT, file, line);
	_assert_int_equal(outcome.frame.len, left.len, file, line);
	_assert_memory_equal(outcome.frame.bytes + FRAME_L3, left.bytes + FRAME_L3,
			     left.len - FRAME_L3, file, line);
	return got;
}

static void frame_passes(const struct frame *frame, const char *file, int line)
{
	struct frame left;

	_assert_int_equal(xdp_run(frame, &left), XDP_PASS, file, line);
	_assert_int_equal(left.len, frame->len, file, line);
	_assert_memory_equal(left.bytes, frame->bytes, frame->len, file, line);
}

/* To tc, as it came. */
static void passed_on(const struct segment *segment, const char *file, int line)
{
	struct frame frame = lab_uplink_frame(segment);

	frame_passes(&frame, file, line);
}

/* Opens a connection by tc; the port that the backend sees. */
static uint16_t opened(uint8_t proto)
{
	const struct segment segment = { .from = at(OUTSIDE),
					 .to = at(NODE),
					 .proto = proto,
					 .sport = 40000,
					 .dport = PORT,
					 .flags = SYN,
					 .chunk = 1 };
	struct outcome outcome = by_tc(&segment);

	assert_int_equal(outcome.action, TC_ACT_REDIRECT);
	return frame_read(&outcome.frame).sport;
}

static uint64_t bytes_counted(void)
{
	struct backend_key key = { .service_id = SERVICE_ID };
	struct backend_entry entry;

	assert_int_equal(bpf_map_lookup_elem(lab_map("backend_map"), &key, &entry), 0);
	return entry.bytes;
}

static size_t nat_entries(void)
{
	struct flow key, next;
	size_t count = 0;

	for (void *from = NULL; !bpf_map_get_next_key(lab_map("nat_map"), from, &next); count++) {
		key = next;
		from = &key;
	}
	return count;
}

/* ---- there and back ------------------------------------------------------------------------- */

static void test_a_known_connection_passes_in_both_directions(void **state)
{
	struct addr node = at(NODE), backend = at(ELSEWHERE), client = at(OUTSIDE);
	uint64_t before = lab_metric(METRIC_NOTICES + NOTICE_XDP_FORWARDED);
	struct segment got;
	uint16_t port;

	(void)state;
	port = opened(IPPROTO_TCP);
	got = SENT_ON(TCP(OUTSIDE, NODE, 40000, PORT, ACK), .payload = 333);
	assert_true(addr_equal(&got.from, &node) && addr_equal(&got.to, &backend));
	assert_int_equal(got.sport, port);
	assert_int_equal(got.dport, 8080);
	got = SENT_ON(TCP(ELSEWHERE, NODE, 8080, port, SYN | ACK));
	assert_true(addr_equal(&got.from, &node) && addr_equal(&got.to, &client));
	assert_int_equal(got.sport, PORT);
	assert_int_equal(got.dport, 40000);
	SENT_ON(TCP(ELSEWHERE, NODE, 8080, port, ACK), .payload = 1001);
	assert_int_equal(lab_metric(METRIC_NOTICES + NOTICE_XDP_FORWARDED), before + 3);
}

static void test_datagrams_pass_in_both_directions(void **state)
{
	uint16_t port;

	(void)state;
	port = opened(IPPROTO_UDP);
	for (uint16_t payload = 0; payload < 9; payload++)
		SENT_ON(UDP(OUTSIDE, NODE, 40000, PORT), .payload = payload);
	SENT_ON(UDP(ELSEWHERE, NODE, 8080, port), .payload = 700);
}

static void test_a_datagram_without_a_sum_stays_without(void **state)
{
	struct segment segment = { UDP(OUTSIDE, NODE, 40000, PORT), .payload = 40 };
	struct frame frame, left;
	size_t sum = FRAME_L3 + (lab.ipv6 ? 40u : 20u) + 6;

	(void)state;
	if (lab.ipv6)
		return; /* has no such datagrams */
	opened(IPPROTO_UDP);
	frame = lab_uplink_frame(&segment);
	memset(frame.bytes + sum, 0, 2);
	assert_int_equal(xdp_run(&frame, &left), XDP_TX);
	assert_int_equal(left.bytes[sum] | left.bytes[sum + 1], 0);
}

static void test_the_end_of_a_connection_is_followed(void **state)
{
	uint16_t port = opened(IPPROTO_TCP);
	struct frame frame, left;
	const struct segment ends[] = {
		{ TCP(OUTSIDE, NODE, 40000, PORT, FIN | ACK), .seq = 100, .ack = 500 },
		{ TCP(ELSEWHERE, NODE, 8080, port, FIN | ACK), .seq = 500, .ack = 101 },
		{ TCP(OUTSIDE, NODE, 40000, PORT, ACK), .seq = 101, .ack = 501 },
	};

	(void)state;
	assert_int_equal(nat_entries(), 2);
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		frame = lab_uplink_frame(&ends[i]);
		assert_int_equal(xdp_run(&frame, &left), XDP_TX);
	}
	assert_int_equal(nat_entries(), 0);
	assert_true(bytes_counted() > 0);
}

/* ---- what tc gets --------------------------------------------------------------------------- */

static void test_what_opens_a_connection_goes_to_tc(void **state)
{
	(void)state;
	PASSED_ON(TCP(OUTSIDE, NODE, 40000, PORT, SYN));
	PASSED_ON(UDP(OUTSIDE, NODE, 40000, PORT));
	assert_int_equal(nat_entries(), 0);
	opened(IPPROTO_TCP);
	PASSED_ON(TCP(ELSEWHERE, NODE, 8080, SNAT_MIN, SYN)); /* an answer opens nothing */
	PASSED_ON(TCP(OUTSIDE, NODE, 40001, PORT, ACK));
}

static void test_what_is_for_this_node_goes_to_tc(void **state)
{
	(void)state;
	serve(POD_B);
	opened(IPPROTO_TCP);
	PASSED_ON(TCP(OUTSIDE, NODE, 40000, PORT, ACK));
	PASSED_ON(TCP(OUTSIDE, NODE, 40000, 22, ACK));
	PASSED_ON(TCP(OUTSIDE, POD_B, 40000, 8080, ACK));
	PASSED_ON(TCP(OUTSIDE, ELSEWHERE, 40000, PORT, ACK));
	PASSED_ON(ECHO_REQUEST(OUTSIDE, NODE, 7));
}

static void test_what_xdp_cannot_translate_goes_to_tc(void **state)
{
	struct segment ack = { TCP(OUTSIDE, NODE, 40000, PORT, ACK) };
	uint16_t port = opened(IPPROTO_TCP);
	struct segment sent = { TCP(NODE, ELSEWHERE, port, 8080, ACK) };
	struct frame frame = lab_uplink_frame(&ack);

	(void)state;
	opened(IPPROTO_SCTP);
	opened(IPPROTO_UDP);
	PASSED_ON(.from = at(OUTSIDE), .to = at(NODE), .proto = IPPROTO_SCTP, .sport = 40000,
		  .dport = PORT, .chunk = 0);
	PASSED_ON(UDP(OUTSIDE, NODE, 40000, PORT), .more = true, .fragment_id = 3, .payload = 64);
	PASSED_ON(PORT_UNREACHABLE(ELSEWHERE, NODE), .embedded = &sent);
	PASSED_ON(TCP(OUTSIDE, NODE, 40000, PORT, ACK), .payload = UPLINK_MTU);
	frame_insert(&frame, 12, "\x81\x00\x00\x05", 4); /* a VLAN's */
	frame_passes(&frame, __FILE__, __LINE__);
	frame.len = 40; /* cut short */
	frame_passes(&frame, __FILE__, __LINE__);
}

/* Nobody outside has an address of the node or of a pod, whatever connection it had before. */
static void test_forged_sources_go_to_tc(void **state)
{
	const struct ipcache_entry owners[] = { { .flags = IPCACHE_HOST }, { .slot = 1 } };
	struct addr client = at(OUTSIDE);

	(void)state;
	opened(IPPROTO_TCP);
	for (size_t i = 0; i < ARRAY_SIZE(owners); i++) {
		assert_int_equal(ipcache_map_set(lab.datapath, &client, &owners[i]), 0);
		PASSED_ON(TCP(OUTSIDE, NODE, 40000, PORT, ACK));
	}
	PASSED_ON(TCP(POD_A, NODE, 40000, PORT, ACK));
	assert_int_equal(ipcache_map_del(lab.datapath, &client), 0);
	SENT_ON(TCP(OUTSIDE, NODE, 40000, PORT, ACK));
}

/* Options of IPv4 or an extension header, although they ask for nothing. */
static void test_headers_for_routers_go_to_tc(void **state)
{
	struct segment ack = { TCP(OUTSIDE, NODE, 40000, PORT, ACK) };
	struct frame frame = lab_uplink_frame(&ack);
	uint8_t *ip = frame.bytes + FRAME_L3;

	(void)state;
	opened(IPPROTO_TCP);
	if (lab.ipv6) {
		ip[6] = IPPROTO_DSTOPTS;
		ip[5] += 8;
		frame_insert(&frame, FRAME_L3 + 40, "\x06\0\1\4\0\0\0\0", 8);
	} else {
		ip[0]++;
		ip[3] += 4;
		frame_insert(&frame, FRAME_L3 + 20, "\1\1\1\1", 4);
	}
	frame_passes(&frame, __FILE__, __LINE__);
}

/* Ethernet fills short frames up; the lengths in the packet count. */
static void test_padding_is_no_part_of_the_packet(void **state)
{
	struct segment ack = { TCP(OUTSIDE, NODE, 40000, PORT, FIN | ACK), .seq = 7 };
	struct frame frame = lab_uplink_frame(&ack), left;
	size_t len = frame.len;

	(void)state;
	opened(IPPROTO_TCP);
	memset(frame.bytes + len, 0xa5, 6);
	frame.len += 6;
	assert_int_equal(xdp_run(&frame, &left), XDP_TX);
	assert_int_equal(left.len, len + 6);
	left.len = len;
	assert_true(frame_sums_hold(&left));
}

static void test_at_the_last_hop_tc_answers(void **state)
{
	struct segment ack = { TCP(OUTSIDE, NODE, 40000, PORT, ACK) };
	struct frame frame = lab_uplink_frame(&ack);
	uint16_t *words = (uint16_t *)(frame.bytes + FRAME_L3);

	(void)state;
	opened(IPPROTO_TCP);
	if (lab.ipv6) {
		frame.bytes[FRAME_L3 + 7] = 1;
	} else {
		frame.bytes[FRAME_L3 + 8] = 1;
		words[5] = (uint16_t)(words[5] + htons(63 << 8)); /* its sum follows */
	}
	frame_passes(&frame, __FILE__, __LINE__);
}

static void test_a_frame_for_another_device_is_left_alone(void **state)
{
	struct segment ack = { TCP(OUTSIDE, NODE, 40000, PORT, ACK) };
	struct frame frame = lab_uplink_frame(&ack);

	(void)state;
	opened(IPPROTO_TCP);
	frame.bytes[5] ^= 1;
	frame_passes(&frame, __FILE__, __LINE__);
}

/* The kernel is not asked about each packet; what it said does not hold for all of them. */
static void test_a_known_way_is_not_for_every_packet(void **state)
{
	struct segment ack = { TCP(OUTSIDE, NODE, 40000, PORT, ACK) };
	struct frame frame = lab_uplink_frame(&ack);

	(void)state;
	opened(IPPROTO_TCP);
	SENT_ON(TCP(OUTSIDE, NODE, 40000, PORT, ACK));
	PASSED_ON(TCP(OUTSIDE, NODE, 40000, PORT, ACK), .payload = UPLINK_MTU);
	frame.bytes[5] ^= 1;
	frame_passes(&frame, __FILE__, __LINE__);
	SENT_ON(TCP(OUTSIDE, NODE, 40000, PORT, ACK));
}

static void test_a_backend_that_is_gone_is_tcs_business(void **state)
{
	(void)state;
	opened(IPPROTO_UDP);
	serve(POD_B);
	PASSED_ON(UDP(OUTSIDE, NODE, 40000, PORT));
}

/* The sum of the pseudo-header alone: the sender left the rest to a device. */
static void test_an_unfinished_sum_goes_to_tc(void **state)
{
	struct segment ack = { TCP(OUTSIDE, NODE, 40000, PORT, ACK), .payload = 10 };
	struct frame frame = lab_uplink_frame(&ack);
	size_t l4 = FRAME_L3 + (lab.ipv6 ? 40u : 20u), from = FRAME_L3 + (lab.ipv6 ? 8u : 12u);
	uint32_t sum = htons(IPPROTO_TCP) + htons((uint16_t)(frame.len - l4));
	uint16_t word;

	(void)state;
	opened(IPPROTO_TCP);
	for (size_t i = from; i < l4; i += 2) {
		memcpy(&word, frame.bytes + i, 2);
		sum += word;
	}
	sum = (sum & 0xffff) + (sum >> 16);
	word = (uint16_t)((sum & 0xffff) + (sum >> 16));
	memcpy(frame.bytes + l4 + 16, &word, 2);
	frame_passes(&frame, __FILE__, __LINE__);
}

/* ---- the link ------------------------------------------------------------------------------- */

static void attach(enum xdp_mode mode)
{
	struct errmsg err = { 0 };

	if (datapath_attach_xdp(lab.datapath, UPLINK_INDEX, mode, &err))
		fail_msg("%s", err.text);
}

static void test_a_device_has_it_once_and_in_one_mode(void **state)
{
	(void)state;
	assert_false(datapath_xdp_attached(lab.datapath, UPLINK_INDEX, XDP_GENERIC));
	attach(XDP_GENERIC);
	assert_true(datapath_xdp_attached(lab.datapath, UPLINK_INDEX, XDP_GENERIC));
	attach(XDP_GENERIC); /* as an agent that starts anew does */
	attach(XDP_NATIVE);
	assert_true(datapath_xdp_attached(lab.datapath, UPLINK_INDEX, XDP_NATIVE));
	assert_false(datapath_xdp_attached(lab.datapath, UPLINK_INDEX, XDP_GENERIC));
	datapath_keep_xdp(lab.datapath, UPLINK_INDEX, XDP_OFF);
	assert_false(datapath_xdp_attached(lab.datapath, UPLINK_INDEX, XDP_NATIVE));
	/* It goes with the uplink, too. */
	attach(XDP_GENERIC);
	datapath_keep_uplinks(lab.datapath, NULL, 0);
	assert_false(datapath_xdp_attached(lab.datapath, UPLINK_INDEX, XDP_GENERIC));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define CASE(name) BOTH_FAMILIES_AFTER(xdp_reset, name)
		CASE(test_a_known_connection_passes_in_both_directions),
		CASE(test_datagrams_pass_in_both_directions),
		CASE(test_a_datagram_without_a_sum_stays_without),
		CASE(test_the_end_of_a_connection_is_followed),
		CASE(test_what_opens_a_connection_goes_to_tc),
		CASE(test_what_is_for_this_node_goes_to_tc),
		CASE(test_what_xdp_cannot_translate_goes_to_tc),
		CASE(test_forged_sources_go_to_tc),
		CASE(test_headers_for_routers_go_to_tc),
		CASE(test_padding_is_no_part_of_the_packet),
		CASE(test_at_the_last_hop_tc_answers),
		CASE(test_a_frame_for_another_device_is_left_alone),
		CASE(test_a_known_way_is_not_for_every_packet),
		CASE(test_a_backend_that_is_gone_is_tcs_business),
		CASE(test_an_unfinished_sum_goes_to_tc),
		CASE(test_a_device_has_it_once_and_in_one_mode),
	};
	const char *filter = getenv("CMOCKA_TEST_FILTER");

	if (filter && *filter)
		cmocka_set_test_filter(filter);
	return _cmocka_run_group_tests(__FILE__, tests, ARRAY_SIZE(tests), xdp_setup, lab_teardown);
}
