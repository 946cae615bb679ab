/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frontends of services -> service_map, backend_map and the service addresses in ipcache_map.  A
 * service keeps its id, across restarts too.  Backends that stay keep their index, so only changes
 * are written.  A program reads the count of backends first and a backend after it: so new backends
 * are written before the count that includes them, and those beyond a smaller count are deleted a
 * moment later.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "agent/sync/sync_internal.h"
#include "lib/auto.h"

/* How long a program may take from its look-up of a service to that of the backend. */
static const struct timeval trim_delay = { .tv_usec = 50 * 1000 };

/* What one service lacks in the maps. */
struct service_shortage {
	uint32_t backends; /* entries that did not fit */
	uint32_t services;
	uint32_t addresses;
	uint32_t conflicts; /* frontends whose address is a pod's or a node's */
};

/* A frontend that is being written. */
struct plan {
	struct service_key key;
	uint32_t id;
	uint32_t backends; /* wanted */
	uint64_t owner;
};

struct service_run {
	struct sync *sync;
	struct plan *plans;
	size_t plan_count;
	size_t plan_room;
};

/* ---- names, keys, ids ------------------------------------------------------------------------ */

/* A hash of "namespace/name", which cannot contain another slash.  64 bits under a secret key: two
 * services never collide. */
static uint64_t owner_make(const char *namespace, const char *name)
{
	char text[512];
	int len = snprintf(text, sizeof(text), "%s/%s", namespace, name);

	return table_hash(text, (size_t)len < sizeof(text) ? (size_t)len : sizeof(text) - 1);
}

static struct service_key service_key_make(const struct service_frontend *frontend)
{
	return (struct service_key){
		.addr = frontend->addr,
		.port = htons(frontend->port),
		.proto = frontend->proto,
	};
}

static struct backend backend_make(const struct service_backend *backend)
{
	return (struct backend){ .addr = backend->addr, .port = htons(backend->port) };
}

static uint32_t service_id_new(struct sync *sync)
{
	do
		sync->last_service_id++;
	while (sync->last_service_id == 0 ||
	       table_find(&sync->service_ids, &sync->last_service_id));
	return sync->last_service_id;
}

static struct service_shortage *shortage_of(struct sync *sync, uint64_t owner)
{
	return table_put(&sync->unfinished, &owner);
}

/* ---- service_map entries --------------------------------------------------------------------- */

/* Counts a service_map entry, read at start or written. */
static int service_learn(struct sync *sync, const struct service_key *key,
			 const struct service *service)
{
	uint32_t *backends = table_find(&sync->service_ids, &service->id);
	uint32_t *count;

	if (backends) {
		*backends = service->backends;
		return 0;
	}
	backends = table_put(&sync->service_ids, &service->id);
	count = table_put(&sync->vips, &key->addr);
	*backends = service->backends;
	++*count;
	if (service->id > sync->last_service_id)
		sync->last_service_id = service->id;
	return 0;
}

static int backend_retire(struct sync *sync, uint32_t id, uint32_t index)
{
	if (sync->retired_count == sync->retired_room) {
		size_t room = sync->retired_room ? sync->retired_room * 2 : 64;
		struct backend_key *grown = realloc(sync->retired, room * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		sync->retired = grown;
		sync->retired_room = room;
	}
	sync->retired[sync->retired_count++] =
		(struct backend_key){ .service_id = id, .index = index };
	return 0;
}

/* Whether the count of some service includes this backend. */
static bool backend_is_promised(const struct sync *sync, const struct backend_key *key)
{
	const uint32_t *backends = table_find(&sync->service_ids, &key->service_id);

	return backends && key->index < *backends;
}

int sync_trim(struct sync *sync)
{
	size_t count = 0;
	int ret;

	for (size_t i = 0; i < sync->retired_count; i++) {
		const struct backend_key *key = &sync->retired[i];

		/* It may be in use again. */
		if (!backend_is_promised(sync, key) && map_cache_get(&sync->backends, key))
			sync->retired[count++] = *key;
	}
	ret = map_cache_del(&sync->backends, sync->retired, count);
	free(take_ptr(sync->retired));
	sync->retired_count = 0;
	sync->retired_room = 0;
	return ret;
}

/* ---- placing backends ------------------------------------------------------------------------ */

static int backend_compare(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct backend));
}

/* The wanted backends in map order; sorted, as bsearch() needs them. */
static struct backend *backends_make(const struct service_frontend *frontend)
{
	struct backend *backends = calloc(frontend->backend_count + 1, sizeof(*backends));

	if (!backends)
		return NULL;
	for (size_t i = 0; i < frontend->backend_count; i++)
		backends[i] = backend_make(&frontend->backends[i]);
	qsort(backends, frontend->backend_count, sizeof(*backends), backend_compare);
	return backends;
}

/*
 * Gives every wanted backend an index below count.  1. A backend that has one keeps it.  2. The
 * others take, in order, the indices that are left.
 */
static int backends_place(struct sync *sync, uint32_t id, uint32_t held,
			  const struct backend *wanted, uint32_t count)
{
	auto_free bool *placed = calloc(count + 1, sizeof(*placed));
	auto_free bool *taken = calloc(count + 1, sizeof(*taken));
	uint32_t next = 0;

	if (!placed || !taken)
		return -ENOMEM;
	for (uint32_t i = 0; i < held && i < count; i++) {
		struct backend_key key = { .service_id = id, .index = i };
		const struct backend *at = map_cache_get(&sync->backends, &key);
		const struct backend *match;

		match = at ? bsearch(at, wanted, count, sizeof(*wanted), backend_compare) : NULL;
		if (match && !placed[match - wanted]) {
			placed[match - wanted] = true;
			taken[i] = true;
			map_cache_keep(&sync->backends, &key);
		}
	}
	for (uint32_t i = 0; i < count; i++) {
		struct backend_key key = { .service_id = id, .index = i };
		int ret;

		if (taken[i])
			continue;
		while (placed[next])
			next++;
		ret = map_cache_set(&sync->backends, &key, &wanted[next++]);
		if (ret)
			return ret;
	}
	return 0;
}

/* ---- the run --------------------------------------------------------------------------------- */

static int plan_add(struct service_run *run, const struct plan *plan)
{
	if (run->plan_count == run->plan_room) {
		size_t room = run->plan_room ? run->plan_room * 2 : 16;
		struct plan *grown = realloc(run->plans, room * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		run->plans = grown;
		run->plan_room = room;
	}
	run->plans[run->plan_count++] = *plan;
	return 0;
}

static bool address_is_taken(const struct sync *sync, const struct addr *addr)
{
	const struct ipcache_entry *entry = map_cache_get(&sync->ipcache, addr);

	return entry && !(entry->flags & IPCACHE_SERVICE);
}

static int conflict_note(struct sync *sync, const struct object *service, uint64_t owner,
			 const struct addr *addr)
{
	struct service_shortage *shortage = shortage_of(sync, owner);
	char text[ADDR_TEXT_MAX];

	if (!shortage)
		return -ENOMEM;
	shortage->conflicts++;
	snprintf(sync->service_conflict, sizeof(sync->service_conflict),
		 "Service %s/%s: its address %s belongs to a pod or a node", service->namespace,
		 service->name, addr_format(addr, text));
	return 0;
}

/* Queues the backends of one frontend. */
static int frontend_plan(struct service_run *run, const struct object *service, uint64_t owner,
			 const struct service_frontend *frontend)
{
	struct sync *sync = run->sync;
	struct service_key key = service_key_make(frontend);
	const struct service *held = map_cache_get(&sync->services, &key);
	auto_free struct backend *wanted = NULL;
	struct plan plan = {
		.key = key,
		.owner = owner,
		.backends = (uint32_t)frontend->backend_count,
	};
	uint64_t *owner_held;
	int ret;

	if (address_is_taken(sync, &key.addr))
		return conflict_note(sync, service, owner, &key.addr);
	if (held) {
		owner_held = table_put(&sync->owners, &key);
		*owner_held = owner;
		map_cache_keep(&sync->services, &key);
		/* While the store is half known, a service may seem to have lost its endpoints. */
		if (!sync->deletes_allowed)
			return 0;
	}
	plan.id = held ? held->id : service_id_new(sync);
	wanted = backends_make(frontend);
	if (!wanted)
		return -ENOMEM;
	ret = backends_place(sync, plan.id, held ? held->backends : 0, wanted, plan.backends);
	return ret ? ret : plan_add(run, &plan);
}

static int service_plan(struct service_run *run, const struct object *service)
{
	uint64_t owner = owner_make(service->namespace, service->name);
	struct service_frontends frontends = service_frontends(run->sync->store, service);
	int ret = 0;

	for (size_t i = 0; i < frontends.count && !ret; i++)
		ret = frontend_plan(run, service, owner, &frontends.items[i]);
	service_frontends_done(&frontends);
	return ret;
}

/* How many of a plan's backends are in the map, without a gap from index 0. */
static uint32_t backends_present(const struct sync *sync, const struct plan *plan)
{
	struct backend_key key = { .service_id = plan->id };

	while (key.index < plan->backends && map_cache_get(&sync->backends, &key))
		key.index++;
	return key.index;
}

static int shortage_note(struct sync *sync, const struct plan *plan, uint32_t backends,
			 uint32_t services, uint32_t addresses)
{
	struct service_shortage *shortage;

	if (!backends && !services && !addresses)
		return 0;
	shortage = shortage_of(sync, plan->owner);
	if (!shortage)
		return -ENOMEM;
	shortage->backends += backends;
	shortage->services += services;
	shortage->addresses += addresses;
	return 0;
}

static int flush(struct map_cache *map_cache)
{
	int ret = map_cache_flush(map_cache);

	return ret == -ENOSPC ? 0 : ret; /* shortage_note() notes the service */
}

/* Writes the counts of the backends that are in the map now. */
static int services_write(struct service_run *run)
{
	struct sync *sync = run->sync;
	int ret = flush(&sync->backends);

	for (size_t i = 0; i < run->plan_count && !ret; i++) {
		const struct plan *plan = &run->plans[i];
		const struct service *held = map_cache_get(&sync->services, &plan->key);
		struct service service = {
			.id = plan->id,
			.backends = backends_present(sync, plan),
		};

		for (uint32_t k = service.backends; held && k < held->backends && !ret; k++)
			ret = backend_retire(sync, plan->id, k);
		if (!ret)
			ret = map_cache_set(&sync->services, &plan->key, &service);
	}
	return ret ? ret : flush(&sync->services);
}

static int service_confirm(struct sync *sync, const struct plan *plan)
{
	const struct service *held = map_cache_get(&sync->services, &plan->key);
	const struct ipcache_entry entry = { .identity = IDENTITY_WORLD, .flags = IPCACHE_SERVICE };
	uint32_t present = backends_present(sync, plan);
	uint64_t *owner;
	int ret = shortage_note(sync, plan, plan->backends - present, !held, 0);

	if (!held) {
		for (uint32_t k = 0; k < present && !ret; k++)
			ret = backend_retire(sync, plan->id, k);
		return ret;
	}
	owner = table_put(&sync->owners, &plan->key);
	*owner = plan->owner;
	if (!ret)
		ret = service_learn(sync, &plan->key, held);
	return ret ? ret : map_cache_set(&sync->ipcache, &plan->key.addr, &entry);
}

/* The address is written last: a program that finds it in ipcache_map also finds the service. */
static int addresses_write(struct service_run *run)
{
	struct sync *sync = run->sync;
	int ret = 0;

	for (size_t i = 0; i < run->plan_count && !ret; i++)
		ret = service_confirm(sync, &run->plans[i]);
	if (!ret)
		ret = flush(&sync->ipcache);
	for (size_t i = 0; i < run->plan_count && !ret; i++) {
		const struct plan *plan = &run->plans[i];

		ret = shortage_note(sync, plan, 0, 0,
				    map_cache_get(&sync->services, &plan->key) &&
					    !map_cache_get(&sync->ipcache, &plan->key.addr));
	}
	return ret;
}

/* ---- what goes ------------------------------------------------------------------------------- */

static int service_forget(struct sync *sync, const struct service_key *key)
{
	const struct service *held = map_cache_get(&sync->services, key);
	struct service service;
	uint32_t *vip_count;
	int ret;

	if (!held)
		return 0;
	service = *held;
	ret = map_cache_del(&sync->services, key, 1);
	table_del(&sync->owners, key);
	table_del(&sync->service_ids, &service.id);
	for (uint32_t i = 0; i < service.backends && !ret; i++)
		ret = backend_retire(sync, service.id, i);
	vip_count = table_find(&sync->vips, &key->addr);
	if (!vip_count || --*vip_count)
		return ret;
	table_del(&sync->vips, &key->addr);
	if (!ret && map_cache_get(&sync->ipcache, &key->addr) &&
	    !address_is_taken(sync, &key->addr))
		ret = map_cache_del(&sync->ipcache, &key->addr, 1);
	return ret;
}

/* Deletes the frontends of one owner (NULL: of all) that this run did not want. */
static int services_forget(struct sync *sync, const uint64_t *owner)
{
	const void *key;
	const void *value;
	size_t pos = 0;
	int ret = 0;

	if (!sync->deletes_allowed)
		return 0;
	while (!ret && (value = table_next(&sync->services.entries, &pos, &key))) {
		const uint64_t *held;

		if (map_cache_is_wanted(&sync->services, key))
			continue;
		held = table_find(&sync->owners, key);
		if (!owner || (held && *held == *owner)) {
			struct service_key copy = *(const struct service_key *)key;

			ret = service_forget(sync, &copy);
		}
	}
	return ret;
}

static bool is_lone_address(const void *key, const void *value, void *arg)
{
	const struct ipcache_entry *entry = value;
	const struct sync *sync = arg;

	return entry->flags & IPCACHE_SERVICE && !table_find(&sync->vips, key);
}

/* What a killed agent left: backends and addresses without a service. */
static int leftovers_forget(struct sync *sync)
{
	const void *key;
	size_t pos = 0;
	int ret = 0;

	if (!sync->deletes_allowed)
		return 0;
	while (!ret && table_next(&sync->backends.entries, &pos, &key)) {
		const struct backend_key *backend = key;

		if (!backend_is_promised(sync, backend))
			ret = backend_retire(sync, backend->service_id, backend->index);
	}
	return ret ? ret : map_cache_sweep(&sync->ipcache, is_lone_address, sync);
}

/* ---- entry points ---------------------------------------------------------------------------- */

static void on_trim(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	/* What could not be deleted now is found again by the next full run. */
	sync_trim(arg);
}

int sync_services_init(struct sync *sync, struct event_base *base)
{
	const void *key;
	const void *value;
	size_t pos = 0;
	int ret = 0;

	table_init(&sync->owners, sizeof(struct service_key), sizeof(uint64_t));
	table_init(&sync->service_ids, sizeof(uint32_t), sizeof(uint32_t));
	table_init(&sync->vips, sizeof(struct addr), sizeof(uint32_t));
	table_init(&sync->unfinished, sizeof(uint64_t), sizeof(struct service_shortage));
	if (base)
		sync->trim_timer = event_new(base, -1, 0, on_trim, sync);
	if (base && !sync->trim_timer)
		return -ENOMEM;
	while (!ret && (value = table_next(&sync->services.entries, &pos, &key)))
		ret = service_learn(sync, key, value);
	return ret;
}

void sync_services_done(struct sync *sync)
{
	table_done(&sync->owners);
	table_done(&sync->service_ids);
	table_done(&sync->vips);
	table_done(&sync->unfinished);
	free(sync->retired);
	if (sync->trim_timer)
		event_free(sync->trim_timer);
}

static void run_begin(struct sync *sync)
{
	map_cache_begin(&sync->services);
	map_cache_begin(&sync->backends);
	map_cache_begin(&sync->ipcache);
}

/* Sums what services shortage; their texts are for status. */
static struct service_shortage shortage_sum(const struct sync *sync)
{
	struct service_shortage sum = { 0 };
	const struct service_shortage *shortage;
	size_t pos = 0;

	while ((shortage = table_next(&sync->unfinished, &pos, NULL))) {
		sum.backends += shortage->backends;
		sum.services += shortage->services;
		sum.addresses += shortage->addresses;
		sum.conflicts += shortage->conflicts;
	}
	return sum;
}

void sync_services_warning(const struct sync *sync, char *buf, size_t size)
{
	struct service_shortage sum = shortage_sum(sync);
	const struct {
		const struct map_cache *map_cache;
		uint32_t count;
		const char *setting;
	} full[] = {
		{ &sync->backends, sum.backends, "max-backends" },
		{ &sync->services, sum.services, "max-services" },
		{ &sync->ipcache, sum.addresses, "max-addresses" },
	};
	size_t len = 0;

	buf[0] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(full); i++) {
		if (full[i].count && len < size)
			len += (size_t)snprintf(buf + len, size - len,
						"%s%s is full: %u service entries did not fit (%s)",
						len ? "; " : "", map_name(full[i].map_cache->map),
						full[i].count, full[i].setting);
	}
	if (sum.conflicts && len < size)
		snprintf(buf + len, size - len, "%s%s", len ? "; " : "", sync->service_conflict);
}

static int run_end(struct service_run *run, int ret, struct errmsg *err)
{
	struct sync *sync = run->sync;
	struct service_shortage sum = shortage_sum(sync);

	free(run->plans);
	if (!sum.conflicts)
		sync->service_conflict[0] = '\0';
	if (sync->retired_count && sync->trim_timer)
		event_add(sync->trim_timer, &trim_delay);
	if (ret)
		return fail(err, ret, "write services");
	if (sum.backends || sum.services || sum.addresses) {
		char text[300];

		sync_services_warning(sync, text, sizeof(text));
		return fail_plain(err, -ENOSPC, "%s", text);
	}
	return sum.conflicts ? fail_plain(err, -EEXIST, "%s", sync->service_conflict) : 0;
}

int sync_service(struct sync *sync, const char *namespace, const char *name, struct errmsg *err)
{
	struct service_run run = { .sync = sync };
	uint64_t owner = owner_make(namespace, name);
	const struct object *service;
	int ret = 0;

	/* Another service waits for room or for an address: this change may have made it. */
	if (sync->unfinished.count)
		return sync_services(sync, err);
	run_begin(sync);
	service = store_find(sync->store, OBJECT_SERVICE, namespace, name);
	if (service)
		ret = service_plan(&run, service);
	if (!ret)
		ret = services_write(&run);
	if (!ret)
		ret = addresses_write(&run);
	if (!ret)
		ret = services_forget(sync, &owner);
	return run_end(&run, ret, err);
}

static int services_run(struct sync *sync, struct errmsg *err)
{
	struct service_run run = { .sync = sync };
	int ret = 0;

	table_done(&sync->unfinished);
	run_begin(sync);
	for (const struct object *service = store_first(sync->store, OBJECT_SERVICE);
	     service && !ret; service = store_next(sync->store, service))
		ret = service_plan(&run, service);
	if (!ret)
		ret = services_write(&run);
	if (!ret)
		ret = addresses_write(&run);
	if (!ret)
		ret = services_forget(sync, NULL);
	if (!ret)
		ret = leftovers_forget(sync);
	return run_end(&run, ret, err);
}

int sync_services(struct sync *sync, struct errmsg *err)
{
	uint64_t before = sync->services.deletes + sync->ipcache.deletes;
	int ret = services_run(sync, err);

	if (ret != -ENOSPC)
		return ret;
	/* New entries are written before old ones are deleted; now there may be room enough. */
	if (!sync->retired_count && sync->services.deletes + sync->ipcache.deletes == before)
		return ret;
	ret = sync_trim(sync);
	return ret ? fail(err, ret, "delete backends") : services_run(sync, err);
}
