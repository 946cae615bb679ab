/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Under which address and ports the node asks a backend on another node for a client outside, and
 * from which ports pods are masqueraded.  The address is the one that the node itself would use
 * towards the outside.  The ports are none that its own sockets get (ip_local_port_range), and none
 * of services.
 */
#define LOG_MODULE "uplink"
#include <errno.h>
#include <stdio.h>

#include "agent/uplink/uplink_internal.h"
#include "lib/auto.h"
#include "lib/file.h"
#include "lib/log.h"

#define SNAT_PORT_MIN        16384
#define LOCAL_PORTS_PATH     "/proc/sys/net/ipv4/ip_local_port_range"
#define LOCAL_PORTS_FILE_MAX 64
/* Of Kubernetes: API servers give services node ports from here unless they are told otherwise. */
#define NODE_PORTS_DEFAULT  ((struct port_range){ 30000, 32767 })
#define LOCAL_PORTS_DEFAULT ((struct port_range){ 32768, 60999 })

/* ---- ports ----------------------------------------------------------------------------------- */

static struct port_range longer(struct port_range a, int min, int max)
{
	if (max - min > a.max - a.min)
		return (struct port_range){ (uint16_t)min, (uint16_t)max };
	return a;
}

struct port_range snat_ports(struct port_range local, struct port_range node_ports)
{
	const struct port_range taken[] = { local, node_ports, NODE_PORTS_DEFAULT };
	struct port_range best = {};
	int begin = SNAT_PORT_MIN;

	/* Goes from one end of a taken range to the next begin of one. */
	for (size_t rounds = 0; rounds <= ARRAY_SIZE(taken); rounds++) {
		int end = UINT16_MAX, after = begin;

		for (size_t i = 0; i < ARRAY_SIZE(taken); i++) {
			if (taken[i].max && taken[i].min <= after && taken[i].max >= after)
				after = taken[i].max + 1;
		}
		if (after != begin) {
			begin = after;
			continue;
		}
		for (size_t i = 0; i < ARRAY_SIZE(taken); i++) {
			if (taken[i].max && taken[i].min > begin && taken[i].min <= end)
				end = taken[i].min - 1;
		}
		best = longer(best, begin, end);
		begin = end + 1;
	}
	return best;
}

static struct port_range local_ports(void)
{
	auto_free char *text = NULL;
	struct errmsg err = {};
	unsigned long min, max;
	size_t len;
	char *end;

	if (file_read(LOCAL_PORTS_PATH, LOCAL_PORTS_FILE_MAX, &text, &len, &err) < 0)
		return LOCAL_PORTS_DEFAULT;
	min = strtoul(text, &end, 10);
	max = strtoul(end, NULL, 10);
	if (min == 0 || min > max || max > UINT16_MAX)
		return LOCAL_PORTS_DEFAULT;
	return (struct port_range){ (uint16_t)min, (uint16_t)max };
}

/* ---- addresses ------------------------------------------------------------------------------- */

struct way {
	struct addr source;
	int ifindex;
};

static int route_each(const struct nlmsghdr *header, void *arg)
{
	const struct rtmsg *route = mnl_nlmsg_get_payload(header);
	struct way *way = arg;
	const struct nlattr *attr;

	mnl_attr_for_each (attr, header, sizeof(struct rtmsg)) {
		if (mnl_attr_get_type(attr) == RTA_PREFSRC)
			addr_from_bytes(mnl_attr_get_payload(attr), mnl_attr_get_payload_len(attr),
					&way->source);
		else if (mnl_attr_get_type(attr) == RTA_OIF && route->rtm_type == RTN_UNICAST)
			way->ifindex = (int)mnl_attr_get_u32(attr);
	}
	return 0;
}

/* The address and the device that the node would use towards this one; all zero: it has no route.
 */
static struct way way_towards(struct netlink *netlink, const char *text)
{
	struct addr destination = {};
	struct way way = {};
	struct netlink_message message;
	struct rtmsg *route;

	addr_parse(text, &destination);
	route = netlink_message_init(&message, RTM_GETROUTE, 0, sizeof(*route));
	route->rtm_family = addr_family(&destination);
	route->rtm_dst_len = addr_is_v4(&destination) ? 32 : 128;
	netlink_put_addr(&message.header, RTA_DST, &destination);
	if (netlink_get(netlink, &message, route_each, &way, NULL) < 0)
		return (struct way){};
	return way;
}

/* Flows keep the ports that they have. */
static void ports_change(struct node_state *node, struct port_range ports)
{
	if (ports.max)
		log_info("ports %u to %u are for translated sources", ports.min, ports.max);
	if (node->snat_port_max) {
		node->old_snat_port_min = node->snat_port_min;
		node->old_snat_port_max = node->snat_port_max;
	}
	node->snat_port_min = ports.min;
	node->snat_port_max = ports.max;
}

void snat_refresh(struct netlink *netlink, struct node_state *node, int ret_default[2])
{
	const struct port_range ports = snat_ports(
		local_ports(), (struct port_range){ node->node_port_min, node->node_port_max });
	/* Documentation addresses: their route is the default route. */
	const struct way v4 = way_towards(netlink, "192.0.2.1");
	const struct way v6 = way_towards(netlink, "2001:db8::1");

	node->snat_v4 = v4.source;
	node->snat_v6 = v6.source;
	ret_default[0] = v4.ifindex;
	ret_default[1] = v6.ifindex;
	if (!ports.max)
		log_error("ip_local_port_range leaves no port from %d on: sources cannot be "
			  "translated",
			  SNAT_PORT_MIN);
	if (ports.min != node->snat_port_min || ports.max != node->snat_port_max)
		ports_change(node, ports);
}
