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

static int route_source_each(const struct nlmsghdr *header, void *arg)
{
	const struct nlattr *attr;

	mnl_attr_for_each (attr, header, sizeof(struct rtmsg)) {
		if (mnl_attr_get_type(attr) == RTA_PREFSRC)
			addr_from_bytes(mnl_attr_get_payload(attr), mnl_attr_get_payload_len(attr),
					arg);
	}
	return 0;
}

/* The address that the node would use towards this one; all zero: it has no route. */
static struct addr source_towards(struct netlink *netlink, const char *text)
{
	struct addr destination = {}, source = {};
	struct netlink_message message;
	struct rtmsg *route;

	addr_parse(text, &destination);
	route = netlink_message_init(&message, RTM_GETROUTE, 0, sizeof(*route));
	route->rtm_family = addr_family(&destination);
	route->rtm_dst_len = addr_is_v4(&destination) ? 32 : 128;
	netlink_put_addr(&message.header, RTA_DST, &destination);
	if (netlink_get(netlink, &message, route_source_each, &source, NULL) < 0)
		return (struct addr){};
	return source;
}

void snat_refresh(struct netlink *netlink, struct node_state *node)
{
	struct port_range ports = snat_ports(
		local_ports(), (struct port_range){ node->node_port_min, node->node_port_max });

	/* Documentation addresses: their route is the default route. */
	node->snat_v4 = source_towards(netlink, "192.0.2.1");
	node->snat_v6 = source_towards(netlink, "2001:db8::1");
	if (!ports.max)
		log_error("ip_local_port_range leaves no port from %d on: sources cannot be "
			  "translated",
			  SNAT_PORT_MIN);
	else if (ports.min != node->snat_port_min || ports.max != node->snat_port_max)
		log_info("ports %u to %u are for translated sources", ports.min, ports.max);
	node->snat_port_min = ports.min;
	node->snat_port_max = ports.max;
}
