/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sends the events of the datapath's ring, as JSON lines with the names of both ends, to the API's
 * streams.
 */
#ifndef TENDRIL_AGENT_MONITOR_MONITOR_H
#define TENDRIL_AGENT_MONITOR_MONITOR_H

#include <stdint.h>

#include "lib/errmsg.h"

struct datapath;
struct endpoints;
struct event_base;
struct flow_event;
struct http_exchange;
struct monitor;

int monitor_new(struct event_base *base, struct datapath *datapath,
		const struct endpoints *endpoints, struct monitor **ret, struct errmsg *err);
void monitor_free(struct monitor *monitor); /* ends the streams */

/* The set of "drop,verdict,audit,kernel" as bits 1 << enum event_type; an empty text means all but
 * kernel.  -EINVAL. */
int monitor_types_parse(const char *text, unsigned int *ret_types);

/* Answers a request with the stream of these events, until the client disconnects.  The datapath
 * reports new connections only while a client asks for them.  bytes: so many of each packet's first
 * ones go along, at most EVENT_BYTES_MAX; no program copies them while all ask for 0. */
void monitor_subscribe(struct monitor *monitor, struct http_exchange *exchange, unsigned int types,
		       uint32_t bytes);

/* Calls each() for every event of the datapath, whoever subscribes.  One listener; NULL: none. */
void monitor_listen(struct monitor *monitor,
		    void (*each)(const struct flow_event *event, void *arg), void *arg);

/* Reads the events that wait, before the loop does. */
void monitor_read(struct monitor *monitor);

/* Sends an event that the agent found by itself to all subscribers of its type. */
void monitor_send(struct monitor *monitor, const struct flow_event *event);

#endif
