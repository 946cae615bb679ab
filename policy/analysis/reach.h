/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who reaches whom on which ports, computed from compiled tables, in one store or in several
 * versions of it at once.  The answers are for peer groups: pods that the policies of no version
 * can tell apart are one peer group, and so are the addresses outside that are in the same CIDRs of
 * policies.
 *
 * Not considered: pods in the host's network (they are their node), terminated pods, pods that are
 * not in every version, and addresses in pod CIDRs that no pod has, where a policy refuses pods.  A
 * node always reaches its own pods; this is not shown either.
 */
#ifndef TENDRIL_POLICY_ANALYSIS_REACH_H
#define TENDRIL_POLICY_ANALYSIS_REACH_H

#include "policy/analysis/port_pool.h"
#include "policy/compiler/compile.h"

#define REACH_STORES_MAX 2

enum family { FAMILY_V4, FAMILY_V6, FAMILY_COUNT };

struct peer_group {
	/* Pods, in order of namespace and name; as the last store has them ... */
	const struct object *const *pods;
	size_t pod_count;      /* 0: addresses outside */
	struct prefix outside; /* ... in this CIDR, and in no longer CIDR of a policy */
	bool families[FAMILY_COUNT];
	const char *name; /* "shop/cart-1", "shop/app=cart (12 pods)", "10.0.0.0/8" */
};

struct reach;

/* stores are borrowed; none of them may be the store of one node.  Peer groups of pods come first,
 * in the order of their first pods, then those of addresses outside, in the order of addresses. */
struct reach *reach_new(const struct store *const *stores, size_t store_count);
void reach_free(struct reach *reach); /* takes NULL */

const struct peer_group *reach_peer_groups(const struct reach *reach, size_t *ret_count);
/* The peer group of a pod; SIZE_MAX if it is in none. */
size_t reach_peer_group_of(const struct reach *reach, const char *namespace, const char *name);

/* Ports on which a pod of one peer group may open connections to another pod of the other, in the
 * store of that number: a set of reach_pool(). */
uint32_t reach_ports(struct reach *reach, size_t store, enum family family, size_t from, size_t to);
/* Whether both have addresses of the family, and at least one is a pod. */
bool reach_meets(const struct reach *reach, enum family family, size_t from, size_t to);
/* Whether both are the same single pod: a pod always reaches itself, whatever reach_ports() says.
 */
bool reach_is_itself(const struct reach *reach, size_t from, size_t to);

struct port_pool *reach_pool(struct reach *reach);

#endif
