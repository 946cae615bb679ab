/* SPDX-License-Identifier: Apache-2.0 */
/* What the server's files share: http_server.c listens, http_exchange.c serves one connection. */
#ifndef TENDRIL_LIB_HTTP_INTERNAL_H
#define TENDRIL_LIB_HTTP_INTERNAL_H

#include <event2/event.h>
#include <sys/queue.h>

#include "lib/http.h"

enum exchange_state {
	EXCHANGE_READING, /* the request has not arrived as a whole */
	EXCHANGE_PENDING, /* the handler owes an answer */
	EXCHANGE_STREAM,
	EXCHANGE_CLOSING, /* the answer is on its way out */
	EXCHANGE_DRAIN,   /* the answer is out: waits for the client to close */
	EXCHANGE_ORPHAN,  /* the connection is gone, the handler still owes an answer */
};

/* A connection, its request and its answer. */
struct http_exchange {
	TAILQ_ENTRY(http_exchange) link;
	struct http_server *server;
	enum exchange_state state;
	int fd;
	struct event *readable;
	struct event *writable;
	struct event *timer;
	struct evbuffer *in;
	struct evbuffer *out;
	struct http_request request;
	bool have_head;
	bool started;    /* the first byte of the request is here: its time runs */
	bool broken;     /* to be freed, whatever the state */
	bool in_handler; /* the handler is on the stack: request must stay */
	void (*closed)(void *arg);
	void *closed_arg;
};

TAILQ_HEAD(exchange_list, http_exchange);

struct http_server {
	struct event_base *base;
	struct http_limits limits;
	http_handler handler;
	void *arg;
	char path[108];
	int fd;
	struct event *acceptable;
	struct event *resume;
	struct exchange_list exchanges;
	unsigned int count;
	unsigned int streams;
	unsigned long slow_readers;
};

/* Serves a connection that was accepted; the descriptor is the exchange's. */
void http_exchange_begin(struct http_server *server, int fd);
/* Ends the connection at once.  The exchange is freed, unless its handler owes an answer. */
void http_exchange_finish(struct http_exchange *exchange);

#endif
