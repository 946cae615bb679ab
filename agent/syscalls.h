/* SPDX-License-Identifier: Apache-2.0 */
/* The system calls that the agent may make, whoever started it. */
#ifndef TENDRIL_AGENT_SYSCALLS_H
#define TENDRIL_AGENT_SYSCALLS_H

#include "lib/errmsg.h"

/* From now on this process and its children make only the listed calls; others fail with EPERM.
 * Among these are execve(), mount(), ptrace(), memory that is executable, and namespaces other than
 * those of the network.  0 or a negative errno. */
int syscalls_restrict(struct errmsg *err);

#endif
