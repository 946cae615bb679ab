/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects of files as they were given.  They are not kept in memory: the text is read and parsed
 * for each request.  The tree of the last file stays for a second, because a client that gets one
 * object often gets the next, too.
 */
#ifndef TENDRIL_AGENT_OBJECTS_OBJECT_CACHE_H
#define TENDRIL_AGENT_OBJECTS_OBJECT_CACHE_H

#include "policy/objects/object.h"

struct cJSON;
struct event;
struct event_base;

struct object_cache {
	const char *run_dir;
	struct event *timer;
	char *file; /* whose items these are, or NULL */
	struct cJSON *items;
	const struct cJSON *next; /* where the last search ended */
	bool trim;                /* the tree is large */
};

void object_cache_init(struct object_cache *cache, struct event_base *base, const char *run_dir);
void object_cache_done(struct object_cache *cache);
/* Drops the tree: files have changed. */
void object_cache_drop(struct object_cache *cache);
/* The object of an accepted file, owned by the caller; NULL if it cannot be read. */
struct cJSON *object_cache_get(struct object_cache *cache, const char *file,
			       const struct object *object);

#endif
