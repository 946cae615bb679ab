/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Child processes for work that would hold up the event loop.  An open descriptor keeps a pod's
 * namespace alive and a dead agent's locks taken, so a child closes all but those that it works
 * with. It ends when its parent closes its end of a socket, or dies.
 */
#ifndef TENDRIL_LIB_CHILD_H
#define TENDRIL_LIB_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define CHILD_FD_FIRST 3

/* The first call in the child.  Sets its name, ignores signals that are meant for the parent, and
 * closes all descriptors but 0 to 2 and fds, which get the numbers from CHILD_FD_FIRST on, in their
 * order.  0 or -errno. */
int child_settle(const char *name, int *fds, size_t fd_count);

/* In the child, once it has its final privileges: it is killed when its parent dies. */
bool child_bind_to(pid_t parent);

#endif
