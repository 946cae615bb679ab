/* SPDX-License-Identifier: Apache-2.0 */
/*
 * networking/v1 row by row: each case asks the compiled tables and the explanation, which must
 * agree, about flows between the pods of stores.c.
 */
#include <errno.h>
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

static void test_no_policy_means_everything_passes(void **state)
{
	(void)state;
	ASK("", { "shop/web", "shop/cart", "80/TCP", PASSES },
	    { "192.168.1.1", "shop/cart", "1/UDP", PASSES },
	    { "shop/web", "8.8.8.8", "53/UDP", PASSES },
	    { "fd00::1", "fd00::1:2", "80/TCP", PASSES });
}

static void test_policies_add_up_in_any_order(void **state)
{
	(void)state;
	ASK(POLICY("a-deny", "shop", "podSelector: {}") POLICY(
		    "b-allow", "shop", "podSelector: {matchLabels: {app: cart}}, ingress: [{}]")
		    POLICY("c-deny", "shop", "podSelector: {}"),
	    { "shop/web", "shop/cart", "80/TCP", PASSES },
	    { "bank/vault", "shop/cart", "80/TCP", PASSES },
	    { "shop/cart", "shop/web", "80/TCP", INGRESS });
}

static void test_both_ends_must_allow_on_one_node_too(void **state)
{
	(void)state;
	ASK(POLICY("out", "shop",
		   "podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{to: "
		   "[{podSelector: {matchLabels: {app: cart}}}]}]")
		    POLICY("in", "shop",
			   "podSelector: {matchLabels: {app: cart}}, ingress: [{from: "
			   "[{podSelector: {matchLabels: {app: db}}}]}]"),
	    { "shop/web", "shop/cart", "80/TCP", INGRESS },
	    { "shop/web", "shop/db", "80/TCP", EGRESS },
	    { "shop/db", "shop/cart", "80/TCP", PASSES });
}

static void test_isolation_is_for_each_direction(void **state)
{
	(void)state;
	ASK(POLICY("in", "shop", "podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]"),
	    { "shop/web", "shop/cart", "80/TCP", PASSES },
	    { "shop/cart", "shop/web", "80/TCP", INGRESS });
	ASK(POLICY("out", "shop", "podSelector: {matchLabels: {app: web}}, policyTypes: [Egress]"),
	    { "shop/web", "shop/cart", "80/TCP", EGRESS },
	    { "shop/web", "8.8.8.8", "80/TCP", EGRESS },
	    { "shop/cart", "shop/web", "80/TCP", PASSES });
}

static void test_policy_types_default_to_ingress_and_to_egress_with_egress_rules(void **state)
{
	(void)state;
	ASK(POLICY("p", "shop",
		   "podSelector: {matchLabels: {app: web}}, egress: [{to: [{ipBlock: {cidr: "
		   "8.8.8.8/32}}]}]"),
	    { "shop/web", "8.8.8.8", "53/UDP", PASSES },
	    { "shop/web", "shop/cart", "80/TCP", EGRESS },
	    { "shop/cart", "shop/web", "80/TCP", INGRESS });
	ASK(POLICY("p", "shop", "podSelector: {matchLabels: {app: web}}, egress: []"),
	    { "shop/web", "shop/cart", "80/TCP", PASSES },
	    { "shop/cart", "shop/web", "80/TCP", INGRESS });
	ASK(POLICY("p", "shop",
		   "podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress], egress: [{to: "
		   "[{podSelector: {}}]}]"),
	    { "shop/web", "8.8.8.8", "80/TCP", PASSES });
}

static void test_absent_null_and_empty_ingress_deny_and_one_empty_rule_allows_all(void **state)
{
	static const char *const denying[] = {
		POLICY("p", "shop", "podSelector: {matchLabels: {app: cart}}"),
		POLICY("p", "shop", "podSelector: {matchLabels: {app: cart}}, ingress: null"),
		POLICY("p", "shop", "podSelector: {matchLabels: {app: cart}}, ingress: []"),
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(denying); i++)
		ASK(denying[i], { "shop/web", "shop/cart", "80/TCP", INGRESS },
		    { "192.168.1.1", "shop/cart", "80/TCP", INGRESS });
	ASK(POLICY("p", "shop", "podSelector: {matchLabels: {app: cart}}, ingress: [{}]"),
	    { "shop/web", "shop/cart", "80/TCP", PASSES },
	    { "192.168.1.1", "shop/cart", "80/ICMP", PASSES });
}

static void test_absent_or_empty_from_is_anybody_even_outside(void **state)
{
	static const char *const anybody[] = { "", "from: [], ", "from: null, " };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(anybody); i++) {
		char policy[400];

		snprintf(
			policy, sizeof(policy),
			POLICY("p", "shop", "podSelector: {}, ingress: [{%s ports: [{port: 80}]}]"),
			anybody[i]);
		ASK(policy, { "192.168.1.1", "shop/cart", "80/TCP", PASSES },
		    { "bank/vault", "shop/cart", "80/TCP", PASSES },
		    { "fd00::1:2", "fd00::2", "80/TCP", PASSES },
		    { "192.168.1.1", "shop/cart", "81/TCP", INGRESS });
	}
}

static void test_namespace_selector_alone_means_all_its_pods(void **state)
{
	(void)state;
	ASK(POLICY("p", "shop",
		   "podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: "
		   "money}}}]}]"),
	    { "bank/vault", "shop/cart", "80/TCP", PASSES },
	    { "shop/web", "shop/cart", "80/TCP", INGRESS });
}

static void test_pod_selector_alone_means_the_policys_own_namespace(void **state)
{
	(void)state;
	ASK(POLICY("p", "shop", "podSelector: {}, ingress: [{from: [{podSelector: {}}]}]"),
	    { "shop/web", "shop/cart", "80/TCP", PASSES },
	    { "bank/teller", "shop/cart", "80/TCP", INGRESS });
}

static void test_both_selectors_in_one_entry_are_and_in_two_entries_or(void **state)
{
	(void)state;
	ASK(POLICY("p", "shop",
		   "podSelector: {matchLabels: {app: cart}}, ingress: [{from: [{podSelector: "
		   "{matchLabels: {app: web}}, namespaceSelector: {matchLabels: {team: "
		   "money}}}]}]"),
	    { "bank/teller", "shop/cart", "80/TCP", PASSES },
	    { "bank/vault", "shop/cart", "80/TCP", INGRESS },
	    { "shop/web", "shop/cart", "80/TCP", INGRESS });
	ASK(POLICY("p", "shop",
		   "podSelector: {matchLabels: {app: cart}}, ingress: [{from: [{podSelector: "
		   "{matchLabels: {app: web}}}, {namespaceSelector: {matchLabels: {team: "
		   "money}}}]}]"),
	    { "bank/teller", "shop/cart", "80/TCP", PASSES },
	    { "bank/vault", "shop/cart", "80/TCP", PASSES },
	    { "shop/web", "shop/cart", "80/TCP", PASSES },
	    { "shop/db", "shop/cart", "80/TCP", INGRESS });
}

static void test_empty_namespace_selector_is_every_namespace_but_not_the_world(void **state)
{
	(void)state;
	ASK(POLICY("p", "shop", "podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]"),
	    { "bank/vault", "shop/cart", "80/TCP", PASSES },
	    { "shop/web", "shop/cart", "80/TCP", PASSES },
	    { "192.168.1.1", "shop/cart", "80/TCP", INGRESS },
	    { "10.0.0.99", "shop/cart", "80/TCP", INGRESS });
}

static void test_port_entry_without_port_is_all_of_its_protocol_and_tcp_by_default(void **state)
{
	(void)state;
	ASK(POLICY("p", "shop", "podSelector: {}, ingress: [{ports: [{port: 80}, {}]}]"),
	    { "shop/web", "shop/cart", "80/TCP", PASSES },
	    { "shop/web", "shop/cart", "9999/TCP", PASSES },
	    { "shop/web", "shop/cart", "80/UDP", INGRESS });
	ASK(POLICY("p", "shop", "podSelector: {}, ingress: [{ports: [{protocol: UDP}]}]"),
	    { "shop/web", "shop/cart", "1/UDP", PASSES },
	    { "shop/web", "shop/cart", "80/TCP", INGRESS });
}

static void test_named_port_of_ingress_is_the_targets_own(void **state)
{
	(void)state;
	ASK(POLICY("p", "shop", "podSelector: {}, ingress: [{ports: [{port: http}]}]"),
	    { "shop/web", "shop/cart", "8080/TCP", PASSES },
	    { "shop/web", "shop/cart", "9090/TCP", INGRESS },
	    { "shop/web", "shop/db", "9090/TCP", PASSES },
	    { "shop/web", "shop/db", "8080/TCP", INGRESS },
	    { "shop/cart", "shop/web", "8080/TCP", INGRESS });
}

static void test_named_port_of_egress_is_each_destinations(void **state)
{
	static const char policy[] =
		POLICY("p", "shop",
		       "podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: "
		       "[{to: [{podSelector: {}}, {ipBlock: {cidr: 10.0.0.0/8}}], ports: [{port: "
		       "http}]}]");

	(void)state;
	ASK(policy, { "shop/web", "shop/cart", "8080/TCP", PASSES },
	    { "shop/web", "shop/cart", "9090/TCP", EGRESS },
	    { "shop/web", "shop/db", "9090/TCP", PASSES },
	    { "shop/web", "shop/db", "8080/TCP", EGRESS },
	    { "shop/web", "bank/vault", "8080/TCP", EGRESS },
	    { "shop/web", "10.9.9.9", "8080/TCP", EGRESS });
	ASK(POLICY("p", "shop",
		   "podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: "
		   "[{ports: "
		   "[{port: http}]}]"),
	    { "shop/web", "shop/cart", "8080/TCP", PASSES },
	    { "shop/web", "shop/db", "9090/TCP", PASSES },
	    { "shop/web", "8.8.8.8", "8080/TCP", EGRESS });
}

static void test_port_name_goes_with_its_protocol_or_means_nothing(void **state)
{
	(void)state;
	ASK(POLICY("p", "shop",
		   "podSelector: {}, ingress: [{ports: [{port: dns, protocol: UDP}]}]"),
	    { "shop/web", "shop/cart", "53/UDP", PASSES },
	    { "shop/web", "shop/cart", "5353/TCP", INGRESS },
	    { "shop/web", "shop/cart", "5353/UDP", INGRESS });
	ASK(POLICY("p", "shop", "podSelector: {}, ingress: [{ports: [{port: nothing}]}]"),
	    { "shop/web", "shop/cart", "80/TCP", INGRESS },
	    { "shop/web", "shop/cart", "0/TCP", INGRESS });
}

static void test_port_name_beside_a_block_means_the_pods_in_it(void **state)
{
	(void)state;
	ASK(POLICY("p", "shop",
		   "podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{to: "
		   "[{ipBlock: {cidr: 10.0.0.0/29, except: [10.0.0.3/32]}}], ports: [{port: http}, "
		   "{port: 443}]}]"),
	    { "shop/web", "shop/cart", "8080/TCP", PASSES },
	    { "shop/web", "shop/cart", "9090/TCP", EGRESS },
	    { "shop/web", "shop/db", "9090/TCP", EGRESS }, /* in the except */
	    { "shop/web", "10.0.0.6", "8080/TCP", EGRESS },
	    { "shop/web", "10.0.0.6", "443/TCP", PASSES });
}

static void test_first_container_with_a_port_name_counts(void **state)
{
	ASK("---\n{apiVersion: v1, kind: Pod, metadata: {name: two, namespace: shop}, spec: "
	    "{containers: [{ports: [{name: http, containerPort: 81, protocol: UDP}]}, {ports: "
	    "[{name: http, containerPort: 82}]}, {ports: [{name: http, containerPort: 83}]}], "
	    "initContainers: [{restartPolicy: Always, ports: [{name: side, containerPort: 84}]}, "
	    "{ports: [{name: once, containerPort: 85}]}]}, status: {podIP: 10.0.0.7}}\n" POLICY(
		    "p", "shop",
		    "podSelector: {}, ingress: [{ports: [{port: http}, {port: side}, {port: "
		    "once}]}]"),
	    { "shop/web", "shop/two", "82/TCP", PASSES },
	    { "shop/web", "shop/two", "83/TCP", INGRESS },
	    { "shop/web", "shop/two", "81/TCP", INGRESS },
	    { "shop/web", "shop/two", "84/TCP", PASSES },
	    { "shop/web", "shop/two", "85/TCP", INGRESS });
	(void)state;
}

static void test_absent_null_and_empty_ports_are_all_ports(void **state)
{
	static const char *const all[] = { "", ", ports: []", ", ports: null" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		char policy[400];

		snprintf(policy, sizeof(policy),
			 POLICY("p", "shop",
				"podSelector: {}, ingress: [{from: [{podSelector: {}}]%s}]"),
			 all[i]);
		ASK(policy, { "shop/web", "shop/cart", "1/TCP", PASSES },
		    { "shop/web", "shop/cart", "65535/SCTP", PASSES },
		    { "shop/web", "shop/cart", "0/ICMP", PASSES },
		    { "bank/vault", "shop/cart", "1/TCP", INGRESS });
	}
}

static void test_absent_null_and_empty_egress_deny_where_egress_is_named(void **state)
{
	static const char *const denying[] = { "", ", egress: []", ", egress: null" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(denying); i++) {
		char policy[400];

		snprintf(policy, sizeof(policy),
			 POLICY("p", "shop",
				"podSelector: {matchLabels: {app: web}}, policyTypes: [Egress]%s"),
			 denying[i]);
		ASK(policy, { "shop/web", "shop/cart", "80/TCP", EGRESS },
		    { "shop/web", "8.8.8.8", "0/ICMP", EGRESS },
		    { "shop/cart", "shop/web", "80/TCP", PASSES });
	}
	ASK(POLICY("p", "shop",
		   "podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{}]"),
	    { "shop/web", "shop/cart", "80/TCP", PASSES },
	    { "shop/web", "2001:db8::1", "80/TCP", PASSES },
	    { "shop/cart", "shop/web", "80/TCP", PASSES });
}

static void test_end_port_is_inclusive(void **state)
{
	(void)state;
	ASK(POLICY("p", "shop",
		   "podSelector: {}, ingress: [{ports: [{port: 8000, endPort: 8010}, {port: 65535, "
		   "endPort: 65535, protocol: UDP}]}]"),
	    { "shop/web", "shop/cart", "7999/TCP", INGRESS },
	    { "shop/web", "shop/cart", "8000/TCP", PASSES },
	    { "shop/web", "shop/cart", "8010/TCP", PASSES },
	    { "shop/web", "shop/cart", "8011/TCP", INGRESS },
	    { "shop/web", "shop/cart", "65535/UDP", PASSES },
	    { "shop/web", "shop/cart", "65534/UDP", INGRESS });
}

static void test_sctp_rule_isolates_and_allows_no_tcp(void **state)
{
	(void)state;
	ASK(POLICY("p", "shop",
		   "podSelector: {}, ingress: [{ports: [{port: 80, protocol: SCTP}]}]"),
	    { "shop/web", "shop/cart", "80/SCTP", PASSES },
	    { "shop/web", "shop/cart", "80/TCP", INGRESS },
	    { "shop/web", "shop/cart", "81/SCTP", INGRESS });
}

static void test_except_carves_only_its_own_entry(void **state)
{
	static const char one[] =
		POLICY("p", "shop",
		       "podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: "
		       "[{to: [{ipBlock: {cidr: 192.168.0.0/16, except: [192.168.1.0/24]}}]}]");

	(void)state;
	ASK(one, { "shop/web", "192.168.2.1", "80/TCP", PASSES },
	    { "shop/web", "192.168.1.1", "80/TCP", EGRESS },
	    { "shop/web", "192.169.0.1", "80/TCP", EGRESS });
	ASK(POLICY("p", "shop",
		   "podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{to: "
		   "[{ipBlock: {cidr: 192.168.0.0/16, except: [192.168.1.0/24]}}]}, {to: "
		   "[{ipBlock: {cidr: 192.168.1.128/25}}]}]"),
	    { "shop/web", "192.168.1.127", "80/TCP", EGRESS },
	    { "shop/web", "192.168.1.128", "80/TCP", PASSES });
}

static void test_blocks_of_several_policies_add_up(void **state)
{
	(void)state;
	ASK(POLICY("wide", "shop",
		   "podSelector: {matchLabels: {app: cart}}, ingress: [{from: [{ipBlock: {cidr: "
		   "192.168.0.0/16, except: [192.168.1.0/24]}}, {ipBlock: {cidr: 'fd01::/16', "
		   "except: ['fd01:1::/32']}}], ports: [{port: 80}]}]")
		    POLICY("narrow", "shop",
			   "podSelector: {}, ingress: [{from: [{ipBlock: {cidr: "
			   "192.168.1.128/25}}, "
			   "{ipBlock: {cidr: 'fd01:1:2::/48'}}], ports: [{port: 81}]}]"),
	    { "192.168.2.1", "shop/cart", "80/TCP", PASSES },
	    { "192.168.2.1", "shop/cart", "81/TCP", INGRESS },
	    { "192.168.1.1", "shop/cart", "80/TCP", INGRESS },
	    { "192.168.1.200", "shop/cart", "80/TCP", INGRESS },
	    { "192.168.1.200", "shop/cart", "81/TCP", PASSES },
	    { "192.168.1.200", "shop/web", "81/TCP", PASSES },
	    { "192.168.2.1", "shop/web", "81/TCP", INGRESS },
	    { "fd01:2::1", "fd00::2", "80/TCP", PASSES },
	    { "fd01:1:2::1", "fd00::2", "80/TCP", INGRESS },
	    { "fd01:1:2::1", "fd00::2", "81/TCP", PASSES });
}

static void test_cidrs_with_host_bits_zero_and_full_length(void **state)
{
	(void)state;
	ASK(POLICY("p", "shop",
		   "podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 192.168.1.77/24}}, "
		   "{ipBlock: {cidr: 8.8.8.8/32}}]}]"),
	    { "192.168.1.1", "shop/cart", "80/TCP", PASSES },
	    { "192.168.2.1", "shop/cart", "80/TCP", INGRESS },
	    { "8.8.8.8", "shop/cart", "80/TCP", PASSES },
	    { "8.8.8.9", "shop/cart", "80/TCP", INGRESS });
}

static void test_families_are_kept_apart(void **state)
{
	(void)state;
	ASK(POLICY("p", "shop", "podSelector: {}, ingress: [{from: [{ipBlock: {cidr: '::/0'}}]}]"),
	    { "2001:db8::1", "fd00::2", "80/TCP", PASSES },
	    { "fd00::1", "fd00::2", "80/TCP", PASSES },
	    { "192.168.1.1", "shop/cart", "80/TCP", INGRESS },
	    { "shop/web", "shop/cart", "80/TCP", INGRESS });
	ASK(POLICY("p", "shop",
		   "podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}]}]"),
	    { "192.168.1.1", "shop/cart", "80/TCP", PASSES },
	    { "shop/web", "shop/cart", "80/TCP", PASSES },
	    { "2001:db8::1", "fd00::2", "80/TCP", INGRESS },
	    { "fd00::1", "fd00::2", "80/TCP", INGRESS });
}

static void test_block_subsumes_pods_as_well(void **state)
{
	(void)state;
	ASK(POLICY("p", "shop",
		   "podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.1.0/24, except: "
		   "[10.0.1.2/32]}}]}]"),
	    { "bank/teller", "shop/cart", "80/TCP", PASSES },
	    { "bank/vault", "shop/cart", "80/TCP", INGRESS },
	    { "fd00::1:1", "fd00::2", "80/TCP", INGRESS });
}

static void test_own_node_always_reaches_its_pods_and_others_do_not(void **state)
{
	struct store *store =
		store_of(two_namespaces,
			 POLICY("p", "shop", "podSelector: {}, policyTypes: [Ingress, Egress]"));
	const struct store_query queries[] = {
		{ "10.0.0.254", "shop/cart", "80/TCP", PASSES },
		{ "fd00::fe", "fd00::2", "80/TCP", PASSES },
		{ "10.0.2.254", "shop/cart", "80/TCP", INGRESS },
		{ "shop/cart", "10.0.0.254", "80/TCP", EGRESS },
	};
	struct addr host[2];

	(void)state;
	assert_int_equal(addr_parse("10.0.0.254", &host[0]), 0);
	assert_int_equal(addr_parse("fd00::fe", &host[1]), 0);
	store_host_addresses_set(store, host, 2);
	store_ask_all(store, queries, ARRAY_SIZE(queries));
	store_free(store);
}

static void test_block_tells_the_own_node_from_the_world(void **state)
{
	struct store *store = store_of(
		two_namespaces,
		POLICY("p", "shop",
		       "podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: "
		       "10.0.0.254/32}}]}]"));
	const struct store_query queries[] = {
		{ "shop/cart", "10.0.0.254", "80/TCP", PASSES },
		{ "shop/cart", "10.0.0.253", "80/TCP", EGRESS },
	};
	struct addr host;

	(void)state;
	assert_int_equal(addr_parse("10.0.0.254", &host), 0);
	store_host_addresses_set(store, &host, 1);
	store_ask_all(store, queries, ARRAY_SIZE(queries));
	store_free(store);
}

static void test_pod_always_reaches_itself(void **state)
{
	(void)state;
	ASK(POLICY("p", "shop", "podSelector: {}, policyTypes: [Ingress, Egress]"),
	    { "shop/cart", "shop/cart", "80/TCP", PASSES },
	    { "fd00::2", "fd00::2", "80/TCP", PASSES },
	    { "shop/cart", "shop/web", "80/TCP", EGRESS });
}

static void test_host_network_pod_is_its_node(void **state)
{
	static const char agent[] =
		POLICY("p", "shop",
		       "podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: "
		       "agent}}}]}]") "---\n{apiVersion: v1, kind: Pod, metadata: {name: agent, "
				      "namespace: shop, labels: "
				      "{app: agent}}, spec: {hostNetwork: true}, status: {podIP: "
				      "10.0.2.254}}\n";

	(void)state;
	/* As a subject it has no policy, as a peer it has no labels. */
	ASK(agent, { "shop/web", "10.0.2.254", "80/TCP", PASSES },
	    { "shop/agent", "shop/cart", "80/TCP", INGRESS });
	ASK(POLICY("p", "shop",
		   "podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.2.254/32}}]}]") "---"
											     "\n{"
											     "apiVe"
											     "rsion"
											     ": "
											     "v1, "
											     "kind:"
											     " Pod,"
											     " meta"
											     "data:"
											     " {"
											     "name:"
											     " agen"
											     "t, "
											     "names"
											     "pace:"
											     " shop"
											     "}, "
											     "spec:"
											     " "
											     "{host"
											     "Netwo"
											     "rk: "
											     "true}"
											     ", "
											     "statu"
											     "s: "
											     "{podI"
											     "P: "
											     "10.0."
											     "2."
											     "254}}"
											     "\n",
	    { "shop/agent", "shop/cart", "80/TCP", PASSES });
}

static void test_terminated_pods_address_is_nobodys(void **state)
{
	static const char *const phases[] = { "Succeeded", "Failed" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(phases); i++) {
		char text[800];

		/* Another pod has the address now. */
		snprintf(
			text, sizeof(text),
			POLICY("p", "shop",
			       "podSelector: {matchLabels: {app: db}}, ingress: [{from: "
			       "[{podSelector: {matchLabels: {app: job}}}]}]") "---\n{apiVersion: "
									       "v1, kind: Pod, "
									       "metadata: {name: "
									       "job, namespace: "
									       "shop, "
									       "labels: {app: "
									       "job}}, status: "
									       "{phase: %s, podIP: "
									       "10.0.0.1}}\n"
									       "---\n{apiVersion: "
									       "v1, kind: Pod, "
									       "metadata: {name: "
									       "old, namespace: "
									       "shop, "
									       "labels: {app: "
									       "job}}, status: "
									       "{phase: %s, podIP: "
									       "10.0.0.77}}\n",
			phases[i], phases[i]);
		ASK(text, { "shop/web", "shop/db", "80/TCP", INGRESS },
		    { "10.0.0.77", "shop/db", "80/TCP", INGRESS });
	}
}

static void test_pod_made_again_under_its_name_has_its_own_rights(void **state)
{
	struct store *store = store_of(
		two_namespaces, POLICY("p", "shop",
				       "podSelector: {matchLabels: {app: cart}}, ingress: [{from: "
				       "[{podSelector: {matchLabels: {app: web}}}]}]"));

	(void)state;
	assert_int_equal(store_ask(store, "10.0.0.1", "shop/cart", "80/TCP"), PASSES);
	/* Another address, then other labels too; the old address is nobody's. */
	store_add(store, "--- {apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop, "
			 "uid: u2, labels: {app: web}}, status: {podIP: 10.0.0.9}}");
	assert_int_equal(store_ask(store, "10.0.0.1", "shop/cart", "80/TCP"), INGRESS);
	assert_int_equal(store_ask(store, "10.0.0.9", "shop/cart", "80/TCP"), PASSES);
	store_add(store, "--- {apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop, "
			 "uid: u3, labels: {app: other}}, status: {podIP: 10.0.0.1}}");
	assert_int_equal(store_ask(store, "10.0.0.1", "shop/cart", "80/TCP"), INGRESS);
	/* And the old address is somebody else's. */
	assert_int_equal(store_del(store, OBJECT_POD, "shop", "web"), 0);
	store_add(store, "--- {apiVersion: v1, kind: Pod, metadata: {name: third, namespace: shop, "
			 "labels: {app: web}}, status: {podIP: 10.0.0.1}}");
	assert_int_equal(store_ask(store, "10.0.0.1", "shop/cart", "80/TCP"), PASSES);
	store_free(store);
}

static void test_labels_that_change_change_the_verdict(void **state)
{
	struct store *store =
		store_of(two_namespaces,
			 POLICY("p", "shop",
				"podSelector: {matchLabels: {app: cart}}, ingress: [{from: "
				"[{namespaceSelector: {matchLabels: {team: money}}, podSelector: "
				"{matchLabels: {app: web}}}]}]"));

	(void)state;
	assert_int_equal(store_ask(store, "bank/teller", "shop/cart", "80/TCP"), PASSES);
	/* The peer's namespace, the peer, then the target itself. */
	store_add(store, "--- {apiVersion: v1, kind: Namespace, metadata: {name: bank}}");
	assert_int_equal(store_ask(store, "bank/teller", "shop/cart", "80/TCP"), INGRESS);
	store_add(store, "--- {apiVersion: v1, kind: Namespace, metadata: {name: bank, labels: "
			 "{team: money}}}");
	store_add(store,
		  "--- {apiVersion: v1, kind: Pod, metadata: {name: teller, namespace: bank, "
		  "labels: {app: other}}, status: {podIP: 10.0.1.1}}");
	assert_int_equal(store_ask(store, "bank/teller", "shop/cart", "80/TCP"), INGRESS);
	store_add(store, "--- {apiVersion: v1, kind: Pod, metadata: {name: cart, namespace: shop}, "
			 "status: {podIP: 10.0.0.2}}");
	assert_int_equal(store_ask(store, "bank/teller", "shop/cart", "80/TCP"), PASSES);
	assert_int_equal(store_del(store, OBJECT_NETWORK_POLICY, "shop", "p"), 0);
	assert_int_equal(store_ask(store, "shop/db", "shop/cart", "80/TCP"), PASSES);
	store_free(store);
}

static void test_namespace_name_is_a_label_even_without_an_object(void **state)
{
	(void)state;
	ASK(POLICY("p", "shop",
		   "podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: "
		   "{kubernetes.io/metadata.name: bank}}}, {namespaceSelector: {matchExpressions: "
		   "[{key: kubernetes.io/metadata.name, operator: In, values: [lab]}]}}]}]") "---"
											     "\n{"
											     "apiVe"
											     "rsion"
											     ": "
											     "v1, "
											     "kind:"
											     " Pod,"
											     " meta"
											     "data:"
											     " {"
											     "name:"
											     " x, "
											     "names"
											     "pace:"
											     " lab}"
											     ", "
											     "statu"
											     "s: "
											     "{podI"
											     "P: "
											     "10.0."
											     "3.1}}"
											     "\n",
	    { "bank/vault", "shop/cart", "80/TCP", PASSES },
	    { "lab/x", "shop/cart", "80/TCP", PASSES },
	    { "shop/web", "shop/cart", "80/TCP", INGRESS });
}

static void test_policy_before_its_pods_and_in_an_empty_namespace(void **state)
{
	(void)state;
	ASK(POLICY("p", "nowhere", "podSelector: {}, ingress: [{from: [{podSelector: {}}]}]"),
	    { "shop/web", "shop/cart", "80/TCP", PASSES });
	ASK(POLICY("p", "later", "podSelector: {}") "---\n{apiVersion: v1, kind: Pod, metadata: "
						    "{name: x, namespace: later}, status: "
						    "{podIP: 10.0.3.1}}\n",
	    { "shop/web", "later/x", "80/TCP", INGRESS });
}

static void test_other_protocols_pass_only_rules_without_ports(void **state)
{
	(void)state;
	ASK(POLICY("p", "shop", "podSelector: {}, ingress: [{ports: [{}, {protocol: UDP}]}]"),
	    { "shop/web", "shop/cart", "0/ICMP", INGRESS },
	    { "shop/web", "shop/cart", "0/50", INGRESS });
	ASK(POLICY("p", "shop", "podSelector: {}, ingress: [{from: [{podSelector: {}}]}]"),
	    { "shop/web", "shop/cart", "0/ICMP", PASSES },
	    { "bank/vault", "shop/cart", "0/ICMP", INGRESS });
}

static void test_every_operator_and_absent_keys(void **state)
{
	static const struct {
		const char *term;
		int web;  /* app: web, tier: front */
		int cart; /* app: cart */
	} cases[] = {
		{ "{key: tier, operator: In, values: [front, back]}", PASSES, INGRESS },
		{ "{key: tier, operator: NotIn, values: [front]}", INGRESS, PASSES },
		{ "{key: tier, operator: Exists}", PASSES, INGRESS },
		{ "{key: tier, operator: DoesNotExist}", INGRESS, PASSES },
		{ "{key: tier, operator: DoesNotExist}, {key: app, operator: In, values: [web]}",
		  INGRESS, INGRESS },
		{ "{key: none, operator: NotIn, values: ['']}", PASSES, PASSES },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char policy[500];

		snprintf(policy, sizeof(policy),
			 POLICY("p", "shop",
				"podSelector: {matchLabels: {app: db}}, ingress: [{from: "
				"[{podSelector: {matchExpressions: [%s]}}]}]"),
			 cases[i].term);
		ASK(policy, { "shop/web", "shop/db", "80/TCP", cases[i].web },
		    { "shop/cart", "shop/db", "80/TCP", cases[i].cart });
	}
}

static void test_audited_ends_pass_over_what_they_refuse(void **state)
{
	struct store *store = store_of(two_namespaces, POLICY("closed", "shop",
							      "podSelector: {}, policyTypes: "
							      "[Ingress, Egress]"));
	struct flow flow = { .proto = 6, .sport = 1, .dport = 1 };
	struct compiled *compiled;
	enum drop_reason would;

	(void)state;
	store_add(store, "--- {apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop, "
			 "annotations: {tendril.io/policy-audit: 'true'}}, status: "
			 "{podIP: 10.0.0.1}}");
	assert_int_equal(addr_parse("10.0.0.1", &flow.saddr), 0);
	assert_int_equal(addr_parse("10.0.0.2", &flow.daddr), 0);
	compiled = store_compile(store);
	assert_int_equal(verdict_flow(compiled, &flow), DROP_EGRESS_DENIED);
	/* The sender is audited, the receiver refuses it too. */
	assert_int_equal(verdict_audited(compiled, &flow, false, &would), DROP_INGRESS_DENIED);
	assert_int_equal(verdict_audited(compiled, &flow, true, &would), DROP_NONE);
	assert_int_equal(would, DROP_EGRESS_DENIED);
	assert_int_equal(addr_parse("10.0.1.1", &flow.daddr), 0);
	assert_int_equal(verdict_audited(compiled, &flow, false, &would), DROP_NONE);
	assert_int_equal(would, DROP_EGRESS_DENIED);
	flow.daddr = flow.saddr;
	assert_int_equal(addr_parse("10.0.1.1", &flow.saddr), 0);
	assert_int_equal(verdict_audited(compiled, &flow, false, &would), DROP_NONE);
	assert_int_equal(would, DROP_INGRESS_DENIED);
	assert_int_equal(addr_parse("10.0.0.2", &flow.saddr), 0);
	assert_int_equal(verdict_audited(compiled, &flow, false, &would), DROP_EGRESS_DENIED);
	assert_int_equal(would, DROP_NONE);
	compiled_free(compiled);
	store_free(store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_policy_means_everything_passes),
		cmocka_unit_test(test_policies_add_up_in_any_order),
		cmocka_unit_test(test_both_ends_must_allow_on_one_node_too),
		cmocka_unit_test(test_isolation_is_for_each_direction),
		cmocka_unit_test(
			test_policy_types_default_to_ingress_and_to_egress_with_egress_rules),
		cmocka_unit_test(
			test_absent_null_and_empty_ingress_deny_and_one_empty_rule_allows_all),
		cmocka_unit_test(test_absent_or_empty_from_is_anybody_even_outside),
		cmocka_unit_test(test_namespace_selector_alone_means_all_its_pods),
		cmocka_unit_test(test_pod_selector_alone_means_the_policys_own_namespace),
		cmocka_unit_test(test_both_selectors_in_one_entry_are_and_in_two_entries_or),
		cmocka_unit_test(
			test_empty_namespace_selector_is_every_namespace_but_not_the_world),
		cmocka_unit_test(
			test_port_entry_without_port_is_all_of_its_protocol_and_tcp_by_default),
		cmocka_unit_test(test_named_port_of_ingress_is_the_targets_own),
		cmocka_unit_test(test_named_port_of_egress_is_each_destinations),
		cmocka_unit_test(test_port_name_goes_with_its_protocol_or_means_nothing),
		cmocka_unit_test(test_port_name_beside_a_block_means_the_pods_in_it),
		cmocka_unit_test(test_first_container_with_a_port_name_counts),
		cmocka_unit_test(test_absent_null_and_empty_ports_are_all_ports),
		cmocka_unit_test(test_absent_null_and_empty_egress_deny_where_egress_is_named),
		cmocka_unit_test(test_end_port_is_inclusive),
		cmocka_unit_test(test_sctp_rule_isolates_and_allows_no_tcp),
		cmocka_unit_test(test_except_carves_only_its_own_entry),
		cmocka_unit_test(test_blocks_of_several_policies_add_up),
		cmocka_unit_test(test_cidrs_with_host_bits_zero_and_full_length),
		cmocka_unit_test(test_families_are_kept_apart),
		cmocka_unit_test(test_block_subsumes_pods_as_well),
		cmocka_unit_test(test_own_node_always_reaches_its_pods_and_others_do_not),
		cmocka_unit_test(test_block_tells_the_own_node_from_the_world),
		cmocka_unit_test(test_pod_always_reaches_itself),
		cmocka_unit_test(test_host_network_pod_is_its_node),
		cmocka_unit_test(test_terminated_pods_address_is_nobodys),
		cmocka_unit_test(test_pod_made_again_under_its_name_has_its_own_rights),
		cmocka_unit_test(test_labels_that_change_change_the_verdict),
		cmocka_unit_test(test_namespace_name_is_a_label_even_without_an_object),
		cmocka_unit_test(test_policy_before_its_pods_and_in_an_empty_namespace),
		cmocka_unit_test(test_other_protocols_pass_only_rules_without_ports),
		cmocka_unit_test(test_every_operator_and_absent_keys),
		cmocka_unit_test(test_audited_ends_pass_over_what_they_refuse),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
