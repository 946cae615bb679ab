/* SPDX-License-Identifier: Apache-2.0 */
/*
 * BIG TCP: the limits of a link for segmentation offload.  Linux 6.1 has them for IPv6 alone, by
 * the attributes that later hold for both families; IPv4 got attributes of its own in 6.3.
 */
#include "agent/endpoint/big_tcp.h"

#include <linux/if_link.h>

#define LOG_MODULE "host"
#include "lib/log.h"

/* Linux 6.3; headers may be older. */
#define IFLA_GSO_IPV4_MAX_SIZE_V6_3 63
#define IFLA_GRO_IPV4_MAX_SIZE_V6_3 64

#define MTU_MIN_IPV6 1280
#define SIZE_OLD     65536
/* A packet has room for 17 fragments of 32 KiB; a larger size gains little. */
#define SIZE_BIG (192 * 1024)

static void limits_put(struct nlmsghdr *header, uint32_t size, uint32_t size_ipv6)
{
	/* Limits of up to 64 KiB are taken for those of IPv4 too: the kernel sees them first. */
	mnl_attr_put_u32(header, IFLA_GSO_MAX_SIZE, size_ipv6);
	mnl_attr_put_u32(header, IFLA_GRO_MAX_SIZE, size_ipv6);
	mnl_attr_put_u32(header, IFLA_GSO_IPV4_MAX_SIZE_V6_3, size);
	mnl_attr_put_u32(header, IFLA_GRO_IPV4_MAX_SIZE_V6_3, size);
}

void big_tcp_put(struct nlmsghdr *header, unsigned int mtu)
{
	/* Routes with an MTU below IPv6's minimum would be useless. */
	bool ipv6 = mtu >= MTU_MIN_IPV6 + BIG_TCP_IPV6_HEADER;

	limits_put(header, SIZE_BIG, ipv6 ? SIZE_BIG : SIZE_OLD);
}

bool big_tcp_has_ipv6(uint32_t gso_max_size)
{
	return gso_max_size > SIZE_OLD;
}

void big_tcp_refused(const struct errmsg *err)
{
	static bool logged;

	if (!logged)
		log_warn("bigTcp: packets stay at 64 KiB: %s", err->text);
	logged = true;
}

struct limits_seen {
	uint32_t tso; /* the device's own; 0: not known */
	bool ipv4;
};

static int limits_each(const struct nlmsghdr *header, void *arg)
{
	struct limits_seen *seen = arg;
	const struct nlattr *attr;

	mnl_attr_for_each (attr, header, sizeof(struct ifinfomsg)) {
		if (mnl_attr_get_type(attr) == IFLA_TSO_MAX_SIZE)
			seen->tso = mnl_attr_get_u32(attr);
		if (mnl_attr_get_type(attr) == IFLA_GSO_IPV4_MAX_SIZE_V6_3)
			seen->ipv4 = true;
	}
	return 0;
}

void big_tcp_set(struct netlink *netlink, int ifindex, bool on)
{
	static bool logged;
	struct limits_seen seen = {};
	struct netlink_message message;
	struct errmsg err = {};
	struct ifinfomsg *info = netlink_message_init(&message, RTM_GETLINK, 0, sizeof(*info));
	uint32_t size = on ? SIZE_BIG : SIZE_OLD;
	int ret;

	info->ifi_index = ifindex;
	ret = netlink_get(netlink, &message, limits_each, &seen, &err);
	if (on && ret == 0 && !seen.ipv4 && !logged) {
		log_warn("bigTcp: this kernel does not have it for IPv4 (Linux 6.3); its "
			 "packets stay at 64 KiB");
		logged = true;
	}
	/* A device that is not the pod's own may allow less. */
	if (seen.tso && size > seen.tso)
		size = seen.tso;
	info = netlink_message_init(&message, RTM_NEWLINK, 0, sizeof(*info));
	info->ifi_index = ifindex;
	limits_put(&message.header, size, size);
	if (ret == 0)
		ret = netlink_request(netlink, &message, &err);
	if (on && ret < 0)
		big_tcp_refused(&err);
}
