/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Endpoints of services -> backend_map.  Backends that stay keep their index, so only changes are
 * written.  A program reads the counts first and a backend after them: so new backends are written
 * before the counts that include them, and those beyond smaller counts are deleted a moment later.
 */
#include <arpa/inet.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "agent/sync/sync_internal.h"
#include "lib/alloc.h"
#include "lib/auto.h"
#include "policy/objects/maglev.h"

#define TRIM_COUNT 10000

/* ---- placing --------------------------------------------------------------------------------- */

static int backend_compare(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct backend));
}

/* The backends of one use, in the pool's order, which is sorted as bsearch() needs it. */
static uint32_t backends_make(const struct service_pool *pool, enum backend_use use,
			      struct backend *backends)
{
	uint32_t count = 0;

	for (size_t i = 0; i < pool->backend_count; i++) {
		const struct service_backend *backend = &pool->backends[i];

		if (backend->use & use)
			backends[count++] = (struct backend){ .addr = backend->addr,
							      .port = htons(backend->port) };
	}
	return count;
}

/*
 * Gives every wanted backend an index from first on.  1. A backend that has one keeps it.  2. The
 * others take, in order, the indices that are left.  placed: room for count flags, all zero.
 */
static void backend_put(struct sync *sync, const struct backend_key *key,
			const struct backend *backend)
{
	const struct backend *held = map_cache_get(&sync->backends, key);

	if (held && memcmp(held, backend, sizeof(*held)) != 0)
		sync_count_settle(sync, key);
	map_cache_set(&sync->backends, key, backend);
}

static void backends_place(struct sync *sync, uint32_t id, uint32_t first,
			   const struct backend *wanted, uint32_t count, bool *placed)
{
	struct backend_key key = { .service_id = id };
	bool *taken = placed + count;
	uint32_t next = 0;

	for (uint32_t i = 0; i < count; i++) {
		const struct backend *at, *match;

		key.index = first + i;
		at = map_cache_get(&sync->backends, &key);
		match = at ? bsearch(at, wanted, count, sizeof(*wanted), backend_compare) : NULL;
		if (match && !placed[match - wanted]) {
			placed[match - wanted] = true;
			taken[i] = true;
		}
	}
	for (uint32_t i = 0; i < count; i++) {
		if (taken[i])
			continue;
		while (placed[next])
			next++;
		key.index = first + i;
		sync->losses += map_cache_get(&sync->backends, &key) != NULL;
		backend_put(sync, &key, &wanted[next++]);
	}
}

/* wanted: those of USE_CLUSTER. */
static void table_place(struct sync *sync, uint32_t id, const struct backend *wanted,
			uint32_t count, uint32_t size)
{
	auto_free uint32_t *table = xcalloc(size, sizeof(*table));
	struct backend_key key = { .service_id = id, .index = BACKEND_TABLE };

	maglev_fill(wanted, count, table, size);
	for (uint32_t i = 0; i < size; i++, key.index++)
		backend_put(sync, &key, &wanted[table[i]]);
}

void sync_pool_place(struct sync *sync, uint32_t id, const struct service_pool *pool)
{
	/* Backends that keep their flows come first: until then they are at their old index. */
	const struct {
		enum backend_use use;
		uint32_t first;
	} ranges[] = {
		{ USE_KEEP, (uint32_t)pool->cluster_count },
		{ USE_CLUSTER, 0 },
		{ USE_LOCAL, BACKEND_LOCAL },
	};
	auto_free struct backend *wanted = xcalloc(pool->backend_count + 1, sizeof(*wanted));

	for (size_t i = 0; i < ARRAY_SIZE(ranges); i++) {
		uint32_t count = backends_make(pool, ranges[i].use, wanted);
		auto_free bool *placed = xcalloc(2 * (size_t)count + 1, sizeof(*placed));

		backends_place(sync, id, ranges[i].first, wanted, count, placed);
		if (ranges[i].use == USE_CLUSTER && count && pool->table_size)
			table_place(sync, id, wanted, count, pool->table_size);
	}
}

/* How many of count backends from first on are in the map, without a gap. */
static uint32_t range_present(const struct sync *sync, uint32_t id, uint32_t first, uint32_t count)
{
	struct backend_key key = { .service_id = id, .index = first };

	while (key.index - first < count && map_cache_get(&sync->backends, &key))
		key.index++;
	return key.index - first;
}

struct pool_counts sync_pool_present(const struct sync *sync, uint32_t id,
				     const struct pool_counts *wanted)
{
	struct pool_counts present;

	if (!sync->backends.refused) /* what was queued is written; the rest was there */
		return *wanted;
	present = (struct pool_counts){
		.cluster = range_present(sync, id, 0, wanted->cluster),
		.local = range_present(sync, id, BACKEND_LOCAL, wanted->local),
	};
	if (present.cluster == wanted->cluster)
		present.keeping = range_present(sync, id, wanted->cluster, wanted->keeping);
	/* A table with gaps is none. */
	if (range_present(sync, id, BACKEND_TABLE, wanted->table) == wanted->table)
		present.table = wanted->table;
	return present;
}

/* ---- retiring -------------------------------------------------------------------------------- */

static void range_retire(struct sync *sync, uint32_t id, uint32_t from, uint32_t to)
{
	for (uint32_t index = from; index < to; index++) {
		const struct backend_key key = { .service_id = id, .index = index };

		sync->losses++;
		table_put(&sync->retired, &key);
	}
}

void sync_pool_retire(struct sync *sync, uint32_t id, const struct pool_counts *before,
		      const struct pool_counts *after)
{
	range_retire(sync, id, after->cluster + after->keeping, before->cluster + before->keeping);
	range_retire(sync, id, BACKEND_TABLE + after->table, BACKEND_TABLE + before->table);
	range_retire(sync, id, BACKEND_LOCAL + after->local, BACKEND_LOCAL + before->local);
}

bool sync_backend_is_promised(const struct sync *sync, const struct backend_key *key)
{
	const struct pool_state *state = table_find(&sync->pools, &key->service_id);

	if (!state)
		return false;
	if (key->index >= BACKEND_LOCAL)
		return key->index - BACKEND_LOCAL < state->counts.local;
	if (key->index >= BACKEND_TABLE)
		return key->index - BACKEND_TABLE < state->counts.table;
	return key->index < state->counts.cluster + state->counts.keeping;
}

int sync_trim(struct sync *sync)
{
	auto_free struct backend_key *keys = xcalloc(sync->retired.count, sizeof(*keys));
	const void *key;
	size_t count = 0, pos = 0;
	int ret;

	while (table_next(&sync->retired, &pos, &key)) {
		/* It may be in use again. */
		if (!sync_backend_is_promised(sync, key) && map_cache_get(&sync->backends, key))
			keys[count++] = *(const struct backend_key *)key;
	}
	sync_counts_settle(sync, keys, count);
	ret = map_cache_del(&sync->backends, keys, count);
	table_done(&sync->retired);
	if (count >= TRIM_COUNT) /* many services went, and their objects before them */
		malloc_trim(0);
	return ret;
}

void sync_backends_leftovers(struct sync *sync)
{
	const void *key;
	size_t pos = 0;

	while (table_next(&sync->backends.entries, &pos, &key)) {
		const struct backend_key *backend = key;

		if (!sync_backend_is_promised(sync, backend))
			range_retire(sync, backend->service_id, backend->index, backend->index + 1);
	}
}
