/* SPDX-License-Identifier: Apache-2.0 */
/* API: services with the frontends and backends that the datapath was given. */
#include <cjson/cJSON.h>

#include "agent/api/api.h"
#include "lib/auto.h"
#include "policy/objects/service.h"

static cJSON *backend_json(const struct service_backend *backend)
{
	cJSON *json = cJSON_CreateObject();
	char text[ADDR_TEXT_MAX];

	cJSON_AddStringToObject(json, "address", addr_format(&backend->addr, text));
	cJSON_AddNumberToObject(json, "port", backend->port);
	cJSON_AddItemToObject(json, "pod",
			      backend->pod_name
				      ? api_name_json(backend->pod_namespace, backend->pod_name)
				      : cJSON_CreateNull());
	return json;
}

static cJSON *frontend_json(const struct service_frontend *frontend)
{
	cJSON *json = cJSON_CreateObject();
	char text[ADDR_TEXT_MAX];
	cJSON *backends;

	cJSON_AddStringToObject(json, "address", addr_format(&frontend->addr, text));
	cJSON_AddNumberToObject(json, "port", frontend->port);
	cJSON_AddStringToObject(json, "protocol", proto_name(frontend->proto));
	cJSON_AddStringToObject(json, "name", frontend->port_name ? frontend->port_name : "");
	backends = cJSON_AddArrayToObject(json, "backends");
	for (size_t i = 0; i < frontend->backend_count; i++)
		cJSON_AddItemToArray(backends, backend_json(&frontend->backends[i]));
	return json;
}

static cJSON *service_json(const struct store *store, const struct object *object)
{
	struct service_frontends frontends = service_frontends(store, object);
	cJSON *json = cJSON_CreateObject();
	cJSON *array;

	cJSON_AddStringToObject(json, "namespace", object->namespace);
	cJSON_AddStringToObject(json, "name", object->name);
	cJSON_AddItemToObject(
		json, "clusterIPs",
		api_addresses_json(object->service.cluster_ips, object->service.cluster_ip_count));
	array = cJSON_AddArrayToObject(json, "frontends");
	for (size_t i = 0; i < frontends.count; i++)
		cJSON_AddItemToArray(array, frontend_json(&frontends.items[i]));
	service_frontends_done(&frontends);
	return json;
}

void api_services_list(struct api_call *call)
{
	const struct store *store = call->agent->store;
	cJSON *array = cJSON_CreateArray();

	for (const struct object *o = store_first(store, OBJECT_SERVICE); o;
	     o = store_next(store, o))
		cJSON_AddItemToArray(array, service_json(store, o));
	api_reply(call, array);
}

void api_services_get(struct api_call *call)
{
	const struct store *store = call->agent->store;
	const struct object *object =
		store_find(store, OBJECT_SERVICE, call->args[0], call->args[1]);

	if (object)
		api_reply(call, service_json(store, object));
	else
		api_refuse(call, 404, "Service %s/%s: not found", call->args[0], call->args[1]);
}
