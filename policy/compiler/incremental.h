/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The incremental compiler keeps compiled tables up to date while the store changes, and compiles
 * only what a change affects.  After every update the tables are those of policy_compile(), byte
 * for byte.
 *
 * The cost of a changed pod, namespace or policy is in proportion to the pods that it affects. Rare
 * changes compile everything: addresses of nodes, and a policy that is the first to read a label or
 * a CIDR by which many pods differ.
 */
#ifndef TENDRIL_POLICY_COMPILER_INCREMENTAL_H
#define TENDRIL_POLICY_COMPILER_INCREMENTAL_H

#include "policy/compiler/compile.h"

struct incremental;

/* The differences to the previous tables.  All pointers are valid until the next update. */
struct compiled_changes {
	bool all; /* anything may differ; the fields below are empty */

	const struct compiled_entry *entries; /* new, or with other rules; sorted */
	size_t entry_count;
	const struct policy_key *entries_gone;
	size_t entries_gone_count;
	const struct compiled_address *addresses; /* new, or with another owner */
	size_t address_count;
	const struct addr *addresses_gone;
	size_t addresses_gone_count;
	/* Pods and endpoints that changed in the store, and those that have another policy now. */
	const struct compiled_subject *subjects;
	size_t subject_count;
	bool cidrs; /* compiled->cidrs as a whole */
};

/* Watches the store, which must outlive it.  The first update compiles everything. */
struct incremental *incremental_new(struct store *store);
void incremental_free(struct incremental *incremental); /* takes NULL */

/* Brings the tables up to date. */
struct compiled_changes incremental_update(struct incremental *incremental);

/* The tables of the last update, borrowed until the next; NULL before the first. */
const struct compiled *incremental_compiled(const struct incremental *incremental);

#endif
