/* SPDX-License-Identifier: Apache-2.0 */
/* Sets of ports: the normal form, held against every single port. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/objects/ports.h"

#include <cmocka.h>

static struct port_rule rule(uint8_t proto, uint16_t min, uint16_t max)
{
	return (struct port_rule){
		.port_min = min, .port_max = max, .proto = proto, .verdict = VERDICT_ALLOW
	};
}

static void test_neighbours_and_overlaps_merge(void **state)
{
	struct port_rule rules[] = {
		rule(6, 82, 90),  rule(17, 80, 80),      rule(6, 80, 81),
		rule(6, 85, 86),  rule(6, 92, 92),       rule(17, 0, 65535),
		rule(17, 53, 53), rule(6, 65535, 65535), rule(6, 65534, 65534)
	};
	size_t count = ports_normalize(rules, ARRAY_SIZE(rules));

	(void)state;
	assert_int_equal(count, 4);
	assert_true(rules[0].port_min == 80 && rules[0].port_max == 90);
	assert_true(rules[1].port_min == 92 && rules[1].port_max == 92);
	assert_true(rules[2].port_min == 65534 && rules[2].port_max == 65535);
	assert_true(rules[3].proto == 17 && rules[3].port_min == 0 && rules[3].port_max == 65535);
	assert_int_equal(ports_normalize(NULL, 0), 0);
}

static void test_any_protocol_swallows_all(void **state)
{
	struct port_rule rules[] = { rule(6, 80, 80), rule(0, 0, 65535), rule(17, 1, 1) };

	(void)state;
	assert_int_equal(ports_normalize(rules, ARRAY_SIZE(rules)), 1);
	assert_int_equal(rules[0].proto, 0);
}

static bool covers(const struct port_rule *rules, size_t count, uint8_t proto, uint32_t port)
{
	for (size_t i = 0; i < count; i++) {
		if (rules[i].proto == proto && rules[i].port_min <= port &&
		    port <= rules[i].port_max)
			return true;
	}
	return false;
}

static void test_normal_form_means_the_same_ports(void **state)
{
	uint32_t seed = 7;

	(void)state;
	for (int round = 0; round < 300; round++) {
		struct port_rule before[12];
		struct port_rule after[12];
		size_t count = 1 + (size_t)round % 12;
		size_t kept;

		for (size_t i = 0; i < count; i++) {
			seed = seed * 1664525 + 1013904223;
			before[i] = rule(seed >> 31 ? 6 : 17, (uint16_t)(seed >> 8 & 63), 0);
			before[i].port_max = (uint16_t)(before[i].port_min + (seed >> 20 & 7));
		}
		memcpy(after, before, sizeof(after));
		kept = ports_normalize(after, count);
		for (uint32_t port = 0; port < 80; port++) {
			assert_int_equal(covers(before, count, 6, port),
					 covers(after, kept, 6, port));
			assert_int_equal(covers(before, count, 17, port),
					 covers(after, kept, 17, port));
		}
		for (size_t i = 1; i < kept; i++)
			assert_true(after[i - 1].proto < after[i].proto ||
				    after[i - 1].port_max + 1 < after[i].port_min);
	}
}

static void test_port_entries_and_names(void **state)
{
	struct named_port ports[] = { { (char *)"dns", 53, 17 },
				      { (char *)"dns", 5353, 6 },
				      { (char *)"dns", 54, 17 } };
	struct policy_port whole = { .proto = 6 };
	struct policy_port named = { .proto = 6, .name = (char *)"dns" };
	struct port_list list = { 0 };

	(void)state;
	assert_int_equal(named_port_find(ports, 3, 17, "dns"), 53);
	assert_int_equal(named_port_find(ports, 3, 6, "dns"), 5353);
	assert_int_equal(named_port_find(ports, 3, 132, "dns"), 0);
	assert_int_equal(named_port_find(ports, 3, 6, "http"), 0);
	port_list_add_policy_port(&list, &named);
	assert_int_equal(list.count, 0);
	port_list_add_policy_port(&list, &whole);
	assert_true(list.count == 1 && list.items[0].port_min == 0 &&
		    list.items[0].port_max == 65535);
	port_list_done(&list);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_neighbours_and_overlaps_merge),
		cmocka_unit_test(test_any_protocol_swallows_all),
		cmocka_unit_test(test_normal_form_means_the_same_ports),
		cmocka_unit_test(test_port_entries_and_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
