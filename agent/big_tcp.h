/* SPDX-License-Identifier: Apache-2.0 */
/*
 * BIG TCP: IPv4 packets larger than 64 KiB between the pods and processes of one node.  Where the
 * kernel does not have it, packets stay at 64 KiB and the log says so once.
 */
#ifndef TENDRIL_AGENT_BIG_TCP_H
#define TENDRIL_AGENT_BIG_TCP_H

#include "agent/lib/netlink.h"

/* Puts the limits of BIG TCP into a message that makes a link. */
void big_tcp_put(struct nlmsghdr *header);
/* Logs, once, that the kernel refuses such a link. */
void big_tcp_refused(const struct errmsg *err);
/* Gives a link the limits of BIG TCP, or those of always.  What cannot be had is logged, once. */
void big_tcp_set(struct netlink *netlink, int ifindex, bool on);

#endif
