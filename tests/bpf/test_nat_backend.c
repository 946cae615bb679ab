/* SPDX-License-Identifier: Apache-2.0 */
/* Which backend a translated packet goes to: spread, kept, replaced; affinity; who is let in. */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <linux/pkt_cls.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include "harness/lab_service.h"
#include "lib/auto.h"
#include "lib/clock.h"
#include "lib/inet.h"

#include <cmocka.h> /* last: its fail() is a macro */

static struct segment sent_to(const struct segment *segment)
{
	struct outcome outcome = lab_send(segment);

	assert_int_equal(outcome.reason, DROP_NONE);
	return frame_read(&outcome.frame);
}

static void test_connections_spread_and_keep_their_backend(void **state)
{
	unsigned int count[2] = { 0 };

	(void)state;
	SERVES(80, SERVICE_ID, { POD_B, 8080 }, { POD_C, 8081 });
	for (uint16_t port = 40000; port < 40200; port++) {
		struct segment segment = { TCP(POD_A, SERVICE, port, 80, SYN) };
		uint16_t chosen = sent_to(&segment).dport;

		count[chosen - 8080]++;
		assert_int_equal(sent_to(&segment).dport, chosen); /* the SYN again */
		segment.flags = ACK;
		assert_int_equal(sent_to(&segment).dport, chosen);
	}
	assert_true(count[0] > 50 && count[1] > 50);
}

static struct backend_entry counted(uint32_t index)
{
	const struct backend_key key = { .service_id = SERVICE_ID, .index = index };
	struct backend_entry entry;

	assert_int_equal(backend_map_get(lab.datapath, &key, &entry), 0);
	return entry;
}

static void test_a_connection_counts_once_for_its_backend(void **state)
{
	const struct service service = { .id = SERVICE_ID, .backends = 2, .affinity_s = 60 };
	uint32_t met[2] = { 0 }, before[2];

	(void)state;
	SERVES(80, SERVICE_ID, { POD_B, 8080 }, { POD_C, 8081 });
	for (uint16_t port = 40000; port < 40050; port++) {
		struct segment segment = { TCP(POD_A, SERVICE, port, 80, SYN) };

		met[sent_to(&segment).dport - 8080]++;
		sent_to(&segment); /* the SYN again */
		segment.flags = ACK;
		sent_to(&segment);
	}
	for (uint32_t i = 0; i < 2; i++)
		assert_int_equal(before[i] = counted(i).connections, met[i]);
	/* A backend that the client keeps is counted as well. */
	frontend_write(SERVICE, 80, &service);
	for (uint16_t port = 41000; port < 41010; port++)
		met[sent_to(&(struct segment){ TCP(POD_A, SERVICE, port, 80, SYN) }).dport -
		    8080]++;
	for (uint32_t i = 0; i < 2; i++)
		assert_int_equal(counted(i).connections, met[i]);
	assert_int_equal(met[0] + met[1], 60);
	assert_true(met[0] == before[0] || met[1] == before[1]);
}

static uint32_t sent_length;

static void send_counted(const struct segment *segment)
{
	sent_length += (uint32_t)lab_frame(segment).len;
	assert_int_equal(lab_send(segment).reason, DROP_NONE);
}

static void test_bytes_both_ways_are_the_backends_when_the_connection_ends(void **state)
{
	const uint32_t seq = 1000, answer = 5000;

	(void)state;
	SERVES(80, SERVICE_ID, { POD_B, 8080 });
	sent_length = 0;
	send_counted(&(struct segment){ TCP(POD_A, SERVICE, 40000, 80, SYN), .seq = seq });
	send_counted(&(struct segment){ TCP(POD_B, POD_A, 8080, 40000, SYN | ACK), .seq = answer,
					.ack = seq + 1 });
	send_counted(&(struct segment){ TCP(POD_A, SERVICE, 40000, 80, ACK), .seq = seq + 1,
					.ack = answer + 1, .payload = 300 });
	assert_int_equal(counted(0).bytes, 0);
	send_counted(&(struct segment){ TCP(POD_A, SERVICE, 40000, 80, FIN | ACK), .seq = seq + 301,
					.ack = answer + 1 });
	send_counted(&(struct segment){ TCP(POD_B, POD_A, 8080, 40000, FIN | ACK),
					.seq = answer + 1, .ack = seq + 302 });
	send_counted(&(struct segment){ TCP(POD_A, SERVICE, 40000, 80, ACK), .seq = seq + 302,
					.ack = answer + 2 });
	assert_int_equal(counted(0).bytes, sent_length);
	assert_int_equal(counted(0).connections, 1);
}

static void flow_end(uint32_t service_id, const struct backend *backend, uint64_t bytes, void *arg)
{
	struct addr pod = at(POD_B);

	assert_int_equal(service_id, SERVICE_ID);
	assert_true(addr_equal(&backend->addr, &pod));
	assert_int_equal(backend->port, htons(8080));
	*(uint64_t *)arg += bytes;
}

static void test_bytes_of_a_flow_that_is_swept_are_told(void **state)
{
	uint64_t told = 0;

	(void)state;
	SERVES(80, SERVICE_ID, { POD_B, 8080 });
	sent_length = 0;
	send_counted(&(struct segment){ UDP(POD_A, SERVICE, 40000, 80), .payload = 100 });
	send_counted(&(struct segment){ UDP(POD_B, POD_A, 8080, 40000), .payload = 200 });
	nat_map_on_end(lab.datapath, flow_end, &told);
	assert_int_equal(nat_map_sweep(lab.datapath, now_ns() + 1000 * NS_PER_SEC), 2);
	nat_map_on_end(lab.datapath, NULL, NULL);
	assert_int_equal(told + counted(0).bytes, sent_length);
}

static void test_a_backend_that_is_gone_is_replaced_where_nothing_breaks(void **state)
{
	const struct segment syn = { TCP(POD_A, SERVICE, 40000, 80, SYN) };
	const struct segment data = { TCP(POD_A, SERVICE, 40000, 80, ACK) };
	const struct segment datagram = { UDP(POD_A, SERVICE, 40000, 80) };

	(void)state;
	SERVES(80, SERVICE_ID, { POD_B, 8080 });
	assert_int_equal(sent_to(&syn).dport, 8080);
	assert_int_equal(sent_to(&datagram).dport, 8080);
	SERVES(80, SERVICE_ID, { POD_C, 8081 });
	assert_int_equal(sent_to(&datagram).dport, 8081);
	assert_int_equal(sent_to(&data).dport, 8080); /* it may still end in peace */
	assert_int_equal(sent_to(&syn).dport, 8081);
	assert_int_equal(sent_to(&data).dport, 8081);
	/* None at all, and one again. */
	service_set(80, SERVICE_ID, NULL, 0);
	DROPS(NO_BACKEND, UDP(POD_A, SERVICE, 40000, 80));
	assert_int_equal(sent_to(&data).dport, 8081);
	SERVES(80, SERVICE_ID, { POD_B, 8080 });
	assert_int_equal(sent_to(&datagram).dport, 8080);
}

static void test_a_connection_to_a_backend_that_is_gone_is_reset(void **state)
{
	const struct segment data = { TCP(POD_A, SERVICE, 40000, 80, ACK), .seq = 500, .ack = 7000,
				      .payload = 10 };
	const struct flow key = { .saddr = at(POD_A),
				  .daddr = at(SERVICE),
				  .sport = htons(40000),
				  .dport = htons(80),
				  .proto = IPPROTO_TCP };
	struct addr service = at(SERVICE), client = at(POD_A);
	struct outcome outcome;
	struct nat_entry entry;
	struct segment got;

	(void)state;
	SERVES(80, SERVICE_ID, { POD_B, 8080 });
	SENT_AS(ENDS(POD_A, 40000), ENDS(POD_B, 8080), TCP(POD_A, SERVICE, 40000, 80, SYN));
	assert_true(translation(POD_A, 40000, SERVICE, 80, IPPROTO_TCP, &entry));
	assert_int_equal(nat_map_end(lab.datapath, &key, &entry), 0);
	outcome = lab_send(&data);
	assert_int_equal(outcome.reason, DROP_NO_BACKEND);
	assert_int_equal(outcome.action, TC_ACT_REDIRECT);
	got = frame_read(&outcome.frame);
	assert_true(addr_equal(&got.from, &service) && addr_equal(&got.to, &client));
	assert_int_equal(got.flags, RST | ACK);
	assert_int_equal(got.seq, 7000); /* else the client would not believe it */
	assert_int_equal(got.ack, 510);
	assert_true(frame_sums_hold(&outcome.frame));
	/* A reset is answered by nothing, and the client's port may be used again. */
	outcome = lab_send(&(struct segment){ TCP(POD_A, SERVICE, 40000, 80, RST) });
	assert_int_equal(outcome.reason, DROP_NO_BACKEND);
	assert_int_equal(outcome.action, TC_ACT_SHOT);
	SERVES(80, SERVICE_ID, { POD_C, 8081 });
	SENT_AS(ENDS(POD_A, 40000), ENDS(POD_C, 8081), TCP(POD_A, SERVICE, 40000, 80, SYN));
	SENT_AS(ENDS(POD_A, 40000), ENDS(POD_C, 8081), TCP(POD_A, SERVICE, 40000, 80, ACK));
}

/* Between the look and the end the client's port may have been used again. */
static void test_a_connection_that_took_the_place_of_an_ended_one_goes_on(void **state)
{
	const struct flow key = { .saddr = at(POD_A),
				  .daddr = at(SERVICE),
				  .sport = htons(40000),
				  .dport = htons(80),
				  .proto = IPPROTO_TCP };
	struct nat_entry entry, back;

	(void)state;
	SERVES(80, SERVICE_ID, { POD_B, 8080 });
	SENT_AS(ENDS(POD_A, 40000), ENDS(POD_B, 8080), TCP(POD_A, SERVICE, 40000, 80, SYN));
	assert_true(translation(POD_A, 40000, SERVICE, 80, IPPROTO_TCP, &entry));
	SERVES(80, SERVICE_ID, { POD_C, 8081 });
	SENT_AS(ENDS(POD_A, 40000), ENDS(POD_C, 8081), TCP(POD_A, SERVICE, 40000, 80, SYN));
	assert_int_equal(nat_map_end(lab.datapath, &key, &entry), 0);
	SENT_AS(ENDS(POD_A, 40000), ENDS(POD_C, 8081), TCP(POD_A, SERVICE, 40000, 80, ACK));
	/* The way back of the first is another client's by now. */
	assert_true(translation(POD_A, 40000, SERVICE, 80, IPPROTO_TCP, &entry));
	assert_true(translation(POD_C, 8081, POD_A, 40000, IPPROTO_TCP, &back));
	back.flow.dport = htons(40001);
	assert_int_equal(bpf_map_update_elem(lab_map("nat_map"),
					     &(struct flow){ .saddr = entry.flow.daddr,
							     .daddr = entry.flow.saddr,
							     .sport = entry.flow.dport,
							     .dport = entry.flow.sport,
							     .proto = IPPROTO_TCP },
					     &back, BPF_EXIST),
			 0);
	assert_int_equal(nat_map_end(lab.datapath, &key, &entry), 0);
	assert_true(translation(POD_A, 40000, SERVICE, 80, IPPROTO_TCP, &entry));
	assert_true(entry.flags & NAT_GONE);
	assert_true(translation(POD_C, 8081, POD_A, 40000, IPPROTO_TCP, &back));
	assert_false(back.flags & NAT_GONE);
}

static void test_a_backend_keeps_its_clients_when_others_come_and_go(void **state)
{
	const struct segment datagram = { UDP(POD_A, SERVICE, 40000, 80) };

	(void)state;
	SERVES(80, SERVICE_ID, { POD_B, 8080 });
	assert_int_equal(sent_to(&datagram).dport, 8080);
	SERVES(80, SERVICE_ID, { POD_C, 8081 }, { POD_C, 8082 }, { POD_B, 8080 });
	for (int i = 0; i < 20; i++)
		assert_int_equal(sent_to(&datagram).dport, 8080);
	SERVES(80, SERVICE_ID, { POD_B, 8080 }, { POD_C, 8081 });
	for (int i = 0; i < 20; i++)
		assert_int_equal(sent_to(&datagram).dport, 8080);
}

static void test_an_endpoint_that_terminates_keeps_its_flows_and_gets_no_new_ones(void **state)
{
	static const struct target targets[] = { { POD_C, 8081 }, { POD_B, 8080 } };
	const struct service leaving = { .id = SERVICE_ID, .backends = 1, .keeping = 1 };
	const struct segment datagram = { UDP(POD_A, SERVICE, 40000, 80) };

	(void)state;
	SERVES(80, SERVICE_ID, { POD_B, 8080 });
	assert_int_equal(sent_to(&datagram).dport, 8080);
	backends_write(SERVICE_ID, 0, targets, 2);
	frontend_write(SERVICE, 80, &leaving);
	assert_int_equal(sent_to(&datagram).dport, 8080);
	for (uint16_t port = 41000; port < 41020; port++)
		assert_int_equal(sent_to(&(struct segment){ UDP(POD_A, SERVICE, port, 80) }).dport,
				 8081);
	SERVES(80, SERVICE_ID, { POD_C, 8081 });
	assert_int_equal(sent_to(&datagram).dport, 8081);
}

static void test_a_local_service_uses_the_endpoints_of_this_node(void **state)
{
	static const struct target all[] = { { POD_B, 8080 }, { OUTSIDE, 8081 } };
	struct service service = { .id = SERVICE_ID,
				   .backends = 2,
				   .local_backends = 1,
				   .flags = SERVICE_LOCAL | SERVICE_HAS_ENDPOINTS };

	(void)state;
	backends_write(SERVICE_ID, 0, all, 2);
	backends_write(SERVICE_ID, BACKEND_LOCAL, all, 1);
	frontend_write(SERVICE, 80, &service);
	for (uint16_t port = 40000; port < 40020; port++)
		assert_int_equal(sent_to(&(struct segment){ UDP(POD_A, SERVICE, port, 80) }).dport,
				 8080);
	/* Others serve: this is silence, not refusal. */
	service.local_backends = 0;
	frontend_write(SERVICE, 80, &service);
	DROPS(NO_LOCAL_BACKEND, TCP(POD_A, SERVICE, 40000, 80, SYN));
	DROPS(NO_LOCAL_BACKEND, UDP(POD_A, SERVICE, 41000, 80));
	/* A client inside the cluster does not care for externalTrafficPolicy. */
	service.kind = LOAD_BALANCER;
	frontend_write(SERVICE, 80, &service);
	PASSES(UDP(POD_A, SERVICE, 41001, 80));
}

static void test_only_clients_in_the_source_ranges_pass(void **state)
{
	const struct service service = { .id = SERVICE_ID,
					 .backends = 1,
					 .kind = LOAD_BALANCER,
					 .flags = SERVICE_SOURCE_RANGES | SERVICE_HAS_ENDPOINTS };
	struct source_range_key range = { .prefixlen = 32 + 128, .service_id = SERVICE_ID + 1 };

	(void)state;
	SERVES(80, SERVICE_ID, { POD_B, 8080 });
	frontend_write(SERVICE, 80, &service);
	DROPS(SOURCE_RANGE, TCP(POD_A, SERVICE, 40000, 80, SYN));
	range.addr = at(POD_A);
	assert_int_equal(range_map_set(lab.datapath, &range), 0); /* another service's */
	DROPS(SOURCE_RANGE, TCP(POD_A, SERVICE, 40000, 80, SYN));
	range.service_id = SERVICE_ID;
	assert_int_equal(range_map_set(lab.datapath, &range), 0);
	PASSES(TCP(POD_A, SERVICE, 40000, 80, SYN));
	DROPS(SOURCE_RANGE, TCP(POD_C, SERVICE, 40000, 80, SYN));
	range.prefixlen = lab.ipv6 ? 32 : 32 + 96; /* of this family, all */
	assert_int_equal(range_map_set(lab.datapath, &range), 0);
	PASSES(TCP(POD_C, SERVICE, 40000, 80, SYN));
}

/* ---- session affinity --------------------------------------------------------------------- */

static void affinity_age(enum host client, uint64_t age_ns)
{
	struct affinity_key key = { .client = at(client), .service_id = SERVICE_ID };
	struct affinity affinity;

	assert_int_equal(bpf_map_lookup_elem(lab_map("affinity_map"), &key, &affinity), 0);
	affinity.last_used_ns -= age_ns;
	assert_int_equal(bpf_map_update_elem(lab_map("affinity_map"), &key, &affinity, BPF_ANY), 0);
}

static uint16_t connected_to(uint16_t port)
{
	return sent_to(&(struct segment){ TCP(POD_A, SERVICE, port, 80, SYN) }).dport;
}

static void test_a_client_keeps_its_backend_while_affinity_lasts(void **state)
{
	struct service service = { .id = SERVICE_ID, .backends = 3, .affinity_s = 60 };
	unsigned int others = 0;
	uint16_t chosen;

	(void)state;
	SERVES(80, SERVICE_ID, { POD_B, 8080 }, { POD_B, 8081 }, { POD_C, 8082 });
	frontend_write(SERVICE, 80, &service);
	chosen = connected_to(40000);
	for (uint16_t port = 40001; port < 40030; port++) {
		affinity_age(POD_A, 59 * NS_PER_SEC); /* each use makes it young again */
		assert_int_equal(connected_to(port), chosen);
	}
	for (uint16_t port = 41000; port < 41040; port++) {
		affinity_age(POD_A, 61 * NS_PER_SEC);
		others += connected_to(port) != chosen;
	}
	assert_true(others > 5);
	/* Switched off at work: the choice is free. */
	service.affinity_s = 0;
	frontend_write(SERVICE, 80, &service);
	chosen = connected_to(42000);
	others = 0;
	for (uint16_t port = 42001; port < 42040; port++)
		others += connected_to(port) != chosen;
	assert_true(others > 5);
}

static void test_affinity_to_a_backend_that_is_gone_ends_at_once(void **state)
{
	const struct service service = { .id = SERVICE_ID, .backends = 1, .affinity_s = 60 };

	(void)state;
	SERVES(80, SERVICE_ID, { POD_B, 8080 });
	frontend_write(SERVICE, 80, &service);
	assert_int_equal(connected_to(40000), 8080);
	SERVES(80, SERVICE_ID, { POD_C, 8081 });
	frontend_write(SERVICE, 80, &service);
	assert_int_equal(connected_to(40001), 8081);
	/* The other client's choice is its own. */
	SERVES(80, SERVICE_ID, { POD_C, 8082 }, { POD_C, 8081 });
	frontend_write(SERVICE, 80,
		       &(struct service){ SERVICE_ID, .backends = 2, .affinity_s = 60 });
	assert_int_equal(connected_to(40002), 8081);
}

/* A pod takes one place of the table for each service and family, whatever it sends. */
static void test_a_flood_leaves_the_affinity_of_another_pod(void **state)
{
	const struct service service = { .id = SERVICE_ID, .backends = 2, .affinity_s = 60 };
	struct affinity_key key = { .client = at(POD_C), .service_id = SERVICE_ID }, next;
	struct affinity kept, after;
	uint32_t entries = 0;

	(void)state;
	SERVES(80, SERVICE_ID, { POD_B, 8080 }, { POD_B, 8081 });
	frontend_write(SERVICE, 80, &service);
	PASSES(UDP(POD_C, SERVICE, 40000, 80));
	assert_int_equal(bpf_map_lookup_elem(lab_map("affinity_map"), &key, &kept), 0);
	for (uint16_t port = 1; port < 20000; port++)
		PASSES(UDP(POD_A, SERVICE, port, 80));
	assert_int_equal(bpf_map_lookup_elem(lab_map("affinity_map"), &key, &after), 0);
	assert_memory_equal(&kept, &after, sizeof(kept));
	for (void *from = NULL; !bpf_map_get_next_key(lab_map("affinity_map"), from, &next);
	     entries++) {
		key = next;
		from = &key;
	}
	assert_int_equal(entries, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH_FAMILIES(test_connections_spread_and_keep_their_backend),
		BOTH_FAMILIES(test_a_connection_counts_once_for_its_backend),
		BOTH_FAMILIES(test_bytes_both_ways_are_the_backends_when_the_connection_ends),
		BOTH_FAMILIES(test_bytes_of_a_flow_that_is_swept_are_told),
		BOTH_FAMILIES(test_a_backend_that_is_gone_is_replaced_where_nothing_breaks),
		BOTH_FAMILIES(test_a_connection_to_a_backend_that_is_gone_is_reset),
		BOTH_FAMILIES(test_a_connection_that_took_the_place_of_an_ended_one_goes_on),
		BOTH_FAMILIES(test_a_backend_keeps_its_clients_when_others_come_and_go),
		BOTH_FAMILIES(
			test_an_endpoint_that_terminates_keeps_its_flows_and_gets_no_new_ones),
		BOTH_FAMILIES(test_a_local_service_uses_the_endpoints_of_this_node),
		BOTH_FAMILIES(test_only_clients_in_the_source_ranges_pass),
		BOTH_FAMILIES(test_a_client_keeps_its_backend_while_affinity_lasts),
		BOTH_FAMILIES(test_affinity_to_a_backend_that_is_gone_ends_at_once),
		BOTH_FAMILIES(test_a_flood_leaves_the_affinity_of_another_pod),
	};

	return LAB_RUN(tests);
}
