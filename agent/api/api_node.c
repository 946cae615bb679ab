/* SPDX-License-Identifier: Apache-2.0 */
/* API: the nodes, and how their pods are reached. */
#include <cjson/cJSON.h>

#include "agent/api/api.h"
#include "agent/nodes/nodes.h"
#include "lib/wireguard_key.h"

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
