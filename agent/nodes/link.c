/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/nodes/link.h"

#include <errno.h>
#include <linux/if_link.h>
#include <string.h>

struct search {
	const char *kind;
	struct link *found;
};

static int link_each(const struct nlmsghdr *header, void *arg)
{
	const struct ifinfomsg *info = mnl_nlmsg_get_payload(header);
	const struct search *search = arg;
	const struct nlattr *attr, *inner;

	search->found->ifindex = (uint32_t)info->ifi_index;
	mnl_attr_for_each (attr, header, sizeof(*info)) {
		if (mnl_attr_get_type(attr) != IFLA_LINKINFO)
			continue;
		mnl_attr_for_each_nested (inner, attr) {
			if (mnl_attr_get_type(inner) == IFLA_INFO_KIND)
				search->found->is_of_kind |=
					!strcmp(mnl_attr_get_str(inner), search->kind);
		}
	}
	return 0;
}

int link_find(struct netlink *netlink, const char *name, const char *kind, struct link *ret,
	      struct errmsg *err)
{
	struct search search = { kind, ret };
	struct netlink_message message;

	*ret = (struct link){ 0 };
	netlink_message_init(&message, RTM_GETLINK, 0, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(&message.header, IFLA_IFNAME, name);
	return netlink_get(netlink, &message, link_each, &search, err);
}

int link_delete(struct netlink *netlink, const char *name, const char *kind, struct errmsg *err)
{
	struct netlink_message message;
	struct ifinfomsg *info;
	struct link seen;
	int ret = link_find(netlink, name, kind, &seen, err);

	if (ret == -ENODEV || (ret == 0 && !seen.is_of_kind))
		return 0;
	info = netlink_message_init(&message, RTM_DELLINK, 0, sizeof(*info));
	info->ifi_index = (int)seen.ifindex;
	if (ret == 0)
		ret = netlink_request(netlink, &message, err);
	return ret < 0 ? wrap(err, "delete %s", name) : 0;
}
