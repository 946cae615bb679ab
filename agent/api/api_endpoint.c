/* SPDX-License-Identifier: Apache-2.0 */
/* API: endpoints: their wiring, their policy and their counters. */
#include <cjson/cJSON.h>

#include "agent/api/api.h"
#include "agent/endpoint/endpoint.h"
#include "agent/sync/sync.h"
#include "lib/auto.h"
#include "policy/objects/policy.h"

static const struct compiled_subject *subject_by_slot(const struct agent *agent, uint16_t slot)
{
	const struct compiled *compiled = sync_compiled(agent->sync);

	for (size_t i = 0; compiled && i < compiled->subject_count; i++) {
		if (compiled->subjects[i].slot == slot)
			return &compiled->subjects[i];
	}
	return NULL;
}

/* "policy": what is enforced, and the objects that select the endpoint. */
static cJSON *enforcement_json(const struct agent *agent, const struct compiled_subject *subject,
			       const char *namespace, const struct labels *labels)
{
	const struct object *const *policies;
	size_t count = store_range(agent->store, OBJECT_NETWORK_POLICY, namespace, &policies);
	bool ingress = subject && subject->ingress_isolated;
	bool egress = subject && subject->egress_isolated;
	cJSON *json = cJSON_CreateObject();
	cJSON *names;

	cJSON_AddNumberToObject(json, "id", subject ? subject->policy_id : 0);
	cJSON_AddStringToObject(json, "ingress", ingress ? "isolated" : "open");
	cJSON_AddStringToObject(json, "egress", egress ? "isolated" : "open");
	names = cJSON_AddArrayToObject(json, "policies");
	for (size_t i = 0; i < count; i++) {
		if (selector_matches(&policies[i]->policy.pods, labels))
			cJSON_AddItemToArray(
				names, api_name_json(policies[i]->namespace, policies[i]->name));
	}
	for (const struct object *o = store_first(agent->store, OBJECT_CLUSTER_POLICY); o;
	     o = store_next(agent->store, o)) {
		if (policy_selects(agent->store, o, namespace, labels))
			cJSON_AddItemToArray(names, api_name_json("", o->name));
	}
	return json;
}

static cJSON *stats_json(const struct agent *agent, uint16_t slot)
{
	cJSON *json = cJSON_CreateObject();
	struct endpoint_stats stats = {};

	endpoint_stats_get(agent->datapath, slot, &stats); /* zeros if it fails */
	cJSON_AddNumberToObject(json, "txPackets", (double)stats.tx_packets);
	cJSON_AddNumberToObject(json, "txBytes", (double)stats.tx_bytes);
	cJSON_AddNumberToObject(json, "rxPackets", (double)stats.rx_packets);
	cJSON_AddNumberToObject(json, "rxBytes", (double)stats.rx_bytes);
	cJSON_AddNumberToObject(json, "drops", (double)stats.drops);
	cJSON_AddNumberToObject(json, "wouldDrops", (double)stats.would_drops);
	cJSON_AddNumberToObject(json, "accelConnections", (double)stats.accel_connections);
	cJSON_AddNumberToObject(json, "accelBytes", (double)stats.accel_bytes);
	cJSON_AddNumberToObject(json, "accelFallbacks", (double)stats.accel_fallbacks);
	return json;
}

/* Bits a second; a limit that there is not is not there. */
static cJSON *bandwidth_json(const struct compiled_subject *subject)
{
	cJSON *json = cJSON_CreateObject();

	if (subject && subject->egress_bandwidth)
		cJSON_AddNumberToObject(json, "egress", (double)subject->egress_bandwidth);
	if (subject && subject->ingress_bandwidth)
		cJSON_AddNumberToObject(json, "ingress", (double)subject->ingress_bandwidth);
	return json;
}

static cJSON *endpoint_json(const struct agent *agent, const struct endpoint_info *info)
{
	const struct store_endpoint *endpoint = store_endpoint_find(agent->store, info->slot);
	const struct object *pod = endpoint ? store_endpoint_pod(agent->store, endpoint) : NULL;
	const struct labels *labels = pod ? &pod->pod.labels : info->labels;
	const struct compiled_subject *subject = subject_by_slot(agent, info->slot);
	static const struct labels none;
	cJSON *json = cJSON_CreateObject();
	char mac[18];

	if (!labels)
		labels = &none;
	cJSON_AddNumberToObject(json, "slot", info->slot);
	cJSON_AddStringToObject(json, "containerId", info->container_id);
	cJSON_AddStringToObject(json, "ifname", info->ifname);
	cJSON_AddStringToObject(json, "namespace", info->namespace);
	cJSON_AddStringToObject(json, "name", info->name);
	cJSON_AddStringToObject(json, "uid", info->uid ? info->uid : "");
	cJSON_AddStringToObject(json, "state", info->state);
	cJSON_AddStringToObject(json, "reason", info->reason);
	cJSON_AddItemToObject(json, "addresses",
			      api_addresses_json(info->addresses, info->address_count));
	cJSON_AddStringToObject(json, "mac", mac_format(info->mac, mac));
	cJSON_AddStringToObject(json, "hostInterface", info->host_ifname);
	cJSON_AddNumberToObject(json, "hostIfindex", info->host_ifindex);
	cJSON_AddNumberToObject(json, "identity", subject ? subject->identity : 0);
	cJSON_AddItemToObject(json, "labels", api_labels_json(labels));
	cJSON_AddItemToObject(json, "policy",
			      enforcement_json(agent, subject, info->namespace, labels));
	cJSON_AddBoolToObject(json, "accelerate", subject && subject->accel);
	cJSON_AddBoolToObject(json, "audit",
			      sync_audit(agent->sync) || (subject && subject->audit));
	cJSON_AddItemToObject(json, "bandwidth", bandwidth_json(subject));
	cJSON_AddItemToObject(json, "stats", stats_json(agent, info->slot));
	return json;
}

void api_endpoints_list(struct api_call *call)
{
	cJSON *array = cJSON_CreateArray();
	struct endpoint_info info;

	for (uint16_t slot = 0; endpoints_next(call->agent->endpoints, slot, &info);
	     slot = info.slot)
		cJSON_AddItemToArray(array, endpoint_json(call->agent, &info));
	api_reply(call, array);
}

void api_endpoints_get(struct api_call *call)
{
	struct endpoint_info info;

	if (endpoints_by_pod(call->agent->endpoints, call->args[0], call->args[1], &info))
		api_reply(call, endpoint_json(call->agent, &info));
	else
		api_refuse(call, 404, "endpoint %s/%s: not found", call->args[0], call->args[1]);
}
