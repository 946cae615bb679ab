/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One map of the datapath as this process knows it to be: read back once from the pinned map, then
 * kept by what is written.  Comparing with a mirror costs no system call, and only differences are
 * queued; the queue goes out in batches, in the order in which it was filled.
 */
#ifndef TENDRIL_AGENT_SYNC_MAP_CACHE_H
#define TENDRIL_AGENT_SYNC_MAP_CACHE_H

#include "datapath/maps.h"
#include "lib/table.h"

struct mirror {
	struct datapath *datapath;
	enum map_id map;
	size_t key_size;
	size_t value_size;
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

/* Reads the map. */
int mirror_init(struct mirror *mirror, struct datapath *datapath, enum map_id map, size_t key_size,
		size_t value_size);
void mirror_done(struct mirror *mirror);

/* Begins a new generation: nothing is wanted yet. */
void mirror_begin(struct mirror *mirror);
/* What the map holds under a key, or NULL. */
const void *mirror_get(const struct mirror *mirror, const void *key);
/* Wants an entry as it is, if it is there; false if not. */
bool mirror_keep(struct mirror *mirror, const void *key);
bool mirror_is_wanted(const struct mirror *mirror, const void *key);
/* Takes a want back: the next mirror_sweep() deletes the entry. */
void mirror_unwant(struct mirror *mirror, const void *key);
/* Wants an entry with this value; queues a write if the map does not hold it. */
int mirror_set(struct mirror *mirror, const void *key, const void *value);
/* Writes what is queued.  -ENOSPC: some did not fit (counted in refused), the others are in. */
int mirror_flush(struct mirror *mirror);

/* Deletes keys (dense) at once; what is not there is fine. */
int mirror_del(struct mirror *mirror, const void *keys, size_t count);
/* Deletes what this generation did not want and, unless NULL, stale() agrees to. */
int mirror_sweep(struct mirror *mirror,
		 bool (*stale)(const void *key, const void *value, void *arg), void *arg);

#endif
