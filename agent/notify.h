/* SPDX-License-Identifier: Apache-2.0 */
/* Tells the service manager (systemd, Type=notify) how far the agent is; does nothing elsewhere. */
#ifndef TENDRIL_AGENT_NOTIFY_H
#define TENDRIL_AGENT_NOTIFY_H

void notify_ready(const char *status);
void notify_reloading(void);
void notify_stopping(void);

#endif
