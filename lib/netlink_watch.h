/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Notifications of netlink, read from an event loop.  Only the kernel is heard, and reading has a
 * budget: whoever causes notifications without an end takes a few percent of a CPU, and everybody
 * else in the loop gets a turn.
 */
#ifndef TENDRIL_LIB_NETLINK_WATCH_H
#define TENDRIL_LIB_NETLINK_WATCH_H

#include <linux/filter.h>
#include <linux/netlink.h>
#include <stdbool.h>
#include <stddef.h>

#include "lib/errmsg.h"

/* Messages in one turn of the loop; then the reader pauses.  A message takes some 5 us, so a reader
 * takes at most 6 % of a CPU. */
#define NETLINK_WATCH_BUDGET   256
#define NETLINK_WATCH_PAUSE_MS 20

struct event_base;
struct netlink_watch;

struct netlink_watch_options {
	struct event_base *base;
	int protocol;               /* NETLINK_...; 0 is NETLINK_ROUTE */
	const unsigned int *groups; /* of the protocol: RTNLGRP_... */
	size_t group_count;
	const struct sock_fprog *filter; /* NULL: all messages of the groups */
	/* One message; netns_id is the number of the namespace it is from, -1 for our own. */
	void (*notice)(const struct nlmsghdr *notice, int netns_id, void *arg);
	/* At the end of a turn.  lost: the socket was full, and there was more than was heard. */
	void (*turn)(bool lost, void *arg);
	void *arg;
};

/* Watches the namespace of the caller.  *ret is set also on failure, for netlink_watch_free(). */
int netlink_watch_new(const struct netlink_watch_options *options, struct netlink_watch **ret,
		      struct errmsg *err);
void netlink_watch_free(struct netlink_watch *watch);    /* NULL is fine */
int netlink_watch_fd(const struct netlink_watch *watch); /* for socket options */

#endif
