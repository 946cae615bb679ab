/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which devices are uplinks.  Notifications only say that something has changed; then the kernel's
 * devices and addresses are read anew.
 */
#define LOG_MODULE "uplink"
#include "agent/uplink/uplink.h"

#include <errno.h>
#include <linux/if_arp.h>
#include <stdlib.h>
#include <string.h>

#include "agent/uplink/qdisc.h"
#include "agent/uplink/uplink_internal.h"
#include "datapath/maps.h"
#include "lib/auto.h"
#include "lib/log.h"
#include "lib/netlink_watch.h"

#define RETRY_SECONDS 5
#define XDP_SECONDS   10 /* nothing tells that another program of XDP has gone */
#define SETTLE_MS     20 /* notifications come in groups */

struct uplink {
	int ifindex;
	char name[IFNAMSIZ];
	struct uplink_entry addresses; /* the node's own there */
	bool wanted;
	bool veth;
	enum xdp_mode xdp;
	char xdp_problem[100]; /* why it is off */
	bool xdp_refused;      /* by the device: it may take it later */
};

struct uplink_list {
	struct uplink items[UPLINKS_MAX];
	size_t count;
};

struct uplinks {
	struct uplinks_options options;
	struct netlink netlink; /* requests */
	struct netlink_watch *watch;
	struct event *refresh_event;
	bool changed;          /* a notification of this turn is about uplinks */
	int default_routes[2]; /* their devices; 0: there is none */
	char problem[160];
	bool paces; /* what pods send is limited: packets depart at their time */
	struct errmsg unpaced;
	struct uplink_list attached;
};

/* ---- devices --------------------------------------------------------------------------------- */

static struct uplink *uplink_find(struct uplink_list *list, int ifindex)
{
	for (size_t i = 0; i < list->count; i++) {
		if (list->items[i].ifindex == ifindex)
			return &list->items[i];
	}
	return NULL;
}

static bool is_endpoint_ifindex(int ifindex)
{
	return ifindex >= ENDPOINT_IFINDEX_BASE && ifindex <= ENDPOINT_IFINDEX_BASE + UINT16_MAX;
}

static struct uplink *uplink_add(struct uplink_list *list, int ifindex)
{
	struct uplink *uplink = uplink_find(list, ifindex);

	if (uplink || list->count == UPLINKS_MAX)
		return uplink;
	uplink = &list->items[list->count++];
	*uplink = (struct uplink){ .ifindex = ifindex };
	return uplink;
}

/* What a packet that leaves there comes from: the address that the node itself would use towards
 * the outside, if it is on this device, or else the first one. */
static void address_choose(const struct uplinks *uplinks, const struct nlmsghdr *header,
			   struct uplink *uplink)
{
	const uint8_t unfit =
		IFA_F_SECONDARY | IFA_F_TENTATIVE | IFA_F_DEPRECATED | IFA_F_DADFAILED;
	const struct ifaddrmsg *info = mnl_nlmsg_get_payload(header);
	const struct node_state *node = maps_node(uplinks->options.datapath);
	struct addr address = {}, *chosen;
	const struct nlattr *attr;
	bool local = false;

	mnl_attr_for_each (attr, header, sizeof(*info)) {
		uint16_t type = mnl_attr_get_type(attr);

		/* Of IPv4 IFA_LOCAL is the address; IPv6 has only the other where there is no peer.
		 */
		if (type != IFA_LOCAL && (type != IFA_ADDRESS || local))
			continue;
		local = type == IFA_LOCAL;
		addr_from_bytes(mnl_attr_get_payload(attr), mnl_attr_get_payload_len(attr),
				&address);
	}
	chosen = addr_is_v4(&address) ? &uplink->addresses.v4 : &uplink->addresses.v6;
	if (addr_equal(&address, &node->snat_v4) || addr_equal(&address, &node->snat_v6) ||
	    (addr_is_zero(chosen) && !(info->ifa_flags & unfit)))
		*chosen = address;
}

struct device_list {
	const struct uplinks *uplinks;
	struct uplink_list *devices;
};

static void list_begin(void *arg)
{
	*((struct device_list *)arg)->devices = (struct uplink_list){};
}

/* Devices with an address that others can reach. */
static int address_each(const struct nlmsghdr *header, void *arg)
{
	const struct ifaddrmsg *info = mnl_nlmsg_get_payload(header);
	const struct device_list *list = arg;
	struct uplink *uplink;

	if (info->ifa_scope >= RT_SCOPE_LINK || is_endpoint_ifindex((int)info->ifa_index))
		return 0;
	uplink = uplink_add(list->devices, (int)info->ifa_index);
	if (uplink)
		address_choose(list->uplinks, header, uplink);
	else
		log_warn("more than %d devices have addresses; services are not served on device "
			 "%u",
			 UPLINKS_MAX, info->ifa_index);
	return 0;
}

static bool is_named(const struct uplinks_options *options, const char *name)
{
	for (size_t i = 0; i < options->name_count; i++) {
		if (strcmp(options->names[i], name) == 0)
			return true;
	}
	return false;
}

static bool info_is_veth(const struct nlattr *info)
{
	const struct nlattr *attr;

	mnl_attr_for_each_nested (attr, info) {
		if (mnl_attr_get_type(attr) == IFLA_INFO_KIND)
			return !strcmp(mnl_attr_get_str(attr), "veth");
	}
	return false;
}

/* Only a device of Ethernet has the header that the programs expect. */
static int link_each(const struct nlmsghdr *header, void *arg)
{
	const struct ifinfomsg *info = mnl_nlmsg_get_payload(header);
	const struct device_list *list = arg;
	const struct uplinks_options *options = &list->uplinks->options;
	const struct nlattr *attr;
	struct uplink *uplink;
	const char *name = "";
	bool named, veth = false;

	if (is_endpoint_ifindex(info->ifi_index))
		return 0;
	mnl_attr_for_each (attr, header, sizeof(*info)) {
		if (mnl_attr_get_type(attr) == IFLA_IFNAME)
			name = mnl_attr_get_str(attr);
		if (mnl_attr_get_type(attr) == IFLA_LINKINFO)
			veth = info_is_veth(attr);
	}
	named = is_named(options, name);
	uplink = named ? uplink_add(list->devices, info->ifi_index)
		       : uplink_find(list->devices, info->ifi_index);
	if (!uplink)
		return 0;
	snprintf(uplink->name, sizeof(uplink->name), "%s", name);
	uplink->veth = veth;
	uplink->wanted = info->ifi_type == ARPHRD_ETHER && strcmp(name, HOST_DEVICE) != 0 &&
			 (named || !options->name_count);
	if (named && !uplink->wanted)
		log_warn("%s is no Ethernet device: services are not served on it", name);
	return 0;
}

static int devices_read(struct uplinks *uplinks, struct uplink_list *ret, struct errmsg *err)
{
	struct device_list list = { uplinks, ret };
	struct netlink_message message;
	int code;

	netlink_message_init(&message, RTM_GETADDR, 0, sizeof(struct ifaddrmsg));
	code = netlink_dump(&uplinks->netlink, &message, address_each, list_begin, &list, err);
	if (code)
		return code;
	netlink_message_init(&message, RTM_GETLINK, 0, sizeof(struct ifinfomsg));
	return netlink_dump(&uplinks->netlink, &message, link_each, NULL, &list, err);
}

/* ---- attaching ------------------------------------------------------------------------------- */

static bool is_needed(const struct uplinks *uplinks)
{
	return uplinks->options.masquerade || uplinks->options.tunnel || uplinks->options.bypass ||
	       maps_node(uplinks->options.datapath)->flags & NODE_OUTSIDE;
}

static int uplink_attach(struct uplinks *uplinks, const struct uplink *uplink, struct errmsg *err)
{
	struct datapath *datapath = uplinks->options.datapath;
	bool known = uplink_find(&uplinks->attached, uplink->ifindex);
	int ret = datapath_load_uplinks(datapath, uplinks->options.load, err);

	if (ret || (known && datapath_uplink_attached(datapath, uplink->ifindex)))
		return ret;
	ret = datapath_attach_uplink(datapath, uplink->ifindex, err);
	if (ret)
		return wrap(err, "%s", uplink->name);
	log_info("services are served on %s", uplink->name);
	return 0;
}

/* Puts the quick way in front of from_uplink, which does the same without it. */
static void xdp_attach(struct uplinks *uplinks, struct uplink *uplink)
{
	static const enum xdp_mode modes[] = { XDP_OFF, XDP_NATIVE, XDP_NATIVE, XDP_GENERIC };
	const struct uplink *before = uplink_find(&uplinks->attached, uplink->ifindex);
	struct datapath *datapath = uplinks->options.datapath;
	enum xdp_mode mode = modes[uplinks->options.xdp];
	struct errmsg err = {};

	if (before && !before->xdp_refused &&
	    (before->xdp == XDP_OFF || datapath_xdp_attached(datapath, uplink->ifindex, mode))) {
		uplink->xdp = before->xdp;
		memcpy(uplink->xdp_problem, before->xdp_problem, sizeof(uplink->xdp_problem));
		return;
	}
	if (mode == XDP_NATIVE && uplink->veth)
		fail_plain(&err, -EOPNOTSUPP, "a veth loses what XDP sends back by it");
	else if (mode != XDP_OFF &&
		 !datapath_load_xdp(datapath, uplinks->options.load, mode, &err)) {
		int ret = datapath_attach_xdp(datapath, uplink->ifindex, mode, &err);

		uplink->xdp = ret ? XDP_OFF : mode;
		uplink->xdp_refused = ret && ret != -EOPNOTSUPP;
	}
	if (uplink->xdp != XDP_OFF)
		return;
	datapath_keep_xdp(datapath, uplink->ifindex, XDP_OFF);
	if (mode == XDP_OFF)
		return;
	snprintf(uplink->xdp_problem, sizeof(uplink->xdp_problem), "%.99s", err.text);
	if (before && strcmp(before->xdp_problem, uplink->xdp_problem) == 0)
		return; /* it was said */
	if (uplinks->options.xdp == UPLINKS_XDP_AUTO)
		log_info("%s works without XDP: %s", uplink->name, err.text);
	else
		log_warn("%s works without XDP: %s", uplink->name, err.text);
}

/* Attaches to these devices, and takes the programs off all others. */
static int devices_attach(struct uplinks *uplinks, const struct uplink_list *devices,
			  struct errmsg *err)
{
	struct uplink_list attached = {};
	int kept[UPLINKS_MAX];
	int ret = 0;

	for (size_t i = 0; i < devices->count; i++) {
		const struct uplink *device = &devices->items[i];
		int failed = -ENODEV;

		if (device->wanted)
			failed = uplink_map_set(uplinks->options.datapath, device->ifindex,
						&device->addresses);
		if (!failed)
			failed = uplink_attach(uplinks, device, err);
		if (!failed) {
			kept[attached.count] = device->ifindex;
			attached.items[attached.count] = *device;
			xdp_attach(uplinks, &attached.items[attached.count++]);
		} else if (device->wanted) {
			ret = failed; /* the others are attached all the same */
		}
	}
	for (size_t i = 0; i < uplinks->attached.count; i++) {
		const struct uplink *before = &uplinks->attached.items[i];

		if (!uplink_find(&attached, before->ifindex))
			log_info("services are no longer served on %s", before->name);
	}
	datapath_keep_uplinks(uplinks->options.datapath, kept, attached.count);
	uplink_map_keep(uplinks->options.datapath, kept, attached.count);
	uplinks->attached = attached;
	return ret;
}

/* Finds out why pods do not reach the outside: uplinks->problem, empty if they do. */
static void problem_find(struct uplinks *uplinks)
{
	char name[IF_NAMESIZE];

	uplinks->problem[0] = 0;
	if (!is_needed(uplinks))
		return;
	if (!maps_node(uplinks->options.datapath)->snat_port_max)
		snprintf(uplinks->problem, sizeof(uplinks->problem),
			 "ip_local_port_range leaves no port from 16384 on: sources cannot be "
			 "translated");
	for (size_t i = 0; i < ARRAY_SIZE(uplinks->default_routes); i++) {
		int ifindex = uplinks->default_routes[i];

		if (!uplinks->options.masquerade || !ifindex || uplinks->problem[0] ||
		    uplink_find(&uplinks->attached, ifindex) ||
		    !if_indextoname((unsigned int)ifindex, name))
			continue;
		snprintf(
			uplinks->problem, sizeof(uplinks->problem),
			"the default route leads to %s, which is no uplink: pods leave there under "
			"their own addresses",
			name);
	}
	/* Last: nothing is cut off for want of XDP. */
	for (size_t i = 0; i < uplinks->attached.count && !uplinks->problem[0]; i++) {
		const struct uplink *uplink = &uplinks->attached.items[i];

		if (uplinks->options.xdp != UPLINKS_XDP_AUTO && *uplink->xdp_problem)
			snprintf(uplinks->problem, sizeof(uplinks->problem),
				 "%s works without XDP: %s", uplink->name, uplink->xdp_problem);
	}
}

/* Where one device cannot hold packets back, the programs drop what comes too early. */
static void devices_pace(struct uplinks *uplinks, const struct uplink_list *devices)
{
	struct node_state *node = maps_node(uplinks->options.datapath);
	struct errmsg *why = &uplinks->unpaced;
	int ret = 0;

	why->text[0] = 0;
	for (size_t i = 0; i < devices->count && !ret; i++) {
		const struct uplink *device = &devices->items[i];

		if (device->wanted)
			ret = qdisc_ensure_fq(&uplinks->netlink, device->ifindex, why);
		if (ret)
			wrap(why, "limits of what pods send are kept by dropping: no fq on %s",
			     device->name);
	}
	if (ret)
		node->flags &= ~(uint32_t)NODE_PACED;
	else
		node->flags |= NODE_PACED;
}

static int refresh(struct uplinks *uplinks, struct errmsg *err)
{
	struct uplink_list devices = {}, none = {};
	int ret = 0;

	if (is_needed(uplinks))
		snat_refresh(&uplinks->netlink, maps_node(uplinks->options.datapath),
			     uplinks->default_routes);
	if (is_needed(uplinks) || uplinks->paces)
		ret = devices_read(uplinks, &devices, err);
	if (!ret && uplinks->paces)
		devices_pace(uplinks, &devices);
	if (!ret)
		ret = devices_attach(uplinks, is_needed(uplinks) ? &devices : &none, err);
	problem_find(uplinks);
	return ret;
}

static bool xdp_is_refused(const struct uplink_list *list)
{
	for (size_t i = 0; i < list->count; i++) {
		if (list->items[i].xdp_refused)
			return true;
	}
	return false;
}

static void on_refresh(evutil_socket_t fd, short what, void *arg)
{
	const struct timeval delay = { .tv_sec = RETRY_SECONDS };
	const struct timeval xdp_delay = { .tv_sec = XDP_SECONDS };
	struct uplinks *uplinks = arg;
	struct errmsg err = {};

	(void)fd;
	(void)what;
	if (refresh(uplinks, &err) == 0) {
		if (xdp_is_refused(&uplinks->attached))
			evtimer_add(uplinks->refresh_event, &xdp_delay);
		return;
	}
	log_error("uplinks: %s", err.text);
	evtimer_add(uplinks->refresh_event, &delay);
}

void uplinks_refresh(struct uplinks *uplinks)
{
	on_refresh(-1, 0, uplinks);
}

void uplinks_pace(struct uplinks *uplinks)
{
	const struct timeval at_once = {};

	uplinks->paces = true;
	evtimer_add(uplinks->refresh_event, &at_once);
}

/* ---- notifications --------------------------------------------------------------------------- */

/* Whether it is about a device that could be an uplink, its address, its queues if they are to hold
 * packets back, or a default route. */
static bool is_about_uplinks(const struct nlmsghdr *notice, bool paces)
{
	const struct ifinfomsg *link = mnl_nlmsg_get_payload(notice);
	const struct ifaddrmsg *address = mnl_nlmsg_get_payload(notice);
	const struct rtmsg *route = mnl_nlmsg_get_payload(notice);
	const struct tcmsg *qdisc = mnl_nlmsg_get_payload(notice);

	switch (notice->nlmsg_type) {
	case RTM_NEWLINK:
	case RTM_DELLINK:
		return !is_endpoint_ifindex(link->ifi_index);
	case RTM_NEWADDR:
	case RTM_DELADDR:
		return !is_endpoint_ifindex((int)address->ifa_index);
	case RTM_NEWROUTE:
	case RTM_DELROUTE:
		return route->rtm_dst_len == 0;
	case RTM_NEWQDISC:
	case RTM_DELQDISC:
		return paces && !is_endpoint_ifindex(qdisc->tcm_ifindex);
	default:
		return false;
	}
}

static void on_notice(const struct nlmsghdr *notice, int netns_id, void *arg)
{
	struct uplinks *uplinks = arg;

	(void)netns_id;
	uplinks->changed = uplinks->changed || is_about_uplinks(notice, uplinks->paces);
}

static void on_turn(bool lost, void *arg)
{
	const struct timeval delay = { .tv_usec = SETTLE_MS * 1000 };
	struct uplinks *uplinks = arg;

	if ((uplinks->changed || lost) && !evtimer_pending(uplinks->refresh_event, NULL))
		evtimer_add(uplinks->refresh_event, &delay);
	uplinks->changed = false;
}

/* Routing daemons may change thousands of routes in a second: only default routes pass the socket's
 * filter. */
static int watch_open(struct uplinks *uplinks, struct errmsg *err)
{
	static const unsigned int groups[] = { RTNLGRP_LINK,        RTNLGRP_IPV4_IFADDR,
					       RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_ROUTE,
					       RTNLGRP_IPV6_ROUTE,  RTNLGRP_TC };
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, offsetof(struct nlmsghdr, nlmsg_type)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(RTM_NEWROUTE), 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(RTM_DELROUTE), 0, 2),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS,
			 NLMSG_HDRLEN + offsetof(struct rtmsg, rtm_dst_len)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	const struct sock_fprog filter = { .len = ARRAY_SIZE(code), .filter = code };
	const struct netlink_watch_options options = { .base = uplinks->options.base,
						       .groups = groups,
						       .group_count = ARRAY_SIZE(groups),
						       .filter = &filter,
						       .notice = on_notice,
						       .turn = on_turn,
						       .arg = uplinks };

	return netlink_watch_new(&options, &uplinks->watch, err);
}

/* ---- life ------------------------------------------------------------------------------------ */

int uplinks_new(const struct uplinks_options *options, struct uplinks **ret, struct errmsg *err)
{
	struct uplinks *uplinks = calloc(1, sizeof(*uplinks));
	int code;

	if (!uplinks)
		return fail(err, -ENOMEM, "uplinks");
	uplinks->options = *options;
	uplinks->netlink = (struct netlink)NETLINK_INIT;
	uplinks->refresh_event = evtimer_new(options->base, on_refresh, uplinks);
	code = uplinks->refresh_event ? netlink_open(&uplinks->netlink, -1, err)
				      : fail(err, -ENOMEM, "uplinks");
	if (!code)
		code = watch_open(uplinks, err);
	if (code) {
		uplinks_free(uplinks);
		return code;
	}
	uplinks_refresh(uplinks);
	*ret = uplinks;
	return 0;
}

void uplinks_free(struct uplinks *uplinks)
{
	if (!uplinks)
		return;
	if (uplinks->refresh_event)
		event_free(uplinks->refresh_event);
	netlink_close(&uplinks->netlink);
	netlink_watch_free(uplinks->watch);
	free(uplinks);
}

size_t uplinks_attached(const struct uplinks *uplinks, char ret_names[UPLINKS_MAX][IFNAMSIZ])
{
	for (size_t i = 0; i < uplinks->attached.count; i++)
		memcpy(ret_names[i], uplinks->attached.items[i].name, IFNAMSIZ);
	return uplinks->attached.count;
}

const char *uplinks_xdp(const struct uplinks *uplinks, size_t index, const char **ret_why)
{
	static const char *const names[] = {
		[XDP_OFF] = "off", [XDP_NATIVE] = "native", [XDP_GENERIC] = "generic"
	};

	*ret_why = uplinks->attached.items[index].xdp_problem;
	return names[uplinks->attached.items[index].xdp];
}

const char *uplinks_unpaced(const struct uplinks *uplinks)
{
	return uplinks->unpaced.text[0] ? uplinks->unpaced.text : NULL;
}

const char *uplinks_problem(const struct uplinks *uplinks)
{
	return uplinks->problem[0] ? uplinks->problem : NULL;
}
