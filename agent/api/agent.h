/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The modules of the agent, for the API.  main.c fills this in; every other module gets only what
 * it needs.
 */
#ifndef TENDRIL_AGENT_API_AGENT_H
#define TENDRIL_AGENT_API_AGENT_H

#include <stdbool.h>
#include <stdint.h>

#include "datapath/maps.h"
#include "policy/objects/store.h"

struct event_base;
struct http_server;
struct waiting_add;

#define API_SOCKETS 3

struct api_listener {
	struct agent *agent;
	struct http_server *server;
	unsigned int id; /* enum api_socket */
};

struct agent {
	struct event_base *base;
	struct datapath *datapath;
	struct store *store;
	struct sync *sync;                 /* store -> maps */
	struct endpoints *endpoints;       /* the wired interfaces */
	struct nodes *nodes;               /* the other nodes and the routes to their pods */
	struct health *health;             /* whether they answer */
	struct objects *objects;           /* JSON directory and API objects -> store */
	struct uplinks *uplinks;           /* devices by which clients outside reach services */
	struct host_routing *host_routing; /* whether they bypass the stack */
	struct accel *accel;               /* self-test and control of socket acceleration */
	struct sockets *sockets;           /* ends connections to backends that are gone */
	struct listeners *listening;       /* processes whose ports services have */
	struct monitor *monitor;           /* event ring -> streams */
	struct flows *flows;               /* flows of pods -> streams */
	struct flow_log *flow_log;         /* closed connections and drops -> the last flows */
	struct gc *gc;                     /* timers: unused connections, maps that fill up */
	struct api_listener listeners[API_SOCKETS];
	struct waiting_add *waiting_adds; /* ADDs that wait for their Pod objects */

	/* Of the configuration, borrowed. */
	const char *run_dir;
	const char *cni_conf_dir; /* or "" */
	const struct prefix *pod_cidrs;
	size_t pod_cidr_count;
	bool socket_services;

	char cni_problem[500]; /* why plugin and conflist are not in place, or "" */

	uint64_t start_ns; /* CLOCK_MONOTONIC at exec */
	uint64_t ready_ns;
	bool ready;
};

#endif
