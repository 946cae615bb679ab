/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Netlink shows what others do to endpoints, HOST_DEVICE and the node's addresses; inotify shows
 * what the plugin left in the spool.  Notifications only mark what is in doubt; the repair comes
 * once, when all of them have been read, and looks at the kernel itself.
 */
#include "agent/endpoint/endpoint_internal.h"

#include <errno.h>
#include <linux/net_namespace.h>
#include <linux/netconf.h>
#include <linux/pkt_sched.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>

#define LOG_MODULE "endpoint"
#include "lib/alloc.h"
#include "lib/log.h"
#include "lib/netlink_watch.h"

#define WATCH_RECEIVE_BYTES (4 * 1024 * 1024)
#define LOST_SECONDS        5 /* between two looks at everything, because notifications were lost */
#define SETTLE_BUDGET       8 /* endpoints in one turn of the loop: about 5 ms */
#define RETRY_SECONDS       11 /* a little more than the period of repairs */

struct endpoint_watch {
	struct endpoints *endpoints;
	struct netlink_watch *netlink;
	struct event *lost_event;   /* notifications that are lost meanwhile wait for it */
	struct event *settle_event; /* what is in doubt is looked at */
	int inotify_fd;
	struct event *inotify_event;
	bool host_dirty;
	bool addresses_dirty;
	size_t slot_next; /* where the round continues */
	bool lost;        /* notifications were lost since everything was looked at */
	bool again;       /* notifications came during the round */
	bool retry;       /* something must be looked at again later */
};

static void settle_after(struct endpoint_watch *watch, time_t seconds)
{
	struct timeval delay = { .tv_sec = seconds };

	evtimer_add(watch->settle_event, &delay);
}

/* ---- what notifications put in doubt -----------------------------------------------------------
 */

/* NULL also for one that is being deleted: its changes are intended, and a query would wait for
 * rtnl, which the link worker holds. */
static struct endpoint *endpoint_by_ifindex(const struct endpoints *endpoints, int ifindex)
{
	int slot = ifindex - ENDPOINT_IFINDEX_BASE;
	struct endpoint *endpoint =
		slot > 0 && (size_t)slot < endpoints->slot_count ? endpoints->slots[slot] : NULL;

	for (size_t i = 1; !endpoint && ifindex > 0 && i < endpoints->slot_count; i++) {
		if (endpoints->slots[i] && endpoints->slots[i]->chained &&
		    endpoints->slots[i]->host_ifindex == ifindex)
			endpoint = endpoints->slots[i];
	}
	return endpoint && endpoint->state != ENDPOINT_DELETING ? endpoint : NULL;
}

static bool is_endpoint_ifindex(const struct endpoints *endpoints, int ifindex)
{
	return ifindex > ENDPOINT_IFINDEX_BASE &&
	       (size_t)(ifindex - ENDPOINT_IFINDEX_BASE) < endpoints->slot_count;
}

static bool is_host_link_suspicious(const struct endpoint *endpoint, const struct host_link *link)
{
	if (endpoint->chained)
		return link->master != endpoint->bridge_ifindex ||
		       strcmp(link->name, endpoint->host_ifname) != 0;
	return !(link->flags & IFF_UP) || strcmp(link->name, endpoint->host_ifname) != 0 ||
	       memcmp(link->mac, endpoint->host_mac, 6) != 0 || link->carrier != endpoint->carrier;
}

static void on_own_link(struct endpoint_watch *watch, const struct nlmsghdr *notice)
{
	struct endpoint *endpoint;
	struct host_link link;

	host_link_parse(notice, &link);
	endpoint = endpoint_by_ifindex(watch->endpoints, link.ifindex);
	if (!endpoint)
		return;
	if (notice->nlmsg_type == RTM_DELLINK)
		endpoint->dirty |= DIRT_ALL;
	else if (is_host_link_suspicious(endpoint, &link))
		endpoint->dirty |= DIRT_LINK; /* most are our own changes, and done */
}

static void on_own_tc(struct endpoint_watch *watch, const struct nlmsghdr *notice)
{
	const struct tcmsg *tc = mnl_nlmsg_get_payload(notice);
	struct endpoint *endpoint = endpoint_by_ifindex(watch->endpoints, tc->tcm_ifindex);

	if (endpoint)
		endpoint->dirty |= DIRT_ALL;
	if (tc->tcm_ifindex == host_device_ifindex(watch->endpoints->host))
		watch->host_dirty = true;
}

static void on_own_address(struct endpoint_watch *watch, const struct nlmsghdr *notice)
{
	const struct ifaddrmsg *address = mnl_nlmsg_get_payload(notice);
	struct endpoint *endpoint = endpoint_by_ifindex(watch->endpoints, (int)address->ifa_index);

	if (endpoint && notice->nlmsg_type == RTM_DELADDR)
		endpoint->dirty |= DIRT_ALL;
	if (!is_endpoint_ifindex(watch->endpoints, (int)address->ifa_index))
		watch->addresses_dirty = true;
}

/* The reverse path filter of a host end, see veth_configure(). */
static void on_own_netconf(struct endpoint_watch *watch, const struct nlmsghdr *notice)
{
	struct endpoint *endpoint = NULL;
	const struct nlattr *attr;
	bool strict = false;

	mnl_attr_for_each (attr, notice, sizeof(struct netconfmsg)) {
		if (mnl_attr_get_type(attr) == NETCONFA_IFINDEX)
			endpoint =
				endpoint_by_ifindex(watch->endpoints, (int)mnl_attr_get_u32(attr));
		else if (mnl_attr_get_type(attr) == NETCONFA_RP_FILTER)
			strict = mnl_attr_get_u32(attr) != LOOSE_RPF;
	}
	if (endpoint && !endpoint->chained && strict)
		endpoint->dirty |= DIRT_ALL;
}

/* The number of a namespace is taken back: that is how one ends that nothing else leads to. */
static void on_netns_end(struct endpoint_watch *watch, const struct nlmsghdr *notice)
{
	struct endpoints *endpoints = watch->endpoints;
	const struct nlattr *attr;
	uint32_t netns_id = NETNS_ID_UNKNOWN;

	mnl_attr_for_each (attr, notice, sizeof(struct rtgenmsg)) {
		if (mnl_attr_get_type(attr) == NETNSA_NSID)
			netns_id = mnl_attr_get_u32(attr);
	}
	for (size_t slot = 1; slot < endpoints->slot_count; slot++) {
		struct endpoint *endpoint = endpoints->slots[slot];

		if (endpoint && endpoint->netns_id == netns_id)
			endpoint->dirty |= DIRT_ALL;
	}
}

static void on_own_notice(struct endpoint_watch *watch, const struct nlmsghdr *notice)
{
	watch->host_dirty |= host_device_is_hurt_by(watch->endpoints->host, notice);
	switch (notice->nlmsg_type) {
	case RTM_NEWLINK:
	case RTM_DELLINK:
		on_own_link(watch, notice);
		break;
	case RTM_NEWADDR:
	case RTM_DELADDR:
		on_own_address(watch, notice);
		break;
	case RTM_DELQDISC:
	case RTM_DELTFILTER:
		on_own_tc(watch, notice);
		break;
	case RTM_NEWNETCONF:
		on_own_netconf(watch, notice);
		break;
	case RTM_DELNSID:
		on_netns_end(watch, notice);
		break;
	default:
		break;
	}
}

/* A notification from inside a pod, which has the number netns_id in our namespace. */
static void on_pod_notice(struct endpoint_watch *watch, const struct nlmsghdr *notice, int netns_id)
{
	struct endpoints *endpoints = watch->endpoints;

	for (size_t slot = 1; slot < endpoints->slot_count; slot++) {
		struct endpoint *endpoint = endpoints->slots[slot];
		const struct ifaddrmsg *address = mnl_nlmsg_get_payload(notice);
		struct host_link link;

		if (!endpoint || endpoint->netns_id != (uint32_t)netns_id ||
		    endpoint->state == ENDPOINT_DELETING)
			continue;
		switch (notice->nlmsg_type) {
		case RTM_NEWLINK:
			host_link_parse(notice, &link);
			if (link.ifindex == endpoint->pod_ifindex &&
			    (memcmp(link.mac, endpoint->mac, 6) != 0 || link.mtu < MTU_MIN_IPV6 ||
			     endpoint->state == ENDPOINT_BROKEN))
				endpoint->dirty |= DIRT_ALL;
			break;
		case RTM_DELADDR:
			if ((int)address->ifa_index == endpoint->pod_ifindex)
				endpoint->dirty |= DIRT_ALL;
			break;
		case RTM_DELROUTE:
			endpoint->dirty |= DIRT_ALL;
			break;
		default:
			break;
		}
	}
}

/* ---- settling ----------------------------------------------------------------------------------
 */

static bool is_link_well(struct endpoints *endpoints, const struct endpoint *endpoint)
{
	struct host_link link = {};

	return host_link_get(&endpoints->netlink, endpoint_ifindex(endpoint), &link, NULL) == 0 &&
	       !is_host_link_suspicious(endpoint, &link);
}

static void node_settle(struct endpoint_watch *watch)
{
	struct errmsg err = {};

	if (watch->host_dirty) {
		watch->host_dirty = false;
		if (host_repair(watch->endpoints, &err) < 0) {
			log_error("%s", err.text);
			watch->host_dirty = watch->retry = true;
		}
	}
	if (watch->addresses_dirty) {
		watch->addresses_dirty = false;
		if (host_addresses_refresh(watch->endpoints, &err) < 0) {
			log_error("addresses of the node: %s", err.text);
			watch->addresses_dirty = watch->retry = true;
		}
	}
}

/* Goes once over all endpoints, a few in each turn of the loop; true when it is done. */
static bool endpoints_settle(struct endpoint_watch *watch)
{
	struct endpoints *endpoints = watch->endpoints;
	int budget = SETTLE_BUDGET;

	for (; watch->slot_next < endpoints->slot_count; watch->slot_next++) {
		struct endpoint *endpoint = endpoints->slots[watch->slot_next];

		if (!endpoint || endpoint->dirty == 0 || endpoint->state == ENDPOINT_DELETING)
			continue;
		if (budget-- == 0)
			return false;
		if (endpoint->dirty == DIRT_LINK && is_link_well(endpoints, endpoint))
			endpoint->dirty = 0;
		else
			watch->retry |= endpoint_reconcile(endpoints, endpoint);
	}
	watch->slot_next = 0;
	return true;
}

static void on_settle(evutil_socket_t fd, short what, void *arg)
{
	struct endpoint_watch *watch = arg;

	(void)fd;
	(void)what;
	node_settle(watch);
	if (!endpoints_settle(watch)) {
		settle_after(watch, 0);
	} else if (watch->again) {
		watch->again = false;
		settle_after(watch, 0);
	} else if (watch->retry) {
		watch->retry = false;
		settle_after(watch, RETRY_SECONDS);
	}
}

void endpoints_repair_node(struct endpoints *endpoints)
{
	endpoints->watch->host_dirty = true;
	endpoint_watch_settle(endpoints->watch);
}

void endpoint_watch_settle(struct endpoint_watch *watch)
{
	watch->again = watch->slot_next > 0; /* a round is running: start another after it */
	settle_after(watch, 0);
}

/* ---- netlink -----------------------------------------------------------------------------------
 */

/* Notifications were lost: everything is in doubt. */
static void all_in_doubt(struct endpoint_watch *watch)
{
	struct endpoints *endpoints = watch->endpoints;

	log_warn("netlink notifications were lost; checking everything");
	watch->host_dirty = watch->addresses_dirty = true;
	for (size_t slot = 1; slot < endpoints->slot_count; slot++) {
		if (endpoints->slots[slot])
			endpoints->slots[slot]->dirty |= DIRT_ALL;
	}
}

static void notices_lost(struct endpoint_watch *watch)
{
	const struct timeval delay = { .tv_sec = LOST_SECONDS };

	watch->lost = evtimer_pending(watch->lost_event, NULL);
	if (watch->lost)
		return;
	all_in_doubt(watch);
	evtimer_add(watch->lost_event, &delay);
}

static void on_lost(evutil_socket_t fd, short what, void *arg)
{
	struct endpoint_watch *watch = arg;

	(void)fd;
	(void)what;
	if (!watch->lost)
		return;
	notices_lost(watch);
	endpoint_watch_settle(watch);
}

static void on_notice(const struct nlmsghdr *notice, int netns_id, void *arg)
{
	struct endpoint_watch *watch = arg;

	if (netns_id < 0)
		on_own_notice(watch, notice);
	else
		on_pod_notice(watch, notice, netns_id);
}

static void on_turn(bool lost, void *arg)
{
	struct endpoint_watch *watch = arg;

	if (lost)
		notices_lost(watch);
	endpoint_watch_settle(watch);
}

/*
 * Routing daemons may change thousands of routes in a second.  The socket's filter passes only
 * deletions of routes with our protocol number, and routes that replace another, because those do
 * not say whose route they replace.  Numbers in netlink headers are in host order while the filter
 * reads network order, hence the htons().
 */
static int netlink_open_watch(struct endpoint_watch *watch, struct errmsg *err)
{
	static const unsigned int groups[] = { RTNLGRP_LINK,        RTNLGRP_TC,
					       RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR,
					       RTNLGRP_IPV4_ROUTE,  RTNLGRP_IPV6_ROUTE,
					       RTNLGRP_NSID,        RTNLGRP_IPV4_NETCONF };
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, offsetof(struct nlmsghdr, nlmsg_type)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(RTM_NEWROUTE), 3, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(RTM_DELROUTE), 0, 4),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS,
			 NLMSG_HDRLEN + offsetof(struct rtmsg, rtm_protocol)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, HOST_ROUTE_PROTOCOL, 2, 3),
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, offsetof(struct nlmsghdr, nlmsg_flags)),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, htons(NLM_F_REPLACE), 0, 1),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	const struct sock_fprog filter = { .len = ARRAY_SIZE(code), .filter = code };
	const struct netlink_watch_options options = { .base = watch->endpoints->base,
						       .groups = groups,
						       .group_count = ARRAY_SIZE(groups),
						       .filter = &filter,
						       .notice = on_notice,
						       .turn = on_turn,
						       .arg = watch };
	int ret = netlink_watch_new(&options, &watch->netlink, err);
	int bytes = WATCH_RECEIVE_BYTES;
	int on = 1;
	int fd;

	if (ret < 0)
		return ret;
	fd = netlink_watch_fd(watch->netlink);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
	/* Without it (no CAP_NET_BROADCAST) only CHECK finds changes inside pods. */
	if (setsockopt(fd, SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, &on, sizeof(on)) < 0)
		log_warn("changes inside pods are not noticed: %s", strerror(errno));
	return 0;
}

/* ---- spool -------------------------------------------------------------------------------------
 */

static void on_spool(evutil_socket_t fd, short what, void *arg)
{
	struct endpoint_watch *watch = arg;
	char events[4096];

	(void)what;
	/* Their content does not matter: the folder is read. */
	while (read(fd, events, sizeof(events)) > 0)
		;
	spool_consume(watch->endpoints);
}

static int spool_watch(struct endpoint_watch *watch, struct errmsg *err)
{
	const char *dir = watch->endpoints->spool_dir;

	watch->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (watch->inotify_fd < 0 ||
	    inotify_add_watch(watch->inotify_fd, dir, IN_MOVED_TO | IN_ONLYDIR) < 0)
		return fail(err, -errno, "watch %s", dir);
	watch->inotify_event = event_new(watch->endpoints->base, watch->inotify_fd,
					 EV_READ | EV_PERSIST, on_spool, watch);
	if (event_add(watch->inotify_event, NULL) < 0)
		return fail(err, -EIO, "watch %s", dir);
	return 0;
}

/* ---- life --------------------------------------------------------------------------------------
 */

int endpoint_watch_new(struct endpoints *endpoints, struct endpoint_watch **ret_watch,
		       struct errmsg *err)
{
	struct endpoint_watch *watch = xcalloc(1, sizeof(*watch));
	int ret;

	watch->endpoints = endpoints;
	watch->inotify_fd = -1;
	watch->settle_event = evtimer_new(endpoints->base, on_settle, watch);
	watch->lost_event = evtimer_new(endpoints->base, on_lost, watch);
	ret = netlink_open_watch(watch, err);
	if (ret == 0)
		ret = spool_watch(watch, err);
	if (ret < 0) {
		endpoint_watch_free(watch);
		return ret;
	}
	*ret_watch = watch;
	return 0;
}

void endpoint_watch_free(struct endpoint_watch *watch)
{
	if (!watch)
		return;
	if (watch->inotify_event)
		event_free(watch->inotify_event);
	if (watch->settle_event)
		event_free(watch->settle_event);
	if (watch->lost_event)
		event_free(watch->lost_event);
	netlink_watch_free(watch->netlink);
	if (watch->inotify_fd >= 0)
		close(watch->inotify_fd);
	free(watch);
}
