/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/table.h"

#include <cmocka.h>

#define KEYS 3000

/* Random puts and deletes, held against a plain array. */
static void test_table_agrees_with_an_array(void **state)
{
	uint32_t expected[KEYS] = { 0 };
	unsigned int seed = 42;
	struct table table;
	size_t count = 0;

	(void)state;
	table_init(&table, 20, sizeof(uint32_t));
	for (uint32_t round = 1; round < 60000; round++) {
		uint32_t i = (uint32_t)rand_r(&seed) % KEYS;
		unsigned char key[20] = { 0 };
		uint32_t *value;

		memcpy(key + 7, &i, sizeof(i));
		value = table_find(&table, key);
		assert_int_equal(value ? *value : 0, expected[i]);
		if (rand_r(&seed) % 3 == 0) {
			assert_int_equal(table_del(&table, key), expected[i] != 0);
			count -= expected[i] != 0;
			expected[i] = 0;
		} else {
			value = table_put(&table, key);
			assert_int_equal(*value, expected[i]);
			count += expected[i] == 0;
			*value = expected[i] = round;
		}
		assert_int_equal(table.count, count);
	}
	table_done(&table);
}

static void test_walk_sees_each_entry_once_and_may_delete(void **state)
{
	bool seen[KEYS] = { false };
	struct table table;
	const void *key;
	size_t pos = 0;

	(void)state;
	table_init(&table, sizeof(uint32_t), 1);
	for (uint32_t i = 0; i < KEYS; i++)
		*(char *)table_put(&table, &i) = (char)i;
	while (table_next(&table, &pos, &key)) {
		uint32_t i = *(const uint32_t *)key;

		assert_false(seen[i]);
		seen[i] = true;
		if (i % 2)
			assert_true(table_del(&table, key));
	}
	for (uint32_t i = 0; i < KEYS; i++) {
		assert_true(seen[i]);
		assert_int_equal(table_find(&table, &i) != NULL, i % 2 == 0);
	}
	table_done(&table);
}

static void test_churn_does_not_grow_the_table(void **state)
{
	struct table table;

	(void)state;
	table_init(&table, sizeof(uint32_t), 8);
	for (uint32_t i = 0; i < 100000; i++) {
		assert_non_null(table_put(&table, &i));
		assert_true(table_del(&table, &i));
	}
	assert_true(table.capacity <= 64);
	table_done(&table);
}

/* Of this thread: others have the processor, too. */
static double cpu_seconds(void)
{
	struct timespec time;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* From one table to another: the entries come in the order of their place. */
static void test_a_copy_takes_little_longer_than_the_table_took(void **state)
{
	double start = cpu_seconds(), filled, copied;
	struct table table, copy;
	const void *key;
	size_t pos = 0;

	(void)state;
	table_init(&table, sizeof(uint32_t), 16);
	table_init(&copy, sizeof(uint32_t), 16);
	for (uint32_t i = 0; i < 80000; i++)
		table_put(&table, &i);
	filled = cpu_seconds();
	while (table_next(&table, &pos, &key))
		table_put(&copy, key);
	copied = cpu_seconds();
	assert_int_equal(copy.count, table.count);
	assert_true(copied - filled < 10 * (filled - start));
	table_done(&copy);
	table_done(&table);
}

static void test_empty_table(void **state)
{
	struct table table;
	size_t pos = 0;

	(void)state;
	table_init(&table, 4, 4);
	assert_null(table_find(&table, "abc"));
	assert_false(table_del(&table, "abc"));
	assert_null(table_next(&table, &pos, NULL));
	table_done(&table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table_agrees_with_an_array),
		cmocka_unit_test(test_walk_sees_each_entry_once_and_may_delete),
		cmocka_unit_test(test_churn_does_not_grow_the_table),
		cmocka_unit_test(test_a_copy_takes_little_longer_than_the_table_took),
		cmocka_unit_test(test_empty_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
