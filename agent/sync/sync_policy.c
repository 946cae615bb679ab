/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compiled policy -> ipcache_map, cidr_map, policy_map, port_map and endpoint_map, by difference.
 * The order of writes, so that no packet meets a half-written policy: port sets; entries that name
 * them; identities of addresses; entries that are open to everyone where others deny; the
 * endpoints' policy; the revision, which makes live flows ask again; last, deletion of what nothing
 * points to.  What does not fit is denied: after each write the maps are at least as closed as the
 * policies say.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/sync/policy_run.h"
#include "lib/alloc.h"
#include "lib/auto.h"

/* ---- helpers --------------------------------------------------------------------------------- */

/* While the store is half known, entries are added but none is changed: the agent before this one
 * knew more. */
static void want(const struct sync *sync, struct map_cache *map_cache, const void *key,
		 const void *value)
{
	if (sync->deletes_allowed || !map_cache_keep(map_cache, key))
		map_cache_set(map_cache, key, value);
}

/* A full map does not end the run; it is reported at the end. */
static int flush(struct map_cache *map_cache, struct errmsg *err)
{
	int ret = map_cache_flush(map_cache);

	return ret && ret != -ENOSPC ? fail(err, ret, "write %s", map_name(map_cache->map)) : 0;
}

static int sweep(struct map_cache *map_cache,
		 bool (*stale)(const void *key, const void *value, void *arg), struct errmsg *err)
{
	int ret = map_cache_sweep(map_cache, stale, NULL);

	return ret ? fail(err, ret, "delete from %s", map_name(map_cache->map)) : 0;
}

static uint64_t changes(const struct sync *sync)
{
	const struct map_cache *map_caches[] = { &sync->ipcache, &sync->cidrs, &sync->policies,
						 &sync->ports };
	uint64_t sum = 0;

	for (size_t i = 0; i < ARRAY_SIZE(map_caches); i++)
		sum += map_caches[i]->writes + map_caches[i]->deletes;
	return sum;
}

/* ---- policy entries -------------------------------------------------------------------------- */

static int ports_write(struct policy_run *run, struct errmsg *err)
{
	struct sync *sync = run->sync;

	for (size_t i = 0; i < run->entry_count; i++) {
		const struct compiled_entry *entry = &run->entries[i];

		if (entry->rule_count > POLICY_INLINE_RULES)
			run->port_set_ids[i] =
				port_sets_want(&sync->port_sets, entry->rules, entry->rule_count);
	}
	return flush(&sync->ports, err);
}

/* An entry whose port set did not fit allows nothing. */
static struct policy_entry entry_make(const struct policy_run *run, size_t i)
{
	const struct compiled_entry *compiled = &run->entries[i];
	struct policy_entry entry = { 0 };

	if (run->port_set_ids[i]) {
		if (port_set_is_whole(&run->sync->port_sets, run->port_set_ids[i]))
			entry.port_set = run->port_set_ids[i];
		return entry;
	}
	entry.rule_count = (uint8_t)compiled->rule_count;
	memcpy(entry.rules, compiled->rules, compiled->rule_count * sizeof(*compiled->rules));
	return entry;
}

static bool entry_names_ports(const struct sync *sync, const struct policy_key *key)
{
	const struct policy_entry *held = map_cache_get(&sync->policies, key);

	return held && held->port_set;
}

static int entries_write(struct policy_run *run, struct errmsg *err)
{
	struct sync *sync = run->sync;

	for (size_t i = 0; i < run->entry_count; i++) {
		const struct policy_key *key = &run->entries[i].key;
		struct policy_entry entry = entry_make(run, i);

		if (entry_waits(&run->entries[i]))
			continue;
		run->ports_freed |= entry_names_ports(sync, key);
		want(sync, &sync->policies, key, &entry);
	}
	return flush(&sync->policies, err);
}

/* Whether the peers of an entry for everyone have their entries; those follow it, sorted. */
static bool entry_is_safe(const struct policy_run *run, size_t i)
{
	const struct policy_key *own = &run->entries[i].key;

	for (i++; i < run->entry_count; i++) {
		const struct policy_key *key = &run->entries[i].key;

		if (key->policy_id != own->policy_id)
			break;
		if (key->direction == own->direction && !map_cache_get(&run->sync->policies, key))
			return false;
	}
	return true;
}

/* Where a rule denies, a peer that is not known, or whose entry did not fit, would count as
 * everyone else.  Then only peers with an entry of their own may pass. */
static int entries_open(struct policy_run *run, struct errmsg *err)
{
	struct sync *sync = run->sync;
	bool all_known = !sync->ipcache.refused && !sync->cidrs.refused && !run->cidrs_withheld;

	for (size_t i = 0; i < run->entry_count; i++) {
		const struct compiled_entry *compiled = &run->entries[i];
		struct policy_entry entry = { 0 };

		if (!entry_waits(compiled))
			continue;
		if (all_known && entry_is_safe(run, i))
			entry = entry_make(run, i);
		want(sync, &sync->policies, &compiled->key, &entry);
	}
	return flush(&sync->policies, err);
}

/* ---- who is behind an address ---------------------------------------------------------------- */

static int addresses_write(struct policy_run *run, struct errmsg *err)
{
	struct sync *sync = run->sync;

	for (size_t i = 0; i < run->address_count; i++) {
		const struct compiled_address *address = &run->addresses[i];
		struct ipcache_entry entry = {
			.identity = address->identity,
			.slot = address->slot,
			.flags = address->flags,
		};
		const struct ipcache_entry *held = map_cache_get(&sync->ipcache, &address->addr);

		if (held && held->flags & IPCACHE_SERVICE)
			sync->service_address_taken = true;
		want(sync, &sync->ipcache, &address->addr, &entry);
	}
	return flush(&sync->ipcache, err);
}

static struct cidr_key cidr_key_make(const struct prefix *prefix)
{
	return (struct cidr_key){ .prefixlen = prefix->len, .addr = prefix->addr };
}

static int cidr_compare(const void *a, const void *b)
{
	const struct compiled_cidr *const *left = a, *const *right = b;

	return (int)(*right)->prefix.len - (int)(*left)->prefix.len;
}

/* As the trie matches: bit by bit, whatever the family. */
static bool cidr_subsumes(const struct prefix *wide, const struct addr *addr)
{
	const uint8_t *a = (const uint8_t *)&wide->addr, *b = (const uint8_t *)addr;
	size_t bytes = wide->len / 8, bits = wide->len % 8;

	return memcmp(a, b, bytes) == 0 && (bits == 0 || (a[bytes] ^ b[bytes]) >> (8 - bits) == 0);
}

/*
 * A prefix that does not fit would leave its addresses to the next wider one, and an "except" would
 * have no effect.  So the wider ones are removed too, and the addresses belong to the world:
 * denied.  (Prefixes are written from the longest on, so this is rare.)  Compiled CIDRs are sorted
 * by address and length: those that contain the current one are always on the stack.
 */
static int cidrs_withhold(struct policy_run *run)
{
	const struct compiled *compiled = run->compiled;
	struct map_cache *cidrs = &run->sync->cidrs;
	auto_free struct cidr_key *keys = xcalloc(compiled->cidr_count, sizeof(*keys));
	size_t stack[129] = { 0 }; /* one for each length */
	size_t depth = 0, key_count = 0;

	for (size_t i = 0; i < compiled->cidr_count; i++) {
		const struct prefix *prefix = &compiled->cidrs[i].prefix;
		struct cidr_key key = cidr_key_make(prefix);

		while (depth &&
		       !cidr_subsumes(&compiled->cidrs[stack[depth - 1]].prefix, &prefix->addr))
			depth--;
		if (map_cache_get(cidrs, &key)) {
			stack[depth++] = i;
			continue;
		}
		for (; depth; depth--)
			keys[key_count++] =
				cidr_key_make(&compiled->cidrs[stack[depth - 1]].prefix);
	}
	run->cidrs_withheld = (uint32_t)key_count;
	return map_cache_del(cidrs, keys, key_count);
}

static void node_flag_set(const struct sync *sync, enum node_flag flag, bool on)
{
	struct node_state *node = maps_node(sync->datapath);

	if (on)
		__atomic_or_fetch(&node->flags, flag, __ATOMIC_RELEASE);
	else
		__atomic_and_fetch(&node->flags, ~(uint32_t)flag, __ATOMIC_RELEASE);
}

static int cidrs_write(struct policy_run *run, struct errmsg *err)
{
	const struct compiled *compiled = run->compiled;
	struct map_cache *cidrs = &run->sync->cidrs;
	auto_free const struct compiled_cidr **sorted = NULL;
	int ret;

	/* A prefix takes addresses from a wider one that is in the map: not while the store is half
	 * known. */
	if (compiled->cidr_count == 0 || !run->sync->deletes_allowed)
		return 0;
	if (run->changes && !run->changes->cidrs)
		return 0;
	sorted = xcalloc(compiled->cidr_count, sizeof(*sorted));
	for (size_t i = 0; i < compiled->cidr_count; i++)
		sorted[i] = &compiled->cidrs[i];
	qsort(sorted, compiled->cidr_count, sizeof(*sorted), cidr_compare);
	for (size_t i = 0; i < compiled->cidr_count; i++) {
		struct cidr_key key = cidr_key_make(&sorted[i]->prefix);

		map_cache_set(cidrs, &key, &sorted[i]->identity);
	}
	/* The datapath looks for them before the first entry that is open to everyone else. */
	node_flag_set(run->sync, NODE_HAS_CIDRS, true);
	ret = flush(cidrs, err);
	if (ret || cidrs->refused == 0)
		return ret;
	ret = cidrs_withhold(run);
	return ret ? fail(err, ret, "withhold CIDRs") : 0;
}

static bool is_no_service(const void *key, const void *value, void *arg)
{
	const struct ipcache_entry *entry = value;

	(void)key;
	(void)arg;
	return !(entry->flags & IPCACHE_SERVICE);
}

/* Addresses that have no owner any more, as the changes say. */
static int addresses_delete(struct policy_run *run, struct errmsg *err)
{
	struct map_cache *ipcache = &run->sync->ipcache;
	const struct compiled_changes *changes = run->changes;
	auto_free struct addr *keys = xcalloc(changes->addresses_gone_count + 1, sizeof(*keys));
	size_t count = 0;
	int ret;

	for (size_t i = 0; i < changes->addresses_gone_count; i++) {
		const struct addr *addr = &changes->addresses_gone[i];
		const struct ipcache_entry *held = map_cache_get(ipcache, addr);

		if (held && is_no_service(addr, held, NULL))
			keys[count++] = *addr;
	}
	ret = map_cache_del(ipcache, keys, count);
	return ret ? fail(err, ret, "delete from %s", map_name(ipcache->map)) : 0;
}

/* Removes addresses without an owner, and prefixes that no policy names.  Before the endpoints
 * switch, because the old policies know the identity that an address falls back to. */
static int addresses_forget(struct policy_run *run, struct errmsg *err)
{
	struct sync *sync = run->sync;
	int ret = 0;

	if (!sync->deletes_allowed)
		return 0;
	if (!run->changes || run->changes->cidrs)
		ret = sweep(&sync->cidrs, NULL, err);
	if (ret)
		return ret;
	return run->changes ? addresses_delete(run, err)
			    : sweep(&sync->ipcache, is_no_service, err);
}

/* ---- endpoints ------------------------------------------------------------------------------- */

static int subjects_read(struct policy_run *run, struct errmsg *err)
{
	run->subjects = xcalloc(run->wanted_count + 1, sizeof(*run->subjects));
	for (size_t i = 0; i < run->wanted_count; i++) {
		struct subject *subject = &run->subjects[run->subject_count];
		int ret;

		if (run->wanted[i].slot == 0)
			continue;
		subject->want = &run->wanted[i];
		ret = endpoint_map_get(run->sync->datapath, subject->want->slot, &subject->have);
		if (ret)
			return fail(err, ret, "read endpoint %u", subject->want->slot);
		/* Not wired yet, or not any more: agent/endpoint writes it and syncs again. */
		if (subject->have.flags & ENDPOINT_VALID)
			run->subject_count++;
	}
	return 0;
}

static struct endpoint_entry endpoint_make(const struct sync *sync, const struct subject *subject)
{
	const struct compiled_subject *wanted = subject->want;
	struct endpoint_entry endpoint = subject->have;

	endpoint.flags = ENDPOINT_VALID | (subject->have.flags & ENDPOINT_CHAINED);
	if (wanted->ingress_isolated)
		endpoint.flags |= ENDPOINT_INGRESS_ISOLATED;
	if (wanted->egress_isolated)
		endpoint.flags |= ENDPOINT_EGRESS_ISOLATED;
	/* Nothing may go round what the other plugin laid, nor round a limit. */
	if (wanted->accel && !(endpoint.flags & ENDPOINT_CHAINED) && !wanted->ingress_bandwidth)
		endpoint.flags |= ENDPOINT_ACCEL;
	if (wanted->audit || sync->audit)
		endpoint.flags |= ENDPOINT_AUDIT;
	if (wanted->egress_bandwidth)
		endpoint.flags |= ENDPOINT_EGRESS_LIMITED;
	if (wanted->ingress_bandwidth)
		endpoint.flags |= ENDPOINT_INGRESS_LIMITED;
	endpoint.policy_id = wanted->policy_id;
	endpoint.identity = wanted->identity;
	endpoint.identity_v6 = wanted->identity_v6;
	return endpoint;
}

static int limits_write(struct sync *sync, const struct endpoint_entry *endpoint,
			const struct compiled_subject *wanted)
{
	const uint64_t limits[] = { [DIR_EGRESS] = wanted->egress_bandwidth / 8,
				    [DIR_INGRESS] = wanted->ingress_bandwidth / 8 };

	if (!(endpoint->flags & (ENDPOINT_EGRESS_LIMITED | ENDPOINT_INGRESS_LIMITED)))
		return 0;
	if (wanted->egress_bandwidth && !sync->egress_limited) {
		sync->egress_limited = true;
		if (sync->limit_changed)
			sync->limit_changed(sync->limit_arg);
	}
	return endpoint_map_limit(sync->datapath, wanted->slot, limits);
}

static int endpoints_switch(struct policy_run *run, struct errmsg *err)
{
	struct sync *sync = run->sync;

	for (size_t i = 0; i < run->subject_count; i++) {
		const struct subject *subject = &run->subjects[i];
		struct endpoint_entry endpoint = endpoint_make(sync, subject);
		int ret;

		/* The agent before this one knew the whole store; half of it must not open a pod.
		 */
		if (!sync->deletes_allowed && subject->have.identity)
			continue;
		ret = limits_write(sync, &endpoint, subject->want);
		if (ret)
			return fail(err, ret, "write bandwidth of endpoint %u",
				    subject->want->slot);
		if (memcmp(&endpoint, &subject->have, sizeof(endpoint)) == 0)
			continue;
		ret = endpoint_map_set(sync->datapath, subject->want->slot, &endpoint);
		if (ret)
			return fail(err, ret, "write endpoint %u", subject->want->slot);
		run->endpoints_changed = true;
	}
	return 0;
}

/* ---- the run --------------------------------------------------------------------------------- */

static uint32_t refused_count(const struct policy_run *run)
{
	const struct sync *sync = run->sync;

	return sync->ipcache.refused + sync->cidrs.refused + sync->policies.refused +
	       sync->ports.refused + run->cidrs_withheld;
}

static int run_writes(struct policy_run *run, struct errmsg *err)
{
	int ret;

	ret = subjects_read(run, err);
	if (!ret)
		ret = ports_write(run, err);
	if (!ret)
		ret = entries_write(run, err);
	/* Only a run over everything knows what to close when a map is full. */
	if (!ret && run->changes && refused_count(run))
		return 0;
	if (!ret)
		ret = bridges_write(run, err);
	if (!ret)
		ret = addresses_write(run, err);
	if (!ret)
		ret = cidrs_write(run, err);
	if (!ret)
		ret = entries_open(run, err);
	if (!ret)
		ret = addresses_forget(run, err);
	if (!ret)
		ret = endpoints_switch(run, err);
	return ret;
}

/* Deletes entries that the changes name, and those that were lent. */
static int entries_delete(struct policy_run *run, struct errmsg *err)
{
	const struct compiled_changes *changes = run->changes;
	struct map_cache *policies = &run->sync->policies;
	size_t room = changes->entries_gone_count + run->lent_count;
	auto_free struct policy_key *keys = xcalloc(room + 1, sizeof(*keys));
	size_t count = 0;
	int ret;

	for (size_t i = 0; i < room; i++) {
		const struct policy_key *key =
			i < run->lent_count ? &run->lent[i]
					    : &changes->entries_gone[i - run->lent_count];

		run->ports_freed |= entry_names_ports(run->sync, key);
		if (map_cache_get(policies, key))
			keys[count++] = *key;
	}
	ret = map_cache_del(policies, keys, count);
	return ret ? fail(err, ret, "delete from %s", map_name(policies->map)) : 0;
}

/* Port sets that no entry names any more. */
static int ports_delete(struct policy_run *run, struct errmsg *err)
{
	struct sync *sync = run->sync;
	const struct policy_entry *entry;
	size_t pos = 0;
	int ret;

	if (run->changes && !run->ports_freed)
		return 0;
	if (run->changes) {
		map_cache_begin(&sync->ports);
		port_sets_begin(&sync->port_sets);
		while ((entry = table_next(&sync->policies.entries, &pos, NULL)))
			port_sets_keep(&sync->port_sets, entry->port_set);
	}
	ret = port_sets_sweep(&sync->port_sets);
	return ret ? fail(err, ret, "delete from %s", map_name(sync->ports.map)) : 0;
}

/* Deletes entries that nothing points to, and entries that still allow a peer that lost its
 * permission but kept its identity: live flows must ask again. */
static int run_deletes(struct policy_run *run, struct errmsg *err)
{
	struct sync *sync = run->sync;
	uint64_t before = changes(sync);
	int ret;

	if (!sync->deletes_allowed)
		return 0;
	ret = run->changes ? entries_delete(run, err) : sweep(&sync->policies, NULL, err);
	if (!ret)
		ret = ports_delete(run, err);
	if (changes(sync) != before)
		maps_bump_revision(sync->datapath);
	return ret;
}

static void warning_make(const struct policy_run *run)
{
	struct sync *sync = run->sync;
	const struct map_cache *map_caches[] = { &sync->ipcache, &sync->cidrs, &sync->policies,
						 &sync->ports };
	size_t len = 0;

	sync->policy_warning[0] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(map_caches); i++) {
		if (map_caches[i]->refused == 0 || len >= sizeof(sync->policy_warning))
			continue;
		len += (size_t)snprintf(
			sync->policy_warning + len, sizeof(sync->policy_warning) - len,
			"%s%s is full: %u entries did not fit and are denied", len ? "; " : "",
			map_name(map_caches[i]->map), map_caches[i]->refused);
	}
}

/* A run over all of the tables, or over what changed in them. */
static struct policy_run run_of(struct sync *sync, const struct compiled *compiled,
				const struct compiled_changes *changes)
{
	struct policy_run run = {
		.sync = sync,
		.compiled = compiled,
		.changes = changes,
		.entries = changes ? changes->entries : compiled->entries,
		.entry_count = changes ? changes->entry_count : compiled->entry_count,
		.addresses = changes ? changes->addresses : compiled->addresses,
		.address_count = changes ? changes->address_count : compiled->address_count,
		.wanted = changes ? changes->subjects : compiled->subjects,
		.wanted_count = changes ? changes->subject_count : compiled->subject_count,
	};

	return run;
}

static void run_done(struct policy_run *run)
{
	free(run->subjects);
	free(run->port_set_ids);
	free(run->lent);
}

/* One pass; *ret_refused is how many entries did not fit. */
static int run_once(struct policy_run *run, uint32_t *ret_refused, struct errmsg *err)
{
	struct sync *sync = run->sync;
	uint64_t before = changes(sync);
	int ret;

	run->port_set_ids = xcalloc(run->entry_count + 1, sizeof(*run->port_set_ids));
	node_flag_set(sync, NODE_WRITING, true);
	ret = run_writes(run, err);
	node_flag_set(sync, NODE_HAS_CIDRS, sync->cidrs.entries.count > 0);
	/* Also after a failure: live flows must see what was written. */
	if (run->endpoints_changed || changes(sync) != before)
		maps_bump_revision(sync->datapath);
	*ret_refused = refused_count(run);
	if (!ret && !(run->changes && *ret_refused))
		ret = run_deletes(run, err);
	node_flag_set(sync, NODE_WRITING, false);
	return ret;
}

static int run_all(struct sync *sync, const struct compiled *compiled, uint32_t *ret_refused,
		   struct errmsg *err)
{
	struct policy_run run = run_of(sync, compiled, NULL);
	int ret;

	map_cache_begin(&sync->ipcache);
	map_cache_begin(&sync->cidrs);
	map_cache_begin(&sync->policies);
	map_cache_begin(&sync->ports);
	port_sets_begin(&sync->port_sets);
	ret = run_once(&run, ret_refused, err);
	warning_make(&run);
	run_done(&run);
	return ret;
}

static uint64_t deletes(const struct sync *sync)
{
	return sync->ipcache.deletes + sync->cidrs.deletes + sync->policies.deletes +
	       sync->ports.deletes;
}

void sync_apply_interrupted(struct sync *sync)
{
	if (!(maps_node(sync->datapath)->flags & NODE_WRITING))
		return;
	maps_bump_revision(sync->datapath);
	node_flag_set(sync, NODE_WRITING, false);
}

int sync_apply_audit(struct sync *sync, const struct compiled *compiled, struct errmsg *err)
{
	struct policy_run run = run_of(sync, compiled, NULL);
	int ret = subjects_read(&run, err);

	node_flag_set(sync, NODE_WRITING, true);
	if (!ret)
		ret = endpoints_switch(&run, err);
	if (run.endpoints_changed)
		maps_bump_revision(sync->datapath);
	node_flag_set(sync, NODE_WRITING, false);
	run_done(&run);
	return ret;
}

int sync_apply(struct sync *sync, const struct compiled *compiled, struct errmsg *err)
{
	uint64_t before = deletes(sync);
	uint32_t refused = 0;
	int ret;

	sync->is_current = false;
	ret = run_all(sync, compiled, &refused, err);
	/* New entries are written before old ones are deleted; now there may be room enough. */
	if (!ret && refused && deletes(sync) != before)
		ret = run_all(sync, compiled, &refused, err);
	if (ret)
		return ret;
	if (refused)
		return fail_plain(err, -ENOSPC, "%s", sync->policy_warning);
	sync->is_current = sync->deletes_allowed;
	return 0;
}

int sync_apply_changes(struct sync *sync, const struct compiled *compiled,
		       const struct compiled_changes *changes, struct errmsg *err)
{
	struct policy_run run;
	uint32_t refused = 0;
	int ret;

	/* Where the maps lack something, a change elsewhere may have made room for it. */
	if (changes->all || !sync->is_current)
		return sync_apply(sync, compiled, err);
	sync->is_current = false;
	if (changes->cidrs)
		map_cache_begin(&sync->cidrs);
	run = run_of(sync, compiled, changes);
	ret = run_once(&run, &refused, err);
	run_done(&run);
	if (refused)
		return sync_apply(sync, compiled, err);
	sync->is_current = ret == 0;
	return ret;
}
