/* SPDX-License-Identifier: Apache-2.0 */
/* One run of sync_service.c over the maps: makes a plan, then writes it. */
#ifndef TENDRIL_AGENT_SYNC_SERVICE_RUN_H
#define TENDRIL_AGENT_SYNC_SERVICE_RUN_H

#include "agent/sync/sync_internal.h"

/* What is missing in the maps for one service. */
struct service_shortage {
	uint32_t backends; /* entries that did not fit */
	uint32_t services;
	uint32_t addresses;
	uint32_t ranges;
	uint32_t conflicts; /* frontends with an address of a pod, a node or another service */
};

/* Frontends that are being written, those of a pool one after the other. */
struct frontend_plan {
	struct service_key key;
	uint32_t affinity_s;
	uint32_t held_id; /* in the map before the run; 0: none */
	uint8_t held_kind;
	uint8_t kind;
	uint8_t flags;
};

struct pool_plan {
	uint32_t id;
	uint32_t port;
	uint64_t owner;
	struct pool_counts wanted;
	uint64_t unused; /* as in struct pool_state */
	size_t frontend_count;
};

struct service_run {
	struct sync *sync;
	struct frontend_plan *frontends;
	size_t frontend_count;
	size_t frontend_room;
	struct pool_plan *pools;
	size_t pool_count;
	size_t pool_room;
	struct table planned; /* struct service_key -> owner, of frontends that are new to it */
	size_t written;       /* frontends that are in the map now */
	uint64_t owner;       /* of the one service; 0: all */
	bool outside;         /* some frontend is for clients outside */
	/* Node ports, host order. */
	uint16_t port_min;
	uint16_t port_max;
};

static inline struct service_shortage *shortage_of(struct sync *sync, uint64_t owner)
{
	return table_put(&sync->unfinished, &owner);
}

/* Whether ipcache_map has the address as a service's.  Node ports and host ports use the node's own
 * addresses, which are there as the node's, or not at all. */
static inline bool kind_has_address(uint8_t kind)
{
	return kind != NODE_PORT && kind != HOST_PORT;
}

/* ---- sync_service_plan.c ---- */

/* A hash of "namespace/name", which cannot contain another slash.  64 bits under a secret key: two
 * services never collide. */
uint64_t service_owner(const char *namespace, const char *name);
/* Plans the frontends and pools of a service; queues backends and ranges. */
int service_plan(struct service_run *run, const struct object *service);
/* The same for the host ports of all pods, which have one owner. */
uint64_t host_ports_owner(void);
int host_ports_plan(struct service_run *run);

/* ---- sync_health.c ---- */

/* Keeps what a service's health check says, if it has one. */
void health_note(struct sync *sync, uint64_t owner, const struct object *service,
		 const struct service_frontends *frontends);
void health_forget(struct sync *sync, uint64_t owner);
void health_forget_all(struct sync *sync);

/* ---- sync_service_write.c ---- */

/* Counts a service_map entry that was read at start, or is new; an entry of the owner, if known. */
void entry_count(struct sync *sync, const struct addr *addr, const struct service *service);
void owner_count(struct sync *sync, uint64_t owner, int change);
struct pool_counts counts_max(const struct pool_counts *a, const struct service *b);
/* Writes the plan into the maps, and deletes what is not wanted any more. */
int run_write(struct service_run *run);
/* Deletes what a killed agent left: backends and addresses without a service. */
int leftovers_forget(struct sync *sync);

#endif
