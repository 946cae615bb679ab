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

/* Makes the device, which stays down until its programs are attached; one of another configuration
 * goes.  -EEXIST: somebody else's device has the name. */
int tunnel_ensure(struct netlink *netlink, const struct tunnel_settings *settings, unsigned int mtu,
		  uint32_t *ret_ifindex, struct errmsg *err);
struct tunnel_state {
	bool up; /* and without ARP */
	unsigned int mtu;
};
/* ret stays as it is if there is no such device. */
void tunnel_read(struct netlink *netlink, uint32_t ifindex, struct tunnel_state *ret);
/* Up, without ARP: the next hop's MAC is nobody's, and need not be asked for. */
int tunnel_up(struct netlink *netlink, uint32_t ifindex, unsigned int mtu, struct errmsg *err);
void tunnel_down(struct netlink *netlink, uint32_t ifindex);
/* Removes our devices, of whatever protocol; fine if there are none. */
int tunnel_remove(struct netlink *netlink, struct errmsg *err);

#endif
