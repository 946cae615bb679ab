/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Texts of object files.  RUN_DIR/accepted/ has a copy of each file whose objects are in force.  So
 * the policies of a file that is bad at the next start stay in force, and the API shows the objects
 * in force, not what somebody is editing.
 */
#ifndef TENDRIL_AGENT_OBJECTS_OBJECT_STORE_H
#define TENDRIL_AGENT_OBJECTS_OBJECT_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/errmsg.h"

#define OBJECT_FILE_MAX (64U << 20) /* bytes */

/* Reads a file of the directory dir_fd, whose path is for errors.  -ENOENT: there is no such file;
 * -EAGAIN: somebody has it open for writing, and closing it will be an event. */
int object_file_read(int dir_fd, const char *dir, const char *name, char **ret_text,
		     size_t *ret_len, struct errmsg *err);

int object_store_open(const char *run_dir, struct errmsg *err);
int object_store_put(const char *run_dir, const char *name, const char *text, size_t len,
		     struct errmsg *err);
int object_store_get(const char *run_dir, const char *name, char **ret_text, size_t *ret_len,
		     struct errmsg *err); /* -ENOENT */
/* Whether there is a copy that says that it has so many bytes with this checksum. */
bool object_store_is(const char *run_dir, const char *name, size_t len, uint64_t checksum);
bool object_store_has(const char *run_dir, const char *name);
void object_store_del(const char *run_dir, const char *name);
/* Removes the copies of files for which keep() is false; with NULL all of them, and the folder. */
void object_store_clean(const char *run_dir, bool (*keep)(const char *name, void *arg), void *arg);

#endif
