/* SPDX-License-Identifier: Apache-2.0 */
/* Notices when somebody deletes files that the agent needs: its sockets, the pins of its links. */
#ifndef TENDRIL_AGENT_DELETION_WATCH_H
#define TENDRIL_AGENT_DELETION_WATCH_H

#include "lib/errmsg.h"

struct deletion_watch;
struct event_base;

/* Calls deleted() from the loop after files of this directory were deleted or renamed, also by the
 * agent itself; several at once are one call. */
int deletion_watch_new(struct event_base *base, const char *dir, void (*deleted)(void *arg),
		       void *arg, struct deletion_watch **ret_watch, struct errmsg *err);
void deletion_watch_free(struct deletion_watch *watch);

#endif
