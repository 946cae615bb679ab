/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/sockets/sockets.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

#include "agent/endpoint/endpoint.h"
#include "agent/sync/sync.h"
#include "datapath/maps.h"
#include "lib/alloc.h"
#include "lib/arena.h"
#include "lib/auto.h"
#include "lib/sockdiag.h"
#include "lib/task.h"
#include "lib/trigger.h"

#define LOG_MODULE "sockets"
#include "lib/log.h"

#define PAUSE_MS 200 /* between two walks: one costs some milliseconds */

struct sockets {
	struct sockets_options options;
	struct trigger walk;
};

/* What uses a backend: a socket, or a translation of nat_map. */
struct user {
	uint64_t cookie;
	uint32_t slot;    /* of the socket's pod, 0: the node */
	uint32_t ifindex; /* of the device that the socket is bound to */
	struct flow flow;
	struct nat_entry translation;
};

struct walk {
	struct sockets *sockets;
	struct backend_user *asked; /* for sync_find_gone(), in the order of users */
	struct user *users;
	size_t count;
	size_t asked_room;
	size_t user_room;
	unsigned int ended;
	bool chained; /* another plugin chooses addresses of pods */
};

/* ---- what there is --------------------------------------------------------------------------- */

static void walk_add(struct walk *walk, const struct backend_user *asked, const struct user *user)
{
	array_room(&walk->asked, walk->count, &walk->asked_room, sizeof(*walk->asked));
	array_room(&walk->users, walk->count, &walk->user_room, sizeof(*walk->users));
	walk->asked[walk->count] = *asked;
	walk->asked[walk->count].own_range =
		!walk->chained &&
		endpoints_own_range(walk->sockets->options.endpoints, &asked->backend.addr);
	walk->users[walk->count++] = *user;
}

static int socket_note(const struct service_socket *socket, void *arg)
{
	const struct sock_service *service = &socket->service;

	walk_add(
		arg,
		&(struct backend_user){
			.service = { .addr = service->addr,
				     .port = service->port,
				     .proto = (uint8_t)socket->proto },
			.backend = { .addr = service->backend_addr, .port = service->backend_port },
		},
		&(struct user){ .cookie = socket->cookie, .slot = socket->slot });
	task_pause();
	return 0;
}

/* Masquerade changes the source alone. */
static bool is_to_service(const struct flow *flow, const struct nat_entry *entry)
{
	return entry->flags & NAT_REQUEST &&
	       !(addr_equal(&flow->daddr, &entry->flow.daddr) && flow->dport == entry->flow.dport);
}

/* Datagrams leave a backend that is gone by themselves. */
static int translation_note(const void *key, const void *value, void *arg)
{
	const struct nat_entry *entry = value;
	const struct flow *flow = key;

	if (is_to_service(flow, entry) && !(entry->flags & NAT_GONE) && flow->proto != IPPROTO_UDP)
		walk_add(
			arg,
			&(struct backend_user){
				.service = { .addr = flow->daddr,
					     .port = flow->dport,
					     .proto = flow->proto },
				.backend = { .addr = entry->flow.daddr, .port = entry->flow.dport },
			},
			&(struct user){ .flow = *flow, .translation = *entry });
	task_pause();
	return 0;
}

/* ---- ending sockets -------------------------------------------------------------------------- */

static int by_slot_and_cookie(const void *a, const void *b)
{
	const struct user *left = a, *right = b;

	if (left->slot != right->slot)
		return left->slot < right->slot ? -1 : 1;
	return (left->cookie > right->cookie) - (left->cookie < right->cookie);
}

/* Sockets of one namespace that are to be ended, sorted by cookie; flow tells the protocol and the
 * backend, and once the socket is found, all of it. */
struct netns_users {
	struct user *users;
	size_t count;
};

static int socket_find(const struct sockdiag_socket *socket, void *arg)
{
	const struct netns_users *netns = arg;
	const struct user key = { .slot = netns->users[0].slot, .cookie = socket->cookie };
	struct user *user =
		bsearch(&key, netns->users, netns->count, sizeof(key), by_slot_and_cookie);

	/* The socket may be connected to something else by now. */
	if (user && user->flow.proto == socket->flow.proto &&
	    user->flow.dport == socket->flow.dport &&
	    addr_equal(&user->flow.daddr, &socket->flow.daddr)) {
		user->flow = socket->flow;
		user->ifindex = socket->ifindex;
	}
	task_pause();
	return 0;
}

/* Whether a socket of the protocol is still to be found. */
static bool netns_misses(const struct netns_users *netns, uint8_t proto)
{
	for (size_t i = 0; i < netns->count; i++) {
		if (netns->users[i].flow.proto == proto && !netns->users[i].flow.sport)
			return true;
	}
	return false;
}

static int netns_list(struct netlink *netlink, struct netns_users *netns, struct errmsg *err)
{
	static const struct {
		uint8_t proto;
		uint32_t states;
	} kinds[] = {
		{ IPPROTO_TCP, 1u << TCP_ESTABLISHED | 1u << TCP_SYN_SENT | 1u << TCP_FIN_WAIT1 |
				       1u << TCP_FIN_WAIT2 | 1u << TCP_CLOSE_WAIT |
				       1u << TCP_LAST_ACK | 1u << TCP_CLOSING },
		{ IPPROTO_UDP, 1u << TCP_ESTABLISHED },
	};
	static const int families[] = { AF_INET, AF_INET6 };
	int ret = 0;

	for (size_t i = 0; i < ARRAY_SIZE(kinds) * ARRAY_SIZE(families) && !ret; i++) {
		uint8_t proto = kinds[i / 2].proto;

		/* A list takes the kernel milliseconds, in one call if it has nothing to say. */
		if (!netns_misses(netns, proto))
			continue;
		ret = sockdiag_list(netlink, families[i % 2], proto, kinds[i / 2].states,
				    socket_find, netns, err);
		task_pause_now();
	}
	return ret;
}

static void netns_end(struct walk *walk, struct netns_users *netns)
{
	auto_netlink struct netlink netlink = NETLINK_INIT;
	uint32_t slot = netns->users[0].slot;
	struct errmsg err = {};
	int ret = slot ? endpoints_sockdiag_open(walk->sockets->options.endpoints, (uint16_t)slot,
						 &netlink, &err)
		       : sockdiag_open(&netlink, -1, &err);

	if (slot && ret == -ENOENT) /* the pod and its sockets are gone, or will be soon */
		return;
	if (!ret)
		ret = netns_list(&netlink, netns, &err);
	for (size_t i = 0; i < netns->count && !ret; i++) {
		const struct user *user = &netns->users[i];

		if (!user->flow.sport)
			continue;
		ret = sockdiag_destroy(&netlink,
				       &(struct sockdiag_socket){ .flow = user->flow,
								  .cookie = user->cookie,
								  .ifindex = user->ifindex },
				       &err);
		walk->ended += !ret;
		ret = ret == -ENOENT ? 0 : ret;
		task_pause_now();
	}
	if (ret)
		log_warn("cannot end connections to backends that are gone: %s", err.text);
}

/* The users at the front, sorted, are sockets. */
static void sockets_end(struct walk *walk, size_t count)
{
	size_t next = 0;

	qsort(walk->users, count, sizeof(*walk->users), by_slot_and_cookie);
	task_pause_now();
	while (next < count) {
		struct netns_users netns = { &walk->users[next], 0 };

		while (next < count && walk->users[next].slot == netns.users[0].slot)
			next++;
		netns.count = (size_t)(&walk->users[next] - netns.users);
		netns_end(walk, &netns);
	}
}

/* ---- one walk -------------------------------------------------------------------------------- */

/* Ends translations, and keeps of the users the sockets that are to be ended.  Returns how many. */
static size_t gone_keep(struct walk *walk)
{
	size_t kept = 0;

	for (size_t i = 0; i < walk->count; i++) {
		const struct backend_user *asked = &walk->asked[i];
		struct user user = walk->users[i];

		if (!asked->gone)
			continue;
		if (user.cookie) {
			user.flow = (struct flow){ .daddr = asked->backend.addr,
						   .dport = asked->backend.port,
						   .proto = asked->service.proto };
			walk->users[kept++] = user;
			continue;
		}
		walk->ended += !nat_map_end(walk->sockets->options.datapath, &user.flow,
					    &user.translation);
		task_pause();
	}
	return kept;
}

static void walk_run(void *arg)
{
	struct sockets *sockets = arg;
	struct datapath *datapath = sockets->options.datapath;
	struct walk walk = { .sockets = sockets,
			     .chained = endpoints_any_chained(sockets->options.endpoints) };
	int ret = service_sockets_foreach(datapath, socket_note, &walk);

	task_pause_now();
	if (!ret)
		ret = maps_foreach(datapath, MAP_NAT, translation_note, &walk);
	task_pause_now();
	if (ret)
		log_warn("look for connections to backends that are gone: %s", strerror(-ret));
	sync_find_gone(sockets->options.sync, walk.asked, walk.count);
	sockets_end(&walk, gone_keep(&walk));
	if (walk.ended)
		log_info("ended %u connections to backends that are gone", walk.ended);
	free(walk.asked);
	free(walk.users);
}

void sockets_check_soon(struct sockets *sockets)
{
	trigger_fire(&sockets->walk);
}

/* ---- life ------------------------------------------------------------------------------------ */

struct sockets *sockets_new(const struct sockets_options *options)
{
	struct sockets *sockets = xcalloc(1, sizeof(*sockets));

	sockets->options = *options;
	trigger_init(&sockets->walk, options->base, PAUSE_MS, walk_run, sockets);
	return sockets;
}

void sockets_free(struct sockets *sockets)
{
	if (!sockets)
		return;
	trigger_done(&sockets->walk);
	free(sockets);
}
