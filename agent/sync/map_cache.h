/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A copy of one map of the datapath, read once from the pinned map, then updated with every write.
 * A comparison with the cache costs no system call, and only differences are queued; the queue is
 * written in batches, in order.
 */
#ifndef TENDRIL_AGENT_SYNC_MAP_CACHE_H
#define TENDRIL_AGENT_SYNC_MAP_CACHE_H

#include "datapath/maps.h"
#include "lib/table.h"

struct map_cache {
	struct datapath *datapath;
	enum map_id map;
	size_t key_size;
	size_t value_size;
	size_t written_size;  /* the owner may raise it: zeros for the programs to count in */
	struct table entries; /* key -> value, then the generation that last wanted it */
	uint32_t generation;
	unsigned char *keys; /* queued writes: dense arrays */
	unsigned char *values;
	size_t queued;
	size_t room;
	uint32_t refused; /* writes of this generation that did not fit */
	uint64_t writes;  /* entries written and deleted so far */
	uint64_t deletes;
};

/* Reads the map.  Of longer values the cache keeps and compares the first value_size bytes. */
int map_cache_init(struct map_cache *map_cache, struct datapath *datapath, enum map_id map,
		   size_t key_size, size_t value_size);
void map_cache_done(struct map_cache *map_cache);

/* Begins a new generation: nothing is wanted yet. */
void map_cache_begin(struct map_cache *map_cache);
/* The value of a key in the map, or NULL. */
const void *map_cache_get(const struct map_cache *map_cache, const void *key);
/* Keeps an entry as it is; false if it is not there. */
bool map_cache_keep(struct map_cache *map_cache, const void *key);
bool map_cache_is_wanted(const struct map_cache *map_cache, const void *key);
/* Undoes map_cache_set() or map_cache_keep(): the next map_cache_sweep() deletes the entry. */
void map_cache_unwant(struct map_cache *map_cache, const void *key);
/* Wants an entry with this value; queues a write if the map does not have it. */
void map_cache_set(struct map_cache *map_cache, const void *key, const void *value);
/* Writes the queue.  -ENOSPC: some entries did not fit (counted in refused), the others did. */
int map_cache_flush(struct map_cache *map_cache);

/* Deletes keys (dense) at once; 0 also for keys that are not there. */
int map_cache_del(struct map_cache *map_cache, const void *keys, size_t count);
/* Deletes the entries that this generation did not want, and for which stale() (may be NULL) is
 * true.
 */
int map_cache_sweep(struct map_cache *map_cache,
		    bool (*stale)(const void *key, const void *value, void *arg), void *arg);

#endif
