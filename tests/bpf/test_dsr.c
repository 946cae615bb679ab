/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Direct server return, as the node sees it that a client asks.  What the node of the backend does
 * is in tests/net/test_dsr.py: no packet of a test run comes out of a tunnel.
 *
 *      OUTSIDE ---- router ---- uplink0  node, which is POD_A, POD_B, POD_C's
 *                                  |
 *                               ELSEWHERE, a pod of another node; the uplink is the tunnel, too
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
#include "lib/clock.h"
#include "lib/inet.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define SERVICE_ID 5
#define PORT       30080
#define SNAT_MIN   20000
#define SNAT_MAX   20999

static int from_uplink, uplink_xdp;

static int dsr_setup(void **state)
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

static struct addr other_node(void)
{
	return outside_addr(lab.ipv6, 0xc0000202, 0x20010dba, 2);
}

/* Who has the address, for the tunnel; node NULL: this node itself. */
static void cluster_set(const struct addr *addr, const struct addr *node, uint32_t flags)
{
	const struct cidr_key key = { .prefixlen = 128, .addr = *addr };
	struct cluster_entry entry = { .flags = flags };

	if (node)
		entry.node = *node;
	assert_int_equal(bpf_map_update_elem(lab_map("cluster_map"), &key, &entry, BPF_ANY), 0);
}

static void cluster_del(const struct addr *addr)
{
	const struct cidr_key key = { .prefixlen = 128, .addr = *addr };

	bpf_map_delete_elem(lab_map("cluster_map"), &key);
}

static struct addr loopback(void)
{
	struct addr addr;

	assert_int_equal(addr_parse(lab.ipv6 ? "::1" : "127.0.0.1", &addr), 0);
	return addr;
}

/* A node port with this backend, also at the node's loopback address. */
static void serve(enum host host)
{
	static const uint8_t protocols[] = { IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP };
	const struct service service = {
		.id = SERVICE_ID, .backends = 1, .flags = SERVICE_HAS_ENDPOINTS, .kind = NODE_PORT
	};
	const struct backend_key backend_key = { .service_id = SERVICE_ID };
	const struct backend backend = { .addr = at(host), .port = htons(8080) };
	const struct addr addresses[] = { at(NODE), loopback() };

	assert_int_equal(backend_map_set(lab.datapath, &backend_key, &backend), 0);
	for (size_t i = 0; i < 2 * ARRAY_SIZE(protocols); i++) {
		const struct service_key key = { .addr = addresses[i % 2],
						 .port = htons(PORT),
						 .proto = protocols[i / 2] };

		assert_int_equal(service_map_set(lab.datapath, &key, &service), 0);
	}
}

static int dsr_reset(void **state)
{
	struct addr pod, own, node, client;
	struct node_state *node_state;

	if (lab_reset(state))
		return -1;
	pod = at(ELSEWHERE);
	own = at(NODE);
	client = at(OUTSIDE);
	node = other_node();
	node_state = maps_node(lab.datapath);
	node_state->node_port_min = 30000;
	node_state->node_port_max = 32767;
	node_state->snat_port_min = SNAT_MIN;
	node_state->snat_port_max = SNAT_MAX;
	node_state->snat_v4 = outside_addr(false, 0x0a630001, 0, 0);
	node_state->snat_v6 = outside_addr(true, 0, 0xfd990000, 1);
	node_state->tunnel_ifindex = UPLINK_INDEX;
	node_state->flags |= NODE_DSR | (lab.ipv6 ? NODE_TUNNEL_IPV6 : 0);
	cluster_del(&client);
	cluster_set(&pod, &node, 0);
	cluster_set(&own, NULL, CLUSTER_NODE);
	serve(ELSEWHERE);
	return 0;
}

/* ---- packets -------------------------------------------------------------------------------- */

static struct outcome run(const struct segment *segment)
{
	struct frame frame = lab_uplink_frame(segment);

	return lab_run_program(from_uplink, &frame, UPLINK_INDEX, UPLINK_INDEX);
}

#define GOES_ON(...)    goes_on(&(struct segment){ __VA_ARGS__ }, true, __FILE__, __LINE__)
#define TRANSLATED(...) goes_on(&(struct segment){ __VA_ARGS__ }, false, __FILE__, __LINE__)

/* To another node: as it came, but for one hop; or with SNAT. */
static void goes_on(const struct segment *segment, bool unchanged, const char *file, int line)
{
	struct outcome outcome = run(segment);
	struct segment got = frame_read(&outcome.frame);

	_assert_int_equal(outcome.action, TC_ACT_REDIRECT, file, line);
	_assert_int_equal(lab_ttl(&outcome.frame), 63, file, line);
	_assert_true(frame_sums_hold(&outcome.frame), "checksums", file, line);
	_assert_int_equal(addr_equal(&got.from, &segment->from) &&
				  addr_equal(&got.to, &segment->to) &&
				  got.sport == segment->sport && got.dport == segment->dport,
			  unchanged, file, line);
}

static size_t nat_entries(struct nat_entry *ret)
{
	struct flow key, next;
	size_t count = 0;

	for (void *from = NULL; !bpf_map_get_next_key(lab_map("nat_map"), from, &next); count++) {
		key = next;
		from = &key;
		assert_int_equal(bpf_map_lookup_elem(lab_map("nat_map"), &key, ret), 0);
	}
	return count;
}

/* ---- cases ---------------------------------------------------------------------------------- */

static void test_packets_go_on_as_they_came(void **state)
{
	struct addr backend = at(ELSEWHERE);
	struct nat_entry entry;

	(void)state;
	GOES_ON(TCP(OUTSIDE, NODE, 40000, PORT, SYN));
	GOES_ON(TCP(OUTSIDE, NODE, 40000, PORT, ACK), .payload = 333);
	assert_int_equal(nat_entries(&entry), 1);
	assert_int_equal(entry.flags, NAT_REQUEST | NAT_DSR | NAT_USED);
	assert_true(addr_equal(&entry.flow.daddr, &backend));
	GOES_ON(UDP(OUTSIDE, NODE, 40000, PORT), .payload = 700);
	GOES_ON(.from = at(OUTSIDE), .to = at(NODE), .proto = IPPROTO_SCTP, .sport = 40000,
		.dport = PORT, .chunk = 1);
	assert_int_equal(nat_entries(&entry), 3);
}

static void test_xdp_leaves_them_to_tc(void **state)
{
	struct segment ack = { TCP(OUTSIDE, NODE, 40000, PORT, ACK) };
	struct frame frame = lab_uplink_frame(&ack);
	struct xdp_md md = { .data_end = (uint32_t)frame.len, .ingress_ifindex = UPLINK_INDEX };
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame.bytes,
		    .data_size_in = (uint32_t)frame.len, .ctx_in = &md, .ctx_size_in = sizeof(md));

	(void)state;
	GOES_ON(TCP(OUTSIDE, NODE, 40000, PORT, SYN));
	assert_int_equal(bpf_prog_test_run_opts(uplink_xdp, &options), 0);
	assert_int_equal(options.retval, XDP_PASS);
}

static void test_where_the_other_node_cannot_answer_there_is_snat(void **state)
{
	struct addr client = at(OUTSIDE), own = at(NODE), backend = at(ELSEWHERE);
	struct addr node = other_node(), here = loopback();
	const struct service_key port = { .addr = here, .port = htons(PORT), .proto = IPPROTO_UDP };

	(void)state;
	cluster_set(&client, &node, 0); /* a client inside */
	TRANSLATED(UDP(OUTSIDE, NODE, 40001, PORT));
	cluster_del(&client);
	cluster_set(&own, NULL, 0); /* an address that no Node object names */
	TRANSLATED(UDP(OUTSIDE, NODE, 40002, PORT));
	cluster_set(&own, NULL, CLUSTER_NODE);
	cluster_set(&backend, &node, CLUSTER_NODE); /* a process of a node */
	TRANSLATED(UDP(OUTSIDE, NODE, 40003, PORT));
	cluster_del(&backend); /* nobody's */
	TRANSLATED(UDP(OUTSIDE, NODE, 40004, PORT));
	cluster_set(&backend, &node, 0);
	assert_int_equal(service_map_del(lab.datapath, &port), 0);
	TRANSLATED(UDP(OUTSIDE, NODE, 40005, PORT));
	serve(ELSEWHERE);
	maps_node(lab.datapath)->flags &= ~(uint32_t)NODE_DSR;
	TRANSLATED(UDP(OUTSIDE, NODE, 40006, PORT));
	maps_node(lab.datapath)->flags |= NODE_DSR;
	GOES_ON(UDP(OUTSIDE, NODE, 40007, PORT));
}

static void test_flows_follow_what_changes(void **state)
{
	struct addr backend = at(ELSEWHERE), node = other_node();

	(void)state;
	GOES_ON(UDP(OUTSIDE, NODE, 40000, PORT));
	cluster_del(&backend);
	TRANSLATED(UDP(OUTSIDE, NODE, 40000, PORT));
	cluster_set(&backend, &node, 0);
	TRANSLATED(UDP(OUTSIDE, NODE, 40000, PORT)); /* a flow that has begun stays */
	serve(POD_B);
	assert_int_not_equal(run(&(struct segment){ UDP(OUTSIDE, NODE, 40000, PORT) }).received_by,
			     0);
}

static void test_what_does_not_fit_is_answered(void **state)
{
	struct segment big = { UDP(OUTSIDE, NODE, 40000, PORT), .payload = UPLINK_MTU };
	struct addr client = at(OUTSIDE), node = at(NODE);
	uint64_t before = lab_metric(DROP_TOO_BIG);
	struct outcome outcome;
	struct segment got;

	(void)state;
	outcome = run(&big);
	got = frame_read(&outcome.frame);
	assert_int_equal(lab_metric(DROP_TOO_BIG), before + 1);
	assert_true(addr_equal(&got.to, &client) && addr_equal(&got.from, &node));
	assert_int_equal(got.icmp_type, lab.ipv6 ? 2 : 3);
	/* Fragments are fragmented again, where the nodes' network is IPv4. */
	big.more = true;
	big.fragment_id = 7;
	outcome = run(&big);
	assert_int_equal(outcome.action, lab.ipv6 ? TC_ACT_SHOT : TC_ACT_REDIRECT);
}

static void test_errors_about_answers_go_on_too(void **state)
{
	struct segment answer = { TCP(NODE, OUTSIDE, PORT, 40000, ACK) };

	(void)state;
	GOES_ON(TCP(OUTSIDE, NODE, 40000, PORT, SYN));
	GOES_ON(PORT_UNREACHABLE(OUTSIDE, NODE), .embedded = &answer);
}

static void test_the_clients_end_is_the_end(void **state)
{
	struct nat_entry entry = { 0 };

	(void)state;
	GOES_ON(TCP(OUTSIDE, NODE, 40000, PORT, SYN));
	GOES_ON(TCP(OUTSIDE, NODE, 40000, PORT, FIN | ACK), .seq = 100);
	GOES_ON(TCP(OUTSIDE, NODE, 40000, PORT, ACK), .seq = 101);
	assert_int_equal(nat_entries(&entry), 1);
	assert_int_equal(entry.flags & (NAT_CLIENT_DONE | NAT_BACKEND_DONE),
			 NAT_CLIENT_DONE | NAT_BACKEND_DONE);
	GOES_ON(TCP(OUTSIDE, NODE, 40000, PORT, SYN)); /* the port again */
	assert_int_equal(nat_entries(&entry), 1);
	assert_int_equal(entry.flags & NAT_CLIENT_DONE, 0);
}

/* The node sees no answer: that the client goes on tells of one. */
static void test_a_connection_is_remembered_as_long_as_others(void **state)
{
	const uint64_t now = now_ns();

	(void)state;
	GOES_ON(TCP(OUTSIDE, NODE, 40000, PORT, SYN));
	assert_int_equal(nat_map_sweep(lab.datapath, now + CT_TCP_OPENING_NS / 2), 0);
	assert_int_equal(nat_map_sweep(lab.datapath, now + 2 * CT_TCP_OPENING_NS), 1);
	GOES_ON(TCP(OUTSIDE, NODE, 40000, PORT, SYN));
	GOES_ON(TCP(OUTSIDE, NODE, 40000, PORT, ACK));
	assert_int_equal(nat_map_sweep(lab.datapath, now + CT_TCP_ESTABLISHED_NS / 2), 0);
	GOES_ON(TCP(OUTSIDE, NODE, 40000, PORT, FIN | ACK));
	assert_int_equal(nat_map_sweep(lab.datapath, now + CT_TCP_CLOSING_NS / 2), 0);
	assert_int_equal(nat_map_sweep(lab.datapath, now + 2 * CT_TCP_CLOSING_NS), 1);
}

int main(void)
{
#define CASE(test) BOTH_FAMILIES_AFTER(dsr_reset, test)
	const struct CMUnitTest tests[] = {
		CASE(test_packets_go_on_as_they_came),
		CASE(test_xdp_leaves_them_to_tc),
		CASE(test_where_the_other_node_cannot_answer_there_is_snat),
		CASE(test_flows_follow_what_changes),
		CASE(test_what_does_not_fit_is_answered),
		CASE(test_errors_about_answers_go_on_too),
		CASE(test_the_clients_end_is_the_end),
		CASE(test_a_connection_is_remembered_as_long_as_others),
	};

	const char *filter = getenv("CMOCKA_TEST_FILTER");

	if (filter && *filter)
		cmocka_set_test_filter(filter);
	return _cmocka_run_group_tests(__FILE__, tests, ARRAY_SIZE(tests), dsr_setup, lab_teardown);
}
