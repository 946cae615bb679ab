/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which backends in use are gone.  Datagrams leave a backend as soon as it serves no more.  A
 * connection stays with one that is not ready or terminating.  It is over once no EndpointSlice
 * lists the backend, and its pod is gone: an endpoint may also be taken out of a service alive, and
 * then finishes what it has begun, as with kube-proxy.  Where the store does not know all who live,
 * a missing pod proves nothing: outside the pod ranges, or on other nodes without all their pods.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "agent/sync/service_run.h"
#include "lib/alloc.h"
#include "lib/arena.h"
#include "lib/auto.h"
#include "lib/task.h"

struct present_key {
	uint32_t service_id;
	struct backend backend;
};

struct search {
	struct sync *sync;
	struct table loaded;      /* service ids whose backends are in present */
	struct table present;     /* struct present_key */
	struct table suspects;    /* hash of a service's name: its connections may be over */
	struct prefix *pod_cidrs; /* of all Nodes, sorted */
	size_t pod_cidr_count;
	size_t pod_cidr_room;
	bool pod_cidrs_known;
};

static void range_load(struct search *search, uint32_t id, uint32_t first, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		const struct backend_key key = { .service_id = id, .index = first + i };
		const struct backend *backend = map_cache_get(&search->sync->backends, &key);

		if (backend)
			table_put(&search->present,
				  &(struct present_key){ .service_id = id, .backend = *backend });
	}
}

/* Whether the datapath may still choose or keep the backend. */
static bool is_present(struct search *search, const struct backend_user *user, uint32_t id)
{
	const struct present_key key = { .service_id = id, .backend = user->backend };
	const struct pool_state *state = table_find(&search->sync->pools, &id);

	if (!state)
		return false;
	if (!table_find(&search->loaded, &id)) {
		table_put(&search->loaded, &id);
		range_load(search, id, 0, state->counts.cluster + state->counts.keeping);
		range_load(search, id, BACKEND_LOCAL, state->counts.local);
	}
	return table_find(&search->present, &key);
}

static int cidr_compare(const void *a, const void *b)
{
	return addr_compare(&((const struct prefix *)a)->addr, &((const struct prefix *)b)->addr);
}

static void pod_cidrs_load(struct search *search)
{
	const struct object *const *nodes;
	size_t count = store_objects(search->sync->store, OBJECT_NODE, &nodes);

	for (size_t n = 0; n < count; n++) {
		for (size_t i = 0; i < nodes[n]->node.pod_cidr_count; i++) {
			array_room(&search->pod_cidrs, search->pod_cidr_count,
				   &search->pod_cidr_room, sizeof(*search->pod_cidrs));
			search->pod_cidrs[search->pod_cidr_count++] = nodes[n]->node.pod_cidrs[i];
		}
	}
	search->pod_cidrs_known = true;
	if (search->pod_cidrs)
		qsort(search->pod_cidrs, search->pod_cidr_count, sizeof(*search->pod_cidrs),
		      cidr_compare);
}

/* Whether a Node has the address in its pod CIDRs.  If ranges overlap, it may be missed. */
static bool is_pod_address(struct search *search, const struct addr *addr)
{
	size_t low = 0, high;

	if (!search->pod_cidrs_known)
		pod_cidrs_load(search);
	for (high = search->pod_cidr_count; low < high;) {
		size_t middle = low + (high - low) / 2;

		if (addr_compare(&search->pod_cidrs[middle].addr, addr) <= 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low > 0 && prefix_contains(&search->pod_cidrs[low - 1], addr);
}

/* Whether it is gone.  A connection that may be gets an owner, and the slices are asked. */
static bool is_missing(struct search *search, struct backend_user *user)
{
	const struct service *service = sync_service_find(search->sync, &user->service);
	const bool udp = user->service.proto == IPPROTO_UDP;
	const struct ipcache_entry *entry;
	const struct pool_state *state;

	if (!service) /* without its service nobody says what became of the endpoint */
		return udp;
	if (is_present(search, user, service->id))
		return false;
	if (udp)
		return true;
	entry = map_cache_get(&search->sync->ipcache, &user->backend.addr);
	if (entry && !(entry->flags & IPCACHE_SERVICE))
		return false;
	if (!user->own_range &&
	    !(search->sync->all_pods && is_pod_address(search, &user->backend.addr)))
		return false;
	state = table_find(&search->sync->pools, &service->id);
	if (!state || !state->owner)
		return false;
	if (state->owner == host_ports_owner()) /* the pod itself is the backend */
		return true;
	user->owner = state->owner;
	table_put(&search->suspects, &state->owner);
	return false;
}

static int backend_compare(const void *key, const void *item)
{
	const struct backend_user *user = key;
	const struct service_backend *backend = item;
	int order = addr_compare(&user->backend.addr, &backend->addr);
	uint16_t port = ntohs(user->backend.port);

	return order ? order : (port > backend->port) - (port < backend->port);
}

/* Whether an EndpointSlice lists it, in whatever condition. */
static bool is_listed(const struct service_frontends *frontends, const struct backend_user *user)
{
	for (size_t i = 0; i < frontends->pool_count; i++) {
		const struct service_pool *pool = &frontends->pools[i];

		if (pool->port->proto == user->service.proto && pool->backend_count &&
		    bsearch(user, pool->backends, pool->backend_count, sizeof(*pool->backends),
			    backend_compare))
			return true;
	}
	return false;
}

static int owner_compare(const void *a, const void *b)
{
	uint64_t left = (*(struct backend_user *const *)a)->owner;
	uint64_t right = (*(struct backend_user *const *)b)->owner;

	return (left > right) - (left < right);
}

/* The users of this service, from *first to the end that is returned, are next to each other. */
static size_t owner_range(struct backend_user *const *sorted, size_t count, uint64_t owner,
			  size_t *first)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (sorted[middle]->owner < owner)
			low = middle + 1;
		else
			high = middle;
	}
	*first = low;
	while (low < count && sorted[low]->owner == owner)
		low++;
	return low;
}

/* Suspects, sorted by their service; the caller frees them. */
static struct backend_user **suspects_sort(struct backend_user *users, size_t count,
					   size_t *ret_count)
{
	struct backend_user **sorted = xcalloc(count, sizeof(*sorted));
	size_t kept = 0;

	for (size_t i = 0; i < count; i++) {
		if (users[i].owner)
			sorted[kept++] = &users[i];
	}
	qsort(sorted, kept, sizeof(struct backend_user *), owner_compare);
	*ret_count = kept;
	return sorted;
}

static void service_keep(const struct search *search, const struct object *service,
			 struct backend_user *const *users, size_t count)
{
	struct service_frontends frontends =
		service_frontends(search->sync->store, service, &search->sync->node);

	for (size_t i = 0; i < count; i++)
		users[i]->gone = !is_listed(&frontends, users[i]);
	service_frontends_done(&frontends);
}

/* A suspect is gone once its service is asked.  Services may come and go in a pause: one that is
 * missed so is asked with the next losses. */
static void suspects_judge(struct search *search, struct backend_user *users, size_t count)
{
	const struct object *const *services;
	size_t suspects;
	auto_free struct backend_user **sorted = suspects_sort(users, count, &suspects);

	task_pause_now();
	for (size_t i = 0; search->suspects.count &&
			   i < store_objects(search->sync->store, OBJECT_SERVICE, &services);
	     i++) {
		uint64_t owner = service_owner(services[i]->namespace, services[i]->name);

		if (table_del(&search->suspects, &owner)) {
			size_t first, end = owner_range(sorted, suspects, owner, &first);

			service_keep(search, services[i], sorted + first, end - first);
		}
		task_pause();
	}
}

void sync_find_gone(struct sync *sync, struct backend_user *users, size_t count)
{
	struct search search = { .sync = sync };

	if (!sync->deletes_allowed)
		return;
	table_init(&search.loaded, sizeof(uint32_t), 0);
	table_init(&search.present, sizeof(struct present_key), 0);
	table_init(&search.suspects, sizeof(uint64_t), 0);
	for (size_t i = 0; i < count; i++) {
		users[i].gone = is_missing(&search, &users[i]);
		task_pause();
	}
	if (search.suspects.count)
		suspects_judge(&search, users, count);
	table_done(&search.loaded);
	table_done(&search.present);
	table_done(&search.suspects);
	free(search.pod_cidrs);
}

void sync_losses_tell(struct sync *sync)
{
	uint64_t losses = sync->losses + sync->services.deletes + sync->ipcache.deletes;

	if (!sync->deletes_allowed || losses == sync->losses_told)
		return;
	sync->losses_told = losses;
	if (sync->lost)
		sync->lost(sync->lost_arg);
}

void sync_on_losses(struct sync *sync, void (*lost)(void *arg), void *arg)
{
	sync->lost = lost;
	sync->lost_arg = arg;
}
