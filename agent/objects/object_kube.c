/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A batch is a text of lines like those of a watch.  Each object is taken for itself: what is wrong
 * with one says nothing about the others.  A policy that is not understood is closed
 * (object_closed.h).
 */
#define LOG_MODULE "kube"
#include "agent/objects/object_kube.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <utlist.h>

#include "agent/objects/object_closed.h"
#include "agent/objects/object_interest.h"
#include "agent/objects/object_pack.h"
#include "agent/objects/object_waiting.h"
#include "agent/objects/objects_internal.h"
#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "lib/reader.h"
#include "policy/objects/parse.h"

#define SILENT_S 15 /* the client sends something every 5 s */

static void kube_object_free(struct objects *objects, struct kube_object *item)
{
	/* NOLINTNEXTLINE(*NullDereference): every item has one before it, the first the last */
	DL_DELETE(objects->kube.list, item);
	objects->kube.closed -= item->closed;
	free(item);
}

/* ---- events ---------------------------------------------------------------------------------- */

static int ref_read(const cJSON *json, struct object_ref *ret, struct errmsg *err)
{
	const struct json_node root = json_root(json);
	const struct json_node kind = json_member(&root, "kind");
	const struct json_node metadata = json_member(&root, "metadata");
	const struct json_node namespace = json_member(&metadata, "namespace");
	const struct json_node name = json_member(&metadata, "name");
	struct reader reader = { .err = err };
	const char *kind_name = read_required_string(&reader, &kind);
	const char *namespace_text = read_string(&reader, &namespace);

	ret->namespace = namespace_text ? namespace_text : "";
	ret->name = read_required_string(&reader, &name);
	if (object_kind_parse(kind_name, &ret->kind) < 0)
		reader_fail(&reader, -EINVAL, "%.100s: an unknown kind", kind_name);
	return reader.ret;
}

struct batch {
	struct objects *objects;
	size_t applied;
	bool synced;
	cJSON *refused; /* for the answer */
};

static void batch_refuse(struct batch *batch, const char *text)
{
	cJSON *json = cJSON_CreateObject();

	cJSON_AddStringToObject(json, "error", text);
	cJSON_AddItemToArray(batch->refused, json);
	log_warn("%s", text);
}

/* Takes what the source has under this name out of the store. */
static int held_take(struct object_change *change, const struct object *held, struct errmsg *err)
{
	char label[600];

	if (object_source_of(held)->kind != OBJECT_SOURCE_KUBE)
		return fail_plain(err, -EPERM, "%s: it is already given by %s",
				  object_label(held, label, sizeof(label)),
				  object_source_of(held)->name);
	return object_change_take(change, held, 0);
}

int kube_object_put(struct objects *objects, struct object *object, const char *text, bool closed,
		    struct errmsg *err)
{
	const struct object *held =
		store_find(objects->files.store, object->kind, object->namespace, object->name);
	size_t size = strlen(text) + 1;
	struct kube_object *old = NULL, *item = xmalloc(sizeof(*item) + size);
	struct object_change change;
	int ret = 0;

	*item = (struct kube_object){
		.source = { .name = "kubernetes", .kind = OBJECT_SOURCE_KUBE },
		.closed = closed,
		.object = object,
	};
	memcpy(item->json, text, size);
	DL_APPEND(objects->kube.list, item);
	objects->kube.closed += closed;
	object_change_begin(&change, objects->files.store, NULL); /* the API server logs */
	if (held) {
		ret = held_take(&change, held, err);
		if (ret)
			object_free(object);
		else
			old = kube_object_of(held);
	}
	if (!ret)
		ret = object_change_put(&change, object, &item->source, 0, err);
	if (ret) {
		object_change_undo(&change);
		kube_object_free(objects, item);
		return ret;
	}
	objects->kube.freed |= held || (object->kind == OBJECT_NAMESPACE && objects->kube.waiting);
	kube_interest_doubt(objects, object);
	if (held)
		kube_interest_doubt(objects, held);
	if (old)
		kube_object_free(objects, old);
	object_change_commit(&change, &objects->touched);
	return 0;
}

static void object_delete(struct objects *objects, const struct object *object)
{
	struct kube_object *item = kube_object_of(object);
	struct object_change change;

	kube_interest_doubt(objects, object);
	object_change_begin(&change, objects->files.store, NULL); /* the API server logs */
	if (object_change_take(&change, object, 0)) {
		object_change_undo(&change);
		return;
	}
	object_change_commit(&change, &objects->touched);
	objects->kube.freed = true;
	kube_object_free(objects, item);
}

/* After the client has begun anew most objects are as they were. */
static bool is_known(const struct objects *objects, const struct object *object, const char *text)
{
	const struct object *held =
		store_find(objects->files.store, object->kind, object->namespace, object->name);
	struct kube_object *item;

	if (!held || object_source_of(held)->kind != OBJECT_SOURCE_KUBE)
		return false;
	item = kube_object_of(held);
	if (strcmp(item->json, text) != 0)
		return false;
	item->stale = false;
	return true;
}

/* The object that goes into the store; NULL: none.  What is wrong with it goes to line. */
static struct object *object_make(const cJSON *json, bool *ret_closed, char *line, size_t size)
{
	struct problems problems = { 0 };
	struct errmsg unnamed = { 0 };
	struct object *object = NULL;
	struct object_ref ref;
	bool understood = object_parse(json, 0, &object, &problems) == 0;

	*ret_closed = false;
	*line = '\0';
	if (!understood) {
		object_problems_text(&problems, NULL, line, size);
		if (ref_read(json, &ref, &unnamed) == 0)
			object = object_closed(ref.kind, ref.namespace, ref.name, json);
		*ret_closed = object != NULL;
	}
	problems_done(&problems);
	return object;
}

/* The events of a Pod and of its Namespace come in any order.  Without the labels of the Namespace
 * policies that select by them would not know the pod: until then the pod itself is not known. */
static bool awaits_namespace(const struct objects *objects, const struct object *object)
{
	const struct store *store = objects->files.store;

	return objects->kube.synced && object->kind == OBJECT_POD &&
	       !store_find(store, OBJECT_NAMESPACE, "", object->namespace) &&
	       !store_find(store, OBJECT_POD, object->namespace, object->name);
}

static void event_modified(struct batch *batch, const cJSON *json)
{
	auto_free char *printed = cJSON_PrintUnformatted(json);
	auto_free char *text = printed ? object_pack(printed) : NULL;
	struct errmsg err = { 0 };
	struct object_ref ref;
	struct object *object;
	char line[sizeof(err.text)];
	bool closed;

	if (!text)
		out_of_memory(0);
	object = object_make(json, &closed, line, sizeof(line));
	if (*line) {
		auto_free char *refusal =
			xasprintf("%s%s", line,
				  object ? "; until it is understood it denies everything" : "");

		batch_refuse(batch, refusal);
		kube_report_refused(batch->objects, json, "NotUnderstood", refusal);
	}
	if (!object || ref_read(json, &ref, &err) < 0)
		return;
	kube_waiting_forget(&batch->objects->kube, &ref);
	if (is_known(batch->objects, object, text)) {
		object_free(object);
		batch->applied++;
	} else if (awaits_namespace(batch->objects, object)) {
		object_free(object);
		kube_waiting_add(&batch->objects->kube, &ref, take_ptr(text));
		batch->applied++;
	} else if (kube_object_put(batch->objects, object, text, closed, &err) < 0) {
		batch_refuse(batch, err.text);
		kube_report_refused(batch->objects, json, "NotInForce", err.text);
		kube_waiting_add(&batch->objects->kube, &ref, take_ptr(text));
	} else {
		batch->applied += !closed;
	}
}

bool object_kube_retry(struct objects *objects)
{
	bool changed = false, progress;

	objects->kube.freed = false;
	do {
		struct kube_waiting *item, *next;

		progress = false;
		DL_FOREACH_SAFE (objects->kube.waiting, item, next) {
			auto_json cJSON *json = object_unpack(item->json);
			struct errmsg err = { 0 };
			char line[sizeof(err.text)];
			bool closed;
			struct object *object = object_make(json, &closed, line, sizeof(line));

			if (object && awaits_namespace(objects, object)) {
				object_free(object);
				continue;
			}
			if (!object ||
			    kube_object_put(objects, object, item->json, closed, &err) < 0)
				continue;
			kube_waiting_free(&objects->kube, item);
			progress = true;
		}
		changed |= progress;
	} while (progress);
	return changed;
}

static void event_deleted(struct batch *batch, const cJSON *json)
{
	struct objects *objects = batch->objects;
	const struct object *held;
	struct errmsg err = { 0 };
	struct object_ref ref;

	if (ref_read(json, &ref, &err) < 0) {
		batch_refuse(batch, err.text);
		return;
	}
	kube_waiting_forget(&objects->kube, &ref);
	held = store_find(objects->files.store, ref.kind, ref.namespace, ref.name);
	if (held && object_source_of(held)->kind == OBJECT_SOURCE_KUBE)
		object_delete(objects, held);
	batch->applied++;
}

static int event_reset(struct objects *objects, const struct json_node *object, struct errmsg *err)
{
	const struct json_node node = json_member(object, "node");
	struct reader reader = { .err = err };
	const char *name = read_string(&reader, &node);
	struct kube_object *item;

	if (reader.ret)
		return reader.ret;
	snprintf(objects->kube.node, sizeof(objects->kube.node), "%s", name ? name : "");
	objects->kube.begun = true;
	objects->kube.listed = false;
	DL_FOREACH (objects->kube.list, item)
		item->stale = true;
	kube_waiting_mark(&objects->kube);
	return 0;
}

void kube_objects_expire(struct objects *objects,
			 bool (*go)(const struct objects *objects, const struct object *object))
{
	struct kube_object *item, *next;

	DL_FOREACH_SAFE (objects->kube.list, item, next) {
		if (item->stale && go(objects, item->object))
			object_delete(objects, item->object);
	}
}

/* What belongs to other nodes is not told before SYNCED, but when the client was asked for it. */
static bool is_listed(const struct objects *objects, const struct object *object)
{
	const char *node = objects->kube.node;

	if (!*node)
		return true;
	return !(object->kind == OBJECT_POD && strcmp(object->pod.node_name, node) != 0) &&
	       !(object->kind == OBJECT_NODE && strcmp(object->name, node) != 0);
}

static void event_synced(struct objects *objects)
{
	kube_waiting_drop(&objects->kube, true);
	kube_objects_expire(objects, is_listed);
	kube_interest_listed(objects);
}

static int event_known(struct batch *batch, const struct json_node *object, struct errmsg *err)
{
	const struct json_node node = json_member(object, "number");
	struct reader reader = { .err = err };
	int64_t number = read_integer(&reader, &node, 0, UINT32_MAX, -1);

	if (reader.ret)
		return reader.ret;
	kube_interest_known(batch->objects, number);
	batch->synced = true;
	return 0;
}

static int event_take(struct batch *batch, const cJSON *event, struct errmsg *err)
{
	struct objects *objects = batch->objects;
	const struct json_node root = json_root(event);
	const struct json_node type_node = json_member(&root, "type");
	const struct json_node object_node = json_member(&root, "object");
	const struct json_node problem_node = json_member(&object_node, "problem");
	struct reader reader = { .err = err };
	const char *type = read_required_string(&reader, &type_node);
	const char *problem;

	if (reader.ret)
		return reader.ret;
	if (strcmp(type, "RESET") == 0)
		return event_reset(objects, &object_node, err);
	/* A client that was there before this agent knows of objects that this agent does not. */
	if (!objects->kube.begun)
		return fail_plain(err, -EPERM, "this agent has started since: begin with RESET");
	if (strcmp(type, "SYNCED") == 0) {
		event_synced(objects);
		batch->synced = true;
		return 0;
	}
	if (!read_required(&reader, &object_node) || !read_is_object(&reader, &object_node))
		return reader.ret;
	if (strcmp(type, "KNOWN") == 0) {
		return event_known(batch, &object_node, err);
	} else if (strcmp(type, "MODIFIED") == 0) {
		event_modified(batch, object_node.value);
	} else if (strcmp(type, "DELETED") == 0) {
		event_deleted(batch, object_node.value);
	} else if (strcmp(type, "STATUS") == 0) {
		problem = read_string(&reader, &problem_node);
		snprintf(objects->kube.problem, sizeof(objects->kube.problem), "%s",
			 problem ? problem : "");
	} else {
		reader_error(&reader, &type_node, "\"%s\" is none", type);
	}
	return reader.ret;
}

/* Lines up to one that is malformed; those before it stay taken, as the answer says. */
static int events_take(struct batch *batch, const char *text, size_t len, struct errmsg *err)
{
	size_t number = 1;

	while (len > 0) {
		const char *end = memchr(text, '\n', len);
		size_t part = end ? (size_t)(end - text) : len;
		auto_json cJSON *event = NULL;
		int ret = json_parse(text, part, &event, err);

		if (!ret)
			ret = event_take(batch, event, err);
		if (ret)
			return wrap(err, "line %zu", number);
		part += end != NULL;
		text += part;
		len -= part;
		number++;
	}
	return 0;
}

int objects_kube_put(struct objects *objects, const char *text, size_t len,
		     struct cJSON **ret_answer, struct errmsg *err)
{
	struct batch batch = { .objects = objects, .refused = cJSON_CreateArray() };
	cJSON *answer = cJSON_CreateObject();
	struct errmsg full = { 0 };
	int ret = 0;

	cJSON_AddItemToObject(answer, "refused", batch.refused);
	if (!objects->kube.enabled)
		ret = fail_plain(err, -EPERM,
				 "this agent does not follow Kubernetes: set \"kubernetes\"");
	if (!ret)
		ret = events_take(&batch, text, len, err);
	if (objects->kube.freed) {
		object_kube_retry(objects);
		object_files_unblock(&objects->files);
	}
	objects->kube.heard_ns = now_ns();
	kube_interest_update(objects);
	objects->kube.synced |= objects->kube.listed && kube_interest_is_known(objects);
	objects_know(objects);
	/* Before everything is known the maps stay as they are; then they are written once. */
	if (objects->kube.synced && objects_sync(objects, &full))
		batch_refuse(&batch, full.text); /* tried again with every change */
	if (batch.synced)
		malloc_trim(0); /* lists take memory that changes do not */
	if (ret) {
		cJSON_Delete(answer);
		return ret;
	}
	cJSON_AddNumberToObject(answer, "applied", (double)batch.applied);
	*ret_answer = answer;
	return 0;
}

/* ---- views ----------------------------------------------------------------------------------- */

void object_kube_done(struct objects *objects)
{
	struct kube_object *item, *next;

	kube_waiting_drop(&objects->kube, false);
	kube_interest_done(objects);
	DL_FOREACH_SAFE (objects->kube.list, item, next)
		kube_object_free(objects, item);
}

const char *object_kube_missing(const struct object_kube *kube)
{
	return kube->enabled && !kube->synced
		       ? "the objects of the Kubernetes API server are not known yet"
		       : "";
}

const struct object *objects_own_node(const struct objects *objects)
{
	const char *node = objects->kube.node;

	return *node ? store_find(objects->files.store, OBJECT_NODE, "", node) : NULL;
}

struct cJSON *object_kube_get(const struct object *object)
{
	return object_unpack(kube_object_of(object)->json);
}

struct cJSON *objects_kube_status(const struct objects *objects)
{
	const struct object_kube *kube = &objects->kube;
	uint64_t silent_s = (now_ns() - kube->heard_ns) / 1000000000;
	const struct kube_object *item;
	size_t count = 0;
	cJSON *json;

	if (!kube->enabled)
		return NULL;
	json = cJSON_CreateObject();
	DL_FOREACH (kube->list, item)
		count++;
	cJSON_AddStringToObject(json, "state",
				!kube->heard_ns       ? "waiting"
				: silent_s > SILENT_S ? "silent"
				: kube->synced        ? "synced"
						      : "listing");
	cJSON_AddNumberToObject(json, "objects", (double)count);
	cJSON_AddNumberToObject(json, "closedPolicies", (double)kube->closed);
	if (kube->heard_ns)
		cJSON_AddNumberToObject(json, "heardSecondsAgo", (double)silent_s);
	if (*kube->problem)
		cJSON_AddStringToObject(json, "problem", kube->problem);
	return json;
}
