/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A timer reads flow_map a few times a second and notes what is new there, or has new flags.  The
 * notes are kept in order as long as anybody subscribes: a subscriber that comes later gets all of
 * them, each at its own speed.
 */
#define LOG_MODULE "flows"
#include "agent/monitor/flows_internal.h"

#include <arpa/inet.h>
#include <cjson/cJSON.h>
#include <errno.h>
#include <event2/event.h>
#include <sys/param.h>
#include <sys/queue.h>

#include "agent/endpoint/endpoint.h"
#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/clock.h"
#include "lib/http.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/table.h"

#define TICK_US        200000
#define LINES_MAX      1000 /* to one subscriber in one tick: its stream buffers a megabyte */
#define NOTES_MIN      256
#define NOTES_CAPACITY 4   /* times the capacity of flow_map: notes to keep at most */
#define LRU_SLACK      128 /* entries that each CPU of an LRU may keep back */

struct flow_subscriber {
	TAILQ_ENTRY(flow_subscriber) link;
	struct flows *flows;
	struct http_exchange *exchange;
	uint64_t end_ns; /* CLOCK_MONOTONIC; 0: until it leaves */
	size_t sent;     /* how many of the notes it has received */
	bool begun;
};

struct note {
	struct flow_key key;
	struct flow_record record;
};

struct flows {
	struct datapath *datapath;
	struct endpoints *endpoints;
	struct event *tick;
	struct event *find; /* looks into one pod in each turn of the loop */
	TAILQ_HEAD(, flow_subscriber) subscribers;
	struct table known; /* flow_key -> uint32_t, flags that are noted already */
	struct note *notes;
	size_t note_count;
	size_t note_room;
	size_t note_max;     /* more are left out: incomplete */
	uint16_t find_after; /* slot of the pod that was looked into last */
	const char *(*dns_name)(const struct addr *source, const struct addr *destination,
				void *arg); /* or NULL */
	void *dns_arg;
	bool found;      /* all were looked into */
	bool incomplete; /* some flows may be missing */
};

/* ---- flow_map -------------------------------------------------------------------------------- */

/* Only this bit of the node's flags is ours; only this thread writes them. */
static void node_set_flows(struct flows *flows, bool on)
{
	struct node_state *node = maps_node(flows->datapath);

	if (on)
		__atomic_or_fetch(&node->flags, NODE_FLOWS, __ATOMIC_RELAXED);
	else
		__atomic_and_fetch(&node->flags, ~(uint32_t)NODE_FLOWS, __ATOMIC_RELAXED);
}

static int entry_forget(const void *key, const void *value, void *arg)
{
	(void)value;
	return flow_map_del(arg, key);
}

static void flow_map_clear(struct flows *flows)
{
	int ret = maps_foreach(flows->datapath, MAP_FLOW, entry_forget, flows->datapath);

	if (ret)
		log_warn("clear flow_map: %s", strerror(-ret));
}

/* Grows with the flows that come: flow_map may be configured to be a thousand times as large. */
static bool notes_have_room(struct flows *flows)
{
	size_t room = MIN(flows->note_room ? 2 * flows->note_room : NOTES_MIN, flows->note_max);
	struct note *grown;

	if (flows->note_count < flows->note_room)
		return true;
	grown = room > flows->note_room ? realloc(flows->notes, room * sizeof(*grown)) : NULL;
	if (!grown)
		return false;
	flows->notes = grown;
	flows->note_room = room;
	return true;
}

struct look {
	struct flows *flows;
	uint32_t entries;
};

static int entry_look(const void *key, const void *value, void *arg)
{
	struct look *look = arg;
	struct flows *flows = look->flows;
	struct note *note;
	uint32_t *known;

	look->entries++;
	known = table_find(&flows->known, key);
	if (known && *known == ((const struct flow_record *)value)->flags)
		return 0;
	if (!notes_have_room(flows)) {
		flows->incomplete = true;
		return 0;
	}
	known = table_put(&flows->known, key);
	note = &flows->notes[flows->note_count++];
	memcpy(&note->key, key, sizeof(note->key));
	memcpy(&note->record, value, sizeof(note->record));
	*known = note->record.flags;
	flows_orient(&note->key, &note->record);
	return 0;
}

static void flow_map_look(struct flows *flows)
{
	struct look look = { .flows = flows };
	uint32_t capacity = maps_capacity(flows->datapath, MAP_FLOW);
	int ret = maps_foreach(flows->datapath, MAP_FLOW, entry_look, &look);

	if (ret) {
		log_warn("read flow_map: %s", strerror(-ret));
		flows->incomplete = true;
	}
	/* An LRU drops entries silently, and starts to once its CPUs hold all the others. */
	if (look.entries + LRU_SLACK * maps_cpus(flows->datapath) >= capacity &&
	    look.entries >= capacity / 2)
		flows->incomplete = true;
}

/* ---- lines ----------------------------------------------------------------------------------- */

static void end_add(cJSON *json, const char *name, const char *pod_name,
		    const struct endpoints *endpoints, const struct addr *addr)
{
	char text[ADDR_TEXT_MAX];

	cJSON_AddStringToObject(json, name, addr_format(addr, text));
	cJSON_AddItemToObject(json, pod_name, endpoints_owner_json(endpoints, addr));
}

static cJSON *flow_json(const struct flows *flows, const struct note *note)
{
	static const struct {
		enum flow_flag flag;
		const char *name;
	} seen[] = { { FLOW_PASSED, "passed" },
		     { FLOW_DENIED, "denied" },
		     { FLOW_AUDITED, "audited" },
		     { FLOW_FOUND, "found" } };
	const struct endpoints *endpoints = flows->endpoints;
	cJSON *json = cJSON_CreateObject();
	const char *dns_name = NULL;
	cJSON *flags;

	if (flows->dns_name)
		dns_name = flows->dns_name(&note->key.saddr, &note->key.daddr, flows->dns_arg);
	cJSON_AddStringToObject(json, "protocol", proto_name(note->key.proto));
	cJSON_AddNumberToObject(json, "protocolNumber", note->key.proto);
	end_add(json, "source", "sourcePod", endpoints, &note->key.saddr);
	cJSON_AddNumberToObject(json, "sourcePort", ntohs(note->record.sport));
	end_add(json, "destination", "destinationPod", endpoints, &note->key.daddr);
	cJSON_AddNumberToObject(json, "port", ntohs(note->key.dport));
	if (dns_name)
		cJSON_AddStringToObject(json, "destinationName", dns_name);
	flags = cJSON_AddArrayToObject(json, "seen");
	for (size_t i = 0; i < ARRAY_SIZE(seen); i++) {
		if (note->record.flags & seen[i].flag)
			cJSON_AddItemToArray(flags, cJSON_CreateString(seen[i].name));
	}
	return json;
}

/* Takes json. */
static void subscriber_send(struct flow_subscriber *subscriber, cJSON *json)
{
	auto_free char *text = cJSON_PrintUnformatted(json);

	cJSON_Delete(json);
	http_stream_line(subscriber->exchange, text);
}

static void subscriber_begin(struct flow_subscriber *subscriber)
{
	cJSON *json = cJSON_CreateObject();

	cJSON_AddBoolToObject(json, "observing", true);
	subscriber->begun = true;
	subscriber_send(subscriber, json);
}

static void subscriber_end(struct flow_subscriber *subscriber)
{
	cJSON *json = cJSON_CreateObject();

	cJSON_AddBoolToObject(json, "end", true);
	cJSON_AddBoolToObject(json, "incomplete", subscriber->flows->incomplete);
	subscriber_send(subscriber, json);
	http_stream_end(subscriber->exchange);
}

/* ---- subscribers ----------------------------------------------------------------------------- */

static const struct timeval tick = { .tv_usec = TICK_US };
static const struct timeval at_once;

static void observation_begin(struct flows *flows)
{
	flows->note_max = NOTES_CAPACITY * (size_t)maps_capacity(flows->datapath, MAP_FLOW);
	flows->note_count = 0;
	flows->find_after = 0;
	flows->found = false;
	flows->incomplete = false;
	flow_map_clear(flows);
	node_set_flows(flows, true);
	event_add(flows->find, &at_once);
	event_add(flows->tick, &tick);
	log_info("observing flows");
}

static void observation_end(struct flows *flows)
{
	event_del(flows->find);
	event_del(flows->tick);
	node_set_flows(flows, false);
	flow_map_clear(flows);
	table_done(&flows->known);
	table_init(&flows->known, sizeof(struct flow_key), sizeof(uint32_t));
	free(take_ptr(flows->notes));
	flows->note_room = 0;
	log_info("observed %zu flows", flows->note_count);
}

static void subscriber_remove(struct flow_subscriber *subscriber)
{
	struct flows *flows = subscriber->flows;

	TAILQ_REMOVE(&flows->subscribers, subscriber, link);
	free(subscriber);
	if (TAILQ_EMPTY(&flows->subscribers))
		observation_end(flows);
}

static void subscriber_closed(void *arg)
{
	subscriber_remove(arg);
}

static void flows_find_next(evutil_socket_t fd, short what, void *arg)
{
	struct endpoint_info info;
	struct flows *flows = arg;

	(void)fd;
	(void)what;
	if (endpoints_next(flows->endpoints, flows->find_after, &info)) {
		flows->find_after = info.slot;
		flows_find(flows->datapath, flows->endpoints, info.slot);
		event_add(flows->find, &at_once);
		return;
	}
	flows_find(flows->datapath, flows->endpoints, 0);
	flows->found = true;
}

/* Sends one subscriber what is new; ends its stream if its time is over. */
static void subscriber_update(struct flow_subscriber *subscriber, uint64_t now)
{
	struct flows *flows = subscriber->flows;

	if (flows->found && !subscriber->begun)
		subscriber_begin(subscriber);
	for (int i = 0; i < LINES_MAX && subscriber->sent < flows->note_count; i++)
		subscriber_send(subscriber, flow_json(flows, &flows->notes[subscriber->sent++]));
	if (subscriber->end_ns && now >= subscriber->end_ns &&
	    subscriber->sent == flows->note_count && subscriber->begun) {
		subscriber_end(subscriber);
		subscriber_remove(subscriber);
	}
}

static void flows_tick(evutil_socket_t fd, short what, void *arg)
{
	struct flow_subscriber *subscriber, *next;
	struct flows *flows = arg;
	uint64_t now = now_ns();

	(void)fd;
	(void)what;
	flow_map_look(flows);
	for (subscriber = TAILQ_FIRST(&flows->subscribers); subscriber; subscriber = next) {
		next = TAILQ_NEXT(subscriber, link);
		subscriber_update(subscriber, now);
	}
}

void flows_follow(struct flows *flows, struct http_exchange *exchange, uint32_t seconds)
{
	struct flow_subscriber *subscriber = xcalloc(1, sizeof(*subscriber));

	if (TAILQ_EMPTY(&flows->subscribers))
		observation_begin(flows);
	subscriber->flows = flows;
	subscriber->exchange = exchange;
	subscriber->end_ns = seconds ? now_ns() + seconds * NS_PER_SEC : 0;
	TAILQ_INSERT_TAIL(&flows->subscribers, subscriber, link);
	if (http_stream_begin(exchange, subscriber_closed, subscriber))
		subscriber_remove(subscriber); /* the client has gone: nothing to answer */
}

void flows_name_by(struct flows *flows,
		   const char *(*dns_name)(const struct addr *source,
					   const struct addr *destination, void *arg),
		   void *arg)
{
	flows->dns_name = dns_name;
	flows->dns_arg = arg;
}

struct flows *flows_new(struct event_base *base, struct datapath *datapath,
			struct endpoints *endpoints)
{
	struct flows *flows = xcalloc(1, sizeof(*flows));

	flows->datapath = datapath;
	flows->endpoints = endpoints;
	TAILQ_INIT(&flows->subscribers);
	table_init(&flows->known, sizeof(struct flow_key), sizeof(uint32_t));
	flows->tick = event_new(base, -1, EV_PERSIST, flows_tick, flows);
	flows->find = evtimer_new(base, flows_find_next, flows);
	/* An earlier agent may have died with subscribers. */
	node_set_flows(flows, false);
	flow_map_clear(flows);
	return flows;
}

void flows_free(struct flows *flows)
{
	struct flow_subscriber *subscriber;

	if (!flows)
		return;
	while ((subscriber = TAILQ_FIRST(&flows->subscribers))) {
		/* NOLINTNEXTLINE(*Malloc): each takes itself out of the list */
		http_stream_end(subscriber->exchange);
		subscriber_remove(subscriber);
	}
	if (flows->tick)
		event_free(flows->tick);
	if (flows->find)
		event_free(flows->find);
	table_done(&flows->known);
	free(flows);
}
