/* SPDX-License-Identifier: Apache-2.0 */
#define LOG_MODULE "nodes"
#include "agent/nodes/cluster.h"

#include <asm/byteorder.h>
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

/* Where IPv4 addresses are among those of IPv6 (::ffff:0:0/96). */
#define V4_MAPPED_BITS 96
static const struct addr v4_mapped = { .w = { 0, 0, __constant_htonl(0x0000ffff), 0 } };

/* A range of IPv6 around that place, without it: the halves that are left when it is halved until
 * only the place remains. */
static void cluster_add_around(struct cluster *cluster, const struct prefix *range,
			       const struct addr *node, uint32_t flags)
{
	for (uint8_t bit = range->len; bit < V4_MAPPED_BITS; bit++) {
		struct prefix half = prefix_of(&v4_mapped, (uint8_t)(bit + 1));
		uint8_t *bytes = (uint8_t *)&half.addr;

		bytes[bit / 8] ^= (uint8_t)(0x80 >> bit % 8);
		cluster_add(cluster, &half, node, flags);
	}
}

void cluster_add(struct cluster *cluster, const struct prefix *range, const struct addr *node,
		 uint32_t flags)
{
	const struct cidr_key key = { .prefixlen = range->len, .addr = range->addr };
	const struct prefix around = prefix_of(&v4_mapped, range->len);
	struct cluster_entry entry = { .flags = flags };

	if (range->len < V4_MAPPED_BITS && prefix_equal(&around, range)) {
		cluster_add_around(cluster, range, node, flags);
		return;
	}
	if (node)
		entry.node = *node;
	map_cache_set(&cluster->ranges, &key, &entry);
}

bool cluster_has(const struct cluster *cluster, const struct prefix *range, const struct addr *node)
{
	const struct cidr_key key = { .prefixlen = range->len, .addr = range->addr };
	const struct cluster_entry *entry = map_cache_get(&cluster->ranges, &key);

	return entry && !addr_is_zero(node) && addr_equal(&entry->node, node);
}

void cluster_end(struct cluster *cluster, bool complete)
{
	int ret = map_cache_flush(&cluster->ranges);

	if (!ret && complete)
		ret = map_cache_sweep(&cluster->ranges, NULL, NULL);
	if (ret)
		log_error("cluster_map: %s", strerror(-ret));
}
