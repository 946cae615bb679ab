/* SPDX-License-Identifier: Apache-2.0 */
#define LOG_MODULE "nodes"
#include "agent/nodes/routes.h"

#include <errno.h>
#include <linux/netlink.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/log.h"

/* ---- lists ----------------------------------------------------------------------------------- */

struct node_route *routes_add(struct routes *routes)
{
	if (routes->count == routes->room) {
		routes->room = routes->room ? routes->room * 2 : 16;
		routes->items = xreallocarray(routes->items, routes->room, sizeof(*routes->items));
	}
	routes->items[routes->count] = (struct node_route){};
	return &routes->items[routes->count++];
}

void route_fail(struct node_route *item, int error, const char *fmt, ...)
{
	char text[256];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	free(item->why);
	item->why = xstrdup(text);
	item->error = error;
}

static int dst_compare(const struct prefix *a, const struct prefix *b)
{
	int order = memcmp(&a->addr, &b->addr, sizeof(a->addr));

	return order ? order : (int)a->len - (int)b->len;
}

/* Of two nodes with one range, the first by name comes first. */
static int route_compare(const void *left, const void *right)
{
	const struct node_route *a = left, *b = right;
	int order = dst_compare(&a->route.dst, &b->route.dst);

	return order ? order : strcmp(a->node, b->node);
}

void routes_sort(struct routes *routes)
{
	if (routes->count)
		qsort(routes->items, routes->count, sizeof(*routes->items), route_compare);
}

struct node_route *routes_find(const struct routes *routes, const struct prefix *range,
			       const char *node)
{
	struct node_route key = { .route.dst = *range, .node = (char *)node };

	return routes->count ? bsearch(&key, routes->items, routes->count, sizeof(*routes->items),
				       route_compare)
			     : NULL;
}

static void routes_clear(struct routes *routes)
{
	for (size_t i = 0; i < routes->count; i++) {
		free(routes->items[i].node);
		free(routes->items[i].why);
	}
	routes->count = 0;
}

void routes_done(struct routes *routes)
{
	routes_clear(routes);
	free(routes->items);
}

/* ---- ranges that overlap --------------------------------------------------------------------- */

bool routes_have(const struct routes *installed, const struct node_route *item)
{
	const struct node_route *have = routes_find(installed, &item->route.dst, item->node);

	if (have)
		return !have->error;
	have = routes_find(installed, &item->route.dst, ""); /* of an earlier agent */
	return have && addr_equal(&have->route.gateway, &item->route.gateway);
}

static void route_refuse(struct node_route *item, const struct node_route *other)
{
	char range[ADDR_TEXT_MAX], others[ADDR_TEXT_MAX];

	if (prefix_equal(&item->route.dst, &other->route.dst))
		route_fail(item, -EADDRINUSE, "its range is that of node %s", other->node);
	else
		route_fail(item, -EADDRINUSE, "%s overlaps %s of node %s",
			   prefix_format(&item->route.dst, range),
			   prefix_format(&other->route.dst, others), other->node);
}

/* Refuses ranges that overlap one before them, or one that is held.  held_only: among those that
 * are held.  The list is sorted: a range comes before the ranges in it. */
static void routes_refuse(struct routes *wanted, bool held_only)
{
	const struct node_route *accepted = NULL, *end = wanted->items + wanted->count;

	for (struct node_route *item = wanted->items; item < end; item++) {
		const struct node_route *other = item + 1;

		if (item->error || (held_only && !item->held))
			continue;
		if (!held_only && !item->held) {
			while (other < end && (other->error || !other->held) &&
			       prefix_overlaps(&item->route.dst, &other->route.dst))
				other++;
			if (other < end && prefix_overlaps(&item->route.dst, &other->route.dst)) {
				route_refuse(item, other);
				continue;
			}
		}
		if (accepted && prefix_overlaps(&accepted->route.dst, &item->route.dst))
			route_refuse(item, accepted);
		else
			accepted = item;
	}
}

void routes_refuse_overlaps(struct routes *wanted)
{
	routes_refuse(wanted, true);
	routes_refuse(wanted, false);
}

/* ---- the kernel ------------------------------------------------------------------------------ */

static int route_each(const struct nlmsghdr *header, void *arg)
{
	struct routes *found = arg;
	struct route route;

	if (route_parse(header, &route) && route.protocol == NODE_ROUTE_PROTOCOL) {
		struct node_route *item = routes_add(found);

		item->node = xstrdup("");
		item->route = route;
		if (!addr_equal(&route.gateway, &route.dst.addr)) /* as through the tunnel */
			item->route.ifindex = 0;                  /* follows from the gateway */
	}
	return 0;
}

static void routes_begin(void *arg)
{
	routes_clear(arg);
}

/* The kernel's list has no names. */
static void routes_take_names(struct routes *found, struct routes *before)
{
	struct node_route *item = before->items, *end = item + before->count;

	for (size_t i = 0; i < found->count; i++) {
		while (item < end && (item->error || dst_compare(&item->route.dst,
								 &found->items[i].route.dst) < 0))
			item++;
		if (item == end || !prefix_equal(&item->route.dst, &found->items[i].route.dst))
			continue;
		free(found->items[i].node);
		found->items[i].node = item->node;
		item->node = NULL;
		item++;
	}
}

int routes_read(struct netlink *netlink, struct routes *found, struct errmsg *err)
{
	struct routes before = *found;
	struct netlink_message message;
	struct rtmsg *header = netlink_message_init(&message, RTM_GETROUTE, 0, sizeof(*header));
	int ret;

	header->rtm_table = RT_TABLE_MAIN;
	header->rtm_protocol = NODE_ROUTE_PROTOCOL;
	*found = (struct routes){};
	ret = netlink_dump(netlink, &message, route_each, routes_begin, found, err);
	routes_sort(found);
	routes_take_names(found, &before);
	routes_done(&before);
	return ret < 0 ? wrap(err, "list routes to nodes") : 0;
}

void route_delete(struct netlink *netlink, const struct node_route *item)
{
	struct netlink_message message;
	struct errmsg err = {};
	char text[ADDR_TEXT_MAX];

	route_message(&message, RTM_DELROUTE, 0, &item->route);
	if (netlink_request(netlink, &message, &err) < 0 && err.code != -ESRCH)
		log_warn("route to %s: %s", prefix_format(&item->route.dst, text), err.text);
}

static void route_set(struct netlink *netlink, struct node_route *item, bool replace)
{
	const uint16_t flags = NLM_F_CREATE | (replace ? NLM_F_REPLACE : NLM_F_EXCL);
	struct netlink_message message;
	struct errmsg err = {};
	char range[ADDR_TEXT_MAX], gateway[ADDR_TEXT_MAX];

	route_message(&message, RTM_NEWROUTE, flags, &item->route);
	item->error = netlink_request(netlink, &message, &err);
	if (item->error == 0)
		return;
	prefix_format(&item->route.dst, range);
	if (item->error == -EEXIST)
		route_fail(item, item->error, "there is another route to %s", range);
	else
		route_fail(item, item->error, "route to %s by %s: %s", range,
			   addr_format(&item->route.gateway, gateway), err.text);
}

static void route_drop(struct netlink *netlink, const struct node_route *item, bool complete)
{
	if (!item->error && !item->by_host && complete)
		route_delete(netlink, item);
}

void routes_apply(struct netlink *netlink, const struct routes *installed, struct routes *wanted,
		  bool complete)
{
	const struct node_route *have = installed->items, *end = have + installed->count;

	for (size_t i = 0; i < wanted->count; i++) {
		struct node_route *item = &wanted->items[i];

		if (item->error || item->by_host)
			continue;
		while (have < end && (have->error || have->by_host ||
				      dst_compare(&have->route.dst, &item->route.dst) < 0))
			route_drop(netlink, have++, complete);
		if (have == end || !prefix_equal(&have->route.dst, &item->route.dst))
			route_set(netlink, item, false);
		else if (!addr_equal(&have->route.gateway, &item->route.gateway) ||
			 have->route.ifindex != item->route.ifindex)
			route_set(netlink, item, true);
		have += have < end && prefix_equal(&have->route.dst, &item->route.dst);
	}
	while (have < end)
		route_drop(netlink, have++, complete);
}
