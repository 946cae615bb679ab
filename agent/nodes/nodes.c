/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Routes are kept as a sorted list beside the kernel's, so a change of one Node costs one request.
 * Netlink tells when somebody takes one away, and when a link or an address comes that may make a
 * refused one possible; then the kernel's list is read again.
 */
#define LOG_MODULE "nodes"
#include "agent/nodes/nodes.h"

#include <errno.h>
#include <event2/event.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/nodes/cluster.h"
#include "agent/nodes/encryption.h"
#include "agent/nodes/nodes_internal.h"
#include "datapath/maps.h"
#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/log.h"
#include "lib/netlink_watch.h"

#define SETTLE_MS 100 /* notifications come in groups */

static bool has_routes(const struct nodes *nodes)
{
	return nodes->options.direct_routes || nodes->options.tunnel || nodes->options.encryption;
}

/* ---- what should be -------------------------------------------------------------------------- */

bool nodes_is_local(const struct nodes *nodes, const struct object *node)
{
	const struct addr *own;
	size_t count = store_host_addresses(nodes->options.store, &own);

	for (size_t i = 0; i < count; i++) {
		for (size_t k = 0; k < node->node.address_count; k++) {
			if (addr_equal(&own[i], &node->node.addresses[k]))
				return true;
		}
	}
	return false;
}

bool nodes_is_own_address(const struct nodes *nodes, const struct addr *address)
{
	const struct addr *own;
	size_t count = store_host_addresses(nodes->options.store, &own);

	for (size_t i = 0; i < count; i++) {
		if (addr_equal(&own[i], address))
			return true;
	}
	return false;
}

/* What the node itself says to pods elsewhere comes from the address that they know it by. */
static struct addr own_source(const struct nodes *nodes, bool ipv6)
{
	const struct store *store = nodes->options.store;

	for (const struct object *node = store_first(store, OBJECT_NODE); node;
	     node = store_next(store, node)) {
		const struct addr *own = ipv6 ? &node->node.internal_v6 : &node->node.internal_v4;

		if (!addr_is_zero(own) && nodes_is_own_address(nodes, own))
			return *own;
	}
	return (struct addr){};
}

bool nodes_is_own_range(const struct nodes *nodes, const struct prefix *range)
{
	for (size_t i = 0; i < nodes->options.pod_cidr_count; i++) {
		if (prefix_overlaps(&nodes->options.pod_cidrs[i], range))
			return true;
	}
	return false;
}

bool nodes_is_others(const struct nodes *nodes, const struct addr *address)
{
	const struct prefix whole = prefix_of(address, 128);

	return !addr_is_zero(address) && !nodes_is_own_range(nodes, &whole) &&
	       !nodes_is_own_address(nodes, address);
}

struct addr nodes_address(const struct nodes *nodes, const struct object *node,
			  const struct prefix *range)
{
	bool wraps = nodes->options.tunnel || nodes->options.encryption;
	bool ipv6 = wraps ? nodes->options.underlay_ipv6 : range && !addr_is_v4(&range->addr);

	return ipv6 ? node->node.internal_v6 : node->node.internal_v4;
}

static void route_wanted(const struct nodes *nodes, const struct object *node,
			 const struct prefix *range, struct routes *wanted)
{
	struct node_route *item = routes_add(wanted);
	char text[ADDR_TEXT_MAX];

	item->node = xstrdup(node->name);
	item->route = (struct route){ .dst = *range, .protocol = NODE_ROUTE_PROTOCOL };
	item->address = nodes_address(nodes, node, range);
	item->route.gateway =
		addr_is_v4(&range->addr) ? node->node.internal_v4 : node->node.internal_v6;
	if (nodes_is_own_range(nodes, range)) {
		route_fail(item, -EADDRINUSE, "%s overlaps this node's own range",
			   prefix_format(range, text));
	} else if (addr_is_zero(&item->address)) {
		route_fail(item, -EDESTADDRREQ, "%s: the node has no InternalIP for it",
			   prefix_format(range, text));
	}
}

/* Whether the node had the range before, maybe with an earlier agent. */
static bool is_held(const struct nodes *nodes, const struct node_route *item)
{
	return routes_have(&nodes->routes, item) ||
	       (nodes->cluster && cluster_has(nodes->cluster, &item->route.dst, &item->address));
}

static void routes_wanted(const struct nodes *nodes, struct routes *wanted)
{
	const struct store *store = nodes->options.store;

	for (const struct object *node = store_first(store, OBJECT_NODE); node;
	     node = store_next(store, node)) {
		if (nodes_is_local(nodes, node))
			continue;
		for (size_t i = 0; i < node->node.pod_cidr_count; i++)
			route_wanted(nodes, node, &node->node.pod_cidrs[i], wanted);
	}
	routes_sort(wanted);
	for (size_t i = 0; i < wanted->count; i++)
		wanted->items[i].held = is_held(nodes, &wanted->items[i]);
	routes_refuse_overlaps(wanted);
}

/* Through which device, once it is known who is a peer. */
static void route_lead(const struct nodes *nodes, const struct addr *sources,
		       struct node_route *item)
{
	const struct nodes_options *options = &nodes->options;
	bool sealed = options->encryption && (item->sealed || options->strict);

	if (sealed || options->overlay) { /* one next hop for a range: its first address */
		item->route.gateway = item->route.dst.addr;
		item->route.ifindex =
			sealed ? encryption_ifindex(options->encryption) : nodes->tunnel_ifindex;
		item->route.onlink = true;
		item->route.source = sources[!addr_is_v4(&item->route.dst.addr)];
	} else if (!options->direct_routes || addr_is_zero(&item->route.gateway)) {
		item->by_host = true;
	}
}

/* ---- the tunnel ------------------------------------------------------------------------------ */

static int tunnel_attach(struct nodes *nodes, struct errmsg *err)
{
	const struct nodes_options *options = &nodes->options;
	struct node_state *state = maps_node(options->datapath);
	int ifindex = (int)nodes->tunnel_ifindex;
	int ret = datapath_load_tunnel(options->datapath, options->load, err);

	if (!ret && state->tunnel_ifindex == nodes->tunnel_ifindex &&
	    state->tunnel_port == htons(options->tunnel->port) && nodes->tunnel_attached &&
	    datapath_tunnel_attached(options->datapath, TUNNEL_OVERLAY, ifindex))
		return 0;
	if (!ret)
		ret = datapath_attach_tunnel(options->datapath, TUNNEL_OVERLAY, ifindex, err);
	if (ret)
		return ret;
	nodes->tunnel_attached = true;
	state->tunnel_ifindex = nodes->tunnel_ifindex;
	state->tunnel_port = htons(options->tunnel->port);
	state->flags &= ~(uint32_t)(NODE_TUNNEL | NODE_TUNNEL_IPV6 | NODE_DSR);
	state->flags |= (options->overlay ? NODE_TUNNEL : 0) | (options->dsr ? NODE_DSR : 0) |
			(options->tunnel->ipv6 ? NODE_TUNNEL_IPV6 : 0);
	return 0;
}

/* Asks the kernel: each message would cause a notification, which leads here again. */
static bool tunnel_is_up(struct nodes *nodes, unsigned int mtu)
{
	struct tunnel_state state = {};

	tunnel_read(&nodes->netlink, nodes->tunnel_ifindex, &state);
	return state.up && state.mtu == mtu;
}

/* The device and its programs.  What fails is tried again with the next change of a link, or later:
 * nobody tells that a port is free again. */
static void tunnel_refresh(struct nodes *nodes)
{
	const struct timeval later = { .tv_sec = TUNNEL_RETRY_SECONDS };
	const struct nodes_options *options = &nodes->options;
	unsigned int mtu;
	struct errmsg err = {};
	int ret;

	if (!options->tunnel)
		return;
	mtu = options->tunnel_mtu(options->arg);
	ret = tunnel_ensure(&nodes->netlink, options->tunnel, mtu, &nodes->tunnel_ifindex, &err);
	if (!ret)
		ret = tunnel_attach(nodes, &err);
	if (ret && nodes->tunnel_ifindex)
		tunnel_down(&nodes->netlink, nodes->tunnel_ifindex);
	else if (!ret && !tunnel_is_up(nodes, mtu))
		ret = tunnel_up(&nodes->netlink, nodes->tunnel_ifindex, mtu, &err);
	if (ret && strcmp(nodes->tunnel_problem, err.text) != 0)
		log_error("tunnel: %s", err.text);
	snprintf(nodes->tunnel_problem, sizeof(nodes->tunnel_problem), "%s", ret ? err.text : "");
	if (ret)
		evtimer_add(nodes->retry, &later);
}

/* Leaves nothing of a tunnel that was configured before. */
static int tunnel_drop(struct nodes *nodes, struct errmsg *err)
{
	struct node_state *state = maps_node(nodes->options.datapath);
	auto_netlink struct netlink netlink = NETLINK_INIT;
	int ret;

	ret = netlink_open(&netlink, -1, err);
	if (!ret)
		ret = tunnel_remove(&netlink, err);
	state->flags &= ~(uint32_t)(NODE_TUNNEL | NODE_TUNNEL_IPV6 | NODE_DSR);
	state->tunnel_ifindex = 0;
	datapath_drop_tunnel(nodes->options.datapath, TUNNEL_OVERLAY);
	return ret;
}

/* Takes the kernel's list for what is there, and brings it in line. */
static void routes_refresh(struct nodes *nodes)
{
	struct errmsg err = {};

	tunnel_refresh(nodes);
	peers_device_refresh(nodes);
	if (routes_read(&nodes->netlink, &nodes->routes, &err) < 0)
		log_warn("%s", err.text);
	nodes_sync(nodes, nodes->complete);
}

static void cluster_add_node(const struct nodes *nodes, const struct addr *own,
			     const struct addr *node, uint32_t flags)
{
	const struct prefix whole = prefix_of(own, 128);

	if (node ? nodes_is_others(nodes, own)
		 : !addr_is_zero(own) && !nodes_is_own_range(nodes, &whole))
		cluster_add(nodes->cluster, &whole, node, flags | CLUSTER_NODE);
}

/* Not before everything inside is known: else it would be masqueraded, too. */
static void masquerade_set(const struct nodes *nodes)
{
	struct node_state *state = maps_node(nodes->options.datapath);

	if (nodes->options.masquerade && nodes->complete)
		state->flags |= NODE_MASQUERADE;
	if (!nodes->options.masquerade)
		state->flags &= ~(uint32_t)NODE_MASQUERADE;
}

/* Ranges that two claim belong to the first, as their routes do. */
static void cluster_sync(struct nodes *nodes, const struct routes *wanted)
{
	const struct nodes_options *options = &nodes->options;
	const struct store *store = options->store;
	struct cluster *cluster = nodes->cluster;

	cluster_begin(cluster);
	for (size_t i = 0; i < options->excluded.count; i++)
		cluster_add(cluster, &options->excluded.items[i], NULL, 0);
	for (const struct object *node = store_first(store, OBJECT_NODE); node;
	     node = store_next(store, node)) {
		const struct addr address = nodes_address(nodes, node, NULL);
		bool remote =
			(options->tunnel || options->encryption) && !nodes_is_local(nodes, node);
		uint32_t flags = peers_have(nodes, node) ? CLUSTER_SEALED : 0;

		cluster_add_node(nodes, &node->node.internal_v4, remote ? &address : NULL, flags);
		cluster_add_node(nodes, &node->node.internal_v6, remote ? &address : NULL, flags);
	}
	for (size_t i = 0; i < wanted->count; i++) {
		const struct node_route *item = &wanted->items[i];

		if (item->error != -EADDRINUSE)
			cluster_add(cluster, &item->route.dst, &item->address,
				    item->sealed ? CLUSTER_SEALED : 0);
	}
	for (size_t i = 0; i < options->pod_cidr_count; i++)
		cluster_add(cluster, &options->pod_cidrs[i], NULL, 0);
	cluster_end(cluster, nodes->complete);
	masquerade_set(nodes);
}

void nodes_sync(struct nodes *nodes, bool complete)
{
	const struct addr sources[] = { own_source(nodes, false), own_source(nodes, true) };
	struct routes wanted = {};
	bool now_complete = complete && !nodes->complete;

	if (!has_routes(nodes) && !nodes->cluster)
		return;
	nodes->complete = complete;
	if (now_complete && has_routes(nodes)) {
		routes_refresh(nodes); /* those of nodes that are gone, made by an earlier agent */
		return;
	}
	routes_wanted(nodes, &wanted);
	if (nodes->options.encryption)
		peers_sync(nodes, &wanted);
	for (size_t i = 0; i < wanted.count; i++)
		route_lead(nodes, sources, &wanted.items[i]);
	if (nodes->cluster)
		cluster_sync(nodes, &wanted);
	if (!has_routes(nodes)) {
		routes_done(&wanted);
		return;
	}
	routes_apply(&nodes->netlink, &nodes->routes, &wanted, nodes->complete);
	routes_done(&nodes->routes);
	nodes->routes = wanted;
}

/* ---- what others do -------------------------------------------------------------------------- */

static bool is_tunnel(const struct nodes *nodes, int ifindex)
{
	const struct encryption *encryption = nodes->options.encryption;

	return ifindex == (int)nodes->tunnel_ifindex ||
	       (encryption && ifindex == (int)encryption_ifindex(encryption));
}

static void on_due(evutil_socket_t fd, short what, void *arg)
{
	struct nodes *nodes = arg;

	(void)fd;
	(void)what;
	nodes_sync(nodes, nodes->complete);
}

static void on_settle(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	routes_refresh(arg);
}

/* Whether the notice may mean that a route of ours is gone, or that a refused one may work now. */
static bool notice_matters(const struct nodes *nodes, const struct nlmsghdr *notice)
{
	const struct ifinfomsg *link = mnl_nlmsg_get_payload(notice);
	struct route route;

	switch (notice->nlmsg_type) {
	case RTM_NEWADDR:
		return true;
	case RTM_DELLINK:
		return is_tunnel(nodes, link->ifi_index) || *nodes->tunnel_problem ||
		       *nodes->encryption_problem;
	case RTM_NEWLINK: /* IPv4 routes go without a notice when their link goes down */
		return (link->ifi_flags & IFF_UP || is_tunnel(nodes, link->ifi_index)) &&
		       link->ifi_index < ENDPOINT_IFINDEX_BASE;
	case RTM_DELROUTE:
		if (!route_parse(notice, &route))
			return false;
		for (size_t i = 0; i < nodes->routes.count; i++) {
			if (prefix_equal(&nodes->routes.items[i].route.dst, &route.dst))
				return true;
		}
		return false;
	default:
		return false;
	}
}

static void on_notice(const struct nlmsghdr *notice, int netns_id, void *arg)
{
	struct nodes *nodes = arg;

	(void)netns_id;
	nodes->doubt = nodes->doubt || notice_matters(nodes, notice);
}

static void on_turn(bool lost, void *arg)
{
	const struct timeval delay = { .tv_usec = SETTLE_MS * 1000 };
	struct nodes *nodes = arg;

	if ((nodes->doubt || lost) && !evtimer_pending(nodes->settle, NULL))
		evtimer_add(nodes->settle, &delay);
	nodes->doubt = false;
}

static int watch_open(struct nodes *nodes, struct errmsg *err)
{
	static const unsigned int groups[] = { RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR,
					       RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_ROUTE,
					       RTNLGRP_IPV6_ROUTE };
	const struct netlink_watch_options options = { .base = nodes->options.base,
						       .groups = groups,
						       .group_count = ARRAY_SIZE(groups),
						       .notice = on_notice,
						       .turn = on_turn,
						       .arg = nodes };

	nodes->settle = evtimer_new(nodes->options.base, on_settle, nodes);
	nodes->retry = evtimer_new(nodes->options.base, on_settle, nodes);
	nodes->due = evtimer_new(nodes->options.base, on_due, nodes);
	if (!nodes->settle || !nodes->retry || !nodes->due)
		return fail(err, -ENOMEM, "follow routes");
	return netlink_watch_new(&options, &nodes->watch, err);
}

/* ---- what is told ---------------------------------------------------------------------------- */

const char *nodes_routing(const struct nodes *nodes, const struct object *node)
{
	if (nodes_is_local(nodes, node))
		return "local";
	if (peers_have(nodes, node))
		return "wireguard";
	if (nodes->options.encryption && nodes->options.strict)
		return "none";
	if (nodes->options.overlay)
		return nodes->options.tunnel->protocol == TUNNEL_VXLAN ? "vxlan" : "geneve";
	return nodes->options.direct_routes ? "direct" : "host";
}

const char *nodes_problem(struct nodes *nodes, const struct object *node)
{
	for (size_t i = 0; i < nodes->routes.count; i++) {
		const struct node_route *item = &nodes->routes.items[i];

		if (!item->error || strcmp(item->node, node->name) != 0)
			continue;
		snprintf(nodes->text, sizeof(nodes->text), "Node %s: %s", node->name, item->why);
		return nodes->text;
	}
	return peers_problem(nodes, node);
}

void nodes_problems(struct nodes *nodes, void (*found)(const char *text, void *arg), void *arg)
{
	if (*nodes->tunnel_problem) {
		snprintf(nodes->text, sizeof(nodes->text), "Tunnel: %s", nodes->tunnel_problem);
		found(nodes->text, arg);
	}
	if (*nodes->encryption_problem) {
		snprintf(nodes->text, sizeof(nodes->text), "Encryption: %s",
			 nodes->encryption_problem);
		found(nodes->text, arg);
	}
	for (const struct object *node = store_first(nodes->options.store, OBJECT_NODE); node;
	     node = store_next(nodes->options.store, node)) {
		if (peers_problem(nodes, node))
			found(nodes->text, arg);
	}
	for (size_t i = 0; i < nodes->routes.count; i++) {
		const struct node_route *item = &nodes->routes.items[i];

		if (!item->error)
			continue;
		snprintf(nodes->text, sizeof(nodes->text), "Node %s: %s", item->node, item->why);
		found(nodes->text, arg);
	}
}

/* ---- life ------------------------------------------------------------------------------------ */

int nodes_new(const struct nodes_options *options, struct nodes **ret, struct errmsg *err)
{
	struct nodes *nodes = xcalloc(1, sizeof(*nodes));

	*ret = nodes;
	nodes->options = *options;
	nodes->netlink = (struct netlink)NETLINK_INIT;
	if (options->masquerade || options->tunnel || options->encryption) {
		int failed;

		nodes->cluster = xcalloc(1, sizeof(*nodes->cluster));
		failed = cluster_init(nodes->cluster, options->datapath);
		if (failed)
			return fail(err, failed, "read cluster_map");
	}
	if (!options->tunnel && tunnel_drop(nodes, err) < 0)
		return err->code;
	if (!options->encryption && peers_drop(nodes, err) < 0)
		return err->code;
	if (!has_routes(nodes))
		return 0;
	if (netlink_open(&nodes->netlink, -1, err) < 0)
		return err->code;
	if (watch_open(nodes, err) < 0)
		return err->code;
	if (routes_read(&nodes->netlink, &nodes->routes, err) < 0)
		return err->code;
	tunnel_refresh(nodes); /* with this process' programs, before the objects are known */
	peers_device_refresh(nodes);
	return 0;
}

void nodes_set_pod_cidrs(struct nodes *nodes, const struct prefix *cidrs, size_t count)
{
	nodes->options.pod_cidrs = cidrs;
	nodes->options.pod_cidr_count = count;
}

void nodes_free(struct nodes *nodes)
{
	if (!nodes)
		return;
	if (nodes->settle)
		event_free(nodes->settle);
	if (nodes->retry)
		event_free(nodes->retry);
	if (nodes->due)
		event_free(nodes->due);
	netlink_watch_free(nodes->watch);
	netlink_close(&nodes->netlink);
	routes_done(&nodes->routes);
	if (nodes->cluster)
		cluster_done(nodes->cluster);
	free(nodes->cluster);
	free(nodes);
}

int nodes_cleanup(struct errmsg *err)
{
	auto_netlink struct netlink netlink = NETLINK_INIT;
	struct routes routes = {};
	int ret = netlink_open(&netlink, -1, err);

	if (!ret)
		ret = routes_read(&netlink, &routes, err);
	for (size_t i = 0; i < routes.count; i++)
		route_delete(&netlink, &routes.items[i]);
	routes_done(&routes);
	if (!ret)
		ret = tunnel_remove(&netlink, err);
	return ret ? ret : encryption_remove(err);
}
