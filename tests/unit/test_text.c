/* SPDX-License-Identifier: Apache-2.0 */
/* Text from outside: what stays as it is, and what becomes '?'. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "lib/auto.h"
#include "lib/text.h"

#include <cmocka.h> /* last: it makes fail a macro */

static const struct {
	const char *text;
	const char *utf8;
	const char *shown;
} cases[] = {
	{ "", "", "" },
	{ "shop/web ~", "shop/web ~", "shop/web ~" },
	{ "a\033[2Jb\nc\x7f", "a\033[2Jb\nc\x7f", "a?[2Jb?c?" },
	{ "\xc2\xa0\xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\x99",
	  "\xc2\xa0\xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\x99",
	  "\xc2\xa0\xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\x99" },
	{ "C1 as a character \xc2\x9b", "C1 as a character \xc2\x9b", "C1 as a character ??" },
	{ "C1 as a byte \x9b", "C1 as a byte ?", "C1 as a byte ?" },
	{ "cut off \xe2\x82", "cut off ??", "cut off ??" },
	{ "overlong \xc0\x8a \xe0\x80\x8a", "overlong ?? ???", "overlong ?? ???" },
	{ "surrogate \xed\xa0\x80 beyond \xf4\x90\x80\x80", "surrogate ??? beyond ????",
	  "surrogate ??? beyond ????" },
};

static void test_what_stays_and_what_does_not(void **state)
{
	char utf8[100], shown[100];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		snprintf(utf8, sizeof(utf8), "%s", cases[i].text);
		snprintf(shown, sizeof(shown), "%s", cases[i].text);
		text_make_utf8(utf8);
		text_make_shown(shown);
		assert_string_equal(utf8, cases[i].utf8);
		assert_string_equal(shown, cases[i].shown);
	}
}

static void test_distance_of_words(void **state)
{
	static const struct {
		const char *a, *b;
		size_t distance;
	} pairs[] = {
		{ "", "", 0 },
		{ "", "abc", 3 },
		{ "policy", "policy", 0 },
		{ "polcy", "policy", 1 },
		{ "POLICY", "policy", 0 },
		{ "tset", "test", 1 },
		{ "ab", "ba", 1 },
		{ "abcd", "acbd", 1 },
		{ "kitten", "sitting", 3 },
		{ "matrx", "monitor", 5 },
	};
	char longer[80];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		assert_int_equal(text_distance(pairs[i].a, pairs[i].b), pairs[i].distance);
		assert_int_equal(text_distance(pairs[i].b, pairs[i].a), pairs[i].distance);
	}
	memset(longer, 'a', sizeof(longer));
	longer[64] = '\0';
	assert_int_equal(text_distance(longer, ""), 64);
	longer[64] = 'a';
	longer[65] = '\0';
	assert_true(text_distance(longer, "") == SIZE_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_distance_of_words),
		cmocka_unit_test(test_what_stays_and_what_does_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
