/* SPDX-License-Identifier: Apache-2.0 */
/* The veth pair and what is configured on the host's end of it; links as the kernel shows them. */
#include "agent/endpoint/endpoint_internal.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/ip.h>
#include <linux/net_namespace.h>
#include <linux/veth.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/endpoint/big_tcp.h"
#include "lib/alloc.h"
#include "lib/file.h"

#define MTU_DEFAULT   1500
#define ADDRESSES_MAX 4096

/* ---- links as the kernel shows them ---------------------------------------------------------- */

static void copy_kind(char kind[16], const struct nlattr *info)
{
	const struct nlattr *attr;

	mnl_attr_for_each_nested (attr, info) {
		if (mnl_attr_get_type(attr) == IFLA_INFO_KIND)
			snprintf(kind, 16, "%s", mnl_attr_get_str(attr));
	}
}

void host_link_parse(const struct nlmsghdr *header, struct host_link *ret)
{
	const struct ifinfomsg *info = mnl_nlmsg_get_payload(header);
	const struct nlattr *attr;

	*ret = (struct host_link){ .ifindex = info->ifi_index,
				   .flags = info->ifi_flags,
				   .netns_id = -1 };
	mnl_attr_for_each (attr, header, sizeof(*info)) {
		switch (mnl_attr_get_type(attr)) {
		case IFLA_LINK:
			ret->peer_ifindex = (int)mnl_attr_get_u32(attr);
			break;
		case IFLA_LINK_NETNSID:
			ret->netns_id = (int)mnl_attr_get_u32(attr);
			break;
		case IFLA_MTU:
			ret->mtu = mnl_attr_get_u32(attr);
			break;
		case IFLA_CARRIER:
			ret->carrier = mnl_attr_get_u8(attr);
			break;
		case IFLA_GSO_MAX_SIZE:
			ret->big_tcp = big_tcp_has_ipv6(mnl_attr_get_u32(attr));
			break;
		case IFLA_MASTER:
			ret->master = (int)mnl_attr_get_u32(attr);
			break;
		case IFLA_LINKINFO:
			copy_kind(ret->kind, attr);
			break;
		case IFLA_ADDRESS:
			if (mnl_attr_get_payload_len(attr) == sizeof(ret->mac))
				memcpy(ret->mac, mnl_attr_get_payload(attr), sizeof(ret->mac));
			break;
		case IFLA_IFNAME:
			snprintf(ret->name, sizeof(ret->name), "%s", mnl_attr_get_str(attr));
			break;
		default:
			break;
		}
	}
}

static int link_each(const struct nlmsghdr *header, void *arg)
{
	host_link_parse(header, arg);
	return 0;
}

int host_link_get(struct netlink *netlink, int ifindex, struct host_link *ret, struct errmsg *err)
{
	struct netlink_message message;
	struct ifinfomsg *info = netlink_message_init(&message, RTM_GETLINK, 0, sizeof(*info));

	info->ifi_index = ifindex;
	return netlink_get(netlink, &message, link_each, ret, err);
}

int pod_link_get(const struct endpoint *endpoint, int netns_fd, struct host_link *ret_link,
		 struct errmsg *err)
{
	auto_netlink struct netlink netlink = NETLINK_INIT;
	struct netlink_message message;
	int ret = netlink_open(&netlink, netns_fd, err);

	if (ret < 0)
		return ret;
	netlink_message_init(&message, RTM_GETLINK, 0, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(&message.header, IFLA_IFNAME, endpoint->ifname);
	return netlink_get(&netlink, &message, link_each, ret_link, err);
}

/* ---- the veth pair --------------------------------------------------------------------------- */

static void put_end(struct nlmsghdr *header, const char *name, const uint8_t mac[6],
		    unsigned int mtu, bool big_tcp)
{
	mnl_attr_put_strz(header, IFLA_IFNAME, name);
	mnl_attr_put(header, IFLA_ADDRESS, 6, mac);
	mnl_attr_put_u32(header, IFLA_MTU, mtu);
	/* A veth has no queue discipline and no lock of its own: more queues than one only cost
	 * memory and time to create. */
	mnl_attr_put_u32(header, IFLA_NUM_TX_QUEUES, 1);
	mnl_attr_put_u32(header, IFLA_NUM_RX_QUEUES, 1);
	if (big_tcp)
		big_tcp_put(header, mtu);
}

static int veth_create(struct netlink *netlink, const struct endpoint *endpoint, int netns_fd,
		       bool big_tcp, struct errmsg *err)
{
	struct netlink_message message;
	struct ifinfomsg *info = netlink_message_init(&message, RTM_NEWLINK,
						      NLM_F_CREATE | NLM_F_EXCL, sizeof(*info));
	struct nlmsghdr *header = &message.header;
	struct nlattr *link_info, *data, *peer;

	info->ifi_index = endpoint_ifindex(endpoint);
	put_end(header, endpoint->host_ifname, endpoint->host_mac, endpoint->mtu, big_tcp);
	link_info = mnl_attr_nest_start(header, IFLA_LINKINFO);
	mnl_attr_put_strz(header, IFLA_INFO_KIND, "veth");
	data = mnl_attr_nest_start(header, IFLA_INFO_DATA);
	peer = mnl_attr_nest_start(header, VETH_INFO_PEER);
	mnl_nlmsg_put_extra_header(header, sizeof(struct ifinfomsg));
	/* The peer is created inside the pod: it never appears in our namespace, and does not cost
	 * the RCU wait of moving a device. */
	put_end(header, endpoint->ifname, endpoint->mac, endpoint->mtu, big_tcp);
	mnl_attr_put_u32(header, IFLA_NET_NS_FD, (uint32_t)netns_fd);
	mnl_attr_nest_end(header, peer);
	mnl_attr_nest_end(header, data);
	mnl_attr_nest_end(header, link_info);
	return netlink_request(netlink, &message, err);
}

int veth_add(struct netlink *netlink, const struct endpoint *endpoint, int netns_fd, bool big_tcp,
	     struct errmsg *err)
{
	struct errmsg refusal = {};
	int ret;

	if (!big_tcp)
		return veth_create(netlink, endpoint, netns_fd, false, err);
	ret = veth_create(netlink, endpoint, netns_fd, true, &refusal);
	if (ret == 0)
		return 0;
	/* A pod without BIG TCP is better than none; any other problem shows again. */
	ret = veth_create(netlink, endpoint, netns_fd, false, err);
	if (ret == 0)
		big_tcp_refused(&refusal);
	return ret;
}

int veth_del(struct netlink *netlink, int ifindex, struct errmsg *err)
{
	struct netlink_message message;
	struct ifinfomsg *info = netlink_message_init(&message, RTM_DELLINK, 0, sizeof(*info));
	int ret;

	info->ifi_index = ifindex;
	ret = netlink_request(netlink, &message, err);
	return ret == -ENODEV ? 0 : ret;
}

/*
 * Packets of the pod arrive on this device while the route to the pod leads to HOST_DEVICE: a
 * strict reverse path filter, also one set for all devices (the larger value counts), would drop
 * what the pod sends to the node.  So the device gets the loose mode.  It also gets an address
 * without a meaning, because the kernel refuses everything on a filtered device that has none.
 * from_pod has checked the source already.
 */
static void put_inet_settings(struct nlmsghdr *header)
{
	struct nlattr *inet = mnl_attr_nest_start(header, AF_INET);
	struct nlattr *conf = mnl_attr_nest_start(header, IFLA_INET_CONF);

	mnl_attr_put_u32(header, IPV4_DEVCONF_RP_FILTER, LOOSE_RPF);
	mnl_attr_nest_end(header, conf);
	mnl_attr_nest_end(header, inet);
}

static int veth_address_add(struct netlink *netlink, int ifindex, struct errmsg *err)
{
	struct netlink_message message;
	struct ifaddrmsg *header = netlink_message_init(&message, RTM_NEWADDR,
							NLM_F_CREATE | NLM_F_EXCL, sizeof(*header));
	struct addr addr;
	int ret;

	addr_parse("169.254.1.1", &addr);
	header->ifa_family = AF_INET;
	header->ifa_prefixlen = 32;
	header->ifa_scope = RT_SCOPE_LINK; /* never chosen as a source */
	header->ifa_index = (unsigned int)ifindex;
	netlink_put_addr(&message.header, IFA_LOCAL, &addr);
	mnl_attr_put_u32(&message.header, IFA_FLAGS, IFA_F_NOPREFIXROUTE);
	ret = netlink_request(netlink, &message, err);
	return ret == -EEXIST ? 0 : ret;
}

/* Neighbours are permanent on both ends and gateways are not link-local: without a link-local
 * address there is no duplicate detection, no solicitation, no listener report to be dropped. */
static void put_inet6_settings(struct nlmsghdr *header)
{
	struct nlattr *inet6 = mnl_attr_nest_start(header, AF_INET6);

	mnl_attr_put_u8(header, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
	mnl_attr_nest_end(header, inet6);
}

/* The host's end takes IPv6 packets from the pod, but no router advertisements. */
static int veth_ipv6_configure(const char *name, struct errmsg *err)
{
	char setting[80];
	long value = 0;

	snprintf(setting, sizeof(setting), "net/ipv6/conf/%s/disable_ipv6", name);
	if (sysctl_read(setting, &value, err) < 0)
		return err->code;
	if (value != 0 && sysctl_write(setting, 0, err) < 0)
		return err->code;
	snprintf(setting, sizeof(setting), "net/ipv6/conf/%s/accept_ra", name);
	return sysctl_write(setting, 0, err);
}

int veth_configure(struct netlink *netlink, const struct endpoint *endpoint,
		   const char *host_ifname, struct errmsg *err)
{
	struct netlink_message message;
	struct ifinfomsg *info = netlink_message_init(&message, RTM_NEWLINK, 0, sizeof(*info));
	struct nlattr *spec;
	int ret;

	info->ifi_index = endpoint_ifindex(endpoint);
	mnl_attr_put(&message.header, IFLA_ADDRESS, 6, endpoint->host_mac);
	spec = mnl_attr_nest_start(&message.header, IFLA_AF_SPEC);
	put_inet_settings(&message.header);
	if (host_has_ipv6() && endpoint->mtu >= MTU_MIN_IPV6)
		put_inet6_settings(&message.header);
	mnl_attr_nest_end(&message.header, spec);
	ret = netlink_request(netlink, &message, err);
	if (ret == 0)
		ret = veth_address_add(netlink, endpoint_ifindex(endpoint), err);
	if (ret == 0 && endpoint_has_ipv6(endpoint))
		ret = veth_ipv6_configure(host_ifname, err);
	return ret;
}

void link_rename(struct netlink *netlink, int ifindex, const char *name)
{
	struct netlink_message message;
	struct ifinfomsg *info = netlink_message_init(&message, RTM_NEWLINK, 0, sizeof(*info));

	info->ifi_index = ifindex;
	mnl_attr_put_strz(&message.header, IFLA_IFNAME, name);
	netlink_request(netlink, &message, NULL);
}

int link_set_up(struct netlink *netlink, int ifindex, struct errmsg *err)
{
	struct netlink_message message;
	struct ifinfomsg *info = netlink_message_init(&message, RTM_NEWLINK, 0, sizeof(*info));

	info->ifi_index = ifindex;
	info->ifi_flags = IFF_UP;
	info->ifi_change = IFF_UP;
	return netlink_request(netlink, &message, err);
}

/* ---- namespaces ------------------------------------------------------------------------------ */

static int nothing_each(const struct nlmsghdr *header, void *arg)
{
	(void)header;
	(void)arg;
	return 0;
}

int netns_id_exists(struct netlink *netlink, uint32_t netns_id, bool *ret_exists,
		    struct errmsg *err)
{
	struct netlink_message message;
	int ret;

	netlink_message_init(&message, RTM_GETNSID, 0, sizeof(struct rtgenmsg));
	mnl_attr_put_u32(&message.header, NETNSA_NSID, netns_id);
	ret = netlink_get(netlink, &message, nothing_each, NULL, err);
	if (ret < 0 && ret != -ENOENT)
		return wrap(err, "ask for a namespace");
	*ret_exists = ret == 0;
	return 0;
}

/* ---- the node -------------------------------------------------------------------------------- */

static int route_oif_each(const struct nlmsghdr *header, void *arg)
{
	const struct nlattr *attr;

	mnl_attr_for_each (attr, header, sizeof(struct rtmsg)) {
		if (mnl_attr_get_type(attr) == RTA_OIF)
			*(int *)arg = (int)mnl_attr_get_u32(attr);
	}
	return 0;
}

int route_device(struct netlink *netlink, const struct addr *addr, int *ret_ifindex,
		 struct errmsg *err)
{
	struct netlink_message message;
	struct rtmsg *route = netlink_message_init(&message, RTM_GETROUTE, 0, sizeof(*route));

	route->rtm_family = addr_family(addr);
	route->rtm_dst_len = addr_is_v4(addr) ? 32 : 128;
	netlink_put_addr(&message.header, RTA_DST, addr);
	return netlink_get(netlink, &message, route_oif_each, ret_ifindex, err);
}

unsigned int default_mtu(struct netlink *netlink)
{
	/* Documentation addresses: their route is the default route. */
	static const char *const anywhere[] = { "192.0.2.1", "2001:db8::1" };

	for (size_t i = 0; i < ARRAY_SIZE(anywhere); i++) {
		struct host_link link = {};
		struct addr addr = {};
		int ifindex = 0;

		addr_parse(anywhere[i], &addr);
		if (route_device(netlink, &addr, &ifindex, NULL) < 0 || ifindex == 0 ||
		    host_link_get(netlink, ifindex, &link, NULL) < 0)
			continue;
		/* An unreachable route answers with the loopback device. */
		if (!(link.flags & IFF_LOOPBACK) && link.mtu >= MTU_MIN_IPV6)
			return link.mtu < UINT16_MAX ? link.mtu : UINT16_MAX;
	}
	return MTU_DEFAULT;
}

unsigned int endpoints_mtu(struct endpoints *endpoints)
{
	return endpoints->mtu ? endpoints->mtu
			      : default_mtu(&endpoints->netlink) - endpoints->mtu_overhead;
}

struct address_list {
	struct addr *items;
	size_t count;
};

static void address_list_begin(void *arg)
{
	struct address_list *list = arg;

	list->count = 0;
}

static int address_list_each(const struct nlmsghdr *header, void *arg)
{
	const struct ifaddrmsg *info = mnl_nlmsg_get_payload(header);
	struct address_list *list = arg;
	const struct nlattr *attr;
	struct addr addr = {};

	/* Link-local and loopback addresses do not leave their link: no pod can use them. */
	if (info->ifa_scope >= RT_SCOPE_LINK || list->count >= ADDRESSES_MAX)
		return 0;
	mnl_attr_for_each (attr, header, sizeof(*info)) {
		uint16_t type = mnl_attr_get_type(attr);

		/* IPv4: IFA_LOCAL is ours, IFA_ADDRESS may be the peer's; IPv6 has the latter
		 * only, unless it is point to point. */
		if (type == IFA_LOCAL || (type == IFA_ADDRESS && addr_is_zero(&addr)))
			addr_from_bytes(mnl_attr_get_payload(attr), mnl_attr_get_payload_len(attr),
					&addr);
	}
	list->items = xreallocarray(list->items, list->count + 1, sizeof(*list->items));
	list->items[list->count++] = addr;
	return 0;
}

static int addr_order(const void *a, const void *b)
{
	return addr_compare(a, b);
}

int host_addresses(struct netlink *netlink, struct addr **ret_addresses, size_t *ret_count,
		   struct errmsg *err)
{
	struct address_list list = {};
	struct netlink_message message;
	int ret;

	netlink_message_init(&message, RTM_GETADDR, 0, sizeof(struct ifaddrmsg));
	ret = netlink_dump(netlink, &message, address_list_each, address_list_begin, &list, err);
	if (ret < 0) {
		free(list.items);
		return ret;
	}
	if (list.count > 0)
		qsort(list.items, list.count, sizeof(*list.items), addr_order);
	*ret_addresses = list.items;
	*ret_count = list.count;
	return 0;
}
