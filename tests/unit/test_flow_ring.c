/* SPDX-License-Identifier: Apache-2.0 */
/* The log's ring: order and numbers, whose flows make room, and what readers find afterwards. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "agent/flow/flow_internal.h"
#include "agent/flow/flow_ring.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define MAX   4000
#define SEED  5
#define MIXED 300000

static unsigned int dropped;

static void on_drop(struct flow_entry *entry, void *arg)
{
	(void)arg;
	entry->time_ns = -1;
	dropped++;
}

static struct flow_ring *ring_new(uint32_t max)
{
	dropped = 0;
	return flow_ring_new(max, on_drop, NULL);
}

/* A flow that knows its owner and number. */
static void add(struct flow_ring *ring, uint16_t owner)
{
	uint64_t number = flow_ring_next(ring);
	struct flow_entry *entry = flow_ring_add(ring, owner);

	assert_int_equal(entry->time_ns, 0);
	assert_int_equal(entry->count, 1);
	entry->time_ns = (int64_t)number;
	entry->duration_ns = owner;
}

/* Flows in their order, by owner; each is what was added under its number. */
static void count(const struct flow_ring *ring, uint32_t *counts, size_t owners)
{
	uint64_t number = 0;
	uint32_t sum = 0;
	const struct flow_entry *entry;

	for (size_t i = 0; i < owners; i++)
		counts[i] = 0;
	for (uint64_t from = 0; (entry = flow_ring_find(ring, from, &number)); from = number + 1) {
		assert_true(number >= from && number < flow_ring_next(ring));
		assert_int_equal(entry->time_ns, number);
		assert_in_range(entry->duration_ns, 0, owners - 1);
		counts[entry->duration_ns]++;
		sum++;
	}
	assert_int_equal(sum, flow_ring_count(ring));
}

static void test_one_owner_loses_the_oldest(void **state)
{
	struct flow_ring *ring = ring_new(MAX);
	uint32_t counts[2];
	uint64_t number;

	(void)state;
	assert_null(flow_ring_find(ring, 0, &number));
	assert_int_equal(flow_ring_last(ring, 10), 0);
	for (int i = 0; i < 10 * MAX; i++)
		add(ring, 1);
	count(ring, counts, 2);
	assert_int_equal(counts[1], MAX);
	assert_non_null(flow_ring_find(ring, 0, &number));
	assert_int_equal(number, 9 * MAX);
	assert_int_equal(flow_ring_last(ring, 1), 10 * MAX - 1);
	assert_int_equal(flow_ring_last(ring, 100 * MAX), 9 * MAX);
	assert_int_equal(flow_ring_last(ring, 0), 10 * MAX);
	assert_null(flow_ring_find(ring, 10 * MAX, &number));
	flow_ring_free(ring);
	assert_int_equal(dropped, 10 * MAX);
}

static void test_a_flood_leaves_the_flows_of_others(void **state)
{
	struct flow_ring *ring = ring_new(MAX);
	uint32_t counts[4];
	uint64_t number;

	(void)state;
	for (int i = 0; i < MAX / 4; i++) {
		add(ring, 1);
		add(ring, 2);
	}
	for (int i = 0; i < 100 * MAX; i++)
		add(ring, 3);
	count(ring, counts, 4);
	assert_int_equal(counts[1], MAX / 4);
	assert_int_equal(counts[2], MAX / 4);
	assert_int_equal(counts[3], MAX / 2);
	assert_non_null(flow_ring_find(ring, MAX / 2, &number)); /* behind the hole */
	assert_int_equal(number, 100 * MAX);
	/* Two that flood have half each; who comes later gets its part of them. */
	for (int i = 0; i < 10 * MAX; i++)
		add(ring, (uint16_t)(i % 2 ? 3 : 0));
	count(ring, counts, 4);
	assert_in_range(counts[0], MAX / 4 - 2, MAX / 4 + 2);
	assert_in_range(counts[1], MAX / 4 - 2, MAX / 4);
	flow_ring_free(ring);
}

/* Among many owners it may be some flows late that another has most. */
static void test_a_quiet_owner_loses_nothing(void **state)
{
	struct flow_ring *ring = ring_new(MAX);
	static uint32_t counts[501];

	(void)state;
	srand(SEED);
	for (int i = 0; i < MIXED; i++) {
		add(ring, (uint16_t)(1 + rand() % 499));
		if (i % (MIXED / 3) == 0)
			add(ring, 500);
	}
	count(ring, counts, 501);
	assert_int_equal(counts[500], 3);
	flow_ring_free(ring);
}

static void test_small_rings(void **state)
{
	uint32_t counts[3];

	(void)state;
	for (uint32_t max = 1; max < 20; max++) {
		struct flow_ring *ring = ring_new(max);

		srand(SEED);
		for (int i = 0; i < 2000; i++) {
			add(ring, (uint16_t)(rand() % 3));
			count(ring, counts, 3);
		}
		flow_ring_free(ring);
		assert_int_equal(dropped, 2000);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_owner_loses_the_oldest),
		cmocka_unit_test(test_a_flood_leaves_the_flows_of_others),
		cmocka_unit_test(test_a_quiet_owner_loses_nothing),
		cmocka_unit_test(test_small_rings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
