/* SPDX-License-Identifier: Apache-2.0 */
/* Lists and ends TCP connections and connected UDP sockets of other processes (NETLINK_SOCK_DIAG),
 * in any namespace. */
#ifndef TENDRIL_LIB_SOCKDIAG_H
#define TENDRIL_LIB_SOCKDIAG_H

#include <stdint.h>

#include "lib/addr.h"
#include "lib/netlink.h"

/* Opens a socket for the calls below inside the namespace; -1: the caller's own. */
int sockdiag_open(struct netlink *netlink, int netns_fd, struct errmsg *err);

struct sockdiag_socket {
	struct flow flow; /* saddr is the socket's own address */
	uint64_t cookie;
	uint32_t ifindex; /* of the device that it is bound to; 0: none */
	uint8_t state;    /* TCP_*, also for UDP: a connected socket is TCP_ESTABLISHED */
};

/* Aborts the socket with this flow, cookie and device: its program gets ECONNABORTED, a TCP peer a
 * reset.  -ENOENT: there is no such socket (any more).  -EOPNOTSUPP: the kernel is built without
 * INET_DIAG_DESTROY. */
int sockdiag_destroy(struct netlink *netlink, const struct sockdiag_socket *socket,
		     struct errmsg *err);

/* Calls each() for every socket of a family and protocol that is in one of these states (1 <<
 * TCP_*).  A negative value that each() returns is the result, after the end of the list. */
int sockdiag_list(struct netlink *netlink, int family, uint8_t proto, uint32_t states,
		  int (*each)(const struct sockdiag_socket *socket, void *arg), void *arg,
		  struct errmsg *err);

#endif
