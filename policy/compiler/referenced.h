/* SPDX-License-Identifier: Apache-2.0 */
/* What the policies of a store read: label keys, port names, CIDRs.  Internal to the compiler. */
#ifndef TENDRIL_POLICY_COMPILER_REFERENCED_H
#define TENDRIL_POLICY_COMPILER_REFERENCED_H

#include "lib/arena.h"
#include "policy/objects/store.h"

#define REFERENCED_NONE UINT32_MAX

struct port_name {
	const char *name;
	uint8_t proto;
};

struct referenced {
	struct arena *arena;
	struct intern keys;      /* label keys of pods */
	struct intern node_keys; /* label keys of nodes */
	bool nodes;              /* whether some policy has nodes as peers */
	bool refuses_pods;       /* whether some policy's rule_refuses_pods() */
	struct port_name *ports; /* sorted by (name, proto), unique */
	size_t port_count;
	struct prefix *prefixes; /* sorted by (addr, len), unique */
	size_t prefix_count;
	struct intern prefix_keys; /* the same in the same order, for lookups by content */
	bool lengths[129];         /* the prefix lengths that occur */
};

/* Fills a zeroed struct with what the policies of the store read. */
void referenced_build(struct referenced *referenced, const struct store *store);
void referenced_done(struct referenced *referenced);

/* The number of exactly this prefix, and of the longest prefix that contains an address.
 * REFERENCED_NONE: there is none. */
uint32_t referenced_prefix(const struct referenced *referenced, const struct prefix *prefix);
uint32_t referenced_longest(const struct referenced *referenced, const struct addr *addr);
/* The longest one that contains an address, and is no longer than max_len. */
uint32_t referenced_around(const struct referenced *referenced, const struct addr *addr,
			   uint8_t max_len);

/* Something that a policy reads. */
enum term_kind {
	TERM_POD_KEY,
	TERM_NODE_KEY,
	TERM_NODES,
	TERM_PORT,
	TERM_PREFIX,
	TERM_REFUSED_PODS,
};

struct term {
	enum term_kind kind;
	uint8_t proto;
	const char *text; /* the key of the label or the name of the port, borrowed */
	struct prefix prefix;
};

/* Calls each() for everything that a policy of either kind reads; the same term may come twice. */
void policy_terms(const struct object *object, void (*each)(const struct term *term, void *arg),
		  void *arg);

#endif
