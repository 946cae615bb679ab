/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log is a ring of flows that grows up to its limit (flow_ring.h).  Its flows are on the
 * account of the pod of this node that opened them, else of the pod that they are to: who floods
 * another pod loses flows of its own.
 *
 * Reports of closed connections wait in a ring buffer of the kernel.  The first one wakes the
 * agent; from then on it looks by itself, a few times a second, and asks not to be woken, until a
 * look finds nothing.  So a node without connections costs nothing, one with few names them at
 * once, and one with many costs no wakeup for each.
 */
#define LOG_MODULE "flow"
#include "agent/flow/flow_log.h"

#include <cjson/cJSON.h>
#include <event2/event.h>
#include <limits.h>
#include <linux/bpf.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/param.h>
#include <unistd.h>

#include "agent/endpoint/endpoint.h"
#include "agent/flow/dns_names.h"
#include "agent/flow/dns_reader.h"
#include "agent/flow/flow_internal.h"
#include "agent/flow/flow_metric.h"
#include "agent/flow/flow_passed.h"
#include "agent/flow/flow_ring.h"
#include "agent/monitor/monitor.h"
#include "datapath/maps.h"
#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/clock.h"
#include "lib/errmsg.h"
#include "lib/log.h"
#include "lib/table.h"
#include "policy/objects/store.h"

#define LOOK_US       50000
#define DROP_SUMS_MAX 2048                       /* kinds at a time */
#define DROP_SUM_NS   (10 * (int64_t)NS_PER_SEC) /* drops of one kind that are one flow */

/* What makes drops one flow: all but the source's port, which is new with each attempt. */
struct drop_key {
	struct flow flow; /* sport is 0 */
	uint8_t type;
	uint8_t reason;
	uint8_t direction;
	uint8_t pad[1];
	uint16_t slots[2]; /* an address may have another owner by now */
	uint32_t identities[2];
};

struct flow_log {
	struct flow_log_options options;
	struct flow_names *names;
	struct flow_streams *streams;
	struct flow_metrics *metrics;
	struct flow_passed *passed;
	struct dns_names *dns;
	struct dns_reader *dns_reader; /* NULL: nobody wants names */
	struct event *readable;        /* the kernel's ring */
	struct event *look;
	struct event *load;
	struct flow_ring *ring;
	struct table drops; /* struct drop_key -> number of the flow */
	int64_t real_offset;
	bool tcp;     /* the program is attached */
	bool refused; /* it cannot be */
	bool freed;   /* packet_freed is loaded */
	char freed_reason[500];
	char reason[500]; /* why not */
	char node[HOST_NAME_MAX + 1];
};

/* ---- the ring -------------------------------------------------------------------------------- */

const struct flow_ring *flow_log_ring(const struct flow_log *log)
{
	return log->ring;
}

const char *flow_log_node(const struct flow_log *log)
{
	return log->node;
}

const char *flow_log_entry_dns(const struct flow_log *log, const struct flow_entry *entry)
{
	return entry->dns_name ? dns_names_text(log->dns, entry->dns_name) : NULL;
}

static void entry_drop(struct flow_entry *entry, void *arg)
{
	struct flow_log *log = arg;

	flow_name_drop(log->names, entry->names[FLOW_SOURCE]);
	flow_name_drop(log->names, entry->names[FLOW_DESTINATION]);
	flow_name_drop(log->names, entry->service);
	dns_names_drop(log->dns, entry->dns_name);
}

struct flow_entry *flow_log_add(struct flow_log *log, uint16_t slot)
{
	struct flow_entry *entry = flow_ring_add(log->ring, slot);

	flow_streams_notice(log->streams);
	return entry;
}

static void entry_end_set(struct flow_entry *entry, enum flow_end end, const struct flow_who *who)
{
	entry->names[end] = who->name;
	entry->identities[end] = who->identity;
}

/* By what name the source asked for the destination, or for the service in its place. */
static void entry_set_dns(struct flow_log *log, struct flow_entry *entry, uint64_t netns_cookie,
			  const struct addr *service, uint64_t since_ns)
{
	entry->dns_name = dns_names_find(log->dns, netns_cookie, &entry->flow.daddr, since_ns);
	if (!entry->dns_name && service)
		entry->dns_name = dns_names_find(log->dns, netns_cookie, service, since_ns);
}

/* The namespace of a pod of this node; 0: there is none. */
static uint64_t netns_of(const struct flow_log *log, uint16_t slot)
{
	struct endpoint_info info;

	return slot && endpoints_by_slot(log->options.endpoints, slot, &info) ? info.netns_cookie
									      : 0;
}

void flow_log_set_ends(struct flow_log *log, struct flow_entry *entry, uint64_t since_ns,
		       const struct service_key *service)
{
	struct flow_who source = flow_names_addr(log->names, &entry->flow.saddr, since_ns);
	struct flow_who destination = flow_names_addr(log->names, &entry->flow.daddr, since_ns);

	entry_end_set(entry, FLOW_SOURCE, &source);
	entry_end_set(entry, FLOW_DESTINATION, &destination);
	entry_set_dns(log, entry, netns_of(log, source.slot), service ? &service->addr : NULL,
		      since_ns);
}

void flow_log_use_service(struct flow_log *log, struct flow_entry *entry,
			  const struct service_key *service, bool count)
{
	const struct backend backend = { .addr = entry->flow.daddr, .port = entry->flow.dport };

	entry->service = flow_names_addr(log->names, &service->addr, UINT64_MAX).name;
	entry->service_port = service->port;
	if (count && log->options.service_used)
		log->options.service_used(service, &backend,
					  entry->bytes[FLOW_SOURCE] +
						  entry->bytes[FLOW_DESTINATION],
					  log->options.arg);
}

/* ---- closed connections ---------------------------------------------------------------------- */

/* The service that the program asked for, which only the end knows that opened the connection;
 * where packets are translated, the socket knows no other address than the service's. */
static void entry_set_service(struct flow_log *log, struct flow_entry *entry,
			      const struct tcp_event *event)
{
	const struct service_key service = { .addr = event->service,
					     .port = event->service_port,
					     .proto = event->flow.proto };
	struct flow_name *destination = entry->names[FLOW_DESTINATION];

	if (event->service_port) {
		flow_log_use_service(log, entry, &service, true);
	} else if (destination && destination->kind == NAME_SERVICE) {
		destination->refs++;
		entry->service = destination;
		entry->service_port = entry->flow.dport;
	}
}

/* Since when both ends had their addresses.  The beginning of what was open before the program is
 * not known; a connection that failed has none. */
static uint64_t event_begin_ns(const struct tcp_event *event)
{
	if (event->start_ns)
		return event->start_ns;
	return event->old_state == BPF_TCP_SYN_SENT ? event->time_ns : 0;
}

static void on_tcp_event(const struct tcp_event *event, void *arg)
{
	enum flow_end own = event->opener ? FLOW_SOURCE : FLOW_DESTINATION;
	enum flow_end peer = event->opener ? FLOW_DESTINATION : FLOW_SOURCE;
	struct flow_log *log = arg;
	struct flow_who who =
		flow_names_addr(log->names, &event->flow.daddr, event_begin_ns(event));
	struct flow_entry *entry =
		flow_log_add(log, !event->opener && who.slot ? who.slot : event->slot);

	entry_end_set(entry, peer, &who);
	entry->time_ns = (int64_t)event->time_ns + log->real_offset;
	entry->duration_ns = event->start_ns ? (int64_t)(event->time_ns - event->start_ns) : 0;
	entry->bytes[own] = event->sent + event->accel_sent;
	entry->bytes[peer] = event->received + event->accel_received;
	entry->accel_bytes = event->accel_sent + event->accel_received;
	entry->segments[own] = event->segments_out;
	entry->segments[peer] = event->segments_in;
	entry->flow = event->flow;
	if (!event->opener) {
		entry->flow.saddr = event->flow.daddr;
		entry->flow.daddr = event->flow.saddr;
		entry->flow.sport = event->flow.dport;
		entry->flow.dport = event->flow.sport;
	}
	entry->srtt_us = event->srtt_us;
	entry->handshake_us = event->handshake_us;
	entry->retransmits = event->retransmits;
	entry->error = (uint16_t)event->error;
	entry->old_state = event->old_state;
	entry->fin_sent = event->fin_sent;
	entry->direction = event->opener ? DIR_EGRESS : DIR_INGRESS;
	entry_set_service(log, entry, event);
	entry_set_dns(log, entry, event->opener ? event->netns_cookie : netns_of(log, who.slot),
		      event->service_port ? &event->service : NULL, event_begin_ns(event));
	who = flow_names_socket(log->names, event->slot, event->netns_cookie, &event->flow.saddr);
	entry_end_set(entry, own, &who);
	flow_metrics_add(log->metrics, entry, 1);
}

static void on_passed(const struct passed_flow *flow, void *arg)
{
	const struct flow_log *log = arg;

	flow_passed_note(log->passed, flow, false);
}

static int log_read(struct flow_log *log)
{
	log->real_offset = clock_real_offset();
	return tcp_events_consume(log->options.datapath, on_tcp_event, on_passed, log);
}

/* Only this bit of the node's flags is ours; only this thread writes them. */
static bool log_polls(const struct flow_log *log)
{
	return maps_node(log->options.datapath)->flags & NODE_POLLS_TCP;
}

static void log_set_polls(const struct flow_log *log, bool polls)
{
	struct node_state *node = maps_node(log->options.datapath);

	if (polls)
		__atomic_or_fetch(&node->flags, NODE_POLLS_TCP, __ATOMIC_SEQ_CST);
	else
		__atomic_and_fetch(&node->flags, ~(uint32_t)NODE_POLLS_TCP, __ATOMIC_SEQ_CST);
}

static const struct timeval look_later = { .tv_usec = LOOK_US };

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct flow_log *log = arg;

	(void)fd;
	(void)what;
	log_set_polls(log, true);
	log_read(log);
	evtimer_add(log->look, &look_later);
}

/* A program that read the flag just before it was cleared does not wake us: so there is one more
 * look after that. */
static void on_look(evutil_socket_t fd, short what, void *arg)
{
	struct flow_log *log = arg;
	bool polls = log_polls(log);

	(void)fd;
	(void)what;
	if (log_read(log) > 0)
		log_set_polls(log, true);
	else if (polls)
		log_set_polls(log, false);
	else
		return;
	evtimer_add(log->look, &look_later);
}

/* Names change: what has been reported gets those that it had. */
static void on_leave(const struct addr *addresses, size_t count, void *arg)
{
	struct flow_log *log = arg;

	log_read(log);
	monitor_read(log->options.monitor);
	flow_passed_leave(log->passed, addresses, count);
	for (size_t i = 0; i < count; i++)
		flow_names_leave(log->names, &addresses[i]);
}

/* ---- drops ----------------------------------------------------------------------------------- */

/* One end of a packet: the pod whose device it passed, for it may bear the address of another one.
 */
static struct flow_who who_of(struct flow_log *log, const struct addr *addr, uint16_t slot,
			      uint32_t identity)
{
	struct flow_who who = slot ? flow_names_slot(log->names, slot, addr)
				   : flow_names_addr(log->names, addr, UINT64_MAX);

	who.identity = identity;
	return who;
}

/* NULL: it has made room. */
static struct flow_entry *drop_entry(const struct flow_log *log, uint64_t number)
{
	uint64_t found;
	struct flow_entry *entry = flow_ring_find(log->ring, number, &found);

	return entry && found == number ? entry : NULL;
}

/* Forgets the sums that are over; all of them where that is not enough. */
static void drops_prune(struct flow_log *log, int64_t now)
{
	const uint64_t *number;
	const void *key;
	size_t pos = 0;

	if (log->drops.count < DROP_SUMS_MAX)
		return;
	while ((number = table_next(&log->drops, &pos, &key))) {
		const struct flow_entry *entry = drop_entry(log, *number);

		if (!entry || now - entry->time_ns > DROP_SUM_NS)
			table_del(&log->drops, key);
	}
	if (log->drops.count < DROP_SUMS_MAX)
		return;
	table_done(&log->drops);
	table_init(&log->drops, sizeof(struct drop_key), sizeof(uint64_t));
}

static void on_drop(const struct flow_event *event, void *arg)
{
	struct drop_key key = { .flow = event->flow,
				.type = (uint8_t)event->type,
				.reason = (uint8_t)event->reason,
				.direction = event->direction,
				.slots = { event->src_slot, event->dst_slot },
				.identities = { event->src_identity, event->dst_identity } };
	struct flow_log *log = arg;
	int64_t now = (int64_t)event->time_ns + clock_real_offset();
	struct flow_entry *entry;
	struct flow_who who;
	uint64_t *number;

	if (event->type != EVENT_DROP && event->type != EVENT_AUDIT)
		return;
	key.flow.sport = 0;
	if (event->reason == DROP_INGRESS_DENIED) /* at the sender's device, for the receiver */
		key.direction = DIR_INGRESS;
	number = table_find(&log->drops, &key);
	entry = number ? drop_entry(log, *number) : NULL;
	if (entry && now - (entry->time_ns - entry->duration_ns) < DROP_SUM_NS) {
		entry->count++;
		entry->duration_ns += now - entry->time_ns;
		entry->time_ns = now;
		entry->flow.sport = event->flow.sport;
		flow_metrics_add(log->metrics, entry, 1);
		return;
	}
	drops_prune(log, now);
	*(uint64_t *)table_put(&log->drops, &key) = flow_ring_next(log->ring);
	entry = flow_log_add(log, event->src_slot ? event->src_slot : event->dst_slot);
	entry->time_ns = now;
	entry->bytes[FLOW_SOURCE] = event->length;
	entry->flow = event->flow;
	entry->type = key.type;
	entry->reason = key.reason;
	entry->direction = key.direction;
	entry->tcp_flags = event->tcp_flags;
	who = who_of(log, &event->flow.saddr, event->src_slot, event->src_identity);
	entry_end_set(entry, FLOW_SOURCE, &who);
	who = who_of(log, &event->flow.daddr, event->dst_slot, event->dst_identity);
	entry_end_set(entry, FLOW_DESTINATION, &who);
	entry_set_dns(log, entry, netns_of(log, event->src_slot), NULL, event->time_ns);
	flow_metrics_add(log->metrics, entry, 1);
}

/* ---- the interface --------------------------------------------------------------------------- */

void flow_log_stream(struct flow_log *log, struct http_exchange *exchange,
		     const struct flow_log_query *query)
{
	log_read(log);
	flow_streams_add(log->streams, exchange, query);
}

static void source_add(cJSON *sources, const char *name, bool works, const char *problem)
{
	cJSON *source = cJSON_CreateObject();

	cJSON_AddStringToObject(source, "name", name);
	cJSON_AddBoolToObject(source, "works", works);
	cJSON_AddStringToObject(source, "problem", problem);
	cJSON_AddItemToArray(sources, source);
}

void flow_log_metrics(const struct flow_log *log, struct buffer *out)
{
	flow_metrics_print(log->metrics, out);
}

const char *flow_log_problem(const struct flow_log *log)
{
	return log->tcp || !log->refused ? "" : log->reason;
}

const char *flow_log_freed_problem(const struct flow_log *log)
{
	return log->freed_reason;
}

static const char *dns_problem(const struct flow_log *log)
{
	if (!log->options.dns_names)
		return "the setting dnsNames is false";
	if (log->options.off)
		return "the setting flows is false";
	return log->dns_reader ? dns_reader_problem(log->dns_reader) : "not started yet";
}

const char *flow_log_dns_name(const struct flow_log *log, const struct addr *source,
			      const struct addr *destination)
{
	struct flow_who who = flow_names_addr(log->names, source, UINT64_MAX);
	uint16_t number = dns_names_find(log->dns, netns_of(log, who.slot), destination, 0);

	flow_name_drop(log->names, who.name);
	dns_names_drop(log->dns, number); /* the pod holds it, too */
	return number ? dns_names_text(log->dns, number) : NULL;
}

struct cJSON *flow_log_status(const struct flow_log *log)
{
	cJSON *status = cJSON_CreateObject();
	cJSON *sources;

	cJSON_AddNumberToObject(status, "kept", flow_ring_count(log->ring));
	cJSON_AddNumberToObject(status, "max", log->options.max);
	cJSON_AddNumberToObject(status, "seen", (double)flow_ring_next(log->ring));
	cJSON_AddNumberToObject(status, "namesLeftOut", (double)dns_names_left_out(log->dns));
	cJSON_AddNumberToObject(status, "dnsCutOff", (double)dns_reader_left_out(log->dns_reader));
	sources = cJSON_AddArrayToObject(status, "sources");
	source_add(sources, "tcp_state", log->tcp, log->reason);
	source_add(sources, "packets", !log->options.off, log->options.off ? log->reason : "");
	source_add(sources, "drops", true, "");
	source_add(sources, "dns", log->dns_reader && !*dns_problem(log), dns_problem(log));
	source_add(sources, "kfree_skb", log->freed, log->freed_reason);
	return status;
}

static void on_dns(const struct dns_record *record, void *arg)
{
	struct flow_log *log = arg;

	dns_names_learn(log->dns, record->netns_cookie, record->time_ns, &record->answer);
}

/* Nothing depends on it: a kernel that refuses it is asked for nothing else. */
static void freed_load(struct flow_log *log)
{
	struct errmsg err = {};

	log->freed = datapath_load_freed(log->options.datapath, log->options.load, &err) == 0;
	snprintf(log->freed_reason, sizeof(log->freed_reason), "%s", log->freed ? "" : err.text);
	if (!log->freed)
		log_warn("what the kernel drops cannot be told: %s", err.text);
}

static void on_load(evutil_socket_t fd, short what, void *arg)
{
	struct flow_log *log = arg;
	struct errmsg err = {};

	(void)fd;
	(void)what;
	freed_load(log);
	if (log->options.off) {
		datapath_drop_tcp(log->options.datapath);
		snprintf(log->reason, sizeof(log->reason), "the setting flows is false");
		return;
	}
	if (log->options.dns_names)
		log->dns_reader = dns_reader_new(log->options.base, log->options.fork_server,
						 log->options.datapath, on_dns, log);
	if (datapath_load_tcp(log->options.datapath, log->options.load, &err) < 0) {
		snprintf(log->reason, sizeof(log->reason), "%s", err.text);
		log->refused = true;
		log_warn("TCP connections are not reported: %s", err.text);
		return;
	}
	log->tcp = true;
	log->reason[0] = '\0';
	malloc_trim(0); /* return what loading took */
	log_info("TCP connections are reported");
}

void flow_log_start(struct flow_log *log)
{
	static const struct timeval at_once;

	evtimer_add(log->load, &at_once);
}

struct flow_log *flow_log_new(const struct flow_log_options *options)
{
	struct flow_log *log = xcalloc(1, sizeof(*log));

	log->options = *options;
	snprintf(log->reason, sizeof(log->reason), "not loaded yet");
	snprintf(log->freed_reason, sizeof(log->freed_reason), "not loaded yet");
	gethostname(log->node, sizeof(log->node) - 1);
	log->ring = flow_ring_new(options->max, entry_drop, log);
	log->names = flow_names_new(options->datapath, options->endpoints, options->store);
	log->streams = flow_streams_new(options->base, log);
	log->metrics = flow_metrics_new(options->metric_namespaces, options->metric_services);
	log->dns = dns_names_new();
	log->passed = flow_passed_new(&(struct flow_passed_options){
		options->base, options->datapath, log, log->names, log->metrics, options->off });
	table_init(&log->drops, sizeof(struct drop_key), sizeof(uint64_t));
	log->look = evtimer_new(options->base, on_look, log);
	log->load = evtimer_new(options->base, on_load, log);
	log->readable = event_new(options->base, tcp_events_fd(options->datapath),
				  EV_READ | EV_PERSIST, on_readable, log);
	event_add(log->readable, NULL);
	monitor_listen(options->monitor, on_drop, log);
	store_before_leave(options->store, on_leave, log);
	/* What an earlier agent left, and wakeups that it did not want. */
	__atomic_and_fetch(&maps_node(options->datapath)->flags, ~(uint32_t)NODE_DNS,
			   __ATOMIC_RELAXED);
	log_set_polls(log, true);
	evtimer_add(log->look, &look_later);
	return log;
}

void flow_log_free(struct flow_log *log)
{
	if (!log)
		return;
	monitor_listen(log->options.monitor, NULL, NULL);
	store_before_leave(log->options.store, NULL, NULL);
	event_free(log->readable);
	event_free(log->look);
	event_free(log->load);
	flow_streams_free(log->streams);
	flow_passed_free(log->passed);
	dns_reader_free(log->dns_reader);
	flow_ring_free(log->ring);
	table_done(&log->drops);
	dns_names_free(log->dns);
	flow_names_free(log->names);
	flow_metrics_free(log->metrics);
	free(log);
}
