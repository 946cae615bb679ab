/* SPDX-License-Identifier: Apache-2.0 */
/* Small files: read whole with a bound, replace as a whole, one-line kernel settings. */
#include "lib/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/arena.h"
#include "lib/auto.h"
#include "lib/task.h"

#define CHUNK (256UL << 10) /* after each one a task may give way */

/* Reads until the end or until size bytes; the number of bytes or a negative errno. */
static ssize_t read_full(int fd, char *buf, size_t size)
{
	size_t len = 0;

	while (len < size) {
		ssize_t count = read(fd, buf + len, size - len < CHUNK ? size - len : CHUNK);

		task_pause_now();
		if (count == 0)
			break;
		if (count < 0 && errno != EINTR)
			return -errno;
		if (count > 0)
			len += (size_t)count;
	}
	return (ssize_t)len;
}

static int write_full(int fd, const char *buf, size_t len)
{
	while (len > 0) {
		ssize_t count = write(fd, buf, len < CHUNK ? len : CHUNK);

		task_pause_now();
		if (count < 0 && errno != EINTR)
			return -errno;
		if (count > 0) {
			buf += count;
			len -= (size_t)count;
		}
	}
	return 0;
}

int file_read_fd(int fd, const char *path, size_t max, char **ret_text, size_t *ret_len,
		 struct errmsg *err)
{
	auto_free char *text = NULL;
	size_t size = 0;
	size_t len = 0;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return fail(err, -errno, "stat %s", path);
	if (!S_ISREG(st.st_mode))
		return fail_plain(err, -EINVAL, "%s: not a regular file", path);
	/* The file may grow while it is read, and files of /proc say they are empty: the size is
	 * a first guess only, and the bound is checked on what was read. */
	do {
		size_t want = size > 0 ? 2 * size : (size_t)st.st_size + 512;
		char *bigger;
		ssize_t count;

		if (want > max + 1)
			want = max + 1;
		bigger = realloc(text, want + 1);
		if (!bigger)
			return fail(err, -ENOMEM, "read %s", path);
		text = bigger;
		size = want;
		count = read_full(fd, text + len, size - len);
		if (count < 0)
			return fail(err, (int)count, "read %s", path);
		len += (size_t)count;
		if (len > max)
			return fail_plain(err, -EFBIG, "%s: larger than %zu bytes", path, max);
	} while (len == size);
	text[len] = '\0';
	*ret_text = take_ptr(text);
	if (ret_len)
		*ret_len = len;
	return 0;
}

int file_read(const char *path, size_t max, char **ret_text, size_t *ret_len, struct errmsg *err)
{
	/* O_NONBLOCK: a FIFO of that name must not stop the agent. */
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return fail(err, -errno, "open %s", path);
	return file_read_fd(fd, path, max, ret_text, ret_len, err);
}

static int folder_sync(const char *path, struct errmsg *err)
{
	const char *slash = strrchr(path, '/');
	char folder[PATH_MAX];
	auto_close int fd = -1;

	if (slash)
		snprintf(folder, sizeof(folder), "%.*s", (int)(slash - path + 1), path);
	else
		snprintf(folder, sizeof(folder), ".");
	fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) < 0)
		return fail(err, -errno, "sync %s", folder);
	return 0;
}

static int temp_write(const char *temp, const char *text, size_t len, const char *end, mode_t mode,
		      enum file_durability durability, struct errmsg *err)
{
	auto_close int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
	int ret;

	if (fd < 0)
		return fail(err, -errno, "create %s", temp);
	ret = write_full(fd, text, len);
	if (ret == 0)
		ret = write_full(fd, end, strlen(end));
	if (ret < 0)
		return fail(err, ret, "write %s", temp);
	if (durability == FILE_DURABLE && fsync(fd) < 0)
		return fail(err, -errno, "sync %s", temp);
	return 0;
}

/*
 * ext4 and btrfs write a file to the disk before they rename it over another one, lest a crash
 * leave it empty: milliseconds, in which an event loop stands still.  Who does not need that lets
 * the two change places instead.
 */
static int temp_install(const char *temp, const char *path, enum file_durability durability,
			struct errmsg *err)
{
	if (durability == FILE_FAST &&
	    renameat2(AT_FDCWD, temp, AT_FDCWD, path, RENAME_EXCHANGE) == 0) {
		if (unlink(temp) == 0)
			return 0;
		/* It was no file. */
		if (renameat2(AT_FDCWD, temp, AT_FDCWD, path, RENAME_EXCHANGE) < 0)
			return fail(err, -errno, "rename %s", path);
	}
	/* There is none yet, this filesystem cannot, or it says why not. */
	return rename(temp, path) < 0 ? fail(err, -errno, "rename %s", temp) : 0;
}

/* Replaces path by text and a last line. */
static int file_replace(const char *path, const char *text, size_t len, const char *end,
			mode_t mode, enum file_durability durability, struct errmsg *err)
{
	char temp[PATH_MAX];
	int ret;

	if ((size_t)snprintf(temp, sizeof(temp), "%s.tmp", path) >= sizeof(temp))
		return fail(err, -ENAMETOOLONG, "%s", path);
	ret = temp_write(temp, text, len, end, mode, durability, err);
	if (ret == 0)
		ret = temp_install(temp, path, durability, err);
	if (ret < 0) {
		unlink(temp);
		return ret;
	}
	return durability == FILE_DURABLE ? folder_sync(path, err) : 0;
}

int file_write(const char *path, const char *text, size_t len, mode_t mode,
	       enum file_durability durability, struct errmsg *err)
{
	return file_replace(path, text, len, "", mode, durability, err);
}

/* Part of the format of the files: it must not change. */
#define CHECKSUM_LINE "{\"checksum\":\"%016" PRIx64 "\"}\n"
#define CHECKSUM_LEN  32

static uint64_t checksum_step(uint64_t checksum, uint64_t hash)
{
	return checksum * 0x9e3779b97f4a7c15 + hash;
}

uint64_t file_checksum(const char *text, size_t len)
{
	uint64_t checksum = len, hashes[HASH_LANES];
	size_t at = 0;

	for (; len - at >= HASH_LANES * CHUNK; at += HASH_LANES * CHUNK) {
		hash_bytes_of_each(text + at, CHUNK, hashes);
		for (size_t lane = 0; lane < HASH_LANES; lane++)
			checksum = checksum_step(checksum, hashes[lane]);
		task_pause_now();
	}
	for (; at < len; at += CHUNK) {
		checksum = checksum_step(
			checksum, hash_bytes(text + at, len - at < CHUNK ? len - at : CHUNK));
		task_pause_now();
	}
	return checksum;
}

bool file_has_checksum(const char *path, size_t len, uint64_t checksum)
{
	char line[CHECKSUM_LEN + 1], found[CHECKSUM_LEN];
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;

	snprintf(line, sizeof(line), CHECKSUM_LINE, checksum);
	return fd >= 0 && fstat(fd, &st) == 0 && (size_t)st.st_size == len + CHECKSUM_LEN &&
	       pread(fd, found, CHECKSUM_LEN, (off_t)len) == CHECKSUM_LEN &&
	       memcmp(found, line, CHECKSUM_LEN) == 0;
}

int file_write_checked(const char *path, const char *text, size_t len, mode_t mode,
		       enum file_durability durability, struct errmsg *err)
{
	char line[CHECKSUM_LEN + 1];

	snprintf(line, sizeof(line), CHECKSUM_LINE, file_checksum(text, len));
	return file_replace(path, text, len, line, mode, durability, err);
}

int file_read_checked(const char *path, size_t max, char **ret_text, size_t *ret_len,
		      bool *ret_checked, struct errmsg *err)
{
	static const char begin[] = "{\"checksum\":\"";
	char line[CHECKSUM_LEN + 1];
	auto_free char *text = NULL;
	bool checked = false;
	size_t len = 0;
	int ret;

	ret = file_read(path, max + CHECKSUM_LEN, &text, &len, err);
	if (ret)
		return ret;
	/* NOLINTNEXTLINE(*UndefinedBinaryOperatorResult): set, as no error was returned */
	if (len >= CHECKSUM_LEN &&
	    memcmp(text + len - CHECKSUM_LEN, begin, sizeof(begin) - 1) == 0) {
		len -= CHECKSUM_LEN;
		snprintf(line, sizeof(line), CHECKSUM_LINE, file_checksum(text, len));
		if (memcmp(text + len, line, CHECKSUM_LEN) != 0)
			return fail_plain(
				err, -EBADMSG,
				"%s: damaged, its checksum does not match (if you changed "
				"it: remove its last line)",
				path);
		text[len] = '\0';
		checked = true;
	}
	if (len > max)
		return fail_plain(err, -EFBIG, "%s: larger than %zu bytes", path, max);
	if (ret_checked)
		*ret_checked = checked;
	*ret_text = take_ptr(text);
	*ret_len = len;
	return 0;
}

int file_make_dir(const char *path, mode_t mode, struct errmsg *err)
{
	char part[PATH_MAX];

	if ((size_t)snprintf(part, sizeof(part), "%s", path) >= sizeof(part))
		return fail(err, -ENAMETOOLONG, "%s", path);
	for (char *c = part + 1; part[0] && *c; c++) {
		if (*c != '/')
			continue;
		*c = '\0';
		if (mkdir(part, 0755) < 0 && errno != EEXIST)
			return fail(err, -errno, "create folder %s", part);
		*c = '/';
	}
	if (mkdir(part, mode) < 0 && errno != EEXIST)
		return fail(err, -errno, "create folder %s", part);
	return 0;
}

static int sysctl_open(const char *name, int flags, struct errmsg *err)
{
	char path[256];
	int fd;

	if ((size_t)snprintf(path, sizeof(path), "/proc/sys/%s", name) >= sizeof(path))
		return fail(err, -ENAMETOOLONG, "sysctl %s", name);
	fd = open(path, flags | O_CLOEXEC);
	return fd < 0 ? fail(err, -errno, "open %s", path) : fd;
}

int sysctl_read(const char *name, long *ret_value, struct errmsg *err)
{
	auto_close int fd = sysctl_open(name, O_RDONLY, err);
	char text[32];
	char *end;
	ssize_t len;
	long value;

	if (fd < 0)
		return fd;
	len = read_full(fd, text, sizeof(text) - 1);
	if (len < 0)
		return fail(err, (int)len, "read /proc/sys/%s", name);
	text[len] = '\0';
	errno = 0;
	value = strtol(text, &end, 10);
	if (errno || end == text)
		return fail_plain(err, -EINVAL, "/proc/sys/%s: not a number", name);
	*ret_value = value;
	return 0;
}

int sysctl_write(const char *name, long value, struct errmsg *err)
{
	auto_close int fd = sysctl_open(name, O_WRONLY, err);
	char text[32];
	int ret;

	if (fd < 0)
		return fd;
	snprintf(text, sizeof(text), "%ld\n", value);
	ret = write_full(fd, text, strlen(text));
	return ret < 0 ? fail(err, ret, "write /proc/sys/%s", name) : 0;
}
