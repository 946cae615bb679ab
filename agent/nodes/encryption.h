/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Encryption between nodes: this node's keys, and which nodes are peers of WireGuard.  Keys are
 * files of the run directory, peers come from Node objects by way of nodes.c.
 */
#ifndef TENDRIL_AGENT_NODES_ENCRYPTION_H
#define TENDRIL_AGENT_NODES_ENCRYPTION_H

#include <stdbool.h>
#include <stddef.h>

#include "agent/nodes/wireguard.h"
#include "lib/errmsg.h"

struct encryption;

/* Reads the key of this node, or makes one, and makes the device, which stays down.  -EOPNOTSUPP:
 * the kernel has no WireGuard. */
int encryption_new(const char *run_dir, struct encryption **ret, struct errmsg *err);
void encryption_free(struct encryption *encryption); /* device and peers stay */
/* Removes the device, and with it all sessions; the keys stay. */
int encryption_remove(struct errmsg *err);

uint32_t encryption_ifindex(const struct encryption *encryption);
/* The public key that other nodes shall know: that of the next key, if there is one. */
const struct wireguard_key *encryption_announced(const struct encryption *encryption);

/* Makes the next key, which encryption_follow() takes into use. */
int encryption_rotate(struct encryption *encryption, struct errmsg *err);
/* The public key that this node's Node object announces; NULL: it has no object.  If it is that of
 * the next key, or nobody announces it, that key replaces the present one: other nodes learn it at
 * about the same time. */
int encryption_follow(struct encryption *encryption, const struct wireguard_key *seen,
		      struct errmsg *err);

/* Makes the device again if somebody has removed it, and reads which peers the kernel has. */
int encryption_refresh(struct encryption *encryption, struct errmsg *err);
int encryption_up(struct encryption *encryption, unsigned int mtu, struct errmsg *err);

/* The peers that should be, between begin and apply; in any order.  node: its name. */
void encryption_begin(struct encryption *encryption);
void encryption_want(struct encryption *encryption, const char *node,
		     const struct wireguard_peer *peer);
/* Changes what differs.  Others go if complete. */
void encryption_apply(struct encryption *encryption, bool complete);
/* When all that must be done again, because a node has a new key (CLOCK_MONOTONIC); 0: no need. */
uint64_t encryption_due_ns(const struct encryption *encryption);
/* After that: whether packets to this node can be encrypted. */
bool encryption_has(const struct encryption *encryption, const char *node,
		    const struct wireguard_key *key);
/* Why not, although it has a key; "" if there is no reason. */
const char *encryption_problem(const struct encryption *encryption, const char *node,
			       const struct wireguard_key *key);

#endif
