/* SPDX-License-Identifier: Apache-2.0 */
/* What the compiled tables promise beside their verdicts (test_verdict.c): few entries, numbers
 * that stay, and whose policy they hold. */
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/auto.h"
#include "policy/compiler/verdict.h"
#include "unit/stores.h"

#include <cmocka.h> /* last: it makes fail a macro */

static const struct compiled_subject *subject_of(const struct compiled *compiled, const char *name)
{
	for (size_t i = 0; i < compiled->subject_count; i++) {
		const struct object *pod = compiled->subjects[i].pod;

		if (pod && strcmp(pod->name, name) == 0)
			return &compiled->subjects[i];
	}
	fail_msg("%s is no subject", name);
	return NULL;
}

static size_t entries_of(const struct compiled *compiled, uint32_t policy_id)
{
	size_t count = 0;

	for (size_t i = 0; i < compiled->entry_count; i++)
		count += compiled->entries[i].key.policy_id == policy_id;
	return count;
}

static const char peers_policy[] =
	POLICY("p", "shop",
	       "podSelector: {matchLabels: {app: cart}}, ingress: [{from: [{podSelector: "
	       "{matchLabels: {app: web}}}], ports: [{port: 80}, {port: 81}]}, {ports: [{port: "
	       "443}]}]");

static void test_entry_of_a_peer_holds_what_everyone_may_as_well(void **state)
{
	struct store *store = store_of(two_namespaces, peers_policy);
	struct compiled *compiled = store_compile(store);
	const struct compiled_subject *cart = subject_of(compiled, "cart");
	const struct compiled_subject *web = subject_of(compiled, "web");
	const struct compiled_entry *entry = NULL;

	(void)state;
	assert_int_equal(entries_of(compiled, cart->policy_id), 2);
	for (size_t i = 0; i < compiled->entry_count; i++) {
		if (compiled->entries[i].key.peer == web->identity)
			entry = &compiled->entries[i];
	}
	assert_non_null(entry);
	assert_int_equal(entry->rule_count, 2);
	assert_int_equal(entry->rules[0].port_min, 80);
	assert_int_equal(entry->rules[0].port_max, 81);
	assert_int_equal(entry->rules[1].port_min, 443);
	assert_int_equal(web->policy_id, 0);
	compiled_free(compiled);
	store_free(store);
}

static void test_peer_that_adds_nothing_has_no_entry(void **state)
{
	struct store *store = store_of(
		two_namespaces,
		POLICY("p", "shop",
		       "podSelector: {matchLabels: {app: cart}}, ingress: [{ports: [{port: 80, "
		       "endPort: 90}]}, {from: [{podSelector: {}}], ports: [{port: 85}]}]"));
	struct compiled *compiled = store_compile(store);

	(void)state;
	assert_int_equal(compiled->entry_count, 1);
	assert_int_equal(compiled->entries[0].key.peer, IDENTITY_ANY);
	compiled_free(compiled);
	store_free(store);
}

static void test_policy_id_and_identities_stay_while_peers_come_and_go(void **state)
{
	struct store *before = store_of(two_namespaces, peers_policy);
	struct store *after = store_of(
		two_namespaces,
		POLICY("other", "bank",
		       "podSelector: {}, ingress: [{from: [{ipBlock: "
		       "{cidr: 8.8.8.0/24}}]}]") "---\n{apiVersion: v1, kind: Pod, metadata: "
						 "{name: another, namespace: shop, "
						 "labels: {app: web, extra: label}}, status: "
						 "{podIP: 10.0.0.9}}\n");
	struct compiled *first;
	struct compiled *second;

	(void)state;
	store_add(after, peers_policy);
	first = store_compile(before);
	second = store_compile(after);
	assert_int_equal(subject_of(first, "cart")->policy_id,
			 subject_of(second, "cart")->policy_id);
	assert_int_equal(subject_of(first, "web")->identity, subject_of(second, "web")->identity);
	/* A label that no policy reads does not make another identity. */
	assert_int_equal(subject_of(second, "another")->identity,
			 subject_of(second, "web")->identity);
	compiled_free(first);
	compiled_free(second);
	store_free(before);
	store_free(after);
}

static void test_changed_rules_get_a_new_policy_id_and_equal_rules_share_one(void **state)
{
	struct store *store = store_of(
		two_namespaces,
		POLICY("a", "shop",
		       "podSelector: {matchLabels: {app: cart}}, ingress: [{ports: "
		       "[{port: 80}]}]") POLICY("b", "shop",
						"podSelector: {matchLabels: {app: web}}, ingress: "
						"[{ports: [{port: 80}]}]")
			POLICY("c", "shop",
			       "podSelector: {matchLabels: {app: db}}, "
			       "ingress: [{ports: [{port: 81}]}]"));
	struct compiled *compiled = store_compile(store);

	(void)state;
	assert_int_equal(subject_of(compiled, "cart")->policy_id,
			 subject_of(compiled, "web")->policy_id);
	assert_int_not_equal(subject_of(compiled, "cart")->policy_id,
			     subject_of(compiled, "db")->policy_id);
	assert_int_equal(compiled->entry_count, 2);
	compiled_free(compiled);
	store_free(store);
}

static void test_same_store_gives_the_same_tables(void **state)
{
	struct store *store = store_of(two_namespaces, peers_policy);
	struct compiled *first = store_compile(store);
	struct compiled *second = store_compile(store);

	(void)state;
	assert_int_equal(first->entry_count, second->entry_count);
	for (size_t i = 0; i < first->entry_count; i++) {
		assert_memory_equal(&first->entries[i].key, &second->entries[i].key,
				    sizeof(struct policy_key));
		assert_int_equal(first->entries[i].rule_count, second->entries[i].rule_count);
		assert_memory_equal(first->entries[i].rules, second->entries[i].rules,
				    first->entries[i].rule_count * sizeof(struct port_rule));
	}
	assert_int_equal(first->identity_count, second->identity_count);
	for (size_t i = 0; i < first->identity_count; i++) {
		assert_int_equal(first->identities[i].id, second->identities[i].id);
		assert_string_equal(first->identities[i].description,
				    second->identities[i].description);
	}
	compiled_free(first);
	compiled_free(second);
	store_free(store);
}

static void test_identities_say_what_they_stand_for(void **state)
{
	struct store *store = store_of(
		two_namespaces,
		POLICY("p", "shop",
		       "podSelector: {matchLabels: {app: cart}}, ingress: [{from: [{ipBlock: "
		       "{cidr: 10.0.0.0/30}}]}]"));
	struct compiled *compiled = store_compile(store);
	const struct compiled_subject *web = subject_of(compiled, "web");
	const struct compiled_identity *v4 = compiled_identity_find(compiled, web->identity);
	const struct compiled_identity *v6 = compiled_identity_find(compiled, web->identity_v6);

	(void)state;
	assert_non_null(v4);
	assert_non_null(v6);
	assert_string_equal(v4->description, "shop/app=web in 10.0.0.0/30");
	assert_string_equal(v6->description, "shop/app=web");
	assert_string_equal(v4->namespace, "shop");
	assert_string_equal(compiled_identity_find(compiled, IDENTITY_WORLD)->description, "world");
	assert_null(compiled_identity_find(compiled, 3));
	compiled_free(compiled);
	store_free(store);
}

static void test_store_with_endpoints_enforces_only_those(void **state)
{
	struct store *store = store_of(two_namespaces, POLICY("p", "shop", "podSelector: {}"));
	struct label label = { .key = (char *)"app", .value = (char *)"solo" };
	struct store_endpoint endpoint = {
		.slot = 7, .namespace = (char *)"shop", .name = (char *)"cart", .address_count = 1
	};
	struct store_endpoint bare = { .slot = 9,
				       .namespace = (char *)"shop",
				       .name = (char *)"bare",
				       .labels = { .items = &label, .count = 1 },
				       .address_count = 1 };
	struct compiled *compiled;

	(void)state;
	/* The endpoint's address wins over what its Pod object still says. */
	assert_int_equal(addr_parse("10.0.0.42", &endpoint.addresses[0]), 0);
	assert_int_equal(addr_parse("10.0.0.43", &bare.addresses[0]), 0);
	store_endpoint_set(store, &endpoint);
	store_endpoint_set(store, &bare);
	compiled = store_compile(store);
	assert_int_equal(compiled->subject_count, 2);
	assert_int_equal(compiled->subjects[0].slot, 7);
	assert_string_equal(compiled->subjects[0].pod->name, "cart");
	assert_null(compiled->subjects[1].pod);
	assert_true(compiled->subjects[1].ingress_isolated);
	assert_int_equal(verdict_identity(compiled, &endpoint.addresses[0]),
			 compiled->subjects[0].identity);
	for (size_t i = 0; i < compiled->address_count; i++) {
		if (addr_equal(&compiled->addresses[i].addr, &endpoint.addresses[0]))
			assert_int_equal(compiled->addresses[i].slot, 7);
	}
	assert_true(addr_parse("10.0.0.2", &endpoint.addresses[0]) == 0 &&
		    verdict_identity(compiled, &endpoint.addresses[0]) == IDENTITY_WORLD);
	compiled_free(compiled);
	store_free(store);
}

static void test_nodes_store_without_endpoints_has_no_subjects(void **state)
{
	struct store *store = store_of(two_namespaces, POLICY("p", "shop", "podSelector: {}"));
	struct compiled *compiled;

	(void)state;
	store_set_local(store);
	compiled = store_compile(store);
	assert_int_equal(compiled->subject_count, 0);
	assert_int_equal(compiled->entry_count, 0);
	assert_int_equal(compiled->address_count, 10);
	compiled_free(compiled);
	store_free(store);
}

static void test_pod_of_another_uid_does_not_speak_for_an_endpoint(void **state)
{
	struct store *store = store_of(
		"--- {apiVersion: v1, kind: Pod, metadata: {name: a, namespace: shop, uid: "
		"new, labels: "
		"{app: x}, annotations: {tendril.io/accelerate: 'true'}}, status: {podIP: "
		"10.0.0.1}}\n",
		POLICY("p", "shop", "podSelector: {matchLabels: {app: x}}"));
	struct store_endpoint endpoint = {
		.slot = 1, .namespace = (char *)"shop", .name = (char *)"a", .uid = (char *)"old"
	};
	struct compiled *compiled;

	(void)state;
	store_endpoint_set(store, &endpoint);
	compiled = store_compile(store);
	assert_null(compiled->subjects[0].pod);
	assert_false(compiled->subjects[0].ingress_isolated);
	compiled_free(compiled);
	endpoint.uid = (char *)"new";
	store_endpoint_set(store, &endpoint);
	compiled = store_compile(store);
	assert_true(compiled->subjects[0].ingress_isolated);
	assert_true(compiled->subjects[0].accel);
	compiled_free(compiled);
	store_free(store);
}

static void test_terminated_endpoint_is_nobodys_peer_and_stays_isolated(void **state)
{
	struct store *store = store_of(
		"--- {apiVersion: v1, kind: Pod, metadata: {name: job, namespace: shop, labels: "
		"{app: job}}, status: {phase: Succeeded, podIP: 10.0.0.1}}\n",
		POLICY("jobs", "shop", "podSelector: {matchLabels: {app: job}}")
			POLICY("server", "shop",
			       "podSelector: {matchLabels: {app: server}}, ingress: [{from: "
			       "[{podSelector: "
			       "{}}, {ipBlock: {cidr: 'fd00::/16'}}]}]"));
	struct label label = { .key = (char *)"app", .value = (char *)"server" };
	struct store_endpoint job = {
		.slot = 1, .namespace = (char *)"shop", .name = (char *)"job", .address_count = 2
	};
	struct store_endpoint server = { .slot = 2,
					 .namespace = (char *)"shop",
					 .name = (char *)"server",
					 .labels = { .items = &label, .count = 1 },
					 .address_count = 1 };
	struct compiled *compiled;
	struct flow flow = { .proto = IPPROTO_TCP };

	(void)state;
	/* The runtime has not taken its interface away yet. */
	assert_int_equal(addr_parse("10.0.0.1", &job.addresses[0]), 0);
	assert_int_equal(addr_parse("fd00::1", &job.addresses[1]), 0);
	assert_int_equal(addr_parse("10.0.0.2", &server.addresses[0]), 0);
	store_endpoint_set(store, &job);
	store_endpoint_set(store, &server);
	compiled = store_compile(store);
	flow.saddr = job.addresses[0];
	flow.daddr = server.addresses[0];
	assert_int_equal(verdict_flow(compiled, &flow), DROP_INGRESS_DENIED);
	assert_int_equal(compiled->subjects[0].identity, IDENTITY_WORLD);
	/* Its address still lies in the block; by IPv4 that gives it nothing. */
	assert_int_not_equal(compiled->subjects[0].identity_v6, IDENTITY_WORLD);
	assert_true(compiled->subjects[0].ingress_isolated);
	compiled_free(compiled);
	store_free(store);
}

static void test_short_ipv6_prefix_brings_the_ipv4_default(void **state)
{
	struct store *store =
		store_of(two_namespaces,
			 POLICY("p", "shop",
				"podSelector: {}, ingress: [{from: [{ipBlock: {cidr: '::/0'}}]}]"));
	struct compiled *compiled = store_compile(store);
	struct addr v4;

	(void)state;
	assert_int_equal(compiled->cidr_count, 2);
	assert_int_equal(addr_parse("8.8.8.8", &v4), 0);
	assert_int_equal(verdict_identity(compiled, &v4), IDENTITY_WORLD);
	compiled_free(compiled);
	store_free(store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_entry_of_a_peer_holds_what_everyone_may_as_well),
		cmocka_unit_test(test_peer_that_adds_nothing_has_no_entry),
		cmocka_unit_test(test_policy_id_and_identities_stay_while_peers_come_and_go),
		cmocka_unit_test(test_changed_rules_get_a_new_policy_id_and_equal_rules_share_one),
		cmocka_unit_test(test_same_store_gives_the_same_tables),
		cmocka_unit_test(test_identities_say_what_they_stand_for),
		cmocka_unit_test(test_store_with_endpoints_enforces_only_those),
		cmocka_unit_test(test_nodes_store_without_endpoints_has_no_subjects),
		cmocka_unit_test(test_pod_of_another_uid_does_not_speak_for_an_endpoint),
		cmocka_unit_test(test_terminated_endpoint_is_nobodys_peer_and_stays_isolated),
		cmocka_unit_test(test_short_ipv6_prefix_brings_the_ipv4_default),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
