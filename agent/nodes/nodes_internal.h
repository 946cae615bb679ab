/* SPDX-License-Identifier: Apache-2.0 */
/* What nodes.c and peers.c share. */
#ifndef TENDRIL_AGENT_NODES_NODES_INTERNAL_H
#define TENDRIL_AGENT_NODES_NODES_INTERNAL_H

#include "agent/nodes/nodes.h"
#include "agent/nodes/routes.h"

#define TUNNEL_RETRY_SECONDS 5

struct nodes {
	struct nodes_options options;
	struct netlink netlink; /* requests */
	struct netlink_watch *watch;
	struct event *settle;
	struct event *retry; /* the tunnel */
	struct event *due;   /* a peer changes its key */
	bool doubt;          /* a notification of this turn matters */
	struct routes routes;
	struct cluster *cluster; /* NULL: no program asks who is inside */
	uint32_t tunnel_ifindex; /* 0: there is no tunnel device */
	bool tunnel_attached;
	char tunnel_problem[sizeof(((struct errmsg *)NULL)->text)];
	bool wireguard_attached;
	char encryption_problem[sizeof(((struct errmsg *)NULL)->text)];
	bool complete;
	char text[600];
};

/* ---- nodes.c ---- */

bool nodes_is_own_address(const struct nodes *nodes, const struct addr *address);
bool nodes_is_own_range(const struct nodes *nodes, const struct prefix *range);
/* Another node cannot take an address of this one, or of its pods, by saying so. */
bool nodes_is_others(const struct nodes *nodes, const struct addr *address);
/* Of the node, as it is reached for this range (NULL: any): in the family between the nodes, or,
 * where nothing is put around packets, in the range's own. */
struct addr nodes_address(const struct nodes *nodes, const struct object *node,
			  const struct prefix *range);

/* ---- peers.c ---- */

/* Whether packets to the node are encrypted. */
bool peers_have(const struct nodes *nodes, const struct object *node);
/* Brings the peers in line with the Node objects, and marks the routes to them. */
void peers_sync(struct nodes *nodes, struct routes *wanted);
/* As tunnel_refresh(), for the device of WireGuard. */
void peers_device_refresh(struct nodes *nodes);
/* Leaves nothing of an encryption that was configured before but the key. */
int peers_drop(struct nodes *nodes, struct errmsg *err);
/* What is wrong with the node's key, written to nodes->text; or NULL. */
const char *peers_problem(struct nodes *nodes, const struct object *node);

#endif
