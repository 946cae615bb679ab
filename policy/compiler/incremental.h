/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compiled tables that follow a store as it changes: what a change does not touch is not worked out
 * again.  After every update the tables are those that policy_compile() would give, byte for byte.
 *
 * A changed pod, namespace or policy costs work in proportion to whom it concerns.  Rare changes
 * (addresses of nodes; a policy that reads a label or a CIDR which sets a large part of the pods
 * apart for the first time) compile everything anew.
 */
#ifndef TENDRIL_POLICY_COMPILER_INCREMENTAL_H
#define TENDRIL_POLICY_COMPILER_INCREMENTAL_H

#include "policy/compiler/compile.h"

struct incremental;

/* What differs from the tables before.  All pointers are good until the next update. */
struct compiled_changes {
	bool all; /* anything may differ; the members below say nothing */

	const struct compiled_entry *entries; /* new, or with other rules; sorted */
	size_t entry_count;
	const struct policy_key *entries_gone;
	size_t entries_gone_count;
	const struct compiled_address *addresses; /* new, or somebody else's */
	size_t address_count;
	const struct addr *addresses_gone;
	size_t addresses_gone_count;
	/* Of the pods and endpoints that the store told of, and of those whose policy is another.
	 */
	const struct compiled_subject *subjects;
	size_t subject_count;
	bool cidrs; /* compiled->cidrs as a whole */
};

/* Watches the store (which must outlive it) from now on.  The first update compiles it.  NULL: out
 * of memory. */
struct incremental *incremental_new(struct store *store);
void incremental_free(struct incremental *incremental);

/* Brings the tables up to date.  After a failure (-ENOMEM) the tables are not to be used for
 * writing maps, and the next update compiles anew. */
int incremental_update(struct incremental *incremental, struct compiled_changes *ret_changes,
		       struct errmsg *err);

/* The tables of the last update, borrowed until the next; NULL before the first. */
const struct compiled *incremental_compiled(const struct incremental *incremental);

#endif
