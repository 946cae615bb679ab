/* SPDX-License-Identifier: Apache-2.0 */
/* Text in XML: nothing ends what it stands in, and no byte makes the document malformed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include "lib/auto.h"
#include "lib/xml.h"

#include <cmocka.h>

static const struct {
	const char *text;
	size_t max;
	const char *want;
} cases[] = {
	{ "", SIZE_MAX, "" },
	{ "shop/web", SIZE_MAX, "shop/web" },
	{ "</a><b c=\"d\">&", SIZE_MAX, "&lt;/a&gt;&lt;b c=&quot;d&quot;&gt;&amp;" },
	{ "a\nb\x01\x1b[2J", SIZE_MAX, "a\nb??[2J" },
	{ "caf\xc3\xa9 \xc3", SIZE_MAX, "caf\xc3\xa9 ?" },
	{ "abcdef", 6, "abcdef" },
	{ "abcdefg", 6, "abcdef\xe2\x80\xa6" },
	{ "abcde\xc3\xa9", 6, "abcde\xe2\x80\xa6" }, /* no half of a character */
	{ "abcd\xc3\xa9", 6, "abcd\xc3\xa9" },
};

static void test_text_stays_text(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		auto_buffer struct buffer buffer = { 0 };

		xml_add(&buffer, cases[i].text, cases[i].max);
		assert_string_equal(buffer.data ? buffer.data : "", cases[i].want);
	}
}

/* Of any length, at whatever place in the buffer. */
static void test_print_makes_room(void **state)
{
	auto_buffer struct buffer buffer = { 0 };

	(void)state;
	buffer_print(&buffer, "%*d", 3000, 7);
	buffer_print(&buffer, "%s", "");
	buffer_print(&buffer, "%0*d", 5000, 8);
	assert_int_equal(buffer.len, 8000);
	assert_int_equal(buffer.data[2999], '7');
	assert_int_equal(buffer.data[7999], '8');
	assert_int_equal(buffer.data[8000], '\0');
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text_stays_text),
		cmocka_unit_test(test_print_makes_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
