/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps endpoints as ADD made them: compares with the kernel, puts back what others removed, and
 * releases what no longer exists.  CHECK is the comparison alone.
 */
#include "agent/endpoint/endpoint_internal.h"
#include "lib/clock.h"

#include <errno.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>

#include "agent/sync/sync.h"
#define LOG_MODULE "endpoint"
#include "lib/log.h"

/* With more repairs than this in the period, somebody keeps changing it back: wait for the next
 * period. */
#define REPAIR_BURST  10
#define REPAIR_PERIOD (10 * NS_PER_SEC)
/* A look costs about half a millisecond, and a pod with NET_ADMIN can cause thousands in a second.
 */
#define LOOK_BURST 100

/* ---- compare --------------------------------------------------------------------------------- */

static int host_link_compare(const struct endpoint *endpoint, const struct host_link *link,
			     struct errmsg *err)
{
	const char *name = endpoint->host_ifname;
	char mac[18];

	if (memcmp(link->mac, endpoint->host_mac, 6) != 0)
		return fail_plain(err, -EPROTO, "%s has MAC %s", name, mac_format(link->mac, mac));
	if (!(link->flags & IFF_UP))
		return fail_plain(err, -EPROTO, "%s is down", name);
	return 0;
}

static int host_side_compare(struct endpoints *endpoints, const struct endpoint *endpoint,
			     struct errmsg *err)
{
	const char *name = endpoint->host_ifname;
	struct datapath *datapath = endpoints->datapath;
	struct host_link link = {};
	struct endpoint_entry entry = {};
	int ret = host_link_get(&endpoints->netlink, endpoint_ifindex(endpoint), &link, err);

	if (ret == -ENODEV || (ret == 0 && endpoint->chained && !chained_is_same(endpoint, &link)))
		return fail_plain(err, -EPROTO, "%s is gone", name);
	if (ret == 0)
		ret = endpoint->chained ? chained_compare(endpoints, endpoint, err)
					: host_link_compare(endpoint, &link, err);
	if (ret < 0)
		return ret;
	if (!datapath_endpoint_attached(datapath, endpoint_ifindex(endpoint)))
		return fail_plain(err, -EPROTO, "the program is not attached to %s", name);
	if (endpoint_map_get(datapath, endpoint->slot, &entry) < 0 ||
	    !(entry.flags & ENDPOINT_VALID) || memcmp(entry.mac, endpoint->mac, 6) != 0)
		return fail_plain(err, -EPROTO, "endpoint_map does not have slot %u",
				  endpoint->slot);
	for (size_t i = 0; i < endpoint->address_count; i++) {
		const struct addr *addr = &endpoint->addresses[i].address.addr;
		struct ipcache_entry owner = {};
		char text[ADDR_TEXT_MAX];

		if (ipcache_map_get(datapath, addr, &owner) < 0 || owner.slot != endpoint->slot)
			return fail_plain(err, -EPROTO, "ipcache_map does not have %s with slot %u",
					  addr_format(addr, text), endpoint->slot);
	}
	return 0;
}

/* The kernel takes IPv6 off a device with a smaller MTU. */
static int mtu_compare(const struct endpoint *endpoint, const struct host_link *pod_link,
		       struct errmsg *err)
{
	if (pod_link->mtu >= MTU_MIN_IPV6 || !endpoint_has_ipv6(endpoint))
		return 0;
	return fail_plain(err, -EPROTO, "%s has MTU %u: IPv6 needs %u", endpoint->ifname,
			  pod_link->mtu, MTU_MIN_IPV6);
}

/* MAC and MTU may be set by another plugin (tuning): the MAC must be the one that the agent has
 * recorded, and the MTU not larger than what the pair carries. */
static int pod_side_compare(const struct endpoint *endpoint, int netns_fd, struct errmsg *err)
{
	struct host_link link = {};
	char mac[18];
	int ret = pod_compare(endpoint, netns_fd, err);

	if (ret == 0)
		ret = pod_link_get(endpoint, netns_fd, &link, err);
	if (ret < 0)
		return ret;
	if (memcmp(link.mac, endpoint->mac, 6) != 0)
		return fail_plain(err, -EPROTO, "%s has MAC %s", endpoint->ifname,
				  mac_format(link.mac, mac));
	if (link.mtu > endpoint->mtu && !endpoint->chained)
		return fail_plain(err, -EPROTO, "%s has MTU %u instead of %u", endpoint->ifname,
				  link.mtu, endpoint->mtu);
	return mtu_compare(endpoint, &link, err);
}

int endpoint_compare(struct endpoints *endpoints, const struct endpoint *endpoint, int netns_fd,
		     struct errmsg *err)
{
	struct netns_id netns = {};
	int ret = netns_identify(netns_fd, &netns, err);

	if (ret < 0)
		return ret;
	if (netns.cookie != endpoint->netns.cookie)
		return fail_plain(err, -EPROTO, "the interface was made for another namespace (%s)",
				  endpoint->netns_path);
	ret = host_side_compare(endpoints, endpoint, err);
	return ret == 0 ? pod_side_compare(endpoint, netns_fd, err) : ret;
}

/* ---- repair ---------------------------------------------------------------------------------- */

static void mark_broken(struct endpoints *endpoints, struct endpoint *endpoint, const char *why)
{
	bool changed = endpoint->state != ENDPOINT_BROKEN || strcmp(endpoint->broken, why) != 0;
	char text[ENDPOINT_TEXT_MAX];

	snprintf(endpoint->broken, sizeof(endpoint->broken), "%.*s",
		 (int)sizeof(endpoint->broken) - 1, why);
	if (!changed)
		return;
	endpoint->state = ENDPOINT_BROKEN;
	log_warn("%s: broken: %s", endpoint_describe(endpoint, text), why);
	endpoint_state_save(endpoints, endpoint, NULL);
}

static void mark_ready(struct endpoints *endpoints, struct endpoint *endpoint)
{
	char text[ENDPOINT_TEXT_MAX];

	if (endpoint->state != ENDPOINT_BROKEN)
		return;
	endpoint->state = ENDPOINT_READY;
	endpoint->broken[0] = '\0';
	log_info("%s: ready again", endpoint_describe(endpoint, text));
	endpoint_state_save(endpoints, endpoint, NULL);
}

void log_repair(const struct endpoint *endpoint, const char *what)
{
	char text[ENDPOINT_TEXT_MAX];

	log_warn("%s: %s; put back", endpoint_describe(endpoint, text), what);
}

int endpoint_adopt_link(struct endpoint *endpoint, const struct host_link *link, struct errmsg *err)
{
	if (link->netns_id < 0 || link->peer_ifindex == 0)
		return fail_plain(err, -EPROTO, "the pod's end is not in a namespace of its own");
	endpoint->pod_ifindex = link->peer_ifindex;
	endpoint->big_tcp = link->big_tcp;
	endpoint->carrier = link->carrier;
	endpoint->bridge_ifindex = endpoint->chained ? link->master : 0;
	endpoint->netns_id = (uint32_t)link->netns_id;
	return 0;
}

/* Policy usually knows the endpoint; then a full map, which fails a registration, does not matter.
 */
int entries_repair(struct endpoints *endpoints, const struct endpoint *endpoint, struct errmsg *err)
{
	if (store_endpoint_find(endpoints->store, endpoint->slot))
		return endpoint_publish(endpoints, endpoint, err);
	return endpoint_register(endpoints, endpoint, err);
}

/* The pair is gone while the pod lives: make it again, as it was. */
static int pair_rebuild(struct endpoints *endpoints, struct endpoint *endpoint, int netns_fd,
			struct errmsg *err)
{
	struct netlink *netlink = &endpoints->netlink;
	struct host_link link = {};
	int ret = veth_add(netlink, endpoint, netns_fd, endpoints->big_tcp, err);

	if (ret == 0)
		ret = veth_configure(netlink, endpoint, endpoint->host_ifname, err);
	if (ret == 0)
		ret = host_link_get(netlink, endpoint_ifindex(endpoint), &link, err);
	if (ret == 0)
		ret = endpoint_adopt_link(endpoint, &link, err);
	if (ret == 0)
		ret = pod_configure(endpoint, netns_fd, err);
	if (ret == 0)
		ret = entries_repair(endpoints, endpoint, err);
	if (ret == 0)
		ret = datapath_attach_endpoint(endpoints->datapath, endpoint_ifindex(endpoint),
					       err);
	if (ret == 0)
		ret = link_set_up(netlink, endpoint_ifindex(endpoint), err);
	if (ret < 0)
		veth_del(netlink, endpoint_ifindex(endpoint), NULL);
	endpoint->tcx = false;
	endpoints_tcx_soon(endpoints);
	return ret;
}

/* An older kernel leaves a device its name while it is up: then it goes by the new one. */
static void host_link_rename(struct endpoints *endpoints, struct endpoint *endpoint,
			     struct host_link *link)
{
	char text[IFNAME_MAX + 40];

	snprintf(text, sizeof(text), "the interface was renamed to %s", link->name);
	link_rename(&endpoints->netlink, link->ifindex, endpoint->host_ifname);
	if (host_link_get(&endpoints->netlink, link->ifindex, link, NULL) < 0 ||
	    strcmp(link->name, endpoint->host_ifname) != 0)
		return;
	log_repair(endpoint, text);
	endpoint->repairs++;
}

static int host_side_repair(struct endpoints *endpoints, struct endpoint *endpoint,
			    struct host_link *link, struct errmsg *err)
{
	struct errmsg difference = {};
	int ret = endpoint_adopt_link(endpoint, link, err);

	if (ret == 0)
		ret = entries_repair(endpoints, endpoint, err);
	if (ret == 0 &&
	    !datapath_endpoint_attached(endpoints->datapath, endpoint_ifindex(endpoint))) {
		log_repair(endpoint, "the program was removed");
		ret = datapath_attach_endpoint(endpoints->datapath, endpoint_ifindex(endpoint),
					       err);
	}
	if (ret == 0 && host_link_compare(endpoint, link, &difference) < 0) {
		log_repair(endpoint, difference.text);
		endpoint->repairs++;
	}
	if (ret == 0 && strcmp(link->name, endpoint->host_ifname) != 0)
		host_link_rename(endpoints, endpoint, link);
	if (ret == 0)
		ret = veth_configure(&endpoints->netlink, endpoint, link->name, err);
	if (ret == 0 && !(link->flags & IFF_UP))
		ret = link_set_up(&endpoints->netlink, endpoint_ifindex(endpoint), err);
	return ret;
}

/* A pod may change its own MAC (the tuning plugin does).  The device that a packet comes from
 * prevents spoofing; the check of the MAC must only agree with what the pod sends. */
static int mac_follow(struct endpoints *endpoints, struct endpoint *endpoint,
		      const struct host_link *pod_link, struct errmsg *err)
{
	struct errmsg unsaved = {};
	char mac[18];
	int ret;

	if (memcmp(pod_link->mac, endpoint->mac, 6) == 0)
		return 0;
	memcpy(endpoint->mac, pod_link->mac, 6);
	log_info("%s/%s: MAC of %s is now %s", endpoint->namespace, endpoint->name,
		 endpoint->ifname, mac_format(endpoint->mac, mac));
	ret = entries_repair(endpoints, endpoint, err);
	/* An agent that starts with the old one follows again. */
	if (endpoint_state_save(endpoints, endpoint, &unsaved) < 0)
		log_warn("%s", unsaved.text);
	return ret;
}

static int pod_side_repair(struct endpoints *endpoints, struct endpoint *endpoint, int netns_fd,
			   struct errmsg *err)
{
	struct host_link link = {};
	struct errmsg difference = {};
	int ret = pod_link_get(endpoint, netns_fd, &link, err);

	if (ret < 0)
		return ret;
	/* A process with the right to do so wants it so; it is configured again when it is up. */
	if (!(link.flags & IFF_UP))
		return fail_plain(err, -EPROTO, "%s is down in the pod", endpoint->ifname);
	ret = mac_follow(endpoints, endpoint, &link, err);
	if (endpoint->chained)
		return ret;
	if (ret == 0 && pod_compare(endpoint, netns_fd, &difference) < 0) {
		log_repair(endpoint, difference.text);
		endpoint->repairs++;
		ret = pod_configure(endpoint, netns_fd, err);
		if (ret == 0 || ret == -EAFNOSUPPORT)
			ret = pod_compare(endpoint, netns_fd, err);
	}
	return ret == 0 ? mtu_compare(endpoint, &link, err) : ret;
}

/* Whether a namespace that nothing leads to is gone: the kernel has taken its number back, or has
 * given it to another.  An agent that started after the interface went does not know the number;
 * then there is nothing left of the pod that it could serve. */
static int netns_is_gone(struct endpoints *endpoints, const struct endpoint *endpoint,
			 bool *ret_gone, struct errmsg *err)
{
	bool exists = false;
	int ret = 0;

	if (endpoint->netns_id != NETNS_ID_UNKNOWN)
		ret = netns_id_exists(&endpoints->netlink, endpoint->netns_id, &exists, err);
	for (size_t slot = 1; exists && slot < endpoints->slot_count; slot++) {
		const struct endpoint *other = endpoints->slots[slot];

		exists = !other || other->netns_id != endpoint->netns_id ||
			 other->netns.cookie == endpoint->netns.cookie;
	}
	*ret_gone = ret == 0 && !exists;
	return ret;
}

/* *ret_gone: its namespace is, and only that proves it: whatever fails besides is a failure. */
static int endpoint_repair(struct endpoints *endpoints, struct endpoint *endpoint, bool *ret_gone,
			   struct errmsg *err)
{
	struct host_link link = {};
	auto_close int netns_fd = -1;
	int found = netns_find(endpoint->netns_path, &endpoint->netns, &netns_fd, err);
	int ret = host_link_get(&endpoints->netlink, endpoint_ifindex(endpoint), &link, NULL);

	if (ret == 0 && endpoint->chained && !chained_is_same(endpoint, &link))
		ret = -ENODEV;
	if (ret == -ENODEV && endpoint->chained)
		chained_close(endpoints, endpoint); /* its index may become another's */
	if (ret == -ENODEV && found == -ENOENT) {
		ret = netns_is_gone(endpoints, endpoint, ret_gone, err);
		return ret || *ret_gone ? ret
					: fail_plain(err, -ENODEV,
						     "the interface was removed, and its namespace "
						     "cannot be found");
	}
	if (ret == -ENODEV && found < 0)
		return found;
	if (ret == -ENODEV && endpoint->chained)
		return fail_plain(err, ret, "%s is gone, and another plugin made it",
				  endpoint->host_ifname);
	if (ret == -ENODEV) {
		log_repair(endpoint, "the interface was removed");
		endpoint->repairs++;
		return pair_rebuild(endpoints, endpoint, netns_fd, err);
	}
	if (ret < 0)
		return fail(err, ret, "look at %s", endpoint->host_ifname);
	ret = endpoint->chained ? chained_repair(endpoints, endpoint, &link, err)
				: host_side_repair(endpoints, endpoint, &link, err);
	/* A namespace that lives on without a name or a process cannot be looked into. */
	if (ret == 0 && found == 0)
		ret = pod_side_repair(endpoints, endpoint, netns_fd, err);
	return ret;
}

bool endpoint_reconcile(struct endpoints *endpoints, struct endpoint *endpoint)
{
	uint64_t now = now_ns();
	struct errmsg err = {};
	char text[ENDPOINT_TEXT_MAX];
	bool gone = false;
	int ret;

	endpoint->dirty = 0;
	if (endpoint->state == ENDPOINT_DELETING)
		return false;
	if (now - endpoint->repairs_since_ns > REPAIR_PERIOD) {
		endpoint->repairs_since_ns = now;
		endpoint->repairs = 0;
		endpoint->looks = 0;
	}
	if (endpoint->repairs >= REPAIR_BURST) {
		mark_broken(endpoints, endpoint, "somebody keeps changing it back");
		endpoint->dirty = DIRT_ALL;
		return true;
	}
	if (endpoint->looks >= LOOK_BURST) {
		endpoint->dirty = DIRT_ALL;
		return true;
	}
	endpoint->looks++;
	ret = endpoint_repair(endpoints, endpoint, &gone, &err);
	if (gone) {
		log_info("%s: its namespace is gone", endpoint_describe(endpoint, text));
		endpoint_release(endpoints, endpoint);
	} else if (ret < 0) {
		mark_broken(endpoints, endpoint, err.text);
	} else {
		mark_ready(endpoints, endpoint);
	}
	return false;
}

/* ---- the node -------------------------------------------------------------------------------- */

int host_repair(struct endpoints *endpoints, struct errmsg *err)
{
	struct datapath *datapath = endpoints->datapath;
	bool changed = false;
	int ret = host_device_ensure(endpoints->host, &changed, err);
	int ifindex = host_device_ifindex(endpoints->host);

	if (ret == 0 && (changed || !datapath_host_attached(datapath, ifindex)))
		ret = datapath_attach_host(datapath, ifindex, err);
	if (ret == 0 && changed && endpoints->started)
		log_warn("%s was changed; put back", HOST_DEVICE);
	return ret;
}

int host_addresses_refresh(struct endpoints *endpoints, struct errmsg *err)
{
	struct store *store = endpoints->store;
	auto_free struct addr *addresses = NULL;
	const struct addr *before = NULL;
	size_t before_count = store_host_addresses(store, &before);
	size_t count = 0;
	int ret = host_addresses(&endpoints->netlink, &addresses, &count, err);

	if (ret < 0)
		return ret;
	if (count == before_count &&
	    (count == 0 || memcmp(before, addresses, count * sizeof(*before)) == 0))
		return 0;
	store_host_addresses_set(store, addresses, count);
	return endpoints_sync(endpoints, err);
}
