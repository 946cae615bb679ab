/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network namespaces: enter, leave, identify and find them.  The agent keeps none of them open: the
 * kernel does not remove a namespace that somebody has open, even if its pod is gone.
 */
#ifndef TENDRIL_LIB_NETNS_H
#define TENDRIL_LIB_NETNS_H

#include <stdint.h>
#include <sys/types.h>

#include "lib/errmsg.h"

/* What identifies a namespace: the cookie is never reused, the inode is what /proc shows. */
struct netns_id {
	uint64_t cookie;
	ino_t inode;
};

/* The namespace to which netns_leave() returns.  Initialize it with NETNS_SCOPE_INIT. */
struct netns_scope {
	int home_fd;
};
#define NETNS_SCOPE_INIT \
	{                \
		-1       \
	}

/* Moves the calling thread into the namespace.  netns_leave() moves it back; a scope that is
 * declared auto_netns does that by itself.  If the way back fails, the process aborts: it would
 * change the wrong namespace from then on. */
int netns_enter(int netns_fd, struct netns_scope *scope, struct errmsg *err);
void netns_leave(struct netns_scope *scope); /* fine if it was never entered */
#define auto_netns __attribute__((cleanup(netns_leave)))

/* Makes a namespace, with only a loopback device that is down.  It exists as long as the descriptor
 * or a process inside. */
int netns_new(int *ret_fd, struct errmsg *err);

/* Opens a socket inside the namespace; netns_fd -1: the caller's own. */
int netns_socket(int netns_fd, int domain, int type, int protocol, struct errmsg *err);

/* The namespace that a socket belongs to. */
int netns_socket_cookie(int socket_fd, uint64_t *ret_cookie, struct errmsg *err);

/* Identifies a namespace by its descriptor; -1: the caller's own. */
int netns_identify(int netns_fd, struct netns_id *ret_id, struct errmsg *err);

/* Opens the namespace with this identity: by path if the path still leads to it, else through a
 * process that runs in it.  -ENOENT: it is gone, or no process and no path leads to it. */
int netns_find(const char *path, const struct netns_id *id, int *ret_fd, struct errmsg *err);

#endif
