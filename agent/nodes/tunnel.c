/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/nodes/tunnel.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "agent/nodes/link.h"
#include "lib/auto.h"

/* Outer Ethernet (of the frame inside), IP, UDP and the tunnel's own header. */
#define OVERHEAD_IPV4 50
#define OVERHEAD_IPV6 70

static const struct kind {
	const char *name; /* of the kernel, as its module */
	const char *title;
	const char *option; /* of the kernel's configuration */
	const char *device;
	uint16_t port; /* attributes of IFLA_INFO_DATA */
	uint16_t collect_metadata;
} kinds[] = {
	[TUNNEL_VXLAN] = { "vxlan", "VXLAN", "CONFIG_VXLAN", "tendril_vxlan", IFLA_VXLAN_PORT,
			   IFLA_VXLAN_COLLECT_METADATA },
	[TUNNEL_GENEVE] = { "geneve", "Geneve", "CONFIG_GENEVE", "tendril_geneve", IFLA_GENEVE_PORT,
			    IFLA_GENEVE_COLLECT_METADATA },
};

unsigned int tunnel_overhead(const struct tunnel_settings *settings)
{
	return settings->ipv6 ? OVERHEAD_IPV6 : OVERHEAD_IPV4;
}

/* ---- what is there --------------------------------------------------------------------------- */

struct device_seen {
	const struct kind *kind;
	bool is_of_kind;
	uint32_t ifindex;
	uint32_t mtu;
	unsigned int flags;
	uint16_t port;
	bool collects_metadata;
};

static void data_parse(const struct nlattr *data, struct device_seen *seen)
{
	const struct nlattr *attr;

	mnl_attr_for_each_nested (attr, data) {
		uint16_t type = mnl_attr_get_type(attr);

		if (type == seen->kind->port)
			seen->port = ntohs(mnl_attr_get_u16(attr));
		else if (type == seen->kind->collect_metadata)
			seen->collects_metadata =
				!mnl_attr_get_payload_len(attr) || mnl_attr_get_u8(attr);
	}
}

static int device_each(const struct nlmsghdr *header, void *arg)
{
	const struct ifinfomsg *info = mnl_nlmsg_get_payload(header);
	struct device_seen *seen = arg;
	const struct nlattr *attr, *inner;

	seen->ifindex = (uint32_t)info->ifi_index;
	seen->flags = info->ifi_flags;
	mnl_attr_for_each (attr, header, sizeof(*info)) {
		if (mnl_attr_get_type(attr) == IFLA_MTU)
			seen->mtu = mnl_attr_get_u32(attr);
		if (mnl_attr_get_type(attr) != IFLA_LINKINFO)
			continue;
		mnl_attr_for_each_nested (inner, attr) {
			if (mnl_attr_get_type(inner) == IFLA_INFO_KIND)
				seen->is_of_kind |=
					!strcmp(mnl_attr_get_str(inner), seen->kind->name);
			if (mnl_attr_get_type(inner) == IFLA_INFO_DATA)
				data_parse(inner, seen);
		}
	}
	return 0;
}

/* -ENODEV: there is none. */
static int device_find(struct netlink *netlink, const struct kind *kind, struct device_seen *ret,
		       struct errmsg *err)
{
	struct netlink_message message;

	*ret = (struct device_seen){ .kind = kind };
	netlink_message_init(&message, RTM_GETLINK, 0, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(&message.header, IFLA_IFNAME, kind->device);
	return netlink_get(netlink, &message, device_each, ret, err);
}

/* ---- what should be -------------------------------------------------------------------------- */

static int device_create(struct netlink *netlink, const struct tunnel_settings *settings,
			 unsigned int mtu, struct errmsg *err)
{
	const struct kind *kind = &kinds[settings->protocol];
	struct netlink_message message;
	struct nlattr *info, *data;
	unsigned char mac[6];
	int ret;

	/* The kernel would choose one, too; udev then makes it the same on all copies of a machine,
	 * and a node drops frames with its own MAC as source. */
	if (getrandom(mac, sizeof(mac), 0) != sizeof(mac))
		return fail(err, -errno, "random MAC");
	mac[0] = (unsigned char)((mac[0] & 0xfe) | 2);
	netlink_message_init(&message, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL,
			     sizeof(struct ifinfomsg));
	mnl_attr_put_strz(&message.header, IFLA_IFNAME, kind->device);
	mnl_attr_put_u32(&message.header, IFLA_MTU, mtu);
	mnl_attr_put(&message.header, IFLA_ADDRESS, sizeof(mac), mac);
	info = mnl_attr_nest_start(&message.header, IFLA_LINKINFO);
	mnl_attr_put_strz(&message.header, IFLA_INFO_KIND, kind->name);
	data = mnl_attr_nest_start(&message.header, IFLA_INFO_DATA);
	mnl_attr_put_u16(&message.header, kind->port, htons(settings->port));
	if (settings->protocol == TUNNEL_VXLAN) {
		mnl_attr_put_u8(&message.header, kind->collect_metadata, 1);
		mnl_attr_put_u8(&message.header, IFLA_VXLAN_LEARNING, 0);
	} else {
		mnl_attr_put(&message.header, kind->collect_metadata, 0, NULL);
	}
	mnl_attr_nest_end(&message.header, data);
	mnl_attr_nest_end(&message.header, info);
	ret = netlink_request(netlink, &message, err);
	if (ret == -EOPNOTSUPP)
		return fail_plain(err, ret,
				  "this kernel has no %s: load its module (modprobe %s), or build "
				  "it with %s",
				  kind->title, kind->name, kind->option);
	return ret < 0 ? wrap(err, "create %s", kind->device) : 0;
}

/* No link-local address: nobody is found by neighbour discovery here.  The kernel takes this for a
 * device that is there, and applies flags first: so it is a message of its own. */
static void device_quiet(struct netlink *netlink, const struct device_seen *seen)
{
	struct netlink_message message;
	struct ifinfomsg *info = netlink_message_init(&message, RTM_NEWLINK, 0, sizeof(*info));
	struct nlattr *spec = mnl_attr_nest_start(&message.header, IFLA_AF_SPEC);
	struct nlattr *inet6 = mnl_attr_nest_start(&message.header, AF_INET6);

	info->ifi_index = (int)seen->ifindex;
	mnl_attr_put_u8(&message.header, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
	mnl_attr_nest_end(&message.header, inet6);
	mnl_attr_nest_end(&message.header, spec);
	netlink_request(netlink, &message, NULL); /* a kernel without IPv6 needs it not */
}

/* What another configuration has left. */
static int others_remove(struct netlink *netlink, const struct kind *kind, struct errmsg *err)
{
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < ARRAY_SIZE(kinds); i++) {
		if (&kinds[i] != kind)
			ret = link_delete(netlink, kinds[i].device, kinds[i].name, err);
	}
	return ret;
}

int tunnel_ensure(struct netlink *netlink, const struct tunnel_settings *settings, unsigned int mtu,
		  uint32_t *ret_ifindex, struct errmsg *err)
{
	const struct kind *kind = &kinds[settings->protocol];
	struct device_seen seen;
	int ret = others_remove(netlink, kind, err);

	if (ret == 0)
		ret = device_find(netlink, kind, &seen, err);
	if (ret == 0 && !seen.is_of_kind)
		return fail_plain(err, -EEXIST, "there is a %s that is no %s device", kind->device,
				  kind->name);
	if (ret == 0 && (!seen.collects_metadata || seen.port != settings->port)) {
		ret = link_delete(netlink, kind->device, kind->name,
				  err); /* of another configuration */
		if (ret == 0)
			ret = -ENODEV;
	}
	if (ret == -ENODEV) {
		ret = device_create(netlink, settings, mtu, err);
		if (ret == 0)
			ret = device_find(netlink, kind, &seen, err);
		if (ret == 0)
			device_quiet(netlink, &seen);
	}
	if (ret == 0)
		*ret_ifindex = seen.ifindex;
	return ret;
}

void tunnel_read(struct netlink *netlink, uint32_t ifindex, struct tunnel_state *ret)
{
	struct device_seen seen = { .kind = &kinds[TUNNEL_VXLAN] };
	struct netlink_message message;
	struct ifinfomsg *info = netlink_message_init(&message, RTM_GETLINK, 0, sizeof(*info));

	info->ifi_index = (int)ifindex;
	if (netlink_get(netlink, &message, device_each, &seen, NULL) < 0)
		return;
	ret->up = (seen.flags & (IFF_UP | IFF_NOARP)) == (IFF_UP | IFF_NOARP);
	ret->mtu = seen.mtu;
}

int tunnel_up(struct netlink *netlink, uint32_t ifindex, unsigned int mtu, struct errmsg *err)
{
	struct netlink_message message;
	struct ifinfomsg *info = netlink_message_init(&message, RTM_NEWLINK, 0, sizeof(*info));

	info->ifi_index = (int)ifindex;
	info->ifi_flags = IFF_UP | IFF_NOARP;
	info->ifi_change = IFF_UP | IFF_NOARP;
	mnl_attr_put_u32(&message.header, IFLA_MTU, mtu);
	return netlink_request(netlink, &message, err) < 0 ? wrap(err, "set the tunnel up") : 0;
}

void tunnel_down(struct netlink *netlink, uint32_t ifindex)
{
	struct netlink_message message;
	struct ifinfomsg *info = netlink_message_init(&message, RTM_NEWLINK, 0, sizeof(*info));

	info->ifi_index = (int)ifindex;
	info->ifi_change = IFF_UP;
	netlink_request(netlink, &message, NULL); /* there may be none */
}

int tunnel_remove(struct netlink *netlink, struct errmsg *err)
{
	return others_remove(netlink, NULL, err);
}
