/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Serves one small page to whoever asks, on many ports that come and go.  Anybody may reach these
 * ports, so connections are few and short: each has one request and CHECK_SECONDS, and if there are
 * CHECK_CONNECTIONS_MAX, the oldest ends for a new one.  That leaves descriptors for all else.
 */
#ifndef TENDRIL_HTTP_CHECK_SERVER_H
#define TENDRIL_HTTP_CHECK_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/addr.h"

#define CHECK_CONNECTIONS_MAX 128
#define CHECK_SECONDS         5

struct check_server;
struct check_port;
struct event_base;

struct check_page {
	bool found; /* false: 404 without a body */
	bool ok;    /* 200, else 503 */
	unsigned int weight;
	char body[1024]; /* JSON */
};

/* Fills the page for a request that came to this port (host order), by IPv6 or IPv4. */
typedef void (*check_answer)(uint16_t port, bool v6, struct check_page *ret, void *arg);

struct check_server *check_server_new(struct event_base *base, check_answer answer, void *arg);
/* Ends all connections; the ports must have been closed. */
void check_server_free(struct check_server *server);

/* Listens on this address; all zero: on all of the node, of both families if it has both.  Negative
 * errno. */
int check_port_open(struct check_server *server, const struct addr *addr, uint16_t port,
		    struct check_port **ret_port);
void check_port_close(struct check_port *port); /* takes NULL */

#endif
