/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shares of the table of translations: a flood makes room of its own, of what nobody uses first,
 * and takes nothing from those who hold less.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <time.h>

#include "harness/lab_service.h"
#include "lib/auto.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define PORT  80
#define QUIET 20 /* flows of a pod that does not flood */
#define FIRST 1000

static uint32_t room(void) /* for translations: two entries each */
{
	return maps_capacity(lab.datapath, MAP_NAT) / 2;
}

static bool is_known(enum host client, uint16_t port, uint8_t proto)
{
	struct nat_entry entry;

	return translation(client, port, SERVICE, PORT, proto, &entry) &&
	       translation(POD_B, 8080, client, port, proto, &entry);
}

static uint32_t known(enum host client, uint16_t first, uint32_t count)
{
	uint32_t found = 0;

	for (uint32_t i = 0; i < count; i++)
		found += is_known(client, (uint16_t)(first + i), IPPROTO_UDP);
	return found;
}

static uint64_t counted(enum host client)
{
	uint32_t slot = lab.pods->pod[client].slot;
	int64_t count;

	assert_int_equal(bpf_map_lookup_elem(lab_map("nat_count_map"), &slot, &count), 0);
	return (uint64_t)count;
}

static void asks(enum host client, uint16_t first, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		PASSES(UDP(client, SERVICE, (uint16_t)(first + i), PORT));
}

static void test_a_flood_takes_nothing_from_another_pod(void **state)
{
	(void)state;
	SERVES(PORT, SERVICE_ID, { POD_B, 8080 });
	asks(POD_C, FIRST, QUIET);
	asks(POD_A, FIRST, 3 * room());
	assert_int_equal(known(POD_C, FIRST, QUIET), QUIET);
	assert_in_range(known(POD_A, FIRST, 3 * room()), room() - QUIET - 1, room() - QUIET);
	/* There is room for new ones, too. */
	asks(POD_C, FIRST + QUIET, QUIET);
	asks(POD_A, FIRST, 3 * room());
	assert_int_equal(known(POD_C, FIRST, 2 * QUIET), 2 * QUIET);
	assert_in_range(counted(POD_C), 2 * QUIET, 2 * QUIET);
}

static void test_who_holds_less_takes_from_who_holds_more(void **state)
{
	(void)state;
	SERVES(PORT, SERVICE_ID, { POD_B, 8080 });
	asks(POD_A, FIRST, room());
	assert_int_equal(counted(POD_A), room());
	asks(POD_C, FIRST, room());
	assert_in_range(counted(POD_C), room() / 2 - 1, room() / 2 + 1);
	assert_int_equal(counted(POD_A), room() - counted(POD_C));
	assert_int_equal(known(POD_A, FIRST, room()), counted(POD_A));
	assert_int_equal(known(POD_C, FIRST, room()), counted(POD_C));
}

/* By the client's second packet a flow is in use; answers alone do not show it. */
static void test_what_nobody_uses_goes_first(void **state)
{
	(void)state;
	SERVES(PORT, SERVICE_ID, { POD_B, 8080 });
	for (int i = 0; i < 2; i++)
		asks(POD_A, FIRST, QUIET);
	asks(POD_A, FIRST + QUIET, 3 * room());
	assert_int_equal(known(POD_A, FIRST, QUIET), QUIET);
}

static void test_connections_that_end_give_their_room_back(void **state)
{
	(void)state;
	SERVES(PORT, SERVICE_ID, { POD_B, 8080 });
	for (uint16_t i = 0; i < 3; i++) {
		const uint16_t port = FIRST + i;

		PASSES(TCP(POD_A, SERVICE, port, PORT, SYN), .seq = 1000);
		PASSES(TCP(POD_B, POD_A, 8080, port, SYN | ACK), .seq = 5000, .ack = 1001);
		PASSES(TCP(POD_A, SERVICE, port, PORT, ACK), .seq = 1001, .ack = 5001);
		assert_int_equal(counted(POD_A), 1);
		PASSES(TCP(POD_A, SERVICE, port, PORT, FIN | ACK), .seq = 1001, .ack = 5001);
		PASSES(TCP(POD_B, POD_A, 8080, port, FIN | ACK), .seq = 5001, .ack = 1002);
		PASSES(TCP(POD_A, SERVICE, port, PORT, ACK), .seq = 1002, .ack = 5002);
		assert_false(is_known(POD_A, port, IPPROTO_TCP));
		assert_int_equal(counted(POD_A), 0);
	}
	/* One that opens again where another was counts once. */
	asks(POD_A, FIRST, 1);
	asks(POD_A, FIRST, 1);
	assert_int_equal(counted(POD_A), 1);
}

static uint64_t now_coarse_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (uint64_t)now.tv_sec * NS_PER_SEC + (uint64_t)now.tv_nsec;
}

static void test_a_sweep_counts_anew(void **state)
{
	const uint32_t slot = lab.pods->pod[POD_A].slot;

	(void)state;
	SERVES(PORT, SERVICE_ID, { POD_B, 8080 });
	asks(POD_A, FIRST, QUIET);
	asks(POD_C, FIRST, QUIET);
	assert_int_equal(
		bpf_map_update_elem(lab_map("nat_count_map"), &slot, &(int64_t){ 7 }, BPF_ANY), 0);
	assert_int_equal(nat_map_sweep(lab.datapath, now_coarse_ns()), 0);
	assert_int_equal(counted(POD_A), QUIET);
	assert_int_equal(
		nat_map_sweep(lab.datapath, now_coarse_ns() + CT_OTHER_REPLIED_NS + NS_PER_SEC),
		4 * QUIET);
	assert_int_equal(counted(POD_A) + counted(POD_C), 0);
}

/* The next pod in the slot does not inherit what the last one held. */
static void test_what_a_deleted_endpoint_held_is_swept(void **state)
{
	const uint16_t slot = lab.pods->pod[POD_A].slot;
	struct endpoint_entry next;

	(void)state;
	SERVES(PORT, SERVICE_ID, { POD_B, 8080 });
	asks(POD_A, FIRST, QUIET);
	asks(POD_C, FIRST, QUIET);
	assert_int_equal(endpoint_map_get(lab.datapath, slot, &next), 0);
	assert_int_equal(endpoint_map_del(lab.datapath, slot), 0);
	assert_int_equal(counted(POD_A), 0);
	next.v4.w[3] = htonl(0x0a6300fe);
	next.v6.w[3] = htonl(0xfe);
	assert_int_equal(endpoint_map_set(lab.datapath, slot, &next), 0);
	assert_int_equal(nat_map_sweep(lab.datapath, now_coarse_ns()), 2 * QUIET);
	assert_int_equal(known(POD_A, FIRST, QUIET), 0);
	assert_int_equal(known(POD_C, FIRST, QUIET), QUIET);
	assert_int_equal(counted(POD_A), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH_FAMILIES(test_a_flood_takes_nothing_from_another_pod),
		BOTH_FAMILIES(test_who_holds_less_takes_from_who_holds_more),
		BOTH_FAMILIES(test_what_nobody_uses_goes_first),
		BOTH_FAMILIES(test_connections_that_end_give_their_room_back),
		BOTH_FAMILIES(test_a_sweep_counts_anew),
		BOTH_FAMILIES(test_what_a_deleted_endpoint_held_is_swept),
	};

	return LAB_RUN(tests);
}
