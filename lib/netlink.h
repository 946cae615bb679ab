/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rtnetlink over libmnl: requests that wait for their answer, batches in one system call, dumps
 * that start over when they were interrupted, and the kernel's own words (extended acks) in
 * errors.  What goes into a message is the caller's; mnl_attr_put_*() writes it.
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

/* Opens a NETLINK_ROUTE socket in the namespace; -1: the one of the caller.  It keeps working
 * there, but it also keeps that namespace alive. */
int netlink_open(struct netlink *netlink, int netns_fd, struct errmsg *err);
/* The same for another protocol than NETLINK_ROUTE. */
int netlink_open_protocol(struct netlink *netlink, int netns_fd, int protocol, struct errmsg *err);
void netlink_close(struct netlink *netlink); /* fine if it is not open */
#define auto_netlink __attribute__((cleanup(netlink_close)))

/* A message under construction, with its own room. */
struct netlink_message {
	union {
		struct nlmsghdr header;
		char bytes[2048];
	};
};

/* Begins a message: type and flags (NLM_F_REQUEST is added), then a zeroed family header of
 * header_size bytes, which is returned. */
void *netlink_message_init(struct netlink_message *message, uint16_t type, uint16_t flags,
			   size_t header_size);

/* Appends an address in its family's own length. */
void netlink_put_addr(struct nlmsghdr *header, uint16_t type, const struct addr *addr);

/* Sends the request and waits for the verdict.  The kernel's error is returned as it is (-EEXIST
 * ...) with its explanation in err. */
int netlink_request(struct netlink *netlink, struct netlink_message *message, struct errmsg *err);

typedef int (*netlink_each)(const struct nlmsghdr *header, void *arg);

/* As netlink_request(), for one that is answered with a message: each() is called with it; what it
 * returns below 0 is the result. */
int netlink_get(struct netlink *netlink, struct netlink_message *message, netlink_each each,
		void *arg, struct errmsg *err);

/* Dumps.  When the kernel says that things changed meanwhile, or the socket overflowed, the dump
 * starts over, after begin(arg) (may be NULL) so that the caller forgets what it has; -EINTR after
 * some attempts. */
int netlink_dump(struct netlink *netlink, struct netlink_message *message, netlink_each each,
		 void (*begin)(void *arg), void *arg, struct errmsg *err);

/* Several requests sent at once.  The kernel carries out all of them, in order, also after one has
 * failed. */
struct netlink_batch {
	char bytes[NETLINK_BUFFER_SIZE];
	size_t len; /* where the last request begins */
	size_t count;
};

void netlink_batch_init(struct netlink_batch *batch);
/* Begins the next request in the batch; *ret_header as with netlink_message_init().  Attributes are
 * put before the next call.  NULL: the batch is full. */
struct nlmsghdr *netlink_batch_next(struct netlink_batch *batch, uint16_t type, uint16_t flags,
				    size_t header_size, void **ret_header);
/* Sends it and waits for all verdicts.  The first failure is returned and its request's number in
 * *ret_failed; one for which ignore() is true (may be NULL) is none. */
int netlink_batch_run(struct netlink *netlink, struct netlink_batch *batch,
		      bool (*ignore)(size_t index, int code), size_t *ret_failed,
		      struct errmsg *err);

#endif
