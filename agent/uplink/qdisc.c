/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/uplink/qdisc.h"

#include <errno.h>
#include <linux/pkt_sched.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "lib/auto.h"

/* Of what we set, to find it again. */
#define OWN_HANDLE 0x7e4d0000U
#define QUEUES_MAX 256

struct qdisc {
	char kind[IFNAMSIZ];
	uint32_t handle; /* 0: nobody chose it, it is the kernel's default */
	uint32_t parent;
};

struct qdisc_list {
	int ifindex;
	struct qdisc root;
	struct qdisc children[QUEUES_MAX]; /* of mq: one for each queue */
	size_t count;
};

static void list_begin(void *arg)
{
	struct qdisc_list *list = arg;

	list->root = (struct qdisc){};
	list->count = 0;
}

static int qdisc_each(const struct nlmsghdr *header, void *arg)
{
	const struct tcmsg *info = mnl_nlmsg_get_payload(header);
	struct qdisc qdisc = { .handle = info->tcm_handle, .parent = info->tcm_parent };
	struct qdisc_list *list = arg;
	const struct nlattr *attr;

	if (info->tcm_ifindex != list->ifindex)
		return 0;
	mnl_attr_for_each (attr, header, sizeof(*info)) {
		if (mnl_attr_get_type(attr) == TCA_KIND)
			snprintf(qdisc.kind, sizeof(qdisc.kind), "%s", mnl_attr_get_str(attr));
	}
	if (qdisc.parent == TC_H_ROOT)
		list->root = qdisc;
	else if (qdisc.parent != TC_H_CLSACT && list->count == QUEUES_MAX)
		return -E2BIG;
	else if (qdisc.parent != TC_H_CLSACT)
		list->children[list->count++] = qdisc;
	return 0;
}

static int qdiscs_read(struct netlink *netlink, int ifindex, struct qdisc_list *ret,
		       struct errmsg *err)
{
	struct netlink_message message;
	struct tcmsg *request;

	*ret = (struct qdisc_list){ .ifindex = ifindex };
	request = netlink_message_init(&message, RTM_GETQDISC, 0, sizeof(*request));
	request->tcm_ifindex = ifindex;
	return netlink_dump(netlink, &message, qdisc_each, list_begin, ret, err);
}

static int qdisc_set(struct netlink *netlink, int ifindex, uint32_t parent, uint32_t handle,
		     const char *kind, struct errmsg *err)
{
	struct netlink_message message;
	struct tcmsg *request = netlink_message_init(
		&message, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, sizeof(*request));
	int ret;

	request->tcm_ifindex = ifindex;
	request->tcm_parent = parent;
	request->tcm_handle = handle;
	mnl_attr_put_strz(&message.header, TCA_KIND, kind);
	ret = netlink_request(netlink, &message, err);
	if (ret == -ENOENT)
		return fail_plain(err, ret, "this kernel has no %s: its module is missing", kind);
	return ret;
}

/* Each queue has its own, so that CPUs do not wait for each other. */
static int queues_ensure_fq(struct netlink *netlink, const struct qdisc_list *list,
			    struct errmsg *err)
{
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < list->count; i++) {
		const struct qdisc *queue = &list->children[i];

		if (TC_H_MAJ(queue->parent) != list->root.handle || strcmp(queue->kind, "fq") == 0)
			continue;
		if (queue->handle)
			return fail_plain(err, -EBUSY, "somebody has given a queue of it %s",
					  queue->kind);
		ret = qdisc_set(netlink, list->ifindex, queue->parent, 0, "fq", err);
	}
	return ret;
}

int qdisc_ensure_fq(struct netlink *netlink, int ifindex, struct errmsg *err)
{
	struct qdisc_list list;
	int ret = qdiscs_read(netlink, ifindex, &list, err);
	bool queues = strcmp(list.root.kind, "mq") == 0;

	if (ret || strcmp(list.root.kind, "fq") == 0)
		return ret;
	if (list.root.handle && !queues)
		return fail_plain(err, -EBUSY, "somebody has given it %s", list.root.kind);
	if (!list.root.handle) {
		ret = qdisc_set(netlink, ifindex, TC_H_ROOT, OWN_HANDLE, queues ? "mq" : "fq", err);
		if (ret || !queues)
			return ret;
		ret = qdiscs_read(netlink, ifindex, &list, err);
	}
	return ret ? ret : queues_ensure_fq(netlink, &list, err);
}

/* ---- taking it away -------------------------------------------------------------------------- */

struct own_list {
	int ifindexes[QUEUES_MAX];
	size_t count;
};

static void own_begin(void *arg)
{
	((struct own_list *)arg)->count = 0;
}

static int own_each(const struct nlmsghdr *header, void *arg)
{
	const struct tcmsg *info = mnl_nlmsg_get_payload(header);
	struct own_list *list = arg;

	if (info->tcm_handle == OWN_HANDLE && info->tcm_parent == TC_H_ROOT &&
	    list->count < QUEUES_MAX)
		list->ifindexes[list->count++] = info->tcm_ifindex;
	return 0;
}

int qdiscs_cleanup(struct errmsg *err)
{
	auto_netlink struct netlink netlink = NETLINK_INIT;
	struct netlink_message message;
	struct own_list list = {};
	int ret = netlink_open(&netlink, -1, err);

	netlink_message_init(&message, RTM_GETQDISC, 0, sizeof(struct tcmsg));
	if (!ret)
		ret = netlink_dump(&netlink, &message, own_each, own_begin, &list, err);
	for (size_t i = 0; ret == 0 && i < list.count; i++) {
		struct tcmsg *request =
			netlink_message_init(&message, RTM_DELQDISC, 0, sizeof(*request));

		request->tcm_ifindex = list.ifindexes[i];
		request->tcm_parent = TC_H_ROOT;
		request->tcm_handle = OWN_HANDLE;
		ret = netlink_request(&netlink, &message, err);
		if (ret == -ENODEV || ret == -ENOENT) /* gone meanwhile */
			ret = 0;
	}
	return ret < 0 ? wrap(err, "remove fq") : 0;
}
