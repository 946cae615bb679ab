/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the Services of a store to the addresses that a node serves, and their endpoints.  Endpoints
 * come from EndpointSlices; for a Service without slices, from the pods that its selector matches.
 */
#ifndef TENDRIL_POLICY_OBJECTS_SERVICE_H
#define TENDRIL_POLICY_OBJECTS_SERVICE_H

#include "datapath/abi.h"
#include "policy/objects/store.h"

/* The settings of the node's administrator. */
struct service_settings {
	/* The node's addresses that have node ports; none: all of them, and loopback. */
	struct prefix_set node_port_addresses;
	/* Serve spec.externalIPs.  A user who may write Services can then take any address. */
	bool external_ips;
	bool maglev; /* for Services that do not say how backends are chosen */
	bool dsr;    /* other nodes send clients outside to the endpoints of this one */
};

/* What services need to know of a node. */
struct service_node {
	char *name;             /* of the Node object that has an address of ours; or NULL */
	char *zone;             /* topology.kubernetes.io/zone; or NULL */
	struct addr *addresses; /* with node ports, loopback among them */
	size_t address_count;
	bool external_ips;
	bool maglev;
	bool dsr;
};

/* Fills in the store's own node. */
void service_node_init(struct service_node *node, const struct store *store,
		       const struct service_settings *settings);
void service_node_done(struct service_node *node);
bool service_node_equal(const struct service_node *a, const struct service_node *b);

enum backend_use {
	USE_CLUSTER = 1 << 0, /* gets new connections */
	/* Gets new connections where the traffic policy is Local, or another node has chosen this
	 * one (direct server return). */
	USE_LOCAL = 1 << 1,
	USE_KEEP = 1 << 2, /* serves, and keeps the flows that it has, but gets no new ones */
};

struct service_backend {
	struct addr addr;
	uint16_t port; /* host order */
	bool ready;
	bool serving;
	bool terminating;
	bool local;  /* on this node; not filled if nothing asks for those of the service */
	uint8_t use; /* enum backend_use */
	const char *pod_namespace; /* borrowed, or NULL, like the following */
	const char *pod_name;
	const char *node_name;
	const char *zone;
	const struct endpoint_hints *hints;
};

enum hints_used { HINTS_NONE, HINTS_NODE, HINTS_ZONE };

/* The endpoints of one port in one family. */
struct service_pool {
	const struct service_port *port; /* borrowed from the service */
	bool v6;
	enum hints_used hints;            /* by which Cluster policy chose */
	struct service_backend *backends; /* all endpoints, sorted by (addr, port), unique */
	size_t backend_count;
	size_t cluster_count; /* how many of them are USE_CLUSTER, and so on */
	size_t local_count;
	size_t keep_count;
	uint32_t table_size; /* of the Maglev table for clients outside; 0: none */
};

/* An address that leads to a pool. */
struct service_frontend {
	struct addr addr;
	uint16_t port; /* host order */
	uint8_t proto;
	enum service_kind kind;
	const struct service_pool *pool;
};

struct service_frontends {
	struct service_frontend *items; /* in order of their pools */
	size_t count;
	struct service_pool *pools;
	size_t pool_count;
	struct service_port *own_ports; /* that no Service has: host_port_frontends() */
	size_t own_port_count;
};

/*
 * Every address, port and protocol of one service on a node, with the endpoints to use now.
 * Headless, ExternalName and foreign services have none.  node NULL: only cluster and load balancer
 * addresses, which are the same on every node.
 *
 * Endpoints are chosen as kube-proxy's documents say.  If some are ready: those for this node, else
 * those for this zone, if all ready ones have such hints; else all ready ones.  If none is ready:
 * those that still serve while they terminate, on any node.  With Local policy the same among the
 * endpoints of this node, without hints.  publishNotReadyAddresses makes all ready.
 */
struct service_frontends service_frontends(const struct store *store, const struct object *service,
					   const struct service_node *node);
void service_frontends_done(struct service_frontends *frontends);

/* Whether new connections to a frontend go only to endpoints of this node. */
static inline bool service_is_local(const struct service_object *service, enum service_kind kind)
{
	return kind == CLUSTER_IP ? service->internal_local : service->external_local;
}

#endif
