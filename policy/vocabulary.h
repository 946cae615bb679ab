/* SPDX-License-Identifier: Apache-2.0 */
/* What the policies of a world read: label keys, port names, CIDRs.  Internal to the compiler. */
#ifndef TENDRIL_POLICY_VOCABULARY_H
#define TENDRIL_POLICY_VOCABULARY_H

#include "policy/arena.h"
#include "policy/world.h"

#define VOCABULARY_NONE UINT32_MAX

struct port_name {
	const char *name; /* borrowed from a policy */
	uint8_t proto;
};

struct vocabulary {
	struct intern keys;      /* label keys of pods */
	struct intern node_keys; /* label keys of nodes */
	bool nodes;              /* whether some policy has nodes as peers */
	struct port_name *ports; /* sorted by (name, proto), unique */
	size_t port_count;
	struct prefix *prefixes; /* sorted by (addr, len), unique */
	size_t prefix_count;
	struct intern prefix_keys; /* the same in the same order, for look-ups by content */
	bool lengths[129];         /* which prefix lengths there are */
};

/* Into a zeroed struct; -ENOMEM leaves it to vocabulary_done(). */
int vocabulary_build(struct vocabulary *vocabulary, const struct world *world, struct arena *arena);
void vocabulary_done(struct vocabulary *vocabulary);

/* Number of exactly this prefix, and of the longest one around an address; or VOCABULARY_NONE. */
uint32_t vocabulary_prefix(const struct vocabulary *vocabulary, const struct prefix *prefix);
uint32_t vocabulary_longest(const struct vocabulary *vocabulary, const struct addr *addr);

#endif
