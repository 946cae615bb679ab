/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection of the HTTP server, from its request to the end of its answer.
 *
 * A connection is only freed from its timer (connection_close() fires it) or to make room for a new
 * one, so no function here has to ask whether the object it holds still exists.
 */
#include "lib/http_internal.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "lib/alloc.h"
#include "lib/auto.h"

#define READ_SIZE       65536
#define FDS_PER_MESSAGE 8 /* received only to be closed: one is allowed */

static const struct {
	int status;
	const char *text;
} status_texts[] = {
	{ 200, "OK" },
	{ 400, "Bad Request" },
	{ 403, "Forbidden" },
	{ 404, "Not Found" },
	{ 405, "Method Not Allowed" },
	{ 408, "Request Timeout" },
	{ 409, "Conflict" },
	{ 413, "Content Too Large" },
	{ 422, "Unprocessable Content" },
	{ 431, "Request Header Fields Too Large" },
	{ 500, "Internal Server Error" },
	{ 501, "Not Implemented" },
	{ 503, "Service Unavailable" },
	{ 507, "Insufficient Storage" },
};

static const char *status_text(int status)
{
	for (size_t i = 0; i < ARRAY_SIZE(status_texts); i++) {
		if (status_texts[i].status == status)
			return status_texts[i].text;
	}
	return "Error";
}

/* ---- life of a connection -------------------------------------------------------------------- */

static void request_done(struct http_request *request)
{
	free((char *)request->body);
	request->body = NULL;
	if (request->fd >= 0)
		close(request->fd);
	request->fd = -1;
}

static void http_exchange_free(struct http_exchange *exchange)
{
	request_done(&exchange->request);
	event_free(exchange->readable);
	event_free(exchange->writable);
	event_free(exchange->timer);
	evbuffer_free(exchange->in);
	evbuffer_free(exchange->out);
	if (exchange->fd >= 0)
		close(exchange->fd);
	free(exchange);
}

/* The connection is over: tells a stream's owner, and keeps what the handler still points to. */
void http_exchange_finish(struct http_exchange *exchange)
{
	struct http_server *server = exchange->server;

	TAILQ_REMOVE(&server->exchanges, exchange, link);
	server->count--;
	if (exchange->state == EXCHANGE_STREAM) {
		server->streams--;
		exchange->closed(exchange->closed_arg);
	}
	if (exchange->state != EXCHANGE_PENDING) {
		http_exchange_free(exchange);
		return;
	}
	exchange->state = EXCHANGE_ORPHAN;
	event_del(exchange->readable);
	event_del(exchange->writable);
	event_del(exchange->timer);
	close(take_fd(&exchange->fd));
}

static void connection_close(struct http_exchange *exchange)
{
	exchange->broken = true;
	event_del(exchange->readable);
	event_del(exchange->writable);
	event_active(exchange->timer, EV_TIMEOUT, 0);
}

static void timer_start(struct http_exchange *exchange)
{
	unsigned int ms = exchange->server->limits.idle_ms;
	struct timeval timeout = { .tv_sec = ms / 1000, .tv_usec = (long)(ms % 1000) * 1000 };

	if (!exchange->broken) /* adding it again would take back the firing that frees */
		event_add(exchange->timer, &timeout);
}

/* Listens to what the state calls for, no more: a paused connection costs nothing. */
static void connection_arm(struct http_exchange *exchange)
{
	bool unsent = evbuffer_get_length(exchange->out) > 0;
	bool wants_read = exchange->state == EXCHANGE_STREAM || exchange->state == EXCHANGE_DRAIN ||
			  exchange->state == EXCHANGE_READING;

	if (exchange->broken)
		return;
	if (wants_read)
		event_add(exchange->readable, NULL);
	else
		event_del(exchange->readable);
	if (unsent)
		event_add(exchange->writable, NULL);
	else
		event_del(exchange->writable);
}

/* Writes what the socket takes. */
static void connection_flush(struct http_exchange *exchange)
{
	if (exchange->broken)
		return;
	while (evbuffer_get_length(exchange->out)) {
		struct evbuffer_iovec iov[8];
		int n = evbuffer_peek(exchange->out, -1, NULL, iov, ARRAY_SIZE(iov));
		struct msghdr msg = { .msg_iov = iov };
		ssize_t sent;

		msg.msg_iovlen = n < (int)ARRAY_SIZE(iov) ? (size_t)n : ARRAY_SIZE(iov);
		sent = sendmsg(exchange->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0 && errno == EAGAIN)
			break;
		if (sent < 0) {
			connection_close(exchange);
			return;
		}
		evbuffer_drain(exchange->out, (size_t)sent);
		if (exchange->state != EXCHANGE_STREAM)
			timer_start(exchange);
	}
	if (exchange->state == EXCHANGE_CLOSING && evbuffer_get_length(exchange->out) == 0) {
		/* Closing with unread input would reset the connection under the answer. */
		shutdown(exchange->fd, SHUT_WR);
		exchange->state = EXCHANGE_DRAIN;
	}
	connection_arm(exchange);
}

/* ---- answers --------------------------------------------------------------------------------- */

/* Queues a whole answer; a HEAD request gets its head only. */
static void answer_queue(struct http_exchange *exchange, int status, const char *json)
{
	size_t len = strlen(json);

	exchange->state = EXCHANGE_CLOSING;
	evbuffer_add_printf(exchange->out,
			    "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\n"
			    "Content-Length: %zu\r\nConnection: close\r\n\r\n",
			    status, status_text(status), len + 1);
	if (strcmp(exchange->request.head.method, "HEAD") != 0) {
		evbuffer_add(exchange->out, json, len);
		evbuffer_add(exchange->out, "\n", 1);
	}
	timer_start(exchange);
}

/* Refuses what never became a request.  text quotes the client: characters that JSON would have to
 * escape become "?". */
static void connection_refuse(struct http_exchange *exchange, int status, const char *text)
{
	char json[700];
	size_t len;

	len = (size_t)snprintf(json, sizeof(json) - 3, "{\"error\":\"");
	for (const char *c = text; *c && len < sizeof(json) - 3; c++)
		json[len++] = (char)(*c < ' ' || *c > '~' || *c == '"' || *c == '\\' ? '?' : *c);
	json[len++] = '"';
	json[len++] = '}';
	json[len] = '\0';
	answer_queue(exchange, status, json);
	connection_flush(exchange);
}

void http_reply(struct http_exchange *exchange, int status, const char *json)
{
	if (exchange->state == EXCHANGE_ORPHAN) {
		http_exchange_free(exchange);
		return;
	}
	answer_queue(exchange, status, json);
	if (!exchange->in_handler) {
		request_done(&exchange->request);
		connection_flush(exchange);
	}
}

int http_stream_begin(struct http_exchange *exchange, void (*closed)(void *arg), void *arg)
{
	if (exchange->state == EXCHANGE_ORPHAN) {
		http_exchange_free(exchange);
		return -EPIPE;
	}
	if (exchange->server->streams >= exchange->server->limits.streams) {
		http_reply(exchange, 503, "{\"error\":\"too many streams\"}");
		return -EPIPE;
	}
	evbuffer_add_printf(exchange->out,
			    "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n"
			    "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n");
	exchange->closed = closed;
	exchange->closed_arg = arg;
	exchange->state = EXCHANGE_STREAM;
	exchange->server->streams++;
	event_del(exchange->timer);
	connection_arm(exchange);
	return 0;
}

int http_stream_line(struct http_exchange *exchange, const char *json)
{
	size_t len = strlen(json);

	if (exchange->broken)
		return -EPIPE;
	if (evbuffer_get_length(exchange->out) + len > exchange->server->limits.stream_backlog) {
		exchange->server->slow_readers++;
		connection_close(exchange);
		return -EPIPE;
	}
	evbuffer_add_printf(exchange->out, "%zx\r\n", len + 1);
	evbuffer_add(exchange->out, json, len);
	evbuffer_add(exchange->out, "\n\r\n", 3);
	connection_arm(exchange); /* written from the loop, several lines at once */
	return 0;
}

bool http_stream_is_behind(const struct http_exchange *exchange)
{
	return evbuffer_get_length(exchange->out) > exchange->server->limits.stream_backlog / 2;
}

void http_stream_end(struct http_exchange *exchange)
{
	exchange->server->streams--;
	exchange->state = EXCHANGE_CLOSING;
	evbuffer_add(exchange->out, "0\r\n\r\n", 5);
	timer_start(exchange);
	connection_flush(exchange);
}

/* ---- requests -------------------------------------------------------------------------------- */

static int head_status(ssize_t code)
{
	switch (code) {
	case -E2BIG:
		return 431;
	case -ENOTSUP:
		return 501;
	default:
		return 400;
	}
}

/* Takes the head off the input; false if it is not whole yet or was refused. */
static bool request_take_head(struct http_exchange *exchange)
{
	size_t len = evbuffer_get_length(exchange->in);
	struct http_head *head = &exchange->request.head;
	char text[600];
	struct errmsg err = {};
	const char *data;
	ssize_t used;

	if (len > HTTP_HEAD_MAX)
		len = HTTP_HEAD_MAX;
	data = (const char *)evbuffer_pullup(exchange->in, (ssize_t)len);
	used = http_head_parse(data ? data : "", data ? len : 0, head, &err);
	if (used == 0)
		return false;
	if (used < 0) {
		connection_refuse(exchange, head_status(used), err.text);
		return false;
	}
	evbuffer_drain(exchange->in, (size_t)used);
	exchange->have_head = true;
	if (head->body_len > exchange->server->limits.body_max) {
		snprintf(text, sizeof(text), "body of %zu bytes: the limit is %zu", head->body_len,
			 exchange->server->limits.body_max);
		connection_refuse(exchange, 413, text);
		return false;
	}
	return true;
}

/* Takes the body off the input, which holds all of it. */
static bool request_take_body(struct http_exchange *exchange)
{
	size_t len = exchange->request.head.body_len;
	char *body = malloc(len + 1);

	if (!body) {
		connection_refuse(exchange, 503, "out of memory");
		return false;
	}
	evbuffer_remove(exchange->in, body, len);
	body[len] = '\0';
	exchange->request.body = body;
	return true;
}

static void request_dispatch(struct http_exchange *exchange)
{
	struct http_server *server = exchange->server;

	exchange->state = EXCHANGE_PENDING;
	event_del(exchange->readable);
	event_del(exchange->timer);
	exchange->in_handler = true;
	server->handler(exchange, &exchange->request, server->arg);
	exchange->in_handler = false;
	if (exchange->state != EXCHANGE_PENDING) {
		request_done(&exchange->request);
		connection_flush(exchange);
	} else if (exchange->request.fd >= 0) {
		close(take_fd(&exchange->request.fd));
	}
}

/* Hands the request on once all of it is here. */
static void connection_serve(struct http_exchange *exchange)
{
	const struct http_head *head = &exchange->request.head;

	if (!exchange->have_head && !request_take_head(exchange))
		return;
	if (evbuffer_get_length(exchange->in) < head->body_len)
		return;
	/* A descriptor carries no position: nobody could say which of two requests it is for. */
	if (evbuffer_get_length(exchange->in) > head->body_len)
		connection_refuse(exchange, 400,
				  "a request must not be followed by another on its connection");
	else if (request_take_body(exchange))
		request_dispatch(exchange);
}

/* ---- input ----------------------------------------------------------------------------------- */

/* Keeps the first descriptor; closes every other.  -E2BIG if there was another. */
static int descriptors_take(struct msghdr *msg, int *fd)
{
	int ret = msg->msg_flags & MSG_CTRUNC ? -E2BIG : 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t count;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int passed;

			memcpy(&passed, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (*fd < 0) {
				*fd = passed;
			} else {
				close(passed);
				ret = -E2BIG;
			}
		}
	}
	return ret;
}

/* Reads once into the input buffer.  Bytes read, 0 at the end, or a negative errno. */
static ssize_t connection_receive(struct http_exchange *exchange)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(FDS_PER_MESSAGE * sizeof(int))];
	} control;
	struct evbuffer_iovec iov;
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = &control,
			      .msg_controllen = sizeof(control) };
	ssize_t n;

	if (evbuffer_reserve_space(exchange->in, READ_SIZE, &iov, 1) < 1)
		return -ENOMEM;
	n = recvmsg(exchange->fd, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	if (n < 0)
		return -errno;
	iov.iov_len = (size_t)n;
	evbuffer_commit_space(exchange->in, &iov, 1);
	if (descriptors_take(&msg, &exchange->request.fd))
		return -E2BIG;
	return n;
}

/* A client that was answered, or follows a stream, has nothing more to say. */
static void connection_discard(struct http_exchange *exchange)
{
	bool stream = exchange->state == EXCHANGE_STREAM;
	ssize_t n = connection_receive(exchange);

	if (n == -EAGAIN || n == -EINTR)
		return;
	evbuffer_drain(exchange->in, evbuffer_get_length(exchange->in));
	if (exchange->request.fd >= 0)
		close(take_fd(&exchange->request.fd));
	if (n <= 0 || stream)
		connection_close(exchange);
}

static void connection_readable(evutil_socket_t fd, short what, void *arg)
{
	struct http_exchange *exchange = arg;
	ssize_t n;

	(void)fd;
	(void)what;
	if (exchange->broken)
		return;
	if (exchange->state != EXCHANGE_READING) {
		connection_discard(exchange);
		return;
	}
	n = connection_receive(exchange);
	if (n == -E2BIG) {
		connection_refuse(exchange, 400, "more than one descriptor in a request");
		return;
	}
	if (n == -EAGAIN || n == -EINTR)
		return;
	if (n <= 0) {
		connection_close(exchange);
		return;
	}
	if (!exchange->started) {
		exchange->started = true;
		timer_start(exchange);
	}
	connection_serve(exchange);
}

static void connection_writable(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	connection_flush(arg);
}

static void connection_timer(evutil_socket_t fd, short what, void *arg)
{
	struct http_exchange *exchange = arg;

	(void)fd;
	(void)what;
	if (!exchange->broken && exchange->state == EXCHANGE_READING && exchange->started)
		connection_refuse(exchange, 408, "the request did not arrive in time");
	else
		http_exchange_finish(exchange);
}

/* ---- the beginning --------------------------------------------------------------------------- */

static struct http_exchange *exchange_new(struct http_server *server, int fd)
{
	struct http_exchange *exchange = xcalloc(1, sizeof(*exchange));

	exchange->server = server;
	exchange->fd = fd;
	exchange->request.fd = -1;
	exchange->in = evbuffer_new();
	exchange->out = evbuffer_new();
	exchange->readable =
		event_new(server->base, fd, EV_READ | EV_PERSIST, connection_readable, exchange);
	exchange->writable =
		event_new(server->base, fd, EV_WRITE | EV_PERSIST, connection_writable, exchange);
	exchange->timer = event_new(server->base, -1, 0, connection_timer, exchange);
	if (!exchange->in || !exchange->out || !exchange->readable || !exchange->writable ||
	    !exchange->timer)
		out_of_memory(0);
	return exchange;
}

static bool peer_allowed(int fd, struct http_request *request)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return false;
	request->peer_pid = peer.pid;
	request->peer_uid = peer.uid;
	return peer.uid == 0 || peer.uid == geteuid();
}

void http_exchange_begin(struct http_server *server, int fd)
{
	struct http_exchange *exchange = exchange_new(server, fd);

	TAILQ_INSERT_TAIL(&server->exchanges, exchange, link);
	server->count++;
	if (!peer_allowed(fd, &exchange->request)) {
		connection_refuse(exchange, 403, "only root may ask");
		return;
	}
	timer_start(exchange);
	connection_arm(exchange);
}
