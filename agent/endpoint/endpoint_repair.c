/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps endpoints as ADD made them: compares with the kernel, puts back what others removed, and
 * lets go of what no longer exists.  CHECK is the comparison alone.
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

/* More repairs than this in the period: somebody is at war with us; wait for the next one. */
#define REPAIR_BURST  10
#define REPAIR_PERIOD (10 * NS_PER_SEC)

/* ---- compare --------------------------------------------------------------------------------- */

static int host_link_compare(const struct attachment *attachment, const struct host_link *link,
			     struct errmsg *err)
{
	const char *name = attachment->host_ifname;
	char mac[18];

	if (memcmp(link->mac, attachment->host_mac, 6) != 0)
		return fail_plain(err, -EPROTO, "%s has MAC %s", name, mac_format(link->mac, mac));
	if (!(link->flags & IFF_UP))
		return fail_plain(err, -EPROTO, "%s is down", name);
	return 0;
}

static int host_side_compare(struct endpoints *endpoints, const struct attachment *attachment,
			     struct errmsg *err)
{
	const char *name = attachment->host_ifname;
	struct datapath *datapath = endpoints->agent->datapath;
	struct host_link link = {};
	struct endpoint entry = {};
	int result = host_link_get(&endpoints->netlink, attachment_ifindex(attachment), &link, err);

	if (result == -ENODEV)
		return fail_plain(err, -EPROTO, "%s is gone", name);
	if (result == 0)
		result = host_link_compare(attachment, &link, err);
	if (result < 0)
		return result;
	if (!datapath_endpoint_attached(datapath, attachment->slot))
		return fail_plain(err, -EPROTO, "the program is not attached to %s", name);
	if (endpoint_map_get(datapath, attachment->slot, &entry) < 0 ||
	    !(entry.flags & ENDPOINT_VALID) || memcmp(entry.mac, attachment->mac, 6) != 0)
		return fail_plain(err, -EPROTO, "endpoint_map does not have slot %u",
				  attachment->slot);
	for (size_t i = 0; i < attachment->address_count; i++) {
		const struct addr *addr = &attachment->addresses[i].address.addr;
		struct ipcache_entry owner = {};
		char text[ADDR_TEXT_MAX];

		if (ipcache_map_get(datapath, addr, &owner) < 0 || owner.slot != attachment->slot)
			return fail_plain(err, -EPROTO, "ipcache_map does not lead %s to slot %u",
					  addr_format(addr, text), attachment->slot);
	}
	return 0;
}

/* MAC and MTU may be another plugin's work (tuning): the MAC that the agent has followed must still
 * be there, and an MTU must not be larger than what the pair carries. */
static int pod_side_compare(const struct attachment *attachment, int netns_fd, struct errmsg *err)
{
	struct host_link link = {};
	char mac[18];
	int result = pod_compare(attachment, netns_fd, err);

	if (result == 0)
		result = pod_link_get(attachment, netns_fd, &link, err);
	if (result < 0)
		return result;
	if (memcmp(link.mac, attachment->mac, 6) != 0)
		return fail_plain(err, -EPROTO, "%s has MAC %s", attachment->ifname,
				  mac_format(link.mac, mac));
	if (link.mtu > attachment->mtu)
		return fail_plain(err, -EPROTO, "%s has MTU %u instead of %u", attachment->ifname,
				  link.mtu, attachment->mtu);
	return 0;
}

int attachment_compare(struct endpoints *endpoints, const struct attachment *attachment,
		       int netns_fd, struct errmsg *err)
{
	struct netns_id netns = {};
	int result = netns_identify(netns_fd, &netns, err);

	if (result < 0)
		return result;
	if (netns.cookie != attachment->netns.cookie)
		return fail_plain(err, -EPROTO, "the interface was made for another namespace (%s)",
				  attachment->netns_path);
	result = host_side_compare(endpoints, attachment, err);
	return result == 0 ? pod_side_compare(attachment, netns_fd, err) : result;
}

/* ---- repair ---------------------------------------------------------------------------------- */

static void mark_broken(struct endpoints *endpoints, struct attachment *attachment, const char *why)
{
	bool news = attachment->state != ATTACHMENT_BROKEN || strcmp(attachment->broken, why) != 0;
	char text[ATTACHMENT_TEXT_MAX];

	snprintf(attachment->broken, sizeof(attachment->broken), "%.*s",
		 (int)sizeof(attachment->broken) - 1, why);
	if (!news)
		return;
	attachment->state = ATTACHMENT_BROKEN;
	log_warn("%s: broken: %s", attachment_describe(attachment, text), why);
	endpoint_state_save(endpoints, attachment, NULL);
}

static void mark_ready(struct endpoints *endpoints, struct attachment *attachment)
{
	char text[ATTACHMENT_TEXT_MAX];

	if (attachment->state != ATTACHMENT_BROKEN)
		return;
	attachment->state = ATTACHMENT_READY;
	attachment->broken[0] = '\0';
	log_info("%s: ready again", attachment_describe(attachment, text));
	endpoint_state_save(endpoints, attachment, NULL);
}

static void log_repair(const struct attachment *attachment, const char *what)
{
	char text[ATTACHMENT_TEXT_MAX];

	log_warn("%s: %s; put back", attachment_describe(attachment, text), what);
}

/* The kernel's numbers for the pod's side, which are not saved. */
static int link_follow(struct attachment *attachment, const struct host_link *link,
		       struct errmsg *err)
{
	if (link->netns_id < 0 || link->peer_ifindex == 0)
		return fail_plain(err, -EPROTO, "the pod's end is not in a namespace of its own");
	attachment->pod_ifindex = link->peer_ifindex;
	attachment->big_tcp = link->big_tcp;
	attachment->netns_id = (uint32_t)link->netns_id;
	return 0;
}

/* Policy knows the endpoint as a rule: then full maps, which fail a registration, are no obstacle.
 */
static int entries_repair(struct endpoints *endpoints, const struct attachment *attachment,
			  struct errmsg *err)
{
	if (world_endpoint_find(endpoints->agent->world, attachment->slot))
		return attachment_map_set(endpoints, attachment, err);
	return attachment_register(endpoints, attachment, err);
}

/* The pair is gone while the pod lives: makes it anew, as it was. */
static int pair_rebuild(struct endpoints *endpoints, struct attachment *attachment, int netns_fd,
			struct errmsg *err)
{
	struct netlink *netlink = &endpoints->netlink;
	struct host_link link = {};
	int result = veth_add(netlink, attachment, netns_fd, endpoints->agent->config.big_tcp, err);

	if (result == 0)
		result = veth_configure(netlink, attachment, err);
	if (result == 0)
		result = host_link_get(netlink, attachment_ifindex(attachment), &link, err);
	if (result == 0)
		result = link_follow(attachment, &link, err);
	if (result == 0)
		result = pod_configure(attachment, netns_fd, err);
	if (result == 0)
		result = entries_repair(endpoints, attachment, err);
	if (result == 0)
		result =
			datapath_attach_endpoint(endpoints->agent->datapath, attachment->slot, err);
	if (result == 0)
		result = link_set_up(netlink, attachment_ifindex(attachment), err);
	if (result < 0)
		veth_del(netlink, attachment_ifindex(attachment), NULL);
	attachment->tcx = false;
	endpoints_tcx_soon(endpoints);
	return result;
}

static int host_side_repair(struct endpoints *endpoints, struct attachment *attachment,
			    const struct host_link *link, struct errmsg *err)
{
	struct errmsg difference = {};
	int result = link_follow(attachment, link, err);

	if (result == 0)
		result = entries_repair(endpoints, attachment, err);
	if (result == 0 &&
	    !datapath_endpoint_attached(endpoints->agent->datapath, attachment->slot)) {
		log_repair(attachment, "the program was removed");
		result =
			datapath_attach_endpoint(endpoints->agent->datapath, attachment->slot, err);
	}
	if (result == 0 && host_link_compare(attachment, link, &difference) < 0) {
		log_repair(attachment, difference.text);
		attachment->repairs++;
	}
	if (result == 0)
		result = veth_configure(&endpoints->netlink, attachment, err);
	if (result == 0 && !(link->flags & IFF_UP))
		result = link_set_up(&endpoints->netlink, attachment_ifindex(attachment), err);
	return result;
}

/* The pod may change its own MAC (the tuning plugin does): spoofing is prevented by the device a
 * packet comes from, the check of the MAC must only agree with what the pod sends. */
static int mac_follow(struct endpoints *endpoints, struct attachment *attachment,
		      const struct host_link *pod_link, struct errmsg *err)
{
	char mac[18];
	int result;

	if (memcmp(pod_link->mac, attachment->mac, 6) == 0)
		return 0;
	memcpy(attachment->mac, pod_link->mac, 6);
	log_info("%s/%s: MAC of %s is now %s", attachment->namespace, attachment->name,
		 attachment->ifname, mac_format(attachment->mac, mac));
	result = endpoint_state_save(endpoints, attachment, err);
	return result == 0 ? entries_repair(endpoints, attachment, err) : result;
}

static int pod_side_repair(struct endpoints *endpoints, struct attachment *attachment, int netns_fd,
			   struct errmsg *err)
{
	struct host_link link = {};
	struct errmsg difference = {};
	int result = pod_link_get(attachment, netns_fd, &link, err);

	if (result < 0)
		return result;
	/* Whoever may do so inside the pod wants it so; it is configured again when it is up. */
	if (!(link.flags & IFF_UP))
		return fail_plain(err, -EPROTO, "%s is down in the pod", attachment->ifname);
	result = mac_follow(endpoints, attachment, &link, err);
	if (result == 0 && pod_compare(attachment, netns_fd, &difference) < 0) {
		log_repair(attachment, difference.text);
		attachment->repairs++;
		result = pod_configure(attachment, netns_fd, err);
		if (result == 0)
			result = pod_compare(attachment, netns_fd, err);
	}
	return result;
}

static int attachment_repair(struct endpoints *endpoints, struct attachment *attachment,
			     struct errmsg *err)
{
	struct host_link link = {};
	auto_close int netns_fd = -1;
	bool netns_found =
		netns_find(attachment->netns_path, &attachment->netns, &netns_fd, NULL) == 0;
	int result = host_link_get(&endpoints->netlink, attachment_ifindex(attachment), &link, err);

	if (result == -ENODEV && !netns_found)
		return -ENOENT;
	if (result == -ENODEV) {
		log_repair(attachment, "the interface was removed");
		attachment->repairs++;
		return pair_rebuild(endpoints, attachment, netns_fd, err);
	}
	if (result == 0)
		result = host_side_repair(endpoints, attachment, &link, err);
	/* A namespace that lives on without a name or a process cannot be looked into. */
	if (result == 0 && netns_found)
		result = pod_side_repair(endpoints, attachment, netns_fd, err);
	return result;
}

bool attachment_reconcile(struct endpoints *endpoints, struct attachment *attachment)
{
	uint64_t now = now_ns();
	struct errmsg err = {};
	char text[ATTACHMENT_TEXT_MAX];
	int result;

	attachment->dirty = 0;
	if (attachment->state == ATTACHMENT_DELETING)
		return false;
	if (now - attachment->repairs_since_ns > REPAIR_PERIOD) {
		attachment->repairs_since_ns = now;
		attachment->repairs = 0;
	}
	if (attachment->repairs >= REPAIR_BURST) {
		mark_broken(endpoints, attachment, "somebody keeps changing it back");
		attachment->dirty = DIRT_ALL;
		return true;
	}
	result = attachment_repair(endpoints, attachment, &err);
	if (result == -ENOENT) {
		log_info("%s: its namespace is gone", attachment_describe(attachment, text));
		if (attachment_release(endpoints, attachment, &err) < 0)
			mark_broken(endpoints, attachment, err.text);
	} else if (result < 0) {
		mark_broken(endpoints, attachment, err.text);
	} else {
		mark_ready(endpoints, attachment);
	}
	return false;
}

/* ---- the node -------------------------------------------------------------------------------- */

int host_repair(struct endpoints *endpoints, struct errmsg *err)
{
	struct datapath *datapath = endpoints->agent->datapath;
	bool changed = false;
	int result = host_device_ensure(endpoints->host, &changed, err);
	int ifindex = host_device_ifindex(endpoints->host);

	if (result == 0 && (changed || !datapath_host_attached(datapath, ifindex)))
		result = datapath_attach_host(datapath, ifindex, err);
	if (result == 0 && changed && endpoints->agent->ready)
		log_warn("%s was changed; put back", HOST_DEVICE);
	return result;
}

int host_addresses_refresh(struct endpoints *endpoints, struct errmsg *err)
{
	struct world *world = endpoints->agent->world;
	auto_free struct addr *addresses = NULL;
	const struct addr *before = NULL;
	size_t before_count = world_host_addresses(world, &before);
	size_t count = 0;
	int result = host_addresses(&endpoints->netlink, &addresses, &count, err);

	if (result < 0)
		return result;
	if (count == before_count &&
	    (count == 0 || memcmp(before, addresses, count * sizeof(*before)) == 0))
		return 0;
	result = world_host_addresses_set(world, addresses, count);
	if (result < 0)
		return fail(err, result, "addresses of the node");
	return endpoints_sync(endpoints, err);
}
