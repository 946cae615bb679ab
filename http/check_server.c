/* SPDX-License-Identifier: Apache-2.0 */
/* Not evhttp: it counts no connections, and each byte that a client sends gives it more time. */
#include "http/check_server.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/inet.h"

#define HEAD_MAX        4096
#define BACKLOG         128
#define ACCEPT_PAUSE_MS 200 /* after accept() found no descriptor left */

struct connection {
	TAILQ_ENTRY(connection) link;
	struct check_server *server;
	struct bufferevent *stream;
	struct event *deadline;
	uint16_t port;
	bool v6;
};

struct check_server {
	struct event_base *base;
	check_answer answer;
	void *arg;
	TAILQ_HEAD(, connection) connections; /* the oldest first */
	size_t count;
};

struct check_port {
	struct check_server *server;
	struct evconnlistener *listener;
	struct event *resume;
	uint16_t port;
};

/* ---- connections ----------------------------------------------------------------------------- */

static void connection_end(struct connection *connection)
{
	struct check_server *server = connection->server;

	TAILQ_REMOVE(&server->connections, connection, link);
	server->count--;
	bufferevent_free(connection->stream);
	event_free(connection->deadline);
	free(connection);
}

static void reply(struct connection *connection, bool with_body)
{
	struct check_server *server = connection->server;
	struct evbuffer *out = bufferevent_get_output(connection->stream);
	struct check_page page = { 0 };

	server->answer(connection->port, connection->v6, &page, server->arg);
	evbuffer_add_printf(out, "HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: %zu\r\n",
			    !page.found ? "404 Not Found"
			    : page.ok   ? "200 OK"
					: "503 Service Unavailable",
			    strlen(page.body));
	if (page.found)
		evbuffer_add_printf(out,
				    "Content-Type: application/json\r\n"
				    "X-Content-Type-Options: nosniff\r\n"
				    "X-Load-Balancing-Endpoint-Weight: %u\r\n",
				    page.weight);
	evbuffer_add_printf(out, "\r\n%s", with_body ? page.body : "");
}

static void on_written(struct bufferevent *stream, void *arg)
{
	(void)stream;
	connection_end(arg);
}

/* Of a request only the method matters: each port has one page. */
static void on_data(struct bufferevent *stream, void *arg)
{
	struct evbuffer *in = bufferevent_get_input(stream);
	struct connection *connection = arg;
	char method[5] = "";

	if (evbuffer_search(in, "\r\n\r\n", 4, NULL).pos < 0) {
		if (evbuffer_get_length(in) >= HEAD_MAX)
			connection_end(connection);
		return;
	}
	evbuffer_copyout(in, method, sizeof(method));
	if (memcmp(method, "GET ", 4) != 0 && memcmp(method, "HEAD ", 5) != 0) {
		connection_end(connection);
		return;
	}
	bufferevent_disable(stream, EV_READ);
	bufferevent_setcb(stream, NULL, on_written, NULL, connection);
	reply(connection, method[0] == 'G');
}

static void on_event(struct bufferevent *stream, short what, void *arg)
{
	(void)stream;
	if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
		connection_end(arg);
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	connection_end(arg);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *from,
		      int len, void *arg)
{
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)from;
	const struct timeval time = { .tv_sec = CHECK_SECONDS };
	const struct check_port *port = arg;
	struct check_server *server = port->server;
	struct connection *connection = xcalloc(1, sizeof(*connection));

	(void)listener;
	(void)len;
	if (server->count == CHECK_CONNECTIONS_MAX)
		connection_end(TAILQ_FIRST(&server->connections));
	connection->server = server;
	connection->port = port->port;
	connection->v6 = from->sa_family == AF_INET6 && !IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr);
	connection->stream = bufferevent_socket_new(server->base, fd, BEV_OPT_CLOSE_ON_FREE);
	connection->deadline = evtimer_new(server->base, on_deadline, connection);
	if (!connection->stream || !connection->deadline)
		out_of_memory(0);
	TAILQ_INSERT_TAIL(&server->connections, connection, link);
	server->count++;
	bufferevent_setwatermark(connection->stream, EV_READ, 0, HEAD_MAX);
	bufferevent_setcb(connection->stream, on_data, NULL, on_event, connection);
	if (evtimer_add(connection->deadline, &time) < 0 ||
	    bufferevent_enable(connection->stream, EV_READ | EV_WRITE) < 0)
		connection_end(connection);
}

/* ---- ports ----------------------------------------------------------------------------------- */

static void on_resume(evutil_socket_t fd, short what, void *arg)
{
	const struct check_port *port = arg;

	(void)fd;
	(void)what;
	evconnlistener_enable(port->listener);
}

/* Without a pause the loop would spin until a descriptor is free. */
static void on_accept_error(struct evconnlistener *listener, void *arg)
{
	const struct timeval pause = { .tv_usec = ACCEPT_PAUSE_MS * 1000 };
	const struct check_port *port = arg;

	evconnlistener_disable(listener);
	evtimer_add(port->resume, &pause);
}

/* addr: of this family; all zero: any, of IPv6 also for IPv4. */
static int socket_bound(int family, const struct addr *addr, uint16_t port)
{
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	const struct sockaddr_in v4 = { .sin_family = AF_INET,
					.sin_port = htons(port),
					.sin_addr.s_addr = addr->w[3] };
	auto_close int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	const int on = 1, only = !addr_is_zero(addr);
	int ret;

	memcpy(&v6.sin6_addr, addr, sizeof(*addr));
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
		return -errno;
	if (family == AF_INET6 &&
	    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only)) < 0)
		return -errno;
	if (family == AF_INET6)
		ret = bind(fd, (const struct sockaddr *)&v6, sizeof(v6));
	else
		ret = bind(fd, (const struct sockaddr *)&v4, sizeof(v4));
	return ret < 0 ? -errno : take_fd(&fd);
}

int check_port_open(struct check_server *server, const struct addr *addr, uint16_t number,
		    struct check_port **ret_port)
{
	int fd = socket_bound(addr_is_v4(addr) ? AF_INET : AF_INET6, addr, number);
	struct check_port *port;
	int ret;

	if (fd < 0 && addr_is_zero(addr))
		fd = socket_bound(AF_INET, addr, number);
	if (fd < 0)
		return fd;
	port = xcalloc(1, sizeof(*port));
	port->server = server;
	port->port = number;
	port->resume = evtimer_new(server->base, on_resume, port);
	if (!port->resume)
		out_of_memory(0);
	port->listener =
		evconnlistener_new(server->base, on_accept, port,
				   LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, BACKLOG, fd);
	if (!port->listener) {
		ret = errno ? -errno : -EIO;
		close(fd);
		check_port_close(port);
		return ret;
	}
	evconnlistener_set_error_cb(port->listener, on_accept_error);
	*ret_port = port;
	return 0;
}

void check_port_close(struct check_port *port)
{
	if (!port)
		return;
	if (port->listener)
		evconnlistener_free(port->listener);
	event_free(port->resume);
	free(port);
}

/* ---- life ------------------------------------------------------------------------------------ */

struct check_server *check_server_new(struct event_base *base, check_answer answer, void *arg)
{
	struct check_server *server = xcalloc(1, sizeof(*server));

	server->base = base;
	server->answer = answer;
	server->arg = arg;
	TAILQ_INIT(&server->connections);
	return server;
}

void check_server_free(struct check_server *server)
{
	while (!TAILQ_EMPTY(&server->connections))
		/* NOLINTNEXTLINE(*Malloc): each takes itself out of the list */
		connection_end(TAILQ_FIRST(&server->connections));
	free(server);
}
