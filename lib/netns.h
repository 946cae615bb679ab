/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network namespaces: enter and leave one, tell one from another, find one again.  The agent never
 * keeps one open: the kernel does not remove a namespace that somebody holds, even if its pod is
 * gone.
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

/* Where a thread came from; NETNS_SCOPE_INIT, or filled by netns_enter(). */
struct netns_scope {
	int home_fd;
};
#define NETNS_SCOPE_INIT \
	{                \
		-1       \
	}

/* Moves the calling thread into the namespace; netns_leave() moves it back, which happens by itself
 * if the scope is declared auto_netns.  If the way back fails, the process aborts: it would change
 * the wrong namespace from then on. */
int netns_enter(int netns_fd, struct netns_scope *scope, struct errmsg *err);
void netns_leave(struct netns_scope *scope); /* fine if it was never entered */
#define auto_netns __attribute__((cleanup(netns_leave)))

/* Makes a namespace with nothing but a loopback that is down; it lives as long as the descriptor or
 * a process inside. */
int netns_new(int *ret_fd, struct errmsg *err);

/* A socket inside the namespace; -1 as netns_fd: the one of the caller. */
int netns_socket(int netns_fd, int domain, int type, int protocol, struct errmsg *err);

/* The namespace that a socket belongs to. */
int netns_socket_cookie(int socket_fd, uint64_t *ret_cookie, struct errmsg *err);

/* Identifies a namespace by its descriptor; -1: the one of the caller. */
int netns_identify(int netns_fd, struct netns_id *ret_id, struct errmsg *err);

/* Opens the namespace with this identity: by path if it still is the one meant, else through a
 * process that lives in it.  -ENOENT: it is gone, or nothing that can be found holds it. */
int netns_find(const char *path, const struct netns_id *id, int *ret_fd, struct errmsg *err);

#endif
