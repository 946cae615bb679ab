/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's child processes.  They are forked by a process that was executed before the agent
 * read anything: so what goes wrong in one of them shows nobody the agent's memory.
 */
#ifndef TENDRIL_AGENT_CHILDREN_H
#define TENDRIL_AGENT_CHILDREN_H

#include "lib/errmsg.h"

struct fork_server;

/* Before syscalls_restrict(), which forbids to execute. */
int children_start(struct fork_server **ret, struct errmsg *err);

/* What that process does: it has the agent's privileges and its filter of system calls.  An exit
 * status, if it cannot. */
int children_serve(void);

#endif
