/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All pods, nodes and CIDRs that policies can tell apart.  A group is a namespace together with
 * those labels and ports that some policy reads; nodes form groups by their labels.  An identity is
 * a group together with the longest CIDR around an address, or such a CIDR alone.  Internal to the
 * compiler.
 */
#ifndef TENDRIL_POLICY_COMPILER_IDENTITY_H
#define TENDRIL_POLICY_COMPILER_IDENTITY_H

#include "policy/compiler/id_pool.h"
#include "policy/compiler/label_index.h"
#include "policy/compiler/referenced.h"

#define NONE        REFERENCED_NONE
#define PREFIX_GONE (NONE - 1) /* of an identity out of use: no policy names its CIDR now */

/* Scopes of the label index. */
#define SCOPE_NAMESPACES    0
#define SCOPE_OF(namespace) (1 + (namespace)) /* its groups */
#define SCOPE_NODES         UINT32_MAX        /* groups of nodes */

struct group {
	uint32_t namespace; /* number in allocator.namespaces; NONE: a group of nodes, or unknown */
	bool unknown;       /* pods without an object (unknown.c) */
	struct labels labels;
	struct named_port *ports; /* sorted by (name, proto) */
	size_t port_count;
	uint32_t first_identity; /* list through next_in_group; NONE ends */
	uint32_t subjects;       /* pods of the group that policy is enforced for */
	uint32_t ruleset;        /* of its subjects; NONE: no policy selects them */
};

struct identity_class {
	uint32_t group;  /* NONE: no pod */
	uint32_t prefix; /* the longest CIDR of policies around the address; NONE: in none */
	uint32_t id;     /* number for the maps, while it is used */
	uint32_t refs;   /* addresses and subjects; 0: unused */
	uint32_t next_in_group;
	uint32_t next_in_prefix;
};

/* An address and its owner; of two owners the one with the smaller kind has it. */
enum owner_kind { OWNER_HOST, OWNER_ENDPOINT, OWNER_POD, OWNER_NODE };

struct ip_owner {
	struct addr addr;
	enum owner_kind kind;
	uint32_t identity;
	uint32_t pod_state; /* NONE: a node */
	uint16_t slot;
};

#define POD_STATE_ADDRESSES 4

/* Addresses that no pod has, in the pod CIDRs of nodes. */
struct unknown_range {
	struct prefix prefix;
	uint32_t identity; /* NONE: a node has the address, and no CIDR of a policy is around it */
};

/* A pod or an endpoint. */
struct pod_state {
	enum owner_kind kind; /* OWNER_ENDPOINT or OWNER_POD */
	bool subject;         /* policy is enforced for it */
	uint16_t slot;
	uint32_t group;           /* NONE: it was removed from the store */
	const struct object *pod; /* or NULL; borrowed from the store */
	struct addr addresses[POD_STATE_ADDRESSES];
	uint32_t identities[POD_STATE_ADDRESSES]; /* of the addresses */
	size_t address_count;
	uint32_t identity_v4; /* of a subject; NONE otherwise */
	uint32_t identity_v6;
	uint32_t row; /* of a subject: its index in compiled->subjects */
};

struct allocator {
	struct arena *arena; /* borrowed */
	const struct store *store;
	struct referenced referenced;
	struct intern namespaces;
	struct labels **namespace_labels; /* by number of the namespace */
	size_t namespace_capacity;
	size_t namespaces_indexed;
	struct intern group_keys;
	struct group *groups;
	size_t group_capacity;
	size_t groups_indexed;
	struct intern identity_keys;
	struct identity_class *identities;
	size_t identity_capacity;
	struct id_list changed;       /* identities that are used now, or no longer */
	struct id_pool numbers;       /* of identities in use */
	uint32_t *prefix_identities;  /* by prefix: first identity of its list */
	struct intern node_addresses; /* of all Node objects, if some policy has nodes as peers */
	uint32_t *node_groups;        /* by number of the address */
	size_t node_capacity;
	struct prefix *pod_cidrs; /* of all nodes, if some policy refuses pods: sorted, disjoint */
	size_t pod_cidr_count;
	struct unknown_range *unknown; /* in no order; unique */
	size_t unknown_count;
	uint32_t unknown_group; /* NONE: no pod CIDRs */
	struct label_index index;
	struct ip_owner *owners; /* sorted by address, unique */
	size_t owner_count;
	size_t owner_capacity;
	struct pod_state *pod_states;
	size_t pod_state_count;
	size_t pod_state_capacity;
};

/* Builds all of it, in a zeroed struct. */
void allocator_build(struct allocator *allocator, const struct store *store, struct arena *arena);
void allocator_done(struct allocator *allocator);

/* Pods in the host's network are their node, and a terminated pod no longer owns its address. */
static inline bool pod_is_peer(const struct object *pod)
{
	return !pod->pod.host_network && !pod->pod.terminated;
}

/* Reads an endpoint or a pod from the store.  The result uses its identities and counts in its
 * group until pod_state_release(). */
struct pod_state pod_state_of_endpoint(struct allocator *allocator,
				       const struct store_endpoint *endpoint);
struct pod_state pod_state_of_pod(struct allocator *allocator, const struct object *pod);
void pod_state_release(struct allocator *allocator, const struct pod_state *pod_state);

/* The number of the group of a pod (NULL: an endpoint without a Pod object), new or known. */
uint32_t allocator_add_group(struct allocator *allocator, const char *namespace,
			     const struct labels *labels, const struct pod_object *pod);
uint32_t allocator_add_node_group(struct allocator *allocator, const struct labels *labels);
uint32_t allocator_add_unknown_group(struct allocator *allocator);
/* The identity of a group (or NONE) in a CIDR (or NONE), with one more reference. */
uint32_t allocator_hold_identity(struct allocator *allocator, uint32_t group, uint32_t prefix);
/* Drops a reference; NONE is allowed. */
void allocator_drop_identity(struct allocator *allocator, uint32_t identity);
/* Finds the owners of all addresses, and the identities behind them (pod_state.c). */
void allocator_find_owners(struct allocator *allocator);

/* Finds the ranges of pods that are not known (unknown.c). */
void allocator_find_unknown(struct allocator *allocator);
bool allocator_pod_cidrs_contain(const struct allocator *allocator, const struct prefix *prefix);
bool allocator_pod_cidrs_overlap(const struct allocator *allocator, const struct prefix *prefix);
/* The group behind an address that no pod has: that of unknown pods, or NONE. */
uint32_t allocator_group_without_pod(const struct allocator *allocator, const struct addr *addr);

/* Adds new groups and namespaces to the label index. */
void allocator_index(struct allocator *allocator);
/* Sets what policies read now, and renumbers the CIDRs.  Pods with an address in a CIDR that is
 * added or removed must have been released. */
void allocator_set_referenced(struct allocator *allocator, struct referenced *referenced);
/* The identity of a CIDR itself. */
uint32_t allocator_prefix_identity(const struct allocator *allocator, uint32_t prefix);
/* Reads the labels of a namespace from the store. */
void allocator_read_namespace(struct allocator *allocator, uint32_t namespace);
uint64_t identity_hash(const struct allocator *allocator, uint32_t identity);

size_t allocator_identity_count(const struct allocator *allocator);
const char *allocator_namespace(const struct allocator *allocator, uint32_t namespace);

#endif
