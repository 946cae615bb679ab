/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the compiler's files share: the numbered peers, port sets, rules and rulesets of one run.
 * Each is interned, so that equal ones are computed once.
 */
#ifndef TENDRIL_POLICY_COMPILER_COMPILER_H
#define TENDRIL_POLICY_COMPILER_COMPILER_H

#include "policy/compiler/compile.h"
#include "policy/compiler/identity.h"
#include "policy/objects/ports.h"

/* The identities that a peer of a rule matches. */
struct peer {
	struct id_list identities;         /* sorted, all in use */
	const struct policy_peer *written; /* in the arena */
	const char *namespace;             /* of the policy; "": of the cluster */
	uint64_t hash;                     /* of what was written */
};

/* A rule with its content in numbers; equal rules are one. */
struct rule {
	bool any; /* no peers: everyone */
	enum policy_action action;
	uint32_t ports;                /* number of a port set */
	const struct port_name *names; /* egress: resolved for each destination */
	size_t name_count;
	const uint32_t *peers;
	size_t peer_count;
	uint64_t hash;
};

/* Numbers of the rules of one tier and direction, in the order of evaluation; in TIER_NETWORK
 * sorted and unique. */
struct rule_list {
	const uint32_t *items;
	size_t count;
};

/* The rules of both directions that hold for a group of pods; equal rulesets are one. */
struct ruleset {
	bool isolated[2]; /* by enum direction: some NetworkPolicy selects the subjects */
	struct rule_list rules[2][TIER_COUNT];
	uint64_t hash; /* of what the rules say */
	uint32_t refs; /* groups that have it; 0: unused */
	uint32_t id;   /* number for the maps, while it is used */
};

/* Whether any policy decides in this direction. */
static inline bool ruleset_decides(const struct ruleset *ruleset, size_t direction)
{
	return ruleset->isolated[direction] || ruleset->rules[direction][TIER_ADMIN].count > 0 ||
	       ruleset->rules[direction][TIER_BASELINE].count > 0;
}

struct compiler {
	const struct store *store;
	struct arena *arena;
	struct allocator allocator;
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
	struct id_pool numbers; /* of rulesets in use */
	struct port_list scratch;
	struct buffer key;
	struct compiled *compiled;
};

/* Compiles a store, into a zeroed struct.  The caller owns compiler->compiled, with its arena. */
void compiler_run(struct compiler *compiler, const struct store *store);
void compiler_done(struct compiler *compiler);

/* ---- compile.c ---- */

/* Appends the groups that a policy of either kind selects, in no order. */
void policy_groups(const struct compiler *compiler, const struct object *object,
		   struct id_list *groups);
/* The ruleset of one group by the current policies, or NONE.  Perhaps no group uses it yet. */
uint32_t compile_group(struct compiler *compiler, uint32_t group);

/* ---- rule.c ---- */

/* The number of a rule of a policy in the given namespace ("": of the cluster). */
uint32_t compile_rule(struct compiler *compiler, const struct policy_rule *written,
		      const char *namespace);
/* Whether a peer matches an identity in use. */
bool peer_matches(const struct compiler *compiler, const struct peer *peer, uint32_t identity);
/* An ingress rule for the pods of one group: port names become numbers. */
uint32_t rule_for_group(struct compiler *compiler, uint32_t number, const struct group *group);
/* The ports of a rule on the pods of one group, by number and by name. */
uint32_t rule_ports_for(struct compiler *compiler, const struct rule *rule,
			const struct group *group);

/* Whether it may select pods that are not known, and does not accept them. */
bool rule_may_refuse_unknown(const struct compiler *compiler, const struct rule *rule);

/* The ports that it may have on pods of which nothing is known: a name may be any port. */
uint32_t rule_ports_in_doubt(struct compiler *compiler, const struct rule *rule);

int hash_compare(const void *a, const void *b); /* of uint64_t, for qsort() */

/* compiler->scratch collects ports: append port sets, then intern them, which empties it. */
void ports_append(struct compiler *compiler, uint32_t ports);
uint32_t ports_intern(struct compiler *compiler);
const struct port_rule *ports_get(const struct compiler *compiler, uint32_t ports,
				  size_t *ret_count);

/* ---- entry.c ---- */

/* Entries of policy_map; the rules they point to are in the compiler's arena. */
struct entry_list {
	struct compiled_entry *items;
	size_t count;
	size_t capacity;
};

void entry_list_sort(struct entry_list *list);
int entry_compare(const void *a, const void *b); /* by policy_id, peer, direction */

/* Appends the entries of a ruleset: only those of the identities in only (sorted), or all if only
 * is NULL. */
void compile_ruleset(struct compiler *compiler, const struct ruleset *ruleset,
		     const struct id_list *only, struct entry_list *list);
void compile_entries(struct compiler *compiler);

/* ---- table.c: subjects, addresses, CIDRs and identities ---- */

void compile_tables(struct compiler *compiler);
void compile_cidrs(struct compiler *compiler); /* replaces compiled->cidrs */

struct compiled_subject subject_make(const struct compiler *compiler,
				     const struct pod_state *pod_state);
struct compiled_address address_make(const struct compiler *compiler, const struct ip_owner *owner);
struct compiled_identity identity_make(struct compiler *compiler, uint32_t identity);

#endif
