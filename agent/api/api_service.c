/* SPDX-License-Identifier: Apache-2.0 */
/* API: services with the frontends and backends that the datapath was given. */
#include <arpa/inet.h>
#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "agent/api/api.h"
#include "agent/sync/sync.h"
#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/health.h"
#include "policy/objects/host_port.h"
#include "policy/objects/service.h"

static void add_count(cJSON *json, const struct service_count *count)
{
	cJSON_AddNumberToObject(json, "connections", (double)count->connections);
	cJSON_AddNumberToObject(json, "bytes", (double)count->bytes);
}

static struct service_count backend_count(const struct service_counts *counts,
					  const struct service_frontend *frontend,
					  const struct service_backend *backend)
{
	const struct service_key key = { .addr = frontend->addr,
					 .port = htons(frontend->port),
					 .proto = frontend->proto };

	return sync_counts_backend(
		counts, &key,
		&(struct backend){ .addr = backend->addr, .port = htons(backend->port) });
}

/* "used", "local", "keeps": what new connections and old ones may do. */
static cJSON *use_json(const struct service_backend *backend)
{
	static const struct {
		enum backend_use use;
		const char *name;
	} uses[] = { { USE_CLUSTER, "cluster" }, { USE_LOCAL, "local" }, { USE_KEEP, "keep" } };
	cJSON *array = cJSON_CreateArray();

	for (size_t i = 0; i < ARRAY_SIZE(uses); i++) {
		if (backend->use & uses[i].use)
			cJSON_AddItemToArray(array, cJSON_CreateString(uses[i].name));
	}
	return array;
}

static void add_text(cJSON *json, const char *name, const char *text)
{
	cJSON_AddItemToObject(json, name, text ? cJSON_CreateString(text) : cJSON_CreateNull());
}

/* The pod that the slice names, or else the one that has the address. */
static cJSON *backend_pod_json(const struct store *store, const struct service_backend *backend)
{
	const struct object *owner;

	if (backend->pod_name)
		return api_name_json(backend->pod_namespace, backend->pod_name);
	owner = store_owner(store, &backend->addr);
	return owner && owner->kind == OBJECT_POD ? api_name_json(owner->namespace, owner->name)
						  : cJSON_CreateNull();
}

static cJSON *backend_json(const struct store *store, const struct service_frontend *frontend,
			   const struct service_backend *backend,
			   const struct service_counts *counts)
{
	struct service_count count = backend_count(counts, frontend, backend);
	cJSON *json = cJSON_CreateObject();
	char text[ADDR_TEXT_MAX];

	cJSON_AddStringToObject(json, "address", addr_format(&backend->addr, text));
	cJSON_AddNumberToObject(json, "port", backend->port);
	cJSON_AddItemToObject(json, "pod", backend_pod_json(store, backend));
	add_text(json, "node", backend->node_name);
	add_text(json, "zone", backend->zone);
	cJSON_AddBoolToObject(json, "ready", backend->ready);
	cJSON_AddBoolToObject(json, "serving", backend->serving);
	cJSON_AddBoolToObject(json, "terminating", backend->terminating);
	cJSON_AddItemToObject(json, "use", use_json(backend));
	add_count(json, &count);
	return json;
}

static cJSON *frontend_json(const struct store *store, const struct service_frontend *frontend,
			    const struct service_counts *counts)
{
	static const char *const kinds[] = {
		[CLUSTER_IP] = "ClusterIP",       [NODE_PORT] = "NodePort",
		[LOAD_BALANCER] = "LoadBalancer", [EXTERNAL_IP] = "ExternalIP",
		[HOST_PORT] = "HostPort",
	};
	static const char *const hints[] = {
		[HINTS_NONE] = "none",
		[HINTS_NODE] = "node",
		[HINTS_ZONE] = "zone",
	};
	const struct service_pool *pool = frontend->pool;
	cJSON *json = cJSON_CreateObject();
	char text[ADDR_TEXT_MAX];
	cJSON *backends;

	cJSON_AddStringToObject(json, "address", addr_format(&frontend->addr, text));
	cJSON_AddNumberToObject(json, "port", frontend->port);
	cJSON_AddStringToObject(json, "protocol", proto_name(frontend->proto));
	cJSON_AddStringToObject(json, "name", pool->port->name);
	cJSON_AddStringToObject(json, "kind", kinds[frontend->kind]);
	cJSON_AddStringToObject(json, "hints", hints[pool->hints]);
	backends = cJSON_AddArrayToObject(json, "backends");
	for (size_t i = 0; i < pool->backend_count; i++)
		cJSON_AddItemToArray(backends,
				     backend_json(store, frontend, &pool->backends[i], counts));
	return json;
}

static cJSON *prefixes_json(const struct prefix *prefixes, size_t count)
{
	cJSON *array = cJSON_CreateArray();
	char text[ADDR_TEXT_MAX];

	for (size_t i = 0; i < count; i++)
		cJSON_AddItemToArray(array, cJSON_CreateString(prefix_format(&prefixes[i], text)));
	return array;
}

static void add_policies(cJSON *json, const struct service_object *service)
{
	cJSON_AddStringToObject(json, "internalTrafficPolicy",
				service->internal_local ? "Local" : "Cluster");
	cJSON_AddStringToObject(json, "externalTrafficPolicy",
				service->external_local ? "Local" : "Cluster");
	cJSON_AddNumberToObject(json, "affinitySeconds", service->affinity_s);
	cJSON_AddNumberToObject(json, "healthCheckNodePort", service->health_check_port);
	cJSON_AddItemToObject(json, "sourceRanges",
			      prefixes_json(service->source_ranges, service->source_range_count));
}

static void add_frontends(cJSON *json, const struct store *store,
			  const struct service_frontends *frontends,
			  const struct service_counts *counts)
{
	cJSON *array = cJSON_AddArrayToObject(json, "frontends");

	for (size_t i = 0; i < frontends->count; i++)
		cJSON_AddItemToArray(array, frontend_json(store, &frontends->items[i], counts));
}

static cJSON *service_json(const struct agent *agent, const struct object *object,
			   const struct service_counts *counts)
{
	struct service_frontends frontends =
		service_frontends(agent->store, object, sync_node(agent->sync));
	struct service_count count = sync_counts_service(counts, object->namespace, object->name);
	cJSON *json = cJSON_CreateObject();

	cJSON_AddStringToObject(json, "namespace", object->namespace);
	cJSON_AddStringToObject(json, "name", object->name);
	cJSON_AddStringToObject(json, "type", service_type_name(object->service.type));
	cJSON_AddItemToObject(
		json, "clusterIPs",
		api_addresses_json(object->service.cluster_ips, object->service.cluster_ip_count));
	add_policies(json, &object->service);
	add_count(json, &count);
	add_frontends(json, agent->store, &frontends, counts);
	service_frontends_done(&frontends);
	return json;
}

/* The host ports of a pod, as a service with this pod as its backend; NULL: it has none. */
static cJSON *host_ports_json(const struct agent *agent, const struct store_endpoint *endpoint,
			      const struct service_counts *counts)
{
	static const struct service_object none;
	struct service_frontends frontends = host_port_frontends(agent->store, endpoint);
	const struct service_frontend *last = NULL;
	struct service_count sum = { 0 };
	cJSON *json = NULL;

	for (size_t i = 0; i < frontends.count; i++) {
		const struct service_frontend *frontend = &frontends.items[i];
		struct service_count count =
			backend_count(counts, frontend, &frontend->pool->backends[0]);

		if (last && last->pool == frontend->pool) /* counted once for all addresses */
			continue;
		last = frontend;
		sum.connections += count.connections;
		sum.bytes += count.bytes;
	}
	if (frontends.count) {
		json = cJSON_CreateObject();
		cJSON_AddStringToObject(json, "namespace", endpoint->namespace);
		cJSON_AddStringToObject(json, "name", endpoint->name);
		cJSON_AddStringToObject(json, "type", "HostPort");
		cJSON_AddArrayToObject(json, "clusterIPs");
		add_policies(json, &none);
		add_count(json, &sum);
		add_frontends(json, agent->store, &frontends, counts);
	}
	service_frontends_done(&frontends);
	return json;
}

void api_services_list(struct api_call *call)
{
	const struct store *store = call->agent->store;
	struct service_counts *counts = sync_counts_new(call->agent->sync);
	cJSON *array = cJSON_CreateArray();
	const struct store_endpoint *endpoints;
	size_t count = store_endpoints(store, &endpoints);

	for (const struct object *o = store_first(store, OBJECT_SERVICE); o;
	     o = store_next(store, o))
		cJSON_AddItemToArray(array, service_json(call->agent, o, counts));
	for (size_t i = 0; i < count; i++) /* adding NULL does nothing */
		cJSON_AddItemToArray(array, host_ports_json(call->agent, &endpoints[i], counts));
	sync_counts_free(counts);
	api_reply(call, array);
}

static const struct store_endpoint *endpoint_find(const struct store *store, const char *namespace,
						  const char *name)
{
	const struct store_endpoint *endpoints;
	size_t count = store_endpoints(store, &endpoints);

	for (size_t i = 0; i < count; i++) {
		if (!strcmp(endpoints[i].namespace, namespace) && !strcmp(endpoints[i].name, name))
			return &endpoints[i];
	}
	return NULL;
}

/* Of a Service, or of a pod with host ports. */
void api_services_get(struct api_call *call)
{
	const char *namespace = call->args[0], *name = call->args[1];
	struct agent *agent = call->agent;
	const struct object *object = store_find(agent->store, OBJECT_SERVICE, namespace, name);
	const struct store_endpoint *endpoint = endpoint_find(agent->store, namespace, name);
	struct service_counts *counts = NULL;
	cJSON *json = NULL;

	if (object) {
		counts = sync_counts_of(agent->sync, namespace, name);
		json = service_json(agent, object, counts);
	} else if (endpoint) {
		counts = sync_counts_of(agent->sync, NULL, NULL);
		json = host_ports_json(agent, endpoint, counts);
	}
	sync_counts_free(counts);
	if (json)
		api_reply(call, json);
	else
		api_refuse(call, 404, "Service %s/%s: not found", namespace, name);
}

/* A node that is about to be deleted takes no new traffic from load balancers (KEP-3836). */
static bool node_is_eligible(const struct agent *agent)
{
	const struct service_node *own = sync_node(agent->sync);
	const struct object *node =
		own->name ? store_find(agent->store, OBJECT_NODE, "", own->name) : NULL;

	return !node || !node->node.leaving;
}

/* At how many addresses they are; 0: at all, with one socket. */
static size_t health_addresses(const struct agent *agent, const struct addr **ret_addresses)
{
	size_t count;

	if (!sync_chosen_addresses(agent->sync, ret_addresses, &count))
		return 0;
	return count < HEALTH_ADDRESSES_MAX ? count : HEALTH_ADDRESSES_MAX;
}

size_t api_health_checks_left_out(const struct agent *agent)
{
	const struct addr *addresses;
	size_t count = sync_health_check_count(agent->sync);
	size_t max = health_checks_max(health_addresses(agent, &addresses));

	return count > max ? count - max : 0;
}

static int health_check_compare(const void *a, const void *b)
{
	return (*(const struct health_check *const *)a)->port -
	       (*(const struct health_check *const *)b)->port;
}

/* Those with the lowest ports, as far as there is room. */
static cJSON *health_checks_json(const struct agent *agent)
{
	size_t count = sync_health_check_count(agent->sync), pos = 0;
	auto_free const struct health_check **checks = xcalloc(count + 1, sizeof(*checks));
	cJSON *array = cJSON_CreateArray();

	for (size_t i = 0; i < count; i++)
		checks[i] = sync_health_checks(agent->sync, &pos);
	qsort(checks, count, sizeof(struct health_check *), health_check_compare);
	count -= api_health_checks_left_out(agent);
	for (size_t i = 0; i < count; i++) {
		cJSON *item = cJSON_CreateObject();

		cJSON_AddStringToObject(item, "namespace", checks[i]->namespace);
		cJSON_AddStringToObject(item, "name", checks[i]->name);
		cJSON_AddNumberToObject(item, "port", checks[i]->port);
		cJSON_AddNumberToObject(item, "localEndpointsIPv4", checks[i]->local_v4);
		cJSON_AddNumberToObject(item, "localEndpointsIPv6", checks[i]->local_v6);
		cJSON_AddItemToArray(array, item);
	}
	return array;
}

void api_health_checks_get(struct api_call *call)
{
	const char *missing = sync_missing(call->agent->sync);
	const struct addr *addresses;
	size_t count;
	cJSON *json;

	if (missing) { /* services that are not known yet are no reason to take the node out */
		api_refuse(call, 503, "%s", missing);
		return;
	}
	json = cJSON_CreateObject();
	cJSON_AddBoolToObject(json, "nodeEligible", node_is_eligible(call->agent));
	if (sync_chosen_addresses(call->agent->sync, &addresses, &count))
		cJSON_AddItemToObject(
			json, "addresses",
			api_addresses_json(addresses, health_addresses(call->agent, &addresses)));
	else
		cJSON_AddNullToObject(json, "addresses");
	cJSON_AddItemToObject(json, "services", health_checks_json(call->agent));
	api_reply(call, json);
}
