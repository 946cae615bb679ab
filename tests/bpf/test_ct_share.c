/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shares of the connection table: a flood takes the table from the one who floods, not from the
 * others, and every entry that goes is free again.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <time.h>

#include "harness/lab.h"
#include "lib/auto.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define INGRESS ENDPOINT_INGRESS_ISOLATED
#define EGRESS  ENDPOINT_EGRESS_ISOLATED
#define FLOOD   2000 /* flows; the table of the lab has room for 512 */

static uint32_t entries(void)
{
	uint32_t used, capacity;

	assert_int_equal(maps_usage(lab.datapath, MAP_CT, &used, &capacity), 0);
	return used;
}

static uint32_t capacity(void)
{
	return maps_capacity(lab.datapath, MAP_CT);
}

static uint64_t refused(void)
{
	return lab_metric(METRIC_NOTICES + NOTICE_CT_FULL);
}

static void flood(enum host from, enum host to)
{
	for (uint16_t port = 1; port <= FLOOD; port++)
		PASSES(UDP(from, to, 40000, port));
}

static void assert_gets_answers(enum host client, enum host server)
{
	PASSES(UDP(client, server, 40000, 53));
	PASSES(UDP(server, client, 53, 40000));
}

static void test_a_flood_leaves_room_for_others(void **state)
{
	uint64_t before = refused();

	(void)state;
	isolate(POD_A, INGRESS);
	isolate(POD_C, INGRESS | EGRESS);
	allow(POD_C, DIR_EGRESS, ANYONE, IPPROTO_UDP, 53);
	flood(POD_A, POD_B);
	assert_true(refused() > before);
	assert_in_range(entries(), capacity() / 2 - 1, capacity() / 2 + 1);
	assert_gets_answers(POD_C, POD_B);
	assert_gets_answers(POD_C, OUTSIDE);
	/* A second one takes half of what is left. */
	isolate(POD_B, INGRESS);
	allow(POD_B, DIR_INGRESS, ANYONE, 0, 0);
	flood(POD_B, OUTSIDE);
	assert_in_range(entries(), capacity() / 2, capacity() * 3 / 4 + 2);
	PASSES(UDP(POD_C, ELSEWHERE, 40000, 53));
	PASSES(UDP(ELSEWHERE, POD_C, 53, 40000));
}

static void test_a_flood_from_outside_is_its_receivers(void **state)
{
	(void)state;
	isolate(POD_A, EGRESS);
	isolate(POD_C, INGRESS);
	flood(OUTSIDE, POD_A);
	assert_in_range(entries(), capacity() / 2 - 1, capacity() / 2 + 1);
	assert_gets_answers(POD_C, POD_B);
}

static void test_connections_that_end_give_their_room_back(void **state)
{
	uint64_t before = refused();

	(void)state;
	isolate(POD_A, INGRESS);
	for (uint16_t port = 1; port <= FLOOD; port++) {
		PASSES(TCP(POD_A, POD_B, port, 80, SYN), .seq = 1000);
		PASSES(TCP(POD_B, POD_A, 80, port, SYN | ACK), .seq = 5000, .ack = 1001);
		PASSES(TCP(POD_A, POD_B, port, 80, ACK), .seq = 1001, .ack = 5001);
		PASSES(TCP(POD_A, POD_B, port, 80, FIN | ACK), .seq = 1001, .ack = 5001);
		PASSES(TCP(POD_B, POD_A, 80, port, FIN | ACK), .seq = 5001, .ack = 1002);
		PASSES(TCP(POD_A, POD_B, port, 80, ACK), .seq = 1002, .ack = 5002);
	}
	assert_int_equal(entries(), 0);
	assert_int_equal(refused(), before);
}

static void test_an_entry_that_is_replaced_counts_once(void **state)
{
	uint64_t before = refused();

	(void)state;
	isolate(POD_A, INGRESS);
	for (uint32_t i = 0; i < FLOOD; i++)
		PASSES(TCP(POD_A, POD_B, 40000, 80, SYN), .seq = i);
	assert_int_equal(entries(), 1);
	/* An association's INIT by the other end makes the flow that one's. */
	isolate(POD_B, INGRESS);
	allow(POD_A, DIR_INGRESS, POD_B, IPPROTO_SCTP, 7);
	allow(POD_B, DIR_INGRESS, POD_A, IPPROTO_SCTP, 8);
	for (uint32_t i = 0; i < FLOOD; i++) {
		PASSES(.from = at(POD_A), .to = at(POD_B), .proto = IPPROTO_SCTP, .sport = 7,
		       .dport = 8, .chunk = 1);
		PASSES(.from = at(POD_B), .to = at(POD_A), .proto = IPPROTO_SCTP, .sport = 8,
		       .dport = 7, .chunk = 1);
	}
	assert_int_equal(refused(), before);
	assert_int_equal(entries(), 1);
}

static uint64_t now_coarse_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (uint64_t)now.tv_sec * NS_PER_SEC + (uint64_t)now.tv_nsec;
}

static void test_a_sweep_gives_room_back(void **state)
{
	uint64_t before;

	(void)state;
	isolate(POD_A, INGRESS);
	flood(POD_A, POD_B);
	assert_int_equal(
		ct_map_sweep(lab.datapath, now_coarse_ns() + CT_OTHER_UNREPLIED_NS + NS_PER_SEC),
		capacity() / 2);
	before = refused();
	for (uint16_t port = 1; port <= 100; port++)
		PASSES(UDP(POD_A, POD_B, 40001, port));
	assert_int_equal(refused(), before);
	/* Counters that went wrong are right after a sweep. */
	assert_int_equal(bpf_map_update_elem(lab_map("ct_count_map"), &(uint32_t){ CT_COUNT_FREE },
					     &(int64_t){ 0 }, BPF_ANY),
			 0);
	PASSES(UDP(POD_A, POD_B, 40002, 1));
	assert_int_equal(refused(), before + 1);
	assert_int_equal(ct_map_sweep(lab.datapath, now_coarse_ns()), 0);
	PASSES(UDP(POD_A, POD_B, 40002, 1));
	assert_int_equal(refused(), before + 1);
}

/* The next pod in the slot does not inherit what the last one owned. */
static void test_what_a_deleted_endpoint_owned_is_swept(void **state)
{
	uint16_t slot = lab.pods->pod[POD_A].slot;
	struct endpoint_entry next;

	(void)state;
	isolate(POD_A, INGRESS);
	isolate(POD_C, INGRESS);
	assert_int_equal(endpoint_map_get(lab.datapath, slot, &next), 0);
	flood(POD_A, POD_B);
	PASSES(UDP(POD_C, POD_B, 40000, 53));
	assert_int_equal(endpoint_map_del(lab.datapath, slot), 0);
	next.v4.w[3] = htonl(0x0a6300fe);
	next.v6.w[3] = htonl(0xfe);
	assert_int_equal(endpoint_map_set(lab.datapath, slot, &next), 0);
	assert_int_equal(ct_map_sweep(lab.datapath, now_coarse_ns()), capacity() / 2);
	assert_int_equal(entries(), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH_FAMILIES(test_a_flood_leaves_room_for_others),
		BOTH_FAMILIES(test_a_flood_from_outside_is_its_receivers),
		BOTH_FAMILIES(test_connections_that_end_give_their_room_back),
		BOTH_FAMILIES(test_an_entry_that_is_replaced_counts_once),
		BOTH_FAMILIES(test_a_sweep_gives_room_back),
		BOTH_FAMILIES(test_what_a_deleted_endpoint_owned_is_swept),
	};

	return LAB_RUN(tests);
}
