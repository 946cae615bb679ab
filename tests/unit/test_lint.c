/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What lint says must be so: over random stores, a rule that is shadowed or never matches can be
 * made to match nobody, and no connection changes; and what covers what, case by case.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "policy/analysis/diff.h"
#include "policy/analysis/lint.h"
#include "policy/analysis/subsume.h"
#include "unit/random_store.h"
#include "unit/stores.h"

#include <cmocka.h> /* last: it makes fail a macro */

/* ---- random stores ---- */

static cJSON *object_json(const struct snapshot *snapshot, const struct object *object)
{
	cJSON *json;

	cJSON_ArrayForEach (json, snapshot->objects) {
		const cJSON *metadata = cJSON_GetObjectItem(json, "metadata");
		const char *kind = cJSON_GetStringValue(cJSON_GetObjectItem(json, "kind"));
		const char *name = cJSON_GetStringValue(cJSON_GetObjectItem(metadata, "name"));
		const char *namespace =
			cJSON_GetStringValue(cJSON_GetObjectItem(metadata, "namespace"));

		if (strcmp(kind, object_kind_name(object->kind)) == 0 &&
		    strcmp(name, object->name) == 0 &&
		    strcmp(namespace            ? namespace
			   : *object->namespace ? "default"
						: "",
			   object->namespace) == 0)
			return json;
	}
	return NULL;
}

/* "spec.ingress[1]..." : its peers become a pod that does not exist. */
static void rule_void(cJSON *object, const char *path)
{
	bool ingress = strncmp(path, "spec.ingress[", 13) == 0;
	bool cluster = strcmp(cJSON_GetStringValue(cJSON_GetObjectItem(object, "kind")),
			      "ClusterNetworkPolicy") == 0;
	cJSON *rules = cJSON_GetObjectItem(cJSON_GetObjectItem(object, "spec"),
					   ingress ? "ingress" : "egress");
	cJSON *rule = cJSON_GetArrayItem(rules, (int)strtol(strchr(path, '[') + 1, NULL, 10));
	const char *nobody = cluster ? "[{\"namespaces\": {\"matchLabels\": {\"no\": \"no\"}}}]"
				     : "[{\"podSelector\": {\"matchLabels\": {\"no\": \"no\"}}}]";

	assert_non_null(rule);
	cJSON_DeleteItemFromObject(rule, ingress ? "from" : "to");
	cJSON_AddItemToObject(rule, ingress ? "from" : "to", cJSON_Parse(nobody));
}

static void finding_check(const struct snapshot *snapshot, const struct store *store,
			  const struct lint_finding *finding)
{
	struct snapshot changed = { .objects = cJSON_Duplicate(snapshot->objects, true) };
	struct policy_diff *diff;
	struct errmsg err = { 0 };
	struct store *without;

	rule_void(object_json(&changed, finding->object), finding->path);
	without = snapshot_store(&changed, &err);
	assert_non_null(without);
	diff = policy_diff(store, without);
	if (diff->change_count)
		print_error("%s/%s %s: %s\n", finding->object->namespace, finding->object->name,
			    finding->path, finding->message);
	assert_int_equal(diff->change_count, 0);
	policy_diff_free(diff);
	store_free(without);
	snapshot_done(&changed);
}

static void test_what_is_shadowed_changes_nothing(void **state)
{
	uint64_t first = env_number("LINT_SEED", 1);
	uint64_t count = env_number("LINT_STORES", 150);
	size_t shadowed = 0;

	(void)state;
	for (uint64_t seed = first; seed < first + count; seed++) {
		struct lint_findings findings;
		struct errmsg err = { 0 };
		struct snapshot snapshot;
		struct store *store;

		random_begin(seed);
		snapshot = random_snapshot(false);
		store = snapshot_store(&snapshot, &err);
		assert_non_null(store);
		findings = policy_lint(store);
		for (size_t i = 0; i < findings.count; i++) {
			const struct lint_finding *finding = &findings.items[i];

			if (finding->check != LINT_SHADOWED_RULE)
				continue;
			if (shadowed++ == 0)
				print_message("LINT_SEED=%llu\n", (unsigned long long)seed);
			finding_check(&snapshot, store, finding);
		}
		lint_findings_done(&findings);
		store_free(store);
		snapshot_done(&snapshot);
	}
	print_message("%zu shadowed rules\n", shadowed);
	assert_true(count < 100 || shadowed > 20);
}

/* ---- what covers what ---- */

/* Two selectors as pods select; the policies are shop/a and shop/b. */
static struct store *two_policies(const char *a, const char *b)
{
	char text[2000];

	snprintf(text, sizeof(text),
		 "---\n{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: a, "
		 "namespace: shop}, spec: {%s}}\n"
		 "---\n{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: b, "
		 "namespace: shop}, spec: {%s}}\n",
		 a, b);
	return store_of("", text);
}

static const struct network_policy_object *policy_of(const struct store *store, const char *name)
{
	return &store_find(store, OBJECT_NETWORK_POLICY, "shop", name)->policy;
}

struct selector_case {
	const char *outer;
	const char *inner;
	bool covers;
};

static void test_selectors(void **state)
{
#define TERM(op, values) "matchExpressions: [{key: k, operator: " op ", values: [" values "]}]"
#define BARE(op)         "matchExpressions: [{key: k, operator: " op "}]"
	static const struct selector_case cases[] = {
		{ "", "", true },
		{ "", "matchLabels: {k: a}", true },
		{ "matchLabels: {k: a}", "", false },
		{ "matchLabels: {k: a}", "matchLabels: {k: a, l: b}", true },
		{ "matchLabels: {k: a, l: b}", "matchLabels: {k: a}", false },
		{ TERM("In", "a, b"), "matchLabels: {k: a}", true },
		{ TERM("In", "a, b"), TERM("In", "b, c"), false },
		{ TERM("NotIn", "a"), "matchLabels: {k: b}", true },
		{ TERM("NotIn", "a"), "matchLabels: {k: a}", false },
		{ TERM("NotIn", "a"), TERM("NotIn", "a, b"), true },
		{ TERM("NotIn", "a, b"), TERM("NotIn", "a"), false },
		{ TERM("NotIn", "a"), BARE("DoesNotExist"), true },
		{ TERM("NotIn", "a"), BARE("Exists"), false },
		{ BARE("Exists"), TERM("In", "a"), true },
		{ BARE("Exists"), TERM("NotIn", "a"), false },
		{ BARE("DoesNotExist"), BARE("DoesNotExist"), true },
		{ BARE("DoesNotExist"), TERM("NotIn", "a"), false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char a[300], b[300];
		struct store *store;

		snprintf(a, sizeof(a), "podSelector: {%s}", cases[i].outer);
		snprintf(b, sizeof(b), "podSelector: {%s}", cases[i].inner);
		store = two_policies(a, b);
		if (selector_subsumes(&policy_of(store, "a")->pods, &policy_of(store, "b")->pods) !=
		    cases[i].covers)
			fail_msg("%s over %s", cases[i].outer, cases[i].inner);
		store_free(store);
	}
}

static void test_contradictions(void **state)
{
	static const struct {
		const char *terms;
		bool contradict;
	} cases[] = {
		{ "{key: k, operator: In, values: [a]}, {key: k, operator: In, values: [b]}",
		  true },
		{ "{key: k, operator: In, values: [a, b]}, {key: k, operator: In, values: [b]}",
		  false },
		{ "{key: k, operator: In, values: [a]}, {key: k, operator: NotIn, values: [a]}",
		  true },
		{ "{key: k, operator: In, values: [a, b]}, {key: k, operator: NotIn, values: [a]}",
		  false },
		{ "{key: k, operator: Exists}, {key: k, operator: DoesNotExist}", true },
		{ "{key: k, operator: NotIn, values: [a]}, {key: k, operator: DoesNotExist}",
		  false },
		{ "{key: k, operator: In, values: [a]}, {key: l, operator: NotIn, values: [a]}",
		  false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char a[400];
		struct store *store;

		snprintf(a, sizeof(a), "podSelector: {matchExpressions: [%s]}", cases[i].terms);
		store = two_policies(a, "podSelector: {}");
		if ((selector_contradiction(&policy_of(store, "a")->pods) != NULL) !=
		    cases[i].contradict)
			fail_msg("%s", cases[i].terms);
		store_free(store);
	}
}

static void test_rules(void **state)
{
	static const struct selector_case cases[] = {
		{ "", "from: [{podSelector: {}}]", true },
		{ "from: [{podSelector: {}}]", "", false },
		{ "from: [{podSelector: {}}]", "from: [{podSelector: {matchLabels: {k: a}}}]",
		  true },
		{ "from: [{podSelector: {}}]",
		  "from: [{podSelector: {}, namespaceSelector: {matchLabels: "
		  "{kubernetes.io/metadata.name: shop}}}]",
		  true },
		{ "from: [{podSelector: {}}]", "from: [{namespaceSelector: {}}]", false },
		{ "from: [{namespaceSelector: {}}]", "from: [{podSelector: {}}]", true },
		{ "ports: [{port: 80}]", "ports: [{port: 80}, {port: 81}]", false },
		{ "ports: [{port: 80, endPort: 90}]", "ports: [{port: 80}, {port: 81}]", true },
		{ "ports: [{}]", "ports: [{port: http}]", true },
		{ "ports: [{port: http}]", "ports: [{port: http, protocol: UDP}]", false },
		{ "", "ports: [{port: 80}]", true },
		{ "ports: [{port: 80}]", "", false },
		{ "from: [{ipBlock: {cidr: 10.0.0.0/8}}]", "from: [{ipBlock: {cidr: 10.1.0.0/16}}]",
		  true },
		{ "from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.2.0/24]}}]",
		  "from: [{ipBlock: {cidr: 10.1.0.0/16}}]", false },
		{ "from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.2.0/24]}}]",
		  "from: [{ipBlock: {cidr: 10.1.0.0/16, except: [10.1.2.0/23]}}]", true },
		{ "from: [{ipBlock: {cidr: 0.0.0.0/0}}]", "from: [{ipBlock: {cidr: '::/0'}}]",
		  false },
		{ "from: [{ipBlock: {cidr: '::/0'}}]", "from: [{ipBlock: {cidr: 0.0.0.0/0}}]",
		  false },
		{ "from: [{ipBlock: {cidr: 0.0.0.0/0}}]", "from: [{podSelector: {}}]", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char a[400], b[400];
		const struct object *outer, *inner;
		struct store *store;

		snprintf(a, sizeof(a), "podSelector: {}, ingress: [{%s}]", cases[i].outer);
		snprintf(b, sizeof(b), "podSelector: {}, ingress: [{%s}]", cases[i].inner);
		store = two_policies(a, b);
		outer = store_find(store, OBJECT_NETWORK_POLICY, "shop", "a");
		inner = store_find(store, OBJECT_NETWORK_POLICY, "shop", "b");
		if (rule_subsumes(store, outer, outer->policy.ingress_rules, inner,
				  inner->policy.ingress_rules) != cases[i].covers)
			fail_msg("%s over %s", cases[i].outer, cases[i].inner);
		store_free(store);
	}
}

static void test_blocks_that_are_empty(void **state)
{
	static const struct {
		const char *block;
		bool empty;
	} cases[] = {
		{ "cidr: 10.0.0.0/8", false },
		{ "cidr: 10.0.0.0/8, except: [10.0.0.0/9]", false },
		{ "cidr: 10.0.0.0/8, except: [10.0.0.0/9, 10.128.0.0/9]", true },
		{ "cidr: 10.0.0.0/8, except: [10.0.0.0/9, 10.0.0.0/9, 10.0.0.0/10]", false },
		{ "cidr: 10.0.0.0/8, except: [10.0.0.0/9, 10.128.0.0/10, 10.192.0.0/10]", true },
		{ "cidr: '::/0', except: ['::/1', '8000::/1']", true },
		{ "cidr: '::/0', except: ['::/1', '8000::/2']", false },
		{ "cidr: 0.0.0.0/0, except: [0.0.0.0/1, 128.0.0.0/1]", true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char a[300];
		struct store *store;

		snprintf(a, sizeof(a), "podSelector: {}, ingress: [{from: [{ipBlock: {%s}}]}]",
			 cases[i].block);
		store = two_policies(a, "podSelector: {}");
		if (block_is_empty(&policy_of(store, "a")->ingress_rules[0].peers[0]) !=
		    cases[i].empty)
			fail_msg("%s", cases[i].block);
		store_free(store);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_selectors),
		cmocka_unit_test(test_contradictions),
		cmocka_unit_test(test_rules),
		cmocka_unit_test(test_blocks_that_are_empty),
		cmocka_unit_test(test_what_is_shadowed_changes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
