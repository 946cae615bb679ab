/* SPDX-License-Identifier: Apache-2.0 */
/* Lists and ends TCP connections and connected UDP sockets of other processes (NETLINK_SOCK_DIAG),
 * in any namespace. */
#ifndef TENDRIL_LIB_SOCKDIAG_H
#define TENDRIL_LIB_SOCKDIAG_H

#include <stdbool.h>
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
	bool v6_only;     /* of a listener of IPv6: it does not take IPv4 */
	/* Bytes that the program has not read, and that the peer has not acknowledged; of a
	 * listener, connections that wait to be accepted, and how many may. */
	uint32_t receive_queue;
	uint32_t send_queue;
	/* Only of sockdiag_list_tcp(), and 0 of sockets that keep none of it. */
	uint32_t rtt_us;      /* smoothed */
	uint32_t retransmits; /* segments, so far */
	uint64_t sent;        /* payload in bytes, without what was sent again */
	uint64_t received;
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
/* The same for TCP, with what each socket has counted. */
int sockdiag_list_tcp(struct netlink *netlink, int family, uint32_t states,
		      int (*each)(const struct sockdiag_socket *socket, void *arg), void *arg,
		      struct errmsg *err);

#endif
