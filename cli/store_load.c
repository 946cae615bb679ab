/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/store_load.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <string.h>

#include "cli/agent_call.h"
#include "lib/alloc.h"
#include "lib/auto.h"

static cJSON *pod_item(const cJSON *items, const char *namespace, const char *name)
{
	cJSON *item;

	cJSON_ArrayForEach (item, items) {
		const cJSON *metadata = cJSON_GetObjectItemCaseSensitive(item, "metadata");

		if (strcmp(member_text(item, "kind", ""), "Pod") == 0 &&
		    strcmp(member_text(metadata, "namespace", ""), namespace) == 0 &&
		    strcmp(member_text(metadata, "name", ""), name) == 0)
			return item;
	}
	return NULL;
}

/* Makes a Pod of a wired endpoint, with the addresses that the agent gave it.  Without a Pod object
 * it has the labels that the runtime gave it. */
static void endpoint_join(const cJSON *endpoint, cJSON *items)
{
	const char *namespace = member_text(endpoint, "namespace", "");
	const char *name = member_text(endpoint, "name", "");
	cJSON *pod = pod_item(items, namespace, name), *addresses, *status;
	const cJSON *addr;

	if (!pod) {
		cJSON *metadata;

		pod = cJSON_CreateObject();
		cJSON_AddStringToObject(pod, "apiVersion", "v1");
		cJSON_AddStringToObject(pod, "kind", "Pod");
		metadata = cJSON_AddObjectToObject(pod, "metadata");
		cJSON_AddStringToObject(metadata, "namespace", namespace);
		cJSON_AddStringToObject(metadata, "name", name);
		cJSON_AddItemToObject(
			metadata, "labels",
			cJSON_Duplicate(cJSON_GetObjectItemCaseSensitive(endpoint, "labels"),
					true));
		cJSON_AddItemToArray(items, pod);
	}
	cJSON_DeleteItemFromObjectCaseSensitive(pod, "status");
	status = cJSON_AddObjectToObject(pod, "status");
	addresses = cJSON_AddArrayToObject(status, "podIPs");
	cJSON_ArrayForEach (addr, cJSON_GetObjectItemCaseSensitive(endpoint, "addresses")) {
		cJSON *ip = cJSON_CreateObject();

		cJSON_AddStringToObject(ip, "ip", cJSON_GetStringValue(addr));
		cJSON_AddItemToArray(addresses, ip);
	}
}

static void agent_node_addresses(struct cli_store *store, const cJSON *status)
{
	const cJSON *list = cJSON_GetObjectItemCaseSensitive(status, "nodeAddresses");
	const cJSON *item;

	store->node_addresses = xcalloc((size_t)cJSON_GetArraySize(list) + 1, sizeof(struct addr));
	cJSON_ArrayForEach (item, list) {
		if (cJSON_IsString(item) &&
		    addr_parse(item->valuestring,
			       &store->node_addresses[store->node_address_count]) == 0)
			store->node_address_count++;
	}
}

static int agent_objects(struct cli_store *store, const cJSON *items, struct errmsg *err)
{
	const cJSON *item;

	cJSON_ArrayForEach (item, items) {
		struct problems problems = { 0 };
		struct object *object = NULL;
		int ret = object_parse(item, PARSE_LENIENT, &object, &problems);
		char text[1024];

		if (ret == -EINVAL && problems.count)
			ret = fail_plain(
				err, ret, "%s",
				problem_format(&problems.items[0], "agent", text, sizeof(text)));
		problems_done(&problems);
		if (!ret)
			ret = store_put(store->objects, object, err);
		if (ret)
			return err->code ? ret : fail(err, ret, "objects of the agent");
	}
	return 0;
}

static bool same_object(const cJSON *a, const cJSON *b)
{
	const cJSON *a_meta = member_get(a, "metadata"), *b_meta = member_get(b, "metadata");

	return strcmp(member_text(a, "kind", ""), member_text(b, "kind", "")) == 0 &&
	       strcmp(member_text(a_meta, "name", ""), member_text(b_meta, "name", "")) == 0 &&
	       strcmp(member_text(a_meta, "namespace", "default"),
		      member_text(b_meta, "namespace", "default")) == 0;
}

/* Replaces items by the documents of the same name, and adds the others. */
static void documents_overlay(cJSON *items, const cJSON *documents)
{
	const cJSON *document;

	cJSON_ArrayForEach (document, documents) {
		cJSON *item;
		int index = 0;

		cJSON_ArrayForEach (item, items) {
			if (same_object(item, document)) {
				cJSON_DeleteItemFromArray(items, index);
				break;
			}
			index++;
		}
		cJSON_AddItemToArray(items, cJSON_Duplicate(document, true));
	}
}

static int agent_load(struct cli_store *store, const struct arguments *args, const cJSON *documents,
		      struct errmsg *err)
{
	cJSON *list = NULL, *endpoints = NULL, *status = NULL, *items;
	const cJSON *endpoint;
	int ret = agent_call(args, "GET", "/v1/objects", NULL, &store->listing, err);

	if (!ret)
		ret = agent_call(args, "GET", "/v1/objects?full=1", NULL, &list, err);
	if (!ret)
		ret = agent_call(args, "GET", "/v1/endpoints", NULL, &endpoints, err);
	if (!ret)
		ret = agent_call(args, "GET", "/v1/status", NULL, &status, err);
	agent_node_addresses(store, status);
	items = cJSON_GetObjectItemCaseSensitive(list, "items");
	documents_overlay(items, documents);
	cJSON_ArrayForEach (endpoint, endpoints)
		endpoint_join(endpoint, items);
	if (!ret)
		ret = agent_objects(store, items, err);
	cJSON_Delete(list);
	cJSON_Delete(endpoints);
	cJSON_Delete(status);
	return ret;
}

int store_load_agent(const struct arguments *args, const cJSON *documents,
		     struct cli_store **ret_store, struct errmsg *err)
{
	auto_(cli_store) struct cli_store *store = cli_store_new();
	int ret = agent_load(store, args, documents, err);

	if (!ret)
		*ret_store = take_ptr(store);
	return ret;
}

int store_load(const struct arguments *args, struct cli_store **ret_store, struct errmsg *err)
{
	auto_(cli_store) struct cli_store *store = cli_store_new();
	int ret = 0;

	store->verbose = args->verbose;
	store->merges = true;

	if (!ret && args->file_count == 0)
		ret = agent_load(store, args, NULL, err);
	for (size_t i = 0; !ret && i < args->file_count; i++)
		ret = cli_store_add(store, args->files[i], err);
	if (!ret)
		*ret_store = take_ptr(store);
	return ret;
}
