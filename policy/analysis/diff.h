/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What changes between two versions of a store: which connections it newly allows, and which it
 * newly denies.  Exact over all ports, and over all addresses outside as far as policies tell them
 * apart; by peer groups of pods (reach.h), not by pod.
 *
 * Only pods that both versions have are compared: give each version the other's pods first where
 * policies alone are in question.
 */
#ifndef TENDRIL_POLICY_ANALYSIS_DIFF_H
#define TENDRIL_POLICY_ANALYSIS_DIFF_H

#include "policy/analysis/reach.h"

/* Connections from any of these peer groups to any of those change alike; a pod that stands on both
 * sides is not meant to connect to itself. */
struct diff_change {
	const size_t *from; /* peer groups of diff->reach, sorted */
	size_t from_count;
	const size_t *to;
	size_t to_count;
	uint32_t allowed; /* ports that are open in the new version only, a set of its pool */
	uint32_t denied;  /* ports that are open in the old version only */
	bool families[FAMILY_COUNT]; /* where this is so; both, if there is but one */
};

struct policy_diff {
	struct reach *reach;               /* store 0: old, 1: new */
	const struct diff_change *changes; /* in order of their first sender; none: no difference */
	size_t change_count;
	uint64_t allowed_pairs; /* pairs of pods, or of a pod and a CIDR, that gain a port, ... */
	uint64_t denied_pairs;  /* ... and that lose one */
	struct arena *arena;
};

int policy_diff(const struct store *old_store, const struct store *new_store,
		struct policy_diff **ret, struct errmsg *err);
void policy_diff_free(struct policy_diff *diff); /* takes NULL */

#endif
