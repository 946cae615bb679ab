/* SPDX-License-Identifier: Apache-2.0 */
/* What other modules see of endpoints: names, addresses, namespaces. */
#include "agent/endpoint/endpoint_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/auto.h"
#include "lib/sockdiag.h"

static void info_fill(const struct endpoint *endpoint, struct endpoint_info *ret)
{
	*ret = (struct endpoint_info){
		.slot = endpoint->slot,
		.container_id = endpoint->container_id,
		.ifname = endpoint->ifname,
		.namespace = endpoint->namespace,
		.name = endpoint->name,
		.uid = endpoint->uid,
		.host_ifname = endpoint->host_ifname,
		.host_ifindex = endpoint_ifindex(endpoint),
		.state = endpoint_state_name(endpoint->state),
		.reason = endpoint->broken,
		.netns_cookie = endpoint->netns.cookie,
		.address_count = endpoint->address_count,
		.labels = &endpoint->labels,
	};
	memcpy(ret->mac, endpoint->mac, sizeof(ret->mac));
	for (size_t i = 0; i < endpoint->address_count; i++)
		ret->addresses[i] = endpoint->addresses[i].address.addr;
}

bool endpoints_by_slot(const struct endpoints *endpoints, uint16_t slot, struct endpoint_info *ret)
{
	if (slot >= endpoints->slot_count || !endpoints->slots[slot])
		return false;
	info_fill(endpoints->slots[slot], ret);
	return true;
}

bool endpoints_next(const struct endpoints *endpoints, uint16_t after_slot,
		    struct endpoint_info *ret)
{
	for (size_t slot = after_slot + 1U; slot < endpoints->slot_count; slot++) {
		if (endpoints_by_slot(endpoints, (uint16_t)slot, ret))
			return true;
	}
	return false;
}

bool endpoints_by_pod(const struct endpoints *endpoints, const char *namespace, const char *name,
		      struct endpoint_info *ret)
{
	for (uint16_t slot = 0; endpoints_next(endpoints, slot, ret); slot = ret->slot) {
		if (strcmp(ret->namespace, namespace) == 0 && strcmp(ret->name, name) == 0)
			return true;
	}
	return false;
}

struct cJSON *endpoints_pod_json(const struct endpoints *endpoints, uint16_t slot,
				 const struct addr *addr)
{
	const struct object *owner;
	struct endpoint_info info;
	char text[2 * POD_NAME_MAX + 2];

	if (slot && endpoints_by_slot(endpoints, slot, &info)) {
		snprintf(text, sizeof(text), "%s/%s", info.namespace, info.name);
		return cJSON_CreateString(text);
	}
	owner = store_owner(endpoints->store, addr);
	if (!owner || owner->kind != OBJECT_POD)
		return cJSON_CreateNull();
	snprintf(text, sizeof(text), "%s/%s", owner->namespace, owner->name);
	return cJSON_CreateString(text);
}

struct cJSON *endpoints_owner_json(const struct endpoints *endpoints, const struct addr *addr)
{
	struct ipcache_entry entry = {};

	ipcache_map_get(endpoints->datapath, addr, &entry); /* zeros if it fails */
	return endpoints_pod_json(endpoints, entry.slot, addr);
}

bool endpoints_any_chained(const struct endpoints *endpoints)
{
	for (size_t slot = 0; slot < endpoints->slot_count; slot++) {
		if (endpoints->slots[slot] && endpoints->slots[slot]->chained)
			return true;
	}
	return false;
}

bool endpoints_own_range(const struct endpoints *endpoints, const struct addr *addr)
{
	struct ipam_lease lease;

	return ipam_range_of(endpoints->ipam, addr, &lease) == 0 &&
	       !addr_equal(&lease.gateway, addr);
}

int endpoints_sockdiag_open(const struct endpoints *endpoints, uint16_t slot,
			    struct netlink *netlink, struct errmsg *err)
{
	static const struct timeval at_once = {};
	struct endpoint *endpoint = slot < endpoints->slot_count ? endpoints->slots[slot] : NULL;

	if (endpoint && endpoint->netns_fd < 0 &&
	    netns_find(endpoint->netns_path, &endpoint->netns, &endpoint->netns_fd, NULL) == 0)
		evtimer_add(endpoints->netns_event, &at_once);
	if (!endpoint || endpoint->netns_fd < 0)
		return fail_plain(err, -ENOENT, "the pod's network namespace is gone");
	return sockdiag_open(netlink, endpoint->netns_fd, err);
}

void endpoints_netns_return(evutil_socket_t fd, short what, void *arg)
{
	struct endpoints *endpoints = arg;

	(void)fd;
	(void)what;
	for (size_t slot = 1; slot < endpoints->slot_count; slot++) {
		struct endpoint *endpoint = endpoints->slots[slot];

		if (endpoint && endpoint->netns_fd >= 0)
			close(take_fd(&endpoint->netns_fd));
	}
}
