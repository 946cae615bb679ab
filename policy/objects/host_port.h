/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ports of this node that lead to a pod: hostPort of its containers, and what a container runtime
 * asked for (the CNI capability portMappings).
 */
#ifndef TENDRIL_POLICY_OBJECTS_HOST_PORT_H
#define TENDRIL_POLICY_OBJECTS_HOST_PORT_H

#include "policy/objects/service.h"

/* The frontends of one endpoint, each with the pod as its only backend: at hostIP, or at all
 * addresses of the node and loopback, in the families that the pod has.  Empty if it asks for none,
 * or has ended.  service_frontends_done() frees them. */
struct service_frontends host_port_frontends(const struct store *store,
					     const struct store_endpoint *endpoint);

#endif
