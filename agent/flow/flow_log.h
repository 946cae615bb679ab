/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last flows of this node's pods, always: TCP connections when they close, as each end saw
 * them, and what the datapath dropped, summed up.  doc/observability.md tells what is in and what
 * is not.
 */
#ifndef TENDRIL_AGENT_FLOW_FLOW_LOG_H
#define TENDRIL_AGENT_FLOW_FLOW_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct addr;
struct buffer;
struct cJSON;
struct datapath;
struct datapath_options;
struct endpoints;
struct event_base;
struct flow_log;
struct http_exchange;
struct backend;
struct monitor;
struct service_key;
struct store;

struct flow_log_options { /* pointers are borrowed; all outlive the log */
	struct event_base *base;
	struct fork_server *fork_server;
	struct datapath *datapath;
	const struct datapath_options *load;
	const struct endpoints *endpoints;
	struct store *store;
	struct monitor *monitor;
	uint32_t max;             /* flows that are kept */
	bool dns_names;           /* read the names that pods ask for */
	bool off;                 /* only drops are recorded */
	size_t metric_namespaces; /* as of flow_metrics_new() */
	size_t metric_services;
	/* Is told of each connection of a pod through a service that has closed; or NULL. */
	void (*service_used)(const struct service_key *service, const struct backend *backend,
			     uint64_t bytes, void *arg);
	void *arg;
};

struct flow_log *flow_log_new(const struct flow_log_options *options);
void flow_log_free(struct flow_log *log); /* ends the streams */

/* Loads the program that reports connections, in the next turn of the loop: pods need not wait. */
void flow_log_start(struct flow_log *log);

/* Which flows a client wants: the last so many (0: all), not older than since (nanoseconds since
 * 1970), and with follow those that come. */
struct flow_log_query {
	uint64_t last;
	int64_t since_ns;
	bool follow;
};

/* Answers a request with a stream of JSON lines: a flow each, in order. */
void flow_log_stream(struct flow_log *log, struct http_exchange *exchange,
		     const struct flow_log_query *query);

/* Appends sums over flows in the text format of Prometheus. */
void flow_log_metrics(const struct flow_log *log, struct buffer *out);

/* Why TCP connections are not reported; "" if they are, or will be. */
const char *flow_log_problem(const struct flow_log *log);

/* Why packets that the kernel drops cannot be reported; "" if they can. */
const char *flow_log_freed_problem(const struct flow_log *log);

/* The name by which a pod of this node got an address last, or NULL; valid until the loop goes on.
 */
const char *flow_log_dns_name(const struct flow_log *log, const struct addr *source,
			      const struct addr *destination);

/* For status: which sources work on this kernel, and how much is kept. */
struct cJSON *flow_log_status(const struct flow_log *log);

#endif
