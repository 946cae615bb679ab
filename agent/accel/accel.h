/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Controls socket acceleration: tests at the start whether this kernel supports it, turns it on or
 * leaves it off, and ends accelerated connections that policy no longer allows.
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
	struct fork_server *fork_server;
	struct datapath *datapath;
	const struct datapath_options *load; /* the options of datapath_open() */
	struct sync *sync;
	struct endpoints *endpoints;
	struct monitor *monitor;
};

struct accel *accel_new(const struct accel_options *options);
void accel_free(struct accel *accel);

/* Starts the self-test; when it ends, acceleration is turned on or off.  Called when the agent is
 * ready. */
void accel_selftest(struct accel *accel);

/* After a change of policy: the loop ends accelerated connections that are now denied (SOCK_DESTROY
 * in the pod's namespace).  Several changes in a row cost one walk. */
void accel_enforce_soon(struct accel *accel);
/* Does it at once if it is due, for a caller that must answer after it. */
void accel_enforce_due(struct accel *accel);

/* Fills the "acceleration" member of status, as in API.md. */
struct cJSON *accel_status(const struct accel *accel);

#endif
