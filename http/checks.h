/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What load balancers ask a node: whether a service with externalTrafficPolicy Local has endpoints
 * here (healthCheckNodePort), and whether the node takes traffic at all (kube-proxy's /healthz and
 * /livez).  Answers are kube-proxy's.
 */
#ifndef TENDRIL_HTTP_CHECKS_H
#define TENDRIL_HTTP_CHECKS_H

#include <stdbool.h>

struct checks;
struct evhttp_request;
struct event_base;

/* Asks the agent each second, listens on the ports that it names.  socket_path is borrowed. */
struct checks *checks_new(struct event_base *base, const char *socket_path);
void checks_free(struct checks *checks);

/* Answers /healthz and /livez of the service proxy; false: another path. */
bool checks_proxy_page(const struct checks *checks, struct evhttp_request *request,
		       const char *path);

#endif
