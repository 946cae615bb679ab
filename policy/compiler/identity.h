/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everybody whom policy can tell apart.  A group is a namespace and those labels and ports that are
 * in the policies' references: selectors see no more.  Nodes form groups by their labels.
 * An identity is a group and the CIDR an address lies in, or such a CIDR alone.  Internal to the
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
	uint32_t namespace; /* number in allocator.namespaces; NONE: of nodes */
	struct labels labels;
	struct named_port *ports; /* sorted by (name, proto) */
	size_t port_count;
	uint32_t first_identity; /* list through next_in_group; NONE ends */
	uint32_t subjects;       /* members that policy is enforced for */
	uint32_t ruleset;        /* of its subjects; NONE: no policy selects them */
};

struct identity_class {
	uint32_t group;  /* NONE: no pod */
	uint32_t prefix; /* longest of the referenced labels around the address; NONE: in none */
	uint32_t id;     /* number for the maps, while it has holders */
	uint32_t refs;   /* addresses and subjects; 0: it is out of use */
	uint32_t next_in_group;
	uint32_t next_in_prefix;
};

/* One address and whose it is; earlier kinds win where two claim one address. */
enum place_kind { PLACE_HOST, PLACE_ENDPOINT, PLACE_POD, PLACE_NODE };

struct place {
	struct addr addr;
	enum place_kind kind;
	uint32_t identity;
	uint32_t pod_state; /* NONE: a node */
	uint16_t slot;
};

#define POD_STATE_ADDRESSES 4

/* A pod or an endpoint. */
struct pod_state {
	enum place_kind kind; /* PLACE_ENDPOINT or PLACE_POD */
	bool subject;         /* policy is enforced for it */
	uint16_t slot;
	uint32_t group;           /* NONE: it is in the store no longer */
	const struct object *pod; /* or NULL; borrowed from the store */
	struct addr addresses[POD_STATE_ADDRESSES];
	uint32_t identities[POD_STATE_ADDRESSES]; /* of the addresses */
	size_t address_count;
	uint32_t identity_v4; /* of a subject; NONE otherwise */
	uint32_t identity_v6;
	uint32_t row; /* of a subject: its place in compiled->subjects */
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
	struct id_list changed;       /* identities that came into use or went out of it */
	struct numbers numbers;       /* of identities in use */
	uint32_t *prefix_identities;  /* by prefix: first identity of its list */
	struct intern node_addresses; /* of all Node objects, while policies speak of nodes */
	uint32_t *node_groups;        /* by number of the address */
	size_t node_capacity;
	struct label_index index;
	struct place *places; /* sorted by address, unique */
	size_t place_count;
	size_t place_capacity;
	struct pod_state *pod_states;
	size_t pod_state_count;
	size_t pod_state_capacity;
};

/* -ENOMEM leaves it to be freed by allocator_done(). */
int allocator_build(struct allocator *allocator, const struct store *store, struct arena *arena);
void allocator_done(struct allocator *allocator);

/* Pods in the host's network are their node, and a terminated pod's address is nobody's. */
static inline bool pod_is_peer(const struct object *pod)
{
	return !pod->pod.host_network && !pod->pod.terminated;
}

/* What the store says of an endpoint or a pod, which holds its identities and counts in its group
 * from then on. */
int pod_state_of_endpoint(struct allocator *allocator, const struct store_endpoint *endpoint,
			  struct pod_state *ret_pod_state);
int pod_state_of_pod(struct allocator *allocator, const struct object *pod,
		     struct pod_state *ret_pod_state);
/* Takes back what the member held. */
void pod_state_release(struct allocator *allocator, const struct pod_state *pod_state);

/* Makes groups and namespaces that are new known to selectors. */
int allocator_index(struct allocator *allocator);
/* Takes over referenced labels, and gives CIDRs new numbers.  Whoever has an address in a CIDR that
 * comes or goes must have been released. */
int allocator_set_referenced(struct allocator *allocator, struct referenced *referenced);
/* The identity of a CIDR itself. */
uint32_t allocator_prefix_identity(const struct allocator *allocator, uint32_t prefix);
/* Reads the labels of a namespace from the store. */
int allocator_read_namespace(struct allocator *allocator, uint32_t namespace);
uint64_t identity_hash(const struct allocator *allocator, uint32_t identity);

size_t allocator_identity_count(const struct allocator *allocator);
const char *allocator_namespace(const struct allocator *allocator, uint32_t namespace);

#endif
