/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nf_tables and IPsec tell of each change.  Nobody tells of the rest (iptables-legacy, IPVS,
 * sysctls), so it is looked at every few seconds.
 */
#define LOG_MODULE "uplink"
#include "agent/uplink/host_routing.h"

#include <arpa/inet.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/xfrm.h>
#include <string.h>

#include "agent/endpoint/host_stack.h"
#include "agent/uplink/uplink.h"
#include "datapath/maps.h"
#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/log.h"
#include "lib/netlink_watch.h"

#define LOOK_SECONDS 5
#define SETTLE_MS    20 /* changes come in groups */

struct host_routing {
	struct event_base *base;
	struct datapath *datapath;
	const struct uplinks *uplinks;
	enum host_routing_mode mode;
	struct netlink_watch *rules;    /* of nf_tables; NULL: the kernel has none */
	struct netlink_watch *policies; /* of IPsec */
	struct event *look;
	struct event *settle;
	char why[256];
};

bool host_routing_bypasses(const struct host_routing *routing, const char **ret_why)
{
	*ret_why = routing->why;
	return maps_node(routing->datapath)->flags & NODE_BYPASS;
}

static void bypass_set(struct host_routing *routing, bool bypass)
{
	struct node_state *node = maps_node(routing->datapath);

	if (bypass == !!(node->flags & NODE_BYPASS))
		return;
	if (bypass)
		node->flags |= NODE_BYPASS;
	else
		node->flags &= ~(uint32_t)NODE_BYPASS;
	log_info("packets between pods and uplinks %s the host's stack%s%s",
		 bypass ? "bypass" : "take", *routing->why ? ": " : "", routing->why);
}

static void on_notice(const struct nlmsghdr *notice, int netns_id, void *arg)
{
	(void)notice;
	(void)netns_id;
	(void)arg;
}

static void on_turn(bool lost, void *arg)
{
	const struct timeval delay = { .tv_usec = SETTLE_MS * 1000 };
	struct host_routing *routing = arg;

	(void)lost;
	if (!evtimer_pending(routing->settle, NULL))
		evtimer_add(routing->settle, &delay);
}

/* Where the kernel has not loaded the protocol yet, it is tried again later. */
static void watch_open(struct host_routing *routing, int protocol, unsigned int group,
		       const struct sock_fprog *filter, struct netlink_watch **ret)
{
	const struct netlink_watch_options options = { .base = routing->base,
						       .protocol = protocol,
						       .groups = &group,
						       .group_count = 1,
						       .filter = filter,
						       .notice = on_notice,
						       .turn = on_turn,
						       .arg = routing };
	struct errmsg err = {};

	if (*ret || netlink_watch_new(&options, ret, &err) == 0)
		return;
	netlink_watch_free(*ret);
	*ret = NULL;
}

/* Of nf_tables one message for each change passes the socket's filter. */
static void watches_open(struct host_routing *routing)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, offsetof(struct nlmsghdr, nlmsg_type)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
			 htons(NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWGEN), 0, 1),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	const struct sock_fprog filter = { .len = ARRAY_SIZE(code), .filter = code };

	watch_open(routing, NETLINK_NETFILTER, NFNLGRP_NFTABLES, &filter, &routing->rules);
	watch_open(routing, NETLINK_XFRM, XFRMNLGRP_POLICY, NULL, &routing->policies);
}

static void look(struct host_routing *routing)
{
	char names[UPLINKS_MAX][IFNAMSIZ];
	size_t count = uplinks_attached(routing->uplinks, names);
	bool needed;

	watches_open(routing);
	routing->why[0] = '\0';
	needed = host_stack_is_needed((const char(*)[IFNAMSIZ])names, count, routing->why,
				      sizeof(routing->why));
	bypass_set(routing, !needed);
}

static void on_look(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	look(arg);
}

static int auto_begin(struct host_routing *routing, struct errmsg *err)
{
	const struct timeval interval = { .tv_sec = LOOK_SECONDS };

	routing->look = event_new(routing->base, -1, EV_PERSIST, on_look, routing);
	routing->settle = evtimer_new(routing->base, on_look, routing);
	if (!routing->look || !routing->settle || event_add(routing->look, &interval) < 0)
		return fail(err, -ENOMEM, "host routing");
	look(routing);
	return 0;
}

int host_routing_new(struct event_base *base, struct datapath *datapath,
		     const struct uplinks *uplinks, enum host_routing_mode mode,
		     struct host_routing **ret, struct errmsg *err)
{
	struct host_routing *routing = *ret = xcalloc(1, sizeof(*routing));

	routing->base = base;
	routing->datapath = datapath;
	routing->uplinks = uplinks;
	routing->mode = mode;
	if (mode == HOST_ROUTING_AUTO)
		return auto_begin(routing, err);
	snprintf(routing->why, sizeof(routing->why), "as configured");
	bypass_set(routing, mode == HOST_ROUTING_BPF);
	return 0;
}

void host_routing_free(struct host_routing *routing)
{
	if (!routing)
		return;
	if (routing->look)
		event_free(routing->look);
	if (routing->settle)
		event_free(routing->settle);
	netlink_watch_free(routing->rules);
	netlink_watch_free(routing->policies);
	free(routing);
}
