/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/objects/object_store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

#include "lib/auto.h"
#include "lib/file.h"

#define STORE "accepted"

/* ---- files ----------------------------------------------------------------------------------- */

/*
 * A read lease is only given while nobody has the file open for writing.  It is returned at once:
 * a writer that comes later closes the file later, which is an event.  Where leases are not to be
 * had (another owner, some filesystems) the file is read as it is.
 */
static bool file_is_being_written(int fd)
{
	/* Should a writer break the lease in between: a signal that is ignored by default. */
	if (fcntl(fd, F_SETSIG, SIGURG) < 0)
		return false;
	if (fcntl(fd, F_SETLEASE, F_RDLCK) < 0)
		return errno == EAGAIN;
	fcntl(fd, F_SETLEASE, F_UNLCK);
	return false;
}

int object_file_read(int dir_fd, const char *dir, const char *name, char **ret_text,
		     size_t *ret_len, struct errmsg *err)
{
	char path[PATH_MAX];
	auto_close int fd = -1;
	struct stat st;
	int ret;

	if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, name) >= sizeof(path))
		return fail(err, -ENAMETOOLONG, "%s/%s", dir, name);
	/* Before it is opened: opening a device may do things. */
	if (fstatat(dir_fd, name, &st, 0) < 0) {
		if (errno == ENOENT && fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			return fail_plain(err, -ESTALE, "%s: a symbolic link without a target",
					  path);
		return fail(err, -errno, "%s", path);
	}
	if (!S_ISREG(st.st_mode))
		return fail_plain(err, -EINVAL, "%s: not a regular file", path);
	if (st.st_size > OBJECT_FILE_MAX)
		return fail_plain(err, -EFBIG, "%s: larger than %u MiB", path,
				  OBJECT_FILE_MAX >> 20);
	fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return fail(err, -errno, "%s", path);
	if (file_is_being_written(fd))
		return fail_plain(err, -EAGAIN, "%s: still being written", path);
	ret = file_read_fd(fd, path, OBJECT_FILE_MAX, ret_text, ret_len, err);
	/* Nul bytes would hide the rest of a text from whoever reads it as a string. */
	if (!ret && strlen(*ret_text) != *ret_len) {
		free(take_ptr(*ret_text));
		return fail_plain(err, -EINVAL, "%s: contains NUL bytes", path);
	}
	return ret;
}

/* ---- copies ---------------------------------------------------------------------------------- */

static const char *store_path(const char *run_dir, const char *name, char *buf, size_t size)
{
	snprintf(buf, size, "%s/" STORE "/%s", run_dir, name);
	return buf;
}

int object_store_open(const char *run_dir, struct errmsg *err)
{
	char path[PATH_MAX];

	return file_make_dir(store_path(run_dir, "", path, sizeof(path)), 0700, err);
}

int object_store_put(const char *run_dir, const char *name, const char *text, size_t len,
		     struct errmsg *err)
{
	char path[PATH_MAX];

	/* A machine that crashes loses its pods too: nothing is in force then. */
	return file_write_checked(store_path(run_dir, name, path, sizeof(path)), text, len, 0600,
				  FILE_FAST, err);
}

int object_store_get(const char *run_dir, const char *name, char **ret_text, size_t *ret_len,
		     struct errmsg *err)
{
	char path[PATH_MAX];

	return file_read_checked(store_path(run_dir, name, path, sizeof(path)), OBJECT_FILE_MAX,
				 ret_text, ret_len, NULL, err);
}

bool object_store_is(const char *run_dir, const char *name, size_t len, uint64_t checksum)
{
	char path[PATH_MAX];

	return file_has_checksum(store_path(run_dir, name, path, sizeof(path)), len, checksum);
}

bool object_store_has(const char *run_dir, const char *name)
{
	char path[PATH_MAX];

	return access(store_path(run_dir, name, path, sizeof(path)), F_OK) == 0;
}

void object_store_del(const char *run_dir, const char *name)
{
	char path[PATH_MAX];

	unlink(store_path(run_dir, name, path, sizeof(path)));
}

void object_store_clean(const char *run_dir, bool (*keep)(const char *name, void *arg), void *arg)
{
	const struct dirent *entry;
	char path[PATH_MAX];
	DIR *dir;

	store_path(run_dir, "", path, sizeof(path));
	dir = opendir(path);
	if (!dir)
		return;
	while ((entry = readdir(dir))) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (!keep || !keep(entry->d_name, arg))
			unlinkat(dirfd(dir), entry->d_name, 0);
	}
	closedir(dir);
	if (!keep)
		rmdir(path);
}
