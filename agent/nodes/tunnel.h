/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tunnel device: one for all other nodes, without addresses.  To which node a packet goes, and
 * whether to believe where it came from, is the datapath's business (to_tunnel, from_tunnel).
 */
#ifndef TENDRIL_AGENT_NODES_TUNNEL_H
#define TENDRIL_AGENT_NODES_TUNNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/netlink.h"

enum tunnel_protocol { TUNNEL_VXLAN, TUNNEL_GENEVE };

struct tunnel_settings {
	enum tunnel_protocol protocol;
	uint16_t port; /* UDP, of all nodes */
	bool ipv6;     /* between the nodes */
};

/* Bytes that the outer headers take of the underlay's MTU. */
unsigned int tunnel_overhead(const struct tunnel_settings *settings);

/* Makes the device as it should be; *ret_changed: it is new, and routes to it are gone. */
int tunnel_ensure(struct netlink *netlink, const struct tunnel_settings *settings, unsigned int mtu,
		  uint32_t *ret_ifindex, bool *ret_changed, struct errmsg *err);
/* Removes the device, of whatever protocol; fine if there is none. */
int tunnel_remove(struct netlink *netlink, struct errmsg *err);

#endif
