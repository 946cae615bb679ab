/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HOST_DEVICE: a device without a wire (dummy, or ifb).  It carries the gateway addresses and the
 * routes by which the node reaches its pods; this file also owns the namespace's forwarding
 * switches.  host_device_ensure() puts back whatever is missing.
 */
#ifndef TENDRIL_AGENT_ENDPOINT_HOST_DEVICE_H
#define TENDRIL_AGENT_ENDPOINT_HOST_DEVICE_H

#include <stdbool.h>

#include "agent/endpoint/ipam.h"
#include "datapath/abi.h"
#include "lib/netlink.h"

/* Marks our routes among those of others and of the kernel. */
#define HOST_ROUTE_PROTOCOL 84

struct host_device;

/* netlink and ipam are borrowed.  Sets nothing up yet. */
struct host_device *host_device_new(struct netlink *netlink, const struct ipam *ipam, bool big_tcp);
void host_device_free(struct host_device *device); /* leaves the device as it is */

/* Makes everything as it should be; *ret_changed says whether something was not (the device may be
 * new and have another index).  -EEXIST: somebody else has one of our routes or addresses. */
int host_device_ensure(struct host_device *device, bool *ret_changed, struct errmsg *err);
int host_device_ifindex(const struct host_device *device); /* 0 before the first ensure */

/* A route for one address outside the pod CIDRs; does nothing for one inside.  If it fails,
 * host_device_ensure() tries again until the route is deleted here. */
int host_device_route_add(struct host_device *device, const struct addr *addr, struct errmsg *err);
void host_device_route_del(struct host_device *device, const struct addr *addr);

/* Removes the addresses and routes of pod CIDRs that a former configuration had.  Call when all
 * single routes are added. */
int host_device_prune(struct host_device *device, struct errmsg *err);

/* Whether a netlink notification says that a part of ours is gone or changed. */
bool host_device_is_hurt_by(const struct host_device *device, const struct nlmsghdr *notice);

/* Whether the kernel has IPv6 (ipv6.disable=1 takes it away altogether). */
bool host_has_ipv6(void);

/* Removes the device, and with it addresses and routes; fine if there is none. */
int host_device_remove(struct netlink *netlink, struct errmsg *err);

#endif
