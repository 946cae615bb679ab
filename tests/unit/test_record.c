/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Policies from flows: what they say as text, and that in the same store they allow the flows that
 * were seen, and nothing else that a workload did not do.
 */
#include <arpa/inet.h>
#include <cjson/cJSON.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/auto.h"
#include "lib/yaml_print.h"
#include "policy/analysis/record.h"
#include "policy/compiler/verdict.h"
#include "unit/stores.h"

#include <cmocka.h> /* last: it makes fail a macro */

#define POD(name, namespace, labels, ip)                                                \
	"---\n{apiVersion: v1, kind: Pod, metadata: {name: " name                       \
	", namespace: " namespace ", labels: {" labels "}}, status: {podIPs: [{ip: " ip \
				  "}, {ip: 'fd00::" ip "'}]}}\n"

static const char pods[] = POD("web-1", "shop", "app: web, pod-template-hash: a1", "10.0.0.1")
	POD("web-2", "shop", "app: web, pod-template-hash: b2", "10.0.0.2")
		POD("cart", "shop", "app: cart", "10.0.0.3")
			POD("canary", "shop", "app: cart, track: canary", "10.0.0.4")
				POD("dns", "kube-system", "k8s-app: kube-dns", "10.0.1.1")
					POD("bare", "shop", "", "10.0.0.9");

static bool everyone(const struct object *pod, void *arg)
{
	(void)arg;
	return strcmp(pod->namespace, "kube-system") != 0;
}

static struct record_flow flow_of(const char *from, const char *to, uint8_t proto, uint16_t port)
{
	struct record_flow flow = { .proto = proto, .port = port };

	assert_int_equal(addr_parse(from, &flow.from), 0);
	assert_int_equal(addr_parse(to, &flow.to), 0);
	return flow;
}

static void record(const struct store *store, const struct record_flow *flows, size_t count,
		   struct recording *ret)
{
	*ret = policy_record(store, flows, count, everyone, NULL);
}

/* As the CLI prints it; owned by the caller. */
static char *text_of(const struct recording *recording)
{
	const cJSON *document;
	char *text = NULL;
	size_t len = 0;
	FILE *file = open_memstream(&text, &len);

	assert_non_null(file);
	cJSON_ArrayForEach (document, recording->policies) {
		fputs("---\n", file);
		yaml_print(file, document);
	}
	fclose(file);
	return text;
}

static bool has_note(const struct recording *recording, const char *words)
{
	const cJSON *note;

	cJSON_ArrayForEach (note, recording->notes) {
		if (strstr(note->valuestring, words))
			return true;
	}
	return false;
}

static const char expected[] = "---\n"
			       "apiVersion: networking.k8s.io/v1\n"
			       "kind: NetworkPolicy\n"
			       "metadata:\n"
			       "  name: recorded-cart\n"
			       "  namespace: shop\n"
			       "spec:\n"
			       "  podSelector:\n"
			       "    matchLabels:\n"
			       "      app: cart\n"
			       "    matchExpressions:\n"
			       "    - key: track\n"
			       "      operator: DoesNotExist\n"
			       "  policyTypes:\n"
			       "  - Ingress\n"
			       "  - Egress\n"
			       "  ingress:\n"
			       "  - from:\n"
			       "    - podSelector:\n"
			       "        matchLabels:\n"
			       "          app: web\n"
			       "    ports:\n"
			       "    - port: 80\n"
			       "      protocol: TCP\n"
			       "    - port: 8080\n"
			       "      protocol: TCP\n"
			       "---\n"
			       "apiVersion: networking.k8s.io/v1\n"
			       "kind: NetworkPolicy\n"
			       "metadata:\n"
			       "  name: recorded-cart-2\n"
			       "  namespace: shop\n"
			       "spec:\n"
			       "  podSelector:\n"
			       "    matchLabels:\n"
			       "      app: cart\n"
			       "      track: canary\n"
			       "  policyTypes:\n"
			       "  - Ingress\n"
			       "  - Egress\n"
			       "---\n"
			       "apiVersion: networking.k8s.io/v1\n"
			       "kind: NetworkPolicy\n"
			       "metadata:\n"
			       "  name: recorded-web\n"
			       "  namespace: shop\n"
			       "spec:\n"
			       "  podSelector:\n"
			       "    matchLabels:\n"
			       "      app: web\n"
			       "  policyTypes:\n"
			       "  - Ingress\n"
			       "  - Egress\n"
			       "  ingress:\n"
			       "  - from:\n"
			       "    - ipBlock:\n"
			       "        cidr: \"192.0.2.7/32\"\n"
			       "    - ipBlock:\n"
			       "        cidr: \"2001:db8::7/128\"\n"
			       "    ports:\n"
			       "    - port: 443\n"
			       "      protocol: TCP\n"
			       "  egress:\n"
			       "  - to:\n"
			       "    - namespaceSelector:\n"
			       "        matchLabels:\n"
			       "          kubernetes.io/metadata.name: kube-system\n"
			       "      podSelector:\n"
			       "        matchLabels:\n"
			       "          k8s-app: kube-dns\n"
			       "    ports:\n"
			       "    - port: 53\n"
			       "      protocol: UDP\n"
			       "  - to:\n"
			       "    - podSelector:\n"
			       "        matchLabels:\n"
			       "          app: cart\n"
			       "        matchExpressions:\n"
			       "        - key: track\n"
			       "          operator: DoesNotExist\n"
			       "    ports:\n"
			       "    - port: 80\n"
			       "      protocol: TCP\n"
			       "    - port: 8080\n"
			       "      protocol: TCP\n";

static void test_flows_become_the_policies_of_their_workloads(void **state)
{
	struct store *store = store_of(pods, "");
	const struct record_flow flows[] = {
		flow_of("10.0.0.1", "10.0.0.3", IPPROTO_TCP, 8080),
		flow_of("10.0.0.2", "10.0.0.3", IPPROTO_TCP, 80),
		flow_of("10.0.0.2", "10.0.0.3", IPPROTO_TCP, 8080), /* both replicas are one */
		flow_of("10.0.0.1", "10.0.1.1", IPPROTO_UDP, 53),
		flow_of("192.0.2.7", "10.0.0.1", IPPROTO_TCP, 443),
		flow_of("2001:db8::7", "fd00::10.0.0.1", IPPROTO_TCP, 443),
		flow_of("10.0.0.1", "10.0.0.1", IPPROTO_TCP, 9),   /* itself */
		flow_of("192.0.2.7", "192.0.2.8", IPPROTO_TCP, 9), /* nobody's business */
	};
	struct recording recording;
	char *text;

	(void)state;
	record(store, flows, ARRAY_SIZE(flows), &recording);
	text = text_of(&recording);
	assert_string_equal(text, expected);
	assert_true(has_note(&recording, "shop/bare has no labels"));
	free(text);
	recording_done(&recording);
	store_free(store);
}

/* ---- in force -------------------------------------------------------------------------------- */

static const char *const everybody[] = { "10.0.0.1", "10.0.0.2", "10.0.0.3",
					 "10.0.0.4", "10.0.1.1", "192.0.2.7" };

/* Replicas do what one of them was seen to do. */
static const char *replica_of(const char *addr)
{
	return strcmp(addr, "10.0.0.2") == 0 ? "10.0.0.1" : addr;
}

static bool was_seen(const struct record_flow *flows, size_t count, const char *from,
		     const char *to, uint16_t port)
{
	struct record_flow asked = flow_of(replica_of(from), replica_of(to), IPPROTO_TCP, port);

	for (size_t i = 0; i < count; i++) {
		char a[ADDR_TEXT_MAX], b[ADDR_TEXT_MAX];
		struct record_flow flow = flow_of(replica_of(addr_format(&flows[i].from, a)),
						  replica_of(addr_format(&flows[i].to, b)),
						  IPPROTO_TCP, flows[i].port);

		/* What a pod does to itself says nothing of its replicas. */
		if (!addr_equal(&flows[i].from, &flows[i].to) &&
		    addr_equal(&flow.from, &asked.from) && addr_equal(&flow.to, &asked.to) &&
		    flow.port == asked.port)
			return true;
	}
	return false;
}

static void check_in_force(const struct store *store, const struct record_flow *flows, size_t count)
{
	struct compiled *compiled = store_compile(store);

	for (size_t i = 0; i < ARRAY_SIZE(everybody) * ARRAY_SIZE(everybody) * 3; i++) {
		const char *from = everybody[i / 3 / ARRAY_SIZE(everybody)];
		const char *to = everybody[i / 3 % ARRAY_SIZE(everybody)];
		uint16_t port = (uint16_t)(80 + i % 3);
		struct record_flow asked = flow_of(from, to, IPPROTO_TCP, port);
		struct flow flow = { .saddr = asked.from,
				     .daddr = asked.to,
				     .proto = asked.proto,
				     .dport = htons(port) };
		bool passes = verdict_flow(compiled, &flow) == DROP_NONE;
		/* dns is no subject, so what it and the outside do to each other is free. */
		bool free_way = from == to || (i / 3 / ARRAY_SIZE(everybody) >= 4 &&
					       i / 3 % ARRAY_SIZE(everybody) >= 4);

		if (passes != (free_way || was_seen(flows, count, from, to, port)))
			fail_msg("%s -> %s:%u %s", from, to, port, passes ? "passes" : "does not");
	}
	compiled_free(compiled);
}

static void test_in_force_they_allow_what_was_seen_and_nothing_else(void **state)
{
	unsigned int seed = 4711;

	(void)state;
	for (int round = 0; round < 200; round++) {
		struct store *store = store_of(pods, "");
		struct record_flow flows[8];
		struct recording recording;
		char *text;

		for (size_t i = 0; i < ARRAY_SIZE(flows); i++)
			flows[i] = flow_of(
				everybody[(unsigned int)rand_r(&seed) % ARRAY_SIZE(everybody)],
				everybody[(unsigned int)rand_r(&seed) % ARRAY_SIZE(everybody)],
				IPPROTO_TCP, (uint16_t)(80 + rand_r(&seed) % 3));
		record(store, flows, ARRAY_SIZE(flows), &recording);
		text = text_of(&recording);
		store_add(store, text);
		check_in_force(store, flows, ARRAY_SIZE(flows));
		free(text);
		recording_done(&recording);
		store_free(store);
	}
}

/* ---- corners --------------------------------------------------------------------------------- */

static void test_what_cannot_be_said_is_noted(void **state)
{
	struct store *store = store_of(pods, "");
	const struct record_flow flows[] = {
		flow_of("10.0.0.1", "10.0.0.3", IPPROTO_ICMP, 0),
		flow_of("10.0.0.9", "10.0.0.3", IPPROTO_TCP, 80),
	};
	struct recording recording;
	char *text;

	(void)state;
	record(store, flows, ARRAY_SIZE(flows), &recording);
	text = text_of(&recording);
	assert_true(has_note(&recording, "ICMP from 10.0.0.1 to 10.0.0.3"));
	assert_true(has_note(&recording, "as a peer it is its address"));
	assert_non_null(strstr(text, "cidr: \"10.0.0.9/32\""));
	free(text);
	recording_done(&recording);
	store_free(store);
}

static void test_the_own_node_needs_no_rule_to_reach_its_pods(void **state)
{
	struct store *store = store_of(pods, "");
	const struct record_flow flows[] = {
		flow_of("192.0.2.1", "10.0.0.3", IPPROTO_TCP, 80),
		flow_of("10.0.0.3", "192.0.2.1", IPPROTO_TCP, 6443),
	};
	struct addr node = flows[0].from;
	struct recording recording;
	char *text;

	(void)state;
	store_host_addresses_set(store, &node, 1);
	record(store, flows, ARRAY_SIZE(flows), &recording);
	text = text_of(&recording);
	assert_null(strstr(text, "ingress:"));
	assert_non_null(strstr(text, "cidr: \"192.0.2.1/32\"\n    ports:\n    - port: 6443"));
	free(text);
	recording_done(&recording);
	store_free(store);
}

static void test_no_policy_that_is_there_is_replaced(void **state)
{
	struct store *store = store_of(pods, POLICY("recorded-web", "shop", "podSelector: {}"));
	struct recording recording;
	char *text;

	(void)state;
	record(store, NULL, 0, &recording);
	text = text_of(&recording);
	assert_null(strstr(text, "name: recorded-web\n"));
	assert_non_null(strstr(text, "name: recorded-web-2\n"));
	free(text);
	recording_done(&recording);
	store_free(store);
}

static void test_texts_that_yaml_would_misread_are_quoted(void **state)
{
	struct store *store = store_of(POD("a", "shop", "app: 'true', v: '1.0', w: ''", "10.0.0.1"),
				       POD("b", "'123'", "app: 'No'", "10.0.0.2"));
	const struct record_flow flows[] = { flow_of("10.0.0.1", "10.0.0.2", IPPROTO_SCTP, 9) };
	struct recording recording;
	char *text;

	(void)state;
	record(store, flows, ARRAY_SIZE(flows), &recording);
	text = text_of(&recording);
	assert_non_null(strstr(text, "app: \"true\"\n      v: \"1.0\"\n      w: \"\"\n"));
	assert_non_null(strstr(text, "kubernetes.io/metadata.name: \"123\"\n"));
	assert_non_null(strstr(text, "app: \"No\"\n"));
	store_add(store, text);
	assert_int_equal(store_ask(store, "shop/a", "123/b", "9/SCTP"), DROP_NONE);
	assert_int_equal(store_ask(store, "shop/a", "123/b", "9/TCP"), DROP_EGRESS_DENIED);
	free(text);
	recording_done(&recording);
	store_free(store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_flows_become_the_policies_of_their_workloads),
		cmocka_unit_test(test_in_force_they_allow_what_was_seen_and_nothing_else),
		cmocka_unit_test(test_what_cannot_be_said_is_noted),
		cmocka_unit_test(test_the_own_node_needs_no_rule_to_reach_its_pods),
		cmocka_unit_test(test_no_policy_that_is_there_is_replaced),
		cmocka_unit_test(test_texts_that_yaml_would_misread_are_quoted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
