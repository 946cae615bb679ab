/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/objects/service.h"

#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/arena.h"
#include "lib/auto.h"
#include "policy/objects/maglev.h"
#include "policy/objects/ports.h"

/* ---- the node ---- */

static const struct object *node_find(const struct store *store, const struct addr *addresses,
				      size_t count)
{
	for (const struct object *node = store_first(store, OBJECT_NODE); node;
	     node = store_next(store, node)) {
		for (size_t i = 0; i < node->node.address_count; i++) {
			for (size_t k = 0; k < count; k++) {
				if (addr_equal(&node->node.addresses[i], &addresses[k]))
					return node;
			}
		}
	}
	return NULL;
}

static void node_address_add(struct service_node *node, const struct service_settings *settings,
			     const struct addr *addr)
{
	const struct prefix_set *prefixes = &settings->node_port_addresses;
	bool wanted = !prefixes->count;

	for (size_t i = 0; i < prefixes->count && !wanted; i++)
		wanted = prefix_contains(&prefixes->items[i], addr);
	if (wanted)
		node->addresses[node->address_count++] = *addr;
}

void service_node_init(struct service_node *node, const struct store *store,
		       const struct service_settings *settings)
{
	static const char *const loopback[] = { "127.0.0.1", "::1" };
	const struct addr *addresses;
	size_t count = store_host_addresses(store, &addresses);
	const struct object *object = node_find(store, addresses, count);
	const char *zone;

	*node = (struct service_node){ .external_ips = settings->external_ips,
				       .maglev = settings->maglev,
				       .dsr = settings->dsr };
	node->addresses = xcalloc(count + ARRAY_SIZE(loopback), sizeof(*node->addresses));
	for (size_t i = 0; i < count; i++)
		node_address_add(node, settings, &addresses[i]);
	for (size_t i = 0; i < ARRAY_SIZE(loopback); i++) {
		struct addr addr;

		addr_parse(loopback[i], &addr);
		node_address_add(node, settings, &addr);
	}
	if (!object)
		return;
	node->name = xstrdup(object->name);
	if (labels_get(&object->node.labels, "topology.kubernetes.io/zone", &zone))
		node->zone = xstrdup(zone);
}

void service_node_done(struct service_node *node)
{
	free(node->name);
	free(node->zone);
	free(node->addresses);
	*node = (struct service_node){ 0 };
}

static bool text_equal(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

bool service_node_equal(const struct service_node *a, const struct service_node *b)
{
	return text_equal(a->name, b->name) && text_equal(a->zone, b->zone) &&
	       a->external_ips == b->external_ips && a->maglev == b->maglev && a->dsr == b->dsr &&
	       a->address_count == b->address_count &&
	       (!a->address_count ||
		memcmp(a->addresses, b->addresses, a->address_count * sizeof(*a->addresses)) == 0);
}

/* ---- endpoints ---- */

/* What a pool is made from. */
struct gathering {
	const struct store *store;
	const struct service_object *service;
	const struct service_node *node; /* or NULL */
	struct service_pool *pool;
	size_t room;
};

static void backend_add(struct gathering *gathering, const struct service_backend *backend)
{
	struct service_pool *pool = gathering->pool;

	array_room(&pool->backends, pool->backend_count, &gathering->room, sizeof(*pool->backends));
	pool->backends[pool->backend_count++] = *backend;
}

static bool is_for_outside(const struct service_object *service)
{
	return service->type == TYPE_NODE_PORT || service->type == TYPE_LOAD_BALANCER ||
	       service->external_ip_count;
}

/* Whether an address is this node's or of one of its pods. */
static bool addr_is_here(const struct store *store, const struct addr *addr)
{
	const struct store_endpoint *endpoints;
	const struct addr *hosts;
	size_t count = store_endpoints(store, &endpoints);

	for (size_t i = 0; i < count; i++) {
		for (size_t k = 0; k < endpoints[i].address_count; k++) {
			if (addr_equal(&endpoints[i].addresses[k], addr))
				return true;
		}
	}
	count = store_host_addresses(store, &hosts);
	for (size_t i = 0; i < count; i++) {
		if (addr_equal(&hosts[i], addr))
			return true;
	}
	return false;
}

/* Whether it matters which endpoints are on this node. */
static bool local_is_asked(const struct service_object *service, const struct service_node *node)
{
	return service->internal_local || service->external_local ||
	       (node && node->dsr && is_for_outside(service));
}

/* By the name of its node; on a node without a Node object, by its address. */
static bool endpoint_is_local(const struct gathering *gathering,
			      const struct slice_endpoint *endpoint)
{
	const struct service_node *node = gathering->node;

	if (!node)
		return false;
	/* For direct server return other nodes go by the address. */
	if (node->name && (endpoint->node_name || !node->dsr))
		return endpoint->node_name && strcmp(endpoint->node_name, node->name) == 0;
	return local_is_asked(gathering->service, node) &&
	       addr_is_here(gathering->store, &endpoint->addr);
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

static void slices_gather(struct gathering *gathering, const struct object *const *slices,
			  size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct endpoint_slice_object *slice = &slices[i]->slice;
		const struct slice_port *target = slice_port_find(slice, gathering->pool->port);

		if (slice->fqdn || slice->foreign || slice->v6 != gathering->pool->v6 || !target)
			continue;
		for (size_t e = 0; e < slice->endpoint_count; e++) {
			const struct slice_endpoint *endpoint = &slice->endpoints[e];

			backend_add(gathering,
				    &(struct service_backend){
					    .addr = endpoint->addr,
					    .port = target->port,
					    .ready = endpoint->ready ||
						     gathering->service->publish_not_ready,
					    .serving = endpoint->serving,
					    .terminating = endpoint->terminating,
					    .local = endpoint_is_local(gathering, endpoint),
					    .pod_namespace = endpoint->pod_namespace,
					    .pod_name = endpoint->pod_name,
					    .node_name = endpoint->node_name,
					    .zone = endpoint->zone,
					    .hints = endpoint->hints,
				    });
		}
	}
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
	bool local;
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

static void candidate_add(struct gathering *gathering, const struct candidate *candidate)
{
	const struct service_port *port = gathering->pool->port;
	const struct pod_object *pod = candidate->pod;
	bool deleting = pod && pod->deleting, ready = !pod || pod->ready;
	uint16_t number = port->target_port;

	if (!candidate_selected(candidate, gathering->service))
		return;
	if (port->target_name)
		number = pod ? named_port_find(pod->ports, pod->port_count, port->proto,
					       port->target_name)
			     : 0;
	for (size_t i = 0; i < candidate->address_count && number; i++) {
		const struct addr *addr = &candidate->addresses[i];

		if (addr_is_v4(addr) == gathering->pool->v6 || addr_is_special(addr))
			continue;
		backend_add(gathering, &(struct service_backend){
					       .addr = *addr,
					       .port = number,
					       .ready = gathering->service->publish_not_ready ||
							(ready && !deleting),
					       .serving = ready,
					       .terminating = deleting,
					       .local = candidate->local,
					       .pod_namespace = candidate->namespace,
					       .pod_name = candidate->name,
					       .node_name = pod ? pod->node_name : NULL,
				       });
		return; /* one of each family, as slices have */
	}
}

static void pods_gather(struct gathering *gathering, const char *namespace)
{
	const struct store *store = gathering->store;
	const struct store_endpoint *endpoints;
	const struct object *const *pods;
	size_t endpoint_count = store_endpoints(store, &endpoints);
	size_t pod_count = store_range(store, OBJECT_POD, namespace, &pods);

	for (size_t i = 0; i < endpoint_count; i++) {
		const struct store_endpoint *endpoint = &endpoints[i];
		const struct object *pod = store_endpoint_pod(store, endpoint);

		if (strcmp(endpoint->namespace, namespace) == 0)
			candidate_add(gathering,
				      &(struct candidate){
					      .labels = pod ? &pod->pod.labels : &endpoint->labels,
					      .pod = pod ? &pod->pod : NULL,
					      .addresses = endpoint->addresses,
					      .address_count = endpoint->address_count,
					      .namespace = endpoint->namespace,
					      .name = endpoint->name,
					      .local = true,
				      });
	}
	for (size_t i = 0; i < pod_count; i++) {
		const struct pod_object *pod = &pods[i]->pod;

		if (!store_pod_is_endpoint(store,
					   pods[i])) /* the addresses of an endpoint are newer */
			candidate_add(gathering, &(struct candidate){
							 .labels = &pod->labels,
							 .pod = pod,
							 .addresses = pod->addresses,
							 .address_count = pod->address_count,
							 .namespace = pods[i]->namespace,
							 .name = pods[i]->name,
						 });
	}
}

/* Of equal backends the first stays: one that is ready, else serves, and names its pod. */
static int backend_compare(const void *a, const void *b)
{
	const struct service_backend *left = a;
	const struct service_backend *right = b;
	int order = addr_compare(&left->addr, &right->addr);

	if (order == 0)
		order = (left->port > right->port) - (left->port < right->port);
	if (order == 0)
		order = right->ready - left->ready;
	if (order == 0)
		order = right->serving - left->serving;
	return order ? order : (left->pod_name == NULL) - (right->pod_name == NULL);
}

static void backends_unique(struct service_pool *pool)
{
	size_t kept = 0;

	if (pool->backend_count == 0)
		return;
	qsort(pool->backends, pool->backend_count, sizeof(*pool->backends), backend_compare);
	for (size_t i = 1; i < pool->backend_count; i++) {
		if (addr_equal(&pool->backends[kept].addr, &pool->backends[i].addr) &&
		    pool->backends[kept].port == pool->backends[i].port)
			continue;
		pool->backends[++kept] = pool->backends[i];
	}
	pool->backend_count = kept + 1;
}

/* ---- which of them are used ---- */

static bool names_have(char *const *names, size_t count, const char *name)
{
	for (size_t i = 0; i < count && name; i++) {
		if (strcmp(names[i], name) == 0)
			return true;
	}
	return false;
}

static bool backend_is_for(const struct service_backend *backend, const struct service_node *node,
			   enum hints_used hints)
{
	if (hints == HINTS_NODE)
		return names_have(backend->hints->nodes, backend->hints->node_count, node->name);
	return hints == HINTS_NONE ||
	       names_have(backend->hints->zones, backend->hints->zone_count, node->zone);
}

/* Hints count if every ready endpoint has them, and one is for us. */
static enum hints_used hints_find(const struct service_pool *pool, const struct service_node *node)
{
	bool all[] = { [HINTS_NODE] = true, [HINTS_ZONE] = true };
	bool ours[] = { [HINTS_NODE] = false, [HINTS_ZONE] = false };

	for (size_t i = 0; i < pool->backend_count && node; i++) {
		const struct service_backend *backend = &pool->backends[i];
		const struct endpoint_hints *hints = backend->hints;

		if (!backend->ready)
			continue;
		if (!hints)
			return HINTS_NONE;
		all[HINTS_NODE] &= hints->node_count > 0;
		all[HINTS_ZONE] &= hints->zone_count > 0;
		ours[HINTS_NODE] |= backend_is_for(backend, node, HINTS_NODE);
		ours[HINTS_ZONE] |= backend_is_for(backend, node, HINTS_ZONE);
	}
	if (all[HINTS_NODE] && ours[HINTS_NODE])
		return HINTS_NODE;
	return all[HINTS_ZONE] && ours[HINTS_ZONE] ? HINTS_ZONE : HINTS_NONE;
}

/* Gives those a use that are ready, and of them those for whom hints speak; or, if there is none,
 * those that serve while they terminate. */
static size_t backends_use(struct service_pool *pool, const struct service_node *node,
			   enum backend_use use, enum hints_used hints)
{
	size_t count = 0;

	for (size_t i = 0; i < pool->backend_count; i++) {
		struct service_backend *backend = &pool->backends[i];

		if (!backend->ready || (use == USE_LOCAL && !backend->local) ||
		    !backend_is_for(backend, node, hints))
			continue;
		backend->use |= use;
		count++;
	}
	if (count)
		return count;
	for (size_t i = 0; i < pool->backend_count; i++) {
		struct service_backend *backend = &pool->backends[i];

		if (!backend->serving || !backend->terminating ||
		    (use == USE_LOCAL && !backend->local))
			continue;
		backend->use |= use;
		count++;
	}
	return count;
}

/* Whether the service has a Maglev table: it is for clients outside. */
static bool table_is_wanted(const struct service_object *service, const struct service_node *node)
{
	return is_for_outside(service) &&
	       (service->algorithm == LB_MAGLEV ||
		(service->algorithm == LB_DEFAULT && node && node->maglev));
}

static void pool_decide(struct service_pool *pool, const struct service_object *service,
			const struct service_node *node)
{
	pool->hints = hints_find(pool, node);
	pool->cluster_count = backends_use(pool, node, USE_CLUSTER, pool->hints);
	if (table_is_wanted(service, node))
		pool->table_size = maglev_size(pool->cluster_count);
	if (local_is_asked(service, node))
		pool->local_count = backends_use(pool, node, USE_LOCAL, HINTS_NONE);
	for (size_t i = 0; i < pool->backend_count; i++) {
		struct service_backend *backend = &pool->backends[i];

		if (backend->use & USE_CLUSTER || !(backend->ready || backend->serving))
			continue;
		backend->use |= USE_KEEP;
		pool->keep_count++;
	}
}

/* ---- frontends ---- */

struct frontend_list {
	struct service_frontends *frontends;
	size_t room;
	const struct service_pool *pool;
};

static void frontend_add(struct frontend_list *list, const struct addr *addr, uint16_t port,
			 enum service_kind kind)
{
	struct service_frontends *frontends = list->frontends;

	if (addr_is_v4(addr) == list->pool->v6)
		return;
	array_room(&frontends->items, frontends->count, &list->room, sizeof(*frontends->items));
	frontends->items[frontends->count++] = (struct service_frontend){
		.addr = *addr,
		.port = port,
		.proto = list->pool->port->proto,
		.kind = kind,
		.pool = list->pool,
	};
}

static bool addresses_have(const struct addr *addresses, size_t count, const struct addr *addr)
{
	for (size_t i = 0; i < count; i++) {
		if (addr_equal(&addresses[i], addr))
			return true;
	}
	return false;
}

static void frontends_add(struct frontend_list *list, const struct service_object *service,
			  const struct service_node *node)
{
	const struct service_port *port = list->pool->port;

	for (size_t i = 0; i < service->cluster_ip_count; i++)
		frontend_add(list, &service->cluster_ips[i], port->port, CLUSTER_IP);
	for (size_t i = 0; i < service->balancer_ip_count; i++)
		frontend_add(list, &service->balancer_ips[i], port->port, LOAD_BALANCER);
	if (!node)
		return;
	for (size_t i = 0; i < service->external_ip_count && node->external_ips; i++) {
		if (!addresses_have(service->balancer_ips, service->balancer_ip_count,
				    &service->external_ips[i]))
			frontend_add(list, &service->external_ips[i], port->port, EXTERNAL_IP);
	}
	if (service->type != TYPE_NODE_PORT && service->type != TYPE_LOAD_BALANCER)
		return;
	for (size_t i = 0; i < node->address_count && port->node_port; i++)
		frontend_add(list, &node->addresses[i], port->node_port, NODE_PORT);
}

struct service_frontends service_frontends(const struct store *store, const struct object *service,
					   const struct service_node *node)
{
	const struct service_object *spec = &service->service;
	const struct object *const *slices;
	size_t count = store_slices(store, service->namespace, service->name, &slices);
	bool selecting = store_is_selecting(store, service);
	struct service_frontends frontends = { 0 };
	struct frontend_list list = { .frontends = &frontends };

	if (spec->foreign)
		return frontends;
	frontends.pool_count = spec->cluster_ip_count * spec->port_count;
	frontends.pools = xcalloc(frontends.pool_count, sizeof(*frontends.pools));
	for (size_t i = 0; i < frontends.pool_count; i++) {
		struct service_pool *pool = &frontends.pools[i];
		struct gathering gathering = { store, spec, node, pool, 0 };

		pool->port = &spec->ports[i % spec->port_count];
		pool->v6 = !addr_is_v4(&spec->cluster_ips[i / spec->port_count]);
		if (selecting)
			pods_gather(&gathering, service->namespace);
		else
			slices_gather(&gathering, slices, count);
		backends_unique(pool);
		pool_decide(pool, spec, node);
		list.pool = pool;
		frontends_add(&list, spec, node);
	}
	return frontends;
}

void service_frontends_done(struct service_frontends *frontends)
{
	for (size_t i = 0; i < frontends->pool_count; i++)
		free(frontends->pools[i].backends);
	for (size_t i = 0; i < frontends->own_port_count; i++)
		free(frontends->own_ports[i].name);
	free(frontends->own_ports);
	free(frontends->pools);
	free(frontends->items);
	*frontends = (struct service_frontends){ 0 };
}
