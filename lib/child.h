/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Child processes for work that would block the event loop.  An open descriptor keeps a pod's
 * namespace alive, and the locks of an agent that has died.  So a child closes all descriptors that
 * it does not need.  It ends when its parent dies or closes its end of their socket.
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

/* Called in the child, after its last change of privileges.  From then on the kernel kills it when
 * its parent dies.  False: the parent has died already. */
bool child_bind_to(pid_t parent);

#endif
