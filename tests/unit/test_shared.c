/* SPDX-License-Identifier: Apache-2.0 */
/* Strings that are kept once, as long as somebody has them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/shared.h"

#include <cmocka.h> /* last: it makes fail a macro */

#define MANY 5000

static void test_equal_strings_are_one_until_the_last_is_given_back(void **state)
{
	char *first = shared_string("app"), *second = shared_string("app");
	char *other = shared_string("");

	(void)state;
	assert_ptr_equal(first, second);
	assert_ptr_not_equal(first, other);
	shared_release(first);
	assert_string_equal(second, "app");
	assert_ptr_equal(shared_string("app"), second);
	shared_release(second);
	shared_release(second);
	shared_release(other);
}

/* Labels may come from elsewhere, too; one with the content of a shared one is still another. */
static void test_strings_of_malloc_are_freed(void **state)
{
	char *shared = shared_string("shop");

	(void)state;
	shared_release(NULL);
	shared_release(xstrdup("shop"));
	shared_release(xstrdup("bank"));
	assert_string_equal(shared, "shop");
	shared_release(shared);
}

static void test_many_are_found_again(void **state)
{
	char *strings[MANY], text[16];

	(void)state;
	for (size_t i = 0; i < MANY; i++) {
		snprintf(text, sizeof(text), "pod-%zu", i);
		strings[i] = shared_string(text);
	}
	for (size_t i = 0; i < MANY; i++) {
		snprintf(text, sizeof(text), "pod-%zu", i);
		assert_ptr_equal(shared_string(text), strings[i]);
		shared_release(strings[i]);
		if (i % 2)
			shared_release(strings[i]);
	}
	for (size_t i = 0; i < MANY; i += 2) {
		snprintf(text, sizeof(text), "pod-%zu", i);
		assert_string_equal(strings[i], text);
		shared_release(strings[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_equal_strings_are_one_until_the_last_is_given_back),
		cmocka_unit_test(test_strings_of_malloc_are_freed),
		cmocka_unit_test(test_many_are_found_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
