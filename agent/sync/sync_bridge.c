/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From one policy to the next.  A policy that is the first to name a CIDR or a label can give every
 * peer another identity, while the endpoints that it selects change their policy.  These are two
 * writes, and between them an endpoint looks for a new identity in its old policy.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/sync/policy_run.h"
#include "lib/arena.h"
#include "lib/auto.h"

/* Whether some endpoint uses the policy from now on. */
static bool policy_is_wanted(const struct compiled *compiled, uint32_t policy_id)
{
	for (size_t i = 0; i < compiled->subject_count; i++) {
		if (compiled->subjects[i].policy_id == policy_id)
			return true;
	}
	return false;
}

/* The policy that all endpoints of old_id change to, or 0 if they change to different ones. */
static uint32_t successor(const struct policy_run *run, uint32_t old_id)
{
	uint32_t found = 0;

	for (size_t i = 0; i < run->subject_count; i++) {
		const struct subject *subject = &run->subjects[i];

		if (subject->have.policy_id != old_id)
			continue;
		if (found && subject->want->policy_id != found)
			return 0;
		found = subject->want->policy_id;
	}
	return found == old_id ? 0 : found;
}

/* Whether a policy in the map allows peers without an entry of their own. */
static bool policy_is_open(const struct policy_run *run, uint32_t policy_id, uint8_t direction)
{
	const struct policy_key key = { .policy_id = policy_id,
					.peer = IDENTITY_ANY,
					.direction = direction };

	return map_cache_get(&run->sync->policies, &key);
}

/* Queues an entry that is lent to an old policy. */
static void lend_entry(struct policy_run *run, const struct policy_key *key,
		       const struct policy_entry *entry)
{
	map_cache_set(&run->sync->policies, key, entry);
	array_room(&run->lent, run->lent_count, &run->lent_room, sizeof(*run->lent));
	run->lent[run->lent_count++] = *key;
}

static void bridge_queue(struct policy_run *run, uint32_t old_id, uint32_t new_id, bool lend)
{
	const struct compiled *compiled = run->compiled;
	struct map_cache *policies = &run->sync->policies;

	for (size_t i = compiled_entries_first(compiled, new_id);
	     i < compiled->entry_count && compiled->entries[i].key.policy_id == new_id; i++) {
		const struct compiled_entry *wanted = &compiled->entries[i];
		const struct policy_entry *held = map_cache_get(policies, &wanted->key);
		struct policy_key key = wanted->key;
		struct policy_entry entry = { 0 };

		key.policy_id = old_id;
		if (map_cache_get(policies, &key) || entry_waits(wanted))
			continue;
		if (lend && held)
			entry = *held;
		else if (!wanted->guarded || !policy_is_open(run, old_id, key.direction))
			continue;
		lend_entry(run, &key, &entry);
	}
}

/* ---- new peers ------------------------------------------------------------------------------- */

/* Identities that some address in the maps has. */
static void identities_in_force(const struct sync *sync, struct table *known)
{
	const struct ipcache_entry *address;
	const uint32_t *cidr;
	size_t pos = 0;

	while ((address = table_next(&sync->ipcache.entries, &pos, NULL)))
		table_put(known, &address->identity);
	pos = 0;
	while ((cidr = table_next(&sync->cidrs.entries, &pos, NULL)))
		table_put(known, cidr);
}

/* The new policy's entry for everyone; empty where it has none, or not yet. */
static struct policy_entry entry_for_everyone(const struct policy_run *run, uint32_t policy_id,
					      uint8_t direction)
{
	const struct policy_key key = { .policy_id = policy_id,
					.peer = IDENTITY_ANY,
					.direction = direction };
	const struct policy_entry *held = map_cache_get(&run->sync->policies, &key);

	return held ? *held : (struct policy_entry){ 0 };
}

static bool everyone_waits(const struct policy_run *run, uint32_t policy_id, uint8_t direction)
{
	const struct compiled *compiled = run->compiled;

	for (size_t i = compiled_entries_first(compiled, policy_id);
	     i < compiled->entry_count && compiled->entries[i].key.policy_id == policy_id &&
	     compiled->entries[i].key.peer == IDENTITY_ANY;
	     i++) {
		if (compiled->entries[i].key.direction == direction)
			return entry_waits(&compiled->entries[i]);
	}
	return false;
}

/* New identities that the new policy treats like everyone have no entry that could be lent.  An old
 * policy that is open to everyone would allow them, also those that both policies deny. */
static void new_peers_queue(struct policy_run *run, uint32_t old_id, uint32_t new_id,
			    uint8_t direction)
{
	const struct compiled *compiled = run->compiled;
	struct map_cache *policies = &run->sync->policies;
	struct policy_entry entry = entry_for_everyone(run, new_id, direction);
	struct table known;

	table_init(&known, sizeof(uint32_t), 1);
	identities_in_force(run->sync, &known);
	for (size_t i = 0; i < compiled->identity_count; i++) {
		struct policy_key key = { .policy_id = old_id,
					  .peer = compiled->identities[i].id,
					  .direction = direction };

		if (key.peer < IDENTITY_FIRST || table_find(&known, &key.peer) ||
		    map_cache_get(policies, &key))
			continue;
		lend_entry(run, &key, &entry);
	}
	table_done(&known);
}

static void new_peers_bridge(struct policy_run *run, const struct subject *subject)
{
	const bool asked[2] = { [DIR_EGRESS] = subject->want->egress_isolated,
				[DIR_INGRESS] = subject->want->ingress_isolated };
	uint32_t old_id = subject->have.policy_id;
	uint32_t new_id = subject->want->policy_id;

	for (uint8_t direction = 0; direction < 2; direction++) {
		if (asked[direction] && policy_is_open(run, old_id, direction) &&
		    !everyone_waits(run, new_id, direction))
			new_peers_queue(run, old_id, new_id, direction);
	}
}

/* ---- all of it ------------------------------------------------------------------------------- */

/*
 * Entries of the new policy are copied into the old one until that is removed; else flows that both
 * allow would be cut for a moment.  Not where another endpoint keeps the old policy, or where its
 * endpoints change to different ones: there a gap is better than a rule for the wrong pod.  And
 * where the old policy is open to everyone and the new one may deny, a closed entry makes the gap.
 */
int bridges_write(struct policy_run *run, struct errmsg *err)
{
	struct map_cache *policies = &run->sync->policies;
	uint32_t refused = policies->refused;

	for (size_t i = 0; i < run->subject_count; i++) {
		uint32_t old_id = run->subjects[i].have.policy_id;
		uint32_t new_id = run->subjects[i].want->policy_id;
		size_t first = run->lent_count;
		bool lend;
		int ret;

		if (!old_id || !new_id || old_id == new_id ||
		    policy_is_wanted(run->compiled, old_id))
			continue;
		lend = successor(run, old_id) == new_id;
		bridge_queue(run, old_id, new_id, lend);
		ret = map_cache_flush(
			policies); /* the cache knows what is written, not the queue */
		if (!ret && lend) {
			new_peers_bridge(run, &run->subjects[i]);
			ret = map_cache_flush(policies);
		}
		/* A bridge that does not fit is only a gap; it must not count as refused. */
		policies->refused = refused;
		if (ret && ret != -ENOSPC)
			return fail(err, ret, "write %s", map_name(policies->map));
		for (size_t k = first; k < run->lent_count; k++)
			map_cache_unwant(policies, &run->lent[k]);
	}
	return 0;
}
