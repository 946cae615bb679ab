/* SPDX-License-Identifier: Apache-2.0 */
/* Services of a store -> frontends and their backends: from EndpointSlices, or, for a Service that
 * no slice names, from the pods that its selector matches. */
#ifndef TENDRIL_POLICY_OBJECTS_SERVICE_H
#define TENDRIL_POLICY_OBJECTS_SERVICE_H

#include "policy/objects/store.h"

struct service_backend {
	struct addr addr;
	uint16_t port;             /* host order */
	const char *pod_namespace; /* borrowed from the slice, or NULL */
	const char *pod_name;
};

struct service_frontend {
	struct addr addr;
	uint16_t port; /* host order */
	uint8_t proto;
	const char *port_name; /* borrowed from the service */
	struct service_backend
		*backends; /* of the frontend's family; sorted by (addr, port), unique */
	size_t backend_count;
};

struct service_frontends {
	struct service_frontend *items;
	size_t count;
};

/* Every (clusterIP, port, protocol) of one service with the backends to use now: the ready ones,
 * or, if none is ready, those that still serve while they terminate.  publishNotReadyAddresses
 * makes all ready.  Headless, ExternalName and foreign services have no frontends. */
struct service_frontends service_frontends(const struct store *store, const struct object *service);
void service_frontends_done(struct service_frontends *frontends);

#endif
