/* SPDX-License-Identifier: Apache-2.0 */
/* What the sources share: objects.c (files), object_api.c and object_kube.c. */
#ifndef TENDRIL_AGENT_OBJECTS_OBJECTS_INTERNAL_H
#define TENDRIL_AGENT_OBJECTS_OBJECTS_INTERNAL_H

#include "agent/objects/object_cache.h"
#include "agent/objects/object_change.h"
#include "agent/objects/object_file.h"
#include "agent/objects/object_kube.h"
#include "agent/objects/object_watch.h"
#include "agent/objects/objects.h"
#include "lib/histogram.h"

struct event_base;

struct objects {
	struct event_base *base;
	struct sync *sync;
	void (*complete)(void *arg);
	void (*nodes_changed)(void *arg);
	void *arg; /* of both */
	struct object_watch *watch;
	struct object_events events; /* that are being handled */
	struct object_files files;
	struct object_cache cache; /* of their texts */
	struct api_object *api;    /* list of the objects of the API */
	struct object_kube kube;
	char dir_error[500];           /* why the directory cannot be read, or "" */
	bool dir_unread;               /* the directory could not be read since the start */
	char unknown[600];             /* why policies may be missing, or "" */
	char api_error[500];           /* why objects.json could not be read, or "" */
	char sync_error[500];          /* last problem that was logged */
	struct object_touched touched; /* since the last objects_sync() */
	struct histogram sync_times;   /* from the first change of each objects_sync() */
};

/* Updates the maps for everything in touched.  An error means that maps are full. */
int objects_sync(struct objects *objects, struct errmsg *err);
/* Checks again whether all sources are known.  True: now they are, and the next objects_sync() also
 * removes entries without an object. */
bool objects_know(struct objects *objects);
/* An object was removed: tries files again that were refused because of it. */
void objects_unblock(struct objects *objects);

/* object_api.c */
void object_api_load(struct objects *objects);
void object_api_done(struct objects *objects);
struct cJSON *object_api_get(const struct object *object);

/* The problems of a text as one line: the first error and how many more there are. */
struct problems;
void object_problems_text(const struct problems *problems, const char *file, char *buf,
			  size_t size);

#endif
