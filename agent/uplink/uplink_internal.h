/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of uplinks share. */
#ifndef TENDRIL_AGENT_UPLINK_UPLINK_INTERNAL_H
#define TENDRIL_AGENT_UPLINK_UPLINK_INTERNAL_H

#include "datapath/maps.h"
#include "lib/netlink.h"

/* Writes the node's SNAT address of each family and the range of its ports into the node's state.
 * ret_default: the devices of the default routes, IPv4 and IPv6; 0: there is none. */
void snat_refresh(struct netlink *netlink, struct node_state *node, int ret_default[2]);

/* The longest range of ports between 16384 and 65535 without those of the two other ranges
 * (inclusive; max 0: empty). */
struct port_range {
	uint16_t min;
	uint16_t max;
};
struct port_range snat_ports(struct port_range local, struct port_range node_ports);

#endif
