/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Metrics in the text format of Prometheus (exposition format 0.0.4).  tendril-http serves them.
 * Names follow Cilium's with "tendril" in place of "cilium".  Of the labels only namespaces and
 * services are made up by users; their number is bounded (agent/flow/flow_metric.h,
 * agent/sync/sync.h), and so that of the series.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "agent/api/api.h"
#include "agent/endpoint/endpoint.h"
#include "agent/flow/flow_log.h"
#include "agent/monitor/gc.h"
#include "agent/nodes/health.h"
#include "agent/objects/objects.h"
#include "agent/sync/sync.h"
#include "lib/arena.h"
#include "lib/inet.h"

static void family(struct buffer *out, const char *name, const char *type, const char *help)
{
	buffer_print(out, "# HELP tendril_%s %s\n# TYPE tendril_%s %s\n", name, help, name, type);
}

static void sample(struct buffer *out, const char *name, uint64_t value)
{
	buffer_print(out, "tendril_%s %llu\n", name, (unsigned long long)value);
}

static void labelled(struct buffer *out, const char *name, const char *label, const char *text,
		     uint64_t value)
{
	buffer_print(out, "tendril_%s{%s=\"%s\"} %llu\n", name, label, text,
		     (unsigned long long)value);
}

static void counter(struct buffer *out, struct agent *agent, const char *name, const char *label,
		    const char *text, unsigned int metric)
{
	uint64_t count = 0;

	metric_get(agent->datapath, metric, &count); /* 0 if it fails */
	labelled(out, name, label, text, count);
}

static void counters_add(struct buffer *out, struct agent *agent)
{
	family(out, "drop_count_total", "counter", "Packets that were dropped, by reason.");
#define X(num, name, text) counter(out, agent, "drop_count_total", "reason", #name, num);
	DROP_REASONS(X)
#undef X
	family(out, "notice_count_total", "counter",
	       "What happened to packets that were not dropped, by kind.");
#define X(num, name, text) \
	counter(out, agent, "notice_count_total", "notice", #name, METRIC_NOTICES + (num));
	NOTICES(X)
#undef X
}

static void endpoints_add_states(struct buffer *out, const struct agent *agent)
{
	struct endpoint_info info;
	uint64_t ready = 0, broken = 0;

	for (uint16_t slot = 0; endpoints_next(agent->endpoints, slot, &info); slot = info.slot) {
		if (strcmp(info.state, "broken") == 0)
			broken++;
		else
			ready++;
	}
	family(out, "endpoint_state", "gauge", "Endpoints on this node, by state.");
	labelled(out, "endpoint_state", "endpoint_state", "ready", ready);
	labelled(out, "endpoint_state", "endpoint_state", "broken", broken);
}

static void objects_add(struct buffer *out, const struct agent *agent)
{
	const struct compiled *compiled = sync_compiled(agent->sync);

	family(out, "policy", "gauge", "Policies of all kinds that are known.");
	sample(out, "policy",
	       store_count(agent->store, OBJECT_NETWORK_POLICY) +
		       store_count(agent->store, OBJECT_CLUSTER_POLICY));
	family(out, "services", "gauge", "Services that are known.");
	sample(out, "services", store_count(agent->store, OBJECT_SERVICE));
	family(out, "identity", "gauge", "Identities that policy tells apart.");
	sample(out, "identity", compiled ? compiled->identity_count : 0);
}

static void maps_add(struct buffer *out, const struct agent *agent)
{
	family(out, "bpf_map_capacity", "gauge", "Entries that an eBPF map can hold.");
	for (int map = 0; map < MAP_COUNT; map++)
		labelled(out, "bpf_map_capacity", "map_name", map_name((enum map_id)map),
			 maps_capacity(agent->datapath, (enum map_id)map));
	family(out, "bpf_map_entries", "gauge",
	       "Entries of an eBPF map when it was last counted, up to a minute ago.");
	for (int map = 0; map < MAP_COUNT; map++)
		labelled(out, "bpf_map_entries", "map_name", map_name((enum map_id)map),
			 gc_map_used(agent->gc, (enum map_id)map));
	family(out, "bpf_map_full_seconds", "gauge",
	       "When a map that grew in the last minute will be full if it goes on like that.");
	for (int map = 0; map < MAP_COUNT; map++) {
		uint64_t seconds = gc_map_full_in(agent->gc, (enum map_id)map);

		if (seconds)
			labelled(out, "bpf_map_full_seconds", "map_name",
				 map_name((enum map_id)map), seconds);
	}
}

static void programs_add(struct buffer *out, const struct agent *agent)
{
	const char *name;

	family(out, "bpf_program_recursion_misses_total", "counter",
	       "Runs of an eBPF program that the kernel left out, because it was running already.");
	for (size_t i = 0; (name = datapath_program_name(agent->datapath, i)); i++) {
		struct program_size size = {};

		datapath_program_size(agent->datapath, name, &size); /* zeros if it fails */
		labelled(out, "bpf_program_recursion_misses_total", "program", name, size.misses);
	}
}

static void agent_add(struct buffer *out, struct agent *agent)
{
	uint64_t maps = 0;

	family(out, "build_info", "gauge", "1, with the version of the agent.");
	labelled(out, "build_info", "version", TENDRIL_VERSION, 1);
	family(out, "agent_resident_memory_bytes", "gauge", "Resident memory of the agent.");
	sample(out, "agent_resident_memory_bytes", api_rss_bytes());
	family(out, "bpf_maps_memory_bytes", "gauge", "Kernel memory of all eBPF maps.");
	maps_memory(agent->datapath, &maps); /* 0 if it fails */
	sample(out, "bpf_maps_memory_bytes", maps);
}

/* Names of objects have no character that a label would have to escape. */
static void service_sample(struct buffer *out, const char *family, const char *namespace,
			   const char *name, uint64_t value)
{
	buffer_print(out, "tendril_%s{namespace=\"%s\",service=\"%s\"} %llu\n", family,
		     namespace ? namespace : "other namespaces", name ? name : "other services",
		     (unsigned long long)value);
}

static void connections_add(const char *namespace, const char *name,
			    const struct service_count *count, void *arg)
{
	service_sample(arg, "service_connections_total", namespace, name, count->connections);
}

static void bytes_add(const char *namespace, const char *name, const struct service_count *count,
		      void *arg)
{
	service_sample(arg, "service_bytes_total", namespace, name, count->bytes);
}

static void backend_sample(struct buffer *out, const char *family, const char *namespace,
			   const char *name, const struct backend *backend, uint64_t value)
{
	char address[ADDR_TEXT_MAX], text[ADDR_TEXT_MAX + 16] = "other backends";

	if (backend)
		snprintf(text, sizeof(text), addr_is_v4(&backend->addr) ? "%s:%u" : "[%s]:%u",
			 addr_format(&backend->addr, address), ntohs(backend->port));
	buffer_print(out, "tendril_%s{namespace=\"%s\",service=\"%s\",backend=\"%s\"} %llu\n",
		     family, namespace ? namespace : "other namespaces",
		     name ? name : "other services", text, (unsigned long long)value);
}

static void backend_connections_add(const char *namespace, const char *name,
				    const struct backend *backend,
				    const struct service_count *count, void *arg)
{
	backend_sample(arg, "service_backend_connections_total", namespace, name, backend,
		       count->connections);
}

static void backend_bytes_add(const char *namespace, const char *name,
			      const struct backend *backend, const struct service_count *count,
			      void *arg)
{
	backend_sample(arg, "service_backend_bytes_total", namespace, name, backend, count->bytes);
}

static void services_add(struct buffer *out, struct agent *agent)
{
	struct service_counts *counts = sync_counts_new(agent->sync);

	family(out, "service_connections_total", "counter",
	       "Connections for which a backend of the service was chosen on this node.");
	sync_counts_each(counts, connections_add, out);
	family(out, "service_bytes_total", "counter",
	       "Bytes of TCP connections and UDP flows of pods to the service that are over, and "
	       "of translated packets.");
	sync_counts_each(counts, bytes_add, out);
	family(out, "service_backend_connections_total", "counter",
	       "Connections for which this backend of the service was chosen on this node.");
	sync_counts_each_backend(counts, backend_connections_add, out);
	family(out, "service_backend_bytes_total", "counter",
	       "As tendril_service_bytes_total, by backend.");
	sync_counts_each_backend(counts, backend_bytes_add, out);
	sync_counts_free(counts);
}

void api_metrics_get(struct api_call *call)
{
	auto_buffer struct buffer out = { 0 };

	agent_add(&out, call->agent);
	endpoints_add_states(&out, call->agent);
	objects_add(&out, call->agent);
	counters_add(&out, call->agent);
	maps_add(&out, call->agent);
	programs_add(&out, call->agent);
	objects_sync_metrics(call->agent->objects, &out);
	flow_log_metrics(call->agent->flow_log, &out);
	services_add(&out, call->agent);
	health_metrics(call->agent->health, &out);
	out.data[out.len - 1] = '\0'; /* the answer gets a newline at its end */
	api_reply_text(call, out.data);
}
