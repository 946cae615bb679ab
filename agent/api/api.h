/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's API (API.md): the table of routes is in api.c, the handlers are in api_*.c.
 * A handler answers its call exactly once, with api_reply() or an error.
 */
#ifndef TENDRIL_AGENT_API_API_H
#define TENDRIL_AGENT_API_API_H

#include "agent/api/agent.h"
#include "lib/http.h"

struct cJSON;

#define API_ARGS_MAX 3

struct api_call {
	struct agent *agent;
	struct http_exchange *exchange;
	const struct http_request *request;
	char *args[API_ARGS_MAX]; /* the path's segments where the route has a "*" */
};

typedef void (*api_handler)(struct api_call *call);

/* Listens on RUN_DIR/tendril.sock, kube/kube.sock and http/http.sock: agent->listeners. */
int api_listen(struct agent *agent, struct errmsg *err);
void api_ensure_sockets(struct agent *agent); /* listens again if a socket file was removed */
unsigned long api_slow_readers(const struct agent *agent); /* streams that were disconnected */
void api_close(struct agent *agent);

/* Ends the ADDs that wait; called before the modules are freed. */
void api_cni_stop(struct agent *agent);

/* ---- answers (api.c) ---- */

void api_reply(struct api_call *call, struct cJSON *json);    /* 200; takes json */
void api_reply_text(struct api_call *call, const char *text); /* 200, as it is */
void api_refuse(struct api_call *call, int status, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void api_error(struct api_call *call, const struct errmsg *err); /* the status follows err->code */

/* ---- pieces of answers (api.c) ---- */

struct cJSON *api_name_json(const char *namespace, const char *name); /* "namespace/name" */
struct cJSON *api_addresses_json(const struct addr *addresses, size_t count);
struct cJSON *api_labels_json(const struct labels *labels);
/* Health checks that have no room in tendril-http (api_service.c). */
size_t api_health_checks_left_out(const struct agent *agent);
uint64_t api_rss_bytes(void); /* of the agent (api_status.c) */

/* ---- handlers ---- */

void api_status_get(struct api_call *call);
void api_ready_get(struct api_call *call);
void api_metrics_get(struct api_call *call);
void api_endpoints_list(struct api_call *call);
void api_endpoints_get(struct api_call *call);
void api_nodes_list(struct api_call *call);
void api_nodes_get(struct api_call *call);
void api_nodes_probe(struct api_call *call);
void api_key_rotate(struct api_call *call);
void api_services_list(struct api_call *call);
void api_services_get(struct api_call *call);
void api_health_checks_get(struct api_call *call);
void api_policies_list(struct api_call *call);
void api_policies_get(struct api_call *call);
void api_identities_list(struct api_call *call);
void api_conntrack_list(struct api_call *call);
void api_objects_list(struct api_call *call);
void api_objects_get(struct api_call *call);
void api_objects_put(struct api_call *call);
void api_objects_del(struct api_call *call);
void api_kube_put(struct api_call *call);
void api_kube_follow(struct api_call *call);
void api_events_follow(struct api_call *call);
void api_flows_follow(struct api_call *call);
void api_sockets_list(struct api_call *call);
void api_flows_recent(struct api_call *call);
void api_cni_add(struct api_call *call);
void api_cni_del(struct api_call *call);
void api_cni_check(struct api_call *call);
void api_cni_gc(struct api_call *call);
void api_cni_status(struct api_call *call);

#endif
