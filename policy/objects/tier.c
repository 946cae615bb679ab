/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/objects/tier.h"

#include <stdlib.h>
#include <string.h>

static int precedence_compare(const void *a, const void *b)
{
	const struct object *left = *(const struct object *const *)a;
	const struct object *right = *(const struct object *const *)b;

	if (left->cluster_policy.priority != right->cluster_policy.priority)
		return left->cluster_policy.priority < right->cluster_policy.priority ? -1 : 1;
	return strcmp(left->name, right->name);
}

const struct object **tier_policies(const struct store *store, enum policy_tier tier,
				    size_t *ret_count)
{
	size_t all = store_count(store, OBJECT_CLUSTER_POLICY);
	const struct object **policies = calloc(all + 1, sizeof(*policies));
	size_t count = 0;

	if (!policies)
		return NULL;
	for (const struct object *object = store_first(store, OBJECT_CLUSTER_POLICY); object;
	     object = store_next(store, object)) {
		if (object->cluster_policy.tier == tier)
			policies[count++] = object;
	}
	qsort(policies, count, sizeof(*policies), precedence_compare);
	*ret_count = count;
	return policies;
}

bool namespace_selected(const struct store *store, const char *namespace,
			const struct selector *selector)
{
	const struct object *object = store_find(store, OBJECT_NAMESPACE, "", namespace);
	struct label label = { .key = (char *)"kubernetes.io/metadata.name",
			       .value = (char *)namespace };
	const struct labels fallback = { .items = &label, .count = 1 };

	return selector_matches(selector, object ? &object->ns.labels : &fallback);
}

bool cluster_policy_selects(const struct store *store, const struct object *policy,
			    const char *namespace, const struct labels *labels)
{
	return selector_matches(&policy->cluster_policy.pods, labels) &&
	       namespace_selected(store, namespace, &policy->cluster_policy.namespaces);
}
