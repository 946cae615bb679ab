/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/sync/map_cache.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/auto.h"

#define QUEUE_MIN 64

/* The generation is stored behind the value, at the next multiple of four. */
static size_t mark_at(const struct map_cache *map_cache)
{
	return (map_cache->value_size + 3) & ~(size_t)3;
}

static void mark_set(const struct map_cache *map_cache, void *value)
{
	memcpy((char *)value + mark_at(map_cache), &map_cache->generation,
	       sizeof(map_cache->generation));
}

static bool mark_is_current(const struct map_cache *map_cache, const void *value)
{
	return memcmp((const char *)value + mark_at(map_cache), &map_cache->generation,
		      sizeof(map_cache->generation)) == 0;
}

static void entry_put(struct map_cache *map_cache, const void *key, const void *value)
{
	memcpy(table_put(&map_cache->entries, key), value, map_cache->value_size);
}

static int entry_read(const void *key, const void *value, void *arg)
{
	entry_put(arg, key, value);
	return 0;
}

int map_cache_init(struct map_cache *map_cache, struct datapath *datapath, enum map_id map,
		   size_t key_size, size_t value_size)
{
	*map_cache = (struct map_cache){
		.datapath = datapath,
		.map = map,
		.key_size = key_size,
		.value_size = value_size,
		.written_size = value_size,
	};
	table_init(&map_cache->entries, key_size,
		   mark_at(map_cache) + sizeof(map_cache->generation));
	return maps_foreach(datapath, map, entry_read, map_cache);
}

void map_cache_done(struct map_cache *map_cache)
{
	table_done(&map_cache->entries);
	free(map_cache->keys);
	free(map_cache->values);
	map_cache->keys = NULL;
	map_cache->values = NULL;
}

void map_cache_begin(struct map_cache *map_cache)
{
	map_cache->generation++;
	map_cache->refused = 0;
	map_cache->queued = 0;
}

const void *map_cache_get(const struct map_cache *map_cache, const void *key)
{
	return table_find(&map_cache->entries, key);
}

bool map_cache_keep(struct map_cache *map_cache, const void *key)
{
	void *held = table_find(&map_cache->entries, key);

	if (held)
		mark_set(map_cache, held);
	return held;
}

bool map_cache_is_wanted(const struct map_cache *map_cache, const void *key)
{
	const void *held = table_find(&map_cache->entries, key);

	return held && mark_is_current(map_cache, held);
}

void map_cache_unwant(struct map_cache *map_cache, const void *key)
{
	uint32_t before = map_cache->generation - 1;
	void *held = table_find(&map_cache->entries, key);

	if (held)
		memcpy((char *)held + mark_at(map_cache), &before, sizeof(before));
}

void map_cache_set(struct map_cache *map_cache, const void *key, const void *value)
{
	void *held = table_find(&map_cache->entries, key);
	unsigned char *written;

	if (held) {
		mark_set(map_cache, held);
		if (memcmp(held, value, map_cache->value_size) == 0)
			return;
	}
	if (map_cache->queued == map_cache->room) {
		size_t room = map_cache->room ? map_cache->room * 2 : QUEUE_MIN;

		map_cache->keys = xreallocarray(map_cache->keys, room, map_cache->key_size);
		map_cache->values = xreallocarray(map_cache->values, room, map_cache->written_size);
		map_cache->room = room;
	}
	memcpy(map_cache->keys + map_cache->queued * map_cache->key_size, key, map_cache->key_size);
	written = map_cache->values + map_cache->queued * map_cache->written_size;
	memcpy(written, value, map_cache->value_size);
	memset(written + map_cache->value_size, 0, map_cache->written_size - map_cache->value_size);
	map_cache->queued++;
}

static bool is_full(int ret)
{
	return ret == -ENOSPC || ret == -E2BIG;
}

/* Writes queued entries, from the first on.  What was written, also before a failure, goes into the
 * cache: an entry that the cache does not know would never be deleted. */
static int queue_write(struct map_cache *map_cache, size_t first, size_t *ret_done)
{
	const unsigned char *keys = map_cache->keys + first * map_cache->key_size;
	const unsigned char *values = map_cache->values + first * map_cache->written_size;
	int ret = maps_set_batch(map_cache->datapath, map_cache->map, keys, values,
				 map_cache->queued - first, ret_done);

	if (*ret_done > map_cache->entries.count) /* a first load */
		table_reserve(&map_cache->entries, *ret_done);
	for (size_t i = 0; i < *ret_done; i++) {
		const void *key = keys + i * map_cache->key_size;

		entry_put(map_cache, key, values + i * map_cache->written_size);
		map_cache_keep(map_cache, key);
	}
	map_cache->writes += *ret_done;
	return ret;
}

/* A large queue is freed: the first load should not cost memory for ever. */
static void queue_reset(struct map_cache *map_cache)
{
	map_cache->queued = 0;
	if (map_cache->room <= QUEUE_MIN)
		return;
	free(take_ptr(map_cache->keys));
	free(take_ptr(map_cache->values));
	map_cache->room = 0;
}

int map_cache_flush(struct map_cache *map_cache)
{
	size_t at = 0, done;
	int ret = 0;

	if (map_cache->queued == 0)
		return 0;
	while (at < map_cache->queued && !ret) {
		ret = queue_write(map_cache, at, &done);
		at += done;
		if (is_full(ret)) { /* others may be in the map already: they change in place */
			map_cache->refused++;
			at++;
			ret = 0;
		}
	}
	queue_reset(map_cache);
	if (ret)
		return ret;
	return map_cache->refused ? -ENOSPC : 0;
}

int map_cache_del(struct map_cache *map_cache, const void *keys, size_t count)
{
	size_t done;
	int ret;

	if (count == 0)
		return 0;
	ret = maps_del_batch(map_cache->datapath, map_cache->map, keys, count, &done);
	for (size_t i = 0; i < done; i++)
		table_del(&map_cache->entries, (const char *)keys + i * map_cache->key_size);
	map_cache->deletes += done;
	return ret;
}

int map_cache_sweep(struct map_cache *map_cache,
		    bool (*stale)(const void *key, const void *value, void *arg), void *arg)
{
	auto_free unsigned char *keys = NULL;
	size_t count = 0, room = 0, pos = 0;
	const void *key;
	void *value;

	while ((value = table_next(&map_cache->entries, &pos, &key))) {
		if (mark_is_current(map_cache, value) || (stale && !stale(key, value, arg)))
			continue;
		if (count == room) {
			room = room ? room * 2 : QUEUE_MIN;
			keys = xreallocarray(keys, room, map_cache->key_size);
		}
		memcpy(keys + count++ * map_cache->key_size, key, map_cache->key_size);
	}
	return map_cache_del(map_cache, keys, count);
}
