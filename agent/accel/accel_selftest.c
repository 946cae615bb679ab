/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the self-test of socket acceleration runs on: two private namespaces, and the acceleration
 * programs over maps of their own.
 *
 *      netns of end 0:  veth0 192.0.2.1, 2001:db8::1  ====  veth1 192.0.2.2, 2001:db8::2 :end 1
 */
#include "agent/accel/accel_selftest_internal.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/magic.h>
#include <linux/veth.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/vfs.h>

#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/netlink.h"
#include "lib/netns.h"

DEFINE_AUTO(selftest)

/* ---- set-up --------------------------------------------------------------------------------- */

static int veth_create(int netns_fd, int peer_netns_fd, struct errmsg *err)
{
	auto_netlink struct netlink netlink = NETLINK_INIT;
	struct nlattr *linkinfo, *data, *peer;
	struct netlink_message message;
	struct nlmsghdr *request = &message.header;

	if (netlink_open(&netlink, netns_fd, err) < 0)
		return err->code;
	netlink_message_init(&message, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL,
			     sizeof(struct ifinfomsg));
	mnl_attr_put_strz(request, IFLA_IFNAME, "veth0");
	linkinfo = mnl_attr_nest_start(request, IFLA_LINKINFO);
	mnl_attr_put_strz(request, IFLA_INFO_KIND, "veth");
	data = mnl_attr_nest_start(request, IFLA_INFO_DATA);
	peer = mnl_attr_nest_start(request, VETH_INFO_PEER);
	mnl_nlmsg_put_extra_header(request, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(request, IFLA_IFNAME, "veth0");
	mnl_attr_put_u32(request, IFLA_NET_NS_FD, (uint32_t)peer_netns_fd);
	mnl_attr_nest_end(request, peer);
	mnl_attr_nest_end(request, data);
	mnl_attr_nest_end(request, linkinfo);
	if (netlink_request(&netlink, &message, err) < 0)
		return wrap(err, "make a veth pair");
	return 0;
}

/* Brings veth0 up and gives it both addresses. */
static int end_wire(const struct end *end, struct errmsg *err)
{
	auto_netlink struct netlink netlink = NETLINK_INIT;
	auto_netns struct netns_scope scope = NETNS_SCOPE_INIT;
	struct netlink_message message;
	struct ifinfomsg *link;
	uint32_t ifindex;

	if (netlink_open(&netlink, end->netns_fd, err) < 0 ||
	    netns_enter(end->netns_fd, &scope, err) < 0)
		return err->code;
	ifindex = if_nametoindex("veth0");
	link = netlink_message_init(&message, RTM_NEWLINK, 0, sizeof(*link));
	link->ifi_index = (int)ifindex;
	link->ifi_flags = IFF_UP;
	link->ifi_change = IFF_UP;
	if (netlink_request(&netlink, &message, err) < 0)
		return wrap(err, "set veth0 up");
	for (int v6 = 0; v6 < 2; v6++) {
		struct ifaddrmsg *info;

		info = netlink_message_init(&message, RTM_NEWADDR, NLM_F_CREATE, sizeof(*info));
		info->ifa_family = v6 ? AF_INET6 : AF_INET;
		info->ifa_prefixlen = v6 ? 64 : 24;
		info->ifa_flags = v6 ? IFA_F_NODAD : 0;
		info->ifa_index = ifindex;
		netlink_put_addr(&message.header, IFA_LOCAL, &end->addr[v6]);
		netlink_put_addr(&message.header, IFA_ADDRESS, &end->addr[v6]);
		if (netlink_request(&netlink, &message, err) < 0)
			return wrap(err, "add an address to veth0");
	}
	return 0;
}

/* Enters one end into the private maps, as a pod that asked for acceleration. */
static int end_publish(const struct selftest *selftest, int index, struct errmsg *err)
{
	const struct end *end = &selftest->end[index];
	struct endpoint_entry endpoint = { .flags = ENDPOINT_VALID | ENDPOINT_ACCEL,
					   .v4 = end->addr[0],
					   .v6 = end->addr[1] };
	struct ipcache_entry entry = { .identity = IDENTITY_FIRST, .slot = SELFTEST_SLOT(index) };
	struct netns_id id;
	int ret;

	if (netns_identify(end->netns_fd, &id, err) < 0)
		return err->code;
	endpoint.netns_cookie = id.cookie;
	ret = endpoint_map_set(selftest->datapath, SELFTEST_SLOT(index), &endpoint);
	for (int v6 = 0; v6 < 2 && ret == 0; v6++)
		ret = ipcache_map_set(selftest->datapath, &end->addr[v6], &entry);
	return ret < 0 ? fail(err, ret, "fill the maps") : 0;
}

static int namespaces_make(struct selftest *selftest, struct errmsg *err)
{
	for (int i = 0; i < 2; i++) {
		struct end *end = &selftest->end[i];

		if (addr_parse(i ? "192.0.2.2" : "192.0.2.1", &end->addr[0]) < 0 ||
		    addr_parse(i ? "2001:db8::2" : "2001:db8::1", &end->addr[1]) < 0)
			return fail(err, -EINVAL, "addresses");
		if (netns_new(&end->netns_fd, err) < 0)
			return err->code;
	}
	if (veth_create(selftest->end[0].netns_fd, selftest->end[1].netns_fd, err) < 0)
		return err->code;
	for (int i = 0; i < 2; i++) {
		if (end_wire(&selftest->end[i], err) < 0)
			return err->code;
	}
	return 0;
}

/* Where a cgroup lies below one of the mounts, if that mount is a cgroup2 that can be reached (it
 * may show a part of the tree only, or lie under another mount). */
static bool cgroup_below_mount(const char *line, const char *group, char *path, size_t size)
{
	char root[512], mount[512];
	struct statfs fs;

	if (!strstr(line, " - cgroup2 ") ||
	    sscanf(line, "%*s %*s %*s %511s %511s", root, mount) != 2)
		return false;
	if (strcmp(root, "/") != 0 && strncmp(group, root, strlen(root)) == 0)
		group += strlen(root);
	return snprintf(path, size, "%s%s", mount, group) < (int)size && statfs(path, &fs) == 0 &&
	       fs.f_type == CGROUP2_SUPER_MAGIC;
}

/* The cgroup of this process: attached there, the private programs see nobody else's sockets, and
 * see ours wherever the node's programs are attached. */
static int own_cgroup(char *path, size_t size, struct errmsg *err)
{
	auto_fclose FILE *mounts = fopen("/proc/self/mountinfo", "re");
	auto_fclose FILE *groups = fopen("/proc/self/cgroup", "re");
	char line[2048], group[512] = "";

	while (groups && !group[0] && fgets(line, sizeof(line), groups))
		sscanf(line, "0::%511s", group);
	while (mounts && group[0] && fgets(line, sizeof(line), mounts)) {
		if (cgroup_below_mount(line, group, path, size))
			return 0;
	}
	return fail_plain(err, -ENOENT, "no cgroup2 is mounted, or this process is in none");
}

int selftest_new(struct selftest **ret, struct errmsg *err)
{
	auto_(selftest) struct selftest *selftest = xcalloc(1, sizeof(*selftest));
	struct datapath_options options = { .accel = true, .trial = true };
	char cgroup[1024];

	selftest->end[0].netns_fd = selftest->end[1].netns_fd = -1;
	selftest->buf = xmalloc(SELFTEST_BUF_SIZE);
	if (own_cgroup(cgroup, sizeof(cgroup), err) < 0 || namespaces_make(selftest, err) < 0)
		return err->code;
	options.cgroup = cgroup;
	if (datapath_open(&options, &selftest->datapath, err) < 0)
		return err->code;
	for (int i = 0; i < 2; i++) {
		if (end_publish(selftest, i, err) < 0)
			return err->code;
	}
	selftest_allow(selftest, true);
	*ret = take_ptr(selftest);
	return 0;
}

void selftest_free(struct selftest *selftest)
{
	if (!selftest)
		return;
	datapath_close(selftest->datapath);
	for (int i = 0; i < 2; i++) {
		if (selftest->end[i].netns_fd >= 0)
			close(selftest->end[i].netns_fd);
	}
	free(selftest->buf);
	free(selftest);
}
