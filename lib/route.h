/* SPDX-License-Identifier: Apache-2.0 */
/* Routes of the main table, as rtnetlink messages. */
#ifndef TENDRIL_LIB_ROUTE_H
#define TENDRIL_LIB_ROUTE_H

#include "lib/netlink.h"

struct route {
	struct prefix dst;
	struct addr gateway; /* zero: dst is on the link */
	struct addr source;  /* preferred source address; zero: the kernel's choice */
	uint32_t ifindex;    /* 0: by the gateway */
	bool onlink;         /* the gateway is behind ifindex, whatever other routes say */
	uint8_t protocol;    /* rtm_protocol: who made it */
};

/* Builds a message about the route; type is RTM_NEWROUTE or RTM_DELROUTE. */
void route_message(struct netlink_message *message, uint16_t type, uint16_t flags,
		   const struct route *route);

/* Reads a message, except for the source; false if it is not about the main table. */
bool route_parse(const struct nlmsghdr *header, struct route *ret);

#endif
