/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reports by inotify when files of a directory may have changed: in-place edits, atomic renames,
 * deletions, the directory itself removed and made again, and symbolic links whose targets are
 * swapped (as Kubernetes does with ConfigMaps).  A single change is reported at once, a burst of
 * them in few calls.  The caller finds out what changed.  A file that is open for writing is not
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

/* changed() handles the events at once or later, and then calls object_watch_done(). */
int object_watch_new(struct event_base *base, const char *dir,
		     void (*changed)(const struct object_events *events, void *arg), void *arg,
		     struct object_watch **ret, struct errmsg *err);
void object_watch_free(struct object_watch *watch);

/* Updates what is watched: the directory, its parent if it is missing, and the directories that its
 * links lead to.  Called before a complete scan. */
void object_watch_refresh(struct object_watch *watch);

/* The events of the last changed() are handled; later ones may be reported now. */
void object_watch_done(struct object_watch *watch);

/* Called before object_watch_done() if a file was still open for writing.  The same events are
 * reported again a moment later, a few times; when a slow writer closes the file, that is an event.
 */
void object_watch_again(struct object_watch *watch);

/* Whether a file of this name holds objects: *.json, *.yaml, *.yml, not hidden. */
bool object_watch_is_file(const char *name);

#endif
