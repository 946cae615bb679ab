/* SPDX-License-Identifier: Apache-2.0 */
/* Precedence flattened into port rules, held against asking the rules one after the other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/auto.h"
#include "policy/compiler/layer.h"

#include <cmocka.h> /* last: it makes fail a macro */

#define TCP   6
#define UDP   17
#define SCTP  132
#define ICMP  1
#define TIERS 3

static struct port_rule ports(uint8_t proto, uint16_t min, uint16_t max)
{
	return (struct port_rule){
		.port_min = min, .port_max = max, .proto = proto, .verdict = VERDICT_ALLOW
	};
}

static bool rule_matches(const struct port_rule *rule, uint8_t proto, uint16_t port)
{
	return rule->proto == 0 ||
	       (rule->proto == proto && rule->port_min <= port && port <= rule->port_max);
}

/* What the datapath does with the rules of an entry. */
static enum verdict ask_flat(const struct port_list *list, uint8_t proto, uint16_t port)
{
	for (size_t i = 0; i < list->count; i++) {
		if (rule_matches(&list->items[i], proto, port))
			return (enum verdict)list->items[i].verdict;
	}
	return VERDICT_DENY;
}

/* The same, as port_map has it: the packet's own protocol, then any protocol. */
static enum verdict ask_by_protocol(const struct port_list *list, uint8_t proto, uint16_t port)
{
	enum verdict verdict = VERDICT_DENY;

	for (size_t i = 0; i < list->count; i++) {
		if (list->items[i].proto == 0)
			verdict = (enum verdict)list->items[i].verdict;
	}
	for (size_t i = 0; i < list->count; i++) {
		if (list->items[i].proto != 0 && rule_matches(&list->items[i], proto, port))
			verdict = (enum verdict)list->items[i].verdict;
	}
	return verdict;
}

static bool layer_matches(const struct layer *layer, uint8_t proto, uint16_t port)
{
	for (size_t i = 0; i < layer->count; i++) {
		if (rule_matches(&layer->ports[i], proto, port))
			return true;
	}
	return false;
}

/* From layer i of tier t on. */
static enum verdict ask_layers(const struct layer_tier *tiers, size_t t, size_t i, uint8_t proto,
			       uint16_t port)
{
	const struct layer *layer;
	enum verdict verdict;

	if (t == TIERS)
		return VERDICT_ALLOW;
	if (i == tiers[t].count)
		return ask_layers(tiers, t + 1, 0, proto, port);
	layer = &tiers[t].layers[i];
	if (!layer_matches(layer, proto, port))
		return ask_layers(tiers, t, i + 1, proto, port);
	if (layer->action == ACTION_PASS)
		verdict = ask_layers(tiers, t + 1, 0, proto, port);
	else
		verdict = layer->action == ACTION_ACCEPT ? VERDICT_ALLOW : VERDICT_DENY;
	if (layer->in_doubt && verdict == VERDICT_ALLOW)
		return ask_layers(tiers, t, i + 1, proto, port);
	return verdict;
}

static void assert_normal(const struct port_list *list)
{
	bool common_allow = list->count > 0 && list->items[list->count - 1].proto == 0;

	for (size_t i = 0; i < list->count; i++) {
		const struct port_rule *rule = &list->items[i];
		const struct port_rule *last = i ? &list->items[i - 1] : NULL;

		assert_true(rule->port_min <= rule->port_max);
		if (rule->proto == 0) {
			assert_int_equal(i, list->count - 1);
			assert_int_equal(rule->verdict, VERDICT_ALLOW);
			continue;
		}
		/* Else it would say what holds for every protocol anyway. */
		assert_int_equal(rule->verdict, common_allow ? VERDICT_DENY : VERDICT_ALLOW);
		if (last && last->proto == rule->proto)
			assert_true(rule->port_min > last->port_max + 1);
		else if (last)
			assert_true(rule->proto > last->proto);
	}
}

static void check(const struct layer_tier *tiers)
{
	static const uint8_t protos[] = { TCP, UDP, SCTP, ICMP };
	static const uint16_t others[] = { 100, 1000, 65534, 65535 };
	struct port_list list = { 0 };

	layers_flatten(tiers, TIERS, &list);
	assert_normal(&list);
	for (size_t p = 0; p < ARRAY_SIZE(protos); p++) {
		for (size_t i = 0; i < 50 + ARRAY_SIZE(others); i++) {
			uint16_t port = i < 50 ? (uint16_t)i : others[i - 50];
			enum verdict want = ask_layers(tiers, 0, 0, protos[p], port);

			if (ask_flat(&list, protos[p], port) != want ||
			    ask_by_protocol(&list, protos[p], port) != want)
				fail_msg("protocol %u port %u: should be %s", protos[p], port,
					 want == VERDICT_ALLOW ? "allowed" : "denied");
		}
	}
	port_list_done(&list);
}

static void test_nothing_said_is_allowed(void **state)
{
	const struct layer_tier tiers[TIERS] = { { 0 } };
	struct port_list list = { 0 };

	(void)state;
	layers_flatten(tiers, TIERS, &list);
	assert_int_equal(list.count, 1);
	assert_int_equal(list.items[0].proto, 0);
	assert_int_equal(list.items[0].verdict, VERDICT_ALLOW);
	port_list_done(&list);
}

static void test_everything_denied_is_no_rule_at_all(void **state)
{
	const struct port_rule all = ports(0, 0, 65535);
	const struct layer deny = { ACTION_DENY, &all, 1, false };
	const struct layer_tier tiers[TIERS] = { { &deny, 1 } };
	struct port_list list = { 0 };

	(void)state;
	layers_flatten(tiers, TIERS, &list);
	assert_int_equal(list.count, 0);
	port_list_done(&list);
}

static void test_denied_port_stands_before_what_holds_for_every_protocol(void **state)
{
	const struct port_rule ssh = ports(TCP, 22, 22);
	const struct layer deny = { ACTION_DENY, &ssh, 1, false };
	const struct layer_tier tiers[TIERS] = { { &deny, 1 } };
	struct port_list list = { 0 };

	(void)state;
	layers_flatten(tiers, TIERS, &list);
	assert_int_equal(list.count, 2);
	assert_true(list.items[0].proto == TCP && list.items[0].port_min == 22 &&
		    list.items[0].port_max == 22 && list.items[0].verdict == VERDICT_DENY);
	assert_true(list.items[1].proto == 0 && list.items[1].verdict == VERDICT_ALLOW);
	port_list_done(&list);
}

static void test_every_port_from_first_to_last(void **state)
{
	const struct port_rule whole = ports(TCP, 0, 65535);
	const struct port_rule ends[] = { ports(TCP, 0, 0), ports(TCP, 65535, 65535) };
	const struct layer layers[] = { { ACTION_ACCEPT, ends, 2, false },
					{ ACTION_DENY, &whole, 1, false } };
	const struct layer_tier tiers[TIERS] = { { 0 }, { layers, 2 } };

	(void)state;
	check(tiers);
}

static uint32_t seed;

static uint32_t below(uint32_t limit)
{
	seed = seed * 1664525 + 1013904223;
	return (seed >> 8) % limit;
}

static struct port_rule random_ports(void)
{
	static const uint8_t protos[] = { 0, TCP, TCP, TCP, UDP, SCTP };
	uint8_t proto = protos[below(ARRAY_SIZE(protos))];
	uint16_t min = (uint16_t)(below(8) ? below(40) : 65500 + below(36));
	uint16_t max = (uint16_t)(below(8) ? min + below(6) : 65535);

	if (proto == 0 || below(10) == 0)
		return ports(proto, 0, 65535);
	return ports(proto, min, max < min ? 65535 : max);
}

static void test_first_match_decides_for_every_port(void **state)
{
	(void)state;
	for (seed = 1; seed < 3000; seed++) {
		uint32_t repeat = seed;
		struct port_rule rules[TIERS][4][3];
		struct layer layers[TIERS][4];
		struct layer_tier tiers[TIERS];

		for (size_t t = 0; t < TIERS; t++) {
			tiers[t] = (struct layer_tier){ layers[t], below(5) };
			for (size_t i = 0; i < tiers[t].count; i++) {
				layers[t][i] = (struct layer){ (enum policy_action)below(3),
							       rules[t][i], 1 + below(3), false };
				layers[t][i].in_doubt =
					layers[t][i].action != ACTION_ACCEPT && below(4) == 0;
				for (size_t p = 0; p < layers[t][i].count; p++)
					rules[t][i][p] = random_ports();
			}
		}
		check(tiers);
		seed = repeat;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_said_is_allowed),
		cmocka_unit_test(test_everything_denied_is_no_rule_at_all),
		cmocka_unit_test(test_denied_port_stands_before_what_holds_for_every_protocol),
		cmocka_unit_test(test_every_port_from_first_to_last),
		cmocka_unit_test(test_first_match_decides_for_every_port),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
