/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The node agent: one event loop, no threads.  main.c builds this and runs the loop; each module
 * owns one member and is handed what it needs.
 */
#ifndef TENDRIL_AGENT_AGENT_H
#define TENDRIL_AGENT_AGENT_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/config.h"
#include "datapath/maps.h"
#include "policy/objects/store.h"

struct event_base;
struct http_server;

struct agent {
	struct config config;
	struct event_base *base;
	struct datapath *datapath;
	struct store *store;
	struct sync *sync;           /* store -> maps */
	struct endpoints *endpoints; /* the wired interfaces */
	struct objects *objects;     /* JSON directory and API objects -> store */
	struct accel *accel;         /* self-test and guard of socket acceleration */
	struct monitor *monitor;     /* event ring -> streams */
	struct flows *flows;         /* observation of flows -> streams */
	struct gc *gc;               /* timers: what died silently, maps that fill up */
	struct http_server *http;
	uint64_t start_ns; /* CLOCK_MONOTONIC at exec */
	uint64_t ready_ns;
	bool ready;
};

#endif
