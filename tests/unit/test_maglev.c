/* SPDX-License-Identifier: Apache-2.0 */
/* Maglev tables: even, the same on every node, and little changed by a change. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "lib/auto.h"
#include "lib/inet.h"
#include "policy/objects/maglev.h"

#include <cmocka.h>

#define COUNT_MAX 200

static struct backend backends[COUNT_MAX];

static int setup(void **state)
{
	struct addr first;

	(void)state;
	assert_int_equal(addr_parse("10.1.0.1", &first), 0);
	for (size_t i = 0; i < COUNT_MAX; i++)
		backends[i] = (struct backend){ .addr = addr_add(&first, i), .port = htons(8080) };
	return 0;
}

static void test_a_table_is_sized_by_its_backends(void **state)
{
	(void)state;
	assert_int_equal(maglev_size(0), 0);
	assert_int_equal(maglev_size(1), 0);
	assert_int_equal(maglev_size(2), 251);
	assert_int_equal(maglev_size(10), 1021);
	assert_int_equal(maglev_size(10000), MAGLEV_SIZE_MAX);
}

static void test_places_are_shared_evenly(void **state)
{
	(void)state;
	for (size_t count = 2; count <= 100; count += 7) {
		uint32_t size = maglev_size(count), places[COUNT_MAX] = { 0 };
		auto_free uint32_t *table = calloc(size, sizeof(*table));

		maglev_fill(backends, count, table, size);
		for (uint32_t i = 0; i < size; i++) {
			assert_true(table[i] < count);
			places[table[i]]++;
		}
		for (size_t i = 0; i < count; i++)
			assert_true(places[i] >= size / count && places[i] <= size / count + 1);
	}
}

/* Losing one of N moves that one's share, 1/N, and a few more; measured here and bounded. */
static void test_losing_a_backend_moves_little_else(void **state)
{
	(void)state;
	for (size_t count = 3; count <= 80; count += 11) {
		uint32_t size = maglev_size(count), worst = 0;
		auto_free uint32_t *before = calloc(size, sizeof(*before));
		auto_free uint32_t *after = calloc(size, sizeof(*after));

		maglev_fill(backends, count, before, size);
		for (size_t lost = 0; lost < count; lost++) {
			struct backend left[COUNT_MAX];
			uint32_t moved = 0;

			memcpy(left, backends, lost * sizeof(*left));
			memcpy(left + lost, backends + lost + 1,
			       (count - lost - 1) * sizeof(*left));
			maglev_fill(left, count - 1, after, size);
			for (uint32_t i = 0; i < size; i++)
				moved += before[i] != lost &&
					 memcmp(&backends[before[i]], &left[after[i]],
						sizeof(*left)) != 0;
			worst = moved > worst ? moved : worst;
		}
		print_message(
			"%zu backends, %u places: losing one moves at most %.1f %% of the others' "
			"flows\n",
			count, size, 100.0 * worst / size);
		assert_true(worst * 100 <= size * 5);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_table_is_sized_by_its_backends),
		cmocka_unit_test(test_places_are_shared_evenly),
		cmocka_unit_test(test_losing_a_backend_moves_little_else),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
