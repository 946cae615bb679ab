/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A plan -> service_map, range_map and ipcache_map; and what the plan does not want goes.  Backends
 * and ranges are written before the entries that need them, addresses last.
 */
#include <errno.h>
#include <stdlib.h>

#include "agent/sync/service_run.h"
#include "lib/alloc.h"
#include "lib/arena.h"

/* ---- counting service_map entries ------------------------------------------------------------ */

void owner_count(struct sync *sync, uint64_t owner, int change)
{
	uint32_t *count = table_put(&sync->owners, &owner);

	*count += (uint32_t)change;
	if (!*count)
		table_del(&sync->owners, &owner);
}

struct pool_counts counts_max(const struct pool_counts *a, const struct service *b)
{
	return (struct pool_counts){
		.cluster = a->cluster > b->backends ? a->cluster : b->backends,
		.keeping = a->keeping > b->keeping ? a->keeping : b->keeping,
		.local = a->local > b->local_backends ? a->local : b->local_backends,
		.table = a->table > b->table_size ? a->table : b->table_size,
	};
}

void entry_count(struct sync *sync, const struct addr *addr, const struct service *service)
{
	struct pool_state *state = table_put(&sync->pools, &service->id);
	uint32_t *count;

	state->frontends++;
	if (state->owner)
		owner_count(sync, state->owner, 1);
	if (!kind_has_address(service->kind))
		return;
	count = table_put(&sync->vips, addr);
	++*count;
}

/* An entry that is gone, or leads to another pool now. */
static void entry_uncount(struct sync *sync, const struct addr *addr, uint32_t id, uint8_t kind)
{
	static const struct pool_counts none;
	struct pool_state *state = table_find(&sync->pools, &id);
	uint32_t *count = kind_has_address(kind) ? table_find(&sync->vips, addr) : NULL;
	struct pool_counts counts;

	if (count && !--*count)
		table_del(&sync->vips, addr);
	if (!state)
		return;
	if (state->owner)
		owner_count(sync, state->owner, -1);
	if (--state->frontends)
		return;
	counts = state->counts;
	table_del(&sync->pools, &id);
	sync_pool_retire(sync, id, &counts, &none);
}

/* ---- writing --------------------------------------------------------------------------------- */

static int flush(struct map_cache *map_cache)
{
	int ret = map_cache_flush(map_cache);

	return ret == -ENOSPC ? 0 : ret; /* the service's shortage is noted */
}

/* Writes the counts of the backends that are in the map now. */
static int services_write(struct service_run *run)
{
	struct sync *sync = run->sync;
	size_t next = 0;
	int ret = flush(&sync->ranges);

	if (!ret)
		ret = flush(&sync->backends);
	for (size_t i = 0; i < run->pool_count && !ret; i++) {
		const struct pool_plan *pool = &run->pools[i];
		struct pool_counts present = sync_pool_present(sync, pool->id, &pool->wanted);

		for (size_t k = 0; k < pool->frontend_count; k++) {
			const struct frontend_plan *frontend = &run->frontends[next++];
			const struct service service = {
				.id = pool->id,
				.backends = present.cluster,
				.local_backends = present.local,
				.affinity_s = frontend->affinity_s,
				.kind = frontend->kind,
				.flags = frontend->flags,
				.keeping = (uint16_t)present.keeping,
				.table_size = frontend->kind == CLUSTER_IP ? 0 : present.table,
			};

			map_cache_set(&sync->services, &frontend->key, &service);
		}
	}
	return ret ? ret : flush(&sync->services);
}

/* Counts what became of one frontend, and queues its address. */
static void frontend_confirm(struct service_run *run, const struct frontend_plan *plan,
			     struct pool_counts *counts, uint32_t *missing)
{
	const struct ipcache_entry entry = { .identity = IDENTITY_WORLD, .flags = IPCACHE_SERVICE };
	struct sync *sync = run->sync;
	const struct service *now = map_cache_get(&sync->services, &plan->key);
	const struct addr *addr = &plan->key.addr;
	const struct ipcache_entry *held = map_cache_get(&sync->ipcache, addr);

	if (!now) {
		++*missing;
		return;
	}
	run->written++;
	*counts = counts_max(counts, now);
	if (now->id != plan->held_id || now->kind != plan->held_kind) {
		entry_count(sync, addr, now);
		if (plan->held_id)
			entry_uncount(sync, addr, plan->held_id, plan->held_kind);
	}
	/* The node's own address stays its own: programs know the ports. */
	if (kind_has_address(plan->kind) && (!held || held->flags & IPCACHE_SERVICE))
		map_cache_set(&sync->ipcache, addr, &entry);
}

static void pool_confirm(struct service_run *run, const struct pool_plan *pool, size_t first)
{
	static const struct pool_counts none;
	struct sync *sync = run->sync;
	struct pool_counts present = sync_pool_present(sync, pool->id, &pool->wanted);
	struct pool_counts before = none, now = none;
	struct pool_state *state = table_put(&sync->pools, &pool->id);
	struct service_shortage lacks = {
		.backends = pool->wanted.cluster + pool->wanted.keeping + pool->wanted.local +
			    pool->wanted.table - present.cluster - present.keeping - present.local -
			    present.table,
	};

	before = state->frontends ? state->counts : present;
	state->owner = pool->owner;
	state->port = pool->port;
	sync->losses += state->unused != pool->unused;
	state->unused = pool->unused;
	for (size_t i = 0; i < pool->frontend_count; i++)
		frontend_confirm(run, &run->frontends[first + i], &now, &lacks.services);
	state = table_put(&sync->pools, &pool->id);
	state->counts = now;
	if (!state->frontends)
		table_del(&sync->pools, &pool->id);
	if (lacks.backends || lacks.services) {
		struct service_shortage *shortage = shortage_of(sync, pool->owner);

		shortage->backends += lacks.backends;
		shortage->services += lacks.services;
	}
	sync_pool_retire(sync, pool->id, &before, &now);
}

/* The address is written last: a program that finds it in ipcache_map also finds the service. */
static int addresses_write(struct service_run *run)
{
	struct sync *sync = run->sync;
	size_t next = 0;
	int ret;

	if (sync->ranges.refused && run->pool_count)
		shortage_of(sync, run->pools[0].owner)->ranges += sync->ranges.refused;
	for (size_t i = 0; i < run->pool_count; i++) {
		pool_confirm(run, &run->pools[i], next);
		next += run->pools[i].frontend_count;
	}
	ret = flush(&sync->ipcache);
	if (ret || !sync->ipcache.refused)
		return ret;
	next = 0;
	for (size_t i = 0; i < run->pool_count; i++) {
		for (size_t k = 0; k < run->pools[i].frontend_count; k++) {
			const struct frontend_plan *plan = &run->frontends[next++];

			if (kind_has_address(plan->kind) &&
			    map_cache_get(&sync->services, &plan->key) &&
			    !map_cache_get(&sync->ipcache, &plan->key.addr))
				shortage_of(sync, run->pools[i].owner)->addresses++;
		}
	}
	return 0;
}

/* Programs find what is for clients outside from now on; what is not any more costs a look-up. */
static void node_widen(struct service_run *run)
{
	struct node_state *node = maps_node(run->sync->datapath);
	const bool outside = node->flags & NODE_OUTSIDE;

	if (run->port_max) {
		if (!node->node_port_max || run->port_min < node->node_port_min)
			node->node_port_min = run->port_min;
		if (run->port_max > node->node_port_max)
			node->node_port_max = run->port_max;
	}
	if (!run->outside || outside)
		return;
	node->flags |= NODE_OUTSIDE;
	if (run->sync->outside_changed)
		run->sync->outside_changed(run->sync->outside_arg);
}

/* ---- what goes ------------------------------------------------------------------------------- */

/* Entries of service_map that go, and the addresses that then lead nowhere. */
struct forgotten {
	struct service_key *keys;
	struct service *held;
	struct addr *addresses;
	size_t count;
	size_t key_room;
	size_t held_room;
};

static void forgotten_add(struct forgotten *forgotten, const struct service_key *key,
			  const struct service *held)
{
	array_room(&forgotten->keys, forgotten->count, &forgotten->key_room, sizeof(*key));
	array_room(&forgotten->held, forgotten->count, &forgotten->held_room, sizeof(*held));
	forgotten->keys[forgotten->count] = *key;
	forgotten->held[forgotten->count++] = *held;
}

/* All at once: a call of the kernel for each would take longer than the rest. */
static int forgotten_delete(struct sync *sync, struct forgotten *forgotten)
{
	int ret = map_cache_del(&sync->services, forgotten->keys, forgotten->count);
	size_t addresses = 0;

	forgotten->addresses = xcalloc(forgotten->count, sizeof(*forgotten->addresses));
	for (size_t i = 0; i < forgotten->count; i++) {
		const struct service *held = &forgotten->held[i];
		const struct addr *addr = &forgotten->keys[i].addr;
		const struct ipcache_entry *entry = map_cache_get(&sync->ipcache, addr);

		if (ret && map_cache_get(&sync->services, &forgotten->keys[i]))
			continue; /* it is still there */
		entry_uncount(sync, addr, held->id, held->kind);
		if (entry && entry->flags & IPCACHE_SERVICE && !table_find(&sync->vips, addr))
			forgotten->addresses[addresses++] = *addr;
	}
	return ret ? ret : map_cache_del(&sync->ipcache, forgotten->addresses, addresses);
}

/* Deletes the frontends of the run's services that it did not want. */
static int services_forget(struct service_run *run)
{
	struct sync *sync = run->sync;
	const uint32_t *count = table_find(&sync->owners, &run->owner);
	struct forgotten forgotten = { 0 };
	const struct service *value;
	const void *key;
	size_t pos = 0;
	int ret = 0;

	if (!sync->deletes_allowed || (run->owner && (!count || *count == run->written)))
		return 0;
	while ((value = table_next(&sync->services.entries, &pos, &key))) {
		const struct pool_state *state = table_find(&sync->pools, &value->id);

		if (map_cache_is_wanted(&sync->services, key))
			continue;
		if (!run->owner || (state && state->owner == run->owner))
			forgotten_add(&forgotten, key, value);
	}
	if (forgotten.count)
		ret = forgotten_delete(sync, &forgotten);
	free(forgotten.keys);
	free(forgotten.held);
	free(forgotten.addresses);
	return ret;
}

static bool range_is_stale(const void *key, const void *value, void *arg)
{
	const struct source_range_key *range = key;
	const struct service_run *run = arg;
	const struct pool_state *state = table_find(&run->sync->pools, &range->service_id);

	(void)value;
	return !state || !run->owner || state->owner == run->owner;
}

static bool is_lone_address(const void *key, const void *value, void *arg)
{
	const struct ipcache_entry *entry = value;
	const struct sync *sync = arg;

	return entry->flags & IPCACHE_SERVICE && !table_find(&sync->vips, key);
}

int leftovers_forget(struct sync *sync)
{
	if (!sync->deletes_allowed)
		return 0;
	sync_backends_leftovers(sync);
	return map_cache_sweep(&sync->ipcache, is_lone_address, sync);
}

int run_write(struct service_run *run)
{
	struct sync *sync = run->sync;
	int ret;

	node_widen(run);
	ret = services_write(run);
	if (!ret)
		ret = addresses_write(run);
	if (!ret)
		ret = services_forget(run);
	if (!ret && sync->deletes_allowed && sync->ranges.entries.count)
		ret = map_cache_sweep(&sync->ranges, range_is_stale, run);
	return ret;
}
