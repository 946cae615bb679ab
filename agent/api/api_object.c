/* SPDX-License-Identifier: Apache-2.0 */
/* API: objects as they were given, and the views of policies. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <string.h>

#include "agent/accel/accel.h"
#include "agent/api/api.h"
#include "agent/objects/objects.h"
#include "lib/auto.h"
#include "policy/objects/policy.h"

static cJSON *object_source_json(const struct agent *agent, const struct object *object)
{
	const char *source =
		objects_source(agent->objects, object->kind, object->namespace, object->name);

	return source ? cJSON_CreateString(source) : cJSON_CreateNull();
}

/* All objects as they were given, as one List. */
static cJSON *objects_full_json(const struct agent *agent)
{
	cJSON *list = cJSON_CreateObject();
	cJSON *items;

	cJSON_AddStringToObject(list, "apiVersion", "v1");
	cJSON_AddStringToObject(list, "kind", "List");
	items = cJSON_AddArrayToObject(list, "items");
	for (int kind = 0; kind < OBJECT_KIND_COUNT; kind++) {
		for (const struct object *o = store_first(agent->store, (enum object_kind)kind); o;
		     o = store_next(agent->store, o))
			cJSON_AddItemToArray(
				items, objects_get(agent->objects, o->kind, o->namespace, o->name));
	}
	return list;
}

static cJSON *objects_brief_json(const struct agent *agent)
{
	const struct store *store = agent->store;
	cJSON *array = cJSON_CreateArray();

	for (int kind = 0; kind < OBJECT_KIND_COUNT; kind++) {
		for (const struct object *o = store_first(store, (enum object_kind)kind); o;
		     o = store_next(store, o)) {
			cJSON *json = cJSON_CreateObject();

			cJSON_AddStringToObject(json, "kind", object_kind_name(o->kind));
			cJSON_AddStringToObject(json, "namespace", o->namespace);
			cJSON_AddStringToObject(json, "name", o->name);
			cJSON_AddItemToObject(json, "source", object_source_json(agent, o));
			cJSON_AddItemToArray(array, json);
		}
	}
	return array;
}

void api_objects_list(struct api_call *call)
{
	char full[8];
	bool whole = http_query_get(call->request->head.query, "full", full, sizeof(full)) == 0;

	api_reply(call, whole ? objects_full_json(call->agent) : objects_brief_json(call->agent));
}

void api_objects_put(struct api_call *call)
{
	const struct http_request *request = call->request;
	struct errmsg err = {};
	size_t count = 0;
	cJSON *json;
	struct object_author author = { .uid = request->peer_uid, .pid = request->peer_pid };
	int ret = objects_put(call->agent->objects, &author, request->body, request->head.body_len,
			      &count, &err);

	/* A client that has the answer finds no connection that policy forbids now. */
	accel_enforce_due(call->agent->accel);
	if (ret) {
		api_error(call, &err);
		return;
	}
	json = cJSON_CreateObject();
	cJSON_AddNumberToObject(json, "applied", (double)count);
	api_reply(call, json);
}

/* The object that the path names; false after the call was refused. */
static bool object_named(struct api_call *call, enum object_kind *ret_kind,
			 const char **ret_namespace)
{
	if (object_kind_parse(call->args[0], ret_kind)) {
		api_refuse(call, 404, "%s: no such kind", call->args[0]);
		return false;
	}
	*ret_namespace = strcmp(call->args[1], "-") == 0 ? "" : call->args[1];
	return true;
}

void api_objects_get(struct api_call *call)
{
	const char *namespace;
	enum object_kind kind;
	cJSON *json;

	if (!object_named(call, &kind, &namespace))
		return;
	json = objects_get(call->agent->objects, kind, namespace, call->args[2]);
	if (json)
		api_reply(call, json);
	else
		api_refuse(call, 404, "%s %s/%s: not found", object_kind_name(kind), call->args[1],
			   call->args[2]);
}

void api_objects_del(struct api_call *call)
{
	struct object_author author = { .uid = call->request->peer_uid,
					.pid = call->request->peer_pid };
	struct errmsg err = {};
	const char *namespace;
	enum object_kind kind;
	int ret;

	if (!object_named(call, &kind, &namespace))
		return;
	ret = objects_del(call->agent->objects, &author, kind, namespace, call->args[2], &err);
	accel_enforce_due(call->agent->accel);
	if (ret)
		api_error(call, &err);
	else
		api_reply(call, cJSON_CreateObject());
}

void api_kube_put(struct api_call *call)
{
	const struct http_request *request = call->request;
	struct errmsg err = {};
	cJSON *answer = NULL;
	int ret = objects_kube_put(call->agent->objects, request->body, request->head.body_len,
				   &answer, &err);

	if (ret)
		api_error(call, &err);
	else
		api_reply(call, answer);
}

void api_kube_follow(struct api_call *call)
{
	objects_kube_follow(call->agent->objects, call->exchange);
}

/* ---- policies -------------------------------------------------------------------------------- */

static size_t policy_selected(const struct agent *agent, const struct object *policy)
{
	const struct store_endpoint *endpoints;
	size_t count = store_endpoints(agent->store, &endpoints);
	size_t selected = 0;

	for (size_t i = 0; i < count; i++) {
		const struct object *pod = store_endpoint_pod(agent->store, &endpoints[i]);
		const struct labels *labels = pod ? &pod->pod.labels : &endpoints[i].labels;

		selected += policy_selects(agent->store, policy, endpoints[i].namespace, labels);
	}
	return selected;
}

static void policy_add_rules(cJSON *json, size_t ingress, size_t egress, bool ingress_type,
			     bool egress_type)
{
	cJSON *types;

	cJSON_AddNumberToObject(json, "ingressRules", (double)ingress);
	cJSON_AddNumberToObject(json, "egressRules", (double)egress);
	types = cJSON_AddArrayToObject(json, "policyTypes");
	if (ingress_type)
		cJSON_AddItemToArray(types, cJSON_CreateString("Ingress"));
	if (egress_type)
		cJSON_AddItemToArray(types, cJSON_CreateString("Egress"));
}

static cJSON *policy_json(const struct agent *agent, const struct object *object)
{
	const struct cluster_policy_object *cluster = &object->cluster_policy;
	const struct network_policy_object *policy = &object->policy;
	cJSON *json = cJSON_CreateObject();

	cJSON_AddStringToObject(json, "kind", object_kind_name(object->kind));
	cJSON_AddStringToObject(json, "namespace", object->namespace);
	cJSON_AddStringToObject(json, "name", object->name);
	cJSON_AddItemToObject(json, "source", object_source_json(agent, object));
	if (object->kind == OBJECT_CLUSTER_POLICY) {
		cJSON_AddStringToObject(json, "tier", policy_tier_name(cluster->tier));
		cJSON_AddNumberToObject(json, "priority", cluster->priority);
		policy_add_rules(json, cluster->ingress_rule_count, cluster->egress_rule_count,
				 cluster->ingress_rule_count > 0, cluster->egress_rule_count > 0);
	} else {
		cJSON_AddStringToObject(json, "tier", policy_tier_name(TIER_NETWORK));
		policy_add_rules(json, policy->ingress_rule_count, policy->egress_rule_count,
				 policy->ingress, policy->egress);
	}
	cJSON_AddNumberToObject(json, "selectedEndpoints", (double)policy_selected(agent, object));
	return json;
}

void api_policies_list(struct api_call *call)
{
	const struct store *store = call->agent->store;
	cJSON *array = cJSON_CreateArray();

	for (size_t tier = 0; tier < TIER_COUNT; tier++) {
		size_t count;
		auto_free const struct object **policies =
			tier_policies(store, (enum policy_tier)tier, &count);

		for (size_t i = 0; i < count; i++)
			cJSON_AddItemToArray(array, policy_json(call->agent, policies[i]));
	}
	api_reply(call, array);
}

/* "-" in the place of a namespace: a ClusterNetworkPolicy. */
void api_policies_get(struct api_call *call)
{
	bool cluster = strcmp(call->args[0], "-") == 0;
	enum object_kind kind = cluster ? OBJECT_CLUSTER_POLICY : OBJECT_NETWORK_POLICY;
	const struct object *object =
		store_find(call->agent->store, kind, cluster ? "" : call->args[0], call->args[1]);

	if (object)
		api_reply(call, policy_json(call->agent, object));
	else
		api_refuse(call, 404, "%s %s/%s: not found", object_kind_name(kind), call->args[0],
			   call->args[1]);
}
