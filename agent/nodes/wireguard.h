/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device of WireGuard and its peers, by netlink: the device by rtnetlink, keys and peers by the
 * generic family "wireguard".  Who the peers are is for encryption.h.
 */
#ifndef TENDRIL_AGENT_NODES_WIREGUARD_H
#define TENDRIL_AGENT_NODES_WIREGUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/netlink.h"
#include "lib/wireguard_key.h"

#define WIREGUARD_DEVICE "tendril_wg"
#define WIREGUARD_PORT   51871 /* UDP, of all nodes */

/* Bytes of the underlay's MTU that outer IP, UDP, WireGuard's header and its tag take. */
#define WIREGUARD_OVERHEAD_IPV4 60
#define WIREGUARD_OVERHEAD_IPV6 80

#define WIREGUARD_ALLOWED_MAX 10

struct wireguard_peer {
	struct wireguard_key key;
	struct addr endpoint; /* of its node; the port is WIREGUARD_PORT */
	/* Addresses that packets from it may have as source, and by which packets find it. */
	struct prefix allowed[WIREGUARD_ALLOWED_MAX];
	size_t allowed_count;
};

struct wireguard {
	struct netlink route;
	struct netlink generic;
	uint16_t family;  /* number of "wireguard" */
	uint32_t ifindex; /* 0: there is no device */
};
#define WIREGUARD_INIT                                         \
	{                                                      \
		.route = NETLINK_INIT, .generic = NETLINK_INIT \
	}

/* Makes the device if there is none; it stays down.  -EOPNOTSUPP: the kernel has no WireGuard, and
 * err says what to do; -EEXIST: somebody else's device has the name. */
int wireguard_ensure(struct wireguard *wireguard, struct errmsg *err);
/* Sets this node's key and port, if they are not set already; fills *ret_public.  A new key ends
 * all sessions. */
int wireguard_set_key(struct wireguard *wireguard, const struct wireguard_key *private,
		      struct wireguard_key *ret_public, struct errmsg *err);
void wireguard_close(struct wireguard *wireguard); /* the device stays */
/* Removes the device; fine if there is none. */
int wireguard_remove(struct errmsg *err);

/* The public key of a private one, which only the kernel can compute; makes a device for a moment.
 */
int wireguard_public_key(struct wireguard *wireguard, const struct wireguard_key *private,
			 struct wireguard_key *ret_public, struct errmsg *err);

/* Sets the device up, with this MTU. */
int wireguard_up(struct wireguard *wireguard, unsigned int mtu, struct errmsg *err);

/* Adds the peer, or replaces what is known of it, and begins a handshake. */
int wireguard_peer_set(struct wireguard *wireguard, const struct wireguard_peer *peer,
		       struct errmsg *err);
/* Begins a handshake with a peer.  Unlike the above it leaves the addresses alone: while they are
 * replaced packets are lost. */
int wireguard_peer_greet(struct wireguard *wireguard, const struct wireguard_key *key,
			 struct errmsg *err);
int wireguard_peer_remove(struct wireguard *wireguard, const struct wireguard_key *key,
			  struct errmsg *err);
/* The peers that the kernel has, unsorted; owned by the caller. */
int wireguard_peers_read(struct wireguard *wireguard, struct wireguard_peer **ret_peers,
			 size_t *ret_count, struct errmsg *err);

/* ---- for tests ---- */

struct wireguard_peers {
	struct wireguard_peer *items;
	size_t count;
	size_t room;
};

void wireguard_peer_message(struct netlink_message *message, uint16_t family,
			    const struct wireguard_peer *peer);
/* Reads one message of a dump; the peer that it begins with may be the last of the one before. */
void wireguard_peers_parse(const struct nlmsghdr *header, struct wireguard_peers *peers);

#endif
