/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which connections the new version of a store allows and the old one denied, and the other way
 * round.  Exact for all ports and for all addresses outside.  The answer is for peer groups of pods
 * (reach.h), not for single pods.
 *
 * Only pods that are in both versions are compared.  To compare only policies, first give each
 * version the pods of the other one.
 */
#ifndef TENDRIL_POLICY_ANALYSIS_DIFF_H
#define TENDRIL_POLICY_ANALYSIS_DIFF_H

#include "policy/analysis/reach.h"

/* Connections from any peer group in from to any in to change in the same way; connections of a pod
 * to itself are not included. */
struct diff_change {
	const size_t *from; /* peer groups of diff->reach, sorted */
	size_t from_count;
	const size_t *to;
	size_t to_count;
	uint32_t allowed; /* ports that are open in the new version only, a set of its pool */
	uint32_t denied;  /* ports that are open in the old version only */
	bool families[FAMILY_COUNT]; /* the families with this change; both, if pods have only one
				      */
};

struct policy_diff {
	struct reach *reach;               /* store 0: old, 1: new */
	const struct diff_change *changes; /* in order of their first sender; none: no difference */
	size_t change_count;
	uint64_t allowed_pairs; /* pairs of pods, or of a pod and a CIDR, that gain a port, ... */
	uint64_t denied_pairs;  /* ... and that lose one */
	struct arena *arena;
};

struct policy_diff *policy_diff(const struct store *old_store, const struct store *new_store);
void policy_diff_free(struct policy_diff *diff); /* takes NULL */

#endif
