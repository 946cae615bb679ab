/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/objects/policy.h"

#include <asm/byteorder.h>
#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/auto.h"

/* All pods, and all addresses of either family. */
static struct selector every_namespace;
static struct policy_peer everyone[] = {
	{ .namespaces = &every_namespace },
	{ .is_block = true, .cidr = { .addr.w[2] = __constant_htonl(0xffff), .len = 96 } },
	{ .is_block = true },
};
static const struct policy_rule deny_everyone = { .action = ACTION_DENY,
						  .peers = everyone,
						  .peer_count = ARRAY_SIZE(everyone) };

struct policy_rules policy_rules(const struct object *object, enum direction direction)
{
	const struct network_policy_object *policy = &object->policy;
	const struct cluster_policy_object *cluster = &object->cluster_policy;

	if (object->kind == OBJECT_CLUSTER_POLICY && cluster->closed)
		return (struct policy_rules){ &deny_everyone, 1, true };
	if (object->kind == OBJECT_CLUSTER_POLICY)
		return direction == DIR_INGRESS
			       ? (struct policy_rules){ cluster->ingress_rules,
							cluster->ingress_rule_count,
							cluster->ingress_rule_count > 0 }
			       : (struct policy_rules){ cluster->egress_rules,
							cluster->egress_rule_count,
							cluster->egress_rule_count > 0 };
	return direction == DIR_INGRESS
		       ? (struct policy_rules){ policy->ingress_rules, policy->ingress_rule_count,
						policy->ingress }
		       : (struct policy_rules){ policy->egress_rules, policy->egress_rule_count,
						policy->egress };
}

const char *direction_name(enum direction direction)
{
	return direction == DIR_INGRESS ? "ingress" : "egress";
}

enum policy_tier policy_tier(const struct object *policy)
{
	return policy->kind == OBJECT_CLUSTER_POLICY ? policy->cluster_policy.tier : TIER_NETWORK;
}

static int precedence_compare(const void *a, const void *b)
{
	const struct object *left = *(const struct object *const *)a;
	const struct object *right = *(const struct object *const *)b;

	if (left->cluster_policy.closed != right->cluster_policy.closed)
		return left->cluster_policy.closed ? -1 : 1;
	if (left->cluster_policy.priority != right->cluster_policy.priority)
		return left->cluster_policy.priority < right->cluster_policy.priority ? -1 : 1;
	return strcmp(left->name, right->name);
}

const struct object **tier_policies(const struct store *store, enum policy_tier tier,
				    size_t *ret_count)
{
	enum object_kind kind =
		tier == TIER_NETWORK ? OBJECT_NETWORK_POLICY : OBJECT_CLUSTER_POLICY;
	const struct object *const *all;
	size_t all_count = store_objects(store, kind, &all);
	const struct object **policies = xcalloc(all_count, sizeof(*policies));
	size_t count = 0;

	for (size_t i = 0; i < all_count; i++) {
		if (policy_tier(all[i]) == tier)
			policies[count++] = all[i];
	}
	if (tier != TIER_NETWORK)
		qsort(policies, count, sizeof(*policies), precedence_compare);
	*ret_count = count;
	return policies;
}

struct labels namespace_labels(const struct store *store, const char *namespace,
			       struct label *fallback)
{
	const struct object *object = store_find(store, OBJECT_NAMESPACE, "", namespace);

	if (object)
		return object->ns.labels;
	*fallback = (struct label){ .key = (char *)"kubernetes.io/metadata.name",
				    .value = (char *)namespace };
	return (struct labels){ .items = fallback, .count = 1 };
}

bool namespace_selected(const struct store *store, const char *namespace,
			const struct selector *selector)
{
	struct label fallback;
	struct labels labels = namespace_labels(store, namespace, &fallback);

	return selector_matches(selector, &labels);
}

bool policy_selects(const struct store *store, const struct object *policy, const char *namespace,
		    const struct labels *labels)
{
	if (policy->kind == OBJECT_CLUSTER_POLICY)
		return selector_matches(&policy->cluster_policy.pods, labels) &&
		       namespace_selected(store, namespace, &policy->cluster_policy.namespaces);
	return strcmp(policy->namespace, namespace) == 0 &&
	       selector_matches(&policy->policy.pods, labels);
}

bool rule_refuses_pods(const struct policy_rule *rule)
{
	if (rule->action == ACTION_ACCEPT)
		return false;
	for (size_t i = 0; i < rule->peer_count; i++) {
		if (!rule->peers[i].is_block && !rule->peers[i].nodes)
			return true;
	}
	for (size_t i = 0; i < rule->port_count; i++) {
		if (rule->ports[i].name)
			return true;
	}
	return false;
}

bool peer_selects(const struct policy_peer *peer, const char *own_namespace, const char *namespace,
		  const struct labels *labels_of_namespace, const struct labels *labels)
{
	if (peer->is_block || peer->nodes)
		return false;
	if (peer->pods && !selector_matches(peer->pods, labels))
		return false;
	return peer->namespaces ? selector_matches(peer->namespaces, labels_of_namespace)
				: strcmp(own_namespace, namespace) == 0;
}
