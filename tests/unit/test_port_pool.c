/* SPDX-License-Identifier: Apache-2.0 */
/* The algebra of port sets, held against every single port. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/analysis/port_pool.h"

#include <cmocka.h>

#define ALLOW VERDICT_ALLOW
#define DENY  VERDICT_DENY

static const uint8_t protocols[] = { 6, 17, 132, 1 };

static struct arena *arena;
static struct port_pool pool;

static int set_up(void **state)
{
	(void)state;
	arena = arena_new();
	port_pool_init(&pool, arena);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	port_pool_done(&pool);
	arena_free(arena);
	return 0;
}

static const char *text_of(uint32_t set)
{
	static char copy[200];
	struct buffer text = { 0 };

	ports_text(&pool, set, &text);
	snprintf(copy, sizeof(copy), "%s", text.data);
	buffer_done(&text);
	return copy;
}

static uint32_t rules_of(const struct port_rule *rules, size_t count)
{
	return ports_of_rules(&pool, rules, count);
}

static void test_text(void **state)
{
	const struct port_rule web[] = { { 80, 80, 6, ALLOW },
					 { 8000, 8099, 6, ALLOW },
					 { 53, 53, 17, ALLOW },
					 { 0, 65535, 132, ALLOW } };
	uint32_t set = rules_of(web, ARRAY_SIZE(web));

	(void)state;
	assert_string_equal(text_of(set), "80/TCP, 8000-8099/TCP, 53/UDP, all SCTP");
	assert_string_equal(text_of(PORTS_ALL), "all ports");
	assert_string_equal(text_of(PORTS_NONE), "nothing");
	assert_string_equal(text_of(ports_without(&pool, PORTS_ALL, set)),
			    "all ports but 80/TCP, 8000-8099/TCP, 53/UDP, all SCTP");
}

static void test_the_same_ports_are_the_same_number(void **state)
{
	const struct port_rule halves[] = { { 1, 32767, 6, ALLOW }, { 32768, 65535, 6, ALLOW } };
	const struct port_rule whole[] = { { 0, 65535, 6, ALLOW } };
	const struct port_rule any[] = { { 0, 65535, 0, ALLOW } };

	(void)state;
	assert_int_equal(rules_of(halves, 2), rules_of(whole, 1));
	assert_int_equal(rules_of(any, 1), PORTS_ALL);
	assert_int_equal(rules_of(NULL, 0), PORTS_NONE);
	assert_int_equal(ports_of_range(&pool, 6, 0, 65535), rules_of(whole, 1));
}

static void test_the_first_rule_that_matches_decides(void **state)
{
	const struct port_rule rules[] = { { 80, 89, 6, DENY },
					   { 85, 99, 6, ALLOW },
					   { 0, 65535, 17, DENY },
					   { 0, 65535, 0, ALLOW } };

	(void)state;
	assert_string_equal(text_of(rules_of(rules, 2)), "90-99/TCP");
	assert_string_equal(text_of(rules_of(rules, 4)), "all ports but 80-89/TCP, all UDP");
}

static struct port_rule random_rule(void)
{
	static const int borders[] = { 1, 2, 52, 53, 54, 79, 80, 81, 65534, 65535 };
	uint16_t min = (uint16_t)borders[rand() % 10];
	uint16_t max = (uint16_t)borders[rand() % 10];

	return (struct port_rule){ .port_min = min < max ? min : max,
				   .port_max = min < max ? max : min,
				   .proto = rand() % 20 ? protocols[rand() % 3] : 0,
				   .verdict = rand() % 4 ? ALLOW : DENY };
}

static bool rules_allow(const struct port_rule *rules, size_t count, uint8_t proto, uint16_t port)
{
	for (size_t i = 0; i < count; i++) {
		if (rules[i].proto == 0 || (rules[i].proto == proto && rules[i].port_min <= port &&
					    port <= rules[i].port_max))
			return rules[i].verdict == ALLOW;
	}
	return false;
}

static void test_every_port_of_random_sets(void **state)
{
	(void)state;
	srand(7);
	for (int run = 0; run < 60; run++) {
		struct port_rule left[6], right[6];
		size_t left_count = (size_t)rand() % 6, right_count = (size_t)rand() % 6;
		uint32_t a, b, both, either, without;

		for (size_t i = 0; i < 6; i++) {
			left[i] = random_rule();
			right[i] = random_rule();
		}
		a = rules_of(left, left_count);
		b = rules_of(right, right_count);
		both = ports_both(&pool, a, b);
		either = ports_either(&pool, a, b);
		without = ports_without(&pool, a, b);
		for (size_t p = 0; p < ARRAY_SIZE(protocols); p++) {
			for (uint32_t port = 1; port <= 65535; port += port == 100 ? 65400 : 1) {
				uint8_t proto = protocols[p];
				bool in_a = rules_allow(left, left_count, proto, (uint16_t)port);
				bool in_b = rules_allow(right, right_count, proto, (uint16_t)port);

				if (proto == 1) /* no rule names it, and it has no ports */
					port = 65535;
				assert_int_equal(ports_hold(&pool, a, proto, (uint16_t)port), in_a);
				assert_int_equal(ports_hold(&pool, both, proto, (uint16_t)port),
						 in_a && in_b);
				assert_int_equal(ports_hold(&pool, either, proto, (uint16_t)port),
						 in_a || in_b);
				assert_int_equal(ports_hold(&pool, without, proto, (uint16_t)port),
						 in_a && !in_b);
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_text, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_the_same_ports_are_the_same_number, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(test_the_first_rule_that_matches_decides, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(test_every_port_of_random_sets, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
