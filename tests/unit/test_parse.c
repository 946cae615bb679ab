/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What objects hold after parsing.  The texts of problems are in tests/policy/golden; here is what
 * a program sees: fields, defaults, flags, bounds.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "lib/auto.h"
#include "policy/objects/parse.h"
#include "unit/stores.h"

#include <cmocka.h> /* last: it makes fail a macro */

#define META "apiVersion: v1\nmetadata: {name: a, namespace: shop}\n"

/* The one object of a text. */
static struct object *object_of(const char *text)
{
	struct problems problems = { 0 };
	struct object_list list;
	struct object *object;
	char line[600];

	if (objects_parse(text, strlen(text), 0, &list, &problems) != 0)
		fail_msg("%s", problem_format(&problems.items[0], "text", line, sizeof(line)));
	assert_int_equal(list.count, 1);
	object = take_ptr(list.items[0]);
	object_list_done(&list);
	problems_done(&problems);
	return object;
}

static const char *addr_text(const struct addr *addr)
{
	static char buf[ADDR_TEXT_MAX];

	return addr_format(addr, buf);
}

static void test_pod(void **state)
{
	struct object *pod = object_of(
		"apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: shop, uid: u1, labels: "
		"{z: '1', app: web}, annotations: {tendril.io/accelerate: 'true'}}\n"
		"spec:\n  nodeName: n1\n  hostNetwork: true\n"
		"  containers: [{ports: [{name: http, containerPort: 80}, {containerPort: 81}]}, "
		"{}]\n"
		"  initContainers:\n"
		"  - {ports: [{name: once, containerPort: 1}]}\n"
		"  - {restartPolicy: Always, ports: [{name: side, containerPort: 2, protocol: "
		"UDP}]}\n"
		"status: {phase: Failed, podIP: 10.0.0.9, podIPs: [{ip: 10.0.0.1}, {ip: "
		"'fd00::1'}, "
		"{ip: 10.0.0.1}]}\n");

	(void)state;
	assert_int_equal(pod->kind, OBJECT_POD);
	assert_string_equal(pod->namespace, "shop");
	assert_string_equal(pod->uid, "u1");
	assert_int_equal(pod->pod.labels.count, 2);
	assert_string_equal(pod->pod.labels.items[0].key, "app");
	assert_string_equal(pod->pod.node_name, "n1");
	assert_true(pod->pod.host_network && pod->pod.terminated && pod->pod.accel);
	assert_int_equal(pod->pod.address_count, 2);
	assert_string_equal(addr_text(&pod->pod.addresses[1]), "fd00::1");
	assert_int_equal(pod->pod.port_count, 2);
	assert_string_equal(pod->pod.ports[0].name, "http");
	assert_string_equal(pod->pod.ports[1].name, "side");
	assert_int_equal(pod->pod.ports[1].proto, 17);
	object_free(pod);
}

static void test_pod_defaults(void **state)
{
	struct object *pod =
		object_of("apiVersion: v1\nkind: Pod\nmetadata: {name: a, annotations: "
			  "{tendril.io/accelerate: 'yes'}}\nstatus: {podIP: 10.0.0.9}\n");

	(void)state;
	assert_string_equal(pod->namespace, "default");
	assert_string_equal(pod->uid, "");
	assert_string_equal(pod->pod.node_name, "");
	assert_false(pod->pod.host_network || pod->pod.terminated || pod->pod.accel);
	assert_int_equal(pod->pod.address_count, 1);
	object_free(pod);
	pod = object_of(META "kind: Pod\nstatus: {podIP: '', podIPs: []}\n");
	assert_int_equal(pod->pod.address_count, 0);
	object_free(pod);
}

static void test_namespace_has_its_name_as_a_label(void **state)
{
	struct object *object = object_of("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, "
					  "namespace: ignored, labels: "
					  "{z: y1, kubernetes.io/metadata.name: wrong}}\n");
	const char *value;

	(void)state;
	assert_string_equal(object->namespace, "");
	assert_int_equal(object->ns.labels.count, 2);
	assert_true(labels_get(&object->ns.labels, "kubernetes.io/metadata.name", &value));
	assert_string_equal(value, "shop");
	object_free(object);
}

static void test_node(void **state)
{
	struct object *object = object_of(
		"apiVersion: v1\nkind: Node\nmetadata: {name: n1, labels: {zone: a}}\nspec: "
		"{podCIDR: "
		"10.1.0.0/24, podCIDRs: [10.1.0.0/24, 'fd00:1::/64']}\nstatus: "
		"{addresses: [{type: "
		"Hostname, address: n1}, {type: InternalIP, address: 10.0.0.1}, {type: ExternalIP, "
		"address: '2001:db8::1'}]}\n");

	(void)state;
	assert_int_equal(object->node.labels.count, 1);
	assert_string_equal(object->node.labels.items[0].value, "a");
	assert_int_equal(object->node.address_count, 2);
	assert_string_equal(addr_text(&object->node.addresses[1]), "2001:db8::1");
	assert_string_equal(addr_text(&object->node.internal_v4), "10.0.0.1");
	assert_true(addr_is_zero(&object->node.internal_v6));
	assert_int_equal(object->node.pod_cidr_count, 2);
	assert_int_equal(object->node.pod_cidrs[1].len, 64);
	assert_true(wireguard_key_is_zero(&object->node.wireguard_key));
	object_free(object);
}

static void test_the_key_of_a_node(void **state)
{
	struct object *object = object_of(
		"{apiVersion: v1, kind: Node, metadata: {name: n1, annotations: "
		"{tendril.io/wireguard-key: AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=}}}");

	(void)state;
	assert_int_equal(object->node.wireguard_key.bytes[31], 31);
	object_free(object);
}

static void test_service(void **state)
{
	struct object *object = object_of(
		META
		"kind: Service\nspec: {clusterIP: 10.96.0.9, clusterIPs: [10.96.0.1, 'fd00::1'], "
		"publishNotReadyAddresses: true, ports: [{name: a, port: 80}, {name: b, port: 81, "
		"targetPort: http, protocol: UDP}, {name: c, port: 82, targetPort: 8082}]}\n");
	const struct service_object *service = &object->service;

	(void)state;
	assert_int_equal(service->cluster_ip_count, 2);
	assert_string_equal(addr_text(&service->cluster_ips[0]), "10.96.0.1");
	assert_true(service->publish_not_ready);
	assert_int_equal(service->ports[0].target_port, 80);
	assert_null(service->ports[0].target_name);
	assert_string_equal(service->ports[1].target_name, "http");
	assert_int_equal(service->ports[2].target_port, 8082);
	object_free(object);
}

static void test_services_without_frontends(void **state)
{
	static const char *const texts[] = {
		META "kind: Service\nspec: {clusterIP: None, ports: [{port: 80}]}\n",
		META "kind: Service\nspec: {clusterIP: '', ports: [{port: 80}]}\n",
		META "kind: Service\nspec: {type: ExternalName, externalName: x.y, clusterIP: "
		     "10.96.0.1}\n",
	};
	struct object *object;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		object = object_of(texts[i]);
		assert_int_equal(object->service.cluster_ip_count, 0);
		object_free(object);
	}
	object = object_of("apiVersion: v1\nkind: Service\nmetadata: {name: a, labels: "
			   "{service.kubernetes.io/service-proxy-name: other}}\n");
	assert_true(object->service.foreign);
	object_free(object);
}

static void test_slice_conditions_and_their_defaults(void **state)
{
	struct object *object = object_of(
		"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: a, "
		"namespace: "
		"shop, labels: {kubernetes.io/service-name: svc}}\naddressType: IPv4\nendpoints:\n"
		"- {addresses: [10.0.0.1], targetRef: {kind: Pod, name: p}}\n"
		"- {addresses: [10.0.0.2], conditions: {ready: false}}\n"
		"- {addresses: [10.0.0.3], conditions: {ready: false, serving: true, terminating: "
		"true}, targetRef: {kind: Node, name: n1}}\n"
		"ports: [{name: http, port: 80}, {port: null}, {}]\n");
	const struct endpoint_slice_object *slice = &object->slice;

	(void)state;
	assert_string_equal(slice->service_name, "svc");
	assert_true(slice->endpoints[0].ready && slice->endpoints[0].serving);
	assert_false(slice->endpoints[0].terminating);
	assert_string_equal(slice->endpoints[0].pod_namespace, "shop");
	assert_false(slice->endpoints[1].ready || slice->endpoints[1].serving);
	assert_true(slice->endpoints[2].serving && slice->endpoints[2].terminating);
	assert_null(slice->endpoints[2].pod_name);
	assert_int_equal(slice->ports[0].proto, 6);
	assert_string_equal(slice->ports[1].name, "");
	assert_int_equal(slice->ports[2].port, 0);
	object_free(object);
	object = object_of("apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: "
			   "a}\naddressType: FQDN\nendpoints: [{addresses: [example.com]}]\n");
	assert_true(object->slice.fqdn);
	object_free(object);
}

static void test_policy(void **state)
{
	struct object *object =
		object_of("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: "
			  "p}\nspec:\n"
			  "  podSelector: {matchLabels: {app: web}, matchExpressions: [{key: t, "
			  "operator: NotIn, "
			  "values: [a, b]}]}\n"
			  "  ingress:\n"
			  "  - from: [{podSelector: {}}, {namespaceSelector: {}}, {ipBlock: {cidr: "
			  "10.0.0.0/8, "
			  "except: [10.1.0.0/16]}}]\n"
			  "    ports: [{}, {port: http}, {port: 1, endPort: 9, protocol: SCTP}]\n"
			  "  - {from: null, ports: []}\n");
	const struct network_policy_object *policy = &object->policy;
	const struct policy_rule *rule = &policy->ingress_rules[0];

	(void)state;
	assert_true(policy->ingress && !policy->egress);
	assert_int_equal(policy->pods.count, 2);
	assert_int_equal(policy->pods.terms[0].op, SELECTOR_IN);
	assert_int_equal(policy->pods.terms[1].op, SELECTOR_NOT_IN);
	assert_int_equal(policy->pods.terms[1].value_count, 2);
	assert_int_equal(policy->ingress_rule_count, 2);
	assert_true(rule->peers[0].pods && !rule->peers[0].namespaces);
	assert_true(!rule->peers[1].pods && rule->peers[1].namespaces);
	assert_true(rule->peers[2].is_block && rule->peers[2].except_count == 1);
	assert_true(rule->ports[0].port_min == 0 && rule->ports[0].port_max == 0 &&
		    rule->ports[0].proto == 6 && !rule->ports[0].name);
	assert_string_equal(rule->ports[1].name, "http");
	assert_true(rule->ports[2].port_min == 1 && rule->ports[2].port_max == 9 &&
		    rule->ports[2].proto == 132);
	assert_int_equal(policy->ingress_rules[1].peer_count, 0);
	assert_int_equal(policy->ingress_rules[1].port_count, 0);
	object_free(object);
}

static void test_cluster_policy(void **state)
{
	struct object *object = object_of(
		"apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\n"
		"metadata: {name: guard}\n"
		"spec:\n  tier: Baseline\n  priority: 1000\n"
		"  subject: {namespaces: {matchLabels: {team: retail}}}\n"
		"  ingress:\n"
		"  - {action: Accept, name: scrape, from: [{pods: {podSelector: {}}}]}\n"
		"  egress:\n"
		"  - action: Deny\n"
		"    to: [{networks: [10.0.0.0/8, 'fd00::/8']}, {nodes: {}}]\n"
		"    protocols:\n"
		"    - {udp: {destinationPort: {range: {start: 5, end: 9}}}}\n"
		"  - action: Pass\n"
		"    to: [{namespaces: {matchLabels: {a: b}}}]\n"
		"    protocols: [{destinationNamedPort: http}]\n");
	const struct cluster_policy_object *policy = &object->cluster_policy;
	const struct policy_rule *rule = policy->ingress_rules;

	(void)state;
	assert_string_equal(object->namespace, "");
	assert_int_equal(policy->tier, TIER_BASELINE);
	assert_int_equal(policy->priority, 1000);
	assert_int_equal(policy->namespaces.count, 1);
	assert_int_equal(policy->pods.count, 0);
	assert_int_equal(policy->ingress_rule_count, 1);
	assert_string_equal(rule->name, "scrape");
	assert_int_equal(rule->action, ACTION_ACCEPT);
	assert_int_equal(rule->peer_count, 1);
	assert_int_equal(rule->peers[0].namespaces->count, 0);
	assert_int_equal(rule->peers[0].pods->count, 0);
	assert_int_equal(rule->port_count, 0);

	assert_int_equal(policy->egress_rule_count, 2);
	rule = &policy->egress_rules[0];
	assert_null(rule->name);
	assert_int_equal(rule->action, ACTION_DENY);
	assert_int_equal(rule->peer_count, 3); /* one a network */
	assert_true(rule->peers[1].is_block);
	assert_string_equal(addr_text(&rule->peers[1].cidr.addr), "fd00::");
	assert_non_null(rule->peers[2].nodes);
	assert_int_equal(rule->ports[0].proto, 17);
	assert_int_equal(rule->ports[0].port_min, 5);
	assert_int_equal(rule->ports[0].port_max, 9);
	rule = &policy->egress_rules[1];
	assert_int_equal(rule->action, ACTION_PASS);
	assert_string_equal(rule->ports[0].name, "http");
	assert_int_equal(rule->ports[0].proto, 0);
	object_free(object);
}

static void test_text_is_taken_as_a_whole_or_not_at_all(void **state)
{
	static const char text[] =
		META "kind: Pod\n---\n" META "kind: Service\n---\n" META "kind: Pod\nspec: 7\n";
	struct problems problems = { 0 };
	struct object_list list;

	(void)state;
	assert_int_equal(objects_parse(text, strlen(text), 0, &list, &problems), -EINVAL);
	assert_int_equal(list.count, 0);
	assert_true(problems.errors >= 1);
	problems_done(&problems);
}

static void test_flags(void **state)
{
	static const char unknown_field[] =
		"apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec: "
		"{podSelector: {}, podSelecto: 1}\n";
	static const char unknown_kind[] =
		"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: "
		"p}\n---\napiVersion: v1\nkind: ConfigMapList\nitems: "
		"[{metadata: {name: x}}]\n";
	char buf[1000];

	(void)state;
	assert_non_null(strstr(problems_of(unknown_field, 0, buf, sizeof(buf)), "unknown field"));
	assert_null(strstr(buf, "warning"));
	assert_non_null(
		strstr(problems_of(unknown_field, PARSE_LENIENT, buf, sizeof(buf)), "warning"));
	assert_string_equal(problems_of(unknown_kind, 0, buf, sizeof(buf)), "");
	/* Unknown fields of objects that others define are theirs. */
	assert_string_equal(
		problems_of(META "kind: Pod\nspec: {whatever: [1]}\n", 0, buf, sizeof(buf)), "");
}

static void test_objects_of_other_kinds_are_counted_and_named(void **state)
{
	static const char text[] =
		"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a, namespace: "
		"x}\n---\n" META
		"kind: Pod\n---\napiVersion: v1\nkind: ConfigMapList\nitems: [{metadata: {name: "
		"b}}]\n---\napiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: "
		"c}\n";
	struct problems problems = { 0 };
	struct object_list list;

	(void)state;
	assert_int_equal(objects_parse(text, strlen(text), PARSE_NAME_SKIPPED, &list, &problems),
			 0);
	assert_int_equal(list.count, 1);
	assert_int_equal(problems.skipped, 3);
	assert_string_equal(problems.skipped_names[0], "Deployment x/a");
	assert_string_equal(problems.skipped_names[1], "ConfigMap b");
	assert_string_equal(problems.skipped_names[2], "Service c");
	object_list_done(&list);
	problems_done(&problems);
}

static void test_policies_that_nobody_would_enforce_are_refused(void **state)
{
	static const struct {
		const char *version, *kind, *text;
	} cases[] = {
		{ "networking.k8s.io/v1", "NetworkPolcy", "did you mean \"NetworkPolicy\"" },
		{ "networking.k8s.io/v1", "networkpolicies", "did you mean \"NetworkPolicy\"" },
		{ "extensions/v1beta1", "NetworkPolicy", "write \"networking.k8s.io/v1\"" },
		{ "crd.projectcalico.org/v1", "NetworkPolicy", "write \"networking.k8s.io/v1\"" },
		{ "projectcalico.org/v3", "GlobalNetworkPolicy",
		  "write it as a ClusterNetworkPolicy" },
		{ "policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy", "tier: Admin" },
		{ "policy.networking.k8s.io/v1alpha1", "BaselineAdminNetworkPolicy",
		  "tier: Baseline" },
		{ "policy.networking.k8s.io/v1beta1", "ClusterNetworkPolicy",
		  "write \"policy.networking.k8s.io/v1alpha2\"" },
		{ "cilium.io/v2", "CiliumNetworkPolicy", "write it as a NetworkPolicy" },
		{ "cilium.io/v2", "CiliumClusterwideNetworkPolicy", "ClusterNetworkPolicy" },
		{ "v1", "Servce", "did you mean \"Service\"" },
		{ "discovery.k8s.io/v1beta1", "EndpointSlice", "write \"discovery.k8s.io/v1\"" },
		{ "v1", "Endpoints",
		  "warning: document 1: kind: Endpoints of v1 are not read; write an "
		  "EndpointSlice" },
		{ "apps/v1", "Deployment", "" },
		{ "networking.k8s.io/v1", "Ingress", "" },
		{ "v1", "ServiceAccount", "" },
		{ "policy/v1", "PodDisruptionBudget", "" },
		{ "monitoring.coreos.com/v1", "ServiceMonitor", "" },
		{ "kyverno.io/v1", "ClusterPolicy", "" },
	};
	char text[300], buf[1000];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		snprintf(text, sizeof(text), "apiVersion: %s\nkind: %s\nmetadata: {name: a}\n",
			 cases[i].version, cases[i].kind);
		problems_of(text, 0, buf, sizeof(buf));
		if (*cases[i].text)
			assert_non_null(strstr(buf, cases[i].text));
		else
			assert_string_equal(buf, "");
	}
}

static void test_special_addresses_are_nobodys(void **state)
{
	static const char *const special[] = { "127.0.0.1", "0.0.0.0", "169.254.0.9", "224.0.0.1",
					       "::1",       "fe80::1", "ff02::1" };
	char text[400], buf[1000];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(special); i++) {
		snprintf(text, sizeof(text),
			 META "kind: Service\nspec: {clusterIP: '%s', ports: [{port: 80}]}\n",
			 special[i]);
		assert_non_null(strstr(problems_of(text, 0, buf, sizeof(buf)), "spec.clusterIP"));
		snprintf(text, sizeof(text),
			 "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: "
			 "s}\naddressType: %s\nendpoints: [{addresses: ['%s']}]\n",
			 strchr(special[i], ':') ? "IPv6" : "IPv4", special[i]);
		assert_non_null(strstr(problems_of(text, 0, buf, sizeof(buf)),
				       "endpoints[0].addresses[0]"));
	}
}

static void test_problems_are_bounded(void **state)
{
	struct problems problems = { 0 };
	struct object_list list;
	char *text = calloc(1, 100000);
	size_t used;

	(void)state;
	used = (size_t)sprintf(
		text,
		"apiVersion: v1\nkind: Node\nmetadata: {name: n1, labels: {zone: a}}\nstatus:\n  "
		"addresses:\n");
	for (int i = 0; i < 1000; i++)
		used += (size_t)sprintf(text + used, "  - {type: InternalIP, address: x%d}\n", i);
	assert_int_equal(objects_parse(text, used, 0, &list, &problems), -EINVAL);
	assert_int_equal(problems.count, 100);
	assert_int_equal(problems.errors, 1000);
	assert_int_equal(problems.items[99].line, 105);
	problems_done(&problems);
	free(text);
}

static void test_one_parsed_value(void **state)
{
	cJSON *json = cJSON_Parse("{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"metadata\": "
				  "{\"name\": \"a\"}}");
	cJSON *list = cJSON_Parse("{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": []}");
	struct problems problems = { 0 };
	struct object *object = NULL;

	(void)state;
	assert_int_equal(object_parse(json, 0, &object, &problems), 0);
	assert_string_equal(object->name, "a");
	object_free(take_ptr(object));
	assert_int_equal(object_parse(list, 0, &object, &problems), -EINVAL);
	assert_null(object);
	assert_int_equal(problems.count, 1);
	assert_int_equal(problems.items[0].line, 0);
	problems_done(&problems);
	cJSON_Delete(json);
	cJSON_Delete(list);
}

static void test_positions_of_fields(void **state)
{
	static const char yaml[] =
		"apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, "
		"metadata: {name: a}}\n- apiVersion: v1\n  kind: Pod\n  metadata: "
		"{name: b}\n---\n" META "kind: Pod\n";
	static const char json[] = "{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"metadata\": "
				   "{\"name\": \"a\"}}\n\n  {\"apiVersion\": \"v1\",\n \"kind\": "
				   "\"Pod\", \"metadata\": {\"name\": \"b\"}}";
	struct problems problems = { 0 };
	struct object_list list;

	(void)state;
	assert_int_equal(objects_parse(yaml, strlen(yaml), 0, &list, &problems), 0);
	{
		struct object_position positions[] = {
			/* Not written: the nearest that is.  Asked in no order. */
			{ .object = list.items[2], .path = "metadata.uid" },
			{ .object = list.items[1], .path = "metadata.name" },
			{ .object = list.items[1], .path = "" },
		};

		objects_position(yaml, strlen(yaml), positions, ARRAY_SIZE(positions));
		assert_true(positions[0].line == 10 && positions[0].column == 11);
		assert_true(positions[1].line == 7 && positions[1].column == 20);
		assert_true(positions[2].line == 5 && positions[2].column == 3);
	}
	object_list_done(&list);
	assert_int_equal(objects_parse(json, strlen(json), 0, &list, &problems), 0);
	{
		struct object_position positions[] = {
			{ .object = list.items[1], .path = "kind" },
			{ .object = list.items[1], .path = "" },
		};

		objects_position(json, strlen(json), positions, ARRAY_SIZE(positions));
		assert_true(positions[0].line == 4 && positions[0].column == 10);
		assert_true(positions[1].line == 3 && positions[1].column == 3);
	}
	object_list_done(&list);
	problems_done(&problems);
}

static void test_kind_names(void **state)
{
	enum object_kind kind;

	(void)state;
	assert_string_equal(object_kind_name(OBJECT_NETWORK_POLICY), "NetworkPolicy");
	assert_int_equal(object_kind_parse("pods", &kind), 0);
	assert_int_equal(kind, OBJECT_POD);
	assert_int_equal(object_kind_parse("NETPOL", &kind), 0);
	assert_int_equal(kind, OBJECT_NETWORK_POLICY);
	assert_int_equal(object_kind_parse("cnp", &kind), 0);
	assert_int_equal(kind, OBJECT_CLUSTER_POLICY);
	assert_int_equal(object_kind_parse("Deployment", &kind), -EINVAL);
	object_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pod),
		cmocka_unit_test(test_pod_defaults),
		cmocka_unit_test(test_namespace_has_its_name_as_a_label),
		cmocka_unit_test(test_node),
		cmocka_unit_test(test_the_key_of_a_node),
		cmocka_unit_test(test_service),
		cmocka_unit_test(test_services_without_frontends),
		cmocka_unit_test(test_slice_conditions_and_their_defaults),
		cmocka_unit_test(test_policy),
		cmocka_unit_test(test_cluster_policy),
		cmocka_unit_test(test_text_is_taken_as_a_whole_or_not_at_all),
		cmocka_unit_test(test_flags),
		cmocka_unit_test(test_objects_of_other_kinds_are_counted_and_named),
		cmocka_unit_test(test_policies_that_nobody_would_enforce_are_refused),
		cmocka_unit_test(test_special_addresses_are_nobodys),
		cmocka_unit_test(test_problems_are_bounded),
		cmocka_unit_test(test_one_parsed_value),
		cmocka_unit_test(test_positions_of_fields),
		cmocka_unit_test(test_kind_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
