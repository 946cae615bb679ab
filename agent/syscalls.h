/* SPDX-License-Identifier: Apache-2.0 */
/* Restricts the system calls of the agent. */
#ifndef TENDRIL_AGENT_SYSCALLS_H
#define TENDRIL_AGENT_SYSCALLS_H

#include "lib/errmsg.h"

/* From now on this process and its children can only make the listed system calls; others fail with
 * EPERM, among them execve(), mount(), ptrace(), executable memory, and namespaces other than
 * network namespaces.  0 or a negative errno. */
int syscalls_restrict(struct errmsg *err);

#endif
