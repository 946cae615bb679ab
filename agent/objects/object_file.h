/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of objects and what each of them holds in the store: loading, comparing with what is in
 * force, and changing the store file by file, or several files as one.
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
	bool blocked;  /* refused because of what another source holds */
	bool unknown;  /* refused since the start, and no copy tells what it held before */
};

struct directory_id {
	dev_t device;
	uint64_t inode;
	struct timespec born; /* numbers of inodes are used again; zero where it is not known */
};

struct object_files { /* sorted by name */
	struct object_file **items;
	size_t count;
	size_t room;
	const char *dir;
	const char *run_dir;
	int dir_fd;                 /* while files are read, else -1 */
	struct directory_id dir_id; /* of the directory whose files these are; zero: it went */
	struct store *store;
	struct object_touched *touched;
	size_t bytes_read; /* since the heap was last given back */
	bool audited;      /* changes are logged: the start is over */
	bool busy;         /* a file of the last update was still being written */
};

void object_files_done(struct object_files *files);
struct object_file *object_files_find(const struct object_files *files, const char *name);

/* Whether the path still leads to the directory that was listed last. */
bool object_files_dir_is_same(const struct object_files *files);

/* Brings the store in line with these files, as they are on disk now.  What is refused is noted in
 * the file and logged; what it held before stays.  So does everything if the directory is not there
 * or is another one.  Returns whether the store changed. */
bool object_files_update(struct object_files *files, const char *const *names, size_t count);

/* Tries the blocked files again until none of them gets in. */
bool object_files_unblock(struct object_files *files);

/* At start: puts in force, from its copy, what a refused file held when it was good; a file without
 * a good copy is unknown from then on. */
void object_files_recover(struct object_files *files);

/* The sorted names of all object files in the directory, owned by the caller, with those already
 * known.  -errno if the directory is missing or cannot be read, or if it is an empty one in the
 * place of the one that was listed before: deletions are files that are gone from where they were.
 */
int object_files_list(struct object_files *files, char ***ret_names, size_t *ret_count,
		      struct errmsg *err);
void object_names_free(char **names, size_t count);

#endif
