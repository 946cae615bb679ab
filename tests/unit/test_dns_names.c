/* SPDX-License-Identifier: Apache-2.0 */
/* What pods asked DNS for: which name an address has, for how long, and what one pod can fill. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "agent/flow/dns_names.h"
#include "lib/dns.h"
#include "lib/inet.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define S 1000000000ULL

static struct dns_names *names;

static int setup(void **state)
{
	(void)state;
	names = dns_names_new();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	dns_names_free(names);
	return 0;
}

static void learn(uint64_t pod, uint64_t time_ns, const char *name, const char *addr,
		  uint32_t ttl_s)
{
	struct dns_answer answer = { .count = 1, .ttl_s = ttl_s };

	snprintf(answer.name, sizeof(answer.name), "%s", name);
	assert_int_equal(addr_parse(addr, &answer.addrs[0]), 0);
	dns_names_learn(names, pod, time_ns, &answer);
}

/* "" if there is none. */
static const char *name_of(uint64_t pod, const char *text, uint64_t since_ns)
{
	static char name[DNS_NAME_MAX];
	struct addr addr;
	uint16_t number;

	assert_int_equal(addr_parse(text, &addr), 0);
	number = dns_names_find(names, pod, &addr, since_ns);
	snprintf(name, sizeof(name), "%s", number ? dns_names_text(names, number) : "");
	dns_names_drop(names, number);
	return name;
}

static void test_the_name_that_was_asked_for_last(void **state)
{
	(void)state;
	learn(1, 1 * S, "long.org", "192.0.2.1", 3600);
	learn(1, 2 * S, "short.org", "192.0.2.1", 60);
	assert_string_equal(name_of(1, "192.0.2.1", 3 * S), "short.org");
	assert_string_equal(name_of(1, "192.0.2.1", 100 * S), "long.org");
	learn(1, 101 * S, "b.org", "192.0.2.1", 60);
	learn(1, 101 * S, "a.org", "192.0.2.1", 60); /* in the same tick of the clock */
	assert_string_equal(name_of(1, "192.0.2.1", 102 * S), "a.org");
	assert_string_equal(name_of(2, "192.0.2.1", 102 * S), "");
	assert_string_equal(name_of(1, "192.0.2.1", 9999 * S), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_the_name_that_was_asked_for_last, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
