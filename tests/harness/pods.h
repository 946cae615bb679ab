/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pods without an agent, for tests of the datapath: a "node" and its pods, each a network namespace
 * without a name, joined by veth pairs that are numbered as the datapath wants them.  Everything is
 * gone with the descriptors, also when the test dies.
 *
 *      node: veth of slot 1, 2, ...  ========  eth0 of each pod
 *            tendril0 (unless routed)          10.99.0.(slot + 1)/24, fd99::(slot + 1)/112
 *                                              default route by 10.99.0.1, fd99::1: its host end
 */
#ifndef TENDRIL_TESTS_HARNESS_PODS_H
#define TENDRIL_TESTS_HARNESS_PODS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "datapath/maps.h"
#include "lib/errmsg.h"

#define PODS_MAX 8

struct pod {
	uint16_t slot; /* index in pods + 1 */
	int netns_fd;
	uint64_t netns_cookie;
	uint32_t netns_id; /* in the node's namespace: the slot */
	uint8_t mac[6];
	uint8_t host_mac[6];
	struct addr v4;
	struct addr v6;
};

struct pods {
	int node_fd;
	uint64_t node_cookie;
	int host_ifindex; /* of tendril0, 0 if routed */
	size_t count;
	struct pod pod[PODS_MAX];
};

/* Makes count pods.  routed: the node forwards between them as a plain router, which needs no
 * programs; otherwise packets for pods are routed to tendril0, where to_pod takes them. */
int pods_new(size_t count, bool routed, struct pods **ret, struct errmsg *err);
void pods_free(struct pods *pods);

/* The endpoint_map entry of a pod, as the agent would write it: no policy, identity
 * IDENTITY_FIRST + slot. */
struct endpoint_entry pods_endpoint(const struct pod *pod);
/* Writes endpoint_map and ipcache_map for every pod, with these flags beside ENDPOINT_VALID. */
int pods_publish(const struct pods *pods, struct datapath *datapath, uint32_t flags,
		 struct errmsg *err);

/* A socket inside the pod; -1 and errno. */
int pods_socket(const struct pod *pod, int domain, int type);

#endif
