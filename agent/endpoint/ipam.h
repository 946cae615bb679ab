/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Address ranges of this node, and the choice of the next address.  Allocated addresses are not
 * recorded here: a callback asks the endpoints, so no address can leak.  In each range the first
 * address is the network (IPv6: the subnet-router anycast), the second the gateway, and the last of
 * an IPv4 range the broadcast address; pods get the others.
 */
#ifndef TENDRIL_AGENT_ENDPOINT_IPAM_H
#define TENDRIL_AGENT_ENDPOINT_IPAM_H

#include <stdbool.h>
#include <stddef.h>

#include "datapath/abi.h"
#include "lib/auto.h"
#include "lib/errmsg.h"
#include "lib/inet.h"

struct ipam;

struct ipam_lease {
	struct prefix address; /* a whole address (host bits set) with its range's length */
	struct addr gateway;
};

/* Whether an endpoint has the address. */
typedef bool (*ipam_in_use)(const struct addr *addr, void *arg);

/* -EINVAL: a range is too small for a pod, or two overlap. */
int ipam_new(const struct prefix *ranges, size_t count, struct ipam **ret_ipam, struct errmsg *err);
/* Replaces the ranges; they stay on failure. */
int ipam_set(struct ipam *ipam, const struct prefix *ranges, size_t count, struct errmsg *err);
void ipam_free(struct ipam *ipam);
DEFINE_AUTO(ipam)

bool ipam_has_family(const struct ipam *ipam, bool v4);

/* Allocates the next free address of the family.  The search begins where the last one ended, so
 * that no address is used again at once.  -ENOSPC: none is free. */
int ipam_allocate(struct ipam *ipam, bool v4, ipam_in_use in_use, void *arg, struct ipam_lease *ret,
		  struct errmsg *err);

/* Allocates exactly this address.  -EINVAL: it is not for pods of this node; -EADDRINUSE. */
int ipam_request(const struct ipam *ipam, const struct addr *addr, ipam_in_use in_use, void *arg,
		 struct ipam_lease *ret, struct errmsg *err);

/* Continues the search after an address that was allocated before a restart. */
void ipam_continue_after(struct ipam *ipam, const struct addr *addr);

/* The range of an address, with its gateway; -ENOENT. */
int ipam_range_of(const struct ipam *ipam, const struct addr *addr, struct ipam_lease *ret);

/* The ranges and their gateways, the addresses of HOST_DEVICE: index 0, 1, ... until false. */
bool ipam_range(const struct ipam *ipam, size_t index, struct prefix *ret_range,
		struct addr *ret_gateway);

#endif
