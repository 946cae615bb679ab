/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whoever may connect can ask as often as they like, so the agent is not asked for each request: a
 * page waits for one answer for all who want it, and keeps it for a second.
 */
#define LOG_MODULE "http"
#include "http/server.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/queue.h>

#include "http/agent_call.h"
#include "http/checks.h"
#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/clock.h"
#include "lib/log.h"

#define LISTENERS_MAX   4
#define HEAD_MAX        4096
#define IDLE_S          5
#define FRESH_NS        1000000000ull
#define ACCEPT_PAUSE_MS 200 /* after accept() found no descriptor left */

struct waiting {
	STAILQ_ENTRY(waiting) link;
	struct evhttp_request *request;
};

/* What is at a path, and how the agent is asked for it. */
static const struct page_kind {
	const char *path;
	const char *agent_path;
	const char *type;
	unsigned int pages;
	bool any_answer; /* the agent lives if it answers at all */
	bool show;       /* its answer is the page; else "ok" or why not */
} page_kinds[] = {
	{ "/healthz", "/v1/ready", "text/plain; charset=utf-8", SERVER_HEALTH, true, false },
	{ "/readyz", "/v1/ready", "text/plain; charset=utf-8", SERVER_HEALTH, false, false },
	{ "/metrics", "/v1/metrics", "text/plain; version=0.0.4; charset=utf-8", SERVER_METRICS,
	  false, true },
};

struct page {
	const struct page_kind *kind;
	STAILQ_HEAD(, waiting) waiting;
	bool asked; /* the agent owes an answer */
	int status;
	char *body;
	uint64_t answered_ns; /* 0: never */
};

struct listener {
	struct server *server;
	struct evhttp *http;
	unsigned int pages;
};

struct server {
	struct event_base *base;
	const char *socket_path;
	const struct checks *checks;
	struct page pages[ARRAY_SIZE(page_kinds)];
	struct listener listeners[LISTENERS_MAX];
	size_t listener_count;
};

/* ---- answers --------------------------------------------------------------------------------- */

static void reply(struct evhttp_request *request, const struct page *page)
{
	const struct page_kind *kind = page->kind;
	bool ok = page->status == 200 || (kind->any_answer && page->status != 0);
	struct evbuffer *body = evbuffer_new();

	if (!body)
		out_of_memory(0);
	evbuffer_add_printf(body, "%s%s", ok && !kind->show ? "ok" : page->body,
			    kind->show && ok ? "" : "\n");
	evhttp_add_header(evhttp_request_get_output_headers(request), "Content-Type", kind->type);
	evhttp_send_reply(request, ok ? 200 : 503, NULL, body);
	evbuffer_free(body);
}

static void on_answer(int status, const char *body, void *arg)
{
	struct page *page = arg;
	struct waiting *waiting;

	page->asked = false;
	page->status = status;
	free(page->body);
	page->body = xstrdup(body);
	page->answered_ns = now_ns();
	while ((waiting = STAILQ_FIRST(&page->waiting))) {
		STAILQ_REMOVE_HEAD(&page->waiting, link);
		reply(waiting->request, page);
		free(waiting);
	}
}

static void page_serve(struct server *server, struct page *page, struct evhttp_request *request)
{
	struct waiting *waiting;

	if (page->answered_ns && now_ns() - page->answered_ns < FRESH_NS) {
		reply(request, page);
		return;
	}
	waiting = xcalloc(1, sizeof(*waiting));
	waiting->request = request;
	STAILQ_INSERT_TAIL(&page->waiting, waiting, link);
	if (!page->asked)
		agent_get(server->base, server->socket_path, page->kind->agent_path, on_answer,
			  page);
	page->asked = true;
}

static void on_request(struct evhttp_request *request, void *arg)
{
	const struct listener *listener = arg;
	struct server *server = listener->server;
	const char *path = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(request));

	if (path && listener->pages & SERVER_PROXY &&
	    checks_proxy_page(server->checks, request, path))
		return;
	for (size_t i = 0; path && i < ARRAY_SIZE(page_kinds); i++) {
		if ((page_kinds[i].pages & listener->pages) && !strcmp(path, page_kinds[i].path)) {
			page_serve(server, &server->pages[i], request);
			return;
		}
	}
	evhttp_send_reply(request, HTTP_NOTFOUND, NULL, NULL);
}

/* ---- sockets --------------------------------------------------------------------------------- */

static void on_resume(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	evconnlistener_enable(arg);
}

/* Without a pause the loop would spin until a descriptor is free.  What arg is belongs to evhttp.
 */
static void on_accept_error(struct evconnlistener *socket, void *arg)
{
	const struct timeval pause = { .tv_usec = ACCEPT_PAUSE_MS * 1000 };

	(void)arg;
	evconnlistener_disable(socket);
	event_base_once(evconnlistener_get_base(socket), -1, EV_TIMEOUT, on_resume, socket, &pause);
}

static int address_split(const char *address, char *host, size_t size, ev_uint16_t *ret_port)
{
	struct sockaddr_storage storage;
	int len = sizeof(storage);
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&storage;
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)&storage;

	if (evutil_parse_sockaddr_port(address, (struct sockaddr *)&storage, &len) < 0)
		return -EINVAL;
	if (storage.ss_family == AF_INET6) {
		*ret_port = ntohs(v6->sin6_port);
		evutil_inet_ntop(AF_INET6, &v6->sin6_addr, host, size);
	} else {
		*ret_port = ntohs(v4->sin_port);
		evutil_inet_ntop(AF_INET, &v4->sin_addr, host, size);
	}
	return *ret_port ? 0 : -EINVAL;
}

int server_listen(struct server *server, const char *address, unsigned int pages,
		  struct errmsg *err)
{
	struct listener *listener = &server->listeners[server->listener_count];
	struct evhttp_bound_socket *bound;
	ev_uint16_t port;
	char host[64];

	if (server->listener_count == LISTENERS_MAX)
		return fail_plain(err, -E2BIG, "%s: more than %d addresses", address,
				  LISTENERS_MAX);
	if (address_split(address, host, sizeof(host), &port) < 0)
		return fail_plain(err, -EINVAL, "%s: write it as 127.0.0.1:9879 or [::1]:9879",
				  address);
	*listener = (struct listener){ .server = server, .pages = pages };
	listener->http = evhttp_new(server->base);
	server->listener_count++;
	if (!listener->http)
		return fail(err, -ENOMEM, "%s", address);
	evhttp_set_allowed_methods(listener->http, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD);
	evhttp_set_max_headers_size(listener->http, HEAD_MAX);
	evhttp_set_max_body_size(listener->http, 0);
	evhttp_set_timeout(listener->http, IDLE_S);
	evhttp_set_gencb(listener->http, on_request, listener);
	bound = evhttp_bind_socket_with_handle(listener->http, host, port);
	if (!bound)
		return fail(err, -errno, "listen on %s", address);
	evconnlistener_set_error_cb(evhttp_bound_socket_get_listener(bound), on_accept_error);
	return 0;
}

/* ---- life ------------------------------------------------------------------------------------ */

struct server *server_new(struct event_base *base, const char *socket_path,
			  const struct checks *checks)
{
	struct server *server = xcalloc(1, sizeof(*server));

	server->base = base;
	server->socket_path = socket_path;
	server->checks = checks;
	for (size_t i = 0; i < ARRAY_SIZE(page_kinds); i++) {
		server->pages[i].kind = &page_kinds[i];
		STAILQ_INIT(&server->pages[i].waiting);
	}
	return server;
}

void server_free(struct server *server)
{
	if (!server)
		return;
	for (size_t i = 0; i < server->listener_count; i++) {
		if (server->listeners[i].http)
			evhttp_free(server->listeners[i].http);
	}
	for (size_t i = 0; i < ARRAY_SIZE(page_kinds); i++)
		free(server->pages[i].body);
	free(server);
}
