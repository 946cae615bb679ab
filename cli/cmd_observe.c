/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tendril observe: the log of flows as a page for a browser, in one file: who talked to whom, what
 * was dropped, which services are slow.  The page is observe_page.html, embedded at build; this
 * file sums flows up and puts the sums into it.
 */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/agent_call.h"
#include "cli/files.h"
#include "cli/flow_log.h"
#include "cli/html_page.h"
#include "cli/output.h"
#include "lib/alloc.h"
#include "lib/arena.h"
#include "lib/auto.h"
#include "lib/clock.h"
#include "lib/table.h"
#include "lib/text.h"

#define NAME_TEXT_MAX 1400
#define NODES_MAX     150 /* more have no room in a picture: they are one, "others" */
#define EDGES_MAX     2000

HTML_PAGE(observe_page_html, "cli/observe_page.html");

/* What one end of flows saw of them; both ends of two pods of the node see the same. */
struct seen {
	double connections;
	double unanswered; /* of them: who was asked never spoke */
	double bytes;
	double rtt_us; /* sum over so many */
	double rtt_count;
	double retransmits;
};

struct edge {
	size_t from;
	size_t to;
	char *port;          /* "8080/TCP" */
	struct seen seen[2]; /* at the source, at the destination */
	double drops;
	char *reason; /* of the last drop, or NULL */
	char *last;
};

struct service {
	char *name;
	struct seen seen;
	double handshake_us;
	double handshake_count;
};

struct observation {
	struct table node_by_name; /* hash -> index in nodes */
	struct table edge_by_name;
	struct table service_by_name;
	cJSON *nodes; /* {"name","kind","namespace"} */
	struct edge *edges;
	size_t edge_count;
	struct service *services;
	size_t service_count;
	double left_out; /* flows whose edge found no room */
	double flows;
	int64_t first_ns;
	int64_t last_ns;
};

/* ---- sums ------------------------------------------------------------------------------------ */

/* The index of a name, and whether it is new: then the next one, count. */
static size_t index_of(struct table *table, const char *name, size_t count, bool *ret_new)
{
	const uint64_t hash = table_hash(name, strlen(name));
	const size_t *found = table_find(table, &hash);

	*ret_new = !found;
	if (found)
		return *found;
	*(size_t *)table_put(table, &hash) = count;
	return count;
}

static size_t node_of(struct observation *seen, const char *name, const char *kind,
		      const char *namespace)
{
	size_t count = (size_t)cJSON_GetArraySize(seen->nodes), index;
	const uint64_t hash = table_hash(name, strlen(name));
	cJSON *node;
	bool is_new;

	if (count >= NODES_MAX && !table_find(&seen->node_by_name, &hash)) {
		name = "others";
		kind = "others";
		namespace = "";
	}
	index = index_of(&seen->node_by_name, name, count, &is_new);
	if (is_new) {
		node = cJSON_CreateObject();
		cJSON_AddStringToObject(node, "name", name);
		cJSON_AddStringToObject(node, "kind", kind);
		cJSON_AddStringToObject(node, "namespace", namespace);
		cJSON_AddItemToArray(seen->nodes, node);
	}
	return index;
}

/* A workload, or the pod that has none; the node; an address outside, with its name if it has one:
 * a pod may be told any name for any address.  Clients outside are one. */
static size_t flow_node(struct observation *seen, const cJSON *flow, const char *end)
{
	const cJSON *json = member_get(flow, end);
	const char *namespace = member_text(json, "namespace", NULL);
	const cJSON *workload = cJSON_GetArrayItem(member_get(json, "workloads"), 0);
	const char *label = cJSON_GetStringValue(cJSON_GetArrayItem(member_get(json, "labels"), 0));
	const char *dns =
		cJSON_GetStringValue(cJSON_GetArrayItem(member_get(flow, "destination_names"), 0));
	const char *address = flow_address(flow, end);
	char name[NAME_TEXT_MAX];

	if (namespace) {
		snprintf(name, sizeof(name), "%s/%s", namespace,
			 workload ? member_text(workload, "name", "")
				  : member_text(json, "pod_name", ""));
		return node_of(seen, name, "workload", namespace);
	}
	if (label && strcmp(label, "reserved:host") == 0)
		return node_of(seen, "this node", "node", "");
	if (strcmp(end, "source") == 0)
		return node_of(seen, "clients outside", "outside", "");
	if (!dns)
		return node_of(seen, address, "outside", "");
	snprintf(name, sizeof(name), "%s (%s)", dns, address);
	return node_of(seen, name, "outside", "");
}

/* NULL: there is no room. */
static struct edge *edge_of(struct observation *seen, const cJSON *flow)
{
	const size_t from = flow_node(seen, flow, "source");
	const size_t to = flow_node(seen, flow, "destination");
	struct edge *edge;
	char key[128];
	bool is_new;
	size_t index;

	snprintf(key, sizeof(key), "%zu %zu %u/%s", from, to, flow_port(flow), flow_protocol(flow));
	index = index_of(&seen->edge_by_name, key, seen->edge_count, &is_new);
	if (index >= EDGES_MAX)
		return NULL;
	if (is_new) {
		seen->edges = xreallocarray(seen->edges, seen->edge_count + 1, sizeof(*edge));
		edge = &seen->edges[seen->edge_count++];
		*edge = (struct edge){ .from = from, .to = to };
		edge->port = xstrdup(strchr(strchr(key, ' ') + 1, ' ') + 1);
	}
	return &seen->edges[index];
}

static void seen_add(struct seen *seen, const cJSON *flow)
{
	double rtt_us = flow_number(flow, "srtt_us");

	seen->connections++;
	seen->unanswered += strcmp(member_text(flow, "verdict", ""), "TRACED") == 0;
	seen->bytes += flow_number(flow, "source_bytes") + flow_number(flow, "destination_bytes");
	seen->retransmits += flow_number(flow, "retransmits");
	seen->rtt_us += rtt_us;
	seen->rtt_count += rtt_us > 0;
}

/* Only the end that opened a connection knows the service. */
static void service_add(struct observation *seen, const cJSON *flow)
{
	const cJSON *json = member_get(flow, "destination_service");
	double handshake_us = flow_number(flow, "handshake_us");
	struct service *service;
	char name[NAME_TEXT_MAX];
	bool is_new;
	size_t index;

	if (!json)
		return;
	snprintf(name, sizeof(name), "%s/%s", member_text(json, "namespace", ""),
		 member_text(json, "name", ""));
	index = index_of(&seen->service_by_name, name, seen->service_count, &is_new);
	if (is_new) {
		seen->services =
			xreallocarray(seen->services, seen->service_count + 1, sizeof(*service));
		seen->services[seen->service_count++] = (struct service){ .name = xstrdup(name) };
	}
	service = &seen->services[index];
	seen_add(&service->seen, flow);
	service->handshake_us += handshake_us;
	service->handshake_count += handshake_us > 0;
}

static int flow_add(cJSON *flow, void *arg)
{
	bool ingress = strcmp(member_text(flow, "traffic_direction", ""), "INGRESS") == 0;
	const char *time = member_text(flow, "time", "");
	double drops = flow_number(flow, "count");
	struct observation *seen = arg;
	struct edge *edge = edge_of(seen, flow);
	int64_t time_ns;

	seen->flows++;
	if (clock_parse(time, &time_ns) == 0) {
		if (!seen->first_ns || time_ns < seen->first_ns)
			seen->first_ns = time_ns;
		if (time_ns > seen->last_ns)
			seen->last_ns = time_ns;
	}
	if (drops == 0 && !ingress)
		service_add(seen, flow);
	if (!edge) {
		seen->left_out++;
	} else if (drops > 0) {
		edge->drops += drops;
		free(edge->reason);
		free(edge->last);
		edge->reason = xstrdup(flow_text(flow, "reason"));
		edge->last = xstrdup(time);
	} else {
		seen_add(&edge->seen[ingress], flow);
	}
	return 0;
}

/* ---- the page -------------------------------------------------------------------------------- */

static void seen_json(cJSON *json, const struct seen *seen)
{
	cJSON_AddNumberToObject(json, "connections", seen->connections);
	cJSON_AddNumberToObject(json, "unanswered", seen->unanswered);
	cJSON_AddNumberToObject(json, "bytes", seen->bytes);
	cJSON_AddNumberToObject(json, "retransmits", seen->retransmits);
	cJSON_AddNumberToObject(json, "rttUs",
				seen->rtt_count > 0 ? seen->rtt_us / seen->rtt_count : 0);
}

static cJSON *edges_json(const struct observation *seen)
{
	cJSON *edges = cJSON_CreateArray();

	for (size_t i = 0; i < seen->edge_count; i++) {
		const struct edge *edge = &seen->edges[i];
		cJSON *json = cJSON_CreateObject();

		cJSON_AddNumberToObject(json, "from", (double)edge->from);
		cJSON_AddNumberToObject(json, "to", (double)edge->to);
		cJSON_AddStringToObject(json, "port", edge->port);
		seen_json(json, &edge->seen[edge->seen[0].connections == 0]);
		cJSON_AddNumberToObject(json, "drops", edge->drops);
		cJSON_AddStringToObject(json, "reason", edge->reason ? edge->reason : "");
		cJSON_AddStringToObject(json, "last", edge->last ? edge->last : "");
		cJSON_AddItemToArray(edges, json);
	}
	return edges;
}

static cJSON *services_json(const struct observation *seen)
{
	cJSON *services = cJSON_CreateArray();

	for (size_t i = 0; i < seen->service_count; i++) {
		const struct service *service = &seen->services[i];
		cJSON *json = cJSON_CreateObject();

		cJSON_AddStringToObject(json, "name", service->name);
		seen_json(json, &service->seen);
		cJSON_AddNumberToObject(json, "handshakeUs",
					service->handshake_count > 0
						? service->handshake_us / service->handshake_count
						: 0);
		cJSON_AddItemToArray(services, json);
	}
	return services;
}

/* Takes the nodes. */
static cJSON *observation_json(struct observation *seen)
{
	cJSON *json = cJSON_CreateObject();
	char text[CLOCK_TEXT_MAX];
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	cJSON_AddStringToObject(json, "date", clock_format((int64_t)now.tv_sec * 1000000000, text));
	cJSON_AddNumberToObject(json, "seconds", (double)(seen->last_ns - seen->first_ns) / 1e9);
	cJSON_AddNumberToObject(json, "flows", seen->flows);
	cJSON_AddNumberToObject(json, "leftOut", seen->left_out);
	cJSON_AddItemToObject(json, "nodes", take_ptr(seen->nodes));
	cJSON_AddItemToObject(json, "edges", edges_json(seen));
	cJSON_AddItemToObject(json, "services", services_json(seen));
	return json;
}

static int page_write(const struct arguments *args, struct observation *seen, struct errmsg *err)
{
	cJSON *json = observation_json(seen);
	auto_free char *text = cJSON_PrintUnformatted(json);
	auto_buffer struct buffer page = { 0 };

	cJSON_Delete(json);
	text_make_utf8(text);
	html_page_fill(&page, observe_page_html, text);
	return file_write_text(args->html, page.data, page.len, err);
}

static void observation_done(struct observation *seen)
{
	for (size_t i = 0; i < seen->edge_count; i++) {
		free(seen->edges[i].port);
		free(seen->edges[i].reason);
		free(seen->edges[i].last);
	}
	for (size_t i = 0; i < seen->service_count; i++)
		free(seen->services[i].name);
	free(seen->edges);
	free(seen->services);
	cJSON_Delete(seen->nodes);
	table_done(&seen->node_by_name);
	table_done(&seen->edge_by_name);
	table_done(&seen->service_by_name);
}

int cmd_observe(const struct arguments *args, struct errmsg *err)
{
	struct observation seen = { .nodes = cJSON_CreateArray() };
	int ret;

	table_init(&seen.node_by_name, sizeof(uint64_t), sizeof(size_t));
	table_init(&seen.edge_by_name, sizeof(uint64_t), sizeof(size_t));
	table_init(&seen.service_by_name, sizeof(uint64_t), sizeof(size_t));
	ret = flow_log_read(args, 0, NULL, flow_add, &seen, err);
	if (!ret)
		ret = page_write(args, &seen, err);
	if (!ret && strcmp(args->html, "-") != 0)
		output_note("%s: %.0f flows between %zu ends", args->html, seen.flows,
			    seen.node_by_name.count);
	observation_done(&seen);
	return ret < 0 ? ret : EXIT_OK;
}
