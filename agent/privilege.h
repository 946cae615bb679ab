/* SPDX-License-Identifier: Apache-2.0 */
/* The capabilities the agent needs: checked at start, everything else given up once it is ready. */
#ifndef TENDRIL_AGENT_PRIVILEGE_H
#define TENDRIL_AGENT_PRIVILEGE_H

#include "lib/errmsg.h"

/* -EPERM names the first that is missing. */
int privilege_check(struct errmsg *err);

/* Keeps the table in privilege.c and nothing else, for good: no exec brings anything back. */
int privilege_drop(struct errmsg *err);

#endif
