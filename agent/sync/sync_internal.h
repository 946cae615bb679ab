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

struct sync {
	struct datapath *datapath;
	const struct store *store;
	struct incremental *incremental; /* of the store */
	bool is_current;                 /* the maps hold all that was compiled last */
	void (*changed)(void *arg);      /* or NULL */
	void *changed_arg;
	bool audit;           /* every endpoint, see sync_set_audit() */
	bool deletes_allowed; /* the store is whole: it may change and remove, not only add */
	char missing[500];    /* why it is not */

	struct map_cache ipcache;
	struct map_cache cidrs;
	struct map_cache policies;
	struct map_cache ports;
	struct map_cache services;
	struct map_cache backends;
	struct port_sets port_sets;

	/* sync_service.c */
	struct table owners;      /* service_key -> uint64_t, hash of the service's name */
	struct table service_ids; /* id -> uint32_t, backends that its service_map entry promises */
	struct table vips;        /* addr -> uint32_t, service_map entries with this address */
	struct table unfinished;  /* owner -> struct service_shortage */
	uint32_t last_service_id;
	struct backend_key *retired; /* backends no service promises any more, see sync_trim() */
	size_t retired_count;
	size_t retired_room;
	struct event *trim_timer; /* NULL: nobody runs an event loop */
	uint64_t pod_changes;     /* store_pod_changes() that services by selector are made from */
	bool service_address_taken; /* by a pod or node, in this sync_policies() */

	char policy_warning[200];
	char service_conflict[200]; /* a service address that is somebody else's, or "" */
	char warning[600];
};

/* Brings the policy maps to what was compiled. */
int sync_apply(struct sync *sync, const struct compiled *compiled, struct errmsg *err);
/* The same where they held what was compiled before these changes; else compares everything. */
int sync_apply_changes(struct sync *sync, const struct compiled *compiled,
		       const struct compiled_changes *changes, struct errmsg *err);

/* At start: if an agent was killed while it wrote policy, live flows must ask again, for the next
 * run may find nothing left to write. */
void sync_apply_interrupted(struct sync *sync);
/* Writes the flags of every endpoint: audit has changed. */
int sync_apply_audit(struct sync *sync, const struct compiled *compiled, struct errmsg *err);

/* sync_service.c: its tables, from what the map caches hold.  base may be NULL. */
int sync_services_init(struct sync *sync, struct event_base *base);
void sync_services_done(struct sync *sync);
/* Deletes retired backends.  Runs a moment after they were retired, when no program can be between
 * its look-up of the service and that of the backend. */
int sync_trim(struct sync *sync);
/* What is missing in the service maps, for sync_warning(). */
void sync_services_warning(const struct sync *sync, char *buf, size_t size);

#endif
