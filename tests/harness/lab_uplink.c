/* SPDX-License-Identifier: Apache-2.0 */
#include "harness/lab_uplink.h"

#include <linux/rtnetlink.h>
#include <net/if.h>
#include <setjmp.h>
#include <stdarg.h>

#include "harness/scratch.h"
#include "lib/netlink.h"

#include <cmocka.h> /* last: its fail() is a macro */

const uint8_t router_mac[6] = { 2, 0x54, 0, 0, 9, 1 };
const uint8_t uplink_mac[6] = { 2, 0x54, 0, 0, 9, 2 };

/* A default route by the router, whose MAC is known. */
static void route_add(struct netlink *netlink, bool ipv6)
{
	struct addr router = outside_addr(ipv6, 0xc0000201, 0x20010dba, 1);
	struct netlink_message message;
	struct rtmsg *route;
	struct ndmsg *neighbour;
	struct errmsg err = { 0 };

	neighbour =
		netlink_message_init(&message, RTM_NEWNEIGH,
				     NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, sizeof(*neighbour));
	neighbour->ndm_family = ipv6 ? AF_INET6 : AF_INET;
	neighbour->ndm_ifindex = UPLINK_INDEX;
	neighbour->ndm_state = NUD_PERMANENT;
	netlink_put_addr(&message.header, NDA_DST, &router);
	mnl_attr_put(&message.header, NDA_LLADDR, sizeof(router_mac), router_mac);
	assert_int_equal(netlink_request(netlink, &message, &err), 0);
	route = netlink_message_init(&message, RTM_NEWROUTE,
				     NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, sizeof(*route));
	*route = (struct rtmsg){ .rtm_family = ipv6 ? AF_INET6 : AF_INET,
				 .rtm_table = RT_TABLE_MAIN,
				 .rtm_protocol = RTPROT_STATIC,
				 .rtm_type = RTN_UNICAST,
				 .rtm_flags = RTNH_F_ONLINK };
	netlink_put_addr(&message.header, RTA_GATEWAY, &router);
	mnl_attr_put_u32(&message.header, RTA_OIF, UPLINK_INDEX);
	assert_int_equal(netlink_request(netlink, &message, &err), 0);
}

int lab_uplink_make(void)
{
	auto_netlink struct netlink netlink = NETLINK_INIT;
	struct datapath_options options = { .limits = { .endpoints = 16, .connections = 512 } };
	struct netlink_message message;
	struct errmsg err = { 0 };
	struct ifinfomsg *link;

	if (datapath_load_uplinks(lab.datapath, &options, &err) ||
	    scratch_veth("uplink0", UPLINK_INDEX, &err) || netlink_open(&netlink, -1, &err)) {
		print_error("%s\n", err.text);
		return -1;
	}
	link = netlink_message_init(&message, RTM_NEWLINK, NLM_F_ACK, sizeof(*link));
	link->ifi_index = UPLINK_INDEX;
	mnl_attr_put_u32(&message.header, IFLA_MTU, UPLINK_MTU);
	mnl_attr_put(&message.header, IFLA_ADDRESS, sizeof(uplink_mac), uplink_mac);
	assert_int_equal(netlink_request(&netlink, &message, &err), 0);
	route_add(&netlink, false);
	route_add(&netlink, true);
	return 0;
}

struct frame lab_uplink_frame(const struct segment *segment)
{
	struct frame frame;

	frame_build(segment, router_mac, uplink_mac, &frame);
	return frame;
}

uint8_t lab_ttl(const struct frame *frame)
{
	return frame->bytes[FRAME_L3 + (lab.ipv6 ? 7 : 8)];
}
