/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flows of this node: while a client follows GET /v1/flows, the datapath records them (flow_map),
 * connections that existed before are found and added, and subscribers get all of them.  Without a
 * subscriber nothing is recorded.
 */
#ifndef TENDRIL_AGENT_MONITOR_FLOWS_H
#define TENDRIL_AGENT_MONITOR_FLOWS_H

#include <stdint.h>

#include "lib/errmsg.h"

struct addr;
struct datapath;
struct endpoints;
struct event_base;
struct flows;
struct http_exchange;

struct flows *flows_new(struct event_base *base, struct datapath *datapath,
			struct endpoints *endpoints);
void flows_free(struct flows *flows); /* ends the streams */

/* From now on lines have the name by which a flow's source asked DNS for its destination; NULL: it
 * has none. */
void flows_name_by(struct flows *flows,
		   const char *(*dns_name)(const struct addr *source,
					   const struct addr *destination, void *arg),
		   void *arg);

/* Answers a request with the stream of flows for so many seconds; 0: until the client disconnects.
 */
void flows_follow(struct flows *flows, struct http_exchange *exchange, uint32_t seconds);

#endif
