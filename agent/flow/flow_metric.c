/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/flow/flow_metric.h"

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "agent/flow/flow_internal.h"
#include "lib/alloc.h"
#include "lib/arena.h"
#include "lib/auto.h"
#include "lib/table.h"

/* Namespaces that have series of their own; what is of others is summed up as this one. */
#define NAMESPACES_MAX 256
#define OTHER          "other namespaces"

/* Upper bounds of the histogram of round trips, in microseconds. */
static const uint32_t rtt_bounds[] = { 100,   250,   500,   1000,   2500,   5000,
				       10000, 25000, 50000, 100000, 250000, 1000000 };

struct namespace_sums {
	char *name;
	uint64_t bytes[2]; /* payload that pods sent and received: enum direction */
	uint64_t opened;
	uint64_t accepted;
	uint64_t retransmits;
	uint64_t rtt[ARRAY_SIZE(rtt_bounds) + 1];
	uint64_t rtt_count;
	uint64_t rtt_sum_us;
	uint64_t drops[DROP_REASON_COUNT];
};

struct flow_metrics {
	struct table by_name; /* hash of the name -> index */
	struct namespace_sums *items;
	size_t count;
};

static const char *const reason_names[DROP_REASON_COUNT] = {
#define X(num, name, text) [num] = #name,
	DROP_REASONS(X)
#undef X
};

struct flow_metrics *flow_metrics_new(void)
{
	struct flow_metrics *metrics = xcalloc(1, sizeof(*metrics));

	table_init(&metrics->by_name, sizeof(uint64_t), sizeof(size_t));
	return metrics;
}

void flow_metrics_free(struct flow_metrics *metrics)
{
	for (size_t i = 0; i < metrics->count; i++)
		free(metrics->items[i].name);
	free(metrics->items);
	table_done(&metrics->by_name);
	free(metrics);
}

static struct namespace_sums *sums_of(struct flow_metrics *metrics, const char *name)
{
	uint64_t key = table_hash(name, strlen(name));
	size_t *index = table_find(&metrics->by_name, &key);

	if (index)
		return &metrics->items[*index];
	if (metrics->count == NAMESPACES_MAX)
		return sums_of(metrics, OTHER);
	if (metrics->count == NAMESPACES_MAX - 1 && strcmp(name, OTHER) != 0)
		return sums_of(metrics, OTHER);
	*(size_t *)table_put(&metrics->by_name, &key) = metrics->count;
	metrics->items = xreallocarray(metrics->items, metrics->count + 1, sizeof(*metrics->items));
	metrics->items[metrics->count] = (struct namespace_sums){ .name = xstrdup(name) };
	return &metrics->items[metrics->count++];
}

static void rtt_add(struct namespace_sums *sums, uint32_t rtt_us)
{
	size_t bucket = 0;

	while (bucket < ARRAY_SIZE(rtt_bounds) && rtt_us > rtt_bounds[bucket])
		bucket++;
	sums->rtt[bucket]++;
	sums->rtt_count++;
	sums->rtt_sum_us += rtt_us;
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
		rtt_add(sums, entry->srtt_us);
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

static void histogram_add(struct buffer *out, const struct namespace_sums *sums)
{
	uint64_t count = 0;
	char bound[32];

	for (size_t i = 0; i < ARRAY_SIZE(rtt_bounds); i++) {
		count += sums->rtt[i];
		snprintf(bound, sizeof(bound), "%g", rtt_bounds[i] / 1e6);
		sample(out, "tcp_rtt_seconds_bucket", sums, "le", bound, (double)count);
	}
	sample(out, "tcp_rtt_seconds_bucket", sums, "le", "+Inf", (double)sums->rtt_count);
	sample(out, "tcp_rtt_seconds_sum", sums, NULL, NULL, (double)sums->rtt_sum_us / 1e6);
	sample(out, "tcp_rtt_seconds_count", sums, NULL, NULL, (double)sums->rtt_count);
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
	histogram_add(out, sums);
	family(out, "flow_drops_total", "counter",
	       "Packets of pods that were dropped and reported, by reason.");
	EACH(metrics, sums)
	drops_add(out, sums);
}
