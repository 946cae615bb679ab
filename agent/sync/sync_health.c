/* SPDX-License-Identifier: Apache-2.0 */
/* Services whose load balancer asks each node whether it has endpoints: healthCheckNodePort. */
#include <stdlib.h>

#include "agent/sync/service_run.h"
#include "lib/alloc.h"

void health_forget(struct sync *sync, uint64_t owner)
{
	struct health_check *check = table_find(&sync->health_checks, &owner);

	if (!check)
		return;
	free(check->namespace);
	free(check->name);
	table_del(&sync->health_checks, &owner);
}

void health_forget_all(struct sync *sync)
{
	struct health_check *check;
	size_t pos = 0;

	while ((check = table_next(&sync->health_checks, &pos, NULL))) {
		free(check->namespace);
		free(check->name);
	}
	table_done(&sync->health_checks);
}

/* Endpoints of this node that are ready: several ports of one pod count once. */
static uint32_t local_count(const struct service_frontends *frontends, bool v6)
{
	struct table addresses;
	uint32_t count;

	table_init(&addresses, sizeof(struct addr), 0);
	for (size_t i = 0; i < frontends->pool_count; i++) {
		const struct service_pool *pool = &frontends->pools[i];

		for (size_t k = 0; pool->v6 == v6 && k < pool->backend_count; k++) {
			if (pool->backends[k].ready && pool->backends[k].local)
				table_put(&addresses, &pool->backends[k].addr);
		}
	}
	count = (uint32_t)addresses.count;
	table_done(&addresses);
	return count;
}

void health_note(struct sync *sync, uint64_t owner, const struct object *service,
		 const struct service_frontends *frontends)
{
	struct health_check *check;

	health_forget(sync, owner);
	if (!service->service.health_check_port || !service->service.external_local)
		return;
	check = table_put(&sync->health_checks, &owner);
	*check = (struct health_check){
		.namespace = xstrdup(service->namespace),
		.name = xstrdup(service->name),
		.port = service->service.health_check_port,
		.local_v4 = local_count(frontends, false),
		.local_v6 = local_count(frontends, true),
	};
}

const struct health_check *sync_health_checks(const struct sync *sync, size_t *pos)
{
	return table_next(&sync->health_checks, pos, NULL);
}

size_t sync_health_check_count(const struct sync *sync)
{
	return sync->health_checks.count;
}

bool sync_chosen_addresses(struct sync *sync, const struct addr **ret_addresses, size_t *ret_count)
{
	const struct service_node *node = sync_node(sync);

	*ret_addresses = node->addresses;
	*ret_count = node->address_count;
	return sync->settings.node_port_addresses.count;
}
