/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects put through the API.  Each keeps the text it was given as; all texts are in
 * RUN_DIR/objects.json, which is written before a change is confirmed.
 */
#define LOG_MODULE "objects"
#include <cjson/cJSON.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <utlist.h>

#include "agent/objects/object_store.h"
#include "agent/objects/object_text.h"
#include "agent/objects/objects_internal.h"
#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/task.h"
#include "policy/objects/object_items.h"
#include "policy/objects/parse.h"

struct api_object {
	struct object_source source; /* first: struct object's source points here */
	char *json;
	struct api_object *prev; /* of the list of all that are in the store */
	struct api_object *next;
};

static void api_object_free(struct api_object *item)
{
	if (!item)
		return;
	free(item->json);
	free(item);
}

static struct api_object *api_object_of(const struct object *object)
{
	return (struct api_object *)object_source_of(object);
}

static uint64_t api_object_hash(const struct api_object *item)
{
	return file_checksum(item->json, strlen(item->json));
}

static const char *api_path(const struct objects *objects, char *buf, size_t size)
{
	snprintf(buf, size, "%s/objects.json", objects->files.run_dir);
	return buf;
}

/* ---- objects.json ---------------------------------------------------------------------------- */

static int api_save(const struct objects *objects, struct errmsg *err)
{
	auto_free char *text = NULL;
	const struct api_object *item;
	char path[PATH_MAX];
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		out_of_memory(0);
	fprintf(out, "{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [\n");
	DL_FOREACH (objects->api, item)
		fprintf(out, "%s%s\n", item->json, item->next ? "," : "");
	fprintf(out, "]}\n");
	if (fclose(out))
		out_of_memory(len);
	if (len > OBJECT_FILE_MAX)
		return fail_plain(err, -ENOSPC, "objects put through the API: more than %u MiB",
				  OBJECT_FILE_MAX >> 20);
	return file_write_checked(api_path(objects, path, sizeof(path)), text, len, 0600,
				  FILE_DURABLE, err);
}

/* ---- putting --------------------------------------------------------------------------------- */

/* Objects on their way into the store, and those they replace. */
struct put {
	struct object_list list;
	struct object_change change;
	struct api_object **added; /* as many as objects */
	size_t added_count;        /* that are in the list of all */
	struct api_object **replaced;
	size_t replaced_count;
};

static void put_undo(struct objects *objects, struct put *put)
{
	object_change_undo(&put->change);
	for (size_t i = 0; i < put->added_count; i++)
		DL_DELETE(objects->api, put->added[i]);
	for (size_t i = 0; i < put->replaced_count; i++)
		DL_APPEND(objects->api, put->replaced[i]);
	for (size_t i = 0; put->added && i < put->list.count; i++)
		api_object_free(put->added[i]);
	free(put->added);
	free(put->replaced);
	object_list_done(&put->list);
}

static void put_commit(struct put *put, struct object_touched *touched)
{
	object_change_commit(&put->change, touched);
	for (size_t i = 0; i < put->replaced_count; i++)
		api_object_free(put->replaced[i]);
	free(put->replaced);
	free(put->added);
	object_list_done(&put->list);
}

/* An object that a file holds is the file's. */
static int check_is_api(const struct object *object, struct errmsg *err)
{
	char label[600];

	if (object_source_of(object)->kind == OBJECT_SOURCE_API)
		return 0;
	return fail_plain(err, -EPERM, "%s is given by %s%s: change it there",
			  object_label(object, label, sizeof(label)),
			  object_source_of(object)->kind == OBJECT_SOURCE_FILE ? "the file " : "",
			  object_source_of(object)->name);
}

static int put_parse(const char *text, size_t len, struct object_list *ret_list, struct errmsg *err)
{
	struct problems problems = { 0 };
	int ret = objects_parse(text, len, 0, ret_list, &problems);
	char line[sizeof(err->text)];

	if (ret == -EINVAL) {
		object_problems_text(&problems, NULL, line, sizeof(line));
		fail_plain(err, ret, "%s", line);
	} else if (ret) {
		fail(err, ret, "read objects");
	}
	problems_done(&problems);
	if (!ret && ret_list->documents == 0)
		ret = fail_plain(err, -EINVAL, "no objects, not even an empty List");
	return ret;
}

static int put_take(struct objects *objects, struct put *put, struct errmsg *err)
{
	for (size_t i = 0; i < put->list.count; i++) {
		const struct object *object = put->list.items[i];
		const struct object *held = store_find(objects->files.store, object->kind,
						       object->namespace, object->name);
		struct api_object *item;
		int ret;

		if (!held)
			continue;
		ret = check_is_api(held, err);
		if (ret)
			return ret;
		item = api_object_of(held);
		ret = object_change_take(&put->change, held, api_object_hash(item));
		if (ret)
			return fail(err, ret, "replace objects");
		DL_DELETE(objects->api, item);
		put->replaced[put->replaced_count++] = item;
	}
	return 0;
}

static struct api_object *api_object_new(const cJSON *json)
{
	struct api_object *item = xcalloc(1, sizeof(*item));

	item->source = (struct object_source){ .kind = OBJECT_SOURCE_API, .name = "api" };
	item->json = cJSON_PrintUnformatted(json);
	if (!item->json)
		out_of_memory(0);
	return item;
}

/* The texts of the objects, in their order: they come in the same one, but for what is skipped. */
static int put_texts(struct put *put, const char *text, size_t len, struct errmsg *err)
{
	auto_json cJSON *items = object_items(text, len);

	if (!items)
		return fail(err, -ENOMEM, "put objects");
	put->added = xcalloc(put->list.count, sizeof(*put->added));
	for (size_t i = 0; i < put->list.count; i++) {
		const struct object *object = put->list.items[i];
		const cJSON *json = object_text_find(items->child, object->kind, object->namespace,
						     object->name);

		if (!json)
			return fail_plain(err, -EINVAL, "%s: it has no text", object->name);
		put->added[i] = api_object_new(json);
		cJSON_Delete(cJSON_DetachItemViaPointer(items, (cJSON *)json));
		task_pause_now();
	}
	return 0;
}

static int put_add(struct objects *objects, struct put *put, struct errmsg *err)
{
	for (size_t i = 0; i < put->list.count; i++) {
		struct object *object = take_ptr(put->list.items[i]);
		struct api_object *item = put->added[i];
		int ret;

		DL_APPEND(objects->api, item);
		put->added_count++;
		ret = object_change_put(&put->change, object, &item->source, api_object_hash(item),
					err);
		if (ret)
			return ret;
	}
	return 0;
}

/* Puts all objects of a text into the store, so that it can still be undone. */
static int put_begin(struct objects *objects, const struct object_author *author, const char *text,
		     size_t len, struct put *put, struct errmsg *err)
{
	int ret;

	*put = (struct put){ 0 };
	object_change_begin(&put->change, objects->files.store, author);
	ret = put_parse(text, len, &put->list, err);
	if (ret)
		return ret;
	put->replaced = xcalloc(put->list.count, sizeof(*put->replaced));
	ret = put_texts(put, text, len, err);
	if (!ret)
		ret = put_take(objects, put, err);
	if (!ret)
		ret = put_add(objects, put, err);
	if (ret)
		put_undo(objects, put);
	return ret;
}

/* While objects.json is damaged, writing it would lose what it holds. */
static int check_store(const struct objects *objects, struct errmsg *err)
{
	if (objects->api_error[0])
		return fail_plain(err, -EIO, "%s: repair or remove it and restart the agent",
				  objects->api_error);
	return 0;
}

/* What is stored stays stored when maps are full: it is retried with every change. */
static int api_sync(struct objects *objects, struct errmsg *err)
{
	int ret;

	objects->kube.interest_in_doubt = true;
	ret = objects_sync(objects, err);
	if (ret)
		wrap(err, "stored, but not completely in force");
	objects_unblock(objects);
	return ret;
}

/* While the file was being written, others may have brought the maps in line with the store. */
static void undo_sync(struct objects *objects)
{
	struct errmsg err = { 0 };

	objects->touched.policies = true;
	objects->touched.all_services = true;
	if (objects_sync(objects, &err))
		log_error("%s", err.text);
}

int objects_put(struct objects *objects, const struct object_author *author, const char *json,
		size_t len, size_t *ret_count, struct errmsg *err)
{
	struct put put;
	size_t count;
	int ret;

	ret = check_store(objects, err);
	if (ret)
		return ret;
	ret = put_begin(objects, author, json, len, &put, err);
	if (ret)
		return ret;
	ret = api_save(objects, err);
	if (ret) {
		put_undo(objects, &put);
		undo_sync(objects);
		return ret;
	}
	count = put.list.count;
	put_commit(&put, &objects->touched);
	ret = api_sync(objects, err);
	if (!ret)
		*ret_count = count;
	return ret;
}

int objects_del(struct objects *objects, const struct object_author *author, enum object_kind kind,
		const char *namespace, const char *name, struct errmsg *err)
{
	const struct object *object = store_find(objects->files.store, kind, namespace, name);
	struct object_change change;
	struct api_object *item;
	int ret;

	if (!object)
		return fail_plain(err, -ENOENT, "%s %s%s%s: there is none", object_kind_name(kind),
				  namespace, *namespace ? "/" : "", name);
	ret = check_is_api(object, err);
	if (!ret)
		ret = check_store(objects, err);
	if (ret)
		return ret;
	item = api_object_of(object);
	object_change_begin(&change, objects->files.store, author);
	ret = object_change_take(&change, object, api_object_hash(item));
	if (ret)
		return fail(err, ret, "delete %s", name);
	DL_DELETE(objects->api, item);
	ret = api_save(objects, err);
	if (ret) {
		DL_APPEND(objects->api, item);
		object_change_undo(&change);
		undo_sync(objects);
		return ret;
	}
	object_change_commit(&change, &objects->touched);
	api_object_free(item);
	return api_sync(objects, err);
}

struct cJSON *object_api_get(const struct object *object)
{
	return cJSON_Parse(api_object_of(object)->json);
}

/* ---- life ------------------------------------------------------------------------------------ */

void object_api_load(struct objects *objects)
{
	auto_free char *text = NULL;
	struct errmsg problem = { 0 };
	char path[PATH_MAX];
	struct put put;
	size_t len;
	int ret;

	api_path(objects, path, sizeof(path));
	ret = file_read_checked(path, OBJECT_FILE_MAX, &text, &len, NULL, &problem);
	if (ret == -ENOENT)
		return;
	if (!ret)
		ret = put_begin(objects, NULL, text, len, &put, &problem);
	if (ret) {
		/* The agent runs without; nothing is written over what a person may repair. */
		if (!strstr(problem.text, path))
			wrap(&problem, "%s", path);
		snprintf(objects->api_error, sizeof(objects->api_error), "%s", problem.text);
		log_error("%s", objects->api_error);
		return;
	}
	put_commit(&put, &objects->touched);
}

void object_api_done(struct objects *objects)
{
	struct api_object *item, *next;

	DL_FOREACH_SAFE (objects->api, item, next)
		api_object_free(item);
	objects->api = NULL;
}
