/* SPDX-License-Identifier: Apache-2.0 */
/* Small files: reads of a whole file up to a limit, atomic replacement, kernel settings. */
#ifndef TENDRIL_LIB_FILE_H
#define TENDRIL_LIB_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/errmsg.h"

/* Reads a regular file of at most max bytes.  *ret_text is NUL-terminated and owned by the caller.
 * -ENOENT, -EFBIG, -EINVAL (not a regular file). */
int file_read(const char *path, size_t max, char **ret_text, size_t *ret_len, struct errmsg *err);

/* The same for an open file; path is for error texts. */
int file_read_fd(int fd, const char *path, size_t max, char **ret_text, size_t *ret_len,
		 struct errmsg *err);

enum file_durability {
	FILE_FAST, /* readers see the old or the new content; a crash of the machine may lose it */
	FILE_DURABLE, /* it also survives a crash of the machine (fsync of file and folder) */
};

/* Replaces the file: writes "PATH.tmp", then renames it.  Readers see the old or the new content,
 * never an empty file.  On failure the file is as it was. */
int file_write(const char *path, const char *text, size_t len, mode_t mode,
	       enum file_durability durability, struct errmsg *err);

/* As file_write() and file_read(), for a file that a program keeps for itself.  A last line
 * {"checksum":"..."} reveals damage that would otherwise parse; max does not count this line.
 * Reading returns -EBADMSG if the checksum is wrong.  A file without this line (of an earlier
 * version, or repaired by hand) is returned as it is, with *ret_checked false (may be NULL): the
 * caller must refuse a text that is empty or ends early. */
int file_write_checked(const char *path, const char *text, size_t len, mode_t mode,
		       enum file_durability durability, struct errmsg *err);
int file_read_checked(const char *path, size_t max, char **ret_text, size_t *ret_len,
		      bool *ret_checked, struct errmsg *err);

/* The same in every process and version.  It finds damage, not forgery. */
uint64_t file_checksum(const char *text, size_t len);
/* Whether a checked file says that it has so many bytes with this checksum; does not read them. */
bool file_has_checksum(const char *path, size_t len, uint64_t checksum);

/* Creates a folder and its parents; 0 also if it exists. */
int file_make_dir(const char *path, mode_t mode, struct errmsg *err);

/* A kernel setting such as "net/ipv4/ip_forward", in the calling thread's network namespace.
 * -ENOENT: this kernel, device or namespace has no such setting. */
int sysctl_read(const char *name, long *ret_value, struct errmsg *err);
int sysctl_write(const char *name, long value, struct errmsg *err);

#endif
