/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A batch is a text of lines like those of a watch.  Each object is taken for itself: what is wrong
 * with one says nothing about the others.  A policy that cannot be understood, be it newer than
 * this agent or damaged, is replaced by one that lets nothing through: it may close too much, it
 * never opens anything.
 */
#define LOG_MODULE "kube"
#include "agent/objects/object_kube.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <utlist.h>

#include "agent/objects/objects_internal.h"
#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"
#include "policy/objects/parse.h"

#define SILENT_S 15 /* the client sends something every 5 s */

struct kube_object {
	struct object_source source; /* first: struct object's source points here */
	char *json;
	bool closed; /* a policy that lets nothing through stands in the store instead */
	bool stale;  /* the client has begun anew and has not mentioned it yet */
	const struct object *object;
	struct kube_object *prev;
	struct kube_object *next;
};

static void kube_object_free(struct objects *objects, struct kube_object *item)
{
	DL_DELETE(objects->kube.list, item);
	objects->kube.closed -= item->closed;
	free(item->json);
	free(item);
}

static struct kube_object *kube_object_of(const struct object *object)
{
	return (struct kube_object *)object_source_of(object);
}

/* ---- policies that are not understood -------------------------------------------------------- */

static void rule_add_peers(cJSON *rule, const char *key, bool networks)
{
	cJSON *peers = cJSON_AddArrayToObject(rule, key);
	cJSON *peer = cJSON_CreateObject();

	cJSON_AddObjectToObject(peer, "namespaces");
	cJSON_AddItemToArray(peers, peer);
	if (networks) {
		static const char *const all[] = { "0.0.0.0/0", "::/0" };

		peer = cJSON_CreateObject();
		cJSON_AddItemToObject(peer, "networks", cJSON_CreateStringArray(all, 2));
		cJSON_AddItemToArray(peers, peer);
	}
}

static void cluster_policy_close(cJSON *spec)
{
	cJSON *rule;

	cJSON_AddStringToObject(spec, "tier", "Admin");
	cJSON_AddNumberToObject(spec, "priority", 0);
	rule = cJSON_CreateObject();
	cJSON_AddStringToObject(rule, "action", "Deny");
	rule_add_peers(rule, "from", false);
	cJSON_AddItemToArray(cJSON_AddArrayToObject(spec, "ingress"), rule);
	rule = cJSON_CreateObject();
	cJSON_AddStringToObject(rule, "action", "Deny");
	rule_add_peers(rule, "to", true);
	cJSON_AddItemToArray(cJSON_AddArrayToObject(spec, "egress"), rule);
}

/* The policy of this name that lets nothing through: for the pods that the original selects where
 * its selector is understood, for all of its namespace (or of the cluster) where not. */
static struct object *policy_closed(const cJSON *json, bool cluster, const char *key,
				    const cJSON *selector)
{
	const cJSON *metadata = cJSON_GetObjectItemCaseSensitive(json, "metadata");
	auto_json cJSON *closed = cJSON_CreateObject();
	struct problems problems = { 0 };
	struct object *object = NULL;
	cJSON *spec;

	cJSON_AddItemToObject(
		closed, "apiVersion",
		cJSON_Duplicate(cJSON_GetObjectItemCaseSensitive(json, "apiVersion"), true));
	cJSON_AddItemToObject(
		closed, "kind",
		cJSON_Duplicate(cJSON_GetObjectItemCaseSensitive(json, "kind"), true));
	cJSON_AddItemToObject(closed, "metadata", cJSON_Duplicate(metadata, true));
	spec = cJSON_AddObjectToObject(closed, "spec");
	if (selector)
		cJSON_AddItemToObject(spec, key, cJSON_Duplicate(selector, true));
	else if (cluster)
		cJSON_AddObjectToObject(cJSON_AddObjectToObject(spec, key), "namespaces");
	else
		cJSON_AddObjectToObject(spec, key);
	if (cluster)
		cluster_policy_close(spec);
	else
		cJSON_AddItemToObject(
			spec, "policyTypes",
			cJSON_CreateStringArray((const char *const[]){ "Ingress", "Egress" }, 2));
	object_parse(closed, 0, &object, &problems);
	problems_done(&problems);
	return object;
}

/* NULL: not even its name is to be had. */
static struct object *policy_close(const cJSON *json)
{
	const char *kind = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "kind"));
	bool cluster = kind && strcmp(kind, object_kind_name(OBJECT_CLUSTER_POLICY)) == 0;
	const cJSON *spec = cJSON_GetObjectItemCaseSensitive(json, "spec");
	const char *key = cluster ? "subject" : "podSelector";
	const cJSON *selector = cJSON_GetObjectItemCaseSensitive(spec, key);
	struct object *object = selector ? policy_closed(json, cluster, key, selector) : NULL;

	return object ? object : policy_closed(json, cluster, key, NULL);
}

static bool is_policy(const cJSON *json)
{
	const char *kind = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "kind"));

	return kind && (strcmp(kind, object_kind_name(OBJECT_NETWORK_POLICY)) == 0 ||
			strcmp(kind, object_kind_name(OBJECT_CLUSTER_POLICY)) == 0);
}

/* ---- events ---------------------------------------------------------------------------------- */

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

/* Takes object and text. */
static int object_put(struct objects *objects, struct object *object, char *text, bool closed,
		      struct errmsg *err)
{
	const struct object *held =
		store_find(objects->files.store, object->kind, object->namespace, object->name);
	struct kube_object *old = NULL, *item = xcalloc(1, sizeof(*item));
	struct object_change change;
	int ret = 0;

	*item = (struct kube_object){
		.source = { .name = "kubernetes", .kind = OBJECT_SOURCE_KUBE },
		.json = text,
		.closed = closed,
		.object = object,
	};
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
	if (old)
		kube_object_free(objects, old);
	object_change_commit(&change, &objects->touched);
	return 0;
}

static void object_delete(struct objects *objects, const struct object *object)
{
	struct kube_object *item = kube_object_of(object);
	struct object_change change;

	object_change_begin(&change, objects->files.store, NULL); /* the API server logs */
	if (object_change_take(&change, object, 0)) {
		object_change_undo(&change);
		return;
	}
	object_change_commit(&change, &objects->touched);
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

static void event_modified(struct batch *batch, const cJSON *json)
{
	auto_free char *text = cJSON_PrintUnformatted(json);
	struct problems problems = { 0 };
	struct errmsg err = { 0 };
	struct object *object = NULL;
	char line[sizeof(err.text)] = "";
	bool closed = false;

	if (!text)
		out_of_memory(0);
	if (object_parse(json, 0, &object, &problems) < 0) {
		object_problems_text(&problems, NULL, line, sizeof(line));
		closed = is_policy(json);
		object = closed ? policy_close(json) : NULL;
	}
	problems_done(&problems);
	if (*line) {
		auto_free char *refusal =
			xasprintf("%s%s", line,
				  object ? "; until it is understood it lets nothing through" : "");

		batch_refuse(batch, refusal);
	}
	if (!object)
		return;
	if (is_known(batch->objects, object, text)) {
		object_free(object);
		batch->applied++;
		return;
	}
	if (object_put(batch->objects, object, take_ptr(text), closed, &err) < 0)
		batch_refuse(batch, err.text);
	else
		batch->applied += !closed;
}

static void event_deleted(struct batch *batch, const cJSON *json)
{
	const struct store *store = batch->objects->files.store;
	const struct json_node root = json_root(json);
	const struct json_node kind_node = json_member(&root, "kind");
	const struct json_node metadata = json_member(&root, "metadata");
	const struct json_node namespace_node = json_member(&metadata, "namespace");
	const struct json_node name_node = json_member(&metadata, "name");
	const char *kind_name, *name, *namespace = "";
	const struct object *held;
	enum object_kind kind;
	struct errmsg err = { 0 };

	if (json_string(&kind_node, &kind_name, &err) < 0 ||
	    json_string_opt(&namespace_node, &namespace, &err) < 0 ||
	    json_string(&name_node, &name, &err) < 0 || object_kind_parse(kind_name, &kind) < 0) {
		batch_refuse(batch, *err.text ? err.text : "an object of an unknown kind");
		return;
	}
	held = store_find(store, kind, namespace, name);
	if (held && object_source_of(held)->kind == OBJECT_SOURCE_KUBE)
		object_delete(batch->objects, held);
	batch->applied++;
}

static void event_reset(struct objects *objects)
{
	struct kube_object *item;

	objects->kube.begun = true;
	DL_FOREACH (objects->kube.list, item)
		item->stale = true;
}

static void event_synced(struct objects *objects)
{
	struct kube_object *item, *next;

	DL_FOREACH_SAFE (objects->kube.list, item, next) {
		if (item->stale)
			object_delete(objects, item->object);
	}
	objects->kube.synced = true;
}

static int event_take(struct batch *batch, const cJSON *event, struct errmsg *err)
{
	struct objects *objects = batch->objects;
	const struct json_node root = json_root(event);
	const struct json_node type_node = json_member(&root, "type");
	const struct json_node object_node = json_member(&root, "object");
	const struct json_node problem_node = json_member(&object_node, "problem");
	const char *type, *problem = "";

	if (json_string(&type_node, &type, err) < 0)
		return err->code;
	if (strcmp(type, "RESET") == 0) {
		event_reset(objects);
		return 0;
	}
	/* A client that was there before this agent knows of objects that this agent does not. */
	if (!objects->kube.begun)
		return fail_plain(err, -EPERM, "this agent has started since: begin with RESET");
	if (strcmp(type, "SYNCED") == 0) {
		event_synced(objects);
		batch->synced = true;
		return 0;
	}
	if (json_object(&object_node, err) < 0)
		return err->code;
	if (strcmp(type, "MODIFIED") == 0) {
		event_modified(batch, object_node.value);
	} else if (strcmp(type, "DELETED") == 0) {
		event_deleted(batch, object_node.value);
	} else if (strcmp(type, "STATUS") == 0) {
		if (json_string_opt(&problem_node, &problem, err) < 0)
			return err->code;
		snprintf(objects->kube.problem, sizeof(objects->kube.problem), "%s", problem);
	} else {
		return json_fail(&type_node, err, "\"%s\" is none", type);
	}
	return 0;
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
	objects->kube.heard_ns = now_ns();
	objects_know(objects);
	if (objects_sync(objects, &full))
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

	DL_FOREACH_SAFE (objects->kube.list, item, next)
		kube_object_free(objects, item);
}

const char *object_kube_missing(const struct object_kube *kube)
{
	return kube->enabled && !kube->synced
		       ? "the objects of the Kubernetes API server are not known yet"
		       : "";
}

struct cJSON *object_kube_get(const struct object *object)
{
	return cJSON_Parse(kube_object_of(object)->json);
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
