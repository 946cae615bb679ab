/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other nodes, from Node objects, and the routes to their pods.  A node without an object loses
 * its routes, but never before every source of objects is known.
 */
#ifndef TENDRIL_AGENT_NODES_NODES_H
#define TENDRIL_AGENT_NODES_NODES_H

#include <stdbool.h>

#include "agent/nodes/tunnel.h"
#include "datapath/datapath.h"
#include "lib/errmsg.h"
#include "policy/objects/store.h"

struct encryption;
struct event_base;
struct nodes;
struct wireguard_key;

struct nodes_options {
	struct event_base *base;
	const struct store *store;
	const struct prefix *pod_cidrs; /* of this node; borrowed */
	size_t pod_cidr_count;
	bool direct_routes; /* make routes through the addresses of nodes on the same link */
	const struct tunnel_settings *tunnel; /* a device to other nodes; or NULL */
	bool overlay;                         /* with that: their pods are reached by it */
	bool dsr; /* with that: clients' packets to the nodes of backends take it */
	struct encryption *encryption;         /* packets to other nodes are encrypted; or NULL */
	bool strict;                           /* with that: none is sent or taken in clear */
	bool underlay_ipv6;                    /* between the nodes, with one of the two */
	unsigned int (*tunnel_mtu)(void *arg); /* of this device and that of encryption */
	void *arg;
	/* Tells others this node's public key, which has changed. */
	void (*announce)(const struct wireguard_key *key, void *arg);
	void *announce_arg;
	struct datapath *datapath;
	const struct datapath_options *load; /* those of datapath_open(); borrowed */
	bool masquerade;                     /* the datapath must know what is inside */
	struct prefix_set excluded;          /* counts as inside, too: nonMasqueradeCIDRs */
};

/* Reads which of our routes the kernel has.  Changes nothing before nodes_sync(). */
int nodes_new(const struct nodes_options *options, struct nodes **ret, struct errmsg *err);
/* Sets the pod CIDRs of this node, if none were known at the start; borrowed. */
void nodes_set_pod_cidrs(struct nodes *nodes, const struct prefix *cidrs, size_t count);
void nodes_free(struct nodes *nodes); /* the routes stay */

/* Updates the routes from the Node objects.  complete: all objects are known, so others are gone.
 * Routes that the kernel refuses are tried again when links or addresses change. */
void nodes_sync(struct nodes *nodes, bool complete);

/* Whether the object is this node: it has one of its addresses. */
bool nodes_is_local(const struct nodes *nodes, const struct object *node);

/* How packets reach its pods: "local", "wireguard", "direct", "vxlan", "geneve", "host" (by routes
 * that are not ours) or "none". */
const char *nodes_routing(const struct nodes *nodes, const struct object *node);

/* Whether they are encrypted: "wireguard", "none", "no key" (it announces none) or "failed" (see
 * nodes_problem()). */
const char *nodes_encryption(const struct nodes *nodes, const struct object *node);
/* The public key that this node's Node object must announce; NULL: encryption is off. */
const struct wireguard_key *nodes_key(const struct nodes *nodes);
/* Makes a new key and announces it; it is used once this node's Node object has it.  -ENOENT:
 * encryption is off. */
int nodes_rotate_key(struct nodes *nodes, struct errmsg *err);

/* Why a node's pods cannot be reached, or NULL; a sentence, valid until the next call. */
const char *nodes_problem(struct nodes *nodes, const struct object *node);
/* Calls found() for each such sentence, with the node's name in it. */
void nodes_problems(struct nodes *nodes, void (*found)(const char *text, void *arg), void *arg);

/* Removes the routes, for --cleanup. */
int nodes_cleanup(struct errmsg *err);

#endif
