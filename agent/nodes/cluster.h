/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is inside the cluster, as the datapath knows it (cluster_map): the pod CIDRs and addresses
 * of all nodes, and what else shall see pods under their own addresses.
 */
#ifndef TENDRIL_AGENT_NODES_CLUSTER_H
#define TENDRIL_AGENT_NODES_CLUSTER_H

#include <stdbool.h>

#include "agent/sync/map_cache.h"
#include "lib/inet.h"

struct cluster {
	struct map_cache ranges;
};

int cluster_init(struct cluster *cluster, struct datapath *datapath);
void cluster_done(struct cluster *cluster);

/* A sync names everything that is inside, between begin and end.  node: whose pods these are, NULL:
 * not those of another node; flags: enum cluster_flag.  Of two that name one range the last counts.
 */
void cluster_begin(struct cluster *cluster);
void cluster_add(struct cluster *cluster, const struct prefix *range, const struct addr *node,
		 uint32_t flags);
/* Whether the datapath takes the range for this node's. */
bool cluster_has(const struct cluster *cluster, const struct prefix *range,
		 const struct addr *node);
/* complete: what was not named is no longer inside. */
void cluster_end(struct cluster *cluster, bool complete);

#endif
