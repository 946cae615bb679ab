/* SPDX-License-Identifier: Apache-2.0 */
/* HOST_DEVICE: gateway addresses, pod routes, forwarding. */
#include "agent/endpoint/host_device.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/ip.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/endpoint/big_tcp.h"
#include "lib/alloc.h"
#include "lib/file.h"
#define LOG_MODULE "host"
#include "lib/log.h"
#include "lib/route.h"

struct host_device {
	struct netlink *netlink;
	const struct ipam *ipam;
	bool big_tcp;
	int ifindex;
	struct addr *routes; /* single addresses outside the ranges */
	size_t route_count;
};

struct host_device *host_device_new(struct netlink *netlink, const struct ipam *ipam, bool big_tcp)
{
	struct host_device *device = xcalloc(1, sizeof(*device));

	device->netlink = netlink;
	device->ipam = ipam;
	device->big_tcp = big_tcp;
	return device;
}

void host_device_free(struct host_device *device)
{
	if (!device)
		return;
	free(device->routes);
	free(device);
}

int host_device_ifindex(const struct host_device *device)
{
	return device->ifindex;
}

bool host_has_ipv6(void)
{
	/* IPv6 does not go away.  The look-up gets slower with every network namespace. */
	static bool found;

	found = found || access("/proc/sys/net/ipv6", F_OK) == 0;
	return found;
}

/* ---- the device ------------------------------------------------------------------------------ */

/* The device never sends (to_pod redirects or drops every packet), so any kind works that needs no
 * other device; the first one that the kernel has is taken. */
static const char *const device_kinds[] = { "dummy", "ifb" };

struct device_seen {
	int ifindex;
	unsigned int flags;
	bool is_ours;
};

static int device_kind_each(const struct nlattr *attr, void *arg)
{
	struct device_seen *seen = arg;

	for (size_t i = 0; i < ARRAY_SIZE(device_kinds); i++)
		seen->is_ours |= mnl_attr_get_type(attr) == IFLA_INFO_KIND &&
				 strcmp(mnl_attr_get_str(attr), device_kinds[i]) == 0;
	return MNL_CB_OK;
}

static int device_each(const struct nlmsghdr *header, void *arg)
{
	const struct ifinfomsg *info = mnl_nlmsg_get_payload(header);
	struct device_seen *seen = arg;
	const struct nlattr *attr;

	seen->ifindex = info->ifi_index;
	seen->flags = info->ifi_flags;
	mnl_attr_for_each (attr, header, sizeof(*info)) {
		if (mnl_attr_get_type(attr) == IFLA_LINKINFO)
			mnl_attr_parse_nested(attr, device_kind_each, seen);
	}
	return 0;
}

static int device_find(struct netlink *netlink, struct device_seen *ret_device, struct errmsg *err)
{
	struct netlink_message message;
	int ret;

	netlink_message_init(&message, RTM_GETLINK, 0, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(&message.header, IFLA_IFNAME, HOST_DEVICE);
	ret = netlink_get(netlink, &message, device_each, ret_device, err);
	return ret < 0 ? wrap(err, "look for %s", HOST_DEVICE) : 0;
}

static int device_create_kind(struct netlink *netlink, const char *kind, struct errmsg *err)
{
	struct netlink_message message;
	struct nlattr *nest;

	netlink_message_init(&message, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL,
			     sizeof(struct ifinfomsg));
	mnl_attr_put_strz(&message.header, IFLA_IFNAME, HOST_DEVICE);
	nest = mnl_attr_nest_start(&message.header, IFLA_LINKINFO);
	mnl_attr_put_strz(&message.header, IFLA_INFO_KIND, kind);
	mnl_attr_nest_end(&message.header, nest);
	if (netlink_request(netlink, &message, err) < 0)
		return wrap(err, "create %s as %s", HOST_DEVICE, kind);
	return 0;
}

static int device_create(struct netlink *netlink, struct errmsg *err)
{
	int ret = -EOPNOTSUPP;

	for (size_t i = 0; ret == -EOPNOTSUPP && i < ARRAY_SIZE(device_kinds); i++)
		ret = device_create_kind(netlink, device_kinds[i], err);
	return ret;
}

/* Up, without link-local addresses: nobody is reached over this device by neighbour discovery. */
static int device_up(struct netlink *netlink, int ifindex, struct errmsg *err)
{
	struct netlink_message message;
	struct ifinfomsg *info = netlink_message_init(&message, RTM_NEWLINK, 0, sizeof(*info));
	struct nlattr *spec, *inet6;

	info->ifi_index = ifindex;
	if (host_has_ipv6()) {
		spec = mnl_attr_nest_start(&message.header, IFLA_AF_SPEC);
		inet6 = mnl_attr_nest_start(&message.header, AF_INET6);
		mnl_attr_put_u8(&message.header, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
		mnl_attr_nest_end(&message.header, inet6);
		mnl_attr_nest_end(&message.header, spec);
	}
	/* The kernel applies flags first, so this takes two messages. */
	if (netlink_request(netlink, &message, err) < 0)
		return wrap(err, "set up %s", HOST_DEVICE);
	info = netlink_message_init(&message, RTM_NEWLINK, 0, sizeof(*info));
	info->ifi_index = ifindex;
	info->ifi_flags = IFF_UP;
	info->ifi_change = IFF_UP;
	if (netlink_request(netlink, &message, err) < 0)
		return wrap(err, "set %s up", HOST_DEVICE);
	return 0;
}

/* New devices may come without IPv6 (conf.default.disable_ipv6); ours needs it. */
static int device_ipv6_enable(struct errmsg *err)
{
	static const char name[] = "net/ipv6/conf/" HOST_DEVICE "/disable_ipv6";
	long disabled = 0;

	if (sysctl_read(name, &disabled, err) < 0)
		return err->code;
	return disabled ? sysctl_write(name, 0, err) : 0;
}

/* ---- addresses and routes -------------------------------------------------------------------- */

static int address_ensure(struct host_device *device, const struct addr *addr, bool *ret_changed,
			  struct errmsg *err)
{
	struct netlink_message message;
	struct ifaddrmsg *header = netlink_message_init(&message, RTM_NEWADDR,
							NLM_F_CREATE | NLM_F_EXCL, sizeof(*header));
	char text[ADDR_TEXT_MAX];
	int ret;

	header->ifa_family = addr_family(addr);
	header->ifa_prefixlen = addr_is_v4(addr) ? 32 : 128;
	header->ifa_index = (unsigned int)device->ifindex;
	netlink_put_addr(&message.header, IFA_LOCAL, addr);
	netlink_put_addr(&message.header, IFA_ADDRESS, addr);
	mnl_attr_put_u32(&message.header, IFA_FLAGS, IFA_F_NODAD | IFA_F_NOPREFIXROUTE);
	ret = netlink_request(device->netlink, &message, err);
	if (ret == -EEXIST)
		return 0;
	if (ret < 0)
		return wrap(err, "gateway address %s", addr_format(addr, text));
	*ret_changed = true;
	return 0;
}

static struct route host_route(const struct host_device *device, const struct prefix *dst)
{
	return (struct route){
		.dst = *dst,
		.ifindex = (uint32_t)device->ifindex,
		.protocol = HOST_ROUTE_PROTOCOL,
	};
}

struct route_search {
	const struct prefix *dst;
	uint32_t ifindex;
	bool found;
};

static int route_each(const struct nlmsghdr *header, void *arg)
{
	struct route_search *search = arg;
	struct route route;

	if (route_parse(header, &route))
		search->found |=
			route.ifindex == search->ifindex && prefix_equal(&route.dst, search->dst);
	return 0;
}

static void route_search_begin(void *arg)
{
	struct route_search *search = arg;

	search->found = false;
}

/* Whether the existing route is ours. */
static bool route_is_ours(struct host_device *device, const struct prefix *dst)
{
	struct route_search search = { .dst = dst, .ifindex = (uint32_t)device->ifindex };
	struct netlink_message message;
	struct rtmsg *header = netlink_message_init(&message, RTM_GETROUTE, 0, sizeof(*header));

	header->rtm_family = addr_family(&dst->addr);
	header->rtm_table = RT_TABLE_MAIN;
	header->rtm_protocol = HOST_ROUTE_PROTOCOL;
	mnl_attr_put_u32(&message.header, RTA_OIF, (uint32_t)device->ifindex);
	return netlink_dump(device->netlink, &message, route_each, route_search_begin, &search,
			    NULL) == 0 &&
	       search.found;
}

static int route_ensure(struct host_device *device, const struct prefix *dst,
			const struct addr *source, bool *ret_changed, struct errmsg *err)
{
	struct route route = host_route(device, dst);
	struct netlink_message message;
	char text[ADDR_TEXT_MAX];
	int ret;

	if (source)
		route.source = *source;
	route_message(&message, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &route);
	ret = netlink_request(device->netlink, &message, err);
	if (ret == -EEXIST && route_is_ours(device, dst))
		return 0;
	if (ret == -EEXIST)
		return fail_plain(err, -EEXIST, "there is a route to %s through another device",
				  prefix_format(dst, text));
	if (ret < 0)
		return wrap(err, "route to %s", prefix_format(dst, text));
	*ret_changed = true;
	return 0;
}

static int own_route_each(const struct nlmsghdr *header, void *arg)
{
	struct route route;

	if (route_parse(header, &route) && route.protocol == HOST_ROUTE_PROTOCOL)
		*(int *)arg = (int)route.ifindex;
	return 0;
}

/* Gives the device its name back.  At start it is the one that our routes lead to.  False: there is
 * none to be renamed. */
static bool device_rename_back(struct host_device *device)
{
	struct netlink_message message;
	struct device_seen seen = {};
	struct ifinfomsg *info;
	int ifindex = device->ifindex;

	netlink_message_init(&message, RTM_GETROUTE, 0, sizeof(struct rtmsg));
	if (!ifindex &&
	    netlink_dump(device->netlink, &message, own_route_each, NULL, &ifindex, NULL) < 0)
		return false;
	info = netlink_message_init(&message, RTM_GETLINK, 0, sizeof(*info));
	info->ifi_index = ifindex;
	if (!ifindex || netlink_get(device->netlink, &message, device_each, &seen, NULL) < 0 ||
	    !seen.is_ours)
		return false;
	/* Before Linux 6.2 only a device that is down can be renamed; device_up() follows. */
	info = netlink_message_init(&message, RTM_NEWLINK, 0, sizeof(*info));
	info->ifi_index = ifindex;
	info->ifi_change = IFF_UP;
	mnl_attr_put_strz(&message.header, IFLA_IFNAME, HOST_DEVICE);
	return netlink_request(device->netlink, &message, NULL) == 0;
}

int host_device_ensure(struct host_device *device, bool *ret_changed, struct errmsg *err)
{
	struct device_seen seen = {};
	struct prefix range;
	struct addr gateway;
	int ret = device_find(device->netlink, &seen, err);

	if (ret == -ENODEV) {
		*ret_changed = true;
		ret = device_rename_back(device) ? 0 : device_create(device->netlink, err);
		if (ret == 0)
			ret = device_find(device->netlink, &seen, err);
	}
	if (ret < 0)
		return ret;
	if (!seen.is_ours)
		return fail_plain(err, -EEXIST, "there is a %s that is neither dummy nor ifb",
				  HOST_DEVICE);
	*ret_changed |= seen.ifindex != device->ifindex || !(seen.flags & IFF_UP);
	/* Sockets of the node that talk to its pods take their limits from this device. */
	if (seen.ifindex != device->ifindex)
		big_tcp_set(device->netlink, seen.ifindex, device->big_tcp);
	device->ifindex = seen.ifindex;
	ret = device_up(device->netlink, device->ifindex, err);
	if (ret == 0 && ipam_has_family(device->ipam, false))
		ret = device_ipv6_enable(err);
	for (size_t i = 0; ret == 0 && ipam_range(device->ipam, i, &range, &gateway); i++) {
		ret = address_ensure(device, &gateway, ret_changed, err);
		if (ret == 0)
			ret = route_ensure(device, &range, &gateway, ret_changed, err);
	}
	for (size_t i = 0; ret == 0 && i < device->route_count; i++) {
		struct prefix single = { device->routes[i], 128 };

		ret = route_ensure(device, &single, NULL, ret_changed, err);
	}
	return ret;
}

int host_device_route_add(struct host_device *device, const struct addr *addr, struct errmsg *err)
{
	struct prefix single = { *addr, 128 };
	struct ipam_lease lease;
	bool changed = false;

	if (ipam_range_of(device->ipam, addr, &lease) == 0)
		return 0;
	device->routes =
		xreallocarray(device->routes, device->route_count + 1, sizeof(*device->routes));
	device->routes[device->route_count++] = *addr;
	return route_ensure(device, &single, NULL, &changed, err);
}

void host_device_route_del(struct host_device *device, const struct addr *addr)
{
	const struct prefix single = { *addr, 128 };
	const struct route route = host_route(device, &single);
	struct netlink_message message;

	for (size_t i = 0; i < device->route_count; i++) {
		if (!addr_equal(&device->routes[i], addr))
			continue;
		/* First from the list: the notification must not bring it back. */
		device->routes[i] = device->routes[--device->route_count];
		route_message(&message, RTM_DELROUTE, 0, &route);
		netlink_request(device->netlink, &message, NULL);
		return;
	}
}

/* ---- leftovers ------------------------------------------------------------------------------- */

#define LEFTOVERS_MAX 64 /* at once; the next start finds the rest */

struct leftovers {
	const struct host_device *device;
	struct prefix routes[LEFTOVERS_MAX];
	size_t route_count;
	struct addr addresses[LEFTOVERS_MAX];
	size_t address_count;
};

static bool is_desired_route(const struct host_device *device, const struct prefix *dst)
{
	struct prefix range;
	struct addr gateway;

	for (size_t i = 0; ipam_range(device->ipam, i, &range, &gateway); i++) {
		if (prefix_equal(dst, &range))
			return true;
	}
	for (size_t i = 0; i < device->route_count; i++) {
		if (dst->len == 128 && addr_equal(&dst->addr, &device->routes[i]))
			return true;
	}
	return false;
}

static bool is_gateway(const struct host_device *device, const struct addr *addr)
{
	struct prefix range;
	struct addr gateway;

	for (size_t i = 0; ipam_range(device->ipam, i, &range, &gateway); i++) {
		if (addr_equal(addr, &gateway))
			return true;
	}
	return false;
}

static void leftovers_begin(void *arg)
{
	struct leftovers *leftovers = arg;

	leftovers->route_count = leftovers->address_count = 0;
}

static int leftover_route_each(const struct nlmsghdr *header, void *arg)
{
	struct leftovers *leftovers = arg;
	struct route route;

	if (route_parse(header, &route) && route.protocol == HOST_ROUTE_PROTOCOL &&
	    route.ifindex == (uint32_t)leftovers->device->ifindex &&
	    leftovers->route_count < LEFTOVERS_MAX &&
	    !is_desired_route(leftovers->device, &route.dst))
		leftovers->routes[leftovers->route_count++] = route.dst;
	return 0;
}

static int leftover_address_each(const struct nlmsghdr *header, void *arg)
{
	const struct ifaddrmsg *info = mnl_nlmsg_get_payload(header);
	struct leftovers *leftovers = arg;
	const struct nlattr *attr;
	struct addr addr = {};

	mnl_attr_for_each (attr, header, sizeof(*info)) {
		if (mnl_attr_get_type(attr) == IFA_ADDRESS)
			addr_from_bytes(mnl_attr_get_payload(attr), mnl_attr_get_payload_len(attr),
					&addr);
	}
	if (info->ifa_index == (uint32_t)leftovers->device->ifindex &&
	    info->ifa_prefixlen == (addr_is_v4(&addr) ? 32 : 128) &&
	    leftovers->address_count < LEFTOVERS_MAX && !is_gateway(leftovers->device, &addr))
		leftovers->addresses[leftovers->address_count++] = addr;
	return 0;
}

static void leftovers_remove(struct host_device *device, const struct leftovers *leftovers)
{
	struct netlink_message message;
	char text[ADDR_TEXT_MAX];

	for (size_t i = 0; i < leftovers->route_count; i++) {
		struct route route = host_route(device, &leftovers->routes[i]);

		log_info("route to %s is no longer configured; removed",
			 prefix_format(&leftovers->routes[i], text));
		route_message(&message, RTM_DELROUTE, 0, &route);
		netlink_request(device->netlink, &message, NULL);
	}
	for (size_t i = 0; i < leftovers->address_count; i++) {
		const struct addr *addr = &leftovers->addresses[i];
		struct ifaddrmsg *info =
			netlink_message_init(&message, RTM_DELADDR, 0, sizeof(*info));

		log_info("gateway %s is no longer configured; removed", addr_format(addr, text));
		info->ifa_family = addr_family(addr);
		info->ifa_prefixlen = addr_is_v4(addr) ? 32 : 128;
		info->ifa_index = (unsigned int)device->ifindex;
		netlink_put_addr(&message.header, IFA_LOCAL, addr);
		netlink_request(device->netlink, &message, NULL);
	}
}

int host_device_prune(struct host_device *device, struct errmsg *err)
{
	struct leftovers leftovers = { .device = device };
	struct netlink_message message;
	int ret;

	netlink_message_init(&message, RTM_GETROUTE, 0, sizeof(struct rtmsg));
	ret = netlink_dump(device->netlink, &message, leftover_route_each, leftovers_begin,
			   &leftovers, err);
	if (ret == 0) {
		leftovers_remove(device, &leftovers);
		leftovers_begin(&leftovers);
		netlink_message_init(&message, RTM_GETADDR, 0, sizeof(struct ifaddrmsg));
		ret = netlink_dump(device->netlink, &message, leftover_address_each,
				   leftovers_begin, &leftovers, err);
	}
	if (ret == 0)
		leftovers_remove(device, &leftovers);
	return ret;
}

/* Whether a new route has replaced one of ours. */
static bool is_route_in_our_place(const struct host_device *device, const struct nlmsghdr *notice)
{
	struct route route;

	return route_parse(notice, &route) && route.ifindex != (uint32_t)device->ifindex &&
	       is_desired_route(device, &route.dst);
}

static bool has_our_name(const struct nlmsghdr *notice)
{
	const struct nlattr *attr;

	mnl_attr_for_each (attr, notice, sizeof(struct ifinfomsg)) {
		if (mnl_attr_get_type(attr) == IFLA_IFNAME)
			return strcmp(mnl_attr_get_str(attr), HOST_DEVICE) == 0;
	}
	return true;
}

bool host_device_is_hurt_by(const struct host_device *device, const struct nlmsghdr *notice)
{
	const struct ifinfomsg *link = mnl_nlmsg_get_payload(notice);
	const struct ifaddrmsg *address = mnl_nlmsg_get_payload(notice);
	const struct rtmsg *route = mnl_nlmsg_get_payload(notice);

	switch (notice->nlmsg_type) {
	case RTM_DELLINK:
		return link->ifi_index == device->ifindex;
	case RTM_NEWLINK:
		return link->ifi_index == device->ifindex &&
		       (!(link->ifi_flags & IFF_UP) || !has_our_name(notice));
	case RTM_DELADDR:
		return address->ifa_index == (unsigned int)device->ifindex;
	case RTM_DELROUTE:
		return route->rtm_protocol == HOST_ROUTE_PROTOCOL;
	case RTM_NEWROUTE:
		return is_route_in_our_place(device, notice);
	default:
		return false;
	}
}

int host_device_remove(struct netlink *netlink, struct errmsg *err)
{
	struct device_seen seen = {};
	struct netlink_message message;
	struct ifinfomsg *info;
	int ret = device_find(netlink, &seen, err);

	if (ret == -ENODEV || (ret == 0 && !seen.is_ours))
		return 0;
	if (ret < 0)
		return ret;
	info = netlink_message_init(&message, RTM_DELLINK, 0, sizeof(*info));
	info->ifi_index = seen.ifindex;
	ret = netlink_request(netlink, &message, err);
	return ret < 0 && ret != -ENODEV ? wrap(err, "remove %s", HOST_DEVICE) : 0;
}
