/* SPDX-License-Identifier: Apache-2.0 */
/* One run of sync_policy.c over the maps; sync_bridge.c does a part of it. */
#ifndef TENDRIL_AGENT_SYNC_POLICY_RUN_H
#define TENDRIL_AGENT_SYNC_POLICY_RUN_H

#include "agent/sync/sync_internal.h"

/* One endpoint of this node: its present and its new policy. */
struct subject {
	const struct compiled_subject *want;
	struct endpoint_entry have;
};

struct policy_run {
	struct sync *sync;
	const struct compiled *compiled;
	const struct compiled_changes *changes; /* NULL: everything is compared */

	/* The new contents of the maps: everything, or what changed. */
	const struct compiled_entry *entries;
	size_t entry_count;
	const struct compiled_address *addresses;
	size_t address_count;
	const struct compiled_subject *wanted;
	size_t wanted_count;

	struct subject *subjects; /* those in endpoint_map */
	size_t subject_count;
	uint32_t *port_set_ids; /* for each entry; 0: inline */
	struct policy_key
		*lent; /* entries lent to policies that will be deleted, see bridges_write() */
	size_t lent_count;
	size_t lent_room;
	uint32_t cidrs_withheld;
	bool endpoints_changed;
	bool ports_freed; /* an entry gave up a port set */
};

/* An entry for everyone, which must wait for the entries of the peers that it must not allow. */
static inline bool entry_waits(const struct compiled_entry *entry)
{
	return entry->guarded && entry->key.peer == IDENTITY_ANY;
}

/* sync_bridge.c: lends entries to policies that endpoints are about to leave. */
int bridges_write(struct policy_run *run, struct errmsg *err);

#endif
