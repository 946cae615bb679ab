/* SPDX-License-Identifier: Apache-2.0 */
/* The capabilities that the agent needs: checked at start; it gives up all others once it is ready.
 */
#ifndef TENDRIL_AGENT_PRIVILEGE_H
#define TENDRIL_AGENT_PRIVILEGE_H

#include "lib/errmsg.h"

/* -EPERM names the first that is missing. */
int privilege_check(struct errmsg *err);

/* Keeps the capabilities of the table in privilege.c and no other; no exec can bring one back. */
int privilege_drop(struct errmsg *err);

#endif
