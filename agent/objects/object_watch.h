/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tells when files of a directory may have changed, by inotify: in-place edits, atomic renames,
 * deletions, the directory itself removed and made again, and symbolic links whose targets are
 * swapped (as Kubernetes does with ConfigMaps).  A lone change is told at once, a burst of them in
 * few calls.  What changed is the caller's to find out; a file that is still being written is not
 * reported.
 */
#ifndef TENDRIL_AGENT_OBJECTS_OBJECT_WATCH_H
#define TENDRIL_AGENT_OBJECTS_OBJECT_WATCH_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/errmsg.h"

struct event_base;
struct object_watch;

struct object_events {
	bool all;                 /* anything in the directory */
	const char *const *names; /* else these files of it */
	size_t count;
};

/* changed() has dealt with the events, now or later, when it calls object_watch_done(). */
int object_watch_new(struct event_base *base, const char *dir,
		     void (*changed)(const struct object_events *events, void *arg), void *arg,
		     struct object_watch **ret, struct errmsg *err);
void object_watch_free(struct object_watch *watch);

/* Looks again at what there is to watch: the directory, what is above it if it is missing, and the
 * directories in which its links end.  Call before a complete scan. */
void object_watch_refresh(struct object_watch *watch);

/* What happens meanwhile is told after it. */
void object_watch_done(struct object_watch *watch);

/* Before object_watch_done(): a file was still open for writing.  The same is told again in a
 * moment; not for ever, because a writer that takes its time ends with an event. */
void object_watch_again(struct object_watch *watch);

/* Whether a file of this name holds objects: *.json, *.yaml, *.yml, not hidden. */
bool object_watch_is_file(const char *name);

#endif
