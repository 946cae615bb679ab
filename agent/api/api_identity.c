/* SPDX-License-Identifier: Apache-2.0 */
/* API: identities with the addresses behind them, and the tracked connections. */
#include <arpa/inet.h>
#include <cjson/cJSON.h>
#include <errno.h>
#include <netinet/in.h>
#include <time.h>

#include "agent/api/api.h"
#include "agent/sync/sync.h"
#include "lib/alloc.h"
#include "lib/auto.h"

#define CONNTRACK_LIMIT     1000
#define CONNTRACK_LIMIT_MAX 50000

static cJSON *identity_json(const struct compiled_identity *identity)
{
	cJSON *json = cJSON_CreateObject();

	cJSON_AddNumberToObject(json, "id", identity->id);
	cJSON_AddStringToObject(json, "description",
				identity->description ? identity->description : "");
	if (identity->namespace)
		cJSON_AddStringToObject(json, "namespace", identity->namespace);
	else
		cJSON_AddNullToObject(json, "namespace");
	cJSON_AddItemToObject(json, "labels", api_labels_json(&identity->labels));
	return json;
}

/* Adds a text to the list of the identity that has this number. */
static void address_add(const struct compiled *compiled, cJSON *const lists[], uint32_t id,
			const char *text)
{
	const struct compiled_identity *identity = compiled_identity_find(compiled, id);

	if (identity)
		cJSON_AddItemToArray(lists[identity - compiled->identities],
				     cJSON_CreateString(text));
}

void api_identities_list(struct api_call *call)
{
	const struct compiled *compiled = sync_compiled(call->agent->sync);
	size_t count = compiled ? compiled->identity_count : 0;
	auto_free cJSON **lists = xcalloc(count, sizeof(cJSON *));
	cJSON *array = cJSON_CreateArray();
	char text[ADDR_TEXT_MAX];

	for (size_t i = 0; i < count; i++) {
		cJSON *json = identity_json(&compiled->identities[i]);

		lists[i] = cJSON_AddArrayToObject(json, "addresses");
		cJSON_AddItemToArray(array, json);
	}
	for (size_t i = 0; count && i < compiled->address_count; i++)
		address_add(compiled, lists, compiled->addresses[i].identity,
			    addr_format(&compiled->addresses[i].addr, text));
	for (size_t i = 0; count && i < compiled->cidr_count; i++)
		address_add(compiled, lists, compiled->cidrs[i].identity,
			    prefix_format(&compiled->cidrs[i].prefix, text));
	api_reply(call, array);
}

/* ---- conntrack ------------------------------------------------------------------------------- */

struct conntrack_walk {
	cJSON *array;
	size_t left;
	uint64_t now_ns;
};

static const char *connection_state(const struct ct_key *key, const struct ct_entry *entry)
{
	if (key->proto != IPPROTO_TCP)
		return entry->flags & CT_REPLIED ? "replied" : "unreplied";
	if (entry->flags & (CT_FIN_A | CT_FIN_B))
		return "closing";
	return entry->flags & CT_ESTABLISHED ? "established" : "opening";
}

static int connection_add(const void *map_key, const void *map_value, void *arg)
{
	const struct ct_key *key = map_key;
	const struct ct_entry *entry = map_value;
	struct conntrack_walk *walk = arg;
	bool from_b = entry->flags & CT_FROM_B;
	bool seen_before_now = walk->now_ns > entry->last_seen_ns;
	uint64_t age = seen_before_now ? (walk->now_ns - entry->last_seen_ns) / NS_PER_SEC : 0;
	cJSON *json = cJSON_CreateObject();
	char text[ADDR_TEXT_MAX];

	cJSON_AddStringToObject(json, "proto", proto_name(key->proto));
	cJSON_AddStringToObject(json, "source", addr_format(from_b ? &key->b : &key->a, text));
	cJSON_AddNumberToObject(json, "sourcePort", ntohs(from_b ? key->b_port : key->a_port));
	cJSON_AddStringToObject(json, "destination", addr_format(from_b ? &key->a : &key->b, text));
	cJSON_AddNumberToObject(json, "destinationPort", ntohs(from_b ? key->a_port : key->b_port));
	cJSON_AddStringToObject(json, "state", connection_state(key, entry));
	cJSON_AddNumberToObject(json, "ageSeconds", (double)age);
	cJSON_AddItemToArray(walk->array, json);
	return --walk->left == 0;
}

void api_conntrack_list(struct api_call *call)
{
	struct conntrack_walk walk = { .left = CONNTRACK_LIMIT };
	uint64_t limit = CONNTRACK_LIMIT;
	struct timespec now;
	char text[16];
	int ret = http_query_get(call->request->head.query, "limit", text, sizeof(text));

	if (ret != -ENOENT && (ret || number_parse(text, 1, CONNTRACK_LIMIT_MAX, &limit))) {
		api_refuse(call, 400, "limit: not a number between 1 and %d", CONNTRACK_LIMIT_MAX);
		return;
	}
	walk.left = limit;
	walk.array = cJSON_CreateArray();
	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	walk.now_ns = (uint64_t)now.tv_sec * NS_PER_SEC + (uint64_t)now.tv_nsec;
	ret = maps_foreach(call->agent->datapath, MAP_CT, connection_add, &walk);
	if (ret < 0) {
		cJSON_Delete(walk.array);
		api_refuse(call, 500, "read %s: %s", map_name(MAP_CT), strerror(-ret));
		return;
	}
	api_reply(call, walk.array);
}
