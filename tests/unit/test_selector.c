/* SPDX-License-Identifier: Apache-2.0 */
/* Label look-up, and the index of labels against the plain selector. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/auto.h"
#include "policy/compiler/label_index.h"

#include <cmocka.h>

static char *text(const char *literal)
{
	return (char *)literal; /* labels own their texts; nothing frees these */
}

static void test_labels_are_found_by_key(void **state)
{
	struct label items[] = { { text("a"), text("1") },
				 { text("app"), text("") },
				 { text("z"), text("3") } };
	const struct labels labels = { items, ARRAY_SIZE(items) };
	const struct labels none = { 0 };
	const char *value = NULL;

	(void)state;
	assert_true(labels_get(&labels, "app", &value));
	assert_string_equal(value, "");
	assert_true(labels_get(&labels, "z", &value));
	assert_false(labels_get(&labels, "ap", &value));
	assert_false(labels_get(&labels, "zz", &value));
	assert_false(labels_get(&none, "a", &value));
}

#define ITEMS  400
#define KEYS   4
#define VALUES 3

static const char *const keys[KEYS] = { "a", "b", "c", "d" };
static const char *const values[VALUES] = { "", "x", "y" };

struct allocator {
	struct label labels[ITEMS][KEYS];
	struct labels of[ITEMS];
	uint32_t scope[ITEMS];
};

/* A fixed sequence that looks random: a failure is the same in each run. */
static uint32_t next(void)
{
	static uint32_t seed = 1;

	seed = seed * 1664525 + 1013904223;
	return seed >> 8;
}

static void allocator_fill(struct allocator *allocator)
{
	for (size_t i = 0; i < ITEMS; i++) {
		allocator->of[i].items = allocator->labels[i];
		allocator->scope[i] = next() % 3;
		for (size_t k = 0; k < KEYS; k++) {
			if (next() % 3 == 0)
				continue;
			allocator->labels[i][allocator->of[i].count++] =
				(struct label){ text(keys[k]), text(values[next() % VALUES]) };
		}
	}
}

static void test_index_finds_what_the_selector_matches(void **state)
{
	static struct allocator allocator;
	struct arena *arena = arena_new();
	struct label_index index = { .arena = arena };

	(void)state;
	allocator_fill(&allocator);
	for (size_t i = 0; i < ITEMS; i++)
		label_index_add(&index, allocator.scope[i], &allocator.of[i], (uint32_t)i);
	for (int round = 0; round < 2000; round++) {
		char *chosen[3][3];
		struct selector_term terms[3];
		struct selector selector = { .terms = terms, .count = next() % 4 };
		uint32_t scope = next() % 4; /* one of them has no items */
		struct id_list list = { 0 };
		size_t expected = 0;

		for (size_t t = 0; t < selector.count; t++) {
			terms[t] = (struct selector_term){
				.key = text(keys[next() % KEYS]),
				.op = (enum selector_operator)(next() % 4),
				.values = chosen[t],
			};
			if (terms[t].op <= SELECTOR_NOT_IN)
				terms[t].value_count = 1 + next() % 3;
			for (size_t v = 0; v < terms[t].value_count; v++)
				chosen[t][v] = text(values[next() % VALUES]);
		}
		label_index_select(&index, scope, selector.count ? &selector : NULL, &list);
		id_list_sort(&list);
		for (size_t i = 0; i < ITEMS; i++) {
			if (allocator.scope[i] != scope ||
			    !selector_matches(&selector, &allocator.of[i]))
				continue;
			assert_true(expected < list.count);
			assert_int_equal(list.items[expected++], i);
		}
		assert_int_equal(expected, list.count);
		id_list_done(&list);
	}
	label_index_done(&index);
	arena_free(arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_labels_are_found_by_key),
		cmocka_unit_test(test_index_finds_what_the_selector_matches),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
