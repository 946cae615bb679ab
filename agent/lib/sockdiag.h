/* SPDX-License-Identifier: Apache-2.0 */
/* Ends TCP connections of other processes (NETLINK_SOCK_DIAG), in whichever namespace they live. */
#ifndef TENDRIL_LIB_SOCKDIAG_H
#define TENDRIL_LIB_SOCKDIAG_H

#include <stdint.h>

#include "agent/lib/netlink.h"
#include "datapath/abi.h"

/* Opens a socket for sockdiag_destroy() inside the namespace, -1: the own one. */
int sockdiag_open(struct netlink *netlink, int netns_fd, struct errmsg *err);

/* Aborts the TCP socket with these addresses, as itself sees them (saddr is its own), if it is the
 * one with this cookie: its program reads ECONNABORTED, its peer gets a reset.  -ENOENT: there is
 * no such socket (any more).  -EOPNOTSUPP: the kernel is built without INET_DIAG_DESTROY. */
int sockdiag_destroy(struct netlink *netlink, const struct flow *flow, uint64_t cookie,
		     struct errmsg *err);

#endif
