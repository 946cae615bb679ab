/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists of routes to the pods of other nodes, and the kernel's list of them.  A list is sorted by
 * destination, so that a change of one Node costs one request.
 */
#ifndef TENDRIL_AGENT_NODES_ROUTES_H
#define TENDRIL_AGENT_NODES_ROUTES_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/errmsg.h"
#include "lib/route.h"

/* The protocol number of our routes to other nodes' pods, which distinguishes them from others. */
#define NODE_ROUTE_PROTOCOL 85

struct node_route {
	struct route route;
	struct addr address; /* of the node, where the tunnel leads; zero: it has none that fits */
	char *node;          /* name; "" if only the kernel knows the route */
	bool sealed;         /* its node is a peer of WireGuard */
	bool by_host;        /* packets take a route that is not ours */
	int error;           /* negative errno of the last attempt; 0: it is there */
	bool held;           /* the node had the range before */
	char *why;           /* of the error, for people */
};

struct routes {
	struct node_route *items; /* by destination */
	size_t count;
	size_t room;
};

/* Adds an empty item at the end; valid until the next call. */
struct node_route *routes_add(struct routes *routes);
/* Of two nodes with one range, the first by name comes first. */
void routes_sort(struct routes *routes);
/* Marks an item as one that cannot be. */
__attribute__((format(printf, 3, 4))) void route_fail(struct node_route *item, int error,
						      const char *fmt, ...);
/* Whether there is a route to this range of this node. */
bool routes_have(const struct routes *installed, const struct node_route *item);
/* Of ranges that overlap, the one that is held stays, else the first of the sorted list: the others
 * get an error. */
void routes_refuse_overlaps(struct routes *wanted);
/* In a sorted list; NULL: the node's range is not there. */
struct node_route *routes_find(const struct routes *routes, const struct prefix *range,
			       const char *node);
void routes_done(struct routes *routes);

/* Replaces the list with what the kernel has, sorted; keeps the names of their nodes. */
int routes_read(struct netlink *netlink, struct routes *found, struct errmsg *err);
/* Turns the kernel's routes from one sorted list into another, and writes into the wanted ones what
 * failed.  Items that have an error already, or by_host, are left out.  complete: others are
 * deleted. */
void routes_apply(struct netlink *netlink, const struct routes *installed, struct routes *wanted,
		  bool complete);
void route_delete(struct netlink *netlink, const struct node_route *item);

#endif
