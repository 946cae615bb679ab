/* SPDX-License-Identifier: Apache-2.0 */
/*
 * BIG TCP: packets larger than 64 KiB between the pods and processes of one node.  Where the
 * kernel does not have it, packets stay at 64 KiB and the log says so once.
 */
#ifndef TENDRIL_AGENT_ENDPOINT_BIG_TCP_H
#define TENDRIL_AGENT_ENDPOINT_BIG_TCP_H

#include "lib/netlink.h"

/*
 * An IPv6 packet of more than 64 KiB has a hop-by-hop header that its segments do not have.
 * ip6_forward() counts this header, so it refuses segments that fill the MTU as too big.  The
 * routes of a pod leave room for the header, so that the node or another pod can forward its
 * packets.
 */
#define BIG_TCP_IPV6_HEADER 8

/* Adds the limits of BIG TCP to a message that makes a link of this MTU. */
void big_tcp_put(struct nlmsghdr *header, unsigned int mtu);
/* Whether this limit of a link, IFLA_GSO_MAX_SIZE, lets IPv6 packets grow beyond 64 KiB. */
bool big_tcp_has_ipv6(uint32_t gso_max_size);
/* Logs, once, that the kernel refuses such a link. */
void big_tcp_refused(const struct errmsg *err);
/* Gives a link the limits of BIG TCP, or the usual ones.  Logs, once, what the kernel refuses. */
void big_tcp_set(struct netlink *netlink, int ifindex, bool on);

#endif
