/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sources together: watches the directory, hands what changed to object_file.c, and brings the
 * maps in line with what was touched.
 */
#define LOG_MODULE "objects"
#include "agent/objects/objects.h"

#include <cjson/cJSON.h>
#include <errno.h>

#include "agent/objects/object_audit.h"
#include "agent/objects/object_await.h"
#include "agent/objects/object_interest.h"
#include "agent/objects/object_store.h"
#include "agent/objects/object_watch.h"
#include "agent/objects/objects_internal.h"
#include "agent/sync/sync.h"
#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "lib/task.h"

/* ---- maps ------------------------------------------------------------------------------------ */

static int services_sync(struct objects *objects, struct errmsg *err)
{
	const struct object_touched *touched = &objects->touched;
	struct sync *sync = objects->sync;
	int ret = 0;

	if (touched->all_services)
		return sync_services(sync, err);
	for (size_t i = 0; i < touched->service_count; i++) {
		/* The first error is told; the others are in status. */
		int this_ret = sync_service(sync, touched->services[i].namespace,
					    touched->services[i].name, ret ? NULL : err);

		ret = ret ? ret : this_ret;
	}
	return ret;
}

static const struct histogram_bounds sync_bounds = {
	10, { .0005, .001, .0025, .005, .01, .025, .1, .5, 2.5, 10 }
};

void objects_sync_metrics(const struct objects *objects, struct buffer *out)
{
	buffer_string(out, "# HELP tendril_object_sync_seconds From a change of an object, as it "
			   "reached the agent, until it is in force.\n"
			   "# TYPE tendril_object_sync_seconds histogram\n");
	histogram_print(&objects->sync_times, &sync_bounds, "tendril_object_sync_seconds", "", out);
}

int objects_sync(struct objects *objects, struct errmsg *err)
{
	int ret = 0, services_ret = 0;

	kube_interest_update(objects);
	sync_set_all_pods(objects->sync, kube_knows_all_pods(objects));
	if (objects->touched.policies && objects->touched.all_services) {
		ret = sync_everything(objects->sync, err);
	} else {
		if (objects->touched.policies)
			ret = sync_policies(objects->sync, err);
		services_ret = services_sync(objects, ret ? NULL : err);
	}
	if (objects->touched.since_ns)
		histogram_add(&objects->sync_times, &sync_bounds,
			      (double)(now_ns() - objects->touched.since_ns) / 1e9);
	object_audit_write(objects->base, take_ptr(objects->touched.audit));
	if (objects->touched.nodes && objects->nodes_changed)
		objects->nodes_changed(objects->arg);
	object_touched_done(&objects->touched);
	kube_awaits_look(objects);
	return ret ? ret : services_ret;
}

/* For changes that nobody waits for: a problem is logged once, not with every change. */
static void sync_and_log(struct objects *objects)
{
	struct errmsg err = { 0 };

	if (objects_sync(objects, &err) && strcmp(err.text, objects->sync_error) != 0)
		log_error("%s", err.text);
	snprintf(objects->sync_error, sizeof(objects->sync_error), "%s", err.text);
}

/* ---- the directory --------------------------------------------------------------------------- */

/* Files whose objects were in force when the agent stopped come first: who was first stays. */
static void names_prefer_accepted(const struct objects *objects, char **names, size_t count)
{
	size_t first = 0;

	for (size_t i = 0; i < count; i++) {
		char *name = names[i];

		if (!object_store_has(objects->files.run_dir, name))
			continue;
		memmove(&names[first + 1], &names[first], (i - first) * sizeof(*names));
		names[first++] = name;
	}
}

static bool files_update(struct objects *objects, const char *const *names, size_t count)
{
	object_cache_drop(&objects->cache);
	return object_files_update(&objects->files, names, count);
}

static bool directory_read(struct objects *objects, bool at_start)
{
	struct object_files *files = &objects->files;
	bool changed = false;
	size_t count = 0;
	char **names = NULL;
	struct errmsg err = { 0 };

	if (object_files_list(files, &names, &count, &err)) {
		/* Not knowing is no reason to forget. */
		if (strcmp(objects->dir_error, err.text) != 0)
			log_error("%s; what is in force stays", err.text);
		snprintf(objects->dir_error, sizeof(objects->dir_error), "%s", err.text);
		objects->dir_unread |= at_start;
		return false;
	}
	objects->dir_error[0] = '\0';
	if (at_start)
		names_prefer_accepted(objects, names, count);
	changed = files_update(objects, (const char *const *)names, count);
	object_names_free(names, count);
	objects->dir_unread = false;
	return changed;
}

static void unknown_find(struct objects *objects)
{
	const char *text = objects->api_error, *name = "";

	if (!*text && objects->dir_unread)
		text = objects->dir_error;
	for (size_t i = 0; i < objects->files.count && !*text; i++) {
		const struct object_file *file = objects->files.items[i];

		if (!file->unknown)
			continue;
		text = file->error;
		name = strstr(text, file->source.name) ? "" : file->source.name;
	}
	if (!*text)
		text = object_kube_missing(&objects->kube);
	snprintf(objects->unknown, sizeof(objects->unknown), "%s%s%s", name, *name ? ": " : "",
		 text);
}

bool objects_know(struct objects *objects)
{
	bool was_unknown = *objects->unknown;

	unknown_find(objects);
	sync_set_missing(objects->sync, objects_unknown(objects));
	if (!was_unknown || *objects->unknown)
		return false;
	objects->touched.policies = true;
	objects->touched.nodes = true;
	objects->touched.all_services = true;
	if (objects->complete)
		objects->complete(objects->arg);
	return true;
}

/* After the files were read: brings the maps in line. */
static void files_read(struct objects *objects, bool changed)
{
	changed |= object_kube_retry(objects);
	objects->kube.interest_in_doubt |= changed;
	if (objects_know(objects) || changed)
		sync_and_log(objects);
	task_pause_now();
	object_files_trim(&objects->files);
}

static void events_handle(void *arg)
{
	struct objects *objects = arg;
	const struct object_events *events = &objects->events;
	bool changed;

	if (events->all || !object_files_dir_is_same(&objects->files)) {
		object_watch_refresh(objects->watch);
		changed = directory_read(objects, false);
	} else {
		changed = files_update(objects, events->names, events->count);
	}
	if (objects->files.busy)
		object_watch_again(objects->watch);
	files_read(objects, changed);
	object_watch_done(objects->watch);
}

static void on_changed(const struct object_events *events, void *arg)
{
	struct objects *objects = arg;

	objects->events = *events;
	task_run(objects->base, events_handle, objects);
}

void objects_reload(struct objects *objects)
{
	object_watch_refresh(objects->watch);
	files_read(objects, directory_read(objects, false));
}

void objects_unblock(struct objects *objects)
{
	files_read(objects, object_files_unblock(&objects->files));
}

/* ---- life ------------------------------------------------------------------------------------ */

static bool file_is_known(const char *name, void *arg)
{
	const struct objects *objects = arg;

	return object_files_find(&objects->files, name);
}

DEFINE_AUTO(objects)

int objects_new(const struct objects_options *options, struct objects **ret_objects,
		struct errmsg *err)
{
	auto_(objects) struct objects *objects = xcalloc(1, sizeof(*objects));
	int ret;

	objects->base = options->base;
	objects->sync = options->sync;
	objects->complete = options->complete;
	objects->nodes_changed = options->nodes_changed;
	objects->arg = options->arg;
	objects->kube.enabled = options->kubernetes;
	objects->kube.await_s = options->pod_wait_s;
	objects->kube.all_nodes = options->all_nodes;
	if (options->node_key)
		objects->kube.node_key = *options->node_key;
	objects->files = (struct object_files){
		.dir = options->dir,
		.run_dir = options->run_dir,
		.dir_fd = -1,
		.store = options->store,
		.touched = &objects->touched,
	};
	object_cache_init(&objects->cache, options->base, options->run_dir);
	ret = object_store_open(options->run_dir, err);
	if (ret)
		return ret;
	object_api_load(objects);
	/* Watched before it is read: what changes meanwhile is read again. */
	ret = object_watch_new(options->base, options->dir, on_changed, objects, &objects->watch,
			       err);
	if (ret)
		return ret;
	directory_read(objects, true);
	object_files_recover(&objects->files);
	unknown_find(objects);
	if (!objects->dir_error[0])
		object_store_clean(options->run_dir, file_is_known, objects);
	sync_set_missing(options->sync, objects_unknown(objects));
	sync_on_conflicts(options->sync, kube_report_conflict, objects);
	objects->files.audited = true;
	/* The caller writes all maps when every source is there. */
	object_touched_done(&objects->touched);
	*ret_objects = take_ptr(objects);
	return 0;
}

void objects_free(struct objects *objects)
{
	if (!objects)
		return;
	sync_on_conflicts(objects->sync, NULL, NULL);
	object_audit_write(objects->base, take_ptr(objects->touched.audit));
	task_finish_all();
	object_watch_free(objects->watch);
	object_api_done(objects);
	object_kube_done(objects);
	object_cache_done(&objects->cache);
	object_files_done(&objects->files);
	object_touched_done(&objects->touched);
	free(objects);
}

void objects_cleanup(const char *run_dir)
{
	object_store_clean(run_dir, NULL, NULL);
}

const char *objects_unknown(const struct objects *objects)
{
	return *objects->unknown ? objects->unknown : NULL;
}

/* ---- views ----------------------------------------------------------------------------------- */

struct cJSON *objects_get(struct objects *objects, enum object_kind kind, const char *namespace,
			  const char *name)
{
	const struct object *object = store_find(objects->files.store, kind, namespace, name);

	if (!object)
		return NULL;
	switch (object_source_of(object)->kind) {
	case OBJECT_SOURCE_FILE:
		break;
	case OBJECT_SOURCE_API:
		return object_api_get(object);
	case OBJECT_SOURCE_KUBE:
		return object_kube_get(object);
	}
	return object_cache_get(&objects->cache, object_source_of(object)->name, object);
}

const char *objects_source(const struct objects *objects, enum object_kind kind,
			   const char *namespace, const char *name)
{
	const struct object *object = store_find(objects->files.store, kind, namespace, name);

	return object ? object_source_of(object)->name : NULL;
}

static void status_add(cJSON *array, const char *file, size_t count, const char *error)
{
	cJSON *json = cJSON_CreateObject();

	cJSON_AddStringToObject(json, "file", file);
	cJSON_AddStringToObject(json, "state", error && *error ? "refused" : "ok");
	cJSON_AddNumberToObject(json, "objects", (double)count);
	if (error && *error)
		cJSON_AddStringToObject(json, "error", error);
	cJSON_AddItemToArray(array, json);
}

struct cJSON *objects_status(const struct objects *objects)
{
	cJSON *json = cJSON_CreateObject();
	cJSON *array;

	cJSON_AddStringToObject(json, "directory", objects->files.dir);
	array = cJSON_AddArrayToObject(json, "files");
	if (objects->dir_error[0])
		status_add(array, objects->files.dir, 0, objects->dir_error);
	if (objects->api_error[0])
		status_add(array, "objects.json", 0, objects->api_error);
	for (size_t i = 0; i < objects->files.count; i++) {
		const struct object_file *file = objects->files.items[i];

		if (file->hash || file->error) /* else it is being read for the first time */
			status_add(array, file->source.name, file->count, file->error);
	}
	return json;
}
