/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request on each connection, as the agent wants it.  evhttp's client of libevent 2.1 knows no
 * unix sockets, and the blocking client of lib/ would let one slow answer hold up the others.
 */
#include "http/agent_call.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/http.h"

#define ANSWER_MAX (4 << 20)

struct call {
	struct bufferevent *connection;
	struct event *deadline; /* also ends a call that could not begin */
	agent_answer done;
	void *arg;
	char problem[160];
};

static void call_end(struct call *call, int status, const char *body)
{
	call->done(status, body, call->arg);
	if (call->connection)
		bufferevent_free(call->connection);
	event_free(call->deadline);
	free(call);
}

static void call_fail(struct call *call, const char *what, int error)
{
	snprintf(call->problem, sizeof(call->problem), "the agent %s%s%s", what, error ? ": " : "",
		 error ? strerror(error) : "");
	call_end(call, 0, call->problem);
}

/* The answer is whole when the agent closes the connection, or as soon as its length is there. */
static void on_data(struct bufferevent *connection, void *arg)
{
	struct evbuffer *in = bufferevent_get_input(connection);
	size_t len = evbuffer_get_length(in);
	struct http_response_head head;
	struct errmsg err = {};
	struct call *call = arg;
	const char *data;
	ssize_t head_len;

	if (len > ANSWER_MAX) {
		call_fail(call, "answers too much", 0);
		return;
	}
	data = (const char *)evbuffer_pullup(in, -1);
	head_len = http_response_head_parse(data, len, &head, &err);
	if (head_len < 0 || (head_len > 0 && head.chunked)) {
		call_fail(call, "gives an answer that is not understood", 0);
		return;
	}
	if (head_len > 0 && len - (size_t)head_len >= head.body_len) {
		auto_free char *body = xstrndup(data + head_len, head.body_len);

		call_end(call, head.status, body);
	}
}

static void on_event(struct bufferevent *connection, short what, void *arg)
{
	(void)connection;
	if (what & BEV_EVENT_ERROR)
		call_fail(arg, "is not there", errno);
	else if (what & BEV_EVENT_EOF)
		call_fail(arg, "ended the connection", 0);
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct call *call = arg;

	(void)fd;
	(void)what;
	if (*call->problem)
		call_end(call, 0, call->problem);
	else
		call_fail(call, "does not answer", 0);
}

void agent_get(struct event_base *base, const char *socket_path, const char *path,
	       agent_answer done, void *arg)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct timeval timeout = { .tv_sec = AGENT_TIMEOUT_S };
	struct call *call = xcalloc(1, sizeof(*call));
	int error = 0;

	call->done = done;
	call->arg = arg;
	call->deadline = evtimer_new(base, on_deadline, call);
	call->connection = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
	if (!call->deadline || !call->connection)
		out_of_memory(sizeof(*call));
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", socket_path);
	bufferevent_setcb(call->connection, on_data, NULL, on_event, call);
	if (bufferevent_enable(call->connection, EV_READ | EV_WRITE) < 0 ||
	    bufferevent_socket_connect(call->connection, (struct sockaddr *)&address,
				       sizeof(address)) < 0)
		error = errno ? errno : EIO;
	evbuffer_add_printf(bufferevent_get_output(call->connection),
			    "GET %s HTTP/1.1\r\nHost: agent\r\n\r\n", path);
	if (error) {
		snprintf(call->problem, sizeof(call->problem), "the agent is not there: %s",
			 strerror(error));
		timeout.tv_sec = 0;
	}
	event_add(call->deadline, &timeout);
}
