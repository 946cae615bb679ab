/* SPDX-License-Identifier: Apache-2.0 */
/* Which ports of the node take the place of a client's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "agent/uplink/uplink_internal.h"
#include "lib/auto.h"

#include <cmocka.h> /* last: its fail() is a macro */

static void test_ports_avoid_what_others_use(void **state)
{
	static const struct {
		struct port_range local, node_ports, want;
	} cases[] = {
		{ { 32768, 60999 }, {}, { 16384, 29999 } },
		{ { 32768, 60999 }, { 30000, 32767 }, { 16384, 29999 } },
		{ { 1024, 65535 }, {}, {} },
		{ { 1024, 29999 }, {}, { 32768, 65535 } },
		{ { 10000, 40000 }, { 30000, 32767 }, { 40001, 65535 } },
		{ { 32768, 65535 }, { 20000, 22767 }, { 22768, 29999 } },
		{ { 16384, 16384 }, { 65535, 65535 }, { 32768, 65534 } },
		{ { 20000, 50000 }, { 16384, 19999 }, { 50001, 65535 } },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct port_range got = snat_ports(cases[i].local, cases[i].node_ports);

		assert_int_equal(got.min, cases[i].want.min);
		assert_int_equal(got.max, cases[i].want.max);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_ports_avoid_what_others_use) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
