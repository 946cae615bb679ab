/* SPDX-License-Identifier: Apache-2.0 */
/* The capabilities of the agent: it checks them at its start, and gives up all others when it is
 * ready. */
#ifndef TENDRIL_AGENT_PRIVILEGE_H
#define TENDRIL_AGENT_PRIVILEGE_H

#include "lib/errmsg.h"

/* -EPERM: err names the first that is missing. */
int privilege_check(struct errmsg *err);

/* Keeps only the capabilities of the table in privilege.c; execve() cannot bring others back. */
int privilege_drop(struct errmsg *err);

#endif
