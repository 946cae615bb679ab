/* SPDX-License-Identifier: Apache-2.0 */
/* Tells the service manager (systemd, Type=notify) the agent's state; does nothing without one. */
#ifndef TENDRIL_AGENT_NOTIFY_H
#define TENDRIL_AGENT_NOTIFY_H

#include "lib/errmsg.h"

struct event;
struct event_base;

void notify_ready(const char *status);
void notify_reloading(void);
void notify_stopping(void);

/* Tells the service manager twice a period that the event loop runs, if WatchdogSec= is set.  The
 * caller owns *ret_event; NULL: it is not set. */
int notify_watchdog_new(struct event_base *base, struct event **ret_event, struct errmsg *err);

#endif
