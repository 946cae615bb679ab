/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sysctls of the node's network namespace that the agent changes, and restores at --cleanup.
 * RUN_DIR/sysctls keeps their earlier values; it is written before they are changed.
 */
#ifndef TENDRIL_AGENT_HOST_SYSCTL_H
#define TENDRIL_AGENT_HOST_SYSCTL_H

#include "agent/endpoint/ipam.h"

/* Turns on forwarding for the families of the pods, and logs what it changes.  -ENOTSUP: pods need
 * IPv6, and this kernel or namespace has none. */
int host_forwarding_ensure(const char *run_dir, const struct ipam *ipam, struct errmsg *err);

/* Restores the earlier values, except for sysctls that somebody has changed since; then removes the
 * file.  0 also if there is none. */
int host_sysctl_restore(const char *run_dir, struct errmsg *err);

#endif
