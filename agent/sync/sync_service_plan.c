/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which addresses of a service lead where.  All addresses that lead to one port of a service, in
 * one family, share an id, under which sync_backend.c keeps the endpoints.  The id stays, across
 * restarts too.  Who holds an address and port keeps it as long as its Service asks for it.
 */
#include <arpa/inet.h>
#include <string.h>

#include "agent/sync/service_run.h"
#include "lib/arena.h"
#include "lib/task.h"
#include "policy/objects/host_port.h"

#define SOURCE_TEXT 540 /* "Service namespace/name" */

/* ---- names, keys, ids ------------------------------------------------------------------------ */

static uint32_t port_make(const struct service_pool *pool)
{
	char text[80];
	int len = snprintf(text, sizeof(text), "%s/%u/%d", pool->port->name, pool->port->proto,
			   pool->v6);

	return (uint32_t)table_hash(text,
				    (size_t)len < sizeof(text) ? (size_t)len : sizeof(text) - 1);
}

static struct service_key service_key_make(const struct service_frontend *frontend)
{
	return (struct service_key){
		.addr = frontend->addr,
		.port = htons(frontend->port),
		.proto = frontend->proto,
	};
}

static uint32_t service_id_new(struct sync *sync)
{
	do
		sync->last_service_id++;
	while (sync->last_service_id == 0 || table_find(&sync->pools, &sync->last_service_id));
	return sync->last_service_id;
}

uint64_t service_owner(const char *namespace, const char *name)
{
	char text[512];
	int len = snprintf(text, sizeof(text), "%s/%s", namespace, name);

	return table_hash(text, (size_t)len < sizeof(text) ? (size_t)len : sizeof(text) - 1);
}

/* ---- conflicts ------------------------------------------------------------------------------- */

/* Whose frontends are planned. */
struct plan_source {
	uint64_t owner;
	const char *text; /* "Service shop/web" */
	const struct service_object *service;
	struct service_conflict told; /* text: NULL until one conflict was told */
};

static struct plan_source source_of(const struct object *service, char *buf, size_t size)
{
	snprintf(buf, size, "Service %s/%s", service->namespace, service->name);
	return (struct plan_source){ .owner = service_owner(service->namespace, service->name),
				     .text = buf,
				     .service = &service->service,
				     .told = { .kind = "Service",
					       .namespace = service->namespace,
					       .name = service->name,
					       .uid = service->uid } };
}

/* holder: what has the address and port; NULL: the address is no service's to have.  The first of
 * a Service or Pod is told: one that wants a node port wants it at several addresses. */
static int conflict_note(struct sync *sync, struct plan_source *source,
			 const struct service_key *key, const char *holder)
{
	struct service_shortage *shortage = shortage_of(sync, source->owner);
	char text[ADDR_TEXT_MAX];

	shortage->conflicts++;
	addr_format(&key->addr, text);
	if (holder)
		snprintf(sync->service_conflict, sizeof(sync->service_conflict),
			 "%s: %s port %u/%s belongs to %s", source->text, text, ntohs(key->port),
			 proto_name(key->proto), holder);
	else
		snprintf(sync->service_conflict, sizeof(sync->service_conflict),
			 "%s: its address %s belongs to a pod or a node", source->text, text);
	if (!source->told.text && sync->conflict) {
		source->told.text = sync->service_conflict;
		sync->conflict(&source->told, sync->conflict_arg);
	}
	return 0;
}

/* Whether an address is a pod's, or the node's where that is no place for this kind of frontend:
 * clouds and node balancers give a load balancer the address of a node. */
static bool address_is_taken(const struct sync *sync, const struct addr *addr, uint8_t kind)
{
	const struct ipcache_entry *entry = map_cache_get(&sync->ipcache, addr);

	if (!entry || entry->flags & IPCACHE_SERVICE)
		return false;
	return !(entry->flags & IPCACHE_HOST) || kind == CLUSTER_IP || kind == EXTERNAL_IP;
}

/* Whether the Service asks for this frontend. */
static bool service_asks(const struct sync *sync, const struct object *service,
			 const struct service_key *key)
{
	struct service_frontends frontends = service_frontends(sync->store, service, &sync->node);
	bool asks = false;

	for (size_t i = 0; i < frontends.count && !asks; i++) {
		struct service_key own = service_key_make(&frontends.items[i]);

		asks = memcmp(&own, key, sizeof(own)) == 0;
	}
	service_frontends_done(&frontends);
	return asks;
}

/* The Service that has a frontend and still asks for it. */
static const struct object *frontend_holder(const struct sync *sync, uint64_t owner,
					    const struct service_key *key)
{
	for (const struct object *service = store_first(sync->store, OBJECT_SERVICE); service;
	     service = store_next(sync->store, service)) {
		if (service_owner(service->namespace, service->name) == owner)
			return service_asks(sync, service, key) ? service : NULL;
	}
	return NULL;
}

/* The other Service that keeps a frontend, or was planned first in this run.  NULL: there is none.
 */
static const struct object *frontend_rival(struct service_run *run, uint64_t owner,
					   const struct pool_state *held,
					   const struct service_key *key)
{
	const struct object *holder = NULL;
	uint64_t *planned;

	if (held && held->owner == owner)
		return NULL;
	if (held && held->owner)
		holder = frontend_holder(run->sync, held->owner, key);
	if (holder)
		return holder;
	planned = table_put(&run->planned, key);
	if (*planned && *planned != owner)
		return frontend_holder(run->sync, *planned, key);
	*planned = owner;
	return NULL;
}

bool sync_takes_port(const struct sync *sync, const struct service_key *key, uint64_t *ret_owner)
{
	const struct service *service = map_cache_get(&sync->services, key);
	const struct pool_state *state;

	if (!service || service->kind == CLUSTER_IP)
		return false;
	state = table_find(&sync->pools, &service->id);
	if (!state)
		return false;
	*ret_owner = state->owner;
	return true;
}

void sync_owners_name(const struct sync *sync, struct service_owner *owners, size_t count)
{
	const struct object *const *services;

	for (size_t k = 0; k < count; k++)
		snprintf(owners[k].name, sizeof(owners[k].name), "%s",
			 owners[k].id == host_ports_owner() ? "a host port" : "");
	for (size_t i = 0; i < store_objects(sync->store, OBJECT_SERVICE, &services); i++) {
		uint64_t id = service_owner(services[i]->namespace, services[i]->name);

		for (size_t k = 0; k < count; k++) {
			if (owners[k].id == id)
				source_of(services[i], owners[k].name, sizeof(owners[k].name));
		}
		task_pause();
	}
}

/* ---- planning -------------------------------------------------------------------------------- */

static uint8_t flags_make(const struct service_object *service, const struct service_pool *pool,
			  enum service_kind kind)
{
	uint8_t flags = 0;

	if (service_is_local(service, kind))
		flags |= SERVICE_LOCAL;
	if (pool->cluster_count || pool->local_count)
		flags |= SERVICE_HAS_ENDPOINTS;
	if (kind == LOAD_BALANCER && service->source_range_count)
		flags |= SERVICE_SOURCE_RANGES;
	return flags;
}

/* Programs look for frontends at the node's own addresses in a range of ports alone. */
static void node_port_note(struct service_run *run, const struct service_frontend *frontend)
{
	const struct ipcache_entry *entry = map_cache_get(&run->sync->ipcache, &frontend->addr);

	if (kind_has_address((uint8_t)frontend->kind) && !(entry && entry->flags & IPCACHE_HOST))
		return;
	if (!run->port_min || frontend->port < run->port_min)
		run->port_min = frontend->port;
	if (frontend->port > run->port_max)
		run->port_max = frontend->port;
}

/* Queues a frontend, unless it is somebody else's. */
static int frontend_plan(struct service_run *run, struct plan_source *source,
			 const struct service_frontend *frontend)
{
	struct sync *sync = run->sync;
	struct service_key key = service_key_make(frontend);
	const struct service *held = map_cache_get(&sync->services, &key);
	const struct pool_state *state = held ? table_find(&sync->pools, &held->id) : NULL;
	struct frontend_plan plan = {
		.key = key,
		.affinity_s = source->service->affinity_s,
		.held_id = held ? held->id : 0,
		.held_kind = held ? held->kind : 0,
		.kind = (uint8_t)frontend->kind,
		.flags = flags_make(source->service, frontend->pool, frontend->kind),
	};
	const struct object *rival;
	char text[SOURCE_TEXT];

	if (address_is_taken(sync, &key.addr, plan.kind))
		return conflict_note(sync, source, &key, NULL);
	rival = frontend_rival(run, source->owner, state, &key);
	if (rival) {
		source_of(rival, text, sizeof(text));
		return conflict_note(sync, source, &key, text);
	}
	node_port_note(run, frontend);
	run->outside |= frontend->kind != CLUSTER_IP;
	array_room(&run->frontends, run->frontend_count, &run->frontend_room,
		   sizeof(*run->frontends));
	run->frontends[run->frontend_count++] = plan;
	return 0;
}

/* The id that the pool has: that of one of its frontends, unless it is another pool's. */
static uint32_t pool_id(struct service_run *run, const struct pool_plan *plan)
{
	size_t first = run->frontend_count - plan->frontend_count;
	struct sync *sync = run->sync;

	for (size_t i = first; i < run->frontend_count; i++) {
		uint32_t id = run->frontends[i].held_id;
		struct pool_state *state = id ? table_find(&sync->pools, &id) : NULL;

		if (!state)
			continue;
		if (!state->owner) { /* from before this agent */
			state->owner = plan->owner;
			state->port = plan->port;
			owner_count(sync, state->owner, (int)state->frontends);
		}
		if (state->owner == plan->owner && state->port == plan->port)
			return id;
	}
	return service_id_new(sync);
}

/* Queues the ranges of clients that a pool of this family admits. */
static void ranges_plan(struct sync *sync, const struct service_object *service, uint32_t id,
			bool v6)
{
	const uint8_t one = 1;

	for (size_t i = 0; i < service->source_range_count; i++) {
		const struct prefix *range = &service->source_ranges[i];
		const struct source_range_key key = { .prefixlen = 32u + range->len,
						      .service_id = id,
						      .addr = range->addr };

		if (addr_is_v4(&range->addr) != v6)
			map_cache_set(&sync->ranges, &key, &one);
	}
}

/* In whatever order they come. */
static uint64_t unused_make(const struct service_pool *pool)
{
	uint64_t hash = 0;

	for (size_t i = 0; i < pool->backend_count; i++) {
		const struct service_backend *backend = &pool->backends[i];

		if (!backend->use)
			hash ^= table_hash(&backend->addr, sizeof(backend->addr)) + backend->port;
	}
	return hash;
}

static void pool_plan(struct service_run *run, const struct plan_source *source,
		      const struct service_pool *pool, size_t first)
{
	struct sync *sync = run->sync;
	struct pool_plan plan = {
		.owner = source->owner,
		.port = port_make(pool),
		.wanted = { (uint32_t)pool->cluster_count, (uint32_t)pool->keep_count,
			    (uint32_t)pool->local_count, pool->table_size },
		.unused = unused_make(pool),
		.frontend_count = run->frontend_count - first,
	};
	if (!plan.frontend_count)
		return;
	plan.id = pool_id(run, &plan);
	array_room(&run->pools, run->pool_count, &run->pool_room, sizeof(*run->pools));
	run->pools[run->pool_count++] = plan;
	ranges_plan(sync, source->service, plan.id, pool->v6);
	sync_pool_place(sync, plan.id, pool);
}

/* Keeps what the maps hold of a pool: while the store is half known, a service may seem to have
 * lost its endpoints. */
static bool pool_is_kept(struct service_run *run, size_t first)
{
	struct sync *sync = run->sync;
	bool kept = false;

	for (size_t i = first; i < run->frontend_count && !sync->deletes_allowed; i++)
		kept |= map_cache_keep(&sync->services, &run->frontends[i].key);
	return kept;
}

/* In order of pools, whose frontends follow each other. */
static int frontends_plan(struct service_run *run, struct plan_source *source,
			  const struct service_frontends *frontends)
{
	size_t next = 0;
	int ret = 0;

	for (size_t i = 0; i < frontends->pool_count && !ret; i++) {
		size_t first = run->frontend_count;

		while (next < frontends->count &&
		       frontends->items[next].pool == &frontends->pools[i] && !ret)
			ret = frontend_plan(run, source, &frontends->items[next++]);
		if (ret)
			break;
		if (pool_is_kept(run, first))
			run->frontend_count = first;
		else
			pool_plan(run, source, &frontends->pools[i], first);
	}
	return ret;
}

int service_plan(struct service_run *run, const struct object *service)
{
	char text[SOURCE_TEXT];
	struct plan_source source = source_of(service, text, sizeof(text));
	struct service_frontends frontends =
		service_frontends(run->sync->store, service, &run->sync->node);
	int ret;

	health_note(run->sync, source.owner, service, &frontends);
	if (!run->sync->node.name)
		run->sync->local_by_address |=
			service->service.internal_local || service->service.external_local;
	ret = frontends_plan(run, &source, &frontends);
	service_frontends_done(&frontends);
	return ret;
}

/* ---- host ports ------------------------------------------------------------------------------ */

uint64_t host_ports_owner(void)
{
	return service_owner("", "hostPort"); /* no Service is called so */
}

/* Leaves out what another pod has: the one in the lowest slot gets it. */
static void taken_remove(struct service_run *run, struct plan_source *source, struct table *taken,
			 struct service_frontends *frontends, uint16_t slot)
{
	const struct store_endpoint *holder;
	char text[SOURCE_TEXT];
	size_t kept = 0;

	for (size_t i = 0; i < frontends->count; i++) {
		const struct service_key key = service_key_make(&frontends->items[i]);
		uint16_t *has = table_put(taken, &key);

		if (!*has)
			*has = slot;
		if (*has == slot) {
			frontends->items[kept++] = frontends->items[i];
			continue;
		}
		holder = store_endpoint_find(run->sync->store, *has);
		snprintf(text, sizeof(text), "Pod %s/%s", holder ? holder->namespace : "",
			 holder ? holder->name : "");
		conflict_note(run->sync, source, &key, text);
	}
	frontends->count = kept;
}

/* Keeps a port without an address.  Not as a conflict: until these end, each change of a service
 * looks at all of them. */
static void host_ips_check(struct sync *sync, const struct service_frontends *frontends)
{
	for (size_t i = 0; i < frontends->own_port_count; i++) {
		bool found = false;

		for (size_t k = 0; k < frontends->count && !found; k++)
			found = frontends->items[k].pool->port == &frontends->own_ports[i];
		if (!found)
			snprintf(sync->host_ip_warning, sizeof(sync->host_ip_warning),
				 "host port %s/%s: the node and the pod have no such address",
				 frontends->own_ports[i].name,
				 proto_name(frontends->own_ports[i].proto));
	}
}

int host_ports_plan(struct service_run *run)
{
	static const struct service_object none;
	const struct store_endpoint *endpoints;
	size_t count = store_endpoints(run->sync->store, &endpoints);
	struct table taken;
	int ret = 0;

	table_init(&taken, sizeof(struct service_key), sizeof(uint16_t));
	run->sync->host_ip_warning[0] = '\0';
	for (size_t i = 0; i < count && !ret; i++) {
		struct service_frontends frontends =
			host_port_frontends(run->sync->store, &endpoints[i]);
		char text[SOURCE_TEXT];
		struct plan_source source = { .owner = host_ports_owner(),
					      .text = text,
					      .service = &none,
					      .told = { .kind = "Pod",
							.namespace = endpoints[i].namespace,
							.name = endpoints[i].name,
							.uid = endpoints[i].uid } };

		snprintf(text, sizeof(text), "hostPort of Pod %s/%s", endpoints[i].namespace,
			 endpoints[i].name);
		host_ips_check(run->sync, &frontends);
		taken_remove(run, &source, &taken, &frontends, endpoints[i].slot);
		ret = frontends_plan(run, &source, &frontends);
		service_frontends_done(&frontends);
	}
	table_done(&taken);
	return ret;
}
