/* SPDX-License-Identifier: Apache-2.0 */
/* Clients of the log: each reads at its own speed, a part in each turn of a timer. */
#include <cjson/cJSON.h>
#include <event2/event.h>
#include <sys/param.h>
#include <sys/queue.h>

#include "agent/flow/flow_internal.h"
#include "agent/flow/flow_ring.h"
#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/http.h"
#include "lib/json.h"
#include "lib/text.h"

#define LINES_MAX 500 /* in a turn, so that the loop serves others meanwhile */
#define TURN_US   20000
#define FOLLOW_US 200000

struct reader {
	TAILQ_ENTRY(reader) link;
	struct flow_streams *streams;
	struct http_exchange *exchange;
	uint64_t next;  /* flow to send */
	uint64_t end;   /* where it ends; UINT64_MAX: it follows */
	uint64_t begun; /* flows from this one on are new */
	uint64_t left;  /* older ones that are to be sent */
	int64_t since_ns;
};

struct flow_streams {
	struct flow_log *log;
	struct event *turn;
	TAILQ_HEAD(, reader) readers;
};

static void reader_remove(struct reader *reader)
{
	TAILQ_REMOVE(&reader->streams->readers, reader, link);
	free(reader);
}

static void reader_closed(void *arg)
{
	reader_remove(arg);
}

static void send_json(struct reader *reader, cJSON *json)
{
	auto_free char *text = cJSON_PrintUnformatted(json);

	cJSON_Delete(json);
	text_make_utf8(text); /* names may be anything */
	http_stream_line(reader->exchange, text);
}

/* Goes on to a flow, and tells of those that have made room before this client got them.  Among the
 * older ones there were gaps before. */
static void reader_go(struct reader *reader, uint64_t number)
{
	uint64_t lost = 0;
	cJSON *json;

	if (number >= reader->begun) {
		lost = reader->left + number - MAX(reader->next, reader->begun);
		reader->left = 0;
	}
	reader->next = number;
	if (!lost)
		return;
	json = cJSON_CreateObject();
	cJSON_AddNumberToObject(json, "lost", (double)lost);
	send_json(reader, json);
}

/* Sends one flow; false: it was too old. */
static bool reader_send(struct reader *reader, const struct flow_entry *entry)
{
	const struct flow_log *log = reader->streams->log;

	if (reader->next < reader->begun)
		reader->left--;
	reader->next++;
	if (entry->time_ns < reader->since_ns)
		return false;
	send_json(reader, flow_json(entry, flow_log_node(log), flow_log_entry_dns(log, entry)));
	return true;
}

/* True: there is more to send, or it is at its end and gone. */
static bool reader_update(struct reader *reader)
{
	const struct flow_ring *ring = flow_log_ring(reader->streams->log);
	uint64_t end = MIN(reader->end, flow_ring_next(ring));
	int lines = 0;

	if (http_stream_is_behind(reader->exchange))
		return true;
	while (lines < LINES_MAX && reader->next < end &&
	       !http_stream_is_behind(reader->exchange)) {
		uint64_t number;
		const struct flow_entry *entry = flow_ring_find(ring, reader->next, &number);

		if (!entry || number >= end)
			number = end;
		reader_go(reader, number);
		if (number < end)
			lines += reader_send(reader, entry);
	}
	if (reader->next < reader->end)
		return reader->next < end;
	http_stream_end(reader->exchange);
	reader_remove(reader);
	return false;
}

static void streams_turn(evutil_socket_t fd, short what, void *arg)
{
	static const struct timeval soon = { .tv_usec = TURN_US };
	struct flow_streams *streams = arg;
	struct reader *reader, *next;
	bool more = false;

	(void)fd;
	(void)what;
	for (reader = TAILQ_FIRST(&streams->readers); reader; reader = next) {
		next = TAILQ_NEXT(reader, link);
		more |= reader_update(reader);
	}
	if (more)
		evtimer_add(streams->turn, &soon);
}

void flow_streams_notice(struct flow_streams *streams)
{
	static const struct timeval later = { .tv_usec = FOLLOW_US };

	if (!TAILQ_EMPTY(&streams->readers) && !evtimer_pending(streams->turn, NULL))
		evtimer_add(streams->turn, &later);
}

void flow_streams_add(struct flow_streams *streams, struct http_exchange *exchange,
		      const struct flow_log_query *query)
{
	static const struct timeval at_once;
	struct reader *reader = xcalloc(1, sizeof(*reader));
	const struct flow_ring *ring = flow_log_ring(streams->log);

	reader->streams = streams;
	reader->exchange = exchange;
	reader->since_ns = query->since_ns;
	reader->begun = flow_ring_next(ring);
	reader->end = query->follow ? UINT64_MAX : reader->begun;
	reader->left = flow_ring_count(ring);
	if (query->last && query->last < reader->left)
		reader->left = query->last;
	reader->next = flow_ring_last(ring, reader->left);
	if (http_stream_begin(exchange, reader_closed, reader)) {
		free(reader); /* the client has gone: nothing to answer */
		return;
	}
	TAILQ_INSERT_TAIL(&streams->readers, reader, link);
	evtimer_add(streams->turn, &at_once);
}

struct flow_streams *flow_streams_new(struct event_base *base, struct flow_log *log)
{
	struct flow_streams *streams = xcalloc(1, sizeof(*streams));

	streams->log = log;
	TAILQ_INIT(&streams->readers);
	streams->turn = evtimer_new(base, streams_turn, streams);
	return streams;
}

void flow_streams_free(struct flow_streams *streams)
{
	struct reader *reader;

	while ((reader = TAILQ_FIRST(&streams->readers))) {
		/* NOLINTNEXTLINE(*Malloc): each takes itself out of the list */
		http_stream_end(reader->exchange);
		reader_remove(reader);
	}
	event_free(streams->turn);
	free(streams);
}
