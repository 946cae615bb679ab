/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Services for clients outside: from_uplink, to_uplink, and from_pod for the way back.
 *
 *      OUTSIDE ---- router ---- uplink0  node  ---- POD_A, POD_B, POD_C
 *                      |
 *                  ELSEWHERE, a pod of another node
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <linux/pkt_cls.h>
#include <net/if.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include "harness/lab_service.h"
#include "harness/lab_uplink.h"
#include "lib/auto.h"
#include "lib/inet.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define PORT     30080
#define SNAT_MIN 20000
#define SNAT_MAX 20999

static int from_uplink, to_uplink;

/* ---- the uplink ----------------------------------------------------------------------------- */

static int uplink_setup(void **state)
{
	if (lab_setup(state) || lab_uplink_make())
		return -1;
	from_uplink = datapath_program_fd(lab.datapath, "from_uplink");
	to_uplink = datapath_program_fd(lab.datapath, "to_uplink");
	return 0;
}

static int uplink_reset(void **state)
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
	return 0;
}

/* ---- services ------------------------------------------------------------------------------- */

/* A frontend with these backends, of which the first "local" are this node's. */
static void frontend(enum host host, uint16_t port, struct service service,
		     const struct target *targets, uint32_t count)
{
	struct service_key sctp = { .addr = at(host), .port = htons(port), .proto = IPPROTO_SCTP };

	service.id = SERVICE_ID;
	service.backends = count;
	service.flags |= count ? SERVICE_HAS_ENDPOINTS : 0;
	backends_write(SERVICE_ID, 0, targets, count);
	backends_write(SERVICE_ID, BACKEND_LOCAL, targets, service.local_backends);
	frontend_write(host, port, &service);
	assert_int_equal(service_map_set(lab.datapath, &sctp, &service), 0);
}

#define OFFERS(host, port, ...)                                     \
	frontend(host, port, (struct service){ .kind = NODE_PORT }, \
		 (const struct target[]){ __VA_ARGS__ },            \
		 sizeof((const struct target[]){ __VA_ARGS__ }) / sizeof(struct target))

/* ---- packets -------------------------------------------------------------------------------- */

static struct outcome arrives(const struct segment *segment)
{
	struct frame frame = lab_uplink_frame(segment);

	return lab_run_program(from_uplink, &frame, UPLINK_INDEX, UPLINK_INDEX);
}

static struct segment goes_as(const struct outcome *outcome, struct target from, struct target to,
			      const char *file, int line)
{
	struct addr from_addr = at(from.host), to_addr = at(to.host);
	struct segment got = frame_read(&outcome->frame);

	_assert_int_equal(outcome->reason, DROP_NONE, file, line);
	_assert_int_equal(outcome->action, TC_ACT_REDIRECT, file, line);
	_assert_true(addr_equal(&got.from, &from_addr), "source address", file, line);
	_assert_true(addr_equal(&got.to, &to_addr), "destination address", file, line);
	if (from.port)
		_assert_int_equal(got.sport, from.port, file, line);
	if (to.port)
		_assert_int_equal(got.dport, to.port, file, line);
	_assert_true(frame_sums_hold(&outcome->frame), "checksums", file, line);
	return got;
}

/* What comes in by the uplink and leaves as between these ends; what a pod sends, likewise. */
#define ARRIVES_AS(from, to, ...) \
	arrives_as(&(struct segment){ __VA_ARGS__ }, from, to, __FILE__, __LINE__)
#define ANSWERS_AS(from, to, ...) \
	answers_as(&(struct segment){ __VA_ARGS__ }, from, to, __FILE__, __LINE__)

static struct segment arrives_as(const struct segment *segment, struct target from,
				 struct target to, const char *file, int line)
{
	struct outcome outcome = arrives(segment);

	return goes_as(&outcome, from, to, file, line);
}

static struct segment answers_as(const struct segment *segment, struct target from,
				 struct target to, const char *file, int line)
{
	struct outcome outcome = lab_send(segment);

	return goes_as(&outcome, from, to, file, line);
}

/* It goes on to the node's own stack as it came. */
#define LEFT_ALONE(...) left_alone(&(struct segment){ __VA_ARGS__ }, __FILE__, __LINE__)

static void left_alone(const struct segment *segment, const char *file, int line)
{
	struct frame sent = lab_uplink_frame(segment);
	struct outcome outcome = arrives(segment);

	_assert_int_equal(outcome.reason, DROP_NONE, file, line);
	_assert_int_equal(outcome.action, TC_ACT_UNSPEC, file, line);
	_assert_int_equal(outcome.frame.len, sent.len, file, line);
	_assert_memory_equal(outcome.frame.bytes, sent.bytes, sent.len, file, line);
}

#define REFUSED(reason, ...) \
	refused(DROP_##reason, &(struct segment){ __VA_ARGS__ }, __FILE__, __LINE__)

static void refused(enum drop_reason reason, const struct segment *segment, const char *file,
		    int line)
{
	struct outcome outcome = arrives(segment);

	_assert_int_equal(outcome.reason, reason, file, line);
	_assert_int_equal(outcome.action, TC_ACT_SHOT, file, line);
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

static void test_a_local_backend_sees_the_client(void **state)
{
	struct outcome outcome;

	(void)state;
	OFFERS(NODE, PORT, { POD_B, 8080 });
	outcome = arrives(&(struct segment){ TCP(OUTSIDE, NODE, 40000, PORT, SYN) });
	goes_as(&outcome, ENDS(OUTSIDE, 40000), ENDS(POD_B, 8080), __FILE__, __LINE__);
	assert_int_equal(outcome.received_by, lab.pods->pod[POD_B].slot);
	ANSWERS_AS(ENDS(NODE, PORT), ENDS(OUTSIDE, 40000),
		   TCP(POD_B, OUTSIDE, 8080, 40000, SYN | ACK));
	ARRIVES_AS(ENDS(OUTSIDE, 40000), ENDS(POD_B, 8080), TCP(OUTSIDE, NODE, 40000, PORT, ACK),
		   .payload = 333);
	ANSWERS_AS(ENDS(NODE, PORT), ENDS(OUTSIDE, 40000), TCP(POD_B, OUTSIDE, 8080, 40000, ACK),
		   .payload = 1000);
	ARRIVES_AS(ENDS(OUTSIDE, 40000), ENDS(POD_B, 8080), UDP(OUTSIDE, NODE, 40000, PORT),
		   .payload = 99);
	ANSWERS_AS(ENDS(NODE, PORT), ENDS(OUTSIDE, 40000), UDP(POD_B, OUTSIDE, 8080, 40000));
}

static void test_a_load_balancers_address_is_served(void **state)
{
	(void)state;
	OFFERS(SERVICE, 80, { POD_B, 8080 });
	ARRIVES_AS(ENDS(OUTSIDE, 40000), ENDS(POD_B, 8080), TCP(OUTSIDE, SERVICE, 40000, 80, SYN));
	ANSWERS_AS(ENDS(SERVICE, 80), ENDS(OUTSIDE, 40000),
		   TCP(POD_B, OUTSIDE, 8080, 40000, SYN | ACK));
	/* Nobody else answers there. */
	REFUSED(NO_SERVICE, TCP(OUTSIDE, SERVICE, 40000, 81, SYN));
	REFUSED(NO_SERVICE, ECHO_REQUEST(OUTSIDE, SERVICE, 7));
	REFUSED(NOT_OPENED, TCP(OUTSIDE, SERVICE, 40001, 80, ACK));
}

static void test_a_backend_elsewhere_is_asked_in_the_nodes_name(void **state)
{
	struct outcome outcome;
	struct segment got;

	(void)state;
	OFFERS(NODE, PORT, { ELSEWHERE, 8080 });
	outcome = arrives(&(struct segment){ TCP(OUTSIDE, NODE, 40000, PORT, SYN) });
	got = goes_as(&outcome, ENDS(NODE, 0), ENDS(ELSEWHERE, 8080), __FILE__, __LINE__);
	assert_in_range(got.sport, SNAT_MIN, SNAT_MAX);
	assert_int_equal(lab_ttl(&outcome.frame), 63);
	ARRIVES_AS(ENDS(NODE, PORT), ENDS(OUTSIDE, 40000),
		   TCP(ELSEWHERE, NODE, 8080, got.sport, SYN | ACK));
	ARRIVES_AS(ENDS(NODE, got.sport), ENDS(ELSEWHERE, 8080),
		   TCP(OUTSIDE, NODE, 40000, PORT, ACK), .payload = 333);
	/* Not one that the backend opens. */
	LEFT_ALONE(TCP(ELSEWHERE, NODE, 8080, got.sport, SYN));
	LEFT_ALONE(TCP(ELSEWHERE, NODE, 8081, got.sport, ACK));
	got = ARRIVES_AS(ENDS(NODE, 0), ENDS(ELSEWHERE, 8080), UDP(OUTSIDE, NODE, 40000, PORT));
	ARRIVES_AS(ENDS(NODE, PORT), ENDS(OUTSIDE, 40000), UDP(ELSEWHERE, NODE, 8080, got.sport));
}

static void test_what_is_no_services_is_left_alone(void **state)
{
	(void)state;
	OFFERS(NODE, PORT, { POD_B, 8080 });
	LEFT_ALONE(TCP(OUTSIDE, NODE, 40000, 22, SYN));
	LEFT_ALONE(TCP(OUTSIDE, NODE, 40000, PORT + 1, SYN));
	LEFT_ALONE(TCP(OUTSIDE, NODE, 40000, PORT, ACK)); /* the node's stack resets it */
	LEFT_ALONE(TCP(OUTSIDE, NODE, 40000, SNAT_MIN + 5, ACK));
	LEFT_ALONE(UDP(OUTSIDE, NODE, 53, 40000));
	LEFT_ALONE(ECHO_REQUEST(OUTSIDE, NODE, 7));
	LEFT_ALONE(TCP(OUTSIDE, POD_B, 40000, 8080, SYN));
	LEFT_ALONE(TCP(OUTSIDE, ELSEWHERE, 40000, PORT, SYN));
	LEFT_ALONE(.from = at(OUTSIDE), .to = at(NODE), .proto = IPPROTO_UDP, .offset = 72,
		   .payload = 40, .fragment_id = 9);
	assert_int_equal(nat_entries(), 0);
}

static void test_nobody_outside_has_an_address_of_the_node(void **state)
{
	(void)state;
	OFFERS(NODE, PORT, { POD_B, 8080 });
	REFUSED(SPOOFED_ADDRESS, TCP(POD_A, NODE, 40000, PORT, SYN));
	REFUSED(SPOOFED_ADDRESS, TCP(NODE, NODE, 40000, PORT, SYN));
}

static void test_without_an_address_for_it_no_other_node_is_asked(void **state)
{
	struct node_state *node = maps_node(lab.datapath);

	(void)state;
	node->snat_v4 = node->snat_v6 = (struct addr){ 0 };
	OFFERS(NODE, PORT, { ELSEWHERE, 8080 });
	REFUSED(NO_ROUTE, TCP(OUTSIDE, NODE, 40000, PORT, SYN));
}

/* The other node would take it for a packet of the tunnel, from any pod of this one. */
static void test_no_client_speaks_the_tunnels_protocol_in_the_nodes_name(void **state)
{
	struct node_state *node = maps_node(lab.datapath);

	(void)state;
	OFFERS(NODE, PORT, { ELSEWHERE, 8472 });
	node->tunnel_port = htons(8472);
	ARRIVES_AS(ENDS(NODE, 0), ENDS(ELSEWHERE, 8472), UDP(OUTSIDE, NODE, 40000, PORT));
	node->flags |= NODE_TUNNEL;
	REFUSED(TUNNEL_PORT, UDP(OUTSIDE, NODE, 40001, PORT));
	ARRIVES_AS(ENDS(NODE, 0), ENDS(ELSEWHERE, 8472), TCP(OUTSIDE, NODE, 40001, PORT, SYN));
	node->flags &= ~(uint32_t)NODE_TUNNEL;
}

static void test_a_pod_may_use_its_nodes_ports(void **state)
{
	struct outcome outcome;
	struct segment got;

	(void)state;
	OFFERS(NODE, PORT, { POD_B, 8080 });
	isolate(POD_B, ENDPOINT_INGRESS_ISOLATED);
	DROPS(INGRESS_DENIED, TCP(POD_A, NODE, 40000, PORT, SYN));
	allow(POD_B, DIR_INGRESS, POD_A, IPPROTO_TCP, 8080);
	ANSWERS_AS(ENDS(POD_A, 40000), ENDS(POD_B, 8080), TCP(POD_A, NODE, 40000, PORT, SYN));
	ANSWERS_AS(ENDS(NODE, PORT), ENDS(POD_A, 40000), TCP(POD_B, POD_A, 8080, 40000, SYN | ACK));
	/* What is no service's is the node's. */
	outcome = lab_send(&(struct segment){ TCP(POD_A, NODE, 40000, PORT + 1, SYN) });
	assert_int_equal(outcome.reason, DROP_NONE);
	assert_int_equal(outcome.action, TC_ACT_OK);
	outcome = lab_send(&(struct segment){ TCP(POD_A, NODE, 40001, PORT, ACK) });
	assert_int_equal(outcome.reason, DROP_NONE);
	assert_int_equal(outcome.action, TC_ACT_OK);
	/* Itself, too. */
	OFFERS(NODE, PORT + 2, { POD_A, 8080 });
	got = ANSWERS_AS(ENDS(NODE, 0), ENDS(POD_A, 8080), TCP(POD_A, NODE, 40000, PORT + 2, SYN));
	ANSWERS_AS(ENDS(NODE, PORT + 2), ENDS(POD_A, 40000),
		   TCP(POD_A, NODE, 8080, got.sport, SYN | ACK));
}

/* ---- Maglev --------------------------------------------------------------------------------- */

/* Every second place is POD_C's, the others are POD_B's. */
static void table_set(uint32_t size)
{
	for (uint32_t i = 0; i < size; i++) {
		struct backend_key key = { .service_id = SERVICE_ID, .index = BACKEND_TABLE + i };
		struct backend backend = { .addr = at(i % 2 ? POD_C : POD_B), .port = htons(8080) };

		assert_int_equal(backend_map_set(lab.datapath, &key, &backend), 0);
	}
}

/* Which backend a new connection from this port gets: 'B' or 'C'. */
static char backend_of(enum host from, uint16_t sport, enum host to)
{
	struct segment syn = { TCP(from, to, sport, PORT, SYN) };
	struct outcome outcome = from == OUTSIDE ? arrives(&syn) : lab_send(&syn);
	struct segment got = frame_read(&outcome.frame);
	struct addr b = at(POD_B), c = at(POD_C);

	assert_int_equal(outcome.reason, DROP_NONE);
	assert_true(addr_equal(&got.to, &b) || addr_equal(&got.to, &c));
	return addr_equal(&got.to, &b) ? 'B' : 'C';
}

static void test_a_maglev_table_decides_for_clients_outside(void **state)
{
	const struct service service = { .kind = NODE_PORT, .table_size = 251 };
	const struct target both[] = { { POD_B, 8080 }, { POD_C, 8080 } };
	unsigned int c = 0, differs = 0;
	char chosen[64];

	(void)state;
	frontend(NODE, PORT, service, both, 2);
	table_set(251);
	for (uint16_t i = 0; i < 64; i++)
		c += (chosen[i] = backend_of(OUTSIDE, 41000 + i, NODE)) == 'C';
	assert_true(c > 10 && c < 54);
	/* Another node, which has forgotten all of it and has another address, chooses alike. */
	uplink_reset(state);
	frontend(SERVICE, PORT, service, both, 2);
	table_set(251);
	for (uint16_t i = 0; i < 64; i++)
		assert_int_equal(backend_of(OUTSIDE, 41000 + i, SERVICE), chosen[i]);
	/* Clients inside: at random. */
	for (uint16_t i = 0; i < 64; i++)
		differs += backend_of(POD_A, 41000 + i, SERVICE) != chosen[i];
	assert_true(differs > 5);
}

/* ---- policy --------------------------------------------------------------------------------- */

static void test_policy_sees_the_client_and_the_backend(void **state)
{
	(void)state;
	OFFERS(NODE, PORT, { POD_B, 8080 });
	isolate(POD_B, ENDPOINT_INGRESS_ISOLATED | ENDPOINT_EGRESS_ISOLATED);
	allow(POD_B, DIR_INGRESS, OUTSIDE, IPPROTO_TCP, PORT);
	REFUSED(INGRESS_DENIED, TCP(OUTSIDE, NODE, 40000, PORT, SYN));
	allow(POD_B, DIR_INGRESS, OUTSIDE, IPPROTO_TCP, 8080);
	REFUSED(INGRESS_DENIED, TCP(ELSEWHERE, NODE, 40000, PORT, SYN));
	ARRIVES_AS(ENDS(OUTSIDE, 40000), ENDS(POD_B, 8080), TCP(OUTSIDE, NODE, 40000, PORT, SYN),
		   .seq = 1000);
	ANSWERS_AS(ENDS(NODE, PORT), ENDS(OUTSIDE, 40000),
		   TCP(POD_B, OUTSIDE, 8080, 40000, SYN | ACK), .ack = 1001);
	ARRIVES_AS(ENDS(OUTSIDE, 40000), ENDS(POD_B, 8080), TCP(OUTSIDE, NODE, 40000, PORT, ACK),
		   .seq = 1001);
	/* The answers live by the entry, and end with what allowed them. */
	forbid(POD_B, DIR_INGRESS, OUTSIDE);
	DROPS(EGRESS_DENIED, TCP(POD_B, OUTSIDE, 8080, 40000, ACK));
}

/* ---- who is served -------------------------------------------------------------------------- */

static void test_without_an_endpoint_the_client_is_refused(void **state)
{
	struct outcome outcome;
	struct segment got;
	struct addr node = at(NODE), client = at(OUTSIDE);

	(void)state;
	frontend(NODE, PORT, (struct service){ .kind = NODE_PORT }, NULL, 0);
	outcome = arrives(&(struct segment){ TCP(OUTSIDE, NODE, 40000, PORT, SYN), .seq = 7 });
	assert_int_equal(outcome.reason, DROP_NO_BACKEND);
	assert_int_equal(outcome.action, TC_ACT_REDIRECT);
	got = frame_read(&outcome.frame);
	assert_int_equal(got.flags, RST | ACK);
	assert_int_equal(got.ack, 8);
	assert_true(addr_equal(&got.from, &node) && addr_equal(&got.to, &client));
	assert_true(frame_sums_hold(&outcome.frame));
	assert_memory_equal(outcome.frame.bytes, router_mac, 6);
	assert_memory_equal(outcome.frame.bytes + 6, uplink_mac, 6);
	outcome = arrives(&(struct segment){ UDP(OUTSIDE, NODE, 40000, PORT) });
	assert_int_equal(outcome.reason, DROP_NO_BACKEND);
	assert_int_equal(outcome.action, TC_ACT_REDIRECT);
	got = frame_read(&outcome.frame);
	assert_int_equal(got.icmp_type, lab.ipv6 ? 1 : 3);
	assert_int_equal(got.icmp_code, lab.ipv6 ? 4 : 3);
	assert_true(frame_sums_hold(&outcome.frame));
	assert_memory_equal(outcome.frame.bytes, router_mac, 6);
}

static void test_local_policy_never_leaves_the_node(void **state)
{
	const struct target targets[] = { { POD_B, 8080 }, { ELSEWHERE, 8080 } };
	struct service service = { .kind = NODE_PORT, .flags = SERVICE_LOCAL, .local_backends = 1 };

	(void)state;
	frontend(NODE, PORT, service, targets, 2);
	for (uint16_t port = 40000; port < 40020; port++)
		ARRIVES_AS(ENDS(OUTSIDE, port), ENDS(POD_B, 8080),
			   TCP(OUTSIDE, NODE, port, PORT, SYN));
	service.local_backends = 0;
	frontend(NODE, PORT, service, targets + 1, 1);
	REFUSED(NO_LOCAL_BACKEND, TCP(OUTSIDE, NODE, 41000, PORT, SYN));
	REFUSED(NO_LOCAL_BACKEND, UDP(OUTSIDE, NODE, 41000, PORT));
}

static void test_only_clients_in_the_source_ranges_are_served(void **state)
{
	const struct target target = { POD_B, 8080 };
	struct source_range_key key = { .prefixlen = 32 + 128,
					.service_id = SERVICE_ID,
					.addr = at(OUTSIDE) };
	uint8_t yes = 1;

	(void)state;
	frontend(SERVICE, 80,
		 (struct service){ .kind = LOAD_BALANCER, .flags = SERVICE_SOURCE_RANGES }, &target,
		 1);
	REFUSED(SOURCE_RANGE, TCP(OUTSIDE, SERVICE, 40000, 80, SYN));
	assert_int_equal(bpf_map_update_elem(lab_map("range_map"), &key, &yes, BPF_ANY), 0);
	ARRIVES_AS(ENDS(OUTSIDE, 40000), ENDS(POD_B, 8080), TCP(OUTSIDE, SERVICE, 40000, 80, SYN));
	REFUSED(SOURCE_RANGE, TCP(ELSEWHERE, SERVICE, 40000, 80, SYN));
	assert_int_equal(bpf_map_delete_elem(lab_map("range_map"), &key), 0);
}

/* ---- ports ---------------------------------------------------------------------------------- */

static void test_two_ways_to_one_backend_get_two_ports(void **state)
{
	struct segment got;

	(void)state;
	OFFERS(NODE, PORT, { POD_B, 8080 });
	OFFERS(NODE, PORT + 1, { POD_B, 8080 });
	ARRIVES_AS(ENDS(OUTSIDE, 40000), ENDS(POD_B, 8080), TCP(OUTSIDE, NODE, 40000, PORT, SYN));
	got = ARRIVES_AS(ENDS(OUTSIDE, 0), ENDS(POD_B, 8080),
			 TCP(OUTSIDE, NODE, 40000, PORT + 1, SYN));
	assert_in_range(got.sport, SNAT_MIN, SNAT_MAX);
	ANSWERS_AS(ENDS(NODE, PORT), ENDS(OUTSIDE, 40000),
		   TCP(POD_B, OUTSIDE, 8080, 40000, SYN | ACK));
	ANSWERS_AS(ENDS(NODE, PORT + 1), ENDS(OUTSIDE, 40000),
		   TCP(POD_B, OUTSIDE, 8080, got.sport, SYN | ACK));
}

static void test_no_two_clients_share_a_port_to_one_backend(void **state)
{
	enum { PORTS = 4 };
	bool seen[PORTS] = { false };
	size_t count = 0;

	(void)state;
	maps_node(lab.datapath)->snat_port_max = SNAT_MIN + PORTS - 1;
	OFFERS(NODE, PORT, { ELSEWHERE, 8080 });
	/* A client that found no free port sends its SYN again. */
	for (uint16_t port = 40000; count < PORTS; port++) {
		struct outcome outcome =
			arrives(&(struct segment){ TCP(OUTSIDE, NODE, port, PORT, SYN) });
		struct segment got = frame_read(&outcome.frame);

		assert_true(port < 41000);
		if (outcome.reason == DROP_NO_SNAT_PORT)
			continue;
		assert_in_range(got.sport, SNAT_MIN, SNAT_MIN + PORTS - 1);
		assert_false(seen[got.sport - SNAT_MIN]);
		seen[got.sport - SNAT_MIN] = true;
		count++;
	}
	REFUSED(NO_SNAT_PORT, TCP(OUTSIDE, NODE, 50000, PORT, SYN));
	/* Another backend has its own. */
	OFFERS(NODE, PORT + 1, { ELSEWHERE, 8081 });
	ARRIVES_AS(ENDS(NODE, 0), ENDS(ELSEWHERE, 8081), TCP(OUTSIDE, NODE, 50000, PORT + 1, SYN));
}

/* ---- the end -------------------------------------------------------------------------------- */

static void test_a_closed_connection_leaves_nothing(void **state)
{
	(void)state;
	OFFERS(NODE, PORT, { POD_B, 8080 });
	for (int client_first = 0; client_first < 2; client_first++) {
		arrives(&(struct segment){ TCP(OUTSIDE, NODE, 40000, PORT, SYN), .seq = 100 });
		lab_send(&(struct segment){ TCP(POD_B, OUTSIDE, 8080, 40000, SYN | ACK), .seq = 500,
					    .ack = 101 });
		assert_int_equal(nat_entries(), 2);
		if (client_first)
			arrives(&(struct segment){ TCP(OUTSIDE, NODE, 40000, PORT, FIN | ACK),
						   .seq = 101, .ack = 501, .payload = 10 });
		lab_send(&(struct segment){ TCP(POD_B, OUTSIDE, 8080, 40000, FIN | ACK), .seq = 501,
					    .ack = client_first ? 112 : 101, .payload = 20 });
		if (!client_first)
			arrives(&(struct segment){ TCP(OUTSIDE, NODE, 40000, PORT, FIN | ACK),
						   .seq = 101, .ack = 522, .payload = 10 });
		assert_int_equal(nat_entries(), 2);
		/* Something from before the end is no end. */
		arrives(&(struct segment){ TCP(OUTSIDE, NODE, 40000, PORT, ACK), .seq = 101,
					   .ack = 510 });
		assert_int_equal(nat_entries(), 2);
		if (client_first)
			arrives(&(struct segment){ TCP(OUTSIDE, NODE, 40000, PORT, ACK), .seq = 112,
						   .ack = 522 });
		else
			ANSWERS_AS(ENDS(NODE, PORT), ENDS(OUTSIDE, 40000),
				   TCP(POD_B, OUTSIDE, 8080, 40000, ACK), .seq = 522, .ack = 112);
		assert_int_equal(nat_entries(), 0);
	}
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

static void test_errors_speak_of_what_their_receiver_sent(void **state)
{
	struct segment answer = { UDP(NODE, OUTSIDE, PORT, 40000) };
	struct segment request = { UDP(OUTSIDE, POD_B, 40000, 8080) };
	struct addr node = at(NODE), pod = at(POD_B), client = at(OUTSIDE);
	struct outcome outcome;
	struct segment got;

	(void)state;
	OFFERS(NODE, PORT, { POD_B, 8080 });
	ARRIVES_AS(ENDS(OUTSIDE, 40000), ENDS(POD_B, 8080), UDP(OUTSIDE, NODE, 40000, PORT));
	/* A router, or the client, about an answer. */
	outcome =
		arrives(&(struct segment){ PORT_UNREACHABLE(OUTSIDE, NODE), .embedded = &answer });
	goes_as(&outcome, ENDS(OUTSIDE, 0), ENDS(POD_B, 0), __FILE__, __LINE__);
	got = quoted_of(&outcome.frame);
	assert_true(addr_equal(&got.from, &pod) && addr_equal(&got.to, &client));
	assert_int_equal(got.sport, 8080);
	assert_int_equal(got.dport, 40000);
	/* The pod, about a request. */
	outcome = lab_send(
		&(struct segment){ PORT_UNREACHABLE(POD_B, OUTSIDE), .embedded = &request });
	goes_as(&outcome, ENDS(NODE, 0), ENDS(OUTSIDE, 0), __FILE__, __LINE__);
	got = quoted_of(&outcome.frame);
	assert_true(addr_equal(&got.from, &client) && addr_equal(&got.to, &node));
	assert_int_equal(got.sport, 40000);
	assert_int_equal(got.dport, PORT);
	/* About nothing that is known. */
	answer.dport = 40001;
	LEFT_ALONE(PORT_UNREACHABLE(OUTSIDE, NODE), .embedded = &answer);
}

static void test_errors_about_a_backend_elsewhere_reach_the_client(void **state)
{
	struct segment asked = { UDP(NODE, ELSEWHERE, 0, 8080) };
	struct segment answer = { UDP(NODE, OUTSIDE, PORT, 40000) };
	struct addr node = at(NODE), client = at(OUTSIDE), backend = at(ELSEWHERE);
	struct outcome outcome;
	struct segment got;

	(void)state;
	OFFERS(NODE, PORT, { ELSEWHERE, 8080 });
	got = ARRIVES_AS(ENDS(NODE, 0), ENDS(ELSEWHERE, 8080), UDP(OUTSIDE, NODE, 40000, PORT));
	asked.sport = got.sport;
	outcome =
		arrives(&(struct segment){ PORT_UNREACHABLE(ELSEWHERE, NODE), .embedded = &asked });
	goes_as(&outcome, ENDS(NODE, 0), ENDS(OUTSIDE, 0), __FILE__, __LINE__);
	got = quoted_of(&outcome.frame);
	assert_true(addr_equal(&got.from, &client) && addr_equal(&got.to, &node));
	assert_int_equal(got.sport, 40000);
	assert_int_equal(got.dport, PORT);
	outcome =
		arrives(&(struct segment){ PORT_UNREACHABLE(OUTSIDE, NODE), .embedded = &answer });
	goes_as(&outcome, ENDS(NODE, 0), ENDS(ELSEWHERE, 0), __FILE__, __LINE__);
	got = quoted_of(&outcome.frame);
	assert_true(addr_equal(&got.from, &backend) && addr_equal(&got.to, &node));
	assert_int_equal(got.sport, 8080);
	assert_int_equal(got.dport, asked.sport);
}

static void test_what_a_route_does_not_carry_is_answered(void **state)
{
	struct segment large = { UDP(OUTSIDE, NODE, 40000, PORT), .payload = 1450 };
	struct segment stream = { TCP(OUTSIDE, NODE, 40000, PORT, SYN), .seq = 77,
				  .payload = 1450 };
	struct segment last = { UDP(OUTSIDE, NODE, 40000, PORT) };
	struct frame frame = lab_uplink_frame(&last);
	struct outcome outcome;
	struct segment got;
	const uint8_t *icmp;

	(void)state;
	OFFERS(NODE, PORT, { ELSEWHERE, 8080 });
	outcome = arrives(&large);
	assert_int_equal(outcome.reason, DROP_TOO_BIG);
	assert_int_equal(outcome.action, TC_ACT_REDIRECT);
	got = frame_read(&outcome.frame);
	assert_int_equal(got.icmp_type, lab.ipv6 ? 2 : 3);
	assert_int_equal(got.icmp_code, lab.ipv6 ? 0 : 4);
	icmp = outcome.frame.bytes + FRAME_L3 + (lab.ipv6 ? 40 : 20);
	assert_int_equal(icmp[6] << 8 | icmp[7], UPLINK_MTU);
	assert_true(frame_sums_hold(&outcome.frame));
	got = quoted_of(&outcome.frame);
	assert_int_equal(got.dport, PORT); /* as the client knows it */
	outcome = arrives(&stream);
	assert_int_equal(outcome.reason, DROP_TOO_BIG);
	assert_int_equal(outcome.action, TC_ACT_REDIRECT);
	assert_true(frame_sums_hold(&outcome.frame));
	got = quoted_of(&outcome.frame);
	assert_int_equal(got.dport, PORT);
	assert_int_equal(got.seq, 77);
	assert_int_equal(outcome.frame.len, FRAME_L3 + (lab.ipv6 ? 40 + 8 + 40 : 20 + 8 + 20) + 20);
	if (lab.ipv6)
		frame.bytes[FRAME_L3 + 7] = 1;
	else
		frame.bytes[FRAME_L3 + 8] = 1;
	outcome = lab_run_program(from_uplink, &frame, UPLINK_INDEX, UPLINK_INDEX);
	assert_int_equal(outcome.reason, DROP_TTL_EXCEEDED);
	assert_int_equal(outcome.action, TC_ACT_REDIRECT);
	assert_int_equal(frame_read(&outcome.frame).icmp_type, lab.ipv6 ? 3 : 11);
}

/* ---- fragments, SCTP, the node itself ------------------------------------------------------- */

static void test_fragments_follow_their_first(void **state)
{
	const struct segment later = { .from = at(OUTSIDE),
				       .to = at(NODE),
				       .proto = IPPROTO_UDP,
				       .offset = 72,
				       .payload = 40,
				       .fragment_id = 9 };
	struct addr backend = at(POD_B);
	struct outcome outcome;
	struct segment got;

	(void)state;
	OFFERS(NODE, PORT, { POD_B, 8080 });
	outcome = arrives(&(struct segment){ UDP(OUTSIDE, NODE, 40000, PORT), .payload = 64,
					     .more = true, .fragment_id = 9 });
	assert_int_equal(outcome.action, TC_ACT_REDIRECT);
	outcome = arrives(&later);
	assert_int_equal(outcome.reason, DROP_NONE);
	assert_int_equal(outcome.received_by, lab.pods->pod[POD_B].slot);
	got = frame_read(&outcome.frame);
	assert_true(addr_equal(&got.to, &backend));
}

static void test_sctp_keeps_its_checksum(void **state)
{
	static const uint16_t sizes[] = { 0, 1, 4, 100, 1000, 1233 };
	struct segment got;

	(void)state;
	OFFERS(NODE, PORT, { POD_B, 8080 });
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		ARRIVES_AS(ENDS(OUTSIDE, 40000), ENDS(POD_B, 8080), .from = at(OUTSIDE),
			   .to = at(NODE), .proto = IPPROTO_SCTP, .sport = 40000, .dport = PORT,
			   .chunk = 1, .payload = sizes[i]);
		ANSWERS_AS(ENDS(NODE, PORT), ENDS(OUTSIDE, 40000), .from = at(POD_B),
			   .to = at(OUTSIDE), .proto = IPPROTO_SCTP, .sport = 8080, .dport = 40000,
			   .chunk = 2, .payload = sizes[i]);
	}
	OFFERS(NODE, PORT, { ELSEWHERE, 8080 });
	got = ARRIVES_AS(ENDS(NODE, 0), ENDS(ELSEWHERE, 8080), .from = at(OUTSIDE), .to = at(NODE),
			 .proto = IPPROTO_SCTP, .sport = 40001, .dport = PORT, .chunk = 1);
	ARRIVES_AS(ENDS(NODE, PORT), ENDS(OUTSIDE, 40001), .from = at(ELSEWHERE), .to = at(NODE),
		   .proto = IPPROTO_SCTP, .sport = 8080, .dport = got.sport, .chunk = 2,
		   .payload = 77);
}

static void test_a_process_of_the_node_may_be_the_backend(void **state)
{
	const struct segment answer = { TCP(NODE, OUTSIDE, 8080, 40000, SYN | ACK) };
	struct frame frame = lab_uplink_frame(&answer);
	struct outcome outcome;
	struct segment got;

	(void)state;
	OFFERS(NODE, PORT, { NODE, 8080 });
	outcome = arrives(&(struct segment){ TCP(OUTSIDE, NODE, 40000, PORT, SYN) });
	assert_int_equal(outcome.reason, DROP_NONE);
	assert_int_equal(outcome.action, TC_ACT_UNSPEC); /* for the node's own stack */
	got = frame_read(&outcome.frame);
	assert_int_equal(got.dport, 8080);
	assert_true(frame_sums_hold(&outcome.frame));
	outcome = lab_run_program(to_uplink, &frame, UPLINK_INDEX, 0);
	assert_int_equal(outcome.action, TC_ACT_UNSPEC);
	got = frame_read(&outcome.frame);
	assert_int_equal(got.sport, PORT);
	assert_int_equal(got.dport, 40000);
	assert_true(frame_sums_hold(&outcome.frame));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH_FAMILIES_AFTER(uplink_reset, test_a_local_backend_sees_the_client),
		BOTH_FAMILIES_AFTER(uplink_reset, test_a_load_balancers_address_is_served),
		BOTH_FAMILIES_AFTER(uplink_reset,
				    test_a_backend_elsewhere_is_asked_in_the_nodes_name),
		BOTH_FAMILIES_AFTER(uplink_reset, test_what_is_no_services_is_left_alone),
		BOTH_FAMILIES_AFTER(uplink_reset, test_nobody_outside_has_an_address_of_the_node),
		BOTH_FAMILIES_AFTER(uplink_reset,
				    test_without_an_address_for_it_no_other_node_is_asked),
		BOTH_FAMILIES_AFTER(uplink_reset,
				    test_no_client_speaks_the_tunnels_protocol_in_the_nodes_name),
		BOTH_FAMILIES_AFTER(uplink_reset, test_a_pod_may_use_its_nodes_ports),
		BOTH_FAMILIES_AFTER(uplink_reset, test_policy_sees_the_client_and_the_backend),
		BOTH_FAMILIES_AFTER(uplink_reset, test_a_maglev_table_decides_for_clients_outside),
		BOTH_FAMILIES_AFTER(uplink_reset, test_without_an_endpoint_the_client_is_refused),
		BOTH_FAMILIES_AFTER(uplink_reset, test_local_policy_never_leaves_the_node),
		BOTH_FAMILIES_AFTER(uplink_reset,
				    test_only_clients_in_the_source_ranges_are_served),
		BOTH_FAMILIES_AFTER(uplink_reset, test_two_ways_to_one_backend_get_two_ports),
		BOTH_FAMILIES_AFTER(uplink_reset, test_no_two_clients_share_a_port_to_one_backend),
		BOTH_FAMILIES_AFTER(uplink_reset, test_a_closed_connection_leaves_nothing),
		BOTH_FAMILIES_AFTER(uplink_reset, test_errors_speak_of_what_their_receiver_sent),
		BOTH_FAMILIES_AFTER(uplink_reset,
				    test_errors_about_a_backend_elsewhere_reach_the_client),
		BOTH_FAMILIES_AFTER(uplink_reset, test_what_a_route_does_not_carry_is_answered),
		BOTH_FAMILIES_AFTER(uplink_reset, test_fragments_follow_their_first),
		BOTH_FAMILIES_AFTER(uplink_reset, test_sctp_keeps_its_checksum),
		BOTH_FAMILIES_AFTER(uplink_reset, test_a_process_of_the_node_may_be_the_backend),
	};

	return cmocka_run_group_tests_name(__FILE__, tests, uplink_setup, lab_teardown);
}
