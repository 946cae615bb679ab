/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/store_shuffle.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "lib/auto.h"
#include "policy/objects/parse.h"

#include <cmocka.h> /* last: it makes fail a macro */

static void put_json(struct world *world, const cJSON *json)
{
	char *text = cJSON_PrintUnformatted(json);
	struct problems problems = { 0 };
	struct object_list list = { 0 };

	if (objects_parse(text, strlen(text), 0, &list, &problems) != 0)
		fail_msg("%s", text);
	for (size_t i = 0; i < list.count; i++) {
		struct errmsg err = { 0 };
		int ret = world_put(world, list.items[i], &err);

		assert_true(ret == 0 || ret == -EEXIST);
	}
	list.count = 0;
	object_list_done(&list);
	problems_done(&problems);
	free(text);
}

void random_objects_put(struct world *world, uint32_t percent)
{
	struct scene scene = random_scene(false);
	const cJSON *json;

	cJSON_ArrayForEach (json, scene.objects) {
		if (chance(percent))
			put_json(world, json);
	}
	scene_done(&scene);
}

static const struct object *random_object_of(const struct world *world, enum object_kind kind)
{
	const struct object *const *objects;
	size_t count = world_objects(world, kind, &objects);

	return count ? objects[random_below((uint32_t)count)] : NULL;
}

static void delete_one(struct world *world)
{
	static const enum object_kind kinds[] = { OBJECT_POD,
						  OBJECT_POD,
						  OBJECT_NETWORK_POLICY,
						  OBJECT_NETWORK_POLICY,
						  OBJECT_CLUSTER_POLICY,
						  OBJECT_NAMESPACE,
						  OBJECT_NODE };
	enum object_kind kind = kinds[random_below(ARRAY_SIZE(kinds))];
	const struct object *object = random_object_of(world, kind);

	if (object)
		world_del(world, kind, object->namespace, object->name);
}

static void put_endpoint(struct world *world)
{
	const struct object *pod = random_object_of(world, OBJECT_POD);
	struct label label = { .key = (char *)"app", .value = (char *)"a" };
	struct world_endpoint endpoint = { .slot = (uint16_t)(1 + random_below(RANDOM_SLOTS)),
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
	assert_int_equal(world_endpoint_set(world, &endpoint), 0);
}

static void set_hosts(struct world *world)
{
	struct addr hosts[2];

	assert_int_equal(addr_parse(HOST_V4, &hosts[0]), 0);
	assert_int_equal(addr_parse(HOST_V6, &hosts[1]), 0);
	assert_int_equal(world_host_addresses_set(world, hosts, random_below(3)), 0);
}

void world_shake(struct world *world, bool hosts)
{
	uint32_t what = random_below(100);

	if (what < 45)
		random_objects_put(world, 6);
	else if (what < 75)
		delete_one(world);
	else if (what < 90 && world_is_local(world))
		put_endpoint(world);
	else if (what < 96)
		world_endpoint_del(world, (uint16_t)(1 + random_below(RANDOM_SLOTS)));
	else if (what < 97 && hosts)
		set_hosts(world);
	else if (what < 98)
		random_objects_put(world, 40);
}
