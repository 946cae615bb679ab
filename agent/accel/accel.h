/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guard of socket acceleration: proves at start, on this very kernel, that what it relies on
 * holds; turns it on or leaves it off; ends connections that policy no longer allows.
 */
#ifndef TENDRIL_AGENT_ACCEL_ACCEL_H
#define TENDRIL_AGENT_ACCEL_ACCEL_H

#include "agent/agent.h"

struct cJSON;

int accel_new(struct agent *agent, struct accel **ret, struct errmsg *err);
void accel_free(struct accel *accel);

/* Starts the self-test, and turns acceleration on or off when it has ended; once the agent is
 * ready. */
void accel_selftest(struct accel *accel);

/* After a change of policy: ends accelerated connections that are now forbidden (SOCK_DESTROY in
 * the pod's namespace). */
void accel_enforce(struct accel *accel);

/* Fills the "acceleration" member of status, as in API.md. */
struct cJSON *accel_status(const struct accel *accel);

#endif
