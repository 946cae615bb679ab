/* SPDX-License-Identifier: Apache-2.0 */
#define LOG_MODULE "objects"
#include "agent/objects/object_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "agent/objects/object_equal.h"
#include "agent/objects/object_store.h"
#include "agent/objects/object_watch.h"
#include "agent/objects/objects_internal.h"
#include "lib/alloc.h"
#include "lib/arena.h"
#include "lib/auto.h"
#include "lib/file.h"
#include "lib/log.h"
#include "lib/task.h"
#include "policy/objects/parse.h"

#define TRIM_SIZE (1U << 20)

/* The content of a file that is about to go into the store. */
struct load {
	struct object_file *file;
	struct object_list list;      /* sorted; items that went into the store are NULL */
	const struct object **result; /* what the file will hold */
	char *text;                   /* NULL: the file is gone */
	size_t len;
	uint64_t checksum;
	uint64_t hash; /* the checksum, but never 0 */
	struct object_author author;
};

struct load_batch {
	struct load *loads;
	size_t count;
};

/* ---- files by name --------------------------------------------------------------------------- */

static size_t file_place(const struct object_files *files, const char *name)
{
	size_t low = 0, high = files->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (strcmp(files->items[middle]->source.name, name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct object_file *object_files_find(const struct object_files *files, const char *name)
{
	size_t place = file_place(files, name);

	if (place < files->count && strcmp(files->items[place]->source.name, name) == 0)
		return files->items[place];
	return NULL;
}

static void object_file_free(struct object_file *file)
{
	if (!file)
		return;
	free((char *)file->source.name);
	free(file->objects);
	free(file->error);
	free(file);
}

static struct object_file *file_add(struct object_files *files, const char *name)
{
	struct object_file *file = xcalloc(1, sizeof(*file));
	size_t place = file_place(files, name);

	file->source.name = xstrdup(name);
	array_room(&files->items, files->count, &files->room, sizeof(struct object_file *));
	memmove(&files->items[place + 1], &files->items[place],
		(files->count - place) * sizeof(struct object_file *));
	files->items[place] = file;
	files->count++;
	return file;
}

/* A file that is gone and holds nothing. */
static void file_remove(struct object_files *files, struct object_file *file)
{
	size_t place = file_place(files, file->source.name);

	object_store_del(files->run_dir, file->source.name);
	files->count--;
	memmove(&files->items[place], &files->items[place + 1],
		(files->count - place) * sizeof(struct object_file *));
	object_file_free(file);
}

void object_files_done(struct object_files *files)
{
	for (size_t i = 0; i < files->count; i++)
		object_file_free(files->items[i]);
	free(files->items);
	files->items = NULL;
	files->count = 0;
}

static void file_refuse(struct object_file *file, const char *text, bool blocked)
{
	file->blocked = blocked;
	if (file->error && strcmp(file->error, text) == 0)
		return;
	free(file->error);
	file->error = xstrdup(text);
	log_warn("refused %s: %s%s", file->source.name, text,
		 file->count ? "; its earlier objects stay in force" : "");
}

static void file_accept(struct object_file *file)
{
	if (file->error)
		log_info("%s is good again", file->source.name);
	free(take_ptr(file->error));
	file->blocked = false;
	file->unknown = false;
}

/* ---- loading --------------------------------------------------------------------------------- */

static void load_done(struct load *load)
{
	object_list_done(&load->list);
	free(load->result);
	free(load->text);
	*load = (struct load){ 0 };
}

static void batch_done(struct load_batch *batch)
{
	for (size_t i = 0; i < batch->count; i++)
		load_done(&batch->loads[i]);
	free(batch->loads);
	*batch = (struct load_batch){ 0 };
}

static int object_compare(const struct object *a, const struct object *b)
{
	int order = (int)a->kind - (int)b->kind;

	if (order == 0)
		order = strcmp(a->namespace, b->namespace);
	return order ? order : strcmp(a->name, b->name);
}

static int item_compare(const void *a, const void *b)
{
	return object_compare(*(struct object *const *)a, *(struct object *const *)b);
}

static void list_sort(struct object_list *list)
{
	if (list->count)
		qsort(list->items, list->count, sizeof(struct object *), item_compare);
}

void object_problems_text(const struct problems *problems, const char *file, char *buf, size_t size)
{
	size_t len;

	snprintf(buf, size, "%s", file ? file : "objects");
	for (size_t i = 0; i < problems->count; i++) {
		if (problems->items[i].warning)
			continue;
		problem_format(&problems->items[i], file, buf, size);
		break;
	}
	len = strlen(buf);
	if (problems->errors > 1)
		snprintf(buf + len, size - len, " (and %zu more)", problems->errors - 1);
}

static void warnings_log(const struct problems *problems, const char *file)
{
	char text[600];

	for (size_t i = 0; i < problems->count; i++) {
		if (problems->items[i].warning)
			log_warn("%s",
				 problem_format(&problems->items[i], file, text, sizeof(text)));
	}
}

/* Text of a file -> its objects.  false: it was refused. */
static bool load_parse(struct load *load)
{
	struct object_file *file = load->file;
	struct problems problems = { 0 };
	char text[600];
	int ret;

	ret = objects_parse(load->text, load->len, 0, &load->list, &problems);
	if (ret == -EINVAL) {
		object_problems_text(&problems, file->source.name, text, sizeof(text));
		file_refuse(file, text, false);
	} else if (ret) {
		file_refuse(file, strerror(-ret), false);
	} else if (load->list.documents == 0) {
		/* Truncated by accident or by a crash: what it held is not to vanish with it. */
		snprintf(text, sizeof(text), "%s: empty (to delete its objects, remove the file)",
			 file->source.name);
		file_refuse(file, text, false);
		ret = -EINVAL;
	} else {
		warnings_log(&problems, file->source.name);
		list_sort(&load->list);
	}
	problems_done(&problems);
	return ret == 0;
}

/* Whether there is something to do for the file: it is gone, or has new content that is good. */
static bool load_file(struct object_files *files, struct object_file *file, struct load *load)
{
	struct errmsg err = { 0 };
	struct stat st;
	int ret;

	*load = (struct load){ .file = file, .author.uid = AUTHOR_UNKNOWN };
	ret = object_file_read(files->dir_fd, files->dir, file->source.name, &load->text,
			       &load->len, &err);
	if (ret == -ENOENT)
		return true;
	files->busy |= ret == -EAGAIN;
	if (ret == -EAGAIN && file->hash)
		return false; /* what it held stays until it is complete */
	if (ret) {
		file_refuse(file, err.text, false);
		return false;
	}
	files->bytes_read += load->len;
	load->checksum = file_checksum(load->text, load->len);
	load->hash = load->checksum | 1;
	if (fstatat(files->dir_fd, file->source.name, &st, 0) == 0)
		load->author.uid = st.st_uid;
	task_pause_now();
	if (load->hash == file->hash)
		file_accept(file);
	else if (load_parse(load))
		return true;
	load_done(load);
	return false;
}

/* ---- into the store -------------------------------------------------------------------------- */

/* Takes out what the file no longer holds or holds differently, and notes what stays. */
static int load_take(struct object_change *change, struct load *load)
{
	const struct object_file *file = load->file;
	size_t old = file->count, new = load->list.count;

	load->result = xcalloc(load->list.count, sizeof(*load->result));
	/* From the last one to the first, so that what stays behind one need not move. */
	while (old > 0) {
		const struct object *held = file->objects[old - 1];
		int order = new ? object_compare(load->list.items[new - 1], held) : -1;
		int ret;

		if (order > 0) {
			new --; /* an object the file did not hold */
			continue;
		}
		old--;
		if (order == 0) {
			struct object **item = &load->list.items[--new];

			if (object_equal(*item, held)) {
				load->result[item - load->list.items] = held;
				object_free(*item);
				*item = NULL;
				continue;
			}
		}
		ret = object_change_take(change, held, file->hash);
		if (ret)
			return ret;
	}
	return 0;
}

static int load_put(struct object_change *change, struct load *load, struct errmsg *err)
{
	for (size_t i = 0; i < load->list.count; i++) {
		struct object *object = take_ptr(load->list.items[i]);
		int ret;

		if (!object)
			continue;
		ret = object_change_put(change, object, &load->file->source, load->hash, err);
		if (ret)
			return ret;
		load->result[i] = object;
	}
	return 0;
}

/* All loads or none.  On failure *ret_failed is the one to blame. */
static int loads_apply(struct object_files *files, struct load *loads, size_t count,
		       size_t *ret_failed, bool *ret_changed, struct errmsg *err)
{
	struct object_change change;
	int ret = 0;

	object_change_begin(&change, files->store, NULL);
	for (size_t i = 0; i < count && !ret; i++) {
		*ret_failed = i;
		change.author = files->audited ? &loads[i].author : NULL;
		ret = load_take(&change, &loads[i]);
		if (ret)
			fail(err, ret, "%s", loads[i].file->source.name);
	}
	for (size_t i = 0; i < count && !ret; i++) {
		*ret_failed = i;
		change.author = files->audited ? &loads[i].author : NULL;
		ret = load_put(&change, &loads[i], err);
	}
	if (ret) {
		object_change_undo(&change);
		return ret;
	}
	*ret_changed |= change.count > 0;
	object_change_commit(&change, files->touched);
	for (size_t i = 0; i < count; i++) {
		struct object_file *file = loads[i].file;

		free(file->objects);
		file->objects = take_ptr(loads[i].result);
		file->count = loads[i].list.count;
		file->hash = loads[i].hash;
	}
	return 0;
}

/* ---- copies ---------------------------------------------------------------------------------- */

/* Keeps a copy of a text that is in force now. */
static void load_store(const struct object_files *files, const struct load *load)
{
	const char *name = load->file->source.name;
	struct errmsg err = { 0 };

	if (object_store_is(files->run_dir, name, load->len, load->checksum))
		return;
	if (object_store_put(files->run_dir, name, load->text, load->len, &err))
		log_warn("%s is in force, but no copy was kept: %s", name, err.text);
}

static void load_confirm(struct object_files *files, struct load *load)
{
	task_pause_now();
	if (!load->text) {
		file_remove(files, take_ptr(load->file));
		return;
	}
	file_accept(load->file);
	load_store(files, load);
}

/* ---- updates --------------------------------------------------------------------------------- */

static int dir_identify(int fd, const char *path, struct directory_id *ret_id)
{
	struct statx st;

	if (statx(fd, path, AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &st) < 0)
		return -errno;
	*ret_id = (struct directory_id){
		.device = makedev(st.stx_dev_major, st.stx_dev_minor),
		.inode = st.stx_ino,
	};
	if (st.stx_mask & STATX_BTIME)
		ret_id->born = (struct timespec){ st.stx_btime.tv_sec, st.stx_btime.tv_nsec };
	return 0;
}

static bool dir_is_same(const struct object_files *files, int fd, const char *path)
{
	struct directory_id id = { 0 };

	/* NOLINTNEXTLINE(*UndefinedBinaryOperatorResult): set, as no error was returned */
	return dir_identify(fd, path, &id) == 0 && id.device == files->dir_id.device &&
	       id.inode == files->dir_id.inode && id.born.tv_sec == files->dir_id.born.tv_sec &&
	       id.born.tv_nsec == files->dir_id.born.tv_nsec;
}

bool object_files_dir_is_same(const struct object_files *files)
{
	return dir_is_same(files, AT_FDCWD, files->dir);
}

/* Opens the directory that was listed last; false if the path no longer leads there. */
static bool dir_enter(struct object_files *files)
{
	auto_close int fd = open(files->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || !dir_is_same(files, fd, ""))
		return false;
	files->dir_fd = take_fd(&fd);
	return true;
}

static void dir_leave(struct object_files *files)
{
	close(take_fd(&files->dir_fd));
}

/* One file by itself, from disk. */
static bool file_update(struct object_files *files, struct object_file *file)
{
	struct errmsg err = { 0 };
	bool changed = false;
	struct load load;
	size_t failed;

	if (!load_file(files, file, &load))
		return false;
	if (loads_apply(files, &load, 1, &failed, &changed, &err))
		file_refuse(file, err.text, err.code == -EEXIST);
	else
		load_confirm(files, &load);
	load_done(&load);
	return changed;
}

static void batch_load(struct object_files *files, const char *const *names, size_t count,
		       struct load_batch *ret_batch)
{
	struct load_batch batch = { .loads = xcalloc(count, sizeof(*batch.loads)) };

	for (size_t i = 0; i < count; i++) {
		struct object_file *file = object_files_find(files, names[i]);

		if (!file)
			file = file_add(files, names[i]);
		if (load_file(files, file, &batch.loads[batch.count]))
			batch.count++;
	}
	*ret_batch = batch;
}

static bool blocked_retry(struct object_files *files)
{
	bool changed = false, progress;

	do {
		progress = false;
		for (size_t i = 0; i < files->count; i++) {
			struct object_file *file = files->items[i];

			if (!file->blocked)
				continue;
			progress |= file_update(files, file);
			changed |= progress;
			if (i < files->count && files->items[i] != file)
				i--; /* it was gone and is removed */
		}
	} while (progress);
	return changed;
}

bool object_files_update(struct object_files *files, const char *const *names, size_t count)
{
	struct errmsg err = { 0 };
	bool changed = false;
	struct load_batch batch;
	size_t failed;
	int ret;

	files->busy = false;
	if (!dir_enter(files))
		return false;
	batch_load(files, names, count, &batch);
	/* Together first: objects may have moved from one file to another and back. */
	ret = loads_apply(files, batch.loads, batch.count, &failed, &changed, &err);
	for (size_t i = 0; i < batch.count && !ret; i++)
		load_confirm(files, &batch.loads[i]);
	batch_done(&batch);
	for (size_t i = 0; i < count && ret; i++) {
		struct object_file *file = object_files_find(files, names[i]);

		if (file)
			changed |= file_update(files, file);
	}
	/* What one file gave up, another may have been waiting for. */
	changed |= blocked_retry(files);
	dir_leave(files);
	return changed;
}

void object_files_trim(struct object_files *files)
{
	if (files->bytes_read >= TRIM_SIZE)
		malloc_trim(0);
	files->bytes_read = 0;
}

bool object_files_unblock(struct object_files *files)
{
	bool blocked = false, changed;

	for (size_t i = 0; i < files->count && !blocked; i++)
		blocked = files->items[i]->blocked;
	if (!blocked || !dir_enter(files))
		return false;
	changed = blocked_retry(files);
	dir_leave(files);
	return changed;
}

/* What a file held when it was good, from its copy. */
static int file_recover(struct object_files *files, struct object_file *file, struct errmsg *err)
{
	struct load load = { .file = file };
	struct problems problems = { 0 };
	bool changed = false;
	size_t failed;
	int ret;

	ret = object_store_get(files->run_dir, file->source.name, &load.text, &load.len, err);
	if (ret)
		return ret;
	ret = objects_parse(load.text, load.len, 0, &load.list, &problems);
	problems_done(&problems);
	if (ret) {
		fail(err, ret, "its copy");
	} else {
		list_sort(&load.list);
		load.hash = file_checksum(load.text, load.len) | 1;
		ret = loads_apply(files, &load, 1, &failed, &changed, err);
	}
	load_done(&load);
	return ret;
}

void object_files_recover(struct object_files *files)
{
	for (size_t i = 0; i < files->count; i++) {
		struct object_file *file = files->items[i];
		struct errmsg err = { 0 };

		if (!file->error || file->hash)
			continue;
		file->unknown = file_recover(files, file, &err) != 0;
		if (file->unknown)
			log_warn("%s: its earlier objects are not known: %s", file->source.name,
				 err.text);
		else
			log_info("%s: its earlier objects stay in force", file->source.name);
	}
}

/* ---- names ----------------------------------------------------------------------------------- */

void object_names_free(char **names, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(names[i]);
	free(names);
}

static int name_compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* A growing list of names, each owned. */
struct name_list {
	char **items;
	size_t count;
	size_t room;
};

static void name_add(struct name_list *names, const char *name)
{
	array_room(&names->items, names->count, &names->room, sizeof(char *));
	names->items[names->count++] = xstrdup(name);
}

/* The names of its object files that are not known yet; *ret_known: one of the known is there. */
static int dir_read(const struct object_files *files, DIR *dir, struct name_list *names,
		    bool *ret_known)
{
	const struct dirent *entry;

	for (;;) {
		errno = 0;
		entry = readdir(dir);
		if (!entry)
			return -errno;
		if (!object_watch_is_file(entry->d_name))
			continue;
		if (object_files_find(files, entry->d_name))
			*ret_known = true;
		else
			name_add(names, entry->d_name);
	}
}

int object_files_list(struct object_files *files, char ***ret_names, size_t *ret_count,
		      struct errmsg *err)
{
	DIR *dir = opendir(files->dir);
	struct name_list names = { 0 };
	struct directory_id id;
	bool known = false;
	int ret;

	if (!dir) {
		ret = -errno;
		if (ret == -ENOENT)
			files->dir_id = (struct directory_id){ 0 };
		return fail(err, ret, "%s", files->dir);
	}
	ret = dir_identify(dirfd(dir), "", &id);
	if (!ret)
		ret = dir_read(files, dir, &names, &known);
	if (ret)
		fail(err, ret, "%s", files->dir);
	else if (files->count && !known && !names.count && !dir_is_same(files, dirfd(dir), ""))
		ret = fail_plain(err, -ESTALE,
				 "%s: a different directory than before, and it is empty",
				 files->dir);
	closedir(dir);
	if (ret) {
		object_names_free(names.items, names.count);
		return ret;
	}
	for (size_t i = 0; i < files->count; i++)
		name_add(&names, files->items[i]->source.name);
	if (names.count)
		qsort(names.items, names.count, sizeof(char *), name_compare);
	files->dir_id = id;
	*ret_names = names.items;
	*ret_count = names.count;
	return 0;
}
