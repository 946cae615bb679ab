/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the store to the maps: compiles, compares with the maps, writes the difference, raises the
 * revision.  An entry is written before entries that refer to it, and deletions come last, so that
 * no packet meets a half-written policy.
 */
#ifndef TENDRIL_AGENT_SYNC_SYNC_H
#define TENDRIL_AGENT_SYNC_SYNC_H

#include "datapath/maps.h"
#include "lib/errmsg.h"
#include "policy/compiler/compile.h"
#include "policy/objects/service.h"

struct sync;
struct event_base;

/* Reads the pinned maps, so that the first sync_policies() writes only differences.  Nothing is
 * removed before sync_set_missing(NULL), because the store may be incomplete. */
int sync_new(struct event_base *base, struct datapath *datapath, struct store *store,
	     struct sync **ret, struct errmsg *err);
void sync_free(struct sync *sync);
/* Says why the store is incomplete (a source could not be read yet), as a sentence.  NULL: it is
 * complete, and entries without an object may be removed from the maps. */
void sync_set_missing(struct sync *sync, const char *missing);
const char *sync_missing(const struct sync *sync); /* NULL: nothing */

/* Syncs policies, identities and addresses, and the compiler's fields of endpoint_map (flags,
 * policy_id, identity; the endpoint's owner must have set the other fields before).  -ENOSPC: err
 * names the full map; what could be written stays. */
int sync_policies(struct sync *sync, struct errmsg *err);
/* Syncs one service (by its key, existing or not), or all of them. */
int sync_service(struct sync *sync, const char *namespace, const char *name, struct errmsg *err);
int sync_services(struct sync *sync, struct errmsg *err);
/* sync_policies() and sync_services(), which goes on after an error of the first. */
int sync_everything(struct sync *sync, struct errmsg *err);

/* Sets the administrator's settings of services; called before the first service is synced. */
void sync_set_services(struct sync *sync, const struct service_settings *settings);
/* The node as the service tables use it, borrowed until the store changes. */
const struct service_node *sync_node(struct sync *sync);

/* Sets whether every endpoint is audited (ENDPOINT_AUDIT), not only those whose pods ask for it.
 * When it returns, that is in force for live connections, too. */
int sync_set_audit(struct sync *sync, bool audit, struct errmsg *err);
bool sync_audit(const struct sync *sync);

/* Calls changed() each time the revision was raised. */
void sync_on_change(struct sync *sync, void (*changed)(void *arg), void *arg);

/* Calls changed() when the first service for clients outside comes (NODE_OUTSIDE).  At that moment
 * services are being written. */
void sync_on_outside(struct sync *sync, void (*changed)(void *arg), void *arg);

/* Calls changed() when the first pod has a limit of what it sends. */
void sync_on_egress_limit(struct sync *sync, void (*changed)(void *arg), void *arg);

/* A service whose load balancer asks this node whether it has endpoints. */
struct health_check {
	char *namespace;
	char *name;
	uint16_t port;     /* healthCheckNodePort */
	uint32_t local_v4; /* endpoints of this node that are ready, by family */
	uint32_t local_v6;
};

/* The next of them, borrowed, in no order; NULL at the end.  *pos is 0 at the start. */
const struct health_check *sync_health_checks(const struct sync *sync, size_t *pos);
size_t sync_health_check_count(const struct sync *sync);
/* Where node ports and health checks are, if that is at chosen addresses alone (nodePortAddresses);
 * false: at all addresses of the node. */
bool sync_chosen_addresses(struct sync *sync, const struct addr **ret_addresses, size_t *ret_count);

/* Calls lost() each time backends, services or addresses have gone, and when the store has become
 * complete: what sync_find_gone() says may have changed.  Maps are being written at that moment. */
void sync_on_losses(struct sync *sync, void (*lost)(void *arg), void *arg);

/* A socket or a translated flow that uses a backend. */
struct backend_user {
	struct service_key service; /* what it asked for */
	struct backend backend;     /* what it got */
	uint64_t owner;             /* sync's own; 0 */
	bool own_range;             /* only a pod of this node could have the backend's address */
	bool gone;                  /* answer: the backend is gone */
};

/* Calls changed() after addresses of services were written or deleted. */
void sync_on_services(struct sync *sync, void (*changed)(void *arg), void *arg);

/* An address and port that somebody else has, asked for by a Service or by a hostPort of a Pod.
 * All borrowed. */
struct service_conflict {
	const char *kind; /* of the object */
	const char *namespace;
	const char *name;
	const char *uid;
	const char *text; /* what a person is told */
};

/* Calls conflict() while services are written, with the first conflict of each object. */
void sync_on_conflicts(struct sync *sync,
		       void (*conflict)(const struct service_conflict *conflict, void *arg),
		       void *arg);

/* A service, or the host ports of all pods; name is filled by sync_owners_name(). */
struct service_owner {
	uint64_t id;    /* sync's own */
	char name[540]; /* "Service shop/web", "a host port" */
};

/* Whether programs take what comes to this address and port of the node itself for a service;
 * *ret_owner is whose it is. */
bool sync_takes_port(const struct sync *sync, const struct service_key *key, uint64_t *ret_owner);
/* Fills in the names; one whose service has gone meanwhile gets "".  Pauses where it runs as a task
 * (lib/task.h). */
void sync_owners_name(const struct sync *sync, struct service_owner *owners, size_t count);

/* Sets whether the store has the pods of all nodes, not only those that policies refer to. */
void sync_set_all_pods(struct sync *sync, bool all_pods);

/* Fills gone of each; while the store is not complete, of none.  Pauses where it runs as a task
 * (lib/task.h).  A TCP connection is over only
 * where the store would know a living backend: in own_range, and in the pod CIDRs of all Nodes
 * while the store has all pods. */
void sync_find_gone(struct sync *sync, struct backend_user *users, size_t count);

/* What clients did with a service, or with one of its backends, since it is known. */
struct service_count {
	uint64_t connections; /* for which a backend was chosen */
	uint64_t bytes;       /* payload of TCP of pods, packets where packets are translated */
};

/* Adds the bytes of a translated flow that has ended. */
void sync_count_flow(struct sync *sync, uint32_t service_id, const struct backend *backend,
		     uint64_t bytes);
/* Adds the bytes of a connection that has closed. */
void sync_count_bytes(struct sync *sync, const struct service_key *service,
		      const struct backend *backend, uint64_t bytes);

/* Reads what the programs have counted; valid until the next sync of services. */
struct service_counts *sync_counts_new(struct sync *sync);
/* The same of one service alone; name NULL: of all host ports. */
struct service_counts *sync_counts_of(struct sync *sync, const char *namespace, const char *name);
void sync_counts_free(struct service_counts *counts);
/* All ports and families of a service together. */
struct service_count sync_counts_service(const struct service_counts *counts, const char *namespace,
					 const char *name);
/* One backend of the port that this address leads to, whatever address clients used. */
struct service_count sync_counts_backend(const struct service_counts *counts,
					 const struct service_key *service,
					 const struct backend *backend);

/* How many services, and how many of their backends, have series of their own. */
void sync_limit_series(struct sync *sync, size_t services, size_t backends);

/* Calls each() for the services that were used first, as many as have series, and at the end for
 * all others together, without a name. */
void sync_counts_each(const struct service_counts *counts,
		      void (*each)(const char *namespace, const char *name,
				   const struct service_count *count, void *arg),
		      void *arg);

/* The same by backend, of services that have series: all ports of a service with this backend
 * together.  Calls nobody where backends have no series. */
void sync_counts_each_backend(const struct service_counts *counts,
			      void (*each)(const char *namespace, const char *name,
					   const struct backend *backend,
					   const struct service_count *count, void *arg),
			      void *arg);

/* The last result, borrowed, valid until the next sync_policies(); NULL before the first. */
const struct compiled *sync_compiled(const struct sync *sync);

/* What the last runs could not do (because maps are full), as a text for status; "": nothing. */
const char *sync_warning(struct sync *sync);

#endif
