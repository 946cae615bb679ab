/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1.1 server over a unix socket, on the agent's event loop.  A connection carries one request
 * and its answer, then it ends: what a client can make the agent hold is bounded by that.  Routing
 * is the handler's work.
 */
#include "lib/http_internal.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "lib/alloc.h"
#include "lib/auto.h"

#define ACCEPT_PAUSE_MS 200 /* after accept() found no descriptor left */

/* Above the limit: says so as far as one non-blocking write can. */
static void turn_away(int fd)
{
	static const char answer[] =
		"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
		"Content-Length: 34\r\nConnection: close\r\n\r\n{\"error\":\"too many "
		"connections\"}\r\n";

	_Static_assert(sizeof("{\"error\":\"too many connections\"}\r\n") - 1 == 34,
		       "Content-Length of the answer");
	send(fd, answer, sizeof(answer) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Closes the oldest connection that has sent no request, or stays after its answer: such clients
 * must not keep others out.  False: there is none. */
static bool server_make_room(struct http_server *server)
{
	struct http_exchange *exchange;

	TAILQ_FOREACH(exchange, &server->exchanges, link)
	{
		bool idle =
			exchange->state == EXCHANGE_READING || exchange->state == EXCHANGE_DRAIN;

		if (idle && !exchange->broken) {
			turn_away(exchange->fd);
			http_exchange_finish(exchange);
			return true;
		}
	}
	return false;
}

static void server_acceptable(evutil_socket_t listen_fd, short what, void *arg)
{
	struct http_server *server = arg;
	int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)what;
	if (fd >= 0 && server->count >= server->limits.clients && !server_make_room(server)) {
		turn_away(fd);
		close(fd);
	} else if (fd >= 0) {
		http_exchange_begin(server, fd);
	} else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
		/* The listener stays readable: without a pause this would spin. */
		struct timeval pause = { .tv_usec = ACCEPT_PAUSE_MS * 1000L };

		event_del(server->acceptable);
		event_add(server->resume, &pause);
	}
}

static void server_resume(evutil_socket_t fd, short what, void *arg)
{
	struct http_server *server = arg;

	(void)fd;
	(void)what;
	event_add(server->acceptable, NULL);
}

/* Removes a socket that nobody listens on any more. */
static int stale_socket_remove(const struct sockaddr_un *addr, struct errmsg *err)
{
	auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st;

	if (fd < 0)
		return fail(err, -errno, "socket");
	if (lstat(addr->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : fail(err, -errno, "%s", addr->sun_path);
	if (!S_ISSOCK(st.st_mode))
		return fail_plain(err, -EEXIST, "%s exists and is not a socket", addr->sun_path);
	if (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0 || errno == EAGAIN)
		return fail_plain(err, -EADDRINUSE, "%s: another process answers there",
				  addr->sun_path);
	if (errno != ECONNREFUSED)
		return fail(err, -errno, "connect to %s", addr->sun_path);
	if (unlink(addr->sun_path) < 0 && errno != ENOENT)
		return fail(err, -errno, "remove %s", addr->sun_path);
	return 0;
}

static int socket_listen(const char *path, int *ret_fd, struct errmsg *err)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	auto_close int fd = -1;
	size_t len = strlen(path);
	mode_t mask;
	int ret;

	if (len >= sizeof(addr.sun_path))
		return fail_plain(err, -ENAMETOOLONG, "socket path %s is longer than %zu bytes",
				  path, sizeof(addr.sun_path) - 1);
	memcpy(addr.sun_path, path, len);
	ret = stale_socket_remove(&addr, err);
	if (ret)
		return ret;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return fail(err, -errno, "socket");
	mask = umask(0177); /* never reachable with a wider mode, not even for a moment */
	ret = bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ? -errno : 0;
	umask(mask);
	if (ret)
		return fail(err, ret, "bind %s", path);
	if (listen(fd, SOMAXCONN) < 0)
		return fail(err, -errno, "listen on %s", path);
	*ret_fd = take_fd(&fd);
	return 0;
}

int http_server_new(struct event_base *base, const char *path, const struct http_limits *limits,
		    http_handler handler, void *arg, struct http_server **ret_server,
		    struct errmsg *err)
{
	struct http_server *server;
	int fd = -1, ret;

	ret = socket_listen(path, &fd, err);
	if (ret)
		return ret;
	server = xcalloc(1, sizeof(*server));
	server->base = base;
	server->limits = *limits;
	server->handler = handler;
	server->arg = arg;
	server->fd = fd;
	snprintf(server->path, sizeof(server->path), "%s", path);
	TAILQ_INIT(&server->exchanges);
	server->acceptable = event_new(base, fd, EV_READ | EV_PERSIST, server_acceptable, server);
	server->resume = event_new(base, -1, 0, server_resume, server);
	if (!server->acceptable || !server->resume || event_add(server->acceptable, NULL) < 0)
		out_of_memory(0);
	*ret_server = server;
	return 0;
}

int http_server_ensure_socket(struct http_server *server, struct errmsg *err)
{
	struct event *acceptable;
	int fd = -1;
	int ret;

	if (access(server->path, F_OK) == 0)
		return 0;
	ret = socket_listen(server->path, &fd, err);
	if (ret)
		return ret;
	acceptable = event_new(server->base, fd, EV_READ | EV_PERSIST, server_acceptable, server);
	if (!acceptable || event_add(acceptable, NULL) < 0) {
		if (acceptable)
			event_free(acceptable);
		close(fd);
		return fail(err, -ENOMEM, "API server");
	}
	event_free(server->acceptable);
	close(server->fd);
	server->acceptable = acceptable;
	server->fd = fd;
	return 1;
}

unsigned long http_server_slow_readers(const struct http_server *server)
{
	return server->slow_readers;
}

void http_server_free(struct http_server *server)
{
	if (!server)
		return;
	/* NOLINTNEXTLINE(*Malloc): http_exchange_finish() takes it off the list */
	while (!TAILQ_EMPTY(&server->exchanges))
		http_exchange_finish(TAILQ_FIRST(&server->exchanges)); /* NOLINT(*Malloc) */
	event_free(server->acceptable);
	event_free(server->resume);
	close(server->fd);
	unlink(server->path);
	free(server);
}
