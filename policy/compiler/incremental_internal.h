/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of the incremental compiler share: incremental.c (life, what the store tells),
 * incremental_pod.c (who is there), incremental_rule.c (which rules hold for whom),
 * incremental_table.c (the tables and what changed in them).
 *
 * An update goes in this order: those who left or changed give back what they held; the referenced
 * labels changes; they come back as they are now; identities that came into use or went out of it
 * change what peers of rules stand for; groups get other rulesets; entries and tables follow.
 */
#ifndef TENDRIL_POLICY_COMPILER_INCREMENTAL_INTERNAL_H
#define TENDRIL_POLICY_COMPILER_INCREMENTAL_INTERNAL_H

#include "policy/compiler/compiler.h"
#include "policy/compiler/incremental.h"

/* How often policies read something. */
struct term_use {
	struct term term; /* its text is in the arena */
	uint32_t count;
	bool in_force; /* in the referenced labels of the last update */
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

struct address_list {
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
	bool anew;         /* the next update compiles everything */
	bool local;        /* store_is_local() at the last update */
	size_t arena_base; /* size of the arena when all was compiled */
	struct compiler compiler;

	struct intern pod_state_keys; /* numbers are those of allocator.pod_states */
	struct intern term_keys;
	struct term_use *terms;
	size_t term_capacity;
	struct id_list rows; /* members by row of compiled->subjects */

	/* What was touched since the last update. */
	struct id_list pod_states;
	struct id_list namespaces;
	struct id_list groups; /* whose ruleset may be another */
	struct id_list changed_terms;

	/* What the update at hand found. */
	struct relabelled *relabelled;
	size_t relabelled_count;
	size_t relabelled_capacity;
	struct id_list born; /* identities */
	struct id_list died;
	struct id_list changed_peers; /* those whose identities changed, */
	struct id_list peer_firsts;   /* where its identities begin in the next list, */
	struct id_list peer_changes;  /* and the identities */
	struct id_list rulesets;      /* that some group took or left */
	struct id_list switched;      /* groups that have another ruleset now */
	struct addr_list addresses;   /* that may be somebody else's */
	struct id_list moved;         /* members whose row may be new, other or gone */
	struct entry_list made;       /* entries made anew */
	struct key_list unmade;       /* entries that may be gone */

	/* What is handed out. */
	struct entry_list entries_set;
	struct key_list entries_gone;
	struct address_list addresses_set;
	struct addr_list addresses_gone;
	struct subject_list subjects_set;
	bool cidrs;

	/* Sizes of the growing tables of compiler.compiled. */
	size_t identity_capacity;
	size_t address_capacity;
	size_t entry_capacity;
};

/* An update that cannot be done in steps: everything is compiled anew. */
#define INCREMENTAL_FULL 1

/* ---- incremental_pod.c ---- */

size_t pod_states_limit(const struct incremental *incremental);
/* The number of a pod or an endpoint, known or new; NONE: out of memory. */
uint32_t pod_state_of_name(struct incremental *incremental, const char *namespace,
			   const char *name);
uint32_t pod_state_of_slot(struct incremental *incremental, uint16_t slot);

/* In the order of compiled->subjects. */
int pod_state_order(const struct incremental *incremental, uint32_t left, uint32_t right);
/* Numbers those whom the compiler found. */
int pod_states_number(struct incremental *incremental);
/* Brings all who were touched, and the referenced labels, to what the store says.  May be
 * INCREMENTAL_FULL. */
int pod_states_update(struct incremental *incremental);

/* ---- incremental_rule.c ---- */

/* Counts what a policy reads, or stops counting it. */
int terms_count(struct incremental *incremental, const struct object *policy, bool comes);
int peers_update(struct incremental *incremental);    /* may be INCREMENTAL_FULL */
int rulesets_update(struct incremental *incremental); /* likewise */

/* ---- incremental_table.c ---- */

int tables_begin(struct incremental *incremental); /* after everything was compiled */
int tables_update(struct incremental *incremental);

#endif
