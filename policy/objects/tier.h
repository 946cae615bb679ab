/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ClusterNetworkPolicies as a store holds them: in the order in which they are asked, and whom they
 * select.
 */
#ifndef TENDRIL_POLICY_OBJECTS_TIER_H
#define TENDRIL_POLICY_OBJECTS_TIER_H

#include "policy/objects/store.h"

/* The policies of one tier, first to be asked first: by priority, and by name where priorities are
 * equal (the API leaves that to us).  The array is the caller's, the objects are the store's; NULL
 * when out of memory. */
const struct object **tier_policies(const struct store *store, enum policy_tier tier,
				    size_t *ret_count);

/* Whether a selector of namespaces takes one: a namespace without an object has the label that the
 * API server would give it. */
bool namespace_selected(const struct store *store, const char *namespace,
			const struct selector *selector);

/* Whether pods of these labels in this namespace are subjects of a ClusterNetworkPolicy. */
bool cluster_policy_selects(const struct store *store, const struct object *policy,
			    const char *namespace, const struct labels *labels);

#endif
