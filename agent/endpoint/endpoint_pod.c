/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of the pod: what ADD configures there, and how CHECK compares it. */
#include "agent/endpoint/endpoint_internal.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "agent/endpoint/big_tcp.h"
#include "lib/file.h"

#define V4_MAPPED_BITS  96
#define SETTLE_ATTEMPTS 100
#define SETTLE_PAUSE_NS 200000
#define LOOPBACK_INDEX  1 /* the first device of every namespace */

static struct prefix default_route(const struct ipam_lease *lease)
{
	struct prefix any = { .len = 0 };

	if (addr_is_v4(&lease->address.addr)) {
		addr_parse("0.0.0.0", &any.addr);
		any.len = V4_MAPPED_BITS;
	}
	return any;
}

/* ---- configure ------------------------------------------------------------------------------- */

/* No link-local address (see veth_configure()), up, in this order: the device is without carrier
 * until the host's end is up, so no address is made between the two. */
static void put_links(struct netlink_batch *batch, int ifindex, bool ipv6)
{
	struct nlattr *spec, *inet6;
	struct ifinfomsg *info;
	struct nlmsghdr *header;

	netlink_batch_next(batch, RTM_NEWLINK, 0, sizeof(*info), (void **)&info);
	info->ifi_index = LOOPBACK_INDEX;
	info->ifi_flags = info->ifi_change = IFF_UP;
	if (ipv6) {
		header = netlink_batch_next(batch, RTM_NEWLINK, 0, sizeof(*info), (void **)&info);
		info->ifi_index = ifindex;
		spec = mnl_attr_nest_start(header, IFLA_AF_SPEC);
		inet6 = mnl_attr_nest_start(header, AF_INET6);
		mnl_attr_put_u8(header, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
		mnl_attr_nest_end(header, inet6);
		mnl_attr_nest_end(header, spec);
	}
	netlink_batch_next(batch, RTM_NEWLINK, 0, sizeof(*info), (void **)&info);
	info->ifi_index = ifindex;
	info->ifi_flags = info->ifi_change = IFF_UP;
}

static void put_address(struct netlink_batch *batch, int ifindex, const struct ipam_lease *lease)
{
	struct ifaddrmsg *info;
	struct nlmsghdr *header = netlink_batch_next(batch, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL,
						     sizeof(*info), (void **)&info);

	info->ifa_family = addr_family(&lease->address.addr);
	info->ifa_prefixlen = prefix_family_len(&lease->address);
	info->ifa_index = (unsigned int)ifindex;
	netlink_put_addr(header, IFA_LOCAL, &lease->address.addr);
	netlink_put_addr(header, IFA_ADDRESS, &lease->address.addr);
	mnl_attr_put_u32(header, IFA_FLAGS, IFA_F_NODAD | IFA_F_NOPREFIXROUTE);
}

static void put_route(struct netlink_batch *batch, const struct endpoint *endpoint,
		      const struct prefix *dst, const struct addr *gateway)
{
	struct nlattr *metrics;
	struct rtmsg *route;
	struct nlmsghdr *header = netlink_batch_next(batch, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL,
						     sizeof(*route), (void **)&route);

	route->rtm_family = addr_family(&dst->addr);
	route->rtm_dst_len = prefix_family_len(dst);
	route->rtm_table = RT_TABLE_MAIN;
	route->rtm_protocol = HOST_ROUTE_PROTOCOL;
	route->rtm_scope = RT_SCOPE_UNIVERSE;
	route->rtm_type = RTN_UNICAST;
	route->rtm_flags = RTNH_F_ONLINK;
	if (route->rtm_dst_len > 0)
		netlink_put_addr(header, RTA_DST, &dst->addr);
	netlink_put_addr(header, RTA_GATEWAY, gateway);
	mnl_attr_put_u32(header, RTA_OIF, (uint32_t)endpoint->pod_ifindex);
	if (endpoint->big_tcp && !addr_is_v4(&dst->addr)) {
		metrics = mnl_attr_nest_start(header, RTA_METRICS);
		mnl_attr_put_u32(header, RTAX_MTU, endpoint->mtu - BIG_TCP_IPV6_HEADER);
		mnl_attr_nest_end(header, metrics);
	}
}

static void put_neighbour(struct netlink_batch *batch, int ifindex, const struct addr *gateway,
			  const uint8_t mac[6])
{
	struct ndmsg *neighbour;
	struct nlmsghdr *header =
		netlink_batch_next(batch, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE,
				   sizeof(*neighbour), (void **)&neighbour);

	neighbour->ndm_family = addr_family(gateway);
	neighbour->ndm_ifindex = ifindex;
	neighbour->ndm_state = NUD_PERMANENT;
	netlink_put_addr(header, NDA_DST, gateway);
	mnl_attr_put(header, NDA_LLADDR, 6, mac);
}

static bool is_there_already(size_t index, int code)
{
	(void)index;
	return code == -EEXIST;
}

/* Runtimes make namespaces with IPv6 off (conf.default.disable_ipv6) for networks without it; this
 * network has IPv6.  -EAFNOSUPPORT: the device has none, because its MTU is too small for it or
 * because the namespace has none at all. */
static int pod_ipv6_enable(const char *ifname, int netns_fd, struct errmsg *err)
{
	auto_netns struct netns_scope scope = NETNS_SCOPE_INIT;
	char setting[80];
	long disabled = 0;
	int ret = netns_enter(netns_fd, &scope, err);

	if (ret < 0)
		return ret;
	snprintf(setting, sizeof(setting), "net/ipv6/conf/%s/disable_ipv6", ifname);
	ret = sysctl_read(setting, &disabled, err);
	if (ret == -ENOENT)
		return fail_plain(err, -EAFNOSUPPORT, "%s has no IPv6", ifname);
	return ret == 0 && disabled ? sysctl_write(setting, 0, err) : ret;
}

static void put_lease(struct netlink_batch *batch, const struct endpoint *endpoint,
		      const struct ipam_lease *lease)
{
	struct prefix any = default_route(lease);

	put_address(batch, endpoint->pod_ifindex, lease);
	put_neighbour(batch, endpoint->pod_ifindex, &lease->gateway, endpoint->host_mac);
	put_route(batch, endpoint, &any, &lease->gateway);
	for (size_t i = 0; i < endpoint->route_count; i++) {
		if (addr_is_v4(&endpoint->routes[i].addr) == addr_is_v4(&lease->address.addr))
			put_route(batch, endpoint, &endpoint->routes[i], &lease->gateway);
	}
}

int pod_configure(const struct endpoint *endpoint, int netns_fd, struct errmsg *err)
{
	auto_netlink struct netlink netlink = NETLINK_INIT;
	struct errmsg no_ipv6 = {};
	struct netlink_batch batch;
	int ipv6 = 0;
	int ret = netlink_open(&netlink, netns_fd, err);

	if (ret < 0)
		return ret;
	if (endpoint_has_ipv6(endpoint))
		ipv6 = pod_ipv6_enable(endpoint->ifname, netns_fd, &no_ipv6);
	/* A batch has room for several times what one endpoint needs. */
	netlink_batch_init(&batch);
	put_links(&batch, endpoint->pod_ifindex,
		  host_has_ipv6() && endpoint->mtu >= MTU_MIN_IPV6 && ipv6 == 0);
	for (size_t i = 0; i < endpoint->address_count; i++) {
		const struct ipam_lease *lease = &endpoint->addresses[i];

		if (ipv6 == 0 || addr_is_v4(&lease->address.addr))
			put_lease(&batch, endpoint, lease);
	}
	ret = netlink_batch_run(&netlink, &batch, is_there_already, NULL, err);
	if (ret == 0 && ipv6 < 0)
		return fail_plain(err, ipv6, "%s", no_ipv6.text);
	return ret;
}

int pod_link_settle(const struct endpoint *endpoint, int netns_fd, struct errmsg *err)
{
	auto_netlink struct netlink netlink = NETLINK_INIT;
	int ret = netlink_open(&netlink, netns_fd, err);

	/* Since Linux 6.8 this query makes the kernel finish; before, a worker does it.  If it is
	 * not done in time, that is no failure: it will be. */
	for (int i = 0; ret == 0 && i < SETTLE_ATTEMPTS; i++) {
		static const struct timespec pause = { .tv_nsec = SETTLE_PAUSE_NS };
		struct host_link link = {};

		ret = host_link_get(&netlink, endpoint->pod_ifindex, &link, err);
		if (link.flags & IFF_RUNNING)
			return 0;
		nanosleep(&pause, NULL);
	}
	return ret;
}

/* ---- compare --------------------------------------------------------------------------------- */

/* Which of the expected parts a dump has shown. */
struct pod_seen {
	const struct endpoint *endpoint;
	uint32_t ifindex;
	bool address[2];
	bool neighbour[2];
	bool default_route[2];
	bool route[ENDPOINT_ROUTES_MAX];
};

static bool attr_is_addr(const struct nlattr *attr, const struct addr *addr)
{
	struct addr found;

	return addr_from_bytes(mnl_attr_get_payload(attr), mnl_attr_get_payload_len(attr),
			       &found) == 0 &&
	       addr_equal(&found, addr);
}

static int address_each(const struct nlmsghdr *header, void *arg)
{
	const struct ifaddrmsg *info = mnl_nlmsg_get_payload(header);
	struct pod_seen *seen = arg;
	const struct nlattr *attr;

	if (info->ifa_index != seen->ifindex)
		return 0;
	mnl_attr_for_each (attr, header, sizeof(*info)) {
		if (mnl_attr_get_type(attr) != IFA_ADDRESS)
			continue;
		for (size_t i = 0; i < seen->endpoint->address_count; i++) {
			const struct prefix *address = &seen->endpoint->addresses[i].address;

			/* The other plugin's result may have another length than its interface. */
			seen->address[i] |= attr_is_addr(attr, &address->addr) &&
					    (seen->endpoint->chained ||
					     info->ifa_prefixlen == prefix_family_len(address));
		}
	}
	return 0;
}

static int neighbour_each(const struct nlmsghdr *header, void *arg)
{
	const struct ndmsg *info = mnl_nlmsg_get_payload(header);
	struct pod_seen *seen = arg;
	const struct nlattr *attr;
	const uint8_t *mac = NULL;
	struct addr dst = {};

	if ((uint32_t)info->ndm_ifindex != seen->ifindex || !(info->ndm_state & NUD_PERMANENT))
		return 0;
	mnl_attr_for_each (attr, header, sizeof(*info)) {
		if (mnl_attr_get_type(attr) == NDA_DST)
			addr_from_bytes(mnl_attr_get_payload(attr), mnl_attr_get_payload_len(attr),
					&dst);
		else if (mnl_attr_get_type(attr) == NDA_LLADDR &&
			 mnl_attr_get_payload_len(attr) == 6)
			mac = mnl_attr_get_payload(attr);
	}
	for (size_t i = 0; mac && i < seen->endpoint->address_count; i++)
		seen->neighbour[i] |= addr_equal(&dst, &seen->endpoint->addresses[i].gateway) &&
				      memcmp(mac, seen->endpoint->host_mac, 6) == 0;
	return 0;
}

static int route_each(const struct nlmsghdr *header, void *arg)
{
	const struct rtmsg *info = mnl_nlmsg_get_payload(header);
	const struct endpoint *endpoint;
	struct pod_seen *seen = arg;
	const struct nlattr *attr;
	struct addr dst = {};
	uint32_t oif = 0;

	endpoint = seen->endpoint;
	mnl_attr_for_each (attr, header, sizeof(*info)) {
		if (mnl_attr_get_type(attr) == RTA_DST)
			addr_from_bytes(mnl_attr_get_payload(attr), mnl_attr_get_payload_len(attr),
					&dst);
		else if (mnl_attr_get_type(attr) == RTA_OIF)
			oif = mnl_attr_get_u32(attr);
	}
	if (oif != seen->ifindex || info->rtm_table != RT_TABLE_MAIN)
		return 0;
	for (size_t i = 0; i < endpoint->address_count; i++)
		seen->default_route[i] |=
			info->rtm_dst_len == 0 &&
			info->rtm_family == addr_family(&endpoint->addresses[i].address.addr);
	for (size_t i = 0; i < endpoint->route_count; i++)
		seen->route[i] |= info->rtm_family == addr_family(&endpoint->routes[i].addr) &&
				  info->rtm_dst_len == prefix_family_len(&endpoint->routes[i]) &&
				  addr_equal(&dst, &endpoint->routes[i].addr);
	return 0;
}

static void seen_begin(void *arg)
{
	struct pod_seen *seen = arg;

	*seen = (struct pod_seen){ .endpoint = seen->endpoint, .ifindex = seen->ifindex };
}

/* Each part is dumped into a copy of its own, because a dump that starts over clears it. */
static int pod_dump(struct netlink *netlink, uint16_t type, size_t header_size, netlink_each each,
		    struct pod_seen *seen, struct errmsg *err)
{
	struct netlink_message message;

	netlink_message_init(&message, type, 0, header_size);
	return netlink_dump(netlink, &message, each, seen_begin, seen, err);
}

static int seen_report(const struct pod_seen *addresses, const struct pod_seen *neighbours,
		       const struct pod_seen *routes, bool ipv6, struct errmsg *err)
{
	const struct endpoint *endpoint = addresses->endpoint;
	char text[ADDR_TEXT_MAX];

	for (size_t i = 0; i < endpoint->address_count; i++) {
		const struct ipam_lease *lease = &endpoint->addresses[i];

		if (!ipv6 && !addr_is_v4(&lease->address.addr))
			continue;
		if (!addresses->address[i])
			return fail_plain(err, -EPROTO, "address %s/%u is not on %s",
					  addr_format(&lease->address.addr, text),
					  prefix_family_len(&lease->address), endpoint->ifname);
		if (endpoint->chained)
			continue;
		if (!routes->default_route[i])
			return fail_plain(err, -EPROTO, "the %s default route is not on %s",
					  addr_is_v4(&lease->address.addr) ? "IPv4" : "IPv6",
					  endpoint->ifname);
		if (!neighbours->neighbour[i])
			return fail_plain(err, -EPROTO,
					  "the neighbour entry of gateway %s is not on %s",
					  addr_format(&lease->gateway, text), endpoint->ifname);
	}
	for (size_t i = 0; i < endpoint->route_count; i++) {
		if (!routes->route[i] && (ipv6 || addr_is_v4(&endpoint->routes[i].addr)))
			return fail_plain(err, -EPROTO, "the route to %s is not on %s",
					  prefix_format(&endpoint->routes[i], text),
					  endpoint->ifname);
	}
	return 0;
}

int pod_compare(const struct endpoint *endpoint, int netns_fd, struct errmsg *err)
{
	struct pod_seen addresses = { .endpoint = endpoint,
				      .ifindex = (uint32_t)endpoint->pod_ifindex };
	struct pod_seen neighbours = addresses;
	struct pod_seen routes = addresses;
	auto_netlink struct netlink netlink = NETLINK_INIT;
	struct host_link link = {};
	int ret = pod_link_get(endpoint, netns_fd, &link, err);

	if (ret == -ENODEV)
		return fail_plain(err, -EPROTO, "%s is not in the pod's namespace",
				  endpoint->ifname);
	if (ret == 0 && link.ifindex != endpoint->pod_ifindex)
		return fail_plain(err, -EPROTO, "%s is not the interface that was made",
				  endpoint->ifname);
	if (ret == 0 && !(link.flags & IFF_UP))
		return fail_plain(err, -EPROTO, "%s is down", endpoint->ifname);
	if (ret == 0)
		ret = netlink_open(&netlink, netns_fd, err);
	if (ret == 0)
		ret = pod_dump(&netlink, RTM_GETADDR, sizeof(struct ifaddrmsg), address_each,
			       &addresses, err);
	if (ret == 0)
		ret = pod_dump(&netlink, RTM_GETNEIGH, sizeof(struct ndmsg), neighbour_each,
			       &neighbours, err);
	if (ret == 0)
		ret = pod_dump(&netlink, RTM_GETROUTE, sizeof(struct rtmsg), route_each, &routes,
			       err);
	if (ret < 0)
		return ret;
	return seen_report(&addresses, &neighbours, &routes, link.mtu >= MTU_MIN_IPV6, err);
}
