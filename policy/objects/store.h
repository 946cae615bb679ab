/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All objects known at one moment, plus the endpoints of this node: what the compiler reads.
 */
#ifndef TENDRIL_POLICY_OBJECTS_STORE_H
#define TENDRIL_POLICY_OBJECTS_STORE_H

#include "lib/errmsg.h"
#include "policy/objects/object.h"

struct world;

struct world *world_new(void); /* NULL: out of memory */
void world_free(struct world *world);

/* Adds or replaces the object of the same kind, namespace and name.  Takes ownership, also on
 * failure.  -EEXIST with a text that names both objects: it contradicts another one (two pods or
 * two services own one address); the world is unchanged. */
int world_put(struct world *world, struct object *object, struct errmsg *err);
int world_del(struct world *world, enum object_kind kind, const char *namespace,
	      const char *name); /* -ENOENT */
/* As world_del(), but the object is the caller's then; NULL if there is none. */
struct object *world_take(struct world *world, enum object_kind kind, const char *namespace,
			  const char *name);
const struct object *world_find(const struct world *world, enum object_kind kind,
				const char *namespace, const char *name);
size_t world_count(const struct world *world, enum object_kind kind);

/* Walks one kind in order of namespace and name.  Usage:
 * for (o = world_first(w, k); o; o = world_next(w, o)) */
const struct object *world_first(const struct world *world, enum object_kind kind);
const struct object *world_next(const struct world *world, const struct object *object);

/* All objects of one kind in that order; borrowed until the world changes.  Returns how many. */
size_t world_objects(const struct world *world, enum object_kind kind,
		     const struct object *const **ret_first);

/* The objects of one kind in one namespace, in order of name; borrowed until the world changes.
 * Returns how many. */
size_t world_range(const struct world *world, enum object_kind kind, const char *namespace,
		   const struct object *const **ret_first);

/* The EndpointSlices of one Service, likewise. */
size_t world_slices(const struct world *world, const char *namespace, const char *service,
		    const struct object *const **ret_first);

/* The Pod or Service that owns an address; NULL if none does.  Pods in the host's network and
 * terminated ones own none. */
const struct object *world_owner(const struct world *world, const struct addr *addr);

/* Makes it the world of one node: policy is compiled for this node's endpoints alone, also while
 * there are none.  Without it, a world that has no endpoints has every pod as a subject. */
void world_set_local(struct world *world);
bool world_is_local(const struct world *world); /* so set, or it has endpoints */

/* An interface that this node wired.  Its labels come from the Pod object of the same name if
 * there is one (and, when both have a uid, the same uid), else from here. */
struct world_endpoint {
	uint16_t slot;
	char *namespace;
	char *name;
	char *uid; /* "" if not known */
	struct labels labels;
	struct addr addresses[2];
	size_t address_count;
};

/* Copies.  One endpoint a slot. */
int world_endpoint_set(struct world *world, const struct world_endpoint *endpoint);
void world_endpoint_del(struct world *world, uint16_t slot);
const struct world_endpoint *world_endpoint_find(const struct world *world, uint16_t slot);
/* All of them, in order of slot; borrowed until the next change. */
size_t world_endpoints(const struct world *world, const struct world_endpoint **ret_first);
/* The Pod object that speaks for an endpoint, or NULL. */
const struct object *world_endpoint_pod(const struct world *world,
					const struct world_endpoint *endpoint);

/* This node's own addresses (copied): policy peers of hostNetwork pods and probes. */
int world_host_addresses_set(struct world *world, const struct addr *addresses, size_t count);
size_t world_host_addresses(const struct world *world, const struct addr **ret_first);

/* Somebody who wants to know of every change while it happens.  An object or endpoint that is
 * replaced leaves and comes. */
struct world_watcher {
	void (*object_comes)(const struct object *object, void *arg);
	void (*object_leaves)(const struct object *object, void *arg);
	void (*endpoint_changes)(const struct world_endpoint *endpoint, void *arg);
	void (*hosts_change)(void *arg);
	void *arg;
};

/* One a world; borrowed.  NULL: nobody any more. */
void world_watch(struct world *world, const struct world_watcher *watcher);

#endif
