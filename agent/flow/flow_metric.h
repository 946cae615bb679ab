/* SPDX-License-Identifier: Apache-2.0 */
/* Sums over flows by namespace, for Prometheus.  Their number is bounded. */
#ifndef TENDRIL_AGENT_FLOW_FLOW_METRIC_H
#define TENDRIL_AGENT_FLOW_FLOW_METRIC_H

#include <stddef.h>
#include <stdint.h>

struct buffer;
struct flow_entry;
struct flow_metrics;

/* How many namespaces and services have series of their own; the rest is one more. */
struct flow_metrics *flow_metrics_new(size_t namespaces_max, size_t services_max);
void flow_metrics_free(struct flow_metrics *metrics);

/* Counts a connection for the end that saw it, or packets that were dropped there. */
void flow_metrics_add(struct flow_metrics *metrics, const struct flow_entry *entry,
		      uint32_t packets);

/* Appends the families in the text format of Prometheus. */
void flow_metrics_print(const struct flow_metrics *metrics, struct buffer *out);

#endif
