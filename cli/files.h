/* SPDX-License-Identifier: Apache-2.0 */
/* Files that the command line names.  "-" is standard input or standard output. */
#ifndef TENDRIL_CLI_FILES_H
#define TENDRIL_CLI_FILES_H

#include <stddef.h>

#include "cli/command.h"

/* The name of a file in messages: "stdin" for "-". */
const char *file_title(const char *path);

/* Reads a file of at most 64 MiB.  *ret_text is NUL-terminated and owned by the caller. */
int file_read_text(const char *path, char **ret_text, size_t *ret_len, struct errmsg *err);

/* Replaces the content of a file. */
int file_write_text(const char *path, const char *text, size_t len, struct errmsg *err);

/* Whether a name ends as those of object files: .json, .yaml, .yml. */
bool file_name_is_objects(const char *name);

/* Copies the arguments and appends the operands to the files of -f, so that FILE and -f FILE mean
 * the same. */
int files_join(const struct arguments *args, struct arguments *ret, struct errmsg *err);

/* Calls each() for a file, or for every .json, .yaml and .yml file of a directory, in order of
 * name.  -ENODATA if the directory has no such file: a check without any file must not pass. */
int files_each(const char *path, int (*each)(const char *file, void *arg, struct errmsg *err),
	       void *arg, struct errmsg *err);

#endif
