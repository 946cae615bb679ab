/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rtnetlink over libmnl: requests that wait for their answer, batches in one system call, and dumps
 * that start again when they are interrupted.  Errors contain the kernel's own explanation
 * (extended ack).  The caller writes the attributes of a message with mnl_attr_put_*().
 */
#ifndef TENDRIL_LIB_NETLINK_H
#define TENDRIL_LIB_NETLINK_H

#include <libmnl/libmnl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/errmsg.h"
#include "lib/inet.h"

#define NETLINK_BUFFER_SIZE 16384

struct netlink {
	int fd; /* -1: not open */
	uint32_t seq;
};
#define NETLINK_INIT  \
	{             \
		-1, 0 \
	}

/* Opens a NETLINK_ROUTE socket in the namespace; -1: the caller's own.  The socket keeps the
 * namespace alive. */
int netlink_open(struct netlink *netlink, int netns_fd, struct errmsg *err);
/* The same for another protocol than NETLINK_ROUTE. */
int netlink_open_protocol(struct netlink *netlink, int netns_fd, int protocol, struct errmsg *err);
void netlink_close(struct netlink *netlink); /* fine if it is not open */
#define auto_netlink __attribute__((cleanup(netlink_close)))

/* A message that is being built. */
struct netlink_message {
	union {
		struct nlmsghdr header;
		char bytes[2048];
	};
};

/* Begins a message with a type and flags (NLM_F_REQUEST is added).  Returns its family header,
 * which is header_size bytes of zeroes. */
void *netlink_message_init(struct netlink_message *message, uint16_t type, uint16_t flags,
			   size_t header_size);

/* Appends an address in its family's own length. */
void netlink_put_addr(struct nlmsghdr *header, uint16_t type, const struct addr *addr);

/* Sends the request and waits for the acknowledgement.  Returns the kernel's error as it is
 * (-EEXIST
 * ...), with the kernel's explanation in err. */
int netlink_request(struct netlink *netlink, struct netlink_message *message, struct errmsg *err);

typedef int (*netlink_each)(const struct nlmsghdr *header, void *arg);

/* As netlink_request(), for a request that is answered with a message.  Calls each() with it; a
 * negative value that each() returns is the result. */
int netlink_get(struct netlink *netlink, struct netlink_message *message, netlink_each each,
		void *arg, struct errmsg *err);

/* Dumps.  If the kernel says that something changed meanwhile, or the socket overflowed, the dump
 * starts again.  Before that begin(arg) (may be NULL) is called, so that the caller forgets what it
 * got so far.  -EINTR after some attempts. */
int netlink_dump(struct netlink *netlink, struct netlink_message *message, netlink_each each,
		 void (*begin)(void *arg), void *arg, struct errmsg *err);

/* Several requests that are sent at once.  The kernel executes all of them in order, even if one
 * fails. */
struct netlink_batch {
	char bytes[NETLINK_BUFFER_SIZE];
	size_t len; /* where the last request begins */
	size_t count;
};

void netlink_batch_init(struct netlink_batch *batch);
/* Begins the next request in the batch; *ret_header is its family header.  The caller adds the
 * attributes before the next call.  NULL: the batch is full. */
struct nlmsghdr *netlink_batch_next(struct netlink_batch *batch, uint16_t type, uint16_t flags,
				    size_t header_size, void **ret_header);
/* Sends the batch and waits for all acknowledgements.  Returns the first failure, and the index of
 * its request in *ret_failed.  A failure for which ignore() (may be NULL) is true does not count.
 */
int netlink_batch_run(struct netlink *netlink, struct netlink_batch *batch,
		      bool (*ignore)(size_t index, int code), size_t *ret_failed,
		      struct errmsg *err);

#endif
