/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What NetworkPolicies and ClusterNetworkPolicies have in common: their rules by direction, their
 * order of evaluation, and the pods that they and their peers select.
 */
#ifndef TENDRIL_POLICY_OBJECTS_POLICY_H
#define TENDRIL_POLICY_OBJECTS_POLICY_H

#include "datapath/abi.h"
#include "policy/objects/store.h"

/* The rules of one direction of a policy of either kind, borrowed from it. */
struct policy_rules {
	const struct policy_rule *items;
	size_t count;
	bool in_force; /* false: policyTypes leaves the direction out, or there are no rules */
};

struct policy_rules policy_rules(const struct object *policy, enum direction direction);

const char *direction_name(enum direction direction); /* "ingress" */
enum policy_tier policy_tier(const struct object *policy);

/* The policies of one tier in the order of evaluation: closed ones first, then by priority, and by
 * name if priorities are equal (the API leaves that open).  NetworkPolicies have the order of the
 * store.  The caller frees the array; the objects belong to the store. */
const struct object **tier_policies(const struct store *store, enum policy_tier tier,
				    size_t *ret_count);

/* The labels of a namespace, borrowed from the store.  A namespace without an object gets the label
 * that the API server would give it, which is written to *fallback. */
struct labels namespace_labels(const struct store *store, const char *namespace,
			       struct label *fallback);
bool namespace_selected(const struct store *store, const char *namespace,
			const struct selector *selector);

/* Whether pods with these labels in this namespace are subjects of a policy of either kind. */
bool policy_selects(const struct store *store, const struct object *policy, const char *namespace,
		    const struct labels *labels);

/* Whether a rule may let through less from a pod whose labels and ports are known. */
bool rule_refuses_pods(const struct policy_rule *rule);

/* Whether a peer that is given by selectors of pods includes pods with these labels in this
 * namespace; own_namespace is that of the policy.  A block or nodes never do. */
bool peer_selects(const struct policy_peer *peer, const char *own_namespace, const char *namespace,
		  const struct labels *labels_of_namespace, const struct labels *labels);

#endif
