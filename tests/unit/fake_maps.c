/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/fake_maps.h"

#include <errno.h>
#include <string.h>

static const struct {
	const char *name;
	size_t key_size;
	size_t value_size;
} layouts[MAP_COUNT] = {
	[MAP_IPCACHE] = { "ipcache_map", sizeof(struct addr), sizeof(struct ipcache_entry) },
	[MAP_CIDR] = { "cidr_map", sizeof(struct cidr_key), sizeof(uint32_t) },
	[MAP_POLICY] = { "policy_map", sizeof(struct policy_key), sizeof(struct policy_entry) },
	[MAP_PORT] = { "port_map", sizeof(struct port_key), sizeof(uint8_t) },
	[MAP_SERVICE] = { "service_map", sizeof(struct service_key), sizeof(struct service) },
	[MAP_BACKEND] = { "backend_map", sizeof(struct backend_key), sizeof(struct backend_entry) },
	[MAP_CT] = { "ct_map", sizeof(struct ct_key), sizeof(struct ct_entry) },
	[MAP_SOURCE_RANGE] = { "range_map", sizeof(struct source_range_key), sizeof(uint8_t) },
	[MAP_CLUSTER] = { "cluster_map", sizeof(struct cidr_key), sizeof(struct cluster_entry) },
	[MAP_NAT] = { "nat_map", sizeof(struct flow), sizeof(struct nat_entry) },
	[MAP_FLOW] = { "flow_map", sizeof(struct flow_key), sizeof(struct flow_record) },
};

void fake_maps_init(struct datapath *datapath)
{
	*datapath = (struct datapath){ 0 };
	for (int i = 0; i < MAP_COUNT; i++)
		table_init(&datapath->maps[i], layouts[i].key_size, layouts[i].value_size);
}

void fake_maps_done(struct datapath *datapath)
{
	for (int i = 0; i < MAP_COUNT; i++)
		table_done(&datapath->maps[i]);
}

const void *fake_map_get(const struct datapath *datapath, enum map_id map, const void *key)
{
	return table_find(&datapath->maps[map], key);
}

size_t fake_map_count(const struct datapath *datapath, enum map_id map)
{
	return datapath->maps[map].count;
}

static void changed(struct datapath *datapath)
{
	datapath->writes++;
	if (datapath->changed)
		datapath->changed(datapath, datapath->arg);
}

/* ---- maps.h ---------------------------------------------------------------------------------- */

const char *map_name(enum map_id map)
{
	return layouts[map].name;
}

struct node_state *maps_node(struct datapath *datapath)
{
	return &datapath->node;
}

void maps_bump_revision(struct datapath *datapath)
{
	datapath->node.revision++;
}

int maps_foreach(struct datapath *datapath, enum map_id map,
		 int (*each)(const void *key, const void *value, void *arg), void *arg)
{
	const void *key;
	const void *value;
	size_t pos = 0;
	int ret = 0;

	while (!ret && (value = table_next(&datapath->maps[map], &pos, &key)))
		ret = each(key, value, arg);
	return ret;
}

/* Counts what still succeeds. */
static bool is_broken(struct datapath *datapath, enum map_id map)
{
	if (!datapath->broken[map])
		return false;
	if (!datapath->broken_after[map])
		return true;
	datapath->broken_after[map]--;
	return false;
}

static int map_set(struct datapath *datapath, enum map_id map, const void *key, const void *value)
{
	struct table *table = &datapath->maps[map];
	bool is_full = datapath->capacity[map] && table->count >= datapath->capacity[map];
	void *held;

	if (is_broken(datapath, map))
		return -datapath->broken[map];
	if (is_full && !table_find(table, key))
		return map == MAP_CIDR || map == MAP_PORT ? -ENOSPC : -E2BIG; /* as the kernel */
	held = table_put(table, key);
	if (!held)
		return -ENOMEM;
	memcpy(held, value, layouts[map].value_size);
	changed(datapath);
	return 0;
}

int maps_set_batch(struct datapath *datapath, enum map_id map, const void *keys, const void *values,
		   size_t count, size_t *ret_done)
{
	size_t done = 0;
	int ret = 0;

	for (; done < count && !ret; done += !ret) {
		ret = map_set(datapath, map, (const char *)keys + done * layouts[map].key_size,
			      (const char *)values + done * layouts[map].value_size);
	}
	if (ret_done)
		*ret_done = done;
	return ret;
}

int maps_del_batch(struct datapath *datapath, enum map_id map, const void *keys, size_t count,
		   size_t *ret_done)
{
	size_t done = 0;
	int ret = 0;

	for (; done < count && !ret; done += !ret) {
		if (is_broken(datapath, map)) {
			ret = -datapath->broken[map];
		} else if (table_del(&datapath->maps[map],
				     (const char *)keys + done * layouts[map].key_size)) {
			datapath->deletes++;
			changed(datapath);
		}
	}
	if (ret_done)
		*ret_done = done;
	return ret;
}

int backend_map_get(struct datapath *datapath, const struct backend_key *key,
		    struct backend_entry *ret)
{
	const struct backend_entry *entry = fake_map_get(datapath, MAP_BACKEND, key);

	if (!entry)
		return -ENOENT;
	*ret = *entry;
	return 0;
}

int endpoint_map_get(struct datapath *datapath, uint16_t slot, struct endpoint_entry *ret)
{
	if (slot >= FAKE_ENDPOINTS)
		return -ENOENT;
	*ret = datapath->endpoints[slot];
	return 0;
}

int endpoint_map_limit(struct datapath *datapath, uint16_t slot, const uint64_t bytes_per_s[2])
{
	if (slot >= FAKE_ENDPOINTS)
		return -E2BIG;
	memcpy(datapath->limits[slot], bytes_per_s, sizeof(datapath->limits[slot]));
	return 0;
}

int endpoint_map_set(struct datapath *datapath, uint16_t slot,
		     const struct endpoint_entry *endpoint)
{
	if (slot >= FAKE_ENDPOINTS)
		return -E2BIG;
	datapath->endpoints[slot] = *endpoint;
	changed(datapath);
	return 0;
}
