/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Endpoints that another plugin wired: ADD finds the host's end of the veth pair, guards it, and
 * leaves everything else as it is.  Nothing is made, so nothing but the guard is taken back.
 *
 * The program is attached first: from then on every packet is dropped, until the pod's policy is in
 * the maps and chained_map leads the device to it.  An ADD that fails, and a DEL, leave the program
 * there: the device stays closed until the other plugin removes it.
 */
#include <errno.h>
#include <linux/net_namespace.h>
#include <stdio.h>
#include <string.h>

#include "agent/endpoint/endpoint_internal.h"

#define LOG_MODULE "endpoint"
#include "lib/log.h"

/* ---- finding --------------------------------------------------------------------------------- */

static int nsid_each(const struct nlmsghdr *header, void *arg)
{
	const struct nlattr *attr;

	mnl_attr_for_each (attr, header, sizeof(struct rtgenmsg)) {
		if (mnl_attr_get_type(attr) == NETNSA_NSID)
			*(int *)arg = (int)mnl_attr_get_u32(attr);
	}
	return 0;
}

/* The number of the pod's namespace in ours; -1: it has none yet, so no link of ours leads there.
 */
static int netns_number(struct netlink *netlink, int netns_fd, int *ret_id, struct errmsg *err)
{
	struct netlink_message message;

	netlink_message_init(&message, RTM_GETNSID, 0, sizeof(struct rtgenmsg));
	mnl_attr_put_u32(&message.header, NETNSA_FD, (uint32_t)netns_fd);
	return netlink_get(netlink, &message, nsid_each, ret_id, err);
}

static bool is_ours(const struct endpoints *endpoints, int ifindex)
{
	return ifindex > ENDPOINT_IFINDEX_BASE &&
	       (size_t)(ifindex - ENDPOINT_IFINDEX_BASE) < endpoints->slot_count;
}

/* The pod's end names the index of its peer, but not in whose namespace: only if both ends name
 * each other, and the host's end names the pod's namespace, they are one pair. */
static int pair_find(struct endpoint_add *add, struct host_link *pod, struct host_link *host,
		     struct errmsg *err)
{
	struct endpoints *endpoints = add->endpoints;
	const char *ifname = add->endpoint->ifname;
	int netns_id = -1;
	int ret = pod_link_get(add->endpoint, add->netns_fd, pod, err);

	if (ret == -ENODEV)
		return fail_plain(err, -EINVAL, "the plugin before has made no %s in the pod",
				  ifname);
	if (ret < 0)
		return ret;
	if (strcmp(pod->kind, "veth") != 0)
		return fail_plain(err, -EINVAL,
				  "%s is %s%s, not one end of a veth pair: \"chained\" can only "
				  "guard a pod that has one (bridge, ptp and the like)",
				  ifname, pod->kind[0] ? "of kind " : "a device of the machine",
				  pod->kind);
	ret = netns_number(&endpoints->netlink, add->netns_fd, &netns_id, err);
	if (ret == 0)
		ret = host_link_get(&endpoints->netlink, pod->peer_ifindex, host, err);
	if (ret < 0 && ret != -ENODEV)
		return ret;
	if (ret == -ENODEV || netns_id < 0 || strcmp(host->kind, "veth") != 0 ||
	    host->peer_ifindex != pod->ifindex || host->netns_id != netns_id)
		return fail_plain(err, -EINVAL,
				  "the other end of %s is not in the node's network namespace",
				  ifname);
	if (is_ours(endpoints, host->ifindex))
		return fail_plain(
			err, -EEXIST,
			"Tendril itself has made %s: \"chained\" is for pods that another "
			"plugin has wired",
			ifname);
	return 0;
}

static int find(struct endpoint_add *add, struct errmsg *err)
{
	struct endpoint *endpoint = add->endpoint;
	struct host_link pod = {}, host = {};
	int ret = pair_find(add, &pod, &host, err);

	if (ret == -EINVAL || ret == -EEXIST)
		add->cni_code = CNI_INVALID_CONFIG;
	if (ret < 0)
		return ret;
	endpoint->host_ifindex = host.ifindex;
	endpoint->mtu = pod.mtu;
	snprintf(endpoint->host_ifname, sizeof(endpoint->host_ifname), "%s", host.name);
	memcpy(endpoint->mac, pod.mac, 6);
	memcpy(endpoint->host_mac, host.mac, 6);
	return endpoint_adopt_link(endpoint, &host, err);
}

/* ---- the other steps of ADD ------------------------------------------------------------------ */

/* A former pod with one of these addresses whose interface is gone: the other plugin has given the
 * address away again, though nobody told us that the pod is gone. */
static void former_release(struct endpoint_add *add)
{
	struct endpoints *endpoints = add->endpoints;

	for (size_t slot = 1; slot < endpoints->slot_count; slot++) {
		struct endpoint *other = endpoints->slots[slot];
		struct host_link link = {};
		bool same = false;

		for (size_t i = 0; other && other->chained && i < other->address_count; i++) {
			for (size_t k = 0; k < add->endpoint->address_count; k++)
				same |= addr_equal(&other->addresses[i].address.addr,
						   &add->endpoint->addresses[k].address.addr);
		}
		if (same && (host_link_get(&endpoints->netlink, other->host_ifindex, &link, NULL) ==
				     -ENODEV ||
			     !chained_is_same(other, &link)))
			endpoint_release(endpoints, other);
	}
}

static int reserve(struct endpoint_add *add, struct errmsg *err)
{
	struct endpoints *endpoints = add->endpoints;
	struct endpoint *endpoint = add->endpoint;
	uint16_t slot = 0;
	int ret;

	add->cni_code = CNI_ADDRESSES_EXHAUSTED;
	former_release(add);
	ret = endpoint_slot_find(endpoints, &slot, err);
	if (ret == 0)
		ret = endpoint_addresses_check(add, err);
	if (ret < 0)
		return ret;
	endpoint->slot = slot;
	endpoint->sequence = ++endpoints->sequence;
	endpoint->state = ENDPOINT_PENDING;
	endpoints->slots[slot] = endpoint;
	add->cni_code = CNI_KERNEL_FAILED;
	return 0;
}

static void unreserve(struct endpoint_add *add)
{
	add->endpoints->slots[add->endpoint->slot] = NULL;
}

/* On a device with the older ingress qdisc (of the bandwidth plugin, say) both programs would share
 * one place: the second would replace the first. */
static int guard(struct endpoint_add *add, struct errmsg *err)
{
	struct datapath *datapath = add->endpoints->datapath;
	int ifindex = endpoint_ifindex(add->endpoint);
	int ret = datapath_attach_endpoint(datapath, ifindex, err);

	if (ret == 0 && !datapath_endpoint_attached(datapath, ifindex))
		return fail_plain(err, -EBUSY,
				  "%s has an ingress qdisc, so to_pod cannot be attached: put the "
				  "plugin that makes it after tendril-cni",
				  add->endpoint->host_ifname);
	return ret;
}

static int device_open(struct endpoint_add *add, struct errmsg *err)
{
	const struct endpoint *endpoint = add->endpoint;
	int ret = chained_map_set(add->endpoints->datapath, endpoint->host_ifindex, endpoint->slot);

	return ret < 0 ? fail(err, ret, "write chained_map") : 0;
}

static void device_close(struct endpoint_add *add)
{
	chained_close(add->endpoints, add->endpoint);
}

const struct endpoint_step chained_steps[] = {
	{ "find the interface", find, NULL },
	{ "attach the program", guard, NULL }, /* and close the device, for good if ADD fails */
	{ "reserve a slot", reserve, unreserve },
	{ "write the state file", step_note_pending, step_forget },
	{ "put policy in force", step_policy_enforce, step_policy_forget },
	{ "open the interface", device_open, device_close },
	{ "mark it ready", step_note_ready, NULL },
};

const size_t chained_step_count = ARRAY_SIZE(chained_steps);

/* ---- later ----------------------------------------------------------------------------------- */

void chained_close(struct endpoints *endpoints, const struct endpoint *endpoint)
{
	chained_map_del(endpoints->datapath, endpoint->host_ifindex);
}

static bool is_kept(int ifindex, uint16_t slot, void *arg)
{
	const struct endpoints *endpoints = arg;
	const struct endpoint *endpoint =
		slot < endpoints->slot_count ? endpoints->slots[slot] : NULL;

	return endpoint && endpoint->chained && endpoint->host_ifindex == ifindex;
}

void chained_prune(struct endpoints *endpoints)
{
	chained_map_prune(endpoints->datapath, is_kept, endpoints);
}

bool chained_is_same(const struct endpoint *endpoint, const struct host_link *link)
{
	return strcmp(link->kind, "veth") == 0 && link->peer_ifindex == endpoint->pod_ifindex &&
	       link->netns_id >= 0;
}

int chained_compare(struct endpoints *endpoints, const struct endpoint *endpoint,
		    struct errmsg *err)
{
	uint16_t slot = 0;

	if (chained_map_get(endpoints->datapath, endpoint->host_ifindex, &slot) < 0 ||
	    slot != endpoint->slot)
		return fail_plain(err, -EPROTO, "chained_map does not have %s with slot %u",
				  endpoint->host_ifname, endpoint->slot);
	return 0;
}

int chained_repair(struct endpoints *endpoints, struct endpoint *endpoint,
		   const struct host_link *link, struct errmsg *err)
{
	struct datapath *datapath = endpoints->datapath;
	bool renamed = strcmp(link->name, endpoint->host_ifname) != 0;
	struct errmsg unsaved = {};
	int ret = endpoint_adopt_link(endpoint, link, err);

	snprintf(endpoint->host_ifname, sizeof(endpoint->host_ifname), "%s", link->name);
	if (renamed && endpoint_state_save(endpoints, endpoint, &unsaved) < 0)
		log_warn("%s", unsaved.text);
	if (ret == 0)
		ret = entries_repair(endpoints, endpoint, err);
	if (ret == 0 && chained_compare(endpoints, endpoint, NULL) < 0) {
		ret = chained_map_set(datapath, endpoint->host_ifindex, endpoint->slot);
		if (ret < 0)
			return fail(err, ret, "write chained_map");
	}
	if (ret == 0 && !datapath_endpoint_attached(datapath, endpoint_ifindex(endpoint))) {
		log_repair(endpoint, "the program was removed");
		ret = datapath_attach_endpoint(datapath, endpoint_ifindex(endpoint), err);
	}
	return ret;
}
