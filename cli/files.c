/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cluster.h"
#include "lib/alloc.h"
#include "lib/auto.h"

#define FILE_MAX (64UL << 20)

const char *file_title(const char *path)
{
	return strcmp(path, "-") == 0 ? "stdin" : path;
}

/* A file, standard input, or what a program writes about a cluster. */
static int source_open(const char *path, int *ret_pid, struct errmsg *err)
{
	int fd;

	if (cluster_is_named(path))
		return cluster_open(path, &fd, ret_pid, err) < 0 ? err->code : fd;
	fd = strcmp(path, "-") == 0 ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? fail(err, -errno, "%s", file_title(path)) : fd;
}

int file_read_text(const char *path, char **ret_text, size_t *ret_len, struct errmsg *err)
{
	int pid = 0;
	auto_close int fd = source_open(path, &pid, err);
	auto_free char *text = NULL;
	const char *name = file_title(path);
	size_t len = 0, size = 0;

	if (fd < 0)
		return fd;
	for (;;) {
		ssize_t n;

		if (size - len < 4096) {
			size += size / 2 + 65536;
			text = xreallocarray(text, size, 1); /* FILE_MAX bounds it */
		}
		n = read(fd, text + len, size - len - 1);
		if (n < 0)
			return fail(err, -errno, "%s", name);
		if (n == 0)
			break;
		len += (size_t)n;
		if (len > FILE_MAX)
			return fail_plain(err, -EFBIG, "%s: larger than 64 MiB", name);
	}
	if (pid && cluster_close(pid, err) < 0)
		return err->code;
	text[len] = '\0';
	*ret_text = take_ptr(text);
	*ret_len = len;
	return 0;
}

bool file_name_is_objects(const char *name)
{
	static const char *const endings[] = { ".json", ".yaml", ".yml" };
	size_t len = strlen(name);

	for (size_t i = 0; i < ARRAY_SIZE(endings); i++) {
		size_t ending = strlen(endings[i]);

		if (len > ending && strcmp(name + len - ending, endings[i]) == 0)
			return true;
	}
	return false;
}

static int is_object_file(const struct dirent *entry)
{
	return entry->d_name[0] != '.' && file_name_is_objects(entry->d_name);
}

int files_join(const struct arguments *args, struct arguments *ret, struct errmsg *err)
{
	*ret = *args;
	for (size_t i = 0; i < args->operand_count; i++) {
		if (ret->file_count == CLI_FILES_MAX)
			return misused(err, "more than %d files", CLI_FILES_MAX);
		ret->files[ret->file_count++] = args->operands[i];
	}
	ret->operand_count = 0;
	return 0;
}

int files_each(const char *path, int (*each)(const char *file, void *arg, struct errmsg *err),
	       void *arg, struct errmsg *err)
{
	const char *slash = *path && path[strlen(path) - 1] == '/' ? "" : "/";
	struct dirent **entries;
	struct stat status;
	int count, ret = 0;

	if (strcmp(path, "-") == 0 || cluster_is_named(path))
		return each(path, arg, err);
	if (stat(path, &status))
		return fail(err, -errno, "%s", path);
	if (!S_ISDIR(status.st_mode))
		return each(path, arg, err);
	count = scandir(path, &entries, is_object_file, alphasort);
	if (count < 0)
		return fail(err, -errno, "%s", path);
	if (count == 0)
		ret = fail_plain(err, -ENODATA,
				 "%s: no .json, .yaml or .yml files in this directory", path);
	for (int i = 0; i < count; i++) {
		char file[4096];

		if (!ret && (size_t)snprintf(file, sizeof(file), "%s%s%s", path, slash,
					     entries[i]->d_name) >= sizeof(file))
			ret = fail(err, -ENAMETOOLONG, "%s", path);
		if (!ret)
			ret = each(file, arg, err);
		free(entries[i]);
	}
	free(entries);
	return ret;
}

int file_write_text(const char *path, const char *text, size_t len, struct errmsg *err)
{
	auto_fclose FILE *file =
		strcmp(path, "-") == 0 ? fdopen(dup(STDOUT_FILENO), "w") : fopen(path, "we");

	if (!file)
		return fail(err, -errno, "%s", path);
	if (fwrite(text, 1, len, file) < len || fflush(file))
		return fail(err, -errno, "%s", path);
	return 0;
}
