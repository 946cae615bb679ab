/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everybody whom policy can tell apart.  A group is a namespace and those labels and ports that are
 * in the policies' vocabulary: selectors see no more.  Nodes form groups by their labels.
 * An identity is a group and the CIDR an address lies in, or such a CIDR alone.  Internal to the
 * compiler.
 */
#ifndef TENDRIL_POLICY_IDENTITY_H
#define TENDRIL_POLICY_IDENTITY_H

#include "policy/label_index.h"
#include "policy/vocabulary.h"

#define NONE VOCABULARY_NONE

/* Scopes of the label index. */
#define SCOPE_NAMESPACES    0
#define SCOPE_OF(namespace) (1 + (namespace)) /* its groups */
#define SCOPE_NODES         UINT32_MAX        /* groups of nodes */

struct group {
	uint32_t namespace; /* number in population.namespaces; NONE: of nodes */
	struct labels labels;
	struct named_port *ports; /* sorted by (name, proto) */
	size_t port_count;
	uint32_t first_identity; /* list through next_in_group; NONE ends */
	bool subject;
};

struct identity_class {
	uint32_t group;  /* NONE: no pod */
	uint32_t prefix; /* longest of the vocabulary around the address; NONE: in none */
	uint32_t id;     /* number for the maps */
	uint32_t next_in_group;
	uint32_t next_in_prefix;
};

/* One address and whose it is; earlier kinds win where two claim one address. */
enum place_kind { PLACE_HOST, PLACE_ENDPOINT, PLACE_POD, PLACE_NODE };

struct place {
	struct addr addr;
	enum place_kind kind;
	uint32_t identity;
	uint32_t subject; /* NONE: no subject */
	uint16_t slot;
};

/* One pod that may be subject to policy. */
struct member {
	uint32_t group;
	uint32_t identity_v4;
	uint32_t identity_v6;
	uint16_t slot;
	const struct object *pod;
};

struct population {
	struct arena *arena; /* borrowed */
	const struct world *world;
	struct vocabulary vocabulary;
	struct intern namespaces;
	struct labels *namespace_labels; /* by number of the namespace */
	size_t namespace_capacity;
	struct intern group_keys;
	struct group *groups;
	size_t group_capacity;
	struct intern identity_keys;
	struct identity_class *identities;
	size_t identity_capacity;
	uint32_t *prefix_identities;  /* by prefix: first identity of its list */
	struct intern node_addresses; /* of all Node objects, while policies speak of nodes */
	uint32_t *node_groups;        /* by number of the address */
	size_t node_capacity;
	struct label_index index;
	struct place *places; /* sorted by address, unique */
	size_t place_count;
	size_t place_capacity;
	struct member *members;
	size_t member_count;
	size_t member_capacity;
};

/* -ENOMEM leaves it to be freed by population_done(). */
int population_build(struct population *population, const struct world *world, struct arena *arena);
void population_done(struct population *population);

size_t population_identity_count(const struct population *population);
const char *population_namespace(const struct population *population, uint32_t namespace);

#endif
