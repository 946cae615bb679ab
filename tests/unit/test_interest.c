/* SPDX-License-Identifier: Apache-2.0 */
/* Which pods policies can tell apart, and policies that deny everything. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/objects/interest.h"
#include "unit/stores.h"

#include <cmocka.h> /* last: it makes fail a macro */

#define RULES_FROM(peer) "podSelector: {}, ingress: [{from: [" peer "]}]"

/* "all", or "shop bank", with "+nodes" behind it. */
static const char *interest_text(const struct interest *interest, char *buf, size_t size)
{
	snprintf(buf, size, "%s", interest->all_pods ? "all" : "");
	for (size_t i = 0; i < interest->count; i++)
		snprintf(buf + strlen(buf), size - strlen(buf), "%s%s", *buf ? " " : "",
			 interest->namespaces[i]);
	if (interest->nodes)
		snprintf(buf + strlen(buf), size - strlen(buf), "+nodes");
	return buf;
}

static void interest_of(const char *policies, struct interest *ret)
{
	static const enum object_kind kinds[] = { OBJECT_NETWORK_POLICY, OBJECT_CLUSTER_POLICY };
	struct store *store = store_of(two_namespaces, policies);

	*ret = (struct interest){ 0 };
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		for (const struct object *o = store_first(store, kinds[k]); o;
		     o = store_next(store, o))
			interest_add(ret, store, o);
	}
	store_free(store);
}

static void test_policies_refer_to_pods_of_namespaces(void **state)
{
	static const struct {
		const char *policies;
		const char *want;
	} rows[] = {
		{ POLICY("p", "shop", "podSelector: {}, ingress: [{}], egress: [{}]"), "" },
		{ POLICY("p", "shop", RULES_FROM("{ipBlock: {cidr: 10.0.0.0/8}}")), "" },
		{ POLICY("p", "shop", RULES_FROM("{podSelector: {}}")), "shop" },
		{ POLICY("p", "shop", RULES_FROM("{namespaceSelector: {}}")), "all" },
		{ POLICY("p", "shop",
			 RULES_FROM("{namespaceSelector: {matchLabels: {team: money}}}")),
		  "bank" },
		{ POLICY("p", "shop",
			 RULES_FROM("{namespaceSelector: {matchLabels: {team: nobody}}}")),
		  "" },
		{ POLICY("p", "shop", RULES_FROM("{podSelector: {}}"))
			  POLICY("q", "bank", RULES_FROM("{podSelector: {}}")),
		  "bank shop" },
		{ POLICY("p", "shop",
			 "podSelector: {}, policyTypes: [Egress], ingress: "
			 "[{from: [{podSelector: {}}]}]"),
		  "" },
		{ POLICY("p", "shop", "podSelector: {}, egress: [{ports: [{port: http}]}]"),
		  "all" },
		{ POLICY("p", "shop", "podSelector: {}, ingress: [{ports: [{port: http}]}]"), "" },
		{ CLUSTER_POLICY("c", "Admin", 1,
				 "subject: {namespaces: {}}, egress: [{action: Deny, to: [{nodes: "
				 "{matchLabels: {a: b}}}]}]"),
		  "+nodes" },
		{ CLUSTER_POLICY("c", "Admin", 1,
				 "subject: {namespaces: {}}, egress: [{action: Accept, to: "
				 "[{namespaces: {matchLabels: {team: retail}}}]}]"),
		  "shop" },
		/* Where pods are refused, all must be known: those that are not are refused. */
		{ CLUSTER_POLICY("c", "Admin", 1,
				 "subject: {namespaces: {}}, egress: [{action: Deny, to: "
				 "[{namespaces: {matchLabels: {team: retail}}}]}]"),
		  "all+nodes" },
		{ CLUSTER_POLICY("c", "Admin", 1,
				 "subject: {namespaces: {}}, ingress: [{action: Pass, from: "
				 "[{namespaces: {matchLabels: {team: retail}}}]}]"),
		  "all+nodes" },
		{ CLUSTER_POLICY("c", "Admin", 1,
				 "subject: {namespaces: {}}, egress: [{action: Deny, to: "
				 "[{networks: [10.0.0.0/8]}]}]"),
		  "" },
	};
	char text[100];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct interest interest;

		interest_of(rows[i].policies, &interest);
		assert_string_equal(interest_text(&interest, text, sizeof(text)), rows[i].want);
		interest_done(&interest);
	}
}

static void test_more_namespaces_than_can_be_followed_are_all(void **state)
{
	struct store *store = store_of(
		two_namespaces,
		POLICY("p", "shop",
		       RULES_FROM("{namespaceSelector: {matchExpressions: [{key: a, operator: "
				  "DoesNotExist}]}}")));
	const struct object *policy = store_find(store, OBJECT_NETWORK_POLICY, "shop", "p");
	struct interest interest = { 0 };
	char text[200];

	(void)state;
	for (int i = 0; i < INTEREST_NAMESPACES_MAX; i++) {
		snprintf(text, sizeof(text),
			 "{apiVersion: v1, kind: Namespace, metadata: {name: n%d}}\n", i);
		store_add(store, text);
	}
	interest_add(&interest, store, policy);
	assert_true(interest.all_pods);
	assert_int_equal(interest.count, 0);
	interest_done(&interest);
	store_free(store);
}

static void test_covering_and_intersecting(void **state)
{
	struct interest shop, both, all, none = { 0 }, cut = { 0 };

	(void)state;
	interest_of(POLICY("p", "shop", RULES_FROM("{podSelector: {}}")), &shop);
	interest_of(POLICY("p", "shop", RULES_FROM("{podSelector: {}}"))
			    POLICY("q", "bank", RULES_FROM("{podSelector: {}}")),
		    &both);
	interest_of(POLICY("p", "shop", RULES_FROM("{namespaceSelector: {}}")), &all);
	assert_true(interest_covers(&both, &shop) && interest_covers(&all, &both));
	assert_false(interest_covers(&shop, &both) || interest_covers(&both, &all));
	assert_true(interest_covers(&shop, &none));
	interest_copy(&cut, &both);
	interest_intersect(&cut, &shop);
	assert_true(interest_covers(&shop, &cut) && interest_covers(&cut, &shop));
	interest_copy(&cut, &all);
	interest_intersect(&cut, &both);
	assert_true(interest_covers(&both, &cut) && interest_covers(&cut, &both));
	interest_copy(&cut, &shop);
	interest_intersect(&cut, &all);
	assert_true(interest_covers(&cut, &shop) && !cut.all_pods);
	interest_done(&shop);
	interest_done(&both);
	interest_done(&all);
	interest_done(&cut);
}

static void test_which_policies_let_strangers_through(void **state)
{
#define FROM_BANK "from: [{namespaces: {matchLabels: {team: money}}}]"
	static const struct {
		const char *policy;
		enum object_kind kind;
		bool want;
	} rows[] = {
		{ POLICY("p", "shop", RULES_FROM("{podSelector: {}}")), OBJECT_NETWORK_POLICY,
		  false },
		{ CLUSTER_POLICY("p", "Admin", 1,
				 "subject: {namespaces: {}}, ingress: [{action: Accept, " FROM_BANK
				 "}]"),
		  OBJECT_CLUSTER_POLICY, false },
		{ CLUSTER_POLICY("p", "Admin", 1,
				 "subject: {namespaces: {}}, ingress: [{action: Deny, " FROM_BANK
				 "}]"),
		  OBJECT_CLUSTER_POLICY, true },
		{ CLUSTER_POLICY("p", "Baseline", 1,
				 "subject: {namespaces: {}}, ingress: [{action: Deny, " FROM_BANK
				 "}]"),
		  OBJECT_CLUSTER_POLICY, true },
		{ CLUSTER_POLICY("p", "Admin", 1,
				 "subject: {namespaces: {}}, ingress: [{action: Pass, " FROM_BANK
				 "}]"),
		  OBJECT_CLUSTER_POLICY, true },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct store *store = store_of(two_namespaces, rows[i].policy);

		assert_int_equal(policy_refuses_peers(store_first(store, rows[i].kind)),
				 rows[i].want);
		store_free(store);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_policies_refer_to_pods_of_namespaces),
		cmocka_unit_test(test_more_namespaces_than_can_be_followed_are_all),
		cmocka_unit_test(test_covering_and_intersecting),
		cmocka_unit_test(test_which_policies_let_strangers_through),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
