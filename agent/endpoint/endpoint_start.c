/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Start, take-over, stop and --cleanup.  Nothing is flushed: what files, links and maps agree on
 * stays as it is.
 */
#include "agent/endpoint/endpoint_internal.h"

#include <dirent.h>
#include <errno.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/endpoint/host_sysctl.h"
#include "lib/alloc.h"
#include "lib/file.h"
#define LOG_MODULE "endpoint"
#include "lib/log.h"

#define ENDPOINTS_DEFAULT 512 /* as struct datapath_limits says */
#define SLOTS_MAX         (UINT16_MAX + 1)

/* ---- take over ---------------------------------------------------------------------------------
 */

static void ipam_continue(struct endpoints *endpoints)
{
	const struct endpoint *newest = NULL;

	for (size_t slot = 1; slot < endpoints->slot_count; slot++) {
		const struct endpoint *endpoint = endpoints->slots[slot];

		if (endpoint && !endpoint->chained &&
		    (!newest || endpoint->sequence > newest->sequence))
			newest = endpoint;
	}
	for (size_t i = 0; newest && i < newest->address_count; i++)
		ipam_continue_after(endpoints->ipam, &newest->addresses[i].address.addr);
	if (newest)
		endpoints->slot_next = newest->slot;
}

/* Takes over one endpoint of a former agent into maps and programs. */
static void endpoint_restore(struct endpoints *endpoints, struct endpoint *endpoint)
{
	struct host_link link = {};
	struct errmsg err = {};
	char text[ENDPOINT_TEXT_MAX];
	int ret;

	endpoint_describe(endpoint, text);
	if (endpoint->state == ENDPOINT_DELETING && !endpoint->chained) {
		endpoint_unregister(endpoints, endpoint);
		endpoint_delete_link(endpoints, endpoint);
		return;
	}
	if (endpoint->state == ENDPOINT_PENDING || endpoint->state == ENDPOINT_DELETING) {
		log_info("%s: its %s was never finished", text,
			 endpoint->state == ENDPOINT_PENDING ? "ADD" : "DEL");
		endpoint->state = ENDPOINT_PENDING; /* for it to be released */
		endpoint_release(endpoints, endpoint);
		return;
	}
	ret = host_link_get(&endpoints->netlink, endpoint_ifindex(endpoint), &link, &err);
	/* What else is wrong with the link is for the repair. */
	if (ret == 0 && endpoint->chained && !chained_is_same(endpoint, &link))
		ret = -ENODEV;
	if (ret == 0)
		endpoint_adopt_link(endpoint, &link, NULL);
	for (size_t i = 0; ret == 0 && !endpoint->chained && i < endpoint->address_count; i++) {
		struct errmsg route_err = {};

		/* Only the node itself needs the route: not a reason to leave policy without the
		 * pod. */
		if (host_device_route_add(endpoints->host, &endpoint->addresses[i].address.addr,
					  &route_err) < 0)
			log_error("%s: %s", text, route_err.text);
	}
	if (ret == 0)
		ret = endpoint_register(endpoints, endpoint, &err);
	/* Replaces the former agent's program by ours, in place. */
	if (ret == 0)
		ret = datapath_attach_endpoint(endpoints->datapath, endpoint_ifindex(endpoint),
					       &err);
	if (ret < 0 && ret != -ENODEV)
		log_error("%s: %s", text, err.text);
	/* The rest is compared once the agent is ready. */
	endpoint->dirty = DIRT_ALL;
}

struct orphan_search {
	struct endpoints *endpoints; /* NULL: all of them are orphans */
	int *ifindexes;
	size_t count;
};

static void orphan_begin(void *arg)
{
	struct orphan_search *search = arg;

	search->count = 0;
}

static int orphan_each(const struct nlmsghdr *header, void *arg)
{
	struct orphan_search *search = arg;
	struct endpoints *endpoints = search->endpoints;
	struct host_link link;
	size_t slot;

	host_link_parse(header, &link);
	if (link.ifindex <= ENDPOINT_IFINDEX_BASE ||
	    link.ifindex >= ENDPOINT_IFINDEX_BASE + SLOTS_MAX ||
	    strncmp(link.name, HOST_IFNAME_PREFIX, strlen(HOST_IFNAME_PREFIX)) != 0 ||
	    search->count == SLOTS_MAX)
		return 0;
	slot = (size_t)(link.ifindex - ENDPOINT_IFINDEX_BASE);
	if (!endpoints || slot >= endpoints->slot_count || !endpoints->slots[slot])
		search->ifindexes[search->count++] = link.ifindex;
	return 0;
}

/* Links of ours without a state file (lost or damaged).  Nobody knows which pod it is, so no policy
 * could be enforced on it: it is removed. */
static int orphans_find(struct netlink *netlink, struct orphan_search *search, struct errmsg *err)
{
	struct netlink_message message;

	search->ifindexes = xcalloc(SLOTS_MAX, sizeof(*search->ifindexes));
	netlink_message_init(&message, RTM_GETLINK, 0, sizeof(struct ifinfomsg));
	return netlink_dump(netlink, &message, orphan_each, orphan_begin, search, err);
}

static void orphans_remove(struct endpoints *endpoints)
{
	struct orphan_search search = { .endpoints = endpoints };
	struct errmsg err = {};

	if (orphans_find(&endpoints->netlink, &search, &err) < 0)
		log_error("%s", err.text);
	for (size_t i = 0; i < search.count; i++) {
		log_error("device %d has no state file; removed", search.ifindexes[i]);
		/* Tag 0 is no slot: nobody waits for it. */
		link_worker_delete(endpoints->link_worker, search.ifindexes[i], 0, NULL);
	}
	free(search.ifindexes);
}

static void map_entries_remove(struct endpoints *endpoints)
{
	struct datapath *datapath = endpoints->datapath;

	for (size_t slot = 1; slot < endpoints->slot_count; slot++) {
		struct endpoint_entry entry = {};

		if (!endpoints->slots[slot] &&
		    endpoint_map_get(datapath, (uint16_t)slot, &entry) == 0 &&
		    (entry.flags & ENDPOINT_VALID))
			endpoint_map_del(datapath, (uint16_t)slot);
	}
}

static void endpoints_restore(struct endpoints *endpoints)
{
	struct errmsg err = {};
	size_t count = 0;

	ipam_continue(endpoints);
	for (size_t slot = 1; slot < endpoints->slot_count; slot++) {
		if (!endpoints->slots[slot])
			continue;
		endpoint_restore(endpoints, endpoints->slots[slot]);
		count += endpoints->slots[slot] && endpoints->slots[slot]->state == ENDPOINT_READY;
	}
	orphans_remove(endpoints);
	map_entries_remove(endpoints);
	chained_prune(endpoints);
	endpoint_watch_settle(endpoints->watch);
	if (host_device_prune(endpoints->host, &err) < 0)
		log_error("%s", err.text);
	if (count > 0)
		log_info("%zu endpoints taken over", count);
}

/* ---- life --------------------------------------------------------------------------------------
 */

static int folders_make(struct endpoints *endpoints, const char *run_dir, struct errmsg *err)
{
	int ret;

	snprintf(endpoints->state_dir, sizeof(endpoints->state_dir), "%s/endpoints", run_dir);
	snprintf(endpoints->spool_dir, sizeof(endpoints->spool_dir), "%s/deleted", run_dir);
	ret = file_make_dir(endpoints->state_dir, 0700, err);
	return ret == 0 ? file_make_dir(endpoints->spool_dir, 0700, err) : ret;
}

static void table_make(struct endpoints *endpoints, uint32_t max)
{
	endpoints->slot_count = max ? max : ENDPOINTS_DEFAULT;
	endpoints->slots = xcalloc(endpoints->slot_count, sizeof(struct endpoint *));
	endpoints->netns_event = evtimer_new(endpoints->base, endpoints_netns_return, endpoints);
	endpoints->tcx_event = evtimer_new(endpoints->base, endpoints_tcx_step, endpoints);
}

static int node_prepare(struct endpoints *endpoints, const struct endpoints_options *options,
			struct errmsg *err)
{
	int ret = netns_identify(-1, &endpoints->home, err);

	if (ret == 0)
		ret = netlink_open(&endpoints->netlink, -1, err);
	if (ret == 0)
		ret = ipam_new(options->pod_cidrs, options->pod_cidr_count, &endpoints->ipam, err);
	if (ret == 0)
		ret = host_forwarding_ensure(options->run_dir, endpoints->ipam, err);
	if (ret < 0)
		return ret;
	endpoints->host = host_device_new(&endpoints->netlink, endpoints->ipam, options->big_tcp);
	return host_repair(endpoints, err);
}

int endpoints_new(const struct endpoints_options *options, struct endpoints **ret_endpoints,
		  struct errmsg *err)
{
	struct endpoints *endpoints = xcalloc(1, sizeof(*endpoints));
	int ret;

	endpoints->base = options->base;
	endpoints->datapath = options->datapath;
	endpoints->fork_server = options->fork_server;
	endpoints->store = options->store;
	endpoints->sync = options->sync;
	endpoints->run_dir = options->run_dir;
	endpoints->mtu = options->mtu;
	endpoints->mtu_overhead = options->mtu_overhead;
	endpoints->big_tcp = options->big_tcp;
	endpoints->netlink = (struct netlink)NETLINK_INIT;
	endpoints->steps = endpoint_steps;
	endpoints->chained_steps = chained_steps;
	table_make(endpoints, options->max);
	ret = endpoints_link_worker_start(endpoints, err);
	if (ret == 0)
		ret = folders_make(endpoints, options->run_dir, err);
	if (ret == 0)
		ret = node_prepare(endpoints, options, err);
	/* Listen first, then look: a change in between is seen by one of the two. */
	if (ret == 0)
		ret = endpoint_watch_new(endpoints, &endpoints->watch, err);
	if (ret == 0)
		ret = endpoint_state_load(endpoints, err);
	if (ret == 0)
		ret = host_addresses_refresh(endpoints, err);
	if (ret < 0) {
		endpoints_free(endpoints);
		return ret;
	}
	endpoints_restore(endpoints);
	endpoints_tcx_soon(endpoints);
	spool_consume(endpoints);
	endpoints->started = true;
	*ret_endpoints = endpoints;
	return 0;
}

int endpoints_set_pod_cidrs(struct endpoints *endpoints, const struct prefix *cidrs, size_t count,
			    struct errmsg *err)
{
	int ret = ipam_set(endpoints->ipam, cidrs, count, err);

	if (ret == 0)
		ret = host_forwarding_ensure(endpoints->run_dir, endpoints->ipam, err);
	if (ret == 0)
		ret = host_repair(endpoints, err);
	ipam_continue(endpoints);
	return ret;
}

void endpoints_free(struct endpoints *endpoints)
{
	if (!endpoints)
		return;
	endpoint_watch_free(endpoints->watch);
	if (endpoints->link_worker_event)
		event_free(endpoints->link_worker_event);
	if (endpoints->netns_event)
		event_free(endpoints->netns_event);
	if (endpoints->tcx_event)
		event_free(endpoints->tcx_event);
	link_worker_free(endpoints->link_worker);
	for (size_t slot = 1; endpoints->slots && slot < endpoints->slot_count; slot++)
		endpoint_free(endpoints->slots[slot]);
	free(endpoints->slots);
	host_device_free(endpoints->host);
	ipam_free(endpoints->ipam);
	netlink_close(&endpoints->netlink);
	free(endpoints);
}

/* ---- cleanup -----------------------------------------------------------------------------------
 */

static void folder_remove(const char *run_dir, const char *name)
{
	char folder[300];
	struct dirent *entry;
	DIR *dir;

	snprintf(folder, sizeof(folder), "%s/%s", run_dir, name);
	dir = opendir(folder);
	while (dir && (entry = readdir(dir))) {
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			unlinkat(dirfd(dir), entry->d_name, 0);
	}
	if (dir)
		closedir(dir);
	rmdir(folder);
}

static void cleanup_done(uint32_t tag, int result, void *arg)
{
	(void)tag;
	(void)result;
	++*(size_t *)arg;
}

static int links_remove(struct netlink *netlink, struct fork_server *server, struct errmsg *err)
{
	struct orphan_search search = {};
	auto_(link_worker) struct link_worker *link_worker = NULL;
	size_t asked = 0;
	size_t done = 0;
	int ret = orphans_find(netlink, &search, err);

	if (ret == 0)
		ret = link_worker_new(server, -1, &link_worker, err);
	while (ret == 0 && done < search.count) {
		if (asked < search.count &&
		    link_worker_delete(link_worker, search.ifindexes[asked], 0, NULL) == 0)
			asked++;
		else if (link_worker_collect(link_worker, -1, cleanup_done, &done) < 0)
			ret = fail_plain(err, -EPIPE, "the link worker died");
	}
	free(search.ifindexes);
	return ret;
}

int endpoints_cleanup(const char *run_dir, struct fork_server *server, struct errmsg *err)
{
	auto_netlink struct netlink netlink = NETLINK_INIT;
	int ret = netlink_open(&netlink, -1, err);

	if (ret == 0)
		ret = links_remove(&netlink, server, err);
	if (ret == 0)
		ret = host_device_remove(&netlink, err);
	if (ret == 0)
		ret = host_sysctl_restore(run_dir, err);
	if (ret < 0)
		return ret;
	folder_remove(run_dir, "endpoints");
	folder_remove(run_dir, "deleted");
	return 0;
}
