/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much services are used.  The programs count in the entries of backend_map; what an entry has
 * when it changes or goes is kept here, together with the bytes that closed connections report.
 * Counts begin anew with the agent, but for those that are still in the map.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "agent/sync/service_run.h"
#include "lib/alloc.h"

#define SERIES_MAX 256  /* of services, unless sync_limit_series() says something else */
#define KEPT_MIN   1024 /* backends that are gone are not summed up before there are so many */
#define WALK_MIN   1024 /* entries: a walk through the map takes less time than a look-up of each */

/* A copy: the loop goes on while an answer is made. */
struct service_counts {
	struct sync *sync;
	uint64_t owner;        /* hash of a service's name: of this one alone; 0: of all */
	struct table backends; /* struct counted_key -> struct service_count */
	struct table services; /* hash of a service's name -> struct service_count */
};

static void count_add(struct table *table, const void *key, uint64_t connections, uint64_t bytes)
{
	struct service_count *count;

	if (!connections && !bytes)
		return;
	count = table_put(table, key);
	count->connections += connections;
	count->bytes += bytes;
}

static void series_free(struct series *series)
{
	free(series->namespace);
	free(series->name);
}

void sync_counts_init(struct sync *sync)
{
	table_init(&sync->counted, sizeof(struct counted_key), sizeof(struct service_count));
	table_init(&sync->series, sizeof(uint64_t), sizeof(struct series));
	table_init(&sync->backend_series, sizeof(struct series_key), 0);
	sync->series_max = SERIES_MAX;
}

void sync_limit_series(struct sync *sync, size_t services, size_t backends)
{
	sync->series_max = services;
	sync->backend_series_max = backends;
}

void sync_counts_done(struct sync *sync)
{
	struct series *series;
	size_t pos = 0;

	while ((series = table_next(&sync->series, &pos, NULL)))
		series_free(series);
	table_done(&sync->series);
	table_done(&sync->backend_series);
	table_done(&sync->counted);
}

/* ---- what is kept ---------------------------------------------------------------------------- */

/* The backends of ports that have clients. */
static struct table present_make(const struct sync *sync)
{
	struct table present;
	const void *key;
	const struct backend *backend;
	size_t pos = 0;

	table_init(&present, sizeof(struct counted_key), 0);
	while ((backend = table_next(&sync->backends.entries, &pos, &key)))
		table_put(&present,
			  &(struct counted_key){ ((const struct backend_key *)key)->service_id,
						 *backend });
	return present;
}

/* Backends come and go for months: those that are gone are summed up, and those of ports that are
 * gone forgotten. */
static void counted_prune(struct sync *sync)
{
	struct table kept, present;
	const void *at;
	const struct service_count *count;
	size_t pos = 0;

	if (sync->counted.count < KEPT_MIN + 2 * sync->backends.entries.count)
		return;
	present = present_make(sync);
	table_init(&kept, sizeof(struct counted_key), sizeof(struct service_count));
	while ((count = table_next(&sync->counted, &pos, &at))) {
		struct counted_key key = *(const struct counted_key *)at;

		if (!table_find(&sync->pools, &key.service_id))
			continue;
		if (!table_find(&present, &key))
			key.backend = (struct backend){ 0 };
		count_add(&kept, &key, count->connections, count->bytes);
	}
	table_done(&present);
	table_done(&sync->counted);
	sync->counted = kept;
}

static void settle(struct sync *sync, const struct backend_key *key,
		   const struct backend_entry *entry)
{
	counted_prune(sync);
	count_add(&sync->counted, &(struct counted_key){ key->service_id, entry->backend },
		  entry->connections, entry->bytes);
}

void sync_count_settle(struct sync *sync, const struct backend_key *key)
{
	struct backend_entry entry;

	if (!backend_map_get(sync->datapath, key, &entry))
		settle(sync, key, &entry);
}

/* Entries of backend_map that are about to go. */
struct settling {
	struct sync *sync;
	struct table keys; /* struct backend_key */
};

static int settle_each(const void *key, const void *value, void *arg)
{
	struct settling *settling = arg;

	if (table_find(&settling->keys, key))
		settle(settling->sync, key, value);
	return 0;
}

void sync_counts_settle(struct sync *sync, const struct backend_key *keys, size_t count)
{
	struct settling settling = { .sync = sync };

	if (count < WALK_MIN) {
		for (size_t i = 0; i < count; i++)
			sync_count_settle(sync, &keys[i]);
		return;
	}
	table_init(&settling.keys, sizeof(*keys), 0);
	table_reserve(&settling.keys, count);
	for (size_t i = 0; i < count; i++)
		table_put(&settling.keys, &keys[i]);
	maps_foreach(sync->datapath, MAP_BACKEND, settle_each, &settling);
	table_done(&settling.keys);
}

/* The other address under which node ports are: those of another node, whose clients this one
 * answers.  False: there is none. */
static bool loopback_take(const struct sync *sync, struct service_key *key)
{
	if (!sync->settings.dsr)
		return false;
	return addr_parse(addr_is_v4(&key->addr) ? "127.0.0.1" : "::1", &key->addr) == 0;
}

/* Node ports on loopback addresses are known under 127.0.0.1. */
const struct service *sync_service_find(const struct sync *sync, const struct service_key *service)
{
	struct service_key key = *service;
	const struct service *found;

	if (addr_is_v4(&key.addr) && (ntohl(key.addr.w[3]) >> 24) == IN_LOOPBACKNET)
		key.addr.w[3] = htonl(INADDR_LOOPBACK);
	found = map_cache_get(&sync->services, &key);
	return found || !loopback_take(sync, &key) ? found : map_cache_get(&sync->services, &key);
}

void sync_count_flow(struct sync *sync, uint32_t service_id, const struct backend *backend,
		     uint64_t bytes)
{
	counted_prune(sync);
	count_add(&sync->counted, &(struct counted_key){ service_id, *backend }, 0, bytes);
}

void sync_count_bytes(struct sync *sync, const struct service_key *service,
		      const struct backend *backend, uint64_t bytes)
{
	const struct service *found = sync_service_find(sync, service);

	if (found)
		sync_count_flow(sync, found->id, backend, bytes);
}

/* ---- reading --------------------------------------------------------------------------------- */

static void counts_add(struct service_counts *counts, const struct counted_key *key,
		       uint64_t connections, uint64_t bytes)
{
	const struct pool_state *pool = table_find(&counts->sync->pools, &key->service_id);

	if (!pool || !pool->owner || (counts->owner && counts->owner != pool->owner))
		return;
	count_add(&counts->backends, key, connections, bytes);
	count_add(&counts->services, &pool->owner, connections, bytes);
}

static int entry_read(const void *key, const void *value, void *arg)
{
	const struct backend_entry *entry = value;

	counts_add(arg,
		   &(struct counted_key){ ((const struct backend_key *)key)->service_id,
					  entry->backend },
		   entry->connections, entry->bytes);
	return 0;
}

/* With what is kept; owner: of this one alone, 0: of all. */
static struct service_counts *counts_begin(struct sync *sync, uint64_t owner)
{
	struct service_counts *counts = xcalloc(1, sizeof(*counts));
	const struct service_count *count;
	const void *key;
	size_t pos = 0;

	counts->sync = sync;
	counts->owner = owner;
	table_init(&counts->backends, sizeof(struct counted_key), sizeof(struct service_count));
	table_init(&counts->services, sizeof(uint64_t), sizeof(struct service_count));
	while ((count = table_next(&sync->counted, &pos, &key)))
		counts_add(counts, key, count->connections, count->bytes);
	return counts;
}

struct service_counts *sync_counts_new(struct sync *sync)
{
	struct service_counts *counts = counts_begin(sync, 0);

	/* Where the map cannot be read, what is kept is all there is to tell. */
	maps_foreach(sync->datapath, MAP_BACKEND, entry_read, counts);
	return counts;
}

static void range_read(struct service_counts *counts, uint32_t id, uint32_t first, uint32_t count)
{
	struct backend_entry entry;

	for (uint32_t i = 0; i < count; i++) {
		const struct backend_key key = { .service_id = id, .index = first + i };

		if (!backend_map_get(counts->sync->datapath, &key, &entry))
			entry_read(&key, &entry, counts);
	}
}

struct service_counts *sync_counts_of(struct sync *sync, const char *namespace, const char *name)
{
	struct service_counts *counts =
		counts_begin(sync, name ? service_owner(namespace, name) : host_ports_owner());
	const struct pool_state *pool;
	const void *at;
	size_t pos = 0;

	while ((pool = table_next(&sync->pools, &pos, &at))) {
		const uint32_t service_id = *(const uint32_t *)at;

		if (pool->owner != counts->owner)
			continue;
		range_read(counts, service_id, 0, pool->counts.cluster + pool->counts.keeping);
		range_read(counts, service_id, BACKEND_TABLE, pool->counts.table);
		range_read(counts, service_id, BACKEND_LOCAL, pool->counts.local);
	}
	pos = 0;
	while (table_next(&sync->retired, &pos, &at)) {
		const struct backend_key *key = at;

		if (!sync_backend_is_promised(sync, key))
			range_read(counts, key->service_id, key->index, 1);
	}
	return counts;
}

void sync_counts_free(struct service_counts *counts)
{
	if (!counts)
		return;
	table_done(&counts->backends);
	table_done(&counts->services);
	free(counts);
}

static struct service_count count_of(const struct table *table, const void *key)
{
	const struct service_count *count = table_find(table, key);

	return count ? *count : (struct service_count){ 0 };
}

struct service_count sync_counts_service(const struct service_counts *counts, const char *namespace,
					 const char *name)
{
	uint64_t owner = service_owner(namespace, name);

	return count_of(&counts->services, &owner);
}

struct service_count sync_counts_backend(const struct service_counts *counts,
					 const struct service_key *service,
					 const struct backend *backend)
{
	const struct service *found = sync_service_find(counts->sync, service);
	const struct counted_key key = { found ? found->id : 0, *backend };

	return count_of(&counts->backends, &key);
}

/* ---- metrics --------------------------------------------------------------------------------- */

/* Services that are gone make room for others. */
static void series_prune(struct sync *sync)
{
	struct series *series;
	const void *owner;
	size_t pos = 0;

	while ((series = table_next(&sync->series, &pos, &owner))) {
		if (table_find(&sync->owners, owner))
			continue;
		series_free(series);
		table_del(&sync->series, owner);
	}
}

/* Whether a service was used that has no series, though there is room for one. */
static bool series_are_missing(const struct service_counts *counts)
{
	const struct table *series = &counts->sync->series;
	uint64_t host_ports = host_ports_owner();
	const void *owner;
	size_t pos = 0;

	while (series->count < counts->sync->series_max &&
	       table_next(&counts->services, &pos, &owner)) {
		if (!table_find(series, owner) &&
		    memcmp(owner, &host_ports, sizeof(host_ports)) != 0)
			return true;
	}
	return false;
}

static void series_find(const struct service_counts *counts)
{
	struct sync *sync = counts->sync;

	series_prune(sync);
	if (!series_are_missing(counts))
		return;
	for (const struct object *service = store_first(sync->store, OBJECT_SERVICE);
	     service && sync->series.count < sync->series_max;
	     service = store_next(sync->store, service)) {
		uint64_t owner = service_owner(service->namespace, service->name);

		if (table_find(&counts->services, &owner) && !table_find(&sync->series, &owner))
			*(struct series *)table_put(&sync->series, &owner) = (struct series){
				xstrdup(service->namespace),
				xstrdup(service->name),
			};
	}
}

void sync_counts_each(const struct service_counts *counts,
		      void (*each)(const char *namespace, const char *name,
				   const struct service_count *count, void *arg),
		      void *arg)
{
	struct service_count others = { 0 };
	const struct service_count *count;
	const void *owner;
	size_t pos = 0;

	series_find(counts);
	while ((count = table_next(&counts->services, &pos, &owner))) {
		const struct series *series = table_find(&counts->sync->series, owner);

		if (series) {
			each(series->namespace, series->name, count, arg);
			continue;
		}
		others.connections += count->connections;
		others.bytes += count->bytes;
	}
	each(NULL, NULL, &others, arg);
}

/* struct series_key -> struct service_count: ports that share a backend are one. */
static struct table backends_sum(const struct service_counts *counts)
{
	const struct counted_key *key;
	const struct service_count *count;
	const void *at;
	struct table sums;
	size_t pos = 0;

	table_init(&sums, sizeof(struct series_key), sizeof(struct service_count));
	while ((count = table_next(&counts->backends, &pos, &at))) {
		const struct pool_state *pool;

		key = at;
		pool = table_find(&counts->sync->pools, &key->service_id);
		if (pool && table_find(&counts->sync->series, &pool->owner))
			count_add(&sums,
				  &(struct series_key){ .owner = pool->owner,
							.backend = key->backend },
				  count->connections, count->bytes);
	}
	return sums;
}

/* Backends that are gone make room for others. */
static void backend_series_find(struct sync *sync, const struct table *sums)
{
	struct table *series = &sync->backend_series;
	const struct series_key *key;
	const void *at;
	size_t pos = 0;

	while (table_next(series, &pos, &at)) {
		if (!table_find(sums, at))
			table_del(series, at);
	}
	pos = 0;
	while (series->count < sync->backend_series_max && table_next(sums, &pos, &at)) {
		key = at;
		if (key->backend.port)
			table_put(series, key);
	}
}

void sync_counts_each_backend(const struct service_counts *counts,
			      void (*each)(const char *namespace, const char *name,
					   const struct backend *backend,
					   const struct service_count *count, void *arg),
			      void *arg)
{
	struct sync *sync = counts->sync;
	struct service_count others = { 0 };
	const struct service_count *count;
	const struct series_key *key;
	struct table sums;
	const void *at;
	size_t pos = 0;

	if (!sync->backend_series_max)
		return;
	series_find(counts);
	sums = backends_sum(counts);
	backend_series_find(sync, &sums);
	while ((count = table_next(&sums, &pos, &at))) {
		const struct series *series;

		key = at;
		series = table_find(&sync->series, &key->owner);
		if (series && table_find(&sync->backend_series, key)) {
			each(series->namespace, series->name, &key->backend, count, arg);
			continue;
		}
		others.connections += count->connections;
		others.bytes += count->bytes;
	}
	each(NULL, NULL, NULL, &others, arg);
	table_done(&sums);
}
