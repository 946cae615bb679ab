/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow_map is looked through a few times a second; what is new there, or has new flags, is news.
 * News is kept in order for as long as anybody follows, so that a subscriber who comes later is
 * told everything, and each at its own pace.
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
#include "lib/auto.h"
#include "lib/clock.h"
#include "lib/http.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/table.h"

#define TICK_US       200000
#define LINES_MAX     1000 /* to one subscriber in one tick: its stream holds a megabyte */
#define NEWS_MIN      256
#define NEWS_CAPACITY 4   /* times that of flow_map: news to keep at most */
#define LRU_SLACK     128 /* entries that each CPU of an LRU may hold back */

struct subscriber {
	TAILQ_ENTRY(subscriber) link;
	struct flows *flows;
	struct http_exchange *exchange;
	uint64_t end_ns; /* CLOCK_MONOTONIC; 0: until it leaves */
	size_t told;     /* of news */
	bool greeted;
};

struct news {
	struct flow_key key;
	struct flow_record record;
};

struct flows {
	struct datapath *datapath;
	struct endpoints *endpoints;
	struct event *tick;
	struct event *find; /* looks into one pod each turn of the loop */
	TAILQ_HEAD(, subscriber) subscribers;
	struct table known; /* flow_key -> uint32_t, flags that are news no more */
	struct news *news;
	size_t news_count;
	size_t news_room;
	size_t news_max;     /* what is more is not told: incomplete */
	uint16_t find_after; /* slot of the pod that was looked into last */
	bool found;          /* all were */
	bool incomplete;     /* some flows may be missing */
};

/* ---- flow_map -------------------------------------------------------------------------------- */

/* The only bit of the node's flags that is ours; all writers are this thread. */
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

/* Memory is taken as flows come: their table may be configured to be a thousand times as large. */
static bool news_has_room(struct flows *flows)
{
	size_t room = MIN(flows->news_room ? 2 * flows->news_room : NEWS_MIN, flows->news_max);
	struct news *grown;

	if (flows->news_count < flows->news_room)
		return true;
	grown = room > flows->news_room ? realloc(flows->news, room * sizeof(*grown)) : NULL;
	if (!grown)
		return false;
	flows->news = grown;
	flows->news_room = room;
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
	struct news *news;
	uint32_t *known;

	look->entries++;
	known = table_find(&flows->known, key);
	if (known && *known == ((const struct flow_record *)value)->flags)
		return 0;
	if (!news_has_room(flows)) {
		flows->incomplete = true;
		return 0;
	}
	known = table_put(&flows->known, key);
	if (!known)
		return -ENOMEM;
	news = &flows->news[flows->news_count++];
	memcpy(&news->key, key, sizeof(news->key));
	memcpy(&news->record, value, sizeof(news->record));
	*known = news->record.flags;
	flows_orient(&news->key, &news->record);
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
	/* What an LRU drops, it drops silently; it begins to when its CPUs hold all the rest. */
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

static cJSON *flow_json(const struct endpoints *endpoints, const struct news *news)
{
	static const struct {
		enum flow_flag flag;
		const char *name;
	} seen[] = { { FLOW_PASSED, "passed" },
		     { FLOW_DENIED, "denied" },
		     { FLOW_AUDITED, "audited" },
		     { FLOW_FOUND, "found" } };
	cJSON *json = cJSON_CreateObject();
	cJSON *flags;

	cJSON_AddStringToObject(json, "protocol", proto_name(news->key.proto));
	cJSON_AddNumberToObject(json, "protocolNumber", news->key.proto);
	end_add(json, "source", "sourcePod", endpoints, &news->key.saddr);
	cJSON_AddNumberToObject(json, "sourcePort", ntohs(news->record.sport));
	end_add(json, "destination", "destinationPod", endpoints, &news->key.daddr);
	cJSON_AddNumberToObject(json, "port", ntohs(news->key.dport));
	flags = cJSON_AddArrayToObject(json, "seen");
	for (size_t i = 0; i < ARRAY_SIZE(seen); i++) {
		if (news->record.flags & seen[i].flag)
			cJSON_AddItemToArray(flags, cJSON_CreateString(seen[i].name));
	}
	return json;
}

/* Takes json.  A subscriber that cannot be told any more is about to be closed. */
static void subscriber_tell(struct subscriber *subscriber, cJSON *json)
{
	auto_free char *text = json ? cJSON_PrintUnformatted(json) : NULL;

	cJSON_Delete(json);
	if (text)
		http_stream_line(subscriber->exchange, text);
}

static void subscriber_greet(struct subscriber *subscriber)
{
	cJSON *json = cJSON_CreateObject();

	cJSON_AddBoolToObject(json, "observing", true);
	subscriber->greeted = true;
	subscriber_tell(subscriber, json);
}

static void subscriber_end(struct subscriber *subscriber)
{
	cJSON *json = cJSON_CreateObject();

	cJSON_AddBoolToObject(json, "end", true);
	cJSON_AddBoolToObject(json, "incomplete", subscriber->flows->incomplete);
	subscriber_tell(subscriber, json);
	http_stream_end(subscriber->exchange);
}

/* ---- subscribers ----------------------------------------------------------------------------- */

static const struct timeval tick = { .tv_usec = TICK_US };
static const struct timeval at_once;

static void observation_begin(struct flows *flows)
{
	flows->news_max = NEWS_CAPACITY * (size_t)maps_capacity(flows->datapath, MAP_FLOW);
	flows->news_count = 0;
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
	free(take_ptr(flows->news));
	flows->news_room = 0;
	log_info("observed %zu flows", flows->news_count);
}

static void subscriber_remove(struct subscriber *subscriber)
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

/* Brings one subscriber up to date; its time may be over then. */
static void subscriber_update(struct subscriber *subscriber, uint64_t now)
{
	struct flows *flows = subscriber->flows;

	if (flows->found && !subscriber->greeted)
		subscriber_greet(subscriber);
	for (int i = 0; i < LINES_MAX && subscriber->told < flows->news_count; i++)
		subscriber_tell(subscriber,
				flow_json(flows->endpoints, &flows->news[subscriber->told++]));
	if (subscriber->end_ns && now >= subscriber->end_ns &&
	    subscriber->told == flows->news_count && subscriber->greeted) {
		subscriber_end(subscriber);
		subscriber_remove(subscriber);
	}
}

static void flows_tick(evutil_socket_t fd, short what, void *arg)
{
	struct subscriber *subscriber, *next;
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

int flows_follow(struct flows *flows, struct http_exchange *exchange, uint32_t seconds)
{
	struct subscriber *subscriber = calloc(1, sizeof(*subscriber));

	if (!subscriber)
		return -ENOMEM;
	if (TAILQ_EMPTY(&flows->subscribers))
		observation_begin(flows);
	subscriber->flows = flows;
	subscriber->exchange = exchange;
	subscriber->end_ns = seconds ? now_ns() + seconds * NS_PER_SEC : 0;
	TAILQ_INSERT_TAIL(&flows->subscribers, subscriber, link);
	if (http_stream_begin(exchange, subscriber_closed, subscriber))
		subscriber_remove(subscriber); /* the reader has left already: nothing to answer */
	return 0;
}

int flows_new(struct event_base *base, struct datapath *datapath, struct endpoints *endpoints,
	      struct flows **ret, struct errmsg *err)
{
	struct flows *flows = calloc(1, sizeof(*flows));

	if (!flows)
		return fail(err, -ENOMEM, "flows");
	flows->datapath = datapath;
	flows->endpoints = endpoints;
	TAILQ_INIT(&flows->subscribers);
	table_init(&flows->known, sizeof(struct flow_key), sizeof(uint32_t));
	flows->tick = event_new(base, -1, EV_PERSIST, flows_tick, flows);
	flows->find = evtimer_new(base, flows_find_next, flows);
	if (!flows->tick || !flows->find) {
		flows_free(flows);
		return fail(err, -ENOMEM, "flows");
	}
	/* An earlier agent may have died with subscribers. */
	node_set_flows(flows, false);
	flow_map_clear(flows);
	*ret = flows;
	return 0;
}

void flows_free(struct flows *flows)
{
	struct subscriber *subscriber;

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
