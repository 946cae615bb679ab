/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the compiler's files share: the numbered peers, port sets, rules and rulesets of one run.
 * Each is interned, so that what repeats is worked out once.
 */
#ifndef TENDRIL_POLICY_COMPILER_H
#define TENDRIL_POLICY_COMPILER_H

#include "policy/compile.h"
#include "policy/identity.h"
#include "policy/ports.h"

/* The identities that a peer of a rule matches. */
struct peer {
	const uint32_t *identities; /* sorted */
	size_t count;
	uint64_t hash; /* of what was written */
};

/* A rule with its content in numbers; equal rules are one. */
struct rule {
	bool any; /* no peers: everyone */
	enum policy_action action;
	size_t ports;                           /* number of a port set */
	const struct policy_port *const *names; /* egress: resolved for each destination */
	size_t name_count;
	const uint32_t *peers;
	size_t peer_count;
	uint64_t hash;
};

/* Rules of one tier and direction: in order, but sorted and unique in TIER_NETWORK. */
struct rule_list {
	const uint32_t *items;
	size_t count;
};

/* The rules of both directions that hold for a group of subjects; equal ones are one. */
struct ruleset {
	bool isolated[2]; /* by enum direction: some NetworkPolicy selects the subjects */
	struct rule_list rules[2][TIER_COUNT];
	uint32_t id;
};

/* Whether policy is asked at all in this direction. */
static inline bool ruleset_decides(const struct ruleset *ruleset, size_t direction)
{
	return ruleset->isolated[direction] || ruleset->rules[direction][TIER_ADMIN].count > 0 ||
	       ruleset->rules[direction][TIER_BASELINE].count > 0;
}

struct compiler {
	const struct world *world;
	struct arena *arena;
	struct population population;
	struct intern peer_keys;
	struct peer *peers;
	size_t peer_capacity;
	struct intern port_sets; /* the key is the array of struct port_rule */
	struct intern rule_keys;
	struct rule *rules;
	size_t rule_capacity;
	struct intern ruleset_keys;
	struct ruleset *rulesets;
	size_t ruleset_capacity;
	uint32_t *group_rulesets; /* by group; NONE: not selected by any policy */
	struct port_list scratch;
	struct buffer key;
	struct compiled *compiled;
	size_t entry_capacity;
};

/* ---- rule.c ---- */

/* The number of a rule of a policy in the given namespace ("": of the cluster). */
int compile_rule(struct compiler *compiler, const struct policy_rule *written,
		 const char *namespace, uint32_t *ret_rule);
/* An ingress rule as it is for the pods of one group: port names become numbers. */
int rule_for_group(struct compiler *compiler, uint32_t number, const struct group *group,
		   uint32_t *ret_rule);

int hash_compare(const void *a, const void *b); /* of uint64_t, for qsort() */

/* compiler->scratch collects ports: append sets or resolved names, then intern, which empties it.
 */
int ports_append(struct compiler *compiler, size_t ports);
int ports_resolve(struct compiler *compiler, const struct policy_port *const *names, size_t count,
		  const struct group *group);
int ports_intern(struct compiler *compiler, size_t *ret_ports);
const struct port_rule *ports_get(const struct compiler *compiler, size_t ports, size_t *ret_count);

/* ---- entry.c ---- */

int compile_entries(struct compiler *compiler);

/* ---- table.c: subjects, addresses, CIDRs and identities ---- */

int compile_tables(struct compiler *compiler);

#endif
