/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Switches of the node's network namespace that the agent turns, and turns back at --cleanup.
 * RUN_DIR/sysctls keeps what they were, from before they are changed.
 */
#ifndef TENDRIL_AGENT_HOST_SYSCTL_H
#define TENDRIL_AGENT_HOST_SYSCTL_H

#include "agent/endpoint/ipam.h"

/* Switches on IPv4 and IPv6 forwarding where pods have that family; logs what it changes. -ENOTSUP:
 * pods need IPv6, and this kernel or namespace has none. */
int host_forwarding_ensure(const char *run_dir, const struct ipam *ipam, struct errmsg *err);

/* Puts back what was, but for switches that somebody has turned since; then removes the file.  Fine
 * if there is none. */
int host_sysctl_restore(const char *run_dir, struct errmsg *err);

#endif
