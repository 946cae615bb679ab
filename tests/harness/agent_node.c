/* SPDX-License-Identifier: Apache-2.0 */
#include "harness/agent_node.h"

#include <ftw.h>
#include <net/if.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/param.h>

#include "agent/endpoint/link_worker.h"
#include "agent/sync/sync.h"
#include "harness/scratch.h"
#include "lib/fork_server.h"
#include "policy/objects/parse.h"

#include <cmocka.h> /* last: its fail() is a macro */

/* ---- the node ------------------------------------------------------------------------------- */

static void objects_put(struct agent_node *node)
{
	struct object_list list = {};
	struct problems problems = {};
	struct errmsg err = {};

	assert_int_equal(objects_parse(node->objects, strlen(node->objects), 0, &list, &problems),
			 0);
	for (size_t i = 0; i < list.count; i++)
		assert_int_equal(store_put(node->store, take_ptr(list.items[i]), &err), 0);
	object_list_done(&list);
	problems_done(&problems);
}

int agent_node_start(struct agent_node *node, struct errmsg *err)
{
	static const struct fork_server_kind kinds[] = { { LINK_WORKER_NAME, link_worker_run } };
	static const char *const cidrs[] = { "10.77.0.0/24", "fd77::/112" };
	struct datapath_options options = scratch_options();
	struct prefix pod_cidrs[ARRAY_SIZE(cidrs)];
	struct endpoints_options endpoints = { .run_dir = node->run_dir,
					       .pod_cidrs = pod_cidrs,
					       .pod_cidr_count = ARRAY_SIZE(cidrs),
					       .max = node->max ? node->max
								: AGENT_NODE_ENDPOINTS };
	int ret;

	options.limits.endpoints = MAX(node->max, AGENT_NODE_ENDPOINTS);
	options.limits.addresses = node->addresses ? node->addresses : AGENT_NODE_ADDRESSES;
	for (size_t i = 0; i < ARRAY_SIZE(cidrs); i++)
		assert_int_equal(prefix_parse(cidrs[i], &pod_cidrs[i]), 0);
	endpoints.base = node->base = event_base_new();
	endpoints.store = node->store = store_new();
	store_set_local(node->store);
	ret = fork_server_new(NULL, kinds, ARRAY_SIZE(kinds), &node->fork_server, err);
	if (ret == 0)
		ret = datapath_open(&options, &node->datapath, err);
	endpoints.fork_server = node->fork_server;
	endpoints.datapath = node->datapath;
	if (ret == 0 && node->opened)
		node->opened(node);
	if (ret == 0)
		ret = sync_new(node->base, node->datapath, node->store, &node->sync, err);
	endpoints.sync = node->sync;
	if (ret == 0)
		ret = endpoints_new(&endpoints, &node->endpoints, err);
	if (ret < 0)
		return ret;
	if (node->objects)
		objects_put(node);
	sync_set_missing(node->sync, NULL);
	return sync_policies(node->sync, err);
}

void agent_node_stop(struct agent_node *node)
{
	endpoints_free(take_ptr(node->endpoints));
	sync_free(take_ptr(node->sync));
	store_free(take_ptr(node->store));
	datapath_close(take_ptr(node->datapath));
	fork_server_free(take_ptr(node->fork_server));
	if (node->base)
		event_base_free(take_ptr(node->base));
}

int agent_node_add(struct agent_node *node, const char *request, int pod_fd,
		   struct endpoint_error *error)
{
	auto_json struct cJSON *json = NULL;
	auto_json struct cJSON *result = NULL;
	int ret;

	assert_int_equal(json_parse(request, strlen(request), &json, &error->text), 0);
	ret = endpoints_add(node->endpoints, json, pod_fd, &result, error);
	assert_true((ret == 0) == (result != NULL));
	return ret;
}

int agent_node_del(struct agent_node *node, const char *request, struct endpoint_error *error)
{
	auto_json struct cJSON *json = NULL;
	int ret;

	assert_int_equal(json_parse(request, strlen(request), &json, &error->text), 0);
	ret = endpoints_del(node->endpoints, json, error);
	return ret ? ret : endpoints_wait_deleted(node->endpoints, NULL, NULL, &error->text);
}

/* ---- what there is -------------------------------------------------------------------------- */

/* Lines, sorted when complete. */
struct listing {
	char *lines[4000];
	size_t count;
};

static struct listing *listing_open; /* for callbacks without an argument */

static void __attribute__((format(printf, 2, 3)))
listing_add(struct listing *listing, const char *fmt, ...)
{
	va_list args;
	char *line;

	va_start(args, fmt);
	assert_true(vasprintf(&line, fmt, args) >= 0);
	va_end(args);
	assert_true(listing->count < ARRAY_SIZE(listing->lines));
	listing->lines[listing->count++] = line;
}

void listing_free(struct listing *listing)
{
	for (size_t i = 0; listing && i < listing->count; i++)
		free(listing->lines[i]);
	free(listing);
}

static void hex(char *buf, size_t size, const void *bytes, size_t len)
{
	for (size_t i = 0; i < len && 2 * i + 2 < size; i++)
		snprintf(buf + 2 * i, size - 2 * i, "%02x", ((const uint8_t *)bytes)[i]);
}

static int message_each(const struct nlmsghdr *header, void *arg)
{
	const struct ifinfomsg *link = mnl_nlmsg_get_payload(header);
	const struct rtmsg *route = mnl_nlmsg_get_payload(header);
	char text[400] = "";
	struct host_link parsed;

	if (header->nlmsg_type == RTM_NEWLINK) {
		host_link_parse(header, &parsed);
		listing_add(arg, "link %d %s %s mtu %u", parsed.ifindex, parsed.name,
			    link->ifi_flags & IFF_UP ? "up" : "down", parsed.mtu);
		return 0;
	}
	/* The local table follows the addresses, by a worker of the kernel: a moment later. */
	if (header->nlmsg_type == RTM_NEWROUTE && route->rtm_table == RT_TABLE_LOCAL)
		return 0;
	/* Nothing else changes by itself but cache times. */
	for (const struct nlattr *attr = mnl_nlmsg_get_payload_offset(
		     header, header->nlmsg_type == RTM_NEWADDR ? sizeof(struct ifaddrmsg)
							       : sizeof(struct rtmsg));
	     mnl_attr_ok(attr, (int)((const char *)mnl_nlmsg_get_payload_tail(header) -
				     (const char *)attr));
	     attr = mnl_attr_next(attr)) {
		size_t len = strlen(text);
		uint16_t type = mnl_attr_get_type(attr);

		if (header->nlmsg_type == RTM_NEWADDR ? type == IFA_CACHEINFO
						      : type == RTA_CACHEINFO)
			continue;
		snprintf(text + len, sizeof(text) - len, " %u=", type);
		len = strlen(text);
		hex(text + len, sizeof(text) - len, mnl_attr_get_payload(attr),
		    mnl_attr_get_payload_len(attr));
	}
	listing_add(arg, "%s%s", header->nlmsg_type == RTM_NEWADDR ? "address" : "route", text);
	return 0;
}

static void listing_netns(struct listing *listing, int netns_fd)
{
	static const struct {
		uint16_t type;
		size_t size;
	} dumps[] = { { RTM_GETLINK, sizeof(struct ifinfomsg) },
		      { RTM_GETADDR, sizeof(struct ifaddrmsg) },
		      { RTM_GETROUTE, sizeof(struct rtmsg) } };
	auto_netlink struct netlink netlink = NETLINK_INIT;
	struct errmsg err = {};

	assert_int_equal(netlink_open(&netlink, netns_fd, &err), 0);
	listing_add(listing, "namespace %s", netns_fd < 0 ? "node" : "pod");
	for (size_t i = 0; i < ARRAY_SIZE(dumps); i++) {
		struct netlink_message message;

		netlink_message_init(&message, dumps[i].type, 0, dumps[i].size);
		assert_int_equal(
			netlink_dump(&netlink, &message, message_each, NULL, listing, &err), 0);
	}
}

static int ipcache_each(const void *key, const void *value, void *arg)
{
	char text[100];

	hex(text, sizeof(text), key, sizeof(struct addr));
	hex(text + 32, sizeof(text) - 32, value, sizeof(struct ipcache_entry));
	listing_add(arg, "ipcache %s", text);
	return 0;
}

static void listing_maps(struct listing *listing, struct agent_node *node)
{
	const struct store_endpoint *first;

	for (uint16_t slot = 1; slot < node->endpoints->slot_count; slot++) {
		struct endpoint_entry entry = {};

		assert_int_equal(endpoint_map_get(node->datapath, slot, &entry), 0);
		if (entry.flags & ENDPOINT_VALID)
			listing_add(listing, "endpoint %u", slot);
		if (node->endpoints->slots[slot])
			listing_add(listing, "endpoint %u", slot);
	}
	maps_foreach(node->datapath, MAP_IPCACHE, ipcache_each, listing);
	listing_add(listing, "store %zu", store_endpoints(node->store, &first));
}

static int file_each(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	listing_add(listing_open, "file %s", path);
	return 0;
}

static int line_order(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

struct listing *listing_take(struct agent_node *node, int pod_fd)
{
	struct listing *listing = calloc(1, sizeof(*listing));

	assert_non_null(listing);
	listing_netns(listing, -1);
	listing_netns(listing, pod_fd);
	listing_maps(listing, node);
	listing_open = listing;
	nftw(SCRATCH_PIN_DIR, file_each, 10, FTW_PHYS);
	nftw(node->run_dir, file_each, 10, FTW_PHYS);
	qsort(listing->lines, listing->count, sizeof(char *), line_order);
	return listing;
}

bool listings_equal(const struct listing *before, const struct listing *after)
{
	size_t i = 0, j = 0;
	bool same = true;

	while (i < before->count || j < after->count) {
		int order = i == before->count  ? 1
			    : j == after->count ? -1
						: strcmp(before->lines[i], after->lines[j]);

		if (order < 0)
			print_error("lost: %s\n", before->lines[i]);
		if (order > 0)
			print_error("left behind: %s\n", after->lines[j]);
		same &= order == 0;
		i += order <= 0;
		j += order >= 0;
	}
	return same;
}

size_t listing_count(const struct listing *listing)
{
	return listing->count;
}
