/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers that follow content: whoever came first, and whoever has gone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "policy/compiler/id_pool.h"

#include <cmocka.h> /* last: it makes fail a macro */

#define FIRST  100
#define OWNERS 24

/* Many that want the same few numbers; some near the end, whose next is the first one. */
static uint64_t hash_of(uint32_t owner)
{
	static const uint32_t homes[] = { 7, FIRST, FIRST + 1, 5000, UINT32_MAX, UINT32_MAX - 1 };

	return (uint64_t)(owner * 2654435761U) << 32 | homes[owner % 6];
}

static void numbers_of(const struct id_pool *numbers, uint32_t by_owner[OWNERS])
{
	uint32_t owner;
	uint32_t number;
	size_t pos = 0;

	for (size_t i = 0; i < OWNERS; i++)
		by_owner[i] = 0;
	while (id_pool_each(numbers, &pos, &owner, &number))
		by_owner[owner] = number;
}

static void take(struct id_pool *numbers, uint32_t owner)
{
	uint32_t before[OWNERS];
	uint32_t after[OWNERS];
	uint32_t number = 0;
	int moved;

	numbers_of(numbers, before);
	moved = id_pool_take(numbers, hash_of(owner), owner, &number);
	numbers_of(numbers, after);
	assert_int_equal(after[owner], number);
	assert_true(number >= FIRST);
	for (uint32_t i = 0; i < OWNERS && !moved; i++) {
		if (i != owner)
			assert_int_equal(after[i], before[i]);
	}
}

static void test_order_of_arrival_does_not_matter(void **state)
{
	uint32_t wanted[OWNERS];

	(void)state;
	srand(1);
	for (int round = 0; round < 200; round++) {
		struct id_pool numbers;
		uint32_t order[OWNERS];
		uint32_t got[OWNERS];

		for (uint32_t i = 0; i < OWNERS; i++)
			order[i] = i;
		for (uint32_t i = OWNERS - 1; i > 0 && round > 0; i--) {
			uint32_t other = (uint32_t)rand() % (i + 1);
			uint32_t swapped = order[i];

			order[i] = order[other];
			order[other] = swapped;
		}
		id_pool_init(&numbers, FIRST);
		for (uint32_t i = 0; i < OWNERS; i++)
			take(&numbers, order[i]);
		numbers_of(&numbers, round ? got : wanted);
		for (uint32_t i = 0; i < OWNERS && round > 0; i++)
			assert_int_equal(got[i], wanted[i]);
		id_pool_done(&numbers);
	}
}

static void test_who_has_gone_leaves_no_trace(void **state)
{
	struct id_pool numbers;
	struct id_pool fresh;
	uint32_t left[OWNERS];
	uint32_t wanted[OWNERS];

	(void)state;
	srand(2);
	for (int round = 0; round < 200; round++) {
		bool gone[OWNERS] = { false };

		id_pool_init(&numbers, FIRST);
		id_pool_init(&fresh, FIRST);
		for (uint32_t i = 0; i < OWNERS; i++)
			take(&numbers, i);
		for (int i = 0; i < 8; i++) {
			uint32_t owner = (uint32_t)rand() % OWNERS;

			numbers_of(&numbers, left);
			if (!gone[owner])
				id_pool_release(&numbers, left[owner]);
			gone[owner] = true;
		}
		for (uint32_t i = 0; i < OWNERS; i++) {
			if (!gone[i])
				take(&fresh, i);
		}
		numbers_of(&numbers, left);
		numbers_of(&fresh, wanted);
		assert_memory_equal(left, wanted, sizeof(left));
		id_pool_done(&numbers);
		id_pool_done(&fresh);
	}
}

static void test_alone_everybody_is_at_home(void **state)
{
	struct id_pool numbers;
	uint32_t number;

	(void)state;
	id_pool_init(&numbers, FIRST);
	assert_int_equal(id_pool_take(&numbers, 0x1234567800001000, 1, &number), 0);
	assert_int_equal(number, 0x1000);
	assert_int_equal(id_pool_take(&numbers, 3, 2, &number), 0);
	assert_int_equal(number, FIRST);
	assert_int_equal(id_pool_release(&numbers, FIRST), 0);
	id_pool_done(&numbers);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order_of_arrival_does_not_matter),
		cmocka_unit_test(test_who_has_gone_leaves_no_trace),
		cmocka_unit_test(test_alone_everybody_is_at_home),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
