/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guard of socket acceleration: tests at start whether this kernel does what it relies on; turns it
 * on or leaves it off; ends connections that policy no longer allows.
 */
#ifndef TENDRIL_AGENT_ACCEL_ACCEL_H
#define TENDRIL_AGENT_ACCEL_ACCEL_H

#include <stdbool.h>

#include "lib/errmsg.h"

struct accel;
struct cJSON;
struct datapath;
struct datapath_options;
struct endpoints;
struct event_base;
struct monitor;
struct sync;

struct accel_options { /* all of it is borrowed */
	struct event_base *base;
	struct datapath *datapath;
	const struct datapath_options *load; /* what the datapath was opened with */
	struct sync *sync;
	struct endpoints *endpoints;
	struct monitor *monitor;
};

struct accel *accel_new(const struct accel_options *options);
void accel_free(struct accel *accel);

/* Call once the agent is ready.  Starts the self-test; when that ends, acceleration is turned on or
 * off. */
void accel_selftest(struct accel *accel);

/* After a change of policy: the next turn of the loop ends accelerated connections that are now
 * forbidden (SOCK_DESTROY in the pod's namespace).  Several changes in a row cost one walk. */
void accel_enforce_soon(struct accel *accel);
/* Does it now if it is due, for a caller that must not answer before. */
void accel_enforce_due(struct accel *accel);

/* Fills the "acceleration" member of status, as in API.md. */
struct cJSON *accel_status(const struct accel *accel);

#endif
