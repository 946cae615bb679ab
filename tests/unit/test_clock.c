/* SPDX-License-Identifier: Apache-2.0 */
/* Times as text, and back. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include "lib/auto.h"
#include "lib/clock.h"

#include <cmocka.h>

static void a_time_is_read_as_it_is_written(void **state)
{
	static const struct {
		const char *text;
		int64_t real_ns;
	} cases[] = {
		{ "1970-01-01T00:00:00.000000Z", 0 },
		{ "2026-11-28T16:02:56.000123Z", 1795881776000123000 },
		{ "2038-01-19T03:14:08.999999Z", 2147483648999999000 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char text[CLOCK_TEXT_MAX];
		int64_t real_ns;

		assert_int_equal(clock_parse(cases[i].text, &real_ns), 0);
		assert_int_equal(real_ns, cases[i].real_ns);
		assert_string_equal(clock_format(real_ns, text), cases[i].text);
	}
}

static void what_is_no_time_is_refused(void **state)
{
	static const char *const cases[] = { "",
					     "x",
					     "2026-11-28",
					     "2026-11-28T16:02:56",
					     "2026-11-28T16:02:56Z",
					     "2026-11-28T16:02:56.000123",
					     "2026-11-28T16:02:56.000123+" };
	int64_t real_ns = 7;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(clock_parse(cases[i], &real_ns), -EINVAL);
	assert_int_equal(real_ns, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_time_is_read_as_it_is_written),
		cmocka_unit_test(what_is_no_time_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
