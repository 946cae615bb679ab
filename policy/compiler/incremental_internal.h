/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of the incremental compiler share: incremental.c (life, changes of the store),
 * incremental_pod.c (pods and endpoints), incremental_rule.c (rules and rulesets),
 * incremental_table.c (the tables and their differences).
 *
 * An update has these steps.  Pods that were removed or changed release their identities.  The set
 * of labels, ports and CIDRs that policies read is updated.  Pods that were added or changed take
 * identities.  Identities that are used now, or no longer, are added to the peers that match them,
 * or removed.  Groups get other rulesets.  Entries and tables are patched.
 */
#ifndef TENDRIL_POLICY_COMPILER_INCREMENTAL_INTERNAL_H
#define TENDRIL_POLICY_COMPILER_INCREMENTAL_INTERNAL_H

#include "policy/compiler/compiler.h"
#include "policy/compiler/incremental.h"

/* How often policies read something. */
struct term_use {
	struct term term; /* its text is in the arena */
	uint32_t count;
	bool in_force; /* at the last update */
};

/* A namespace whose labels changed. */
struct relabelled {
	uint32_t namespace;
	struct labels before;
};

struct addr_list {
	struct addr *items;
	size_t count;
	size_t capacity;
};

struct compiled_address_list {
	struct compiled_address *items;
	size_t count;
	size_t capacity;
};

struct subject_list {
	struct compiled_subject *items;
	size_t count;
	size_t capacity;
};

struct key_list {
	struct policy_key *items;
	size_t count;
	size_t capacity;
};

struct incremental {
	struct store *store;
	struct store_watcher watcher;
	bool full;         /* this or the next update compiles everything */
	bool local;        /* store_is_local() at the last update */
	size_t arena_base; /* size of the arena when all was compiled */
	struct compiler compiler;

	struct intern pod_state_keys; /* numbers are those of allocator.pod_states */
	struct intern term_keys;
	struct term_use *terms;
	size_t term_capacity;
	struct id_list rows; /* pod states by row of compiled->subjects */

	/* What the store changed since the last update. */
	struct id_list pod_states;
	struct id_list namespaces;
	struct id_list groups; /* those whose ruleset may change */
	struct id_list changed_terms;
	struct addr_list pod_addresses; /* of Pod objects: each may go to another pod */

	/* What the current update found. */
	struct relabelled *relabelled;
	size_t relabelled_count;
	size_t relabelled_capacity;
	struct id_list added; /* identities that are used now */
	struct id_list removed;
	struct id_list changed_peers; /* peers that match other identities now, */
	struct id_list peer_firsts;   /* where the identities of each begin in peer_changes, */
	struct id_list peer_changes;  /* and these identities */
	struct id_list rulesets;      /* those that a group has now, or no longer */
	struct id_list switched;      /* groups that have another ruleset now */
	struct addr_list addresses;   /* those that may have another owner */
	struct id_list moved;         /* pod states whose row may be new, changed or gone */
	struct entry_list compiled_entries; /* entries that were compiled again */
	struct key_list stale;              /* keys of entries that may be gone */

	/* The result. */
	struct entry_list entries_set;
	struct key_list entries_gone;
	struct compiled_address_list addresses_set;
	struct addr_list addresses_gone;
	struct subject_list subjects_set;
	bool cidrs;

	/* Sizes of the growing tables of compiler.compiled. */
	size_t identity_capacity;
	size_t address_capacity;
	size_t entry_capacity;
};

/* ---- incremental_pod.c ---- */

/* With more changes than this a full compile is not slower. */
size_t pod_states_limit(const struct incremental *incremental);
/* The number of a pod or an endpoint, known or new. */
uint32_t pod_state_of_name(struct incremental *incremental, const char *namespace,
			   const char *name);
uint32_t pod_state_of_slot(struct incremental *incremental, uint16_t slot);

/* The order of compiled->subjects. */
int pod_state_order(const struct incremental *incremental, uint32_t left, uint32_t right);
/* Gives numbers to the pod states of a full compile. */
void pod_states_number(struct incremental *incremental);
/* Counts what a policy reads; added is false if the policy is removed. */
void terms_count(struct incremental *incremental, const struct object *policy, bool added);

/* ---- the steps of an update; each may set incremental->full ---- */

void pod_states_update(struct incremental *incremental); /* incremental_pod.c */
void peers_update(struct incremental *incremental);      /* incremental_rule.c */
void rulesets_update(struct incremental *incremental);
void tables_update(struct incremental *incremental); /* incremental_table.c */

void tables_begin(struct incremental *incremental); /* after a full compile */

#endif
