/* SPDX-License-Identifier: Apache-2.0 */
/* Changes every field that an object has, one at a time: none may go unseen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/objects/object_equal.h"
#include "policy/objects/parse.h"

#include <cmocka.h>

static const char namespace_text[] =
	"{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {team: red}}}";
static const char node_text[] =
	"{apiVersion: v1, kind: Node, metadata: {name: n1, labels: {zone: a}}, status: {addresses: "
	"[{type: InternalIP, address: 192.0.2.1}, {type: ExternalIP, address: 192.0.2.2}]}}";
static const char pod_text[] =
	"{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: shop, uid: u-1, "
	"labels: {app: cart, tier: web}, annotations: {tendril.io/accelerate: 'true', "
	"tendril.io/policy-audit: 'true'}}, "
	"spec: {nodeName: n1, hostNetwork: false, containers: [{name: c, ports: "
	"[{name: http, containerPort: 80, protocol: TCP, hostPort: 8080, hostIP: 192.0.2.1}]}]}, "
	"status: {phase: Running, podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]}}";
static const char service_text[] =
	"{apiVersion: v1, kind: Service, metadata: {name: s, namespace: shop, labels: {}, "
	"annotations: {tendril.io/lb-algorithm: maglev}}, "
	"spec: {clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1], publishNotReadyAddresses: false, "
	"type: LoadBalancer, sessionAffinity: ClientIP, internalTrafficPolicy: Cluster, "
	"externalTrafficPolicy: Local, healthCheckNodePort: 30999, externalIPs: [203.0.113.9], "
	"loadBalancerSourceRanges: [198.51.100.0/24], "
	"ports: [{name: http, port: 80, protocol: TCP, targetPort: 8080, nodePort: 30080}, "
	"{name: adm, port: 81, targetPort: adm}]}, "
	"status: {loadBalancer: {ingress: [{ip: 203.0.113.1}]}}}";
static const char slice_text[] =
	"{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: e, "
	"namespace: shop, labels: {kubernetes.io/service-name: s}}, addressType: IPv4, "
	"endpoints: [{addresses: [10.0.0.1], conditions: {ready: true, serving: true, "
	"terminating: false}, targetRef: {kind: Pod, namespace: shop, name: p}, nodeName: n1, "
	"zone: a, hints: {forZones: [{name: za}], forNodes: [{name: na}]}}], "
	"ports: [{name: http, port: 8080, protocol: TCP}]}";
static const char policy_text[] =
	"{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: np, "
	"namespace: shop}, spec: {podSelector: {matchLabels: {app: cart}, matchExpressions: "
	"[{key: tier, operator: In, values: [web]}]}, policyTypes: [Ingress, Egress], "
	"ingress: [{from: [{podSelector: {matchLabels: {a: b}}, namespaceSelector: {}}], "
	"ports: [{port: 80, protocol: TCP}, {port: http}]}], "
	"egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}], "
	"ports: [{port: 1000, endPort: 2000}]}]}}";
static const char cluster_policy_text[] =
	"{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, metadata: "
	"{name: cnp}, spec: {tier: Admin, priority: 5, subject: {pods: {namespaceSelector: "
	"{matchLabels: {team: red}}, podSelector: {matchLabels: {app: cart}}}}, ingress: [{name: "
	"r, action: Deny, from: [{namespaces: {matchLabels: {a: b}}}]}], egress: [{action: Pass, "
	"to: [{nodes: {matchLabels: {zone: a}}}, {networks: [10.0.0.0/8]}], protocols: [{tcp: "
	"{destinationPort: {number: 80}}}, {udp: {destinationPort: {range: {start: 1000, end: "
	"2000}}}}]}]}}";

/* What is replaced by what; each makes another object. */
static const struct {
	const char *text;
	const char *from;
	const char *to;
} changes[] = {
	{ namespace_text, "name: shop", "name: shop2" },
	{ namespace_text, "team: red", "team: blue" },
	{ namespace_text, "team: red", "teams: red" },
	{ namespace_text, "team: red", "team: red, more: x" },
	{ node_text, "192.0.2.2", "192.0.2.3" },
	{ node_text, "type: ExternalIP", "type: Hostname" },
	{ node_text, "zone: a", "zone: b" },
	{ pod_text, "namespace: shop", "namespace: shop2" },
	{ pod_text, "uid: u-1", "uid: u-2" },
	{ pod_text, "uid: u-1", "uid: u-1, deletionTimestamp: '2026-01-01T00:00:00Z'" },
	{ pod_text, "uid: u-1", "uid: u-1, creationTimestamp: '2026-01-01T00:00:00Z'" },
	{ pod_text, "app: cart", "app: card" },
	{ pod_text, "accelerate: 'true'", "accelerate: 'false'" },
	{ pod_text, "policy-audit: 'true'", "policy-audit: 'false'" },
	{ pod_text, "nodeName: n1", "nodeName: n2" },
	{ pod_text, "hostPort: 8080", "hostPort: 8081" },
	{ pod_text, "hostIP: 192.0.2.1", "hostIP: 0.0.0.0" },
	{ pod_text, "hostNetwork: false", "hostNetwork: true" },
	{ pod_text, "name: http", "name: web" },
	{ pod_text, "containerPort: 80", "containerPort: 81" },
	{ pod_text, "protocol: TCP", "protocol: UDP" },
	{ pod_text, "phase: Running", "phase: Failed" },
	{ pod_text, "10.0.0.1", "10.0.0.2" },
	{ pod_text, ", {ip: 'fd00::1'}", "" },
	{ service_text, "[10.96.0.1]", "[10.96.0.1, 'fd00::1']" },
	{ service_text, "name: http", "name: web" },
	{ service_text, "port: 80,", "port: 90," },
	{ service_text, "protocol: TCP", "protocol: UDP" },
	{ service_text, "targetPort: 8080", "targetPort: 8081" },
	{ service_text, "targetPort: adm", "targetPort: bdm" },
	{ service_text, "targetPort: adm", "targetPort: 81" },
	{ service_text, "publishNotReadyAddresses: false", "publishNotReadyAddresses: true" },
	{ service_text, "labels: {}", "labels: {service.kubernetes.io/service-proxy-name: x}" },
	{ service_text, "[10.96.0.1]", "[10.96.0.1], selector: {app: cart}" },
	{ service_text, "type: LoadBalancer", "type: NodePort" },
	{ service_text, "sessionAffinity: ClientIP", "sessionAffinity: None" },
	{ service_text, "internalTrafficPolicy: Cluster", "internalTrafficPolicy: Local" },
	{ service_text, "externalTrafficPolicy: Local", "externalTrafficPolicy: Cluster" },
	{ service_text, "healthCheckNodePort: 30999", "healthCheckNodePort: 30998" },
	{ service_text, "lb-algorithm: maglev", "lb-algorithm: random" },
	{ service_text, "203.0.113.9", "203.0.113.8" },
	{ service_text, "198.51.100.0/24", "198.51.100.0/25" },
	{ service_text, "nodePort: 30080", "nodePort: 30081" },
	{ service_text, "{ip: 203.0.113.1}", "{ip: 203.0.113.2}" },
	{ service_text, "{ip: 203.0.113.1}", "{ip: 203.0.113.1, ipMode: Proxy}" },
	{ slice_text, "nodeName: n1", "nodeName: n2" },
	{ slice_text, "zone: a", "zone: b" },
	{ slice_text, "name: za", "name: zb" },
	{ slice_text, "name: na", "name: nb" },
	{ slice_text, ", forNodes: [{name: na}]", "" },
	{ pod_text, "phase: Running", "conditions: [{type: Ready, status: 'False'}]" },
	{ slice_text, "service-name: s", "service-name: t" },
	{ slice_text, "addressType: IPv4", "addressType: FQDN" },
	{ slice_text, "10.0.0.1", "10.0.0.2" },
	{ slice_text, "ready: true", "ready: false" },
	{ slice_text, "serving: true", "serving: false" },
	{ slice_text, "terminating: false", "terminating: true" },
	{ slice_text, ", namespace: shop, name: p", ", namespace: shop2, name: p" },
	{ slice_text, "name: p}", "name: q}" },
	{ slice_text, "name: http", "name: web" },
	{ slice_text, "port: 8080", "port: 8081" },
	{ slice_text, "protocol: TCP", "protocol: UDP" },
	{ policy_text, "app: cart", "app: card" },
	{ policy_text, "operator: In", "operator: NotIn" },
	{ policy_text, "values: [web]", "values: [web, db]" },
	{ policy_text, "values: [web]", "values: [db]" },
	{ policy_text, "[Ingress, Egress]", "[Ingress]" },
	{ policy_text, "[Ingress, Egress]", "[Egress]" },
	{ policy_text, "{a: b}", "{a: c}" },
	{ policy_text, ", namespaceSelector: {}", "" },
	{ policy_text, "namespaceSelector: {}", "namespaceSelector: {matchLabels: {a: b}}" },
	{ policy_text, "podSelector: {matchLabels: {a: b}}, ", "" },
	{ policy_text, "port: 80, protocol: TCP", "port: 81, protocol: TCP" },
	{ policy_text, "protocol: TCP", "protocol: SCTP" },
	{ policy_text, "{port: http}", "{port: web}" },
	{ policy_text, ", {port: http}", "" },
	{ policy_text, "10.0.0.0/8", "10.0.0.0/9" },
	{ policy_text, "[10.1.0.0/16]", "[10.1.0.0/17]" },
	{ policy_text, "[10.1.0.0/16]", "[10.2.0.0/16]" },
	{ policy_text, "[10.1.0.0/16]", "[]" },
	{ policy_text, "port: 1000", "port: 1001" },
	{ policy_text, "endPort: 2000", "endPort: 2001" },
	{ policy_text, "egress: [{", "egress: [{}, {" },
	{ cluster_policy_text, "tier: Admin", "tier: Baseline" },
	{ cluster_policy_text, "priority: 5", "priority: 6" },
	{ cluster_policy_text, "team: red", "team: blue" },
	{ cluster_policy_text, "app: cart", "app: card" },
	{ cluster_policy_text, "name: r,", "name: s," },
	{ cluster_policy_text, "name: r, ", "" },
	{ cluster_policy_text, "action: Deny", "action: Accept" },
	{ cluster_policy_text, "action: Pass", "action: Deny" },
	{ cluster_policy_text, "{a: b}", "{a: c}" },
	{ cluster_policy_text, "zone: a", "zone: b" },
	{ cluster_policy_text, "nodes: ", "namespaces: " },
	{ cluster_policy_text, "10.0.0.0/8", "10.0.0.0/9" },
	{ cluster_policy_text, "number: 80", "number: 81" },
	{ cluster_policy_text, "tcp: ", "sctp: " },
	{ cluster_policy_text, "end: 2000", "end: 2001" },
};

static struct object *parse(const char *text)
{
	struct problems problems = { 0 };
	struct object_list list;
	struct object *object;
	char line[400], yaml[1100];

	/* With a document mark: a text that begins with a brace is taken for JSON. */
	snprintf(yaml, sizeof(yaml), "--- %s", text);
	if (objects_parse(yaml, strlen(yaml), 0, &list, &problems))
		fail_msg("%s\n%s", problem_format(&problems.items[0], NULL, line, sizeof(line)),
			 text);
	assert_int_equal(list.count, 1);
	object = list.items[0];
	list.items[0] = NULL;
	object_list_done(&list);
	problems_done(&problems);
	return object;
}

static void test_every_change_is_seen(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		const char *at = strstr(changes[i].text, changes[i].from);
		struct object *before, *after;
		char text[1000];

		assert_non_null(at);
		snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - changes[i].text),
			 changes[i].text, changes[i].to, at + strlen(changes[i].from));
		before = parse(changes[i].text);
		after = parse(text);
		if (object_equal(before, after) || object_equal(after, before))
			fail_msg("not seen: \"%s\" became \"%s\"", changes[i].from, changes[i].to);
		object_free(before);
		object_free(after);
	}
}

static void test_the_same_text_is_equal(void **state)
{
	static const char *const texts[] = { namespace_text,     node_text,  pod_text,
					     service_text,       slice_text, policy_text,
					     cluster_policy_text };
	size_t count = sizeof(texts) / sizeof(texts[0]);

	(void)state;
	for (size_t i = 0; i < count; i++) {
		struct object *a = parse(texts[i]), *b = parse(texts[i]);
		struct object *other = parse(texts[(i + 1) % count]);

		b->source = a;
		assert_true(object_equal(a, b));
		assert_false(object_equal(a, other));
		object_free(a);
		object_free(b);
		object_free(other);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_change_is_seen),
		cmocka_unit_test(test_the_same_text_is_equal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
