/* SPDX-License-Identifier: Apache-2.0 */
/* Lists and ends TCP connections of other processes (NETLINK_SOCK_DIAG), in whichever namespace
 * they live. */
#ifndef TENDRIL_LIB_SOCKDIAG_H
#define TENDRIL_LIB_SOCKDIAG_H

#include <stdint.h>

#include "lib/addr.h"
#include "lib/netlink.h"

/* Opens a socket for the calls below inside the namespace; -1: the one of the caller. */
int sockdiag_open(struct netlink *netlink, int netns_fd, struct errmsg *err);

/* Aborts the TCP socket with these addresses, as itself sees them (saddr is its own), if it is the
 * one with this cookie: its program reads ECONNABORTED, its peer gets a reset.  -ENOENT: there is
 * no such socket (any more).  -EOPNOTSUPP: the kernel is built without INET_DIAG_DESTROY. */
int sockdiag_destroy(struct netlink *netlink, const struct flow *flow, uint64_t cookie,
		     struct errmsg *err);

struct sockdiag_socket {
	struct flow flow; /* as itself sees it: saddr is its own */
	uint8_t state;    /* TCP_* */
};

/* Calls each() for every TCP socket of a family that is in one of these states (1 << TCP_*).  A
 * return below 0 is the result, once the list is at its end. */
int sockdiag_list(struct netlink *netlink, int family, uint32_t states,
		  int (*each)(const struct sockdiag_socket *socket, void *arg), void *arg,
		  struct errmsg *err);

#endif
