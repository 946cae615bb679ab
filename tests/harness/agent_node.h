/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's modules around endpoints, in the test's own process: the real maps, links and files
 * of a scratch node.  And a listing of everything there is, to compare before and after.
 */
#ifndef TENDRIL_TESTS_HARNESS_AGENT_NODE_H
#define TENDRIL_TESTS_HARNESS_AGENT_NODE_H

#include "agent/endpoint/endpoint_internal.h"
#include "lib/auto.h"

#define AGENT_NODE_ENDPOINTS 8  /* slots 1 to 7 */
#define AGENT_NODE_ADDRESSES 64 /* room in ipcache_map */

struct agent_node {
	char run_dir[64];
	uint32_t max;        /* endpoints; 0: AGENT_NODE_ENDPOINTS */
	uint32_t addresses;  /* room for them; 0: AGENT_NODE_ADDRESSES */
	const char *objects; /* put into the store at the start, or NULL */
	/* Called with maps and programs there, before endpoints are taken over; or NULL. */
	void (*opened)(struct agent_node *node);
	struct event_base *base;
	struct fork_server *fork_server;
	struct datapath *datapath;
	struct store *store;
	struct sync *sync;
	struct endpoints *endpoints;
};

/* As tendrild does; below node->run_dir and the scratch pins. */
int agent_node_start(struct agent_node *node, struct errmsg *err);
void agent_node_stop(struct agent_node *node);

/* The CNI calls with a request as text. */
int agent_node_add(struct agent_node *node, const char *request, int pod_fd,
		   struct endpoint_error *error);
/* Waits until the interface is gone. */
int agent_node_del(struct agent_node *node, const char *request, struct endpoint_error *error);

/* Every link, address and route of the node and a pod, map entries, pins and files. */
struct listing;

struct listing *listing_take(struct agent_node *node, int pod_fd);
void listing_free(struct listing *listing);
DEFINE_AUTO(listing)
size_t listing_count(const struct listing *listing);
/* Prints what differs. */
bool listings_equal(const struct listing *before, const struct listing *after);

#endif
