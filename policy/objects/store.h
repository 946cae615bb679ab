/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All known objects, and the endpoints of this node.  The compiler and the service tables use it.
 */
#ifndef TENDRIL_POLICY_OBJECTS_STORE_H
#define TENDRIL_POLICY_OBJECTS_STORE_H

#include "lib/errmsg.h"
#include "policy/objects/object.h"

struct store;

struct store *store_new(void);
void store_free(struct store *store);

/* Adds or replaces the object of the same kind, namespace and name.  Takes ownership, also on
 * failure.  -EEXIST: another object has its address already; the text names both, and the store is
 * unchanged. */
int store_put(struct store *store, struct object *object, struct errmsg *err);
int store_del(struct store *store, enum object_kind kind, const char *namespace,
	      const char *name); /* -ENOENT */
/* As store_del(), but hands the object to the caller; NULL if there is none. */
struct object *store_take(struct store *store, enum object_kind kind, const char *namespace,
			  const char *name);
const struct object *store_find(const struct store *store, enum object_kind kind,
				const char *namespace, const char *name);
size_t store_count(const struct store *store, enum object_kind kind);

/* Walks one kind in order of namespace and name:
 * for (o = store_first(store, kind); o; o = store_next(store, o)) */
const struct object *store_first(const struct store *store, enum object_kind kind);
const struct object *store_next(const struct store *store, const struct object *object);

/* All objects of one kind in that order; borrowed until the store changes.  Returns how many. */
size_t store_objects(const struct store *store, enum object_kind kind,
		     const struct object *const **ret_first);

/* The objects of one kind in one namespace, in order of name; borrowed until the store changes.
 * Returns how many. */
size_t store_range(const struct store *store, enum object_kind kind, const char *namespace,
		   const struct object *const **ret_first);

/* The EndpointSlices of one Service, likewise. */
size_t store_slices(const struct store *store, const char *namespace, const char *service,
		    const struct object *const **ret_first);

/* The Services whose backends are the pods that their selectors match: those without EndpointSlices
 * and without a uid.  Services of an API server have a uid, and its controller writes their slices.
 * In no order; borrowed until the store changes.  Returns how many. */
size_t store_selecting_services(const struct store *store, const struct object *const **ret_first);
bool store_is_selecting(const struct store *store, const struct object *service);
/* A number that changes with each change of a Pod or an endpoint. */
uint64_t store_pod_changes(const struct store *store);

/* A number that changes with each change of a Node or of the node's own addresses; never 0. */
uint64_t store_node_changes(const struct store *store);

/* The Pod or Service that owns an address; NULL if none does.  Pods in the host's network and
 * terminated ones own none.  If several pods have the address, the one that is not being deleted
 * owns it; if all are being deleted, the youngest. */
const struct object *store_owner(const struct store *store, const struct addr *addr);

/* Makes it the store of one node: policy is compiled only for this node's endpoints, even while
 * there are none.  In other stores every pod is a subject. */
void store_set_local(struct store *store);
bool store_is_local(const struct store *store); /* set, or the store has endpoints */

/* An interface that this node wired.  Its labels come from the Pod object of the same name if
 * there is one (and, when both have a uid, the same uid), else from here. */
struct store_endpoint {
	uint16_t slot;
	char *namespace;
	char *name;
	char *uid; /* "" if not known */
	struct labels labels;
	struct addr addresses[2];
	size_t address_count;
	struct host_port *host_ports; /* that the runtime asked for */
	size_t host_port_count;
};

/* Adds or replaces the endpoint of a slot; copies it. */
void store_endpoint_set(struct store *store, const struct store_endpoint *endpoint);
void store_endpoint_del(struct store *store, uint16_t slot);
const struct store_endpoint *store_endpoint_find(const struct store *store, uint16_t slot);
/* All of them, in order of slot; borrowed until the next change. */
size_t store_endpoints(const struct store *store, const struct store_endpoint **ret_first);
/* The Pod object of an endpoint, or NULL. */
const struct object *store_endpoint_pod(const struct store *store,
					const struct store_endpoint *endpoint);

/* Whether some endpoint has this Pod object. */
bool store_pod_is_endpoint(const struct store *store, const struct object *pod);

/* This node's own addresses, copied: probes and pods in the host's network have them. */
void store_host_addresses_set(struct store *store, const struct addr *addresses, size_t count);
size_t store_host_addresses(const struct store *store, const struct addr **ret_first);

/* Called during every change.  If an object or endpoint is replaced, it is first removed, then
 * added. */
struct store_watcher {
	void (*object_added)(const struct object *object, void *arg);
	void (*object_removed)(const struct object *object, void *arg);
	void (*endpoint_changed)(const struct store_endpoint *endpoint, void *arg);
	void (*hosts_changed)(void *arg);
	void *arg;
};

/* Sets the one watcher of a store (borrowed); NULL removes it. */
void store_watch(struct store *store, const struct store_watcher *watcher);

/* Is called before an object or an endpoint leaves, with its addresses, while all is as it was: the
 * last moment at which they belong to those that used them.  One function; NULL: none any more. */
void store_before_leave(struct store *store,
			void (*call)(const struct addr *addresses, size_t count, void *arg),
			void *arg);

#endif
