/* SPDX-License-Identifier: Apache-2.0 */
/* Names, label keys and values: Kubernetes' rules at their edges. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "lib/auto.h"
#include "policy/objects/name.h"

#include <cmocka.h>

#define X10  "xxxxxxxxxx"
#define X60  X10 X10 X10 X10 X10 X10
#define X63  X60 "xxx"
#define X250 X60 X60 X60 X60 X10

static void test_names(void **state)
{
	static const struct {
		const char *(*check)(const char *text);
		const char *good[6];
		const char *bad[10];
	} cases[] = {
		{ name_check_dns_label,
		  { "a", "a-b", "0", X63 },
		  { "", "-a", "a-", "A", "a.b", "a_b", X63 "x" } },
		{ name_check_dns_subdomain,
		  { "a", "a.b-c.0", X250 "xxx" },
		  { "", ".a", "a.", "a..b", "a.-b", "A", "a_b", X250 "xxxx" } },
		{ name_check_pod,
		  { "a", "My_pod.1", X250 "xxx" },
		  { "", "_a", "a_", "a b", "a/b", "a\n", X250 "xxxx" } },
		{ name_check_port,
		  { "http", "a-1", "0a", "abcdefghijklmno" },
		  { "", "80", "-a", "a-", "a--b", "HTTP", "a_b", "abcdefghijklmnop" } },
		{ name_check_label_key,
		  { "app", "App_1.x", "example.com/app", X63, X250 "/x" },
		  { "", "/a", "a/", "a/b/c", "-a", "a b", "Ex.com/a", X63 "x", X250 "xxxx/a" } },
		{ name_check_label_value,
		  { "", "a", "A_b.c-1", X63 },
		  { "-", "a-", ".a", "a b", "a/b", X63 "x" } },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		for (size_t n = 0; n < ARRAY_SIZE(cases[i].good) && cases[i].good[n]; n++) {
			if (cases[i].check(cases[i].good[n]))
				fail_msg("row %zu refuses \"%s\"", i, cases[i].good[n]);
		}
		for (size_t n = 0; n < ARRAY_SIZE(cases[i].bad) && cases[i].bad[n]; n++) {
			if (!cases[i].check(cases[i].bad[n]))
				fail_msg("row %zu takes \"%s\"", i, cases[i].bad[n]);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
