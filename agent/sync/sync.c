/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Start and end of sync: reads the pinned maps, has the store compiled, keeps problems for status.
 * sync_policy.c and sync_service.c write the maps.
 */
#include "agent/sync/sync.h"

#include <errno.h>

#include "agent/sync/sync_internal.h"
#include "lib/alloc.h"
#include "lib/auto.h"

static int map_caches_init(struct sync *sync, struct errmsg *err)
{
	const struct {
		struct map_cache *map_cache;
		enum map_id map;
		size_t key_size;
		size_t value_size;
	} maps[] = {
		{ &sync->ipcache, MAP_IPCACHE, sizeof(struct addr), sizeof(struct ipcache_entry) },
		{ &sync->cidrs, MAP_CIDR, sizeof(struct cidr_key), sizeof(uint32_t) },
		{ &sync->policies, MAP_POLICY, sizeof(struct policy_key),
		  sizeof(struct policy_entry) },
		{ &sync->ports, MAP_PORT, sizeof(struct port_key), sizeof(uint8_t) },
		{ &sync->services, MAP_SERVICE, sizeof(struct service_key),
		  sizeof(struct service) },
		{ &sync->backends, MAP_BACKEND, sizeof(struct backend_key),
		  sizeof(struct backend) },
		{ &sync->ranges, MAP_SOURCE_RANGE, sizeof(struct source_range_key),
		  sizeof(uint8_t) },
	};

	for (size_t i = 0; i < ARRAY_SIZE(maps); i++) {
		int ret = map_cache_init(maps[i].map_cache, sync->datapath, maps[i].map,
					 maps[i].key_size, maps[i].value_size);

		if (ret)
			return fail(err, ret, "read %s", map_name(maps[i].map));
	}
	sync->backends.written_size = sizeof(struct backend_entry);
	return 0;
}

DEFINE_AUTO(sync)

int sync_new(struct event_base *base, struct datapath *datapath, struct store *store,
	     struct sync **ret_sync, struct errmsg *err)
{
	auto_(sync) struct sync *sync = xcalloc(1, sizeof(*sync));
	int ret;

	sync->datapath = datapath;
	sync->store = store;
	sync->incremental = incremental_new(store);
	ret = map_caches_init(sync, err);
	if (ret)
		return ret;
	port_sets_init(&sync->port_sets, &sync->ports);
	ret = sync_services_init(sync, base);
	if (ret)
		return fail(err, ret, "take over the maps");
	sync_apply_interrupted(sync);
	sync_set_missing(sync, "no source of objects has been read yet");
	*ret_sync = take_ptr(sync);
	return 0;
}

void sync_free(struct sync *sync)
{
	if (!sync)
		return;
	sync_services_done(sync);
	port_sets_done(&sync->port_sets);
	map_cache_done(&sync->ipcache);
	map_cache_done(&sync->cidrs);
	map_cache_done(&sync->policies);
	map_cache_done(&sync->ports);
	map_cache_done(&sync->services);
	map_cache_done(&sync->backends);
	map_cache_done(&sync->ranges);
	incremental_free(sync->incremental);
	free(sync);
}

void sync_set_missing(struct sync *sync, const char *missing)
{
	sync->losses += sync->deletes_allowed == (missing != NULL);
	sync->deletes_allowed = !missing;
	snprintf(sync->missing, sizeof(sync->missing), "%s", missing ? missing : "");
}

void sync_set_all_pods(struct sync *sync, bool all_pods)
{
	sync->losses += all_pods && !sync->all_pods; /* what was in doubt may be gone */
	sync->all_pods = all_pods;
}

const char *sync_missing(const struct sync *sync)
{
	return sync->deletes_allowed ? NULL : sync->missing;
}

void sync_set_services(struct sync *sync, const struct service_settings *settings)
{
	sync->settings = *settings;
	sync->node_changes = 0;
}

const struct service_node *sync_node(struct sync *sync)
{
	sync_node_refresh(sync);
	return &sync->node;
}

void sync_on_change(struct sync *sync, void (*changed)(void *arg), void *arg)
{
	sync->changed = changed;
	sync->changed_arg = arg;
}

void sync_on_egress_limit(struct sync *sync, void (*changed)(void *arg), void *arg)
{
	sync->limit_changed = changed;
	sync->limit_arg = arg;
}

void sync_on_outside(struct sync *sync, void (*changed)(void *arg), void *arg)
{
	sync->outside_changed = changed;
	sync->outside_arg = arg;
}

/* Calls changed() if the revision has been raised. */
static void sync_changed(const struct sync *sync, uint32_t before)
{
	if (sync->changed && maps_node(sync->datapath)->revision != before)
		sync->changed(sync->changed_arg);
}

/* Services without EndpointSlices follow the pods that their selectors match, and host ports the
 * pods that ask for them. */
static int selecting_services_sync(struct sync *sync, struct errmsg *err)
{
	const struct object *const *services;
	size_t count = store_selecting_services(sync->store, &services);
	int ret = 0;

	if (sync->pod_changes == store_pod_changes(sync->store))
		return 0;
	sync->pod_changes = store_pod_changes(sync->store);
	if (sync->local_by_address)
		return sync_services(sync, err);
	for (size_t i = 0; i < count; i++) {
		int error = sync_service(sync, services[i]->namespace, services[i]->name,
					 ret ? NULL : err);

		ret = ret ? ret : error;
	}
	if (ret)
		return ret;
	return sync_host_ports(sync, err);
}

int sync_policies(struct sync *sync, struct errmsg *err)
{
	uint64_t freed = sync->ipcache.deletes;
	uint32_t revision = maps_node(sync->datapath)->revision;
	struct compiled_changes changes;
	int ret, services_ret = 0;

	changes = incremental_update(sync->incremental);
	sync->service_address_taken = false;
	ret = sync_apply_changes(sync, sync_compiled(sync), &changes, err);
	if (sync_node_refresh(sync) || sync->service_address_taken ||
	    (sync->service_conflict[0] && sync->ipcache.deletes != freed))
		services_ret = sync_services(sync, ret ? NULL : err);
	if (!services_ret)
		services_ret = selecting_services_sync(sync, ret ? NULL : err);
	if (services_ret == -EEXIST) /* somebody else's conflict: status names it */
		services_ret = 0;
	sync_changed(sync, revision);
	sync_losses_tell(sync);
	return ret ? ret : services_ret;
}

int sync_everything(struct sync *sync, struct errmsg *err)
{
	int ret, services_ret;

	/* What would make sync_policies() sync services, too: that is done after it anyway. */
	sync_node_refresh(sync);
	sync->pod_changes = store_pod_changes(sync->store);
	ret = sync_policies(sync, err);
	services_ret = sync_services(sync, ret ? NULL : err);
	return ret ? ret : services_ret;
}

int sync_set_audit(struct sync *sync, bool audit, struct errmsg *err)
{
	uint32_t revision = maps_node(sync->datapath)->revision;
	const struct compiled *compiled = sync_compiled(sync);
	int ret;

	sync->audit = audit;
	if (!compiled)
		return 0;
	ret = sync_apply_audit(sync, compiled, err);
	sync_changed(sync, revision);
	return ret;
}

bool sync_audit(const struct sync *sync)
{
	return sync->audit;
}

const struct compiled *sync_compiled(const struct sync *sync)
{
	return incremental_compiled(sync->incremental);
}

const char *sync_warning(struct sync *sync)
{
	char services[1150];

	sync_services_warning(sync, services, sizeof(services));
	snprintf(sync->warning, sizeof(sync->warning), "%s%s%s", sync->policy_warning,
		 sync->policy_warning[0] && services[0] ? "; " : "", services);
	return sync->warning;
}
