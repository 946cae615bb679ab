/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ring is read even if nobody watches: a full ring would count events as lost that nobody
 * wanted, and give the next client old events first.
 */
#define LOG_MODULE "monitor"
#include "agent/monitor/monitor.h"

#include <arpa/inet.h>
#include <cjson/cJSON.h>
#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <sys/queue.h>

#include "agent/endpoint/endpoint.h"
#include "datapath/datapath.h"
#include "datapath/maps.h"
#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/clock.h"
#include "lib/http.h"
#include "lib/json.h"
#include "lib/log.h"

struct event_subscriber {
	TAILQ_ENTRY(event_subscriber) link;
	struct monitor *monitor;
	struct http_exchange *exchange;
	unsigned int types;
	uint32_t bytes;
};

struct monitor {
	struct datapath *datapath;
	const struct endpoints *endpoints;
	struct event *readable;
	TAILQ_HEAD(, event_subscriber) subscribers;
	void (*listen)(const struct flow_event *event, void *arg);
	void *listen_arg;
};

static const struct {
	const char *name;
	const char *text;
} reasons[] = {
#define X(num, name, text) [num] = { #name, text },
	DROP_REASONS(X)
#undef X
};

static const struct {
	const char *name;
	enum event_type type;
} types[] = { { "drop", EVENT_DROP },
	      { "verdict", EVENT_VERDICT },
	      { "audit", EVENT_AUDIT },
	      { "kernel", EVENT_KERNEL_DROP } };

int monitor_types_parse(const char *text, unsigned int *ret_types)
{
	unsigned int set = 0;

	if (!*text) {
		*ret_types = 1u << EVENT_DROP | 1u << EVENT_VERDICT | 1u << EVENT_AUDIT;
		return 0;
	}
	while (*text) {
		size_t len = strcspn(text, ",");
		size_t i = 0;

		while (i < ARRAY_SIZE(types) &&
		       (strlen(types[i].name) != len || memcmp(text, types[i].name, len) != 0))
			i++;
		if (i == ARRAY_SIZE(types))
			return -EINVAL;
		set |= 1u << types[i].type;
		text += len;
		text += *text == ',';
	}
	*ret_types = set;
	return 0;
}

/* ---- one event ------------------------------------------------------------------------------- */

/* "SA" for SYN and ACK. */
static const char *tcp_flags_format(uint8_t flags, char buf[9])
{
	static const char letters[] = "FSRPAUEC"; /* from the lowest bit */
	static const uint8_t order[] = { 1, 4, 0, 2, 3, 5, 6, 7 };
	size_t len = 0;

	for (size_t i = 0; i < sizeof(order); i++) {
		if (flags & 1u << order[i])
			buf[len++] = letters[order[i]];
	}
	buf[len] = '\0';
	return buf;
}

static void end_add(cJSON *json, const char *name, const struct endpoints *endpoints,
		    const struct addr *addr, const __be16 *port, uint16_t slot, uint32_t identity)
{
	cJSON *end = cJSON_AddObjectToObject(json, name);
	char text[ADDR_TEXT_MAX];

	cJSON_AddStringToObject(end, "address", addr_format(addr, text));
	if (port)
		cJSON_AddNumberToObject(end, "port", ntohs(*port));
	cJSON_AddItemToObject(end, "pod", endpoints_pod_json(endpoints, slot, addr));
	cJSON_AddNumberToObject(end, "identity", identity);
}

static const char *type_name(uint32_t type)
{
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		if (types[i].type == type)
			return types[i].name;
	}
	return "unknown";
}

static void reason_add(cJSON *json, const struct datapath *datapath, const struct flow_event *event)
{
	const char *kernel = freed_reason(datapath, event->reason);
	char number[32];

	if (event->type == EVENT_KERNEL_DROP) {
		snprintf(number, sizeof(number), "%#x", event->reason);
		cJSON_AddStringToObject(json, "reason", kernel ? kernel : number);
		cJSON_AddStringToObject(json, "text", "dropped by the kernel");
	} else if (event->reason > DROP_NONE && event->reason < DROP_REASON_COUNT &&
		   reasons[event->reason].name) {
		cJSON_AddStringToObject(json, "reason", reasons[event->reason].name);
		cJSON_AddStringToObject(json, "text", reasons[event->reason].text);
	} else {
		cJSON_AddNullToObject(json, "reason");
		cJSON_AddStringToObject(
			json, "text", event->type == EVENT_VERDICT ? "allowed" : "unknown reason");
	}
}

static cJSON *event_json(const struct monitor *monitor, const struct flow_event *event)
{
	const struct endpoints *endpoints = monitor->endpoints;
	const struct flow *flow = &event->flow;
	bool ports = proto_has_ports(flow->proto);
	cJSON *json = cJSON_CreateObject();
	char text[64];

	cJSON_AddStringToObject(json, "time",
				clock_format(clock_real_offset() + (int64_t)event->time_ns, text));
	cJSON_AddStringToObject(json, "type", type_name(event->type));
	reason_add(json, monitor->datapath, event);
	cJSON_AddStringToObject(json, "direction",
				event->direction == DIR_EGRESS ? "egress" : "ingress");
	cJSON_AddStringToObject(json, "protocol", proto_name(flow->proto));
	end_add(json, "source", endpoints, &flow->saddr, ports ? &flow->sport : NULL,
		event->src_slot, event->src_identity);
	end_add(json, "destination", endpoints, &flow->daddr, ports ? &flow->dport : NULL,
		event->dst_slot, event->dst_identity);
	if (flow->proto == IPPROTO_TCP)
		cJSON_AddStringToObject(json, "tcpFlags", tcp_flags_format(event->tcp_flags, text));
	cJSON_AddNumberToObject(json, "length", event->length);
	return json;
}

/* The first bytes of the packet, behind the event in the ring, as hexadecimal text. */
static void packet_set(cJSON *json, const struct flow_event *event, uint32_t bytes)
{
	const uint8_t *packet = ((const struct packet_event *)event)->bytes;
	char text[2 * EVENT_BYTES_MAX + 1] = "";

	for (uint32_t i = 0; i < event->bytes && i < bytes && i < EVENT_BYTES_MAX; i++)
		snprintf(text + 2 * i, 3, "%02x", packet[i]);
	cJSON_DeleteItemFromObjectCaseSensitive(json, "packet");
	cJSON_AddStringToObject(json, "packet", text);
}

/* ---- subscribers ----------------------------------------------------------------------------- */

static unsigned int monitor_types(const struct monitor *monitor)
{
	const struct event_subscriber *subscriber;
	unsigned int set = 0;

	TAILQ_FOREACH(subscriber, &monitor->subscribers, link)
	set |= subscriber->types;
	return set;
}

/* Tells the datapath what clients want: events of new connections, bytes of packets, what the
 * kernel drops. */
static void monitor_apply(struct monitor *monitor)
{
	struct node_state *node = maps_node(monitor->datapath);
	const struct event_subscriber *subscriber;
	struct errmsg err = {};
	uint32_t bytes = 0;

	TAILQ_FOREACH(subscriber, &monitor->subscribers, link)
	bytes = subscriber->bytes > bytes ? subscriber->bytes : bytes;
	__atomic_store_n(&node->event_bytes, bytes, __ATOMIC_RELAXED);
	if (freed_watch(monitor->datapath, monitor_types(monitor) & 1u << EVENT_KERNEL_DROP, &err))
		log_warn("%s", err.text);
	if (monitor_types(monitor) & 1u << EVENT_VERDICT)
		__atomic_or_fetch(&node->flags, NODE_VERDICT_EVENTS, __ATOMIC_RELAXED);
	else
		__atomic_and_fetch(&node->flags, ~(uint32_t)NODE_VERDICT_EVENTS, __ATOMIC_RELAXED);
}

static void subscriber_closed(void *arg)
{
	struct event_subscriber *subscriber = arg;
	struct monitor *monitor = subscriber->monitor;

	TAILQ_REMOVE(&monitor->subscribers, subscriber, link);
	free(subscriber);
	monitor_apply(monitor);
}

void monitor_subscribe(struct monitor *monitor, struct http_exchange *exchange, unsigned int set,
		       uint32_t bytes)
{
	struct event_subscriber *subscriber = xcalloc(1, sizeof(*subscriber));

	subscriber->monitor = monitor;
	subscriber->exchange = exchange;
	subscriber->types = set;
	subscriber->bytes = bytes;
	if (http_stream_begin(exchange, subscriber_closed, subscriber)) {
		free(subscriber); /* the client has gone: nothing to answer */
		return;
	}
	TAILQ_INSERT_TAIL(&monitor->subscribers, subscriber, link);
	monitor_apply(monitor);
}

void monitor_send(struct monitor *monitor, const struct flow_event *event)
{
	unsigned int bit = event->type < 32 ? 1u << event->type : 0;
	struct event_subscriber *subscriber;
	auto_json cJSON *json = NULL;
	auto_free char *text = NULL;

	if (!(monitor_types(monitor) & bit))
		return;
	json = event_json(monitor, event);
	text = cJSON_PrintUnformatted(json);
	if (!text)
		return;
	TAILQ_FOREACH(subscriber, &monitor->subscribers, link)
	{
		auto_free char *with_packet = NULL;

		if (!(subscriber->types & bit))
			continue;
		if (subscriber->bytes && event->bytes) {
			packet_set(json, event, subscriber->bytes);
			with_packet = cJSON_PrintUnformatted(json);
		}
		http_stream_line(subscriber->exchange, with_packet ? with_packet : text);
	}
}

static void monitor_event(const struct flow_event *event, void *arg)
{
	struct monitor *monitor = arg;

	if (monitor->listen)
		monitor->listen(event, monitor->listen_arg);
	monitor_send(monitor, event);
}

void monitor_listen(struct monitor *monitor,
		    void (*each)(const struct flow_event *event, void *arg), void *arg)
{
	monitor->listen = each;
	monitor->listen_arg = arg;
}

void monitor_read(struct monitor *monitor)
{
	events_consume(monitor->datapath, monitor_event, monitor);
}

static void monitor_readable(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	monitor_read(arg);
}

int monitor_new(struct event_base *base, struct datapath *datapath,
		const struct endpoints *endpoints, struct monitor **ret, struct errmsg *err)
{
	struct monitor *monitor = xcalloc(1, sizeof(*monitor));

	monitor->datapath = datapath;
	monitor->endpoints = endpoints;
	TAILQ_INIT(&monitor->subscribers);
	monitor->readable = event_new(base, events_fd(datapath), EV_READ | EV_PERSIST,
				      monitor_readable, monitor);
	if (event_add(monitor->readable, NULL) < 0) {
		monitor_free(monitor);
		return fail(err, -EIO, "monitor");
	}
	monitor_apply(monitor); /* an earlier agent may have died with watchers */
	*ret = monitor;
	return 0;
}

void monitor_free(struct monitor *monitor)
{
	struct event_subscriber *subscriber;

	if (!monitor)
		return;
	while ((subscriber = TAILQ_FIRST(&monitor->subscribers))) {
		TAILQ_REMOVE(&monitor->subscribers, subscriber, link);
		http_stream_end(subscriber->exchange);
		free(subscriber);
	}
	if (monitor->readable)
		event_free(monitor->readable);
	free(monitor);
}
