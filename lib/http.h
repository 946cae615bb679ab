/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1.1 over a unix socket, as far as the agent's API needs it: one request with Content-Length
 * on each connection, and responses that stream.  Why not a library: the CNI plugin passes the
 * pod's namespace with its request (SCM_RIGHTS), and no HTTP server in Debian lets the application
 * call recvmsg(2).
 */
#ifndef TENDRIL_LIB_HTTP_H
#define TENDRIL_LIB_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "lib/errmsg.h"

struct event_base;
struct evbuffer;

#define HTTP_HEAD_MAX 8192

/* ---- parsing (pure; fuzzed) ---- */

struct http_head {
	char method[8];
	char path[1024];  /* percent-decoded, without the query */
	char query[1024]; /* as sent, without the '?' */
	size_t body_len;
};

/* Parses a request head in data[0..len).  Returns its length in bytes (with the empty line), 0 if
 * the head is not complete, or -EBADMSG, -E2BIG, -ENOTSUP (Transfer-Encoding) with a text in err.
 */
ssize_t http_head_parse(const char *data, size_t len, struct http_head *ret_head,
			struct errmsg *err);

/* Copies the decoded value of a query parameter; -ENOENT if absent, -E2BIG, -EINVAL (bad escape).
 */
int http_query_get(const char *query, const char *name, char *buf, size_t size);

struct http_response_head {
	int status;
	size_t body_len; /* 0 if chunked */
	bool chunked;
};

/* As http_head_parse(), for the head of an answer. */
ssize_t http_response_head_parse(const char *data, size_t len, struct http_response_head *ret_head,
				 struct errmsg *err);

#define HTTP_CHUNK_MAX (1 << 20)

/* Finds one whole chunk in data[0..len): its payload is at *ret_start, *ret_len bytes (0: the last
 * chunk).  Returns the length of the chunk with its framing, 0 if it is not complete, or -EBADMSG.
 */
ssize_t http_chunk_parse(const char *data, size_t len, size_t *ret_start, size_t *ret_len);

/* ---- server ---- */

struct http_server;
struct http_exchange; /* one request and its response */

struct http_request {
	struct http_head head;
	const char *body; /* NUL-terminated, head.body_len bytes; valid until the response */
	int fd; /* passed with the request, or -1; closed after the handler: dup to keep */
	pid_t peer_pid;
	uid_t peer_uid;
};

struct http_limits {
	size_t body_max;       /* larger: 413 */
	unsigned int clients;  /* open connections; one more: 503, or an idle one is closed */
	unsigned int streams;  /* of these, how many may be streams; one more: 503 */
	unsigned int idle_ms;  /* to send a request, and to read each part of the response */
	size_t stream_backlog; /* unsent bytes after which a slow stream reader is cut off */
};

/* Called once per complete request; must answer now or later with exactly one http_reply() or
 * http_stream_begin(). */
typedef void (*http_handler)(struct http_exchange *exchange, const struct http_request *request,
			     void *arg);

/* Listens on path (mode 0600).  Replaces an old socket file on which nothing answers; -EADDRINUSE
 * if something does.  Connections of uids other than 0 and the agent's own are refused with 403. */
int http_server_new(struct event_base *base, const char *path, const struct http_limits *limits,
		    http_handler handler, void *arg, struct http_server **ret_server,
		    struct errmsg *err);
/* Listens again if somebody removed the socket file; connected clients stay.  Returns 1 if the file
 * was missing, else 0. */
int http_server_ensure_socket(struct http_server *server, struct errmsg *err);
void http_server_free(struct http_server *server); /* closes connections, removes the socket */

/* How many readers of streams were disconnected because they were too slow. */
unsigned long http_server_slow_readers(const struct http_server *server);

/* Sends status and a JSON body (copied). */
void http_reply(struct http_exchange *exchange, int status, const char *json);

/* Starts a chunked response of JSON lines.  The loop calls closed() once, when the reader is gone
 * or was disconnected; after that the exchange must not be used.  -EPIPE: the reader is gone
 * already, or got an error because there are too many streams; closed() is not called. */
int http_stream_begin(struct http_exchange *exchange, void (*closed)(void *arg), void *arg);
int http_stream_line(struct http_exchange *exchange, const char *json); /* -EPIPE: being closed */
/* Whether the reader has yet to take more than half of what may wait for it.  Who sends a lot at
 * once waits until it has. */
bool http_stream_is_behind(const struct http_exchange *exchange);
/* Ends the stream from this side.  closed() is not called; the exchange must not be used again. */
void http_stream_end(struct http_exchange *exchange);

/* ---- client (blocking; the CLI and the plugin) ---- */

struct http_response {
	int status;
	char *body; /* NUL-terminated; owned: http_response_done() */
	size_t body_len;
};

/* Sends one request on a new connection, with fd as SCM_RIGHTS unless it is -1.  timeout_ms is for
 * the whole exchange; -ETIMEDOUT.  -ECONNREFUSED, -ENOENT: there is no agent. */
int http_call(const char *socket_path, const char *method, const char *path, const char *body,
	      int fd, int timeout_ms, struct http_response *ret_response, struct errmsg *err);
void http_response_done(struct http_response *response);

/* Reads a stream with GET, and calls line() with each line until it returns non-zero (which is
 * returned) or the server ends the stream (0).  -EINTR: a signal was handled.  The caller blocks
 * that signal before, so that none is missed; it is unblocked while the call waits. */
int http_follow(const char *socket_path, const char *path, int (*line)(const char *json, void *arg),
		void *arg, struct errmsg *err);

#endif
