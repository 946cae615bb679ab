/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/objects/host_port.h"

#include <stdlib.h>

#include "lib/alloc.h"
#include "lib/arena.h"
#include "lib/auto.h"

struct gathering {
	const struct store_endpoint *endpoint;
	const struct host_port *ports[2 * HOST_PORTS_MAX];
	size_t count;
};

static bool host_port_equal(const struct host_port *a, const struct host_port *b)
{
	return addr_equal(&a->host_ip, &b->host_ip) && a->host_port == b->host_port &&
	       a->port == b->port && a->proto == b->proto;
}

/* On Kubernetes the runtime repeats what the Pod says. */
static void ports_gather(struct gathering *gathering, const struct host_port *ports, size_t count)
{
	for (size_t i = 0; i < count && gathering->count < ARRAY_SIZE(gathering->ports); i++) {
		bool known = false;

		for (size_t k = 0; k < gathering->count && !known; k++)
			known = host_port_equal(gathering->ports[k], &ports[i]);
		if (!known)
			gathering->ports[gathering->count++] = &ports[i];
	}
}

static void frontend_add(struct service_frontends *frontends, size_t *room,
			 const struct service_pool *pool, const struct addr *addr)
{
	array_room(&frontends->items, frontends->count, room, sizeof(*frontends->items));
	frontends->items[frontends->count++] = (struct service_frontend){
		.addr = *addr,
		.port = pool->port->port,
		.proto = pool->port->proto,
		.kind = HOST_PORT,
		.pool = pool,
	};
}

/* At the node's own addresses alone: nobody may take another's. */
static void frontends_add(struct service_frontends *frontends, size_t *room,
			  const struct service_pool *pool, const struct host_port *port,
			  const struct store *store)
{
	static const char *const loopback[] = { "127.0.0.1", "::1" };
	bool any = addr_is_zero(&port->host_ip);
	const struct addr *hosts;
	size_t count = store_host_addresses(store, &hosts);

	for (size_t i = 0; i < count + ARRAY_SIZE(loopback); i++) {
		struct addr addr;

		if (i < count)
			addr = hosts[i];
		else
			addr_parse(loopback[i - count], &addr);
		if (addr_is_v4(&addr) != pool->v6 && (any || addr_equal(&addr, &port->host_ip)))
			frontend_add(frontends, room, pool, &addr);
	}
}

static char *port_name(const struct store_endpoint *endpoint, const struct host_port *port)
{
	char text[600], ip[ADDR_TEXT_MAX];

	snprintf(text, sizeof(text), "%s/%s:%s:%u", endpoint->namespace, endpoint->name,
		 addr_format(&port->host_ip, ip), port->host_port);
	return xstrdup(text);
}

static void pool_fill(struct service_pool *pool, const struct store_endpoint *endpoint,
		      const struct addr *addr, uint16_t port)
{
	pool->v6 = !addr_is_v4(addr);
	pool->backends = xcalloc(1, sizeof(*pool->backends));
	pool->backends[0] = (struct service_backend){
		.addr = *addr,
		.port = port,
		.ready = true,
		.serving = true,
		.local = true,
		.use = USE_CLUSTER,
		.pod_namespace = endpoint->namespace,
		.pod_name = endpoint->name,
	};
	pool->backend_count = pool->cluster_count = 1;
}

struct service_frontends host_port_frontends(const struct store *store,
					     const struct store_endpoint *endpoint)
{
	const struct object *pod = store_endpoint_pod(store, endpoint);
	struct gathering gathering = { .endpoint = endpoint };
	struct service_frontends frontends = { 0 };
	size_t room = 0, next = 0;

	if (pod && pod->pod.terminated)
		return frontends;
	ports_gather(&gathering, endpoint->host_ports, endpoint->host_port_count);
	if (pod)
		ports_gather(&gathering, pod->pod.host_ports, pod->pod.host_port_count);
	if (!gathering.count)
		return frontends;
	frontends.pools =
		xcalloc(gathering.count * endpoint->address_count, sizeof(*frontends.pools));
	frontends.own_ports = xcalloc(gathering.count, sizeof(*frontends.own_ports));
	frontends.own_port_count = gathering.count;
	for (size_t i = 0; i < gathering.count; i++) {
		const struct host_port *port = gathering.ports[i];

		frontends.own_ports[i] = (struct service_port){
			.name = port_name(endpoint, port),
			.port = port->host_port,
			.proto = port->proto,
		};
		for (size_t k = 0; k < endpoint->address_count; k++) {
			struct service_pool *pool = &frontends.pools[next++];

			pool->port = &frontends.own_ports[i];
			pool_fill(pool, endpoint, &endpoint->addresses[k], port->port);
			frontends_add(&frontends, &room, pool, port, store);
		}
	}
	frontends.pool_count = next;
	return frontends;
}
