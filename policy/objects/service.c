/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/objects/service.h"

#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/arena.h"
#include "policy/objects/ports.h"

/* Which endpoints are used: the first kind of which there is one. */
enum readiness { READY, SERVING_WHILE_TERMINATING };

static bool endpoint_usable(const struct slice_endpoint *endpoint, bool publish_not_ready,
			    enum readiness wanted)
{
	if (wanted == READY)
		return publish_not_ready || endpoint->ready;
	return endpoint->serving && endpoint->terminating;
}

static const struct slice_port *slice_port_find(const struct endpoint_slice_object *slice,
						const struct service_port *port)
{
	for (size_t i = 0; i < slice->port_count; i++) {
		if (slice->ports[i].proto == port->proto && slice->ports[i].port != 0 &&
		    strcmp(slice->ports[i].name, port->name) == 0)
			return &slice->ports[i];
	}
	return NULL;
}

static void backends_add(struct service_frontend *frontend, size_t *capacity,
			 const struct slice_endpoint *endpoint, uint16_t port)
{
	for (size_t i = 0; i < endpoint->address_count; i++) {
		array_room(&frontend->backends, frontend->backend_count, capacity,
			   sizeof(*frontend->backends));
		frontend->backends[frontend->backend_count++] = (struct service_backend){
			.addr = endpoint->addresses[i],
			.port = port,
			.pod_namespace = endpoint->pod_namespace,
			.pod_name = endpoint->pod_name,
		};
	}
}

static int backend_compare(const void *a, const void *b)
{
	const struct service_backend *left = a;
	const struct service_backend *right = b;
	int order = addr_compare(&left->addr, &right->addr);

	if (order == 0)
		order = (left->port > right->port) - (left->port < right->port);
	/* Equal backends: one that names its pod comes first and stays. */
	return order ? order : (left->pod_name == NULL) - (right->pod_name == NULL);
}

static void backends_unique(struct service_frontend *frontend)
{
	size_t kept = 0;

	if (frontend->backend_count == 0)
		return;
	qsort(frontend->backends, frontend->backend_count, sizeof(*frontend->backends),
	      backend_compare);
	for (size_t i = 1; i < frontend->backend_count; i++) {
		if (addr_equal(&frontend->backends[kept].addr, &frontend->backends[i].addr) &&
		    frontend->backends[kept].port == frontend->backends[i].port)
			continue;
		frontend->backends[++kept] = frontend->backends[i];
	}
	frontend->backend_count = kept + 1;
}

static void frontend_collect(const struct object *const *slices, size_t count,
			     const struct service_object *service, const struct service_port *port,
			     enum readiness wanted, struct service_frontend *frontend)
{
	bool v6 = !addr_is_v4(&frontend->addr);
	size_t capacity = 0;

	for (size_t i = 0; i < count; i++) {
		const struct endpoint_slice_object *slice = &slices[i]->slice;
		const struct slice_port *target = slice_port_find(slice, port);

		if (slice->fqdn || slice->foreign || slice->v6 != v6 || !target)
			continue;
		for (size_t e = 0; e < slice->endpoint_count; e++) {
			if (endpoint_usable(&slice->endpoints[e], service->publish_not_ready,
					    wanted))
				backends_add(frontend, &capacity, &slice->endpoints[e],
					     target->port);
		}
	}
	backends_unique(frontend);
}

/* ---- pods by selector, where there is no slice ---- */

/* A pod or an endpoint of this node that a service may select. */
struct candidate {
	const struct labels *labels;
	const struct pod_object *pod; /* NULL: an endpoint without a Pod object, which is ready */
	const struct addr *addresses;
	size_t address_count;
	const char *namespace;
	const char *name;
};

static bool candidate_selected(const struct candidate *candidate,
			       const struct service_object *service)
{
	for (size_t i = 0; i < service->selector.count; i++) {
		const struct label *wanted = &service->selector.items[i];
		const char *value;

		if (!labels_get(candidate->labels, wanted->key, &value) ||
		    strcmp(value, wanted->value) != 0)
			return false;
	}
	return !candidate->pod || !candidate->pod->terminated;
}

static bool candidate_usable(const struct candidate *candidate, bool publish_not_ready,
			     enum readiness wanted)
{
	bool ready = !candidate->pod || candidate->pod->ready;
	bool deleting = candidate->pod && candidate->pod->deleting;

	if (wanted == READY)
		return publish_not_ready || (ready && !deleting);
	return ready && deleting;
}

static void candidate_add(const struct candidate *candidate, const struct service_object *service,
			  const struct service_port *port, enum readiness wanted,
			  struct service_frontend *frontend, size_t *capacity)
{
	uint16_t number = port->target_port;

	if (!candidate_selected(candidate, service) ||
	    !candidate_usable(candidate, service->publish_not_ready, wanted))
		return;
	if (port->target_name)
		number = candidate->pod ? named_port_find(candidate->pod->ports,
							  candidate->pod->port_count, port->proto,
							  port->target_name)
					: 0;
	for (size_t i = 0; i < candidate->address_count && number; i++) {
		const struct addr *addr = &candidate->addresses[i];

		if (addr_is_v4(addr) != addr_is_v4(&frontend->addr) || addr_is_special(addr))
			continue;
		array_room(&frontend->backends, frontend->backend_count, capacity,
			   sizeof(*frontend->backends));
		frontend->backends[frontend->backend_count++] =
			(struct service_backend){ *addr, number, candidate->namespace,
						  candidate->name };
		return; /* one of each family, as slices have */
	}
}

static void frontend_select(const struct store *store, const struct object *service,
			    const struct service_port *port, enum readiness wanted,
			    struct service_frontend *frontend)
{
	const struct store_endpoint *endpoints;
	const struct object *const *pods;
	size_t endpoint_count = store_endpoints(store, &endpoints);
	size_t pod_count = store_range(store, OBJECT_POD, service->namespace, &pods);
	size_t capacity = 0;

	for (size_t i = 0; i < endpoint_count; i++) {
		const struct store_endpoint *endpoint = &endpoints[i];
		const struct object *pod = store_endpoint_pod(store, endpoint);
		const struct candidate candidate = { pod ? &pod->pod.labels : &endpoint->labels,
						     pod ? &pod->pod : NULL,
						     endpoint->addresses,
						     endpoint->address_count,
						     endpoint->namespace,
						     endpoint->name };

		if (strcmp(endpoint->namespace, service->namespace) == 0)
			candidate_add(&candidate, &service->service, port, wanted, frontend,
				      &capacity);
	}
	for (size_t i = 0; i < pod_count; i++) {
		const struct pod_object *pod = &pods[i]->pod;
		const struct candidate candidate = { &pod->labels,       pod,
						     pod->addresses,     pod->address_count,
						     pods[i]->namespace, pods[i]->name };

		if (!store_pod_is_endpoint(store,
					   pods[i])) /* the addresses of an endpoint are newer */
			candidate_add(&candidate, &service->service, port, wanted, frontend,
				      &capacity);
	}
	backends_unique(frontend);
}

/* ---- frontends ---- */

struct service_frontends service_frontends(const struct store *store, const struct object *service)
{
	const struct service_object *spec = &service->service;
	const struct object *const *slices;
	size_t count = store_slices(store, service->namespace, service->name, &slices);
	bool selecting = store_is_selecting(store, service);
	struct service_frontends frontends = { 0 };

	if (spec->foreign)
		return frontends;
	frontends.count = spec->cluster_ip_count * spec->port_count;
	frontends.items = xcalloc(frontends.count, sizeof(*frontends.items));
	for (size_t i = 0; i < frontends.count; i++) {
		const struct service_port *port = &spec->ports[i % spec->port_count];
		struct service_frontend *frontend = &frontends.items[i];

		frontend->addr = spec->cluster_ips[i / spec->port_count];
		frontend->port = port->port;
		frontend->proto = port->proto;
		frontend->port_name = port->name;
		for (size_t r = READY; r <= SERVING_WHILE_TERMINATING; r++) {
			if (frontend->backend_count > 0)
				break;
			if (selecting)
				frontend_select(store, service, port, (enum readiness)r, frontend);
			else
				frontend_collect(slices, count, spec, port, (enum readiness)r,
						 frontend);
		}
	}
	return frontends;
}

void service_frontends_done(struct service_frontends *frontends)
{
	for (size_t i = 0; i < frontends->count; i++)
		free(frontends->items[i].backends);
	free(frontends->items);
	*frontends = (struct service_frontends){ 0 };
}
