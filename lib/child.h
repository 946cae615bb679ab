/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Children that are forked to do what would hold up the event loop.  What they have open keeps a
 * pod's namespace alive and a dead agent's locks taken, so that they close everything but what they
 * work with; and they end when their parent says so, by closing its end of a socket, or dies.
 */
#ifndef TENDRIL_LIB_CHILD_H
#define TENDRIL_LIB_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define CHILD_FD_FIRST 3

/* In the child, first of all: names it, leaves descriptors 0 to 2 and fds, which become
 * CHILD_FD_FIRST and those behind it in their order, and is deaf to signals that are for the
 * parent. 0 or -errno. */
int child_settle(const char *name, int *fds, size_t fd_count);

/* In the child, when it has the privileges that it will work with: it is killed with its parent. */
bool child_bind_to(pid_t parent);

#endif
