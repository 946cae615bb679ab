/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compares parsed objects field by field, so that a file that is written again causes work only for
 * the objects that changed.  A change of a field that is forgotten here would not be seen:
 * tests/unit/test_object_equal.c changes each field.
 */
#include "agent/objects/object_equal.h"

#include <string.h>

static bool text_equal(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool array_equal(const void *a, size_t a_count, const void *b, size_t b_count, size_t size,
			bool (*equal)(const void *a, const void *b))
{
	if (a_count != b_count)
		return false;
	for (size_t i = 0; i < a_count; i++) {
		if (!equal((const char *)a + i * size, (const char *)b + i * size))
			return false;
	}
	return true;
}

/* Arrays of two objects' members: the element type decides the size. */
#define ARRAYS_EQUAL(a, b, items, count, equal) \
	array_equal((a)->items, (a)->count, (b)->items, (b)->count, sizeof(*(a)->items), equal)

static bool address_item_equal(const void *a, const void *b)
{
	return addr_equal(a, b);
}

static bool text_item_equal(const void *a, const void *b)
{
	return text_equal(*(char *const *)a, *(char *const *)b);
}

static bool selector_term_equal(const void *left, const void *right)
{
	const struct selector_term *a = left, *b = right;

	return text_equal(a->key, b->key) && a->op == b->op &&
	       ARRAYS_EQUAL(a, b, values, value_count, text_item_equal);
}

static bool selector_equal(const struct selector *a, const struct selector *b)
{
	if (!a || !b)
		return a == b;
	return ARRAYS_EQUAL(a, b, terms, count, selector_term_equal);
}

static bool prefix_item_equal(const void *a, const void *b)
{
	return prefix_equal(a, b);
}

/* ---- kinds ----------------------------------------------------------------------------------- */

static bool named_port_equal(const void *left, const void *right)
{
	const struct named_port *a = left, *b = right;

	return text_equal(a->name, b->name) && a->port == b->port && a->proto == b->proto;
}

static bool host_port_equal(const void *left, const void *right)
{
	const struct host_port *a = left, *b = right;

	return addr_equal(&a->host_ip, &b->host_ip) && a->host_port == b->host_port &&
	       a->port == b->port && a->proto == b->proto;
}

static bool pod_equal(const struct pod_object *a, const struct pod_object *b)
{
	return labels_equal(&a->labels, &b->labels) &&
	       ARRAYS_EQUAL(a, b, addresses, address_count, address_item_equal) &&
	       ARRAYS_EQUAL(a, b, ports, port_count, named_port_equal) &&
	       ARRAYS_EQUAL(a, b, host_ports, host_port_count, host_port_equal) &&
	       text_equal(a->node_name, b->node_name) && a->host_network == b->host_network &&
	       a->terminated == b->terminated && a->ready == b->ready &&
	       a->deleting == b->deleting && a->created == b->created && a->accel == b->accel &&
	       a->audit == b->audit && a->egress_bandwidth == b->egress_bandwidth &&
	       a->ingress_bandwidth == b->ingress_bandwidth;
}

static bool service_port_equal(const void *left, const void *right)
{
	const struct service_port *a = left, *b = right;

	return text_equal(a->name, b->name) && a->port == b->port && a->proto == b->proto &&
	       a->node_port == b->node_port && text_equal(a->target_name, b->target_name) &&
	       a->target_port == b->target_port;
}

static bool service_equal(const struct service_object *a, const struct service_object *b)
{
	return a->type == b->type && a->algorithm == b->algorithm &&
	       ARRAYS_EQUAL(a, b, cluster_ips, cluster_ip_count, address_item_equal) &&
	       ARRAYS_EQUAL(a, b, balancer_ips, balancer_ip_count, address_item_equal) &&
	       ARRAYS_EQUAL(a, b, external_ips, external_ip_count, address_item_equal) &&
	       ARRAYS_EQUAL(a, b, source_ranges, source_range_count, prefix_item_equal) &&
	       ARRAYS_EQUAL(a, b, ports, port_count, service_port_equal) &&
	       a->affinity_s == b->affinity_s && a->health_check_port == b->health_check_port &&
	       a->internal_local == b->internal_local && a->external_local == b->external_local &&
	       a->publish_not_ready == b->publish_not_ready && a->foreign == b->foreign &&
	       labels_equal(&a->selector, &b->selector) && a->gaps == b->gaps;
}

static bool hints_equal(const struct endpoint_hints *a, const struct endpoint_hints *b)
{
	if (!a || !b)
		return a == b;
	return ARRAYS_EQUAL(a, b, zones, zone_count, text_item_equal) &&
	       ARRAYS_EQUAL(a, b, nodes, node_count, text_item_equal);
}

static bool slice_endpoint_equal(const void *left, const void *right)
{
	const struct slice_endpoint *a = left, *b = right;

	return addr_equal(&a->addr, &b->addr) && a->ready == b->ready && a->serving == b->serving &&
	       a->terminating == b->terminating && text_equal(a->pod_namespace, b->pod_namespace) &&
	       text_equal(a->pod_name, b->pod_name) && text_equal(a->node_name, b->node_name) &&
	       text_equal(a->zone, b->zone) && hints_equal(a->hints, b->hints);
}

static bool slice_port_equal(const void *left, const void *right)
{
	const struct slice_port *a = left, *b = right;

	return text_equal(a->name, b->name) && a->port == b->port && a->proto == b->proto;
}

static bool slice_equal(const struct endpoint_slice_object *a,
			const struct endpoint_slice_object *b)
{
	return text_equal(a->service_name, b->service_name) && a->v6 == b->v6 &&
	       a->fqdn == b->fqdn &&
	       ARRAYS_EQUAL(a, b, endpoints, endpoint_count, slice_endpoint_equal) &&
	       ARRAYS_EQUAL(a, b, ports, port_count, slice_port_equal);
}

static bool policy_port_equal(const void *left, const void *right)
{
	const struct policy_port *a = left, *b = right;

	return a->proto == b->proto && text_equal(a->name, b->name) && a->port_min == b->port_min &&
	       a->port_max == b->port_max;
}

static bool policy_peer_equal(const void *left, const void *right)
{
	const struct policy_peer *a = left, *b = right;

	return a->is_block == b->is_block && prefix_equal(&a->cidr, &b->cidr) &&
	       ARRAYS_EQUAL(a, b, except, except_count, prefix_item_equal) &&
	       selector_equal(a->pods, b->pods) && selector_equal(a->namespaces, b->namespaces) &&
	       selector_equal(a->nodes, b->nodes);
}

static bool policy_rule_equal(const void *left, const void *right)
{
	const struct policy_rule *a = left, *b = right;

	return text_equal(a->name, b->name) && a->action == b->action &&
	       ARRAYS_EQUAL(a, b, peers, peer_count, policy_peer_equal) &&
	       ARRAYS_EQUAL(a, b, ports, port_count, policy_port_equal);
}

static bool policy_equal(const struct network_policy_object *a,
			 const struct network_policy_object *b)
{
	return selector_equal(&a->pods, &b->pods) && a->ingress == b->ingress &&
	       a->egress == b->egress &&
	       ARRAYS_EQUAL(a, b, ingress_rules, ingress_rule_count, policy_rule_equal) &&
	       ARRAYS_EQUAL(a, b, egress_rules, egress_rule_count, policy_rule_equal);
}

static bool cluster_policy_equal(const struct cluster_policy_object *a,
				 const struct cluster_policy_object *b)
{
	return a->tier == b->tier && a->priority == b->priority && a->closed == b->closed &&
	       selector_equal(&a->namespaces, &b->namespaces) &&
	       selector_equal(&a->pods, &b->pods) &&
	       ARRAYS_EQUAL(a, b, ingress_rules, ingress_rule_count, policy_rule_equal) &&
	       ARRAYS_EQUAL(a, b, egress_rules, egress_rule_count, policy_rule_equal);
}

bool object_equal(const struct object *a, const struct object *b)
{
	if (a->kind != b->kind || !text_equal(a->namespace, b->namespace) ||
	    !text_equal(a->name, b->name) || !text_equal(a->uid, b->uid))
		return false;
	switch (a->kind) {
	case OBJECT_NAMESPACE:
		return labels_equal(&a->ns.labels, &b->ns.labels);
	case OBJECT_NODE:
		return labels_equal(&a->node.labels, &b->node.labels) &&
		       a->node.leaving == b->node.leaving &&
		       ARRAYS_EQUAL(&a->node, &b->node, addresses, address_count,
				    address_item_equal) &&
		       addr_equal(&a->node.internal_v4, &b->node.internal_v4) &&
		       addr_equal(&a->node.internal_v6, &b->node.internal_v6) &&
		       wireguard_key_compare(&a->node.wireguard_key, &b->node.wireguard_key) == 0 &&
		       ARRAYS_EQUAL(&a->node, &b->node, pod_cidrs, pod_cidr_count,
				    prefix_item_equal);
	case OBJECT_POD:
		return pod_equal(&a->pod, &b->pod);
	case OBJECT_SERVICE:
		return service_equal(&a->service, &b->service);
	case OBJECT_ENDPOINT_SLICE:
		return slice_equal(&a->slice, &b->slice);
	case OBJECT_NETWORK_POLICY:
		return policy_equal(&a->policy, &b->policy);
	case OBJECT_CLUSTER_POLICY:
		return cluster_policy_equal(&a->cluster_policy, &b->cluster_policy);
	case OBJECT_KIND_COUNT:
		break;
	}
	return false;
}
