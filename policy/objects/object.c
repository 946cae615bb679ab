/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/objects/object.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/shared.h"

static const struct {
	const char *name;
	const char *plural;
	const char *brief;
} kinds[OBJECT_KIND_COUNT] = {
	[OBJECT_NAMESPACE] = { "Namespace", "namespaces", "ns" },
	[OBJECT_NODE] = { "Node", "nodes", "no" },
	[OBJECT_POD] = { "Pod", "pods", "po" },
	[OBJECT_SERVICE] = { "Service", "services", "svc" },
	[OBJECT_ENDPOINT_SLICE] = { "EndpointSlice", "endpointslices", "endpointslice" },
	[OBJECT_NETWORK_POLICY] = { "NetworkPolicy", "networkpolicies", "netpol" },
	[OBJECT_CLUSTER_POLICY] = { "ClusterNetworkPolicy", "clusternetworkpolicies", "cnp" },
};

const char *object_kind_name(enum object_kind kind)
{
	return kinds[kind].name;
}

void service_gaps_each(unsigned int gaps,
		       void (*each)(const char *field, const char *text, void *arg), void *arg)
{
#define X(num, name, field, text)      \
	if (gaps & SERVICE_GAP_##name) \
		each(field, text, arg);
	SERVICE_GAPS(X)
#undef X
}

const char *service_type_name(enum service_type type)
{
	static const char *const names[] = {
		[TYPE_CLUSTER_IP] = "ClusterIP",
		[TYPE_NODE_PORT] = "NodePort",
		[TYPE_LOAD_BALANCER] = "LoadBalancer",
		[TYPE_EXTERNAL_NAME] = "ExternalName",
	};

	return names[type];
}

const char *policy_tier_name(enum policy_tier tier)
{
	static const char *const names[] = {
		[TIER_ADMIN] = "Admin",
		[TIER_NETWORK] = "NetworkPolicy",
		[TIER_BASELINE] = "Baseline",
	};

	return names[tier];
}

int object_kind_parse(const char *text, enum object_kind *ret_kind)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (strcasecmp(text, kinds[i].name) == 0 ||
		    strcasecmp(text, kinds[i].plural) == 0 ||
		    strcasecmp(text, kinds[i].brief) == 0) {
			*ret_kind = (enum object_kind)i;
			return 0;
		}
	}
	return -EINVAL;
}

void labels_done(struct labels *labels)
{
	for (size_t i = 0; i < labels->count; i++) {
		shared_release(labels->items[i].key);
		shared_release(labels->items[i].value);
	}
	free(labels->items);
	*labels = (struct labels){ 0 };
}

static void selector_done(struct selector *selector)
{
	for (size_t i = 0; i < selector->count; i++) {
		struct selector_term *term = &selector->terms[i];

		for (size_t v = 0; v < term->value_count; v++)
			free(term->values[v]);
		free(term->values);
		free(term->key);
	}
	free(selector->terms);
}

static void selector_free(struct selector *selector)
{
	if (!selector)
		return;
	selector_done(selector);
	free(selector);
}

static void pod_done(struct pod_object *pod)
{
	labels_done(&pod->labels);
	for (size_t i = 0; i < pod->port_count; i++)
		shared_release(pod->ports[i].name);
	free(pod->ports);
	free(pod->host_ports);
	shared_release(pod->node_name);
}

static void service_done(struct service_object *service)
{
	labels_done(&service->selector);
	free(service->balancer_ips);
	free(service->external_ips);
	free(service->source_ranges);
	for (size_t i = 0; i < service->port_count; i++) {
		shared_release(service->ports[i].name);
		shared_release(service->ports[i].target_name);
	}
	free(service->ports);
}

static void endpoint_hints_free(struct endpoint_hints *hints)
{
	if (!hints)
		return;
	for (size_t i = 0; i < hints->zone_count; i++)
		free(hints->zones[i]);
	for (size_t i = 0; i < hints->node_count; i++)
		free(hints->nodes[i]);
	free(hints->zones);
	free(hints->nodes);
	free(hints);
}

static void slice_endpoint_done(struct slice_endpoint *endpoint)
{
	shared_release(endpoint->pod_namespace);
	shared_release(endpoint->pod_name);
	shared_release(endpoint->node_name);
	shared_release(endpoint->zone);
	endpoint_hints_free(endpoint->hints);
}

static void slice_done(struct endpoint_slice_object *slice)
{
	for (size_t i = 0; i < slice->endpoint_count; i++)
		slice_endpoint_done(&slice->endpoints[i]);
	free(slice->endpoints);
	for (size_t i = 0; i < slice->port_count; i++)
		shared_release(slice->ports[i].name);
	free(slice->ports);
	shared_release(slice->service_name);
}

static void rules_free(struct policy_rule *rules, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		for (size_t p = 0; p < rules[i].peer_count; p++) {
			selector_free(rules[i].peers[p].pods);
			selector_free(rules[i].peers[p].namespaces);
			selector_free(rules[i].peers[p].nodes);
			free(rules[i].peers[p].except);
		}
		free(rules[i].peers);
		for (size_t p = 0; p < rules[i].port_count; p++)
			free(rules[i].ports[p].name);
		free(rules[i].ports);
		free(rules[i].name);
	}
	free(rules);
}

struct object *object_new(enum object_kind kind)
{
	static const size_t sizes[OBJECT_KIND_COUNT] = {
		[OBJECT_NAMESPACE] = sizeof(struct namespace_object),
		[OBJECT_NODE] = sizeof(struct node_object),
		[OBJECT_POD] = sizeof(struct pod_object),
		[OBJECT_SERVICE] = sizeof(struct service_object),
		[OBJECT_ENDPOINT_SLICE] = sizeof(struct endpoint_slice_object),
		[OBJECT_NETWORK_POLICY] = sizeof(struct network_policy_object),
		[OBJECT_CLUSTER_POLICY] = sizeof(struct cluster_policy_object),
	};
	struct object *object = xcalloc(1, offsetof(struct object, ns) + sizes[kind]);

	object->kind = kind;
	return object;
}

void object_free(struct object *object)
{
	if (!object)
		return;
	switch (object->kind) {
	case OBJECT_NAMESPACE:
		labels_done(&object->ns.labels);
		break;
	case OBJECT_NODE:
		labels_done(&object->node.labels);
		free(object->node.addresses);
		free(object->node.pod_cidrs);
		break;
	case OBJECT_POD:
		pod_done(&object->pod);
		break;
	case OBJECT_SERVICE:
		service_done(&object->service);
		break;
	case OBJECT_ENDPOINT_SLICE:
		slice_done(&object->slice);
		break;
	case OBJECT_NETWORK_POLICY:
		selector_done(&object->policy.pods);
		rules_free(object->policy.ingress_rules, object->policy.ingress_rule_count);
		rules_free(object->policy.egress_rules, object->policy.egress_rule_count);
		break;
	case OBJECT_CLUSTER_POLICY:
		selector_done(&object->cluster_policy.namespaces);
		selector_done(&object->cluster_policy.pods);
		rules_free(object->cluster_policy.ingress_rules,
			   object->cluster_policy.ingress_rule_count);
		rules_free(object->cluster_policy.egress_rules,
			   object->cluster_policy.egress_rule_count);
		break;
	case OBJECT_KIND_COUNT:
		break;
	}
	shared_release(object->namespace);
	shared_release(object->name);
	free(object->uid);
	free(object->lint_ignore);
	free(object);
}
