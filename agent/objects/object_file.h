/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of objects, and the objects of each in the store: loads them, compares them with what is in
 * force, and changes the store file by file, or for several files at once.
 */
#ifndef TENDRIL_AGENT_OBJECTS_OBJECT_FILE_H
#define TENDRIL_AGENT_OBJECTS_OBJECT_FILE_H

#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "agent/objects/object_change.h"

struct object_file {
	struct object_source source;   /* its name */
	const struct object **objects; /* in force, in the store; sorted by kind and name */
	size_t count;
	uint64_t hash; /* of the text that is in force, 0: none */
	char *error;   /* why the file's present content was refused; NULL: it is in force */
	bool blocked;  /* refused because of an object of another source */
	bool unknown;  /* refused since the start, and there is no copy of an earlier content */
};

struct directory_id {
	dev_t device;
	uint64_t inode;
	struct timespec born; /* inode numbers are used again; zero: not known */
};

struct object_files { /* sorted by name */
	struct object_file **items;
	size_t count;
	size_t room;
	const char *dir;
	const char *run_dir;
	int dir_fd;                 /* while files are read, else -1 */
	struct directory_id dir_id; /* of the directory of these files; zero: it is gone */
	struct store *store;
	struct object_touched *touched;
	size_t bytes_read; /* since the last object_files_trim() */
	bool audited;      /* changes are logged: the start is over */
	bool busy;         /* a file of the last update was still open for writing */
};

void object_files_done(struct object_files *files);
struct object_file *object_files_find(const struct object_files *files, const char *name);

/* Whether the path still leads to the directory that was listed last. */
bool object_files_dir_is_same(const struct object_files *files);

/* Updates the store from these files as they are on disk now.  If a file is refused, its error is
 * recorded and logged, and its earlier objects stay.  If the directory is missing or is another
 * one, all objects stay.  Returns whether the store changed. */
bool object_files_update(struct object_files *files, const char *const *names, size_t count);
/* Returns to the kernel what large texts took: the heap is many times larger than what is kept. */
void object_files_trim(struct object_files *files);

/* Tries the blocked files again until no more are accepted. */
bool object_files_unblock(struct object_files *files);

/* At the start: loads the copies of refused files, with their last good content; a file without a
 * good copy is unknown from then on. */
void object_files_recover(struct object_files *files);

/* The sorted names of all object files in the directory and of all known files, owned by the
 * caller. -errno if the directory is missing or cannot be read, or if an empty directory has
 * replaced the one that was listed before: only files that are gone from the same directory count
 * as deleted. */
int object_files_list(struct object_files *files, char ***ret_names, size_t *ret_count,
		      struct errmsg *err);
void object_names_free(char **names, size_t count);

#endif
