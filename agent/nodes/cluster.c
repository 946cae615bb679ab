/* SPDX-License-Identifier: Apache-2.0 */
#define LOG_MODULE "nodes"
#include "agent/nodes/cluster.h"

#include <string.h>

#include "lib/auto.h"
#include "lib/log.h"

int cluster_init(struct cluster *cluster, struct datapath *datapath)
{
	return map_cache_init(&cluster->ranges, datapath, MAP_CLUSTER, sizeof(struct cidr_key),
			      sizeof(struct cluster_entry));
}

void cluster_done(struct cluster *cluster)
{
	map_cache_done(&cluster->ranges);
}

void cluster_begin(struct cluster *cluster)
{
	map_cache_begin(&cluster->ranges);
}

void cluster_add(struct cluster *cluster, const struct prefix *range, const struct addr *node)
{
	const struct cidr_key key = { .prefixlen = range->len, .addr = range->addr };
	struct cluster_entry entry = {};

	if (node)
		entry.node = *node;
	if (map_cache_set(&cluster->ranges, &key, &entry) < 0)
		log_error("cluster_map: out of memory");
}

void cluster_end(struct cluster *cluster, bool complete)
{
	int ret = map_cache_flush(&cluster->ranges);

	if (!ret && complete)
		ret = map_cache_sweep(&cluster->ranges, NULL, NULL);
	if (ret)
		log_error("cluster_map: %s", strerror(-ret));
}
