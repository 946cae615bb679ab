/* SPDX-License-Identifier: Apache-2.0 */
/* API: objects as they were given, and the views of NetworkPolicies. */
#include <cjson/cJSON.h>
#include <errno.h>

#include "agent/api.h"
#include "agent/lib/auto.h"
#include "agent/objects.h"

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
		for (const struct object *o = world_first(agent->world, (enum object_kind)kind); o;
		     o = world_next(agent->world, o))
			cJSON_AddItemToArray(
				items, objects_get(agent->objects, o->kind, o->namespace, o->name));
	}
	return list;
}

static cJSON *objects_brief_json(const struct agent *agent)
{
	const struct world *world = agent->world;
	cJSON *array = cJSON_CreateArray();

	for (int kind = 0; kind < OBJECT_KIND_COUNT; kind++) {
		for (const struct object *o = world_first(world, (enum object_kind)kind); o;
		     o = world_next(world, o)) {
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

	if (objects_put(call->agent->objects, request->body, request->head.body_len, &count,
			&err)) {
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
		api_refuse(call, 404, "%s %s/%s: there is none", object_kind_name(kind),
			   call->args[1], call->args[2]);
}

void api_objects_del(struct api_call *call)
{
	struct errmsg err = {};
	const char *namespace;
	enum object_kind kind;

	if (!object_named(call, &kind, &namespace))
		return;
	if (objects_del(call->agent->objects, kind, namespace, call->args[2], &err))
		api_error(call, &err);
	else
		api_reply(call, cJSON_CreateObject());
}

/* ---- policies -------------------------------------------------------------------------------- */

static size_t policy_selected(const struct agent *agent, const struct object *policy)
{
	const struct world_endpoint *endpoints;
	size_t count = world_endpoints(agent->world, &endpoints);
	size_t selected = 0;

	for (size_t i = 0; i < count; i++) {
		const struct object *pod = world_endpoint_pod(agent->world, &endpoints[i]);

		selected += strcmp(endpoints[i].namespace, policy->namespace) == 0 &&
			    selector_matches(&policy->policy.pods,
					     pod ? &pod->pod.labels : &endpoints[i].labels);
	}
	return selected;
}

static cJSON *policy_json(const struct agent *agent, const struct object *object)
{
	const struct network_policy_object *policy = &object->policy;
	cJSON *json = cJSON_CreateObject();
	cJSON *policy_types;

	cJSON_AddStringToObject(json, "namespace", object->namespace);
	cJSON_AddStringToObject(json, "name", object->name);
	cJSON_AddItemToObject(json, "source", object_source_json(agent, object));
	cJSON_AddNumberToObject(json, "ingressRules", (double)policy->ingress_rule_count);
	cJSON_AddNumberToObject(json, "egressRules", (double)policy->egress_rule_count);
	policy_types = cJSON_AddArrayToObject(json, "policyTypes");
	if (policy->ingress)
		cJSON_AddItemToArray(policy_types, cJSON_CreateString("Ingress"));
	if (policy->egress)
		cJSON_AddItemToArray(policy_types, cJSON_CreateString("Egress"));
	cJSON_AddNumberToObject(json, "selectedEndpoints", (double)policy_selected(agent, object));
	return json;
}

void api_policies_list(struct api_call *call)
{
	const struct world *world = call->agent->world;
	cJSON *array = cJSON_CreateArray();

	for (const struct object *o = world_first(world, OBJECT_NETWORK_POLICY); o;
	     o = world_next(world, o))
		cJSON_AddItemToArray(array, policy_json(call->agent, o));
	api_reply(call, array);
}

void api_policies_get(struct api_call *call)
{
	const struct object *object =
		world_find(call->agent->world, OBJECT_NETWORK_POLICY, call->args[0], call->args[1]);

	if (object)
		api_reply(call, policy_json(call->agent, object));
	else
		api_refuse(call, 404, "NetworkPolicy %s/%s: there is none", call->args[0],
			   call->args[1]);
}
