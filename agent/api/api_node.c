/* SPDX-License-Identifier: Apache-2.0 */
/* API: the nodes, and how their pods are reached. */
#include <cjson/cJSON.h>
#include <string.h>

#include "agent/api/api.h"
#include "agent/nodes/health.h"
#include "agent/nodes/nodes.h"
#include "agent/uplink/host_routing.h"
#include "lib/clock.h"
#include "lib/wireguard_key.h"

static cJSON *answer_json(const struct health_answer *answer)
{
	char text[ADDR_TEXT_MAX];
	cJSON *json = cJSON_CreateObject();

	if (addr_is_zero(&answer->address))
		return json;
	cJSON_AddStringToObject(json, "address", addr_format(&answer->address, text));
	cJSON_AddStringToObject(json, "status", health_status_name(answer->status));
	cJSON_AddStringToObject(json, "error", answer->error ? strerror(answer->error) : "");
	cJSON_AddNumberToObject(json, "latencyMicroseconds", answer->latency_us);
	return json;
}

/* What is measured of another node. */
static void health_add(cJSON *json, const struct agent *agent, const struct object *node)
{
	cJSON *health = cJSON_AddObjectToObject(json, "health");
	const struct health_answer *pods;
	char when[CLOCK_TEXT_MAX];
	struct health_view view;

	health_get(agent->health, node, &view);
	pods = &view.answers[HEALTH_PODS];
	cJSON_AddNumberToObject(json, "mtu",
				addr_is_zero(&pods->address) ? view.answers[HEALTH_NODE].mtu
							     : pods->mtu);
	cJSON_AddStringToObject(health, "status", health_status_name(view.status));
	cJSON_AddItemToObject(health, "node", answer_json(&view.answers[HEALTH_NODE]));
	cJSON_AddItemToObject(health, "pods", answer_json(pods));
	cJSON_AddStringToObject(
		health, "lastSeen",
		view.seen_ns ? clock_format((int64_t)view.seen_ns + clock_real_offset(), when)
			     : "");
	cJSON_AddBoolToObject(health, "probing", view.probing);
}

/* Whether this node's packets to it bypass the host's stack, and why. */
static void host_routing_add(cJSON *json, const struct agent *agent)
{
	const char *why;
	bool bypasses = host_routing_bypasses(agent->host_routing, &why);
	cJSON *routing = cJSON_AddObjectToObject(json, "hostRouting");

	cJSON_AddStringToObject(routing, "mode", bypasses ? "bpf" : "legacy");
	cJSON_AddStringToObject(routing, "reason", why);
}

static cJSON *node_json(const struct agent *agent, const struct object *node)
{
	const char *problem = nodes_problem(agent->nodes, node);
	cJSON *json = cJSON_CreateObject();
	char text[ADDR_TEXT_MAX], key[WIREGUARD_KEY_TEXT_LEN + 1];
	cJSON *ranges;

	cJSON_AddStringToObject(json, "name", node->name);
	cJSON_AddBoolToObject(json, "local", nodes_is_local(agent->nodes, node));
	cJSON_AddItemToObject(json, "addresses",
			      api_addresses_json(node->node.addresses, node->node.address_count));
	ranges = cJSON_AddArrayToObject(json, "podCIDRs");
	for (size_t i = 0; i < node->node.pod_cidr_count; i++)
		cJSON_AddItemToArray(
			ranges, cJSON_CreateString(prefix_format(&node->node.pod_cidrs[i], text)));
	cJSON_AddItemToObject(json, "labels", api_labels_json(&node->node.labels));
	cJSON_AddStringToObject(json, "routing", nodes_routing(agent->nodes, node));
	cJSON_AddStringToObject(json, "encryption", nodes_encryption(agent->nodes, node));
	cJSON_AddStringToObject(json, "wireguardKey",
				wireguard_key_is_zero(&node->node.wireguard_key)
					? ""
					: wireguard_key_format(&node->node.wireguard_key, key));
	cJSON_AddStringToObject(json, "problem", problem ? problem : "");
	if (!nodes_is_local(agent->nodes, node)) {
		host_routing_add(json, agent);
		health_add(json, agent, node);
	}
	return json;
}

void api_nodes_list(struct api_call *call)
{
	const struct store *store = call->agent->store;
	cJSON *array = cJSON_CreateArray();

	for (const struct object *node = store_first(store, OBJECT_NODE); node;
	     node = store_next(store, node))
		cJSON_AddItemToArray(array, node_json(call->agent, node));
	api_reply(call, array);
}

void api_nodes_get(struct api_call *call)
{
	const struct object *node = store_find(call->agent->store, OBJECT_NODE, "", call->args[0]);

	if (node)
		api_reply(call, node_json(call->agent, node));
	else
		api_refuse(call, 404, "node %s: not found", call->args[0]);
}

void api_nodes_probe(struct api_call *call)
{
	health_probe(call->agent->health);
	api_reply(call, cJSON_CreateObject());
}

void api_key_rotate(struct api_call *call)
{
	char key[WIREGUARD_KEY_TEXT_LEN + 1];
	struct nodes *nodes = call->agent->nodes;
	struct errmsg err = {};
	cJSON *json;

	if (nodes_rotate_key(nodes, &err)) {
		api_error(call, &err);
		return;
	}
	json = cJSON_CreateObject();
	cJSON_AddStringToObject(json, "wireguardKey", wireguard_key_format(nodes_key(nodes), key));
	api_reply(call, json);
}
