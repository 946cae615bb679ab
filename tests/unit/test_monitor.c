/* SPDX-License-Identifier: Apache-2.0 */
/* What a watcher may ask for, and when a map is full enough to be told. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include "agent/monitor/gc.h"
#include "agent/monitor/monitor.h"
#include "lib/auto.h"

#include <cmocka.h> /* last: its fail() is a macro, ours a function */

#define DROPS    (1u << EVENT_DROP)
#define VERDICTS (1u << EVENT_VERDICT)
#define AUDITS   (1u << EVENT_AUDIT)
#define KERNEL   (1u << EVENT_KERNEL_DROP)

static void event_types_are_a_list_of_known_names(void **state)
{
	static const struct {
		const char *text;
		unsigned int types; /* 0: refused */
	} cases[] = {
		{ "", DROPS | VERDICTS | AUDITS },
		{ "drop", DROPS },
		{ "verdict", VERDICTS },
		{ "drop,verdict", DROPS | VERDICTS },
		{ "drop,drop", DROPS },
		{ "audit", AUDITS },
		{ "kernel", KERNEL },
		{ "drop,kernel", DROPS | KERNEL },
		{ "drops", 0 },
		{ "dro", 0 },
		{ "drop,,verdict", 0 },
		{ "drop verdict", 0 },
		{ ",", 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		unsigned int types = 0;
		int error = monitor_types_parse(cases[i].text, &types);

		if (types != cases[i].types || error != (cases[i].types ? 0 : -EINVAL))
			fail_msg("\"%s\": %d, types %#x", cases[i].text, error, types);
	}
}

static void pressure_is_told_at_80_and_95_per_cent(void **state)
{
	char text[GC_TEXT_MAX];

	(void)state;
	assert_int_equal(gc_map_pressure(MAP_CT, 0, 1000, text), 0);
	assert_int_equal(gc_map_pressure(MAP_CT, 799, 1000, text), 0);
	assert_int_equal(gc_map_pressure(MAP_CT, 800, 1000, text), 80);
	assert_string_equal(text, "ct_map is 80 % full: 800 of 1000");
	assert_int_equal(gc_map_pressure(MAP_CT, 949, 1000, text), 80);
	assert_int_equal(gc_map_pressure(MAP_CT, 950, 1000, text), 95);
	assert_int_equal(gc_map_pressure(MAP_CT, 4000000000u, 4000000000u, text), 95);
	assert_int_equal(gc_map_pressure(MAP_CT, 0, 0, text), 0);
}

static void a_map_that_grows_has_a_time_when_it_is_full(void **state)
{
	(void)state;
	assert_int_equal(gc_map_forecast(100, 200, 1000, 60), 481); /* 100 a minute, 800 are left */
	assert_int_equal(gc_map_forecast(0, 999, 1000, 60), 1);
	assert_int_equal(gc_map_forecast(200, 200, 1000, 60), 0);
	assert_int_equal(gc_map_forecast(200, 100, 1000, 60), 0);
	assert_int_equal(gc_map_forecast(0, 1000, 1000, 60), 0); /* it is */
	assert_int_equal(gc_map_forecast(0, 500, 1000, 0), 0);   /* the first count */
	assert_int_equal(gc_map_forecast(0, 1, UINT32_MAX, 60), 60ULL * (UINT32_MAX - 1) + 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(event_types_are_a_list_of_known_names),
		cmocka_unit_test(pressure_is_told_at_80_and_95_per_cent),
		cmocka_unit_test(a_map_that_grows_has_a_time_when_it_is_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
