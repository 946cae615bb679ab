/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/store_shuffle.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "lib/auto.h"
#include "policy/objects/parse.h"

#include <cmocka.h> /* last: it makes fail a macro */

static void put_json(struct store *store, const cJSON *json)
{
	char *text = cJSON_PrintUnformatted(json);
	struct problems problems = { 0 };
	struct object_list list = { 0 };

	if (objects_parse(text, strlen(text), 0, &list, &problems) != 0)
		fail_msg("%s", text);
	for (size_t i = 0; i < list.count; i++) {
		struct errmsg err = { 0 };
		int ret = store_put(store, list.items[i], &err);

		assert_true(ret == 0 || ret == -EEXIST);
	}
	list.count = 0;
	object_list_done(&list);
	problems_done(&problems);
	free(text);
}

void random_objects_put(struct store *store, uint32_t percent)
{
	struct snapshot snapshot = random_snapshot(false);
	const cJSON *json;

	cJSON_ArrayForEach (json, snapshot.objects) {
		if (chance(percent))
			put_json(store, json);
	}
	snapshot_done(&snapshot);
}

static const struct object *random_object_of(const struct store *store, enum object_kind kind)
{
	const struct object *const *objects;
	size_t count = store_objects(store, kind, &objects);

	return count ? objects[random_below((uint32_t)count)] : NULL;
}

static void delete_one(struct store *store)
{
	static const enum object_kind kinds[] = { OBJECT_POD,
						  OBJECT_POD,
						  OBJECT_NETWORK_POLICY,
						  OBJECT_NETWORK_POLICY,
						  OBJECT_CLUSTER_POLICY,
						  OBJECT_NAMESPACE,
						  OBJECT_NODE };
	enum object_kind kind = kinds[random_below(ARRAY_SIZE(kinds))];
	const struct object *object = random_object_of(store, kind);

	if (object)
		store_del(store, kind, object->namespace, object->name);
}

/* A pod with the address of another: one of the two is being deleted, or it is refused. */
static void put_successor(struct store *store)
{
	static const char deleted[] = ", \"deletionTimestamp\": \"2026-01-01T00:00:00Z\"";
	const struct object *pod = random_object_of(store, OBJECT_POD);
	char address[ADDR_TEXT_MAX];
	char text[400];
	cJSON *json;

	if (!pod || pod->pod.address_count == 0)
		return;
	addr_format(&pod->pod.addresses[0], address);
	snprintf(text, sizeof(text),
		 "{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"metadata\": {\"name\": \"next%u\", "
		 "\"namespace\": \"%s\", \"labels\": {\"app\": \"%s\"}%s}, \"status\": "
		 "{\"podIP\": \"%s\"}}",
		 random_below(4), pod->namespace, chance(50) ? "a" : "b", chance(70) ? deleted : "",
		 address);
	json = cJSON_Parse(text);
	put_json(store, json);
	cJSON_Delete(json);
}

static void put_endpoint(struct store *store)
{
	const struct object *pod = random_object_of(store, OBJECT_POD);
	struct label label = { .key = (char *)"app", .value = (char *)"a" };
	struct store_endpoint endpoint = { .slot = (uint16_t)(1 + random_below(RANDOM_SLOTS)),
					   .labels = { .items = &label, .count = 1 } };

	if (!pod)
		return;
	endpoint.namespace = pod->namespace;
	endpoint.name = chance(80) ? pod->name : (char *)"unknown";
	endpoint.uid = (char *)(chance(90) ? "" : "other");
	for (; endpoint.address_count < pod->pod.address_count && endpoint.address_count < 2;
	     endpoint.address_count++)
		endpoint.addresses[endpoint.address_count] =
			pod->pod.addresses[endpoint.address_count];
	if (chance(10) && endpoint.address_count)
		endpoint.address_count--;
	store_endpoint_set(store, &endpoint);
}

static void set_hosts(struct store *store)
{
	struct addr hosts[2];

	assert_int_equal(addr_parse(HOST_V4, &hosts[0]), 0);
	assert_int_equal(addr_parse(HOST_V6, &hosts[1]), 0);
	store_host_addresses_set(store, hosts, random_below(3));
}

void store_shuffle(struct store *store, bool hosts)
{
	uint32_t what = random_below(100);

	if (what < 35)
		random_objects_put(store, 6);
	else if (what < 45)
		put_successor(store);
	else if (what < 75)
		delete_one(store);
	else if (what < 90 && store_is_local(store))
		put_endpoint(store);
	else if (what < 96)
		store_endpoint_del(store, (uint16_t)(1 + random_below(RANDOM_SLOTS)));
	else if (what < 97 && hosts)
		set_hosts(store);
	else if (what < 98)
		random_objects_put(store, 40);
}
