/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a packet misses that bypasses the host's stack: rules of netfilter, IPVS, IPsec, and the
 * check of the reverse path.  One uplink needs no such check: all that the datapath itself does not
 * refuse there has its way back by it.
 */
#include "agent/endpoint/host_stack.h"

#include <linux/xfrm.h>
#include <stdio.h>
#include <string.h>

#include "agent/endpoint/endpoint_internal.h"
#include "lib/auto.h"
#include "lib/file.h"

#define IPVS_HEAD_LINES  3
#define IPVS_READ_MAX    (1U << 20)
#define RP_FILTER_STRICT 1

static bool ipvs_is_used(void)
{
	auto_free char *text = NULL;
	size_t len = 0;
	const char *rest;
	int ret = file_read("/proc/thread-self/net/ip_vs", IPVS_READ_MAX, &text, &len, NULL);

	if (ret < 0)
		return ret == -EFBIG;
	rest = text;
	for (int i = 0; rest && i < IPVS_HEAD_LINES; i++) {
		rest = strchr(rest, '\n');
		rest = rest ? rest + 1 : NULL;
	}
	return rest && *rest;
}

static int policies_count(const struct nlmsghdr *header, void *arg)
{
	const struct nlattr *attr;
	uint32_t *count = arg;

	mnl_attr_for_each (attr, header, sizeof(uint32_t)) {
		const struct xfrmu_spdinfo *info = mnl_attr_get_payload(attr);

		if (mnl_attr_get_type(attr) == XFRMA_SPD_INFO &&
		    mnl_attr_get_payload_len(attr) >= sizeof(*info))
			*count += info->incnt + info->outcnt + info->fwdcnt;
	}
	return 0;
}

static bool ipsec_is_used(void)
{
	auto_netlink struct netlink netlink = NETLINK_INIT;
	struct netlink_message message;
	uint32_t count = 0;

	if (netlink_open_protocol(&netlink, -1, NETLINK_XFRM, NULL) < 0)
		return false;
	netlink_message_init(&message, XFRM_MSG_GETSPDINFO, 0, sizeof(uint32_t));
	return netlink_get(&netlink, &message, policies_count, &count, NULL) == 0 && count > 0;
}

/* Whether IPv4 packets with this source must come in by the device of the route to it. */
static bool is_strict(const char *device)
{
	char setting[64];
	long all = 0, own = 0;

	snprintf(setting, sizeof(setting), "net/ipv4/conf/%s/rp_filter", device);
	sysctl_read("net/ipv4/conf/all/rp_filter", &all, NULL);
	sysctl_read(setting, &own, NULL);
	return (own > all ? own : all) == RP_FILTER_STRICT;
}

bool host_stack_is_needed(const char (*uplinks)[IFNAMSIZ], size_t uplink_count, char *ret_why,
			  size_t size)
{
	char chain[200];

	if (netfilter_forwards(chain, sizeof(chain))) {
		snprintf(ret_why, size, "%s is for forwarded packets", chain);
		return true;
	}
	if (ipvs_is_used()) {
		snprintf(ret_why, size, "IPVS has services");
		return true;
	}
	if (ipsec_is_used()) {
		snprintf(ret_why, size, "IPsec has policies");
		return true;
	}
	for (size_t i = 0; uplink_count > 1 && i < uplink_count; i++) {
		if (!is_strict(uplinks[i]))
			continue;
		snprintf(ret_why, size,
			 "net.ipv4.conf.%s.rp_filter is 1, and there are %zu uplinks", uplinks[i],
			 uplink_count);
		return true;
	}
	return false;
}
