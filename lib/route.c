/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/route.h"

#define V4_MAPPED_BITS 96

void route_message(struct netlink_message *message, uint16_t type, uint16_t flags,
		   const struct route *route)
{
	struct rtmsg *header = netlink_message_init(message, type, flags, sizeof(*header));
	bool on_link = addr_is_zero(&route->gateway);

	header->rtm_family = addr_family(&route->dst.addr);
	header->rtm_dst_len = prefix_family_len(&route->dst);
	header->rtm_table = RT_TABLE_MAIN;
	header->rtm_protocol = route->protocol;
	header->rtm_scope =
		addr_is_v4(&route->dst.addr) && on_link ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
	header->rtm_type = RTN_UNICAST;
	header->rtm_flags = route->onlink ? RTNH_F_ONLINK : 0;
	netlink_put_addr(&message->header, RTA_DST, &route->dst.addr);
	if (!on_link)
		netlink_put_addr(&message->header, RTA_GATEWAY, &route->gateway);
	if (!addr_is_zero(&route->source))
		netlink_put_addr(&message->header, RTA_PREFSRC, &route->source);
	if (route->ifindex)
		mnl_attr_put_u32(&message->header, RTA_OIF, route->ifindex);
}

bool route_parse(const struct nlmsghdr *header, struct route *ret)
{
	const struct rtmsg *route = mnl_nlmsg_get_payload(header);
	const struct nlattr *attr;

	*ret = (struct route){ .protocol = route->rtm_protocol };
	mnl_attr_for_each (attr, header, sizeof(*route)) {
		const void *data = mnl_attr_get_payload(attr);
		size_t len = mnl_attr_get_payload_len(attr);

		if (mnl_attr_get_type(attr) == RTA_DST)
			addr_from_bytes(data, len, &ret->dst.addr);
		else if (mnl_attr_get_type(attr) == RTA_GATEWAY)
			addr_from_bytes(data, len, &ret->gateway);
		else if (mnl_attr_get_type(attr) == RTA_OIF)
			ret->ifindex = mnl_attr_get_u32(attr);
	}
	ret->dst.len =
		(uint8_t)(route->rtm_dst_len + (addr_is_v4(&ret->dst.addr) ? V4_MAPPED_BITS : 0));
	return route->rtm_table == RT_TABLE_MAIN;
}
