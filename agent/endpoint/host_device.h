/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HOST_DEVICE: a virtual device (dummy, or ifb) with the gateway addresses and the node's routes to
 * its pods.  host_device_ensure() repairs whatever is missing.
 */
#ifndef TENDRIL_AGENT_ENDPOINT_HOST_DEVICE_H
#define TENDRIL_AGENT_ENDPOINT_HOST_DEVICE_H

#include <stdbool.h>

#include "agent/endpoint/ipam.h"
#include "datapath/abi.h"
#include "lib/netlink.h"

/* The protocol number of our routes, which distinguishes them from others. */
#define HOST_ROUTE_PROTOCOL 84

struct host_device;

/* netlink and ipam are borrowed.  Changes nothing in the kernel yet. */
struct host_device *host_device_new(struct netlink *netlink, const struct ipam *ipam, bool big_tcp);
void host_device_free(struct host_device *device); /* leaves the device as it is */

/* Makes or repairs the device, its addresses and routes.  *ret_changed: something was changed (the
 * device may be new and have another index).  -EEXIST: somebody else has one of our routes or
 * addresses. */
int host_device_ensure(struct host_device *device, bool *ret_changed, struct errmsg *err);
int host_device_ifindex(const struct host_device *device); /* 0 before the first ensure */

/* Adds a route for one address outside the pod CIDRs; does nothing for one inside.  After a failure
 * host_device_ensure() tries again until host_device_route_del() is called. */
int host_device_route_add(struct host_device *device, const struct addr *addr, struct errmsg *err);
void host_device_route_del(struct host_device *device, const struct addr *addr);

/* Removes the addresses and routes of pod CIDRs of an earlier configuration.  Called when all
 * single routes are added. */
int host_device_prune(struct host_device *device, struct errmsg *err);

/* Whether a netlink notification says that something of ours is gone or changed. */
bool host_device_is_hurt_by(const struct host_device *device, const struct nlmsghdr *notice);

/* Whether the kernel has IPv6 (not with ipv6.disable=1). */
bool host_has_ipv6(void);

/* Removes the device, with its addresses and routes; 0 also if there is none. */
int host_device_remove(struct netlink *netlink, struct errmsg *err);

#endif
