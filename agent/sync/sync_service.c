/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Services of the store -> maps: one, or all of them.  sync_service_plan.c says what is wanted,
 * sync_service_write.c writes it, sync_backend.c keeps the endpoints.
 */
#include <errno.h>
#include <stdlib.h>

#include <event2/event.h>

#include "agent/sync/service_run.h"
#include "lib/auto.h"

/* How long a program may take from its look-up of a service to that of the backend. */
static const struct timeval trim_delay = { .tv_usec = 50 * 1000 };

static void on_trim(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	/* What could not be deleted now is found again by the next full run. */
	sync_trim(arg);
}

int sync_services_init(struct sync *sync, struct event_base *base)
{
	const struct service *service;
	const void *key;
	size_t pos = 0;

	table_init(&sync->pools, sizeof(uint32_t), sizeof(struct pool_state));
	table_init(&sync->owners, sizeof(uint64_t), sizeof(uint32_t));
	table_init(&sync->vips, sizeof(struct addr), sizeof(uint32_t));
	table_init(&sync->health_checks, sizeof(uint64_t), sizeof(struct health_check));
	table_init(&sync->unfinished, sizeof(uint64_t), sizeof(struct service_shortage));
	table_init(&sync->retired, sizeof(struct backend_key), 0);
	sync_counts_init(sync);
	if (base)
		sync->trim_timer = event_new(base, -1, 0, on_trim, sync);
	if (base && !sync->trim_timer)
		return -ENOMEM;
	while ((service = table_next(&sync->services.entries, &pos, &key))) {
		struct pool_state *state;

		entry_count(sync, &((const struct service_key *)key)->addr, service);
		state = table_find(&sync->pools, &service->id);
		state->counts = counts_max(&state->counts, service);
		if (service->id > sync->last_service_id)
			sync->last_service_id = service->id;
	}
	return 0;
}

void sync_services_done(struct sync *sync)
{
	table_done(&sync->pools);
	table_done(&sync->owners);
	table_done(&sync->vips);
	table_done(&sync->unfinished);
	sync_counts_done(sync);
	health_forget_all(sync);
	service_node_done(&sync->node);
	table_done(&sync->retired);
	if (sync->trim_timer)
		event_free(sync->trim_timer);
}

bool sync_node_refresh(struct sync *sync)
{
	struct service_node node;
	bool changed;

	if (sync->node_changes == store_node_changes(sync->store))
		return false;
	sync->node_changes = store_node_changes(sync->store);
	service_node_init(&node, sync->store, &sync->settings);
	changed = !service_node_equal(&node, &sync->node);
	service_node_done(&sync->node);
	sync->node = node;
	return changed;
}

static void run_begin(struct service_run *run)
{
	struct sync *sync = run->sync;

	map_cache_begin(&sync->services);
	map_cache_begin(&sync->backends);
	map_cache_begin(&sync->ranges);
	map_cache_begin(&sync->ipcache);
	table_init(&run->planned, sizeof(struct service_key), sizeof(uint64_t));
}

/* Sums what services lack; their texts are for status. */
static struct service_shortage shortage_sum(const struct sync *sync)
{
	struct service_shortage sum = { 0 };
	const struct service_shortage *shortage;
	size_t pos = 0;

	while ((shortage = table_next(&sync->unfinished, &pos, NULL))) {
		sum.backends += shortage->backends;
		sum.services += shortage->services;
		sum.addresses += shortage->addresses;
		sum.ranges += shortage->ranges;
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
		{ &sync->ranges, sum.ranges, "loadBalancerSourceRanges" },
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
		len += (size_t)snprintf(buf + len, size - len, "%s%s", len ? "; " : "",
					sync->service_conflict);
	if (*sync->host_ip_warning && len < size)
		snprintf(buf + len, size - len, "%s%s", len ? "; " : "", sync->host_ip_warning);
}

static void services_tell(struct sync *sync)
{
	uint64_t changes = sync->services.writes + sync->services.deletes;

	if (changes == sync->services_told || !sync->services_changed)
		return;
	sync->services_told = changes;
	sync->services_changed(sync->services_changed_arg);
}

void sync_on_services(struct sync *sync, void (*changed)(void *arg), void *arg)
{
	sync->services_changed = changed;
	sync->services_changed_arg = arg;
}

void sync_on_conflicts(struct sync *sync,
		       void (*conflict)(const struct service_conflict *conflict, void *arg),
		       void *arg)
{
	sync->conflict = conflict;
	sync->conflict_arg = arg;
}

static int run_end(struct service_run *run, int ret, struct errmsg *err)
{
	struct sync *sync = run->sync;
	struct service_shortage sum = shortage_sum(sync);

	free(run->frontends);
	free(run->pools);
	table_done(&run->planned);
	if (!sum.conflicts)
		sync->service_conflict[0] = '\0';
	if (sync->retired.count && sync->trim_timer)
		event_add(sync->trim_timer, &trim_delay);
	sync_losses_tell(sync);
	services_tell(sync);
	if (ret)
		return fail(err, ret, "write services");
	if (sum.backends || sum.services || sum.addresses || sum.ranges) {
		char text[300];

		sync_services_warning(sync, text, sizeof(text));
		return fail_plain(err, -ENOSPC, "%s", text);
	}
	return sum.conflicts ? fail_plain(err, -EEXIST, "%s", sync->service_conflict) : 0;
}

/* Whether an address that some service waits for may be free by now. */
static bool address_is_free(const struct sync *sync, const struct service_shortage *sum)
{
	return sum->conflicts && sync->services.deletes != sync->freed;
}

/* Whether what is missing to services may be there now: each change may have made room. */
static bool wait_may_be_over(const struct sync *sync)
{
	struct service_shortage sum = shortage_sum(sync);

	return sum.services || sum.backends || sum.addresses || sum.ranges ||
	       address_is_free(sync, &sum);
}

/* Syncs what one owner has; all services where an owner waits itself, or others may have waited for
 * this. */
static int owner_sync(struct service_run *run,
		      int (*plan)(struct service_run *run, const void *arg), const void *arg,
		      struct errmsg *err)
{
	struct sync *sync = run->sync;
	struct service_shortage sum;
	int ret;

	if (sync_node_refresh(sync) || table_find(&sync->unfinished, &run->owner) ||
	    wait_may_be_over(sync))
		return sync_services(sync, err);
	run_begin(run);
	ret = plan(run, arg);
	if (!ret)
		ret = run_write(run);
	ret = run_end(run, ret, err);
	sum = shortage_sum(sync);
	return address_is_free(sync, &sum) ? sync_services(sync, err) : ret;
}

static int one_plan(struct service_run *run, const void *arg)
{
	const struct object *service = arg;

	if (service)
		return service_plan(run, service);
	health_forget(run->sync, run->owner);
	return 0;
}

int sync_service(struct sync *sync, const char *namespace, const char *name, struct errmsg *err)
{
	struct service_run run = { .sync = sync, .owner = service_owner(namespace, name) };

	return owner_sync(&run, one_plan, store_find(sync->store, OBJECT_SERVICE, namespace, name),
			  err);
}

static int ports_plan(struct service_run *run, const void *arg)
{
	(void)arg;
	return host_ports_plan(run);
}

int sync_host_ports(struct sync *sync, struct errmsg *err)
{
	struct service_run run = { .sync = sync, .owner = host_ports_owner() };

	return owner_sync(&run, ports_plan, NULL, err);
}

static int services_run(struct sync *sync, struct errmsg *err)
{
	struct service_run run = { .sync = sync };
	int ret = 0;

	sync_node_refresh(sync);
	sync->local_by_address = false;
	table_done(&sync->unfinished);
	health_forget_all(sync);
	run_begin(&run);
	for (const struct object *service = store_first(sync->store, OBJECT_SERVICE);
	     service && !ret; service = store_next(sync->store, service))
		ret = service_plan(&run, service);
	if (!ret)
		ret = host_ports_plan(&run);
	if (!ret)
		ret = run_write(&run);
	if (!ret)
		ret = leftovers_forget(sync);
	sync->freed = sync->services.deletes;
	return run_end(&run, ret, err);
}

int sync_services(struct sync *sync, struct errmsg *err)
{
	uint64_t before = sync->services.deletes + sync->ipcache.deletes;
	int ret = services_run(sync, err);

	if (ret != -ENOSPC && ret != -EEXIST)
		return ret;
	/* New entries are written before old ones are deleted; now there may be room enough. */
	if (!sync->retired.count && sync->services.deletes + sync->ipcache.deletes == before)
		return ret;
	ret = ret == -ENOSPC ? sync_trim(sync) : 0;
	return ret ? fail(err, ret, "delete backends") : services_run(sync, err);
}
