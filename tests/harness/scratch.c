/* SPDX-License-Identifier: Apache-2.0 */
/* Namespaces, bpffs and cgroup of a datapath test. */
#include "harness/scratch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/auto.h"
#include "lib/netlink.h"
#include "lib/netns.h"

#define CGROUPS       "/sys/fs/cgroup"
#define CGROUP_PREFIX "tendril-test-"

static char own_cgroup[64];

/* ---- cgroups -------------------------------------------------------------------------------- */

static int cgroup_join(const char *path, struct errmsg *err)
{
	auto_fclose FILE *file = NULL;
	char procs[128];

	snprintf(procs, sizeof(procs), "%s/cgroup.procs", path);
	file = fopen(procs, "we");
	if (!file || fprintf(file, "%d\n", getpid()) < 0 || fflush(file))
		return fail(err, -errno, "join %s", path);
	return 0;
}

static void cgroup_remove(const char *path)
{
	struct dirent *entry;
	DIR *dir = opendir(path);

	if (!dir)
		return;
	while ((entry = readdir(dir))) {
		if (entry->d_type == DT_DIR && entry->d_name[0] != '.')
			unlinkat(dirfd(dir), entry->d_name, AT_REMOVEDIR);
	}
	closedir(dir);
	rmdir(path);
}

/* Removes the cgroups of tests whose process is gone. */
static void cgroups_prune(void)
{
	struct dirent *entry;
	DIR *dir = opendir(CGROUPS);

	if (!dir)
		return;
	while ((entry = readdir(dir))) {
		char path[sizeof(CGROUPS) + 1 + sizeof(entry->d_name)];
		int pid;

		if (sscanf(entry->d_name, CGROUP_PREFIX "%d", &pid) != 1 || !kill(pid, 0))
			continue;
		snprintf(path, sizeof(path), CGROUPS "/%s", entry->d_name);
		cgroup_remove(path);
	}
	closedir(dir);
}

const char *scratch_cgroup(void)
{
	return own_cgroup;
}

int scratch_cgroup_child(const char *name, char ret_path[64], struct errmsg *err)
{
	snprintf(ret_path, 64, "%.40s/%.20s", own_cgroup, name);
	if (mkdir(ret_path, 0755) && errno != EEXIST)
		return fail(err, -errno, "mkdir %s", ret_path);
	return 0;
}

/* ---- links ---------------------------------------------------------------------------------- */

static int link_up(struct netlink *netlink, const char *name, struct errmsg *err)
{
	struct netlink_message message;
	struct ifinfomsg *link;

	link = netlink_message_init(&message, RTM_NEWLINK, NLM_F_ACK, sizeof(*link));
	link->ifi_index = (int)if_nametoindex(name);
	link->ifi_flags = link->ifi_change = IFF_UP;
	return netlink_request(netlink, &message, err);
}

int scratch_veth(const char *name, int ifindex, struct errmsg *err)
{
	auto_netlink struct netlink netlink = NETLINK_INIT;
	struct nlattr *info, *data, *peer_info;
	struct netlink_message message;
	struct ifinfomsg *link;
	char peer[IFNAMSIZ];

	snprintf(peer, sizeof(peer), "%.10s-peer", name);
	if (netlink_open(&netlink, -1, err))
		return err->code;
	link = netlink_message_init(&message, RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL,
				    sizeof(*link));
	link->ifi_index = ifindex;
	mnl_attr_put_strz(&message.header, IFLA_IFNAME, name);
	info = mnl_attr_nest_start(&message.header, IFLA_LINKINFO);
	mnl_attr_put_strz(&message.header, IFLA_INFO_KIND, "veth");
	data = mnl_attr_nest_start(&message.header, IFLA_INFO_DATA);
	peer_info = mnl_attr_nest_start(&message.header, VETH_INFO_PEER);
	memset(mnl_nlmsg_put_extra_header(&message.header, sizeof(struct ifinfomsg)), 0,
	       sizeof(struct ifinfomsg));
	mnl_attr_put_strz(&message.header, IFLA_IFNAME, peer);
	mnl_attr_nest_end(&message.header, peer_info);
	mnl_attr_nest_end(&message.header, data);
	mnl_attr_nest_end(&message.header, info);
	if (netlink_request(&netlink, &message, err))
		return wrap(err, "make veth %s", name);
	if (link_up(&netlink, name, err) || link_up(&netlink, peer, err))
		return wrap(err, "veth %s up", name);
	return 0;
}

int scratch_link_del(const char *name, struct errmsg *err)
{
	auto_netlink struct netlink netlink = NETLINK_INIT;
	struct netlink_message message;
	struct ifinfomsg *link;

	if (netlink_open(&netlink, -1, err))
		return err->code;
	link = netlink_message_init(&message, RTM_DELLINK, NLM_F_ACK, sizeof(*link));
	link->ifi_index = (int)if_nametoindex(name);
	return netlink_request(&netlink, &message, err);
}

/* ---- the place ------------------------------------------------------------------------------ */

int scratch_bpffs(struct errmsg *err)
{
	if (unshare(CLONE_NEWNS))
		return fail(err, -errno, "unshare");
	if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return fail(err, -errno, "make mounts private");
	if (mount("bpf", "/sys/fs/bpf", "bpf", 0, "mode=0700"))
		return fail(err, -errno, "mount a bpffs");
	return 0;
}

int scratch_init(struct errmsg *err)
{
	auto_netlink struct netlink netlink = NETLINK_INIT;

	if (unshare(CLONE_NEWNET))
		return fail(err, -errno, "unshare");
	if (scratch_bpffs(err))
		return err->code;
	if (mount("cgroup2", CGROUPS, "cgroup2", 0, NULL) && errno != EBUSY) /* it is there */
		return fail(err, -errno, "mount the cgroups");
	cgroups_prune();
	snprintf(own_cgroup, sizeof(own_cgroup), CGROUPS "/" CGROUP_PREFIX "%d", getpid());
	if (mkdir(own_cgroup, 0755))
		return fail(err, -errno, "mkdir %s", own_cgroup);
	if (cgroup_join(own_cgroup, err))
		return err->code;
	if (netlink_open(&netlink, -1, err))
		return err->code;
	return link_up(&netlink, "lo", err);
}

void scratch_done(void)
{
	struct errmsg err;

	datapath_cleanup(SCRATCH_PIN_DIR, &err);
	if (own_cgroup[0] && !cgroup_join(CGROUPS, &err))
		cgroup_remove(own_cgroup);
}

struct datapath_options scratch_options(void)
{
	return (struct datapath_options){ .pin_dir = SCRATCH_PIN_DIR };
}

uint64_t scratch_netns_cookie(void)
{
	struct netns_id id = { 0 };
	struct errmsg err;

	netns_identify(-1, &id, &err);
	return id.cookie;
}

static int entry_remove(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

int scratch_dir_remove(const char *path)
{
	return nftw(path, entry_remove, 10, FTW_DEPTH | FTW_PHYS);
}
