/* SPDX-License-Identifier: Apache-2.0 */
#include "harness/entry.h"

#include "datapath/state.h"

int ipcache_map_del(struct datapath *datapath, const struct addr *addr)
{
	return map_del(datapath, MAP_IPCACHE, addr);
}

int cidr_map_set(struct datapath *datapath, const struct cidr_key *key, uint32_t identity)
{
	return map_set(datapath, MAP_CIDR, key, &identity);
}

int cidr_map_del(struct datapath *datapath, const struct cidr_key *key)
{
	return map_del(datapath, MAP_CIDR, key);
}

int policy_map_set(struct datapath *datapath, const struct policy_key *key,
		   const struct policy_entry *entry)
{
	return map_set(datapath, MAP_POLICY, key, entry);
}

int policy_map_del(struct datapath *datapath, const struct policy_key *key)
{
	return map_del(datapath, MAP_POLICY, key);
}

int port_map_set(struct datapath *datapath, const struct port_key *key, uint8_t verdict)
{
	return map_set(datapath, MAP_PORT, key, &verdict);
}

int port_map_del(struct datapath *datapath, const struct port_key *key)
{
	return map_del(datapath, MAP_PORT, key);
}

int service_map_set(struct datapath *datapath, const struct service_key *key,
		    const struct service *service)
{
	return map_set(datapath, MAP_SERVICE, key, service);
}

int service_map_get(struct datapath *datapath, const struct service_key *key,
		    struct service *ret_service)
{
	return map_get(datapath, MAP_SERVICE, key, ret_service);
}

int service_map_del(struct datapath *datapath, const struct service_key *key)
{
	return map_del(datapath, MAP_SERVICE, key);
}

int backend_map_set(struct datapath *datapath, const struct backend_key *key,
		    const struct backend *backend)
{
	const struct backend_entry entry = { .backend = *backend };

	return map_set(datapath, MAP_BACKEND, key, &entry);
}

int backend_map_del(struct datapath *datapath, const struct backend_key *key)
{
	return map_del(datapath, MAP_BACKEND, key);
}

int range_map_set(struct datapath *datapath, const struct source_range_key *key)
{
	const uint8_t one = 1;

	return map_set(datapath, MAP_SOURCE_RANGE, key, &one);
}

int ct_map_get(struct datapath *datapath, const struct ct_key *key, struct ct_entry *ret_entry)
{
	return map_get(datapath, MAP_CT, key, ret_entry);
}
