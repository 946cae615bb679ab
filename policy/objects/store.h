/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All objects known at one moment, plus the endpoints of this node: what the compiler reads.
 */
#ifndef TENDRIL_POLICY_OBJECTS_STORE_H
#define TENDRIL_POLICY_OBJECTS_STORE_H

#include "lib/errmsg.h"
#include "policy/objects/object.h"

struct store;

struct store *store_new(void); /* NULL: out of memory */
void store_free(struct store *store);

/* Adds or replaces the object of the same kind, namespace and name.  Takes ownership, also on
 * failure.  -EEXIST with a text that names both objects: it contradicts another one (two pods or
 * two services own one address); the store is unchanged. */
int store_put(struct store *store, struct object *object, struct errmsg *err);
int store_del(struct store *store, enum object_kind kind, const char *namespace,
	      const char *name); /* -ENOENT */
/* As store_del(), but the object is the caller's then; NULL if there is none. */
struct object *store_take(struct store *store, enum object_kind kind, const char *namespace,
			  const char *name);
const struct object *store_find(const struct store *store, enum object_kind kind,
				const char *namespace, const char *name);
size_t store_count(const struct store *store, enum object_kind kind);

/* Walks one kind in order of namespace and name.  Usage:
 * for (o = store_first(w, k); o; o = store_next(w, o)) */
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

/* The Pod or Service that owns an address; NULL if none does.  Pods in the host's network and
 * terminated ones own none. */
const struct object *store_owner(const struct store *store, const struct addr *addr);

/* Makes it the store of one node: policy is compiled for this node's endpoints alone, also while
 * there are none.  Without it, a store that has no endpoints has every pod as a subject. */
void store_set_local(struct store *store);
bool store_is_local(const struct store *store); /* so set, or it has endpoints */

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
};

/* Copies.  One endpoint a slot. */
int store_endpoint_set(struct store *store, const struct store_endpoint *endpoint);
void store_endpoint_del(struct store *store, uint16_t slot);
const struct store_endpoint *store_endpoint_find(const struct store *store, uint16_t slot);
/* All of them, in order of slot; borrowed until the next change. */
size_t store_endpoints(const struct store *store, const struct store_endpoint **ret_first);
/* The Pod object that speaks for an endpoint, or NULL. */
const struct object *store_endpoint_pod(const struct store *store,
					const struct store_endpoint *endpoint);

/* This node's own addresses (copied): policy peers of hostNetwork pods and probes. */
int store_host_addresses_set(struct store *store, const struct addr *addresses, size_t count);
size_t store_host_addresses(const struct store *store, const struct addr **ret_first);

/* Somebody who wants to know of every change while it happens.  An object or endpoint that is
 * replaced leaves and comes. */
struct store_watcher {
	void (*object_comes)(const struct object *object, void *arg);
	void (*object_leaves)(const struct object *object, void *arg);
	void (*endpoint_changes)(const struct store_endpoint *endpoint, void *arg);
	void (*hosts_change)(void *arg);
	void *arg;
};

/* One a store; borrowed.  NULL: nobody any more. */
void store_watch(struct store *store, const struct store_watcher *watcher);

#endif
