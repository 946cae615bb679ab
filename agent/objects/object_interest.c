/* SPDX-License-Identifier: Apache-2.0 */
#define LOG_MODULE "kube"
#include "agent/objects/object_interest.h"

#include <cjson/cJSON.h>
#include <string.h>
#include <utlist.h>

#include "agent/objects/object_await.h"
#include "agent/objects/object_closed.h"
#include "agent/objects/object_pack.h"
#include "agent/objects/objects_internal.h"
#include "agent/sync/sync.h"
#include "lib/alloc.h"
#include "lib/arena.h"
#include "lib/auto.h"
#include "lib/http.h"
#include "lib/json.h"
#include "lib/log.h"
#include "policy/objects/parse.h"
#include "policy/objects/policy.h"

/* ---- the stream ------------------------------------------------------------------------------ */

/* Takes question. */
static void question_send(struct objects *objects, cJSON *question)
{
	auto_free char *text = cJSON_PrintUnformatted(question);

	if (text && objects->kube.questions)
		http_stream_line(objects->kube.questions, text);
	cJSON_Delete(question);
}

void kube_ask_pod(struct objects *objects, const char *namespace, const char *name)
{
	cJSON *question = cJSON_CreateObject();
	cJSON *metadata;

	cJSON_AddStringToObject(question, "type", "POD");
	metadata = cJSON_AddObjectToObject(question, "metadata");
	cJSON_AddStringToObject(metadata, "namespace", namespace);
	cJSON_AddStringToObject(metadata, "name", name);
	question_send(objects, question);
}

void kube_report_refused(struct objects *objects, const cJSON *json, const char *reason,
			 const char *message)
{
	static const char *const names[][2] = { { NULL, "apiVersion" },
						{ NULL, "kind" },
						{ "metadata", "namespace" },
						{ "metadata", "name" },
						{ "metadata", "uid" } };
	cJSON *line, *object;

	/* Of thousands some are enough.  The stream, which has questions too, would be closed. */
	if (!objects->kube.questions || http_stream_is_behind(objects->kube.questions))
		return;
	line = cJSON_CreateObject();
	object = cJSON_AddObjectToObject(line, "object");
	cJSON_AddStringToObject(line, "type", "REFUSED");
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		const cJSON *in =
			names[i][0] ? cJSON_GetObjectItemCaseSensitive(json, names[i][0]) : json;
		const char *text =
			cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(in, names[i][1]));

		if (text)
			cJSON_AddStringToObject(object, names[i][1], text);
	}
	cJSON_AddStringToObject(line, "reason", reason);
	cJSON_AddStringToObject(line, "message", message);
	question_send(objects, line);
}

void kube_report_conflict(const struct service_conflict *conflict, void *arg)
{
	struct objects *objects = arg;
	auto_json cJSON *json = cJSON_CreateObject();
	cJSON *metadata = cJSON_AddObjectToObject(json, "metadata");

	cJSON_AddStringToObject(json, "apiVersion", "v1");
	cJSON_AddStringToObject(json, "kind", conflict->kind);
	cJSON_AddStringToObject(metadata, "namespace", conflict->namespace);
	cJSON_AddStringToObject(metadata, "name", conflict->name);
	if (conflict->uid && *conflict->uid)
		cJSON_AddStringToObject(metadata, "uid", conflict->uid);
	kube_report_refused(objects, json, "AddressConflict", conflict->text);
}

static void ready_send(struct objects *objects)
{
	cJSON *line = cJSON_CreateObject();

	cJSON_AddStringToObject(line, "type", "READY");
	question_send(objects, line);
}

void objects_kube_ready(struct objects *objects)
{
	if (!objects->kube.ready)
		ready_send(objects);
	objects->kube.ready = true;
}

static void key_send(struct objects *objects)
{
	char text[WIREGUARD_KEY_TEXT_LEN + 1];
	cJSON *line = cJSON_CreateObject();

	cJSON_AddStringToObject(line, "type", "KEY");
	cJSON_AddStringToObject(line, "key", wireguard_key_format(&objects->kube.node_key, text));
	question_send(objects, line);
}

void objects_kube_announce(struct objects *objects, const struct wireguard_key *key)
{
	objects->kube.node_key = *key;
	key_send(objects);
}

/* Each time with another number: the client's answer is for this one. */
static void interest_send(struct objects *objects)
{
	const struct interest *wanted = &objects->kube.wanted;
	cJSON *question = cJSON_CreateObject();
	cJSON *pods;

	cJSON_AddStringToObject(question, "type", "INTEREST");
	cJSON_AddNumberToObject(question, "number", ++objects->kube.number);
	pods = wanted->all_pods ? cJSON_CreateString("all") : cJSON_CreateArray();
	cJSON_AddItemToObject(question, "pods", pods);
	for (size_t i = 0; i < wanted->count; i++)
		cJSON_AddItemToArray(pods, cJSON_CreateString(wanted->namespaces[i]));
	cJSON_AddBoolToObject(question, "nodes", wanted->nodes);
	question_send(objects, question);
}

static void on_questions_closed(void *arg)
{
	struct objects *objects = arg;

	objects->kube.questions = NULL;
}

void objects_kube_follow(struct objects *objects, struct http_exchange *exchange)
{
	struct object_kube *kube = &objects->kube;

	if (kube->questions) /* of a client before */
		http_stream_end(kube->questions);
	kube->questions = NULL;
	if (http_stream_begin(exchange, on_questions_closed, objects) < 0)
		return;
	kube->questions = exchange;
	if (kube->ready)
		ready_send(objects);
	if (!wireguard_key_is_zero(&kube->node_key))
		key_send(objects);
	if (*kube->node && kube->listed)
		interest_send(objects);
	kube_awaits_ask(objects);
}

/* ---- what policies refer to ------------------------------------------------------------------ */

static bool is_own_pod(const struct objects *objects, const struct object *object)
{
	return object->kind == OBJECT_POD && !object->pod.host_network && !object->pod.terminated &&
	       strcmp(object->pod.node_name, objects->kube.node) == 0;
}

void kube_interest_doubt(struct objects *objects, const struct object *object)
{
	objects->kube.interest_in_doubt |=
		object->kind == OBJECT_NAMESPACE || object->kind == OBJECT_NETWORK_POLICY ||
		object->kind == OBJECT_CLUSTER_POLICY || is_own_pod(objects, object);
}

struct own_pods {
	const struct object **items;
	size_t count;
	size_t capacity;
};

static void own_pods_find(const struct objects *objects, struct own_pods *ret)
{
	const struct store *store = objects->files.store;

	for (const struct object *o = store_first(store, OBJECT_POD); o; o = store_next(store, o)) {
		if (!is_own_pod(objects, o))
			continue;
		array_room(&ret->items, ret->count, &ret->capacity, sizeof(*ret->items));
		ret->items[ret->count++] = o;
	}
}

static bool selects_any(const struct store *store, const struct object *policy,
			const struct object *const *pods, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (policy_selects(store, policy, pods[i]->namespace, &pods[i]->pod.labels))
			return true;
	}
	return false;
}

/* The pods are sorted by namespace, as NetworkPolicies are. */
static void network_policies_add(const struct store *store, const struct own_pods *pods,
				 struct interest *interest)
{
	size_t end;

	for (size_t begin = 0; begin < pods->count; begin = end) {
		const char *namespace = pods->items[begin]->namespace;
		const struct object *const *policies;
		size_t count = store_range(store, OBJECT_NETWORK_POLICY, namespace, &policies);

		end = begin;
		while (end < pods->count && strcmp(pods->items[end]->namespace, namespace) == 0)
			end++;
		for (size_t i = 0; i < count; i++) {
			if (selects_any(store, policies[i], &pods->items[begin], end - begin))
				interest_add(interest, store, policies[i]);
		}
	}
}

/* ---- cluster policies ------------------------------------------------------------------------ */

static struct object *text_parse(const char *text)
{
	auto_json cJSON *json = object_unpack(text);
	struct problems problems = { 0 };
	struct object *object = NULL;

	object_parse(json, 0, &object, &problems);
	problems_done(&problems);
	return object;
}

/* Puts the policy in force, or the closed one in its place. */
static void policy_swap(struct objects *objects, const struct object *held, bool hold)
{
	const char *text = kube_object_of(held)->json;
	auto_json cJSON *json = hold ? object_unpack(text) : NULL;
	struct object *object = hold ? object_closed(held->kind, held->namespace, held->name, json)
				     : text_parse(text);
	auto_free char *copy = xstrdup(text); /* the former goes first */
	struct errmsg err = { 0 };

	if (object && kube_object_put(objects, object, copy, false, &err) == 0)
		kube_object_of(object)->held = hold;
}

/* What a cluster policy refers to; and whether it stays closed until that is known, because it
 * refuses some of it.  Those that only allow are closed to strangers anyway. */
static void cluster_policy_add(struct objects *objects, const struct object *policy,
			       const struct own_pods *pods)
{
	struct object_kube *kube = &objects->kube;
	const struct store *store = objects->files.store;
	bool is_kube = object_source_of(policy)->kind == OBJECT_SOURCE_KUBE;
	bool held = is_kube && kube_object_of(policy)->held;
	struct object *parsed = held ? text_parse(kube_object_of(policy)->json) : NULL;
	const struct object *real = parsed ? parsed : policy;
	struct interest needed = { 0 };
	bool hold = false;

	if (!real->cluster_policy.closed && selects_any(store, real, pods->items, pods->count)) {
		interest_add(&needed, store, real);
		interest_add(&kube->wanted, store, real);
		hold = is_kube && policy_refuses_peers(real) &&
		       !interest_covers(&kube->known, &needed);
	}
	if (hold != held)
		policy_swap(objects, policy, hold);
	interest_done(&needed);
	object_free(parsed);
}

static void cluster_policies_add(struct objects *objects, const struct own_pods *pods)
{
	const struct object *const *first;
	size_t count = store_objects(objects->files.store, OBJECT_CLUSTER_POLICY, &first);
	auto_free const struct object **policies = xcalloc(count, sizeof(*policies));

	/* They are put anew while they are walked. */
	for (size_t i = 0; i < count; i++)
		policies[i] = first[i];
	for (size_t i = 0; i < count; i++)
		cluster_policy_add(objects, policies[i], pods);
}

/* ---- the interest ---------------------------------------------------------------------------- */

static bool interest_same(const struct interest *a, const struct interest *b)
{
	return interest_covers(a, b) && interest_covers(b, a);
}

void kube_interest_update(struct objects *objects)
{
	struct object_kube *kube = &objects->kube;
	struct interest former = kube->wanted;
	struct own_pods pods = { 0 };

	if (!*kube->node || !kube->listed || !kube->interest_in_doubt)
		return;
	kube->wanted = (struct interest){ .nodes = kube->all_nodes };
	own_pods_find(objects, &pods);
	network_policies_add(objects->files.store, &pods, &kube->wanted);
	cluster_policies_add(objects, &pods);
	free(pods.items);
	/* What is wanted no longer is followed no longer. */
	interest_intersect(&kube->known, &kube->wanted);
	if (!interest_same(&former, &kube->wanted))
		interest_send(objects);
	interest_done(&former);
	kube->interest_in_doubt = false;
}

bool kube_interest_is_known(const struct objects *objects)
{
	const struct object_kube *kube = &objects->kube;

	return !*kube->node || interest_covers(&kube->known, &kube->wanted);
}

bool kube_knows_all_pods(const struct objects *objects)
{
	const struct object_kube *kube = &objects->kube;

	return kube->listed && (!*kube->node || kube->known.all_pods);
}

void kube_interest_listed(struct objects *objects)
{
	objects->kube.listed = true;
	if (!*objects->kube.node)
		return;
	objects->kube.interest_in_doubt = true;
	kube_interest_update(objects);
	interest_send(objects); /* a client that began anew knows of none */
}

static bool is_of_others(const struct objects *objects, const struct object *object)
{
	(void)objects;
	return object->kind == OBJECT_POD || object->kind == OBJECT_NODE;
}

void kube_interest_known(struct objects *objects, int64_t number)
{
	struct object_kube *kube = &objects->kube;

	if (number != kube->number)
		return;
	interest_copy(&kube->known, &kube->wanted);
	kube->interest_in_doubt = true; /* policies that waited for this */
	kube_objects_expire(objects, is_of_others);
}

void kube_interest_done(struct objects *objects)
{
	if (objects->kube.questions)
		http_stream_end(objects->kube.questions);
	interest_done(&objects->kube.wanted);
	interest_done(&objects->kube.known);
}
