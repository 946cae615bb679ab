/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What changes between two stores: what is said about single cases, and, over random stores, every
 * pair of pods and of pods and addresses, asked port by port in both of them.
 */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/auto.h"
#include "policy/analysis/diff.h"
#include "policy/compiler/verdict.h"
#include "unit/stores.h"

#include <cmocka.h> /* last: it makes fail a macro */

static const char pods[] =
	"---\n{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop, labels: {app: "
	"web}},"
	" status: {podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]}}\n"
	"---\n{apiVersion: v1, kind: Pod, metadata: {name: db-1, namespace: shop, labels: {app: "
	"db}},"
	" spec: {containers: [{ports: [{name: sql, containerPort: 5432}]}]},"
	" status: {podIPs: [{ip: 10.0.0.2}, {ip: 'fd00::2'}]}}\n"
	"---\n{apiVersion: v1, kind: Pod, metadata: {name: db-2, namespace: shop, labels: {app: "
	"db}},"
	" spec: {containers: [{ports: [{name: sql, containerPort: 5432}]}]},"
	" status: {podIPs: [{ip: 10.0.0.3}, {ip: 'fd00::3'}]}}\n"
	"---\n{apiVersion: v1, kind: Pod, metadata: {name: old, namespace: bank},"
	" status: {podIPs: [{ip: 10.0.1.1}]}}\n"
	"---\n{apiVersion: v1, kind: Pod, metadata: {name: new, namespace: bank}}\n";

static void names_add(struct buffer *text, const struct peer_group *peer_groups,
		      const size_t *numbers, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		buffer_add(text, i ? " + " : "", i ? 3 : 0);
		buffer_add(text, peer_groups[numbers[i]].name,
			   strlen(peer_groups[numbers[i]].name));
	}
}

/* "FROM > TO: +PORTS -PORTS [family]", one a line. */
static void changes_text(const struct policy_diff *diff, struct buffer *text)
{
	size_t count;
	const struct peer_group *peer_groups = reach_peer_groups(diff->reach, &count);

	for (size_t i = 0; i < diff->change_count; i++) {
		const struct diff_change *change = &diff->changes[i];

		names_add(text, peer_groups, change->from, change->from_count);
		buffer_add(text, " > ", 3);
		names_add(text, peer_groups, change->to, change->to_count);
		buffer_add(text, ": +", 3);
		ports_text(reach_pool(diff->reach), change->allowed, text);
		buffer_add(text, " -", 2);
		ports_text(reach_pool(diff->reach), change->denied, text);
		if (!change->families[FAMILY_V4])
			buffer_add(text, " v6", 3);
		if (!change->families[FAMILY_V6])
			buffer_add(text, " v4", 3);
		buffer_add(text, "\n", 1);
	}
}

static void expect(const char *old_text, const char *new_text, const char *wanted)
{
	struct store *old_store = store_of(pods, old_text);
	struct store *new_store = store_of(pods, new_text);
	auto_buffer struct buffer text = { 0 };
	struct policy_diff *diff = policy_diff(old_store, new_store);

	buffer_add(&text, "", 0);
	changes_text(diff, &text);
	assert_string_equal(text.data, wanted);
	policy_diff_free(diff);
	store_free(old_store);
	store_free(new_store);
}

#define DB_OPEN_TO(ports) \
	POLICY("db", "shop", "podSelector: {matchLabels: {app: db}}, ingress: [" ports "]")

static void test_no_change(void **state)
{
	(void)state;
	expect("", "", "");
	/* Written in another way. */
	expect(DB_OPEN_TO("{ports: [{port: 80}, {port: 81}]}"),
	       DB_OPEN_TO("{ports: [{port: 80, endPort: 81}]}")
		       POLICY("again", "shop", "podSelector: {matchLabels: {app: db}}"),
	       "");
	expect("", POLICY("open", "shop", "podSelector: {}, ingress: [{}]"), "");
	expect(DB_OPEN_TO("{ports: [{port: 1, endPort: 65535}]}"), DB_OPEN_TO("{ports: [{}]}"), "");
}

static void test_ports_are_exact(void **state)
{
	(void)state;
	expect(DB_OPEN_TO("{ports: [{port: 5432}]}"),
	       DB_OPEN_TO("{from: [{podSelector: {matchLabels: {app: web}}}], "
			  "ports: [{port: 5400, endPort: 5440}]}"),
	       "bank/new + bank/old + shop/app=db (2 pods) + 0.0.0.0/0 + ::/0 > "
	       "shop/app=db (2 pods): +nothing -5432/TCP\n"
	       "shop/web > shop/app=db (2 pods): +5400-5431/TCP, 5433-5440/TCP -nothing\n");
}

static void test_isolation_names_what_is_cut_off(void **state)
{
	(void)state;
	expect("", POLICY("deny", "bank", "podSelector: {}, policyTypes: [Egress]"),
	       "bank/new > bank/new + bank/old + shop/* (3 pods) + 0.0.0.0/0 + ::/0: +nothing "
	       "-all ports\n"
	       "bank/old > bank/new + bank/old + shop/* (3 pods) + 0.0.0.0/0: +nothing "
	       "-all ports\n");
}

static void test_families_are_told_apart_where_they_differ(void **state)
{
	(void)state;
	expect(POLICY("web", "shop", "podSelector: {matchLabels: {app: web}}"),
	       POLICY("web", "shop",
		      "podSelector: {matchLabels: {app: web}}, ingress: [{from: [{ipBlock: "
		      "{cidr: 10.0.0.0/30}}], ports: [{port: 80}]}]"),
	       "shop/app=db in 10.0.0.0/30 (2 pods) > shop/web: +80/TCP -nothing v4\n"
	       "10.0.0.0/30 > shop/web: +80/TCP -nothing\n");
}

static void test_an_address_block_of_pods_alone_is_nobody_outside(void **state)
{
	(void)state;
	expect(POLICY("web", "shop", "podSelector: {matchLabels: {app: web}}"),
	       POLICY("web", "shop",
		      "podSelector: {matchLabels: {app: web}}, ingress: [{from: [{ipBlock: "
		      "{cidr: 10.0.0.2/31}}, {ipBlock: {cidr: 'fd00::2/127'}}], "
		      "ports: [{port: 80}]}]"),
	       "shop/app=db in 10.0.0.2/31 (2 pods) > shop/web: +80/TCP -nothing\n");
}

static void test_tiers_and_nodes_are_seen(void **state)
{
	static const char nodes[] =
		"---\n{apiVersion: v1, kind: Node, metadata: {name: n1, labels: {role: control}}, "
		"status: {addresses: [{type: InternalIP, address: 10.8.0.1}]}}\n"
		"---\n{apiVersion: v1, kind: Node, metadata: {name: n2}, status: {addresses: "
		"[{type: InternalIP, address: 10.8.0.2}]}}\n";
	char guarded[2000];

	(void)state;
	snprintf(
		guarded, sizeof(guarded), "%s%s", nodes,
		CLUSTER_POLICY("guard", "Admin", 1,
			       "subject: {pods: {podSelector: {matchLabels: {app: web}}}}, egress: "
			       "[{action: Deny, to: [{nodes: {matchLabels: {role: control}}}], "
			       "protocols: [{tcp: {destinationPort: {number: 6443}}}]}]"));
	expect(nodes, guarded, "shop/web > 10.8.0.1/32: +nothing -6443/TCP\n");
	expect("",
	       CLUSTER_POLICY("floor", "Baseline", 1,
			      "subject: {pods: {podSelector: {matchLabels: {app: web}}}}, ingress: "
			      "[{action: Deny, from: [{pods: {podSelector: {matchLabels: {app: "
			      "db}}}}]}]"),
	       "shop/app=db (2 pods) > shop/web: +nothing -all ports\n");
}

/* ---- random stores ---- */

#define PODS     8
#define POLICIES 5

static const char *const pod_addresses[][2] = {
	{ "10.0.0.1", "fd00::1" }, { "10.0.0.2", "fd00::2" }, { "10.0.0.3", "fd00::3" },
	{ "10.0.0.4", NULL },      { NULL, "fd00::5" },       { "10.0.1.6", "fd00::6" },
	{ "10.0.1.7", "fd00::7" }, { "10.0.1.8", "fd00::8" },
};
static const char *const outsiders[] = { "8.8.8.8",  "10.0.0.200", "10.1.2.3",
					 "fd00::c8", "2001::1",    "10.0.0.0" };
static const uint16_t ports[] = { 1, 79, 80, 81, 82, 443, 5432, 8080, 65535 };
static const uint8_t protocols[] = { 6, 17, 132, 47 };

#define PICK(list) ((list)[(size_t)rand() % ARRAY_SIZE(list)])

static void add(struct buffer *text, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void add(struct buffer *text, const char *fmt, ...)
{
	char words[400];
	va_list args;

	va_start(args, fmt);
	vsnprintf(words, sizeof(words), fmt, args);
	va_end(args);
	buffer_add(text, words, strlen(words));
}

static void random_pods(struct buffer *text)
{
	static const char *const labels[] = { "app: a", "app: b", "app: a, tier: x", "tier: x" };

	for (size_t i = 0; i < PODS; i++) {
		add(text,
		    "---\n{apiVersion: v1, kind: Pod, metadata: {name: p%zu, namespace: %s, "
		    "labels: "
		    "{%s}}, spec: {containers: [{ports: [{name: web, containerPort: %d}]}]}, "
		    "status: {podIPs: [",
		    i, rand() % 2 ? "shop" : "bank", PICK(labels), rand() % 2 ? 80 : 8080);
		for (size_t family = 0; family < 2; family++) {
			if (pod_addresses[i][family])
				add(text, "{ip: '%s'}, ", pod_addresses[i][family]);
		}
		add(text, "]}}\n");
	}
}

static void random_rules(struct buffer *text, const char *peers)
{
	static const char *const peer_texts[] = {
		"podSelector: {matchLabels: {app: a}}",
		"podSelector: {}",
		"namespaceSelector: {}",
		("namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: bank}}, "
		 "podSelector: {matchLabels: {tier: x}}"),
		"ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/30]}",
		"ipBlock: {cidr: 10.0.0.0/24}",
		"ipBlock: {cidr: '::/0', except: ['fd00::/125']}",
		"ipBlock: {cidr: 0.0.0.0/0}",
		"ipBlock: {cidr: 10.0.0.4/32}",
	};
	static const char *const port_texts[] = {
		"port: 80",
		"port: web",
		"port: 80, endPort: 443",
		"protocol: UDP",
		"protocol: SCTP, port: 5432",
		"",
		"port: 1, endPort: 65535",
	};

	for (int rule = rand() % 3; rule > 0; rule--) {
		add(text, "{%s: [", peers);
		for (int peer = rand() % 3; peer > 0; peer--)
			add(text, "{%s}, ", PICK(peer_texts));
		add(text, "], ports: [");
		for (int port = rand() % 3; port > 0; port--)
			add(text, "{%s}, ", PICK(port_texts));
		add(text, "]}, ");
	}
}

static void random_policies(struct buffer *text)
{
	static const char *const selectors[] = { "", "matchLabels: {app: a}",
						 "matchLabels: {tier: x}" };
	static const char *const types[] = { "Ingress", "Egress", "Ingress, Egress" };

	for (int i = 0; i < POLICIES; i++) {
		add(text,
		    "---\n{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: "
		    "{name: n%d, namespace: %s}, spec: {podSelector: {%s}, policyTypes: [%s], "
		    "ingress: [",
		    i, rand() % 2 ? "shop" : "bank", PICK(selectors), PICK(types));
		random_rules(text, "from");
		add(text, "], egress: [");
		random_rules(text, "to");
		add(text, "]}}\n");
	}
}

/* What the changes say of a pair of peer groups on one port: 1 newly allowed, -1 newly denied. */
static int change_of(const struct policy_diff *diff, enum family family, size_t from, size_t to,
		     uint8_t proto, uint16_t port)
{
	int change = 0;

	for (size_t i = 0; i < diff->change_count; i++) {
		const struct diff_change *c = &diff->changes[i];
		bool sender = false, receiver = false;

		for (size_t n = 0; n < c->from_count; n++)
			sender |= c->from[n] == from;
		for (size_t n = 0; n < c->to_count; n++)
			receiver |= c->to[n] == to;
		if (!sender || !receiver || !c->families[family])
			continue;
		assert_true(c->allowed != PORTS_NONE || c->denied != PORTS_NONE);
		if (ports_hold(reach_pool(diff->reach), c->allowed, proto, port))
			change++;
		if (ports_hold(reach_pool(diff->reach), c->denied, proto, port))
			change--;
	}
	return change;
}

/* The peer group that has an address outside. */
static size_t peer_group_outside(const struct reach *reach, const struct addr *addr)
{
	size_t count, best = SIZE_MAX;
	const struct peer_group *peer_groups = reach_peer_groups(reach, &count);

	for (size_t i = 0; i < count; i++) {
		if (peer_groups[i].pod_count == 0 &&
		    prefix_contains(&peer_groups[i].outside, addr) &&
		    (best == SIZE_MAX ||
		     peer_groups[i].outside.len > peer_groups[best].outside.len))
			best = i;
	}
	assert_true(best != SIZE_MAX);
	return best;
}

static size_t peer_group_at(const struct store *store, const struct reach *reach,
			    const struct addr *addr)
{
	const struct object *pod = store_owner(store, addr);

	return pod ? reach_peer_group_of(reach, pod->namespace, pod->name)
		   : peer_group_outside(reach, addr);
}

struct sides {
	struct store *stores[2];
	struct compiled *compiled[2];
	struct policy_diff *diff;
};

static void flow_check(const struct sides *sides, struct flow *flow, size_t from, size_t to)
{
	enum family family = addr_is_v4(&flow->saddr) ? FAMILY_V4 : FAMILY_V6;
	int before = verdict_flow(sides->compiled[0], flow) == DROP_NONE;
	int after = verdict_flow(sides->compiled[1], flow) == DROP_NONE;
	uint16_t port = ntohs(flow->dport);
	int change = change_of(sides->diff, family, from, to, flow->proto, port);
	char source[ADDR_TEXT_MAX], target[ADDR_TEXT_MAX];

	if (change != after - before)
		print_error("%s -> %s %u/%u: %d, then %d; the difference says %d\n",
			    addr_format(&flow->saddr, source), addr_format(&flow->daddr, target),
			    port, flow->proto, before, after, change);
	assert_int_equal(change, after - before);
}

static void pair_check(const struct sides *sides, const char *source, const char *target,
		       bool every_port)
{
	struct flow flow = { 0 };
	size_t from, to;

	assert_int_equal(addr_parse(source, &flow.saddr), 0);
	assert_int_equal(addr_parse(target, &flow.daddr), 0);
	if (addr_is_v4(&flow.saddr) != addr_is_v4(&flow.daddr) ||
	    addr_equal(&flow.saddr, &flow.daddr))
		return;
	from = peer_group_at(sides->stores[1], sides->diff->reach, &flow.saddr);
	to = peer_group_at(sides->stores[1], sides->diff->reach, &flow.daddr);
	for (size_t p = 0; p < ARRAY_SIZE(protocols); p++) {
		flow.proto = protocols[p];
		for (size_t i = 0; i < ARRAY_SIZE(ports); i++) {
			flow.dport = htons(ports[i]);
			flow_check(sides, &flow, from, to);
		}
	}
	flow.proto = 6;
	for (uint32_t port = 1; every_port && port <= 65535; port++) {
		flow.dport = htons((uint16_t)port);
		flow_check(sides, &flow, from, to);
	}
}

static void pairs_check(const struct sides *sides)
{
	const char *ends[2 * PODS + ARRAY_SIZE(outsiders)];
	size_t count = 0;

	for (size_t i = 0; i < 2 * PODS; i++) {
		if (pod_addresses[i / 2][i % 2])
			ends[count++] = pod_addresses[i / 2][i % 2];
	}
	for (size_t i = 0; i < ARRAY_SIZE(outsiders); i++)
		ends[count++] = outsiders[i];
	for (size_t from = 0; from < count; from++) {
		for (size_t to = 0; to < count; to++) {
			if (from != to)
				pair_check(sides, ends[from], ends[to], false);
		}
	}
	pair_check(sides, ends[(size_t)rand() % count], pod_addresses[0][0], true);
}

static void random_store_check(void)
{
	auto_buffer struct buffer store_text = { 0 };
	struct buffer texts[2] = { 0 };
	struct sides sides = { 0 };

	random_pods(&store_text);
	for (int i = 0; i < 2; i++) {
		random_policies(&texts[i]);
		sides.stores[i] = store_of(store_text.data, texts[i].data);
		sides.compiled[i] = store_compile(sides.stores[i]);
	}
	sides.diff = policy_diff(sides.stores[0], sides.stores[1]);
	pairs_check(&sides);
	policy_diff_free(sides.diff);
	for (int i = 0; i < 2; i++) {
		compiled_free(sides.compiled[i]);
		store_free(sides.stores[i]);
		buffer_done(&texts[i]);
	}
}

static void test_random_stores_port_by_port(void **state)
{
	const char *seed = getenv("DIFF_SEED");
	const char *count = getenv("DIFF_STORES");
	unsigned int first = seed ? (unsigned int)strtoul(seed, NULL, 10) : 1;
	unsigned int stores = count ? (unsigned int)strtoul(count, NULL, 10) : 12;

	(void)state;
	for (unsigned int i = first; i < first + stores; i++) {
		print_message("DIFF_SEED=%u\n", i);
		srand(i);
		random_store_check();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_change),
		cmocka_unit_test(test_tiers_and_nodes_are_seen),
		cmocka_unit_test(test_ports_are_exact),
		cmocka_unit_test(test_isolation_names_what_is_cut_off),
		cmocka_unit_test(test_families_are_told_apart_where_they_differ),
		cmocka_unit_test(test_an_address_block_of_pods_alone_is_nobody_outside),
		cmocka_unit_test(test_random_stores_port_by_port),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
