/* SPDX-License-Identifier: Apache-2.0 */
/* Serves probes and metrics over TCP. */
#ifndef TENDRIL_HTTP_SERVER_H
#define TENDRIL_HTTP_SERVER_H

#include "lib/errmsg.h"

struct checks;
struct event_base;
struct server;

/* SERVER_PROXY: what load balancers ask about the node, see checks.h. */
enum server_pages { SERVER_HEALTH = 1 << 0, SERVER_METRICS = 1 << 1, SERVER_PROXY = 1 << 2 };

/* socket_path: of the agent; borrowed, as checks. */
struct server *server_new(struct event_base *base, const char *socket_path,
			  const struct checks *checks);
/* Serves pages at "HOST:PORT" or "[HOST]:PORT".  -EINVAL: no such address; -EADDRINUSE. */
int server_listen(struct server *server, const char *address, unsigned int pages,
		  struct errmsg *err);
void server_free(struct server *server);

#endif
