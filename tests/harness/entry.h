/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Single entries of maps that the agent only writes in batches.  All functions return 0 or a
 * negative errno (-E2BIG, -ENOSPC: the map is full); to delete what is not there is no failure.
 */
#ifndef TENDRIL_TESTS_HARNESS_ENTRY_H
#define TENDRIL_TESTS_HARNESS_ENTRY_H

#include <stdint.h>

#include "datapath/maps.h"

int ipcache_map_del(struct datapath *datapath, const struct addr *addr);

int cidr_map_set(struct datapath *datapath, const struct cidr_key *key, uint32_t identity);
int cidr_map_del(struct datapath *datapath, const struct cidr_key *key);

int policy_map_set(struct datapath *datapath, const struct policy_key *key,
		   const struct policy_entry *entry);
int policy_map_del(struct datapath *datapath, const struct policy_key *key);
int port_map_set(struct datapath *datapath, const struct port_key *key, uint8_t verdict);
int port_map_del(struct datapath *datapath, const struct port_key *key);

int service_map_set(struct datapath *datapath, const struct service_key *key,
		    const struct service *service);
int service_map_get(struct datapath *datapath, const struct service_key *key, struct service *ret);
int service_map_del(struct datapath *datapath, const struct service_key *key);
int backend_map_set(struct datapath *datapath, const struct backend_key *key,
		    const struct backend *backend);
int backend_map_del(struct datapath *datapath, const struct backend_key *key);
int range_map_set(struct datapath *datapath, const struct source_range_key *key);

int ct_map_get(struct datapath *datapath, const struct ct_key *key, struct ct_entry *ret);

#endif
