/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of objects and what each of them holds in the store: loading, comparing with what is in
 * force, and changing the store file by file, or several files as one.
 */
#ifndef TENDRIL_AGENT_OBJECTS_OBJECT_FILE_H
#define TENDRIL_AGENT_OBJECTS_OBJECT_FILE_H

#include <stdint.h>

#include "agent/objects/object_change.h"

struct object_file {
	struct object_source source;   /* its name */
	const struct object **objects; /* in force, in the store; sorted by kind and name */
	size_t count;
	uint64_t hash; /* of the text that is in force, 0: none */
	char *error;   /* why the file's present content was refused; NULL: it is in force */
	bool blocked;  /* refused because of what another source holds */
};

struct object_files { /* sorted by name */
	struct object_file **items;
	size_t count;
	size_t room;
	const char *dir;
	const char *run_dir;
	struct store *store;
	struct object_touched *touched;
	size_t bytes_read; /* since the heap was last given back */
	bool busy;         /* a file of the last update was still being written */
};

void object_files_done(struct object_files *files);
struct object_file *object_files_find(const struct object_files *files, const char *name);

/* Brings the store in line with these files, as they are on disk now.  What is refused is noted in
 * the file and logged; what it held before stays.  Returns whether the store changed. */
bool object_files_update(struct object_files *files, const char *const *names, size_t count);

/* Tries the blocked files again until none of them gets in. */
bool object_files_unblock(struct object_files *files);

/* At start: puts in force, from the store, what a refused file held when it was good. */
void object_files_recover(struct object_files *files);

/* The sorted names of all object files in the directory, owned by the caller, with those already
 * known: -errno if the directory cannot be read, 0 also if there is none. */
int object_files_list(const struct object_files *files, char ***ret_names, size_t *ret_count);
void object_names_free(char **names, size_t count);

#endif
