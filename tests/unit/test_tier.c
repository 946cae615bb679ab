/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ClusterNetworkPolicy row by row, as test_verdict.c does for NetworkPolicy: the compiled tables
 * and the explanation must agree about flows between the pods of stores.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/analysis/explain.h"
#include "policy/objects/policy.h"
#include "unit/stores.h"

#include <cmocka.h> /* last: it makes fail a macro */

#define EVERYBODY "subject: {namespaces: {}}"
#define SHOP      "subject: {namespaces: {matchLabels: {team: retail}}}"
#define CART                                                                               \
	"subject: {pods: {namespaceSelector: {matchLabels: {team: retail}}, podSelector: " \
	"{matchLabels: {app: cart}}}}"
#define FROM_ALL  "from: [{namespaces: {}}]"
#define FROM_BANK "from: [{namespaces: {matchLabels: {team: money}}}]"
#define FROM_SHOP "from: [{namespaces: {matchLabels: {team: retail}}}]"
#define TO_ALL    "to: [{namespaces: {}}]"

static void test_no_rule_that_matches_means_no_effect(void **state)
{
	(void)state;
	ASK(CLUSTER_POLICY("p", "Admin", 1, CART ", ingress: [{action: Deny, " FROM_BANK "}]"),
	    { "bank/teller", "shop/cart", "80/TCP", INGRESS },
	    { "bank/teller", "shop/cart", "80/ICMP", INGRESS },
	    { "fd00::1:1", "fd00::2", "80/TCP", INGRESS },
	    { "shop/web", "shop/cart", "80/TCP", PASSES },
	    { "192.168.1.1", "shop/cart", "80/TCP", PASSES },
	    { "bank/teller", "shop/web", "80/TCP", PASSES },
	    { "shop/cart", "bank/teller", "80/TCP", PASSES },
	    { "shop/cart", "8.8.8.8", "53/UDP", PASSES });
}

#define NODE_OF_PODS                                                                     \
	"---\n{apiVersion: v1, kind: Node, metadata: {name: far}, spec: {podCIDRs: "     \
	"[10.7.0.0/24, 'fd07::/64']}, status: {addresses: [{type: InternalIP, address: " \
	"10.7.0.1}]}}\n"

/* A pod of another node whose event has not come may be any pod. */
static void test_a_pod_that_is_not_known_is_refused_as_any_pod_is(void **state)
{
	(void)state;
	ASK(CLUSTER_POLICY("p", "Admin", 1, CART ", ingress: [{action: Deny, " FROM_BANK "}]")
		    POLICY("np", "shop", "podSelector: {}, ingress: [{}]") NODE_OF_PODS,
	    { "10.7.0.9", "shop/cart", "80/TCP", INGRESS },
	    { "fd07::9", "fd00::2", "80/TCP", INGRESS },
	    { "10.7.0.1", "shop/cart", "80/TCP", PASSES }, /* the node */
	    { "10.7.1.9", "shop/cart", "80/TCP", PASSES },
	    { "10.7.0.9", "shop/web", "80/TCP", PASSES },
	    { "shop/cart", "10.7.0.9", "80/TCP", PASSES });
}

static void test_a_pod_that_is_not_known_is_accepted_by_its_address_alone(void **state)
{
	(void)state;
	ASK(CLUSTER_POLICY("p", "Admin", 1,
			   CART ", ingress: [{action: Accept, " FROM_BANK
				"}, {action: Deny, " FROM_ALL "}]") NODE_OF_PODS,
	    { "10.7.0.9", "shop/cart", "80/TCP", INGRESS },
	    { "bank/teller", "shop/cart", "80/TCP", PASSES });
	ASK(CLUSTER_POLICY("p", "Admin", 1,
			   SHOP ", egress: [{action: Accept, to: [{networks: [10.7.0.0/28]}]}, "
				"{action: Deny, " TO_ALL "}]") NODE_OF_PODS,
	    { "shop/cart", "10.7.0.9", "80/TCP", PASSES },
	    { "shop/cart", "10.7.0.20", "80/TCP", EGRESS });
	ASK(POLICY("np", "shop",
		   "podSelector: {}, ingress: [{from: [{namespaceSelector: {}}, "
		   "{ipBlock: {cidr: 10.7.0.8/29}}]}]") NODE_OF_PODS,
	    { "10.7.0.9", "shop/cart", "80/TCP", PASSES },
	    { "10.7.0.20", "shop/cart", "80/TCP", INGRESS });
}

/* What a Pass might take from the tier that accepts must be allowed by the next tier, too. */
static void test_a_pod_that_is_not_known_passes_if_all_tiers_agree(void **state)
{
	(void)state;
	ASK(CLUSTER_POLICY("p", "Admin", 1,
			   SHOP ", egress: [{action: Pass, to: [{namespaces: {matchLabels: {team: "
				"money}}}]}, {action: Accept, to: [{networks: [0.0.0.0/0]}]}]")
		    POLICY("np", "shop",
			   "podSelector: {matchLabels: {app: cart}}, policyTypes: [Egress], "
			   "egress: [{ports: [{port: 80}]}]") NODE_OF_PODS,
	    { "shop/cart", "10.7.0.9", "80/TCP", PASSES },
	    { "shop/cart", "10.7.0.9", "81/TCP", EGRESS },
	    { "shop/web", "10.7.0.9", "81/TCP", PASSES },
	    { "shop/cart", "10.8.0.9", "81/TCP", PASSES });
}

static void test_a_named_port_of_a_pod_that_is_not_known_may_be_any(void **state)
{
	(void)state;
	ASK(CLUSTER_POLICY("p", "Admin", 1,
			   SHOP ", egress: [{action: Deny, " TO_ALL
				", protocols: [{destinationNamedPort: http}]}]") NODE_OF_PODS,
	    { "shop/cart", "10.7.0.9", "81/TCP", EGRESS },
	    { "shop/cart", "10.7.0.9", "81/ICMP", PASSES });
}

static void test_admin_deny_beats_a_network_policy_that_allows(void **state)
{
	(void)state;
	ASK(CLUSTER_POLICY("p", "Admin", 1, EVERYBODY ", ingress: [{action: Deny, " FROM_BANK "}]")
		    POLICY("np", "shop", "podSelector: {}, ingress: [{}]"),
	    { "bank/teller", "shop/cart", "80/TCP", INGRESS },
	    { "shop/web", "shop/cart", "80/TCP", PASSES },
	    { "192.168.1.1", "shop/cart", "80/TCP", PASSES },
	    { "bank/vault", "bank/teller", "80/TCP", INGRESS });
}

static void test_admin_accept_beats_a_network_policy_that_isolates(void **state)
{
	(void)state;
	ASK(CLUSTER_POLICY("p", "Admin", 1,
			   SHOP ", ingress: [{action: Accept, " FROM_BANK
				", protocols: [{tcp: {destinationPort: {number: 80}}}]}]")
		    POLICY("np", "shop", "podSelector: {}, policyTypes: [Ingress, Egress]"),
	    { "bank/teller", "shop/cart", "80/TCP", PASSES },
	    { "bank/teller", "shop/cart", "81/TCP", INGRESS },
	    { "bank/teller", "shop/cart", "80/UDP", INGRESS },
	    { "192.168.1.1", "shop/cart", "80/TCP", INGRESS },
	    { "shop/cart", "bank/teller", "80/TCP", EGRESS });
}

static void test_accepted_at_one_end_may_be_denied_at_the_other(void **state)
{
	(void)state;
	ASK(CLUSTER_POLICY("out", "Admin", 1, SHOP ", egress: [{action: Accept, " TO_ALL "}]")
		    POLICY("in", "bank", "podSelector: {matchLabels: {app: vault}}"),
	    { "shop/web", "bank/vault", "80/TCP", INGRESS },
	    { "shop/web", "bank/teller", "80/TCP", PASSES });
}

static void test_lower_priority_number_is_asked_first(void **state)
{
	(void)state;
	ASK(CLUSTER_POLICY("a", "Admin", 20, CART ", ingress: [{action: Deny, " FROM_ALL "}]")
		    CLUSTER_POLICY("b", "Admin", 10,
				   CART ", ingress: [{action: Accept, " FROM_BANK "}]"),
	    { "bank/teller", "shop/cart", "80/TCP", PASSES },
	    { "shop/web", "shop/cart", "80/TCP", INGRESS },
	    { "192.168.1.1", "shop/cart", "80/TCP", PASSES });
	ASK(CLUSTER_POLICY("a", "Admin", 0, CART ", ingress: [{action: Deny, " FROM_ALL "}]")
		    CLUSTER_POLICY("b", "Admin", 1000,
				   CART ", ingress: [{action: Accept, " FROM_BANK "}]"),
	    { "bank/teller", "shop/cart", "80/TCP", INGRESS });
}

static void test_equal_priorities_are_asked_by_name(void **state)
{
	(void)state;
	ASK(CLUSTER_POLICY("b", "Admin", 5, CART ", ingress: [{action: Deny, " FROM_ALL "}]")
		    CLUSTER_POLICY("a", "Admin", 5,
				   CART ", ingress: [{action: Accept, " FROM_ALL "}]"),
	    { "bank/teller", "shop/cart", "80/TCP", PASSES });
}

static void test_first_rule_that_matches_decides(void **state)
{
	(void)state;
	ASK(CLUSTER_POLICY("p", "Admin", 1,
			   CART ", ingress: [{action: Accept, " FROM_ALL
				", protocols: [{tcp: {destinationPort: {number: 443}}}]}, {action: "
				"Deny, " FROM_ALL
				", protocols: [{tcp: {destinationPort: {range: {start: 400, end: "
				"500}}}}]}, {action: Accept, " FROM_ALL "}]"),
	    { "shop/web", "shop/cart", "443/TCP", PASSES },
	    { "shop/web", "shop/cart", "400/TCP", INGRESS },
	    { "shop/web", "shop/cart", "500/TCP", INGRESS },
	    { "shop/web", "shop/cart", "399/TCP", PASSES },
	    { "shop/web", "shop/cart", "501/TCP", PASSES },
	    { "shop/web", "shop/cart", "450/UDP", PASSES });
}

static void test_pass_skips_the_rest_of_its_tier(void **state)
{
	static const char passing[] = CLUSTER_POLICY(
		"a", "Admin", 1, CART ", ingress: [{action: Pass, " FROM_BANK "}]")
		CLUSTER_POLICY("b", "Admin", 2, CART ", ingress: [{action: Deny, " FROM_ALL "}]");
	char text[2000];

	(void)state;
	/* To NetworkPolicies where some select the pod, ... */
	snprintf(text, sizeof(text), "%s%s", passing,
		 POLICY("np", "shop", "podSelector: {}, ingress: [{ports: [{port: 80}]}]"));
	ASK(text, { "bank/teller", "shop/cart", "80/TCP", PASSES },
	    { "bank/teller", "shop/cart", "81/TCP", INGRESS },
	    { "shop/web", "shop/cart", "80/TCP", INGRESS });
	/* ... else to the Baseline tier, ... */
	snprintf(text, sizeof(text), "%s%s", passing,
		 CLUSTER_POLICY("base", "Baseline", 1,
				CART ", ingress: [{action: Deny, " FROM_BANK
				     ", protocols: [{tcp: {destinationPort: {number: 80}}}]}]"));
	ASK(text, { "bank/teller", "shop/cart", "80/TCP", INGRESS },
	    { "bank/teller", "shop/cart", "81/TCP", PASSES },
	    { "shop/web", "shop/cart", "81/TCP", INGRESS });
	/* ... else it is allowed. */
	ASK(passing, { "bank/teller", "shop/cart", "80/TCP", PASSES },
	    { "shop/web", "shop/cart", "80/TCP", INGRESS });
}

static void test_pass_in_the_baseline_tier_leaves_it_allowed(void **state)
{
	(void)state;
	ASK(CLUSTER_POLICY("p", "Baseline", 1,
			   CART ", ingress: [{action: Pass, " FROM_BANK
				"}, {action: Deny, " FROM_ALL "}]"),
	    { "bank/teller", "shop/cart", "80/TCP", PASSES },
	    { "shop/web", "shop/cart", "80/TCP", INGRESS });
}

static void test_baseline_holds_only_where_no_network_policy_selects(void **state)
{
	(void)state;
	ASK(CLUSTER_POLICY("base", "Baseline", 1,
			   EVERYBODY ", ingress: [{action: Deny, " FROM_ALL
				     "}], egress: [{action: Deny, to: [{networks: [0.0.0.0/0, "
				     "'::/0']}]}]")
		    POLICY("np", "shop",
			   "podSelector: {matchLabels: {app: cart}}, ingress: [{from: "
			   "[{podSelector: {matchLabels: {app: web}}}]}]")
			    POLICY("out", "shop",
				   "podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], "
				   "egress: "
				   "[{}]"),
	    { "shop/web", "shop/cart", "80/TCP", PASSES },
	    { "192.168.1.1", "shop/cart", "80/TCP", INGRESS }, /* isolated by np */
	    { "192.168.1.1", "shop/db", "80/TCP", PASSES },    /* base speaks of pods alone */
	    { "shop/web", "shop/db", "80/TCP", INGRESS },
	    { "shop/db", "shop/cart", "80/TCP", EGRESS },
	    { "fd00::3", "2001:db8::1", "80/TCP", EGRESS },
	    { "shop/web", "8.8.8.8", "80/TCP", PASSES });
}

static void test_policy_without_rules_in_a_direction_leaves_it_alone(void **state)
{
	(void)state;
	ASK(CLUSTER_POLICY("p", "Admin", 1,
			   CART ", ingress: [], egress: [{action: Deny, " TO_ALL "}]"),
	    { "shop/web", "shop/cart", "80/TCP", PASSES },
	    { "shop/cart", "shop/web", "80/TCP", EGRESS },
	    { "shop/cart", "8.8.8.8", "80/TCP", PASSES });
}

static void test_subject_of_pods_needs_both_selectors(void **state)
{
	(void)state;
	ASK(CLUSTER_POLICY(
		    "p", "Admin", 1,
		    "subject: {pods: {namespaceSelector: {matchLabels: {team: money}}, "
		    "podSelector: {matchLabels: {app: web}}}}, ingress: [{action: Deny, " FROM_ALL
		    "}]"),
	    { "shop/cart", "bank/teller", "80/TCP", INGRESS },
	    { "shop/cart", "bank/vault", "80/TCP", PASSES },
	    { "shop/cart", "shop/web", "80/TCP", PASSES });
	ASK(CLUSTER_POLICY("p", "Admin", 1,
			   "subject: {pods: {podSelector: {matchLabels: {app: web}}}}, ingress: "
			   "[{action: Deny, " FROM_ALL "}]"),
	    { "shop/cart", "bank/teller", "80/TCP", INGRESS },
	    { "shop/cart", "shop/web", "80/TCP", INGRESS },
	    { "shop/cart", "bank/vault", "80/TCP", PASSES });
}

static void test_peers_of_pods_need_both_selectors(void **state)
{
	(void)state;
	ASK(CLUSTER_POLICY("p", "Admin", 1,
			   CART
			   ", ingress: [{action: Deny, from: [{pods: {namespaceSelector: "
			   "{matchLabels: {team: money}}, podSelector: {matchExpressions: [{key: "
			   "app, operator: NotIn, values: [vault]}]}}}]}]"),
	    { "bank/teller", "shop/cart", "80/TCP", INGRESS },
	    { "bank/vault", "shop/cart", "80/TCP", PASSES },
	    { "shop/web", "shop/cart", "80/TCP", PASSES });
}

static void test_networks_cover_pods_and_keep_families_apart(void **state)
{
	(void)state;
	ASK(CLUSTER_POLICY("p", "Admin", 1,
			   CART ", egress: [{action: Pass, to: [{namespaces: {matchLabels: {team: "
				"money}}}]}, {action: Deny, to: [{networks: [0.0.0.0/0]}]}]"),
	    { "shop/cart", "shop/web", "80/TCP", EGRESS },
	    { "shop/cart", "8.8.8.8", "80/ICMP", EGRESS },
	    { "shop/cart", "bank/vault", "80/TCP", PASSES },
	    { "fd00::2", "fd00::1", "80/TCP", PASSES },
	    { "fd00::2", "2001:db8::1", "80/TCP", PASSES });
}

static void test_longer_network_of_another_rule_carves_nothing(void **state)
{
	(void)state;
	ASK(CLUSTER_POLICY("p", "Admin", 1,
			   CART
			   ", egress: [{action: Accept, to: [{networks: [10.9.1.0/24]}]}, {action: "
			   "Deny, to: [{networks: [10.9.0.0/16]}]}, {action: Deny, to: [{networks: "
			   "[10.9.1.1/32, 8.8.8.8/32]}]}]"),
	    { "shop/cart", "10.9.1.1", "80/TCP", PASSES },
	    { "shop/cart", "10.9.2.1", "80/TCP", EGRESS },
	    { "shop/cart", "8.8.8.8", "80/TCP", EGRESS },
	    { "shop/cart", "8.8.4.4", "80/TCP", PASSES });
}

static const char two_nodes[] =
	"---\n{apiVersion: v1, kind: Node, metadata: {name: n1, labels: {role: worker}}, status: "
	"{addresses: [{type: InternalIP, address: 10.8.0.1}, {type: InternalIP, address: "
	"'fd00:8::1'}]}}\n"
	"---\n{apiVersion: v1, kind: Node, metadata: {name: n2, labels: {role: control}}, status: "
	"{addresses: [{type: InternalIP, address: 10.8.0.2}]}}\n"
	"---\n{apiVersion: v1, kind: Node, metadata: {name: n3}, status: {addresses: [{type: "
	"InternalIP, address: 10.8.0.2}, {type: ExternalIP, address: 10.8.0.3}]}}\n";

static void test_nodes_are_told_apart_by_their_labels(void **state)
{
	char text[4000];

	(void)state;
	snprintf(text, sizeof(text), "%s%s", two_nodes,
		 CLUSTER_POLICY("p", "Admin", 1,
				CART ", egress: [{action: Deny, to: [{nodes: {matchLabels: {role: "
				     "control}}}], protocols: [{tcp: {destinationPort: {number: "
				     "6443}}}]}]"));
	ASK(text, { "shop/cart", "10.8.0.2", "6443/TCP", EGRESS },
	    { "shop/cart", "10.8.0.2", "6444/TCP", PASSES },
	    { "shop/cart", "10.8.0.1", "6443/TCP", PASSES },
	    { "shop/cart", "10.8.0.3", "6443/TCP", PASSES },
	    { "shop/cart", "10.8.0.4", "6443/TCP", PASSES },
	    { "shop/cart", "shop/web", "6443/TCP", PASSES });
	/* All of them, and no pods; a network around them still holds. */
	snprintf(text, sizeof(text), "%s%s", two_nodes,
		 CLUSTER_POLICY("p", "Admin", 1,
				CART
				", egress: [{action: Accept, to: [{nodes: {}}]}, {action: Deny, "
				"to: [{networks: [10.8.0.0/16, 'fd00:8::/32']}]}]"));
	ASK(text, { "shop/cart", "10.8.0.1", "80/TCP", PASSES },
	    { "fd00::2", "fd00:8::1", "80/TCP", PASSES },
	    { "shop/cart", "10.8.0.3", "80/TCP", PASSES },
	    { "shop/cart", "10.8.0.4", "80/TCP", EGRESS },
	    { "fd00::2", "fd00:8::2", "80/TCP", EGRESS },
	    { "shop/cart", "shop/web", "80/TCP", PASSES });
}

static void test_own_node_is_a_node_and_its_probes_pass(void **state)
{
	struct store *store = store_of(two_namespaces, two_nodes);
	const struct store_query queries[] = {
		{ "shop/cart", "10.8.0.1", "80/TCP", EGRESS },
		{ "shop/cart", "10.8.0.2", "80/TCP", PASSES },
		{ "shop/cart", "10.7.0.1", "80/TCP", PASSES }, /* not in the status of the node */
		{ "10.8.0.1", "shop/cart", "80/TCP", PASSES },
		{ "10.7.0.1", "shop/cart", "80/TCP", PASSES },
		{ "shop/web", "shop/cart", "80/TCP", INGRESS },
	};
	struct addr hosts[2];

	(void)state;
	store_add(store,
		  CLUSTER_POLICY("p", "Admin", 1,
				 CART
				 ", ingress: [{action: Deny, " FROM_ALL
				 "}], egress: [{action: Deny, to: [{nodes: {matchLabels: {role: "
				 "worker}}}]}]"));
	assert_int_equal(addr_parse("10.8.0.1", &hosts[0]), 0);
	assert_int_equal(addr_parse("10.7.0.1", &hosts[1]), 0);
	store_host_addresses_set(store, hosts, 2);
	store_ask_all(store, queries, ARRAY_SIZE(queries));
	store_free(store);
}

static void test_named_port_means_any_protocol_of_each_pod(void **state)
{
	(void)state;
	ASK(CLUSTER_POLICY("p", "Admin", 1,
			   SHOP ", ingress: [{action: Deny, " FROM_ALL
				", protocols: [{destinationNamedPort: dns}, {destinationNamedPort: "
				"http}]}]"),
	    { "shop/web", "shop/cart", "53/UDP", INGRESS },
	    { "shop/web", "shop/cart", "5353/TCP", INGRESS },
	    { "shop/web", "shop/cart", "53/TCP", PASSES },
	    { "shop/web", "shop/cart", "8080/TCP", INGRESS },
	    { "shop/web", "shop/cart", "8080/UDP", PASSES },
	    { "shop/web", "shop/db", "9090/TCP", INGRESS },
	    { "shop/web", "shop/db", "53/UDP", PASSES },
	    { "shop/cart", "shop/web", "80/TCP", PASSES });
	ASK(CLUSTER_POLICY("p", "Admin", 1,
			   CART ", egress: [{action: Deny, " TO_ALL
				", protocols: [{destinationNamedPort: http}]}]"),
	    { "shop/cart", "shop/db", "9090/TCP", EGRESS },
	    { "shop/cart", "shop/db", "8080/TCP", PASSES },
	    { "shop/cart", "bank/vault", "9090/TCP", PASSES });
}

static void test_sctp_alone(void **state)
{
	(void)state;
	ASK(CLUSTER_POLICY("p", "Admin", 1,
			   CART ", ingress: [{action: Deny, " FROM_ALL
				", protocols: [{sctp: {destinationPort: {number: 80}}}]}]"),
	    { "shop/web", "shop/cart", "80/SCTP", INGRESS },
	    { "shop/web", "shop/cart", "80/TCP", PASSES },
	    { "shop/web", "shop/cart", "81/SCTP", PASSES });
}

static void test_own_address_and_host_network_pods_are_never_subjects(void **state)
{
	static const char agent[] =
		"---\n{apiVersion: v1, kind: Pod, metadata: {name: agent, namespace: shop, labels: "
		"{app: agent}}, spec: {hostNetwork: true}, status: {podIP: "
		"10.0.2.254}}\n" CLUSTER_POLICY(
			"p", "Admin", 1,
			EVERYBODY ", ingress: [{action: Deny, " FROM_SHOP
				  "}], egress: [{action: Deny, to: [{networks: [10.0.0.2/32]}]}]");

	(void)state;
	ASK(agent, { "shop/cart", "shop/cart", "80/TCP", PASSES },
	    { "shop/web", "shop/cart", "80/TCP", EGRESS },
	    { "shop/agent", "shop/cart", "80/TCP", PASSES },
	    { "bank/teller", "shop/agent", "80/TCP", PASSES },
	    { "fd00::1", "fd00::2", "80/TCP", INGRESS });
}

static void test_namespace_labels_that_change_change_the_verdict(void **state)
{
	struct store *store = store_of(
		two_namespaces,
		CLUSTER_POLICY("p", "Admin", 1, SHOP ", ingress: [{action: Deny, " FROM_BANK "}]"));

	(void)state;
	assert_int_equal(store_ask(store, "bank/teller", "shop/cart", "80/TCP"), INGRESS);
	store_add(store, "--- {apiVersion: v1, kind: Namespace, metadata: {name: bank, labels: "
			 "{team: retail}}}");
	assert_int_equal(store_ask(store, "bank/teller", "shop/cart", "80/TCP"), PASSES);
	store_add(store, "--- {apiVersion: v1, kind: Namespace, metadata: {name: shop}}");
	store_add(store, "--- {apiVersion: v1, kind: Namespace, metadata: {name: bank, labels: "
			 "{team: money}}}");
	assert_int_equal(store_ask(store, "bank/teller", "shop/cart", "80/TCP"), PASSES);
	store_free(store);
}

static void test_explanation_names_rules_that_passed_it_on(void **state)
{
	struct store *store = store_of(
		two_namespaces,
		CLUSTER_POLICY("a", "Admin", 1, CART ", ingress: [{action: Pass, " FROM_BANK "}]")
			CLUSTER_POLICY("b", "Baseline", 1,
				       CART ", ingress: [{action: Accept, " FROM_SHOP
					    "}, {name: no banks, action: Deny, " FROM_BANK "}]"));
	const struct object *teller = store_find(store, OBJECT_POD, "bank", "teller");
	const struct object *cart = store_find(store, OBJECT_POD, "shop", "cart");
	const struct explain_end from = { .pod = teller };
	const struct explain_end to = { .pod = cart };
	struct explanation answer;

	(void)state;
	answer = policy_explain(store, &from, &to, 6, 80);
	assert_int_equal(answer.verdict, VERDICT_DENY);
	assert_int_equal(answer.egress.reason, EXPLAIN_NO_POLICY);
	assert_int_equal(answer.ingress.reason, EXPLAIN_RULE);
	assert_string_equal(answer.ingress.decided.policy->name, "b");
	assert_int_equal(answer.ingress.decided.rule, 1);
	assert_string_equal(explain_rule_get(&answer.ingress.decided, DIR_INGRESS)->name,
			    "no banks");
	assert_int_equal(answer.ingress.passed_count, 1);
	assert_string_equal(answer.ingress.passed[0].policy->name, "a");
	explanation_done(&answer);
	answer = policy_explain(store, &to, &to, 6, 80);
	assert_int_equal(answer.ingress.reason, EXPLAIN_SELF);
	explanation_done(&answer);
	store_free(store);
}

static void test_tiers_are_in_order(void **state)
{
	struct store *store =
		store_of(CLUSTER_POLICY("b", "Admin", 5, EVERYBODY)
				 CLUSTER_POLICY("zz", "Admin", 0, EVERYBODY)
					 CLUSTER_POLICY("a", "Admin", 5, EVERYBODY)
						 CLUSTER_POLICY("yy", "Baseline", 0, EVERYBODY),
			 NULL);
	size_t count;
	const struct object **policies = tier_policies(store, TIER_ADMIN, &count);

	(void)state;
	assert_non_null(policies);
	assert_int_equal(count, 3);
	assert_string_equal(policies[0]->name, "zz");
	assert_string_equal(policies[1]->name, "a");
	assert_string_equal(policies[2]->name, "b");
	free(policies);
	store_free(store);
}

static const struct compiled_subject *subject_of(const struct compiled *compiled, const char *name)
{
	for (size_t i = 0; i < compiled->subject_count; i++) {
		if (strcmp(compiled->subjects[i].pod->name, name) == 0)
			return &compiled->subjects[i];
	}
	fail_msg("%s is no subject", name);
	return NULL;
}

static void test_policies_that_no_question_reaches_make_no_difference(void **state)
{
	static const char np[] =
		POLICY("np", "shop", "podSelector: {matchLabels: {app: cart}}, ingress: [{}]");
	struct store *before = store_of(two_namespaces, np);
	struct store *after =
		store_of(two_namespaces,
			 CLUSTER_POLICY("base", "Baseline", 1,
					EVERYBODY ", ingress: [{action: Deny, " FROM_ALL "}]"));
	struct compiled *first;
	struct compiled *second;

	(void)state;
	store_add(after, np);
	first = store_compile(before);
	second = store_compile(after);
	assert_int_equal(subject_of(first, "cart")->policy_id,
			 subject_of(second, "cart")->policy_id);
	assert_int_equal(subject_of(first, "web")->policy_id, 0);
	assert_false(subject_of(second, "web")->egress_isolated);
	assert_true(subject_of(second, "web")->ingress_isolated);
	compiled_free(first);
	compiled_free(second);
	store_free(before);
	store_free(after);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_rule_that_matches_means_no_effect),
		cmocka_unit_test(test_a_pod_that_is_not_known_is_refused_as_any_pod_is),
		cmocka_unit_test(test_a_pod_that_is_not_known_is_accepted_by_its_address_alone),
		cmocka_unit_test(test_a_pod_that_is_not_known_passes_if_all_tiers_agree),
		cmocka_unit_test(test_a_named_port_of_a_pod_that_is_not_known_may_be_any),
		cmocka_unit_test(test_admin_deny_beats_a_network_policy_that_allows),
		cmocka_unit_test(test_admin_accept_beats_a_network_policy_that_isolates),
		cmocka_unit_test(test_accepted_at_one_end_may_be_denied_at_the_other),
		cmocka_unit_test(test_lower_priority_number_is_asked_first),
		cmocka_unit_test(test_equal_priorities_are_asked_by_name),
		cmocka_unit_test(test_first_rule_that_matches_decides),
		cmocka_unit_test(test_pass_skips_the_rest_of_its_tier),
		cmocka_unit_test(test_pass_in_the_baseline_tier_leaves_it_allowed),
		cmocka_unit_test(test_baseline_holds_only_where_no_network_policy_selects),
		cmocka_unit_test(test_policy_without_rules_in_a_direction_leaves_it_alone),
		cmocka_unit_test(test_subject_of_pods_needs_both_selectors),
		cmocka_unit_test(test_peers_of_pods_need_both_selectors),
		cmocka_unit_test(test_networks_cover_pods_and_keep_families_apart),
		cmocka_unit_test(test_longer_network_of_another_rule_carves_nothing),
		cmocka_unit_test(test_nodes_are_told_apart_by_their_labels),
		cmocka_unit_test(test_own_node_is_a_node_and_its_probes_pass),
		cmocka_unit_test(test_named_port_means_any_protocol_of_each_pod),
		cmocka_unit_test(test_sctp_alone),
		cmocka_unit_test(test_own_address_and_host_network_pods_are_never_subjects),
		cmocka_unit_test(test_namespace_labels_that_change_change_the_verdict),
		cmocka_unit_test(test_explanation_names_rules_that_passed_it_on),
		cmocka_unit_test(test_tiers_are_in_order),
		cmocka_unit_test(test_policies_that_no_question_reaches_make_no_difference),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
