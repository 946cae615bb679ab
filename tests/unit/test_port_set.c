/* SPDX-License-Identifier: Apache-2.0 */
/* Port sets: ranges of ports as the prefixes of port_map. */
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include "agent/sync/port_set.h"
#include "lib/auto.h"

#include <cmocka.h>

static void test_port_ranges_become_prefixes(void **state)
{
	static const struct port_rule rules[] = {
		{ 0, 65535, IPPROTO_UDP, VERDICT_ALLOW },
		{ 1, 65534, IPPROTO_TCP, VERDICT_ALLOW },
		{ 80, 80, IPPROTO_SCTP, VERDICT_ALLOW },
		{ 0, 0, 0, VERDICT_ALLOW },
	};
	size_t count, tcp = 0;
	auto_free struct port_prefix *prefixes =
		port_prefixes_make(rules, ARRAY_SIZE(rules), &count);

	(void)state;
	assert_int_equal(count, 1 + 30 + 1 + 1);
	for (unsigned int port = 0; port <= 65535; port++) {
		for (size_t i = 0; i < count; i++) {
			unsigned int mask = prefixes[i].len ? 0xffffU << (16 - prefixes[i].len) : 0;

			if (prefixes[i].proto == IPPROTO_TCP &&
			    (port & mask & 0xffff) == prefixes[i].port)
				tcp++;
		}
	}
	assert_int_equal(tcp, 65534); /* each port once, 0 and 65535 not */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_port_ranges_become_prefixes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
