/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/flow/flow_metric.h"

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "agent/flow/flow_internal.h"
#include "lib/alloc.h"
#include "lib/arena.h"
#include "lib/auto.h"
#include "lib/histogram.h"
#include "lib/table.h"

/* What is of namespaces and services that have no series of their own is summed up as these. */
#define OTHER         "other namespaces"
#define OTHER_SERVICE "other services"

static const struct histogram_bounds rtt_bounds = {
	12, { .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1 }
};
static const struct histogram_bounds retransmit_bounds = { 6, { 0, 1, 3, 10, 30, 100 } };

/* Connections to a service, as the pods of this node saw them that opened them. */
struct service_sums {
	char *namespace;
	char *name;
	struct histogram rtt;
	struct histogram retransmits;
};

struct namespace_sums {
	char *name;
	uint64_t bytes[2]; /* payload that pods sent and received: enum direction */
	uint64_t opened;
	uint64_t accepted;
	uint64_t retransmits;
	struct histogram rtt;
	uint64_t drops[DROP_REASON_COUNT];
};

struct flow_metrics {
	size_t namespaces_max; /* without the one for the others */
	size_t services_max;
	struct table by_name; /* hash of the name -> index */
	struct namespace_sums *items;
	size_t count;
	struct table by_service; /* hash of namespace and name -> index */
	struct service_sums *services;
	size_t service_count;
};

static const char *const reason_names[DROP_REASON_COUNT] = {
#define X(num, name, text) [num] = #name,
	DROP_REASONS(X)
#undef X
};

struct flow_metrics *flow_metrics_new(size_t namespaces_max, size_t services_max)
{
	struct flow_metrics *metrics = xcalloc(1, sizeof(*metrics));

	metrics->namespaces_max = namespaces_max;
	metrics->services_max = services_max;
	table_init(&metrics->by_name, sizeof(uint64_t), sizeof(size_t));
	table_init(&metrics->by_service, sizeof(uint64_t), sizeof(size_t));
	return metrics;
}

void flow_metrics_free(struct flow_metrics *metrics)
{
	for (size_t i = 0; i < metrics->count; i++)
		free(metrics->items[i].name);
	for (size_t i = 0; i < metrics->service_count; i++) {
		free(metrics->services[i].namespace);
		free(metrics->services[i].name);
	}
	free(metrics->items);
	free(metrics->services);
	table_done(&metrics->by_name);
	table_done(&metrics->by_service);
	free(metrics);
}

static struct namespace_sums *sums_of(struct flow_metrics *metrics, const char *name)
{
	uint64_t key = table_hash(name, strlen(name));
	size_t *index = table_find(&metrics->by_name, &key);

	if (index)
		return &metrics->items[*index];
	if (metrics->count >= metrics->namespaces_max && strcmp(name, OTHER) != 0)
		return sums_of(metrics, OTHER);
	*(size_t *)table_put(&metrics->by_name, &key) = metrics->count;
	metrics->items = xreallocarray(metrics->items, metrics->count + 1, sizeof(*metrics->items));
	metrics->items[metrics->count] = (struct namespace_sums){ .name = xstrdup(name) };
	return &metrics->items[metrics->count++];
}

static struct service_sums *service_of(struct flow_metrics *metrics, const char *namespace,
				       const char *name)
{
	uint64_t hash[2] = { table_hash(namespace, strlen(namespace)),
			     table_hash(name, strlen(name)) };
	uint64_t key = table_hash(hash, sizeof(hash));
	size_t *index = table_find(&metrics->by_service, &key);

	if (index)
		return &metrics->services[*index];
	if (metrics->service_count >= metrics->services_max && strcmp(name, OTHER_SERVICE) != 0)
		return service_of(metrics, OTHER, OTHER_SERVICE);
	*(size_t *)table_put(&metrics->by_service, &key) = metrics->service_count;
	metrics->services = xreallocarray(metrics->services, metrics->service_count + 1,
					  sizeof(*metrics->services));
	metrics->services[metrics->service_count] =
		(struct service_sums){ .namespace = xstrdup(namespace), .name = xstrdup(name) };
	return &metrics->services[metrics->service_count++];
}

static void service_add(struct flow_metrics *metrics, const struct flow_entry *entry)
{
	struct service_sums *sums =
		service_of(metrics, entry->service->namespace, entry->service->name);

	if (entry->srtt_us)
		histogram_add(&sums->rtt, &rtt_bounds, entry->srtt_us / 1e6);
	histogram_add(&sums->retransmits, &retransmit_bounds, entry->retransmits);
}

void flow_metrics_add(struct flow_metrics *metrics, const struct flow_entry *entry,
		      uint32_t packets)
{
	bool egress = entry->direction == DIR_EGRESS;
	enum flow_end own = egress ? FLOW_SOURCE : FLOW_DESTINATION;
	const struct flow_name *name = entry->names[own];
	struct namespace_sums *sums;

	if (!name || name->kind != NAME_POD)
		return;
	sums = sums_of(metrics, name->namespace);
	if (entry->type) {
		if (entry->reason < DROP_REASON_COUNT && entry->type == EVENT_DROP)
			sums->drops[entry->reason] += packets;
		return;
	}
	sums->bytes[DIR_EGRESS] += entry->bytes[own];
	sums->bytes[DIR_INGRESS] += entry->bytes[!own];
	if (entry->flow.proto != IPPROTO_TCP)
		return;
	sums->opened += egress;
	sums->accepted += !egress;
	sums->retransmits += entry->retransmits;
	if (entry->srtt_us)
		histogram_add(&sums->rtt, &rtt_bounds, entry->srtt_us / 1e6);
	if (egress && entry->service)
		service_add(metrics, entry);
}

/* ---- text ------------------------------------------------------------------------------------ */

static void family(struct buffer *out, const char *name, const char *type, const char *help)
{
	buffer_print(out, "# HELP tendril_%s %s\n# TYPE tendril_%s %s\n", name, help, name, type);
}

/* A label's value: backslash, quote and newline would end it. */
static void label_add(struct buffer *out, const char *value)
{
	for (; *value; value++) {
		if (*value == '\\' || *value == '"')
			buffer_print(out, "\\%c", *value);
		else if (*value == '\n')
			buffer_string(out, "\\n");
		else
			buffer_add(out, value, 1);
	}
}

/* name{namespace="x",label="text"} value */
static void sample(struct buffer *out, const char *name, const struct namespace_sums *sums,
		   const char *label, const char *text, double value)
{
	buffer_print(out, "tendril_%s{namespace=\"", name);
	label_add(out, sums->name);
	if (label)
		buffer_print(out, "\",%s=\"%s", label, text);
	buffer_print(out, "\"} %.15g\n", value);
}

static void rtt_print(struct buffer *out, const struct namespace_sums *sums)
{
	auto_buffer struct buffer labels = { 0 };

	buffer_string(&labels, "namespace=\"");
	label_add(&labels, sums->name);
	buffer_string(&labels, "\"");
	histogram_print(&sums->rtt, &rtt_bounds, "tendril_tcp_rtt_seconds", labels.data, out);
}

static void services_print(const struct flow_metrics *metrics, bool rtt, const char *name,
			   struct buffer *out)
{
	for (size_t i = 0; i < metrics->service_count; i++) {
		const struct service_sums *sums = &metrics->services[i];
		auto_buffer struct buffer labels = { 0 };

		buffer_string(&labels, "namespace=\"");
		label_add(&labels, sums->namespace);
		buffer_string(&labels, "\",service=\"");
		label_add(&labels, sums->name);
		buffer_string(&labels, "\"");
		histogram_print(rtt ? &sums->rtt : &sums->retransmits,
				rtt ? &rtt_bounds : &retransmit_bounds, name, labels.data, out);
	}
}

static void drops_add(struct buffer *out, const struct namespace_sums *sums)
{
	for (size_t reason = 0; reason < DROP_REASON_COUNT; reason++) {
		if (sums->drops[reason])
			sample(out, "flow_drops_total", sums, "reason", reason_names[reason],
			       (double)sums->drops[reason]);
	}
}

#define EACH(metrics, sums)                                        \
	for (const struct namespace_sums *sums = (metrics)->items; \
	     sums && sums < (metrics)->items + (metrics)->count; sums++)

void flow_metrics_print(const struct flow_metrics *metrics, struct buffer *out)
{
	family(out, "flow_bytes_total", "counter",
	       "Payload that pods sent (egress) and received, of flows that are over.");
	EACH(metrics, sums)
	{
		sample(out, "flow_bytes_total", sums, "direction", "egress",
		       (double)sums->bytes[DIR_EGRESS]);
		sample(out, "flow_bytes_total", sums, "direction", "ingress",
		       (double)sums->bytes[DIR_INGRESS]);
	}
	family(out, "flow_connections_total", "counter",
	       "TCP connections that pods opened (egress) and accepted, when they have closed.");
	EACH(metrics, sums)
	{
		sample(out, "flow_connections_total", sums, "direction", "egress",
		       (double)sums->opened);
		sample(out, "flow_connections_total", sums, "direction", "ingress",
		       (double)sums->accepted);
	}
	family(out, "tcp_retransmits_total", "counter",
	       "TCP segments that pods sent again, in connections that have closed.");
	EACH(metrics, sums)
	sample(out, "tcp_retransmits_total", sums, NULL, NULL, (double)sums->retransmits);
	family(out, "tcp_rtt_seconds", "histogram",
	       "Smoothed round trip of TCP connections when they closed.");
	EACH(metrics, sums)
	rtt_print(out, sums);
	family(out, "service_tcp_rtt_seconds", "histogram",
	       "Smoothed round trip of connections of pods to the service when they closed.");
	services_print(metrics, true, "tendril_service_tcp_rtt_seconds", out);
	family(out, "service_tcp_retransmits", "histogram",
	       "TCP segments sent again by each connection of pods to the service.");
	services_print(metrics, false, "tendril_service_tcp_retransmits", out);
	family(out, "flow_drops_total", "counter",
	       "Packets of pods that were dropped and reported, by reason.");
	EACH(metrics, sums)
	drops_add(out, sums);
}
