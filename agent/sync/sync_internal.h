/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of sync, and the calls that sync.c makes.  sync_policy.c and sync_service.c write
 * different maps; they call neither sync.c nor each other.
 */
#ifndef TENDRIL_AGENT_SYNC_SYNC_INTERNAL_H
#define TENDRIL_AGENT_SYNC_SYNC_INTERNAL_H

#include "agent/sync/map_cache.h"
#include "agent/sync/port_set.h"
#include "agent/sync/sync.h"
#include "policy/compiler/incremental.h"
#include "policy/objects/service.h"

struct event;

struct pool_counts {
	uint32_t cluster;
	uint32_t keeping;
	uint32_t local;
	uint32_t table; /* places of the Maglev table */
};

/* The endpoints of one port of a service in one family, as they are in the maps; by service_map id.
 */
struct pool_state {
	uint64_t owner;            /* hash of the service's name; 0: not known yet */
	uint32_t port;             /* hash of the port's name, its protocol and the family */
	uint32_t frontends;        /* service_map entries with this id */
	struct pool_counts counts; /* the largest counts that one of these entries has */
	uint64_t unused;           /* hash of the endpoints that are in no map: not ready */
};

struct series {
	char *namespace;
	char *name;
};

/* A backend in metrics. */
struct series_key {
	uint64_t owner; /* hash of the service's name */
	struct backend backend;
	uint32_t pad;
};

/* A backend of a port; all zero but for the id: those that are gone. */
struct counted_key {
	uint32_t service_id;
	struct backend backend;
};

struct sync {
	struct datapath *datapath;
	const struct store *store;
	struct incremental *incremental; /* of the store */
	bool is_current;                 /* the maps have all that was compiled last */
	void (*changed)(void *arg);      /* or NULL */
	void *changed_arg;
	bool egress_limited;              /* there is, or was, a pod with such a limit */
	void (*limit_changed)(void *arg); /* or NULL */
	void *limit_arg;
	void (*outside_changed)(void *arg); /* or NULL */
	void *outside_arg;
	void (*lost)(void *arg); /* or NULL */
	void *lost_arg;
	void (*services_changed)(void *arg); /* or NULL */
	void *services_changed_arg;
	void (*conflict)(const struct service_conflict *conflict, void *arg); /* or NULL */
	void *conflict_arg;
	uint64_t services_told; /* writes and deletions then */
	uint64_t losses;        /* backends that were replaced or retired */
	uint64_t losses_told;   /* sum of them and of the deletions, see sync_losses_tell() */
	bool audit;             /* every endpoint, see sync_set_audit() */
	bool deletes_allowed;   /* the store is complete: entries may be changed and removed */
	bool all_pods;          /* the store has the pods of all nodes */
	char missing[500];      /* why it is not complete */

	struct map_cache ipcache;
	struct map_cache cidrs;
	struct map_cache policies;
	struct map_cache ports;
	struct map_cache services;
	struct map_cache backends;
	struct map_cache ranges;
	struct port_sets port_sets;

	/* sync_service.c, sync_backend.c */
	struct service_settings settings;
	struct service_node node;
	uint64_t node_changes;   /* store_node_changes() that node is made from */
	bool local_by_address;   /* a service needs this node's pods, and no Node object tells */
	struct table pools;      /* id -> struct pool_state */
	struct table owners;     /* hash of a service's name -> uint32_t, its service_map entries */
	struct table vips;       /* addr -> uint32_t, service_map entries in need of ipcache_map */
	struct table unfinished; /* hash of a service's name -> struct service_shortage */
	uint64_t freed; /* entries of service_map deleted before the last sync of all services */
	struct table counted; /* struct counted_key -> struct service_count: not in maps */
	struct table series;  /* hash of a service's name -> struct series: in metrics by name */
	size_t series_max;
	struct table backend_series; /* struct series_key: in metrics by address */
	size_t backend_series_max;
	struct table health_checks; /* hash of a service's name -> struct health_check */
	uint32_t last_service_id;
	struct table
		retired; /* struct backend_key: no service uses them any more, see sync_trim() */
	struct event *trim_timer; /* NULL: there is no event loop */
	uint64_t pod_changes;     /* store_pod_changes() that services by selector are made from */
	bool service_address_taken; /* by a pod or node, in this sync_policies() */

	char policy_warning[200];
	char host_ip_warning[700];  /* a host port that nobody reaches, or "" */
	char service_conflict[200]; /* a service address that something else has, or "" */
	char warning[1400];
};

/* Writes the policy maps as they were compiled. */
int sync_apply(struct sync *sync, const struct compiled *compiled, struct errmsg *err);
/* The same, but writes only these changes if the maps are current; else compares everything. */
int sync_apply_changes(struct sync *sync, const struct compiled *compiled,
		       const struct compiled_changes *changes, struct errmsg *err);

/* At the start: if an agent was killed while it wrote policy, raises the revision, because the next
 * run may find nothing to write. */
void sync_apply_interrupted(struct sync *sync);
/* Writes the flags of every endpoint: audit has changed. */
int sync_apply_audit(struct sync *sync, const struct compiled *compiled, struct errmsg *err);

/* sync_service.c: its tables, from what the map caches hold.  base may be NULL. */
int sync_services_init(struct sync *sync, struct event_base *base);
void sync_services_done(struct sync *sync);
/* Reads the node again if it may have changed.  True: it has, and all services must be synced. */
bool sync_node_refresh(struct sync *sync);

/* Host ports of all pods -> maps; part of sync_services(), too. */
int sync_host_ports(struct sync *sync, struct errmsg *err);

/* sync_backend.c: queues the writes that give this id the pool's backends. */
void sync_pool_place(struct sync *sync, uint32_t id, const struct service_pool *pool);
/* How many of the wanted ones are in the map, without a gap. */
struct pool_counts sync_pool_present(const struct sync *sync, uint32_t id,
				     const struct pool_counts *wanted);
/* Records the backends beyond the smaller counts for sync_trim(). */
void sync_pool_retire(struct sync *sync, uint32_t id, const struct pool_counts *before,
		      const struct pool_counts *after);
/* Records the backends that no service uses. */
void sync_backends_leftovers(struct sync *sync);
/* Whether the counts of some service include this backend. */
bool sync_backend_is_promised(const struct sync *sync, const struct backend_key *key);
/* Deletes retired backends.  Runs a moment after they were retired: then no program is between its
 * lookup of the service and that of the backend. */
int sync_trim(struct sync *sync);
/* Calls what sync_on_losses() was given if there were any since the last time. */
void sync_losses_tell(struct sync *sync);
/* The service_map entry that an address and port have; NULL: none.  Node ports on loopback
 * addresses are known under 127.0.0.1. */
const struct service *sync_service_find(const struct sync *sync, const struct service_key *service);

/* sync_count.c */
void sync_counts_init(struct sync *sync);
void sync_counts_done(struct sync *sync);
/* Adds what the programs counted at an entry of backend_map that is about to change. */
void sync_count_settle(struct sync *sync, const struct backend_key *key);
void sync_counts_settle(struct sync *sync, const struct backend_key *keys, size_t count);
/* What is missing in the service maps, for sync_warning(). */
void sync_services_warning(const struct sync *sync, char *buf, size_t size);

#endif
