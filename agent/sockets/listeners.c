/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel lists the node's listening sockets; the ports of most are outside the range in which
 * services have any, which costs nothing more.  A socket at all addresses is asked for at each.
 */
#define LOG_MODULE "sockets"
#include "agent/sockets/listeners.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

#include "agent/sync/sync.h"
#include "datapath/maps.h"
#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/log.h"
#include "lib/sockdiag.h"
#include "lib/task.h"
#include "lib/trigger.h"
#include "policy/objects/store.h"

#define PAUSE_MS  2000
#define NAMED_MAX 20
#define TEXT_MAX  700

struct conflict {
	struct service_key key; /* that a service has, too */
	bool any;               /* the socket is at all addresses */
};

struct listeners {
	struct listeners_options options;
	struct trigger look;
	struct conflict conflicts[NAMED_MAX]; /* of the look that runs */
	struct service_owner owners[NAMED_MAX];
	size_t count;
	char texts[NAMED_MAX][TEXT_MAX]; /* of the last one that ended */
	size_t text_count;
};

/* ---- what there is --------------------------------------------------------------------------- */

static bool has_port(const struct node_state *node, __be16 port)
{
	return node->node_port_max && ntohs(port) >= node->node_port_min &&
	       ntohs(port) <= node->node_port_max;
}

/* False: no service has this address and the socket's port. */
static bool conflict_note(struct listeners *listeners, const struct sockdiag_socket *socket,
			  const struct addr *addr, bool any)
{
	const struct service_key key = { .addr = *addr,
					 .port = socket->flow.sport,
					 .proto = socket->flow.proto };
	uint64_t owner;

	if (!sync_takes_port(listeners->options.sync, &key, &owner))
		return false;
	listeners->owners[listeners->count].id = owner;
	listeners->conflicts[listeners->count++] = (struct conflict){ .key = key, .any = any };
	return true;
}

static bool socket_takes(const struct sockdiag_socket *socket, const struct addr *addr)
{
	bool v4 = addr_is_v4(&socket->flow.saddr);

	return addr_is_v4(addr) ? v4 || !socket->v6_only : !v4;
}

/* One address is enough to name the socket. */
static int socket_note(const struct sockdiag_socket *socket, void *arg)
{
	struct listeners *listeners = arg;
	const struct addr *own = &socket->flow.saddr, *hosts;
	bool any = addr_is_zero(own) || (addr_is_v4(own) && !own->w[3]);
	size_t count = store_host_addresses(listeners->options.store, &hosts);
	bool found = false;

	if (listeners->count == NAMED_MAX ||
	    !has_port(maps_node(listeners->options.datapath), socket->flow.sport))
		return 0;
	if (!any)
		conflict_note(listeners, socket, own, false);
	for (size_t i = 0; i < count && any && !found; i++)
		found = socket_takes(socket, &hosts[i]) &&
			conflict_note(listeners, socket, &hosts[i], true);
	task_pause();
	return 0;
}

static void sockets_list(struct listeners *listeners)
{
	static const struct {
		uint8_t proto;
		uint32_t states;
	} kinds[] = { { IPPROTO_TCP, 1u << TCP_LISTEN }, { IPPROTO_UDP, 1u << TCP_CLOSE } };
	static const int families[] = { AF_INET, AF_INET6 };
	auto_netlink struct netlink netlink = NETLINK_INIT;
	struct errmsg err = {};
	int ret = sockdiag_open(&netlink, -1, &err);

	for (size_t i = 0; i < ARRAY_SIZE(kinds) * ARRAY_SIZE(families) && !ret; i++)
		ret = sockdiag_list(&netlink, families[i % 2], kinds[i / 2].proto,
				    kinds[i / 2].states, socket_note, listeners, &err);
	if (ret)
		log_warn("look for listeners on ports of services: %s", err.text);
}

/* ---- one look -------------------------------------------------------------------------------- */

static void text_write(const struct conflict *conflict, const char *owner, char *buf, size_t size)
{
	const struct service_key *key = &conflict->key;
	char text[ADDR_TEXT_MAX] = "all addresses";

	if (!conflict->any)
		addr_format(&key->addr, text);
	snprintf(buf, size, "a process of the node listens on %s port %u of %s in vain: %s has it",
		 proto_name(key->proto), ntohs(key->port), text, owner);
}

static void look_run(void *arg)
{
	struct listeners *listeners = arg;
	size_t kept = 0;

	listeners->count = 0;
	if (maps_node(listeners->options.datapath)->node_port_max)
		sockets_list(listeners);
	if (listeners->count)
		sync_owners_name(listeners->options.sync, listeners->owners, listeners->count);
	for (size_t i = 0; i < listeners->count; i++) {
		if (*listeners->owners[i].name)
			text_write(&listeners->conflicts[i], listeners->owners[i].name,
				   listeners->texts[kept++], TEXT_MAX);
	}
	listeners->text_count = kept;
}

void listeners_check_soon(struct listeners *listeners)
{
	trigger_fire(&listeners->look);
}

void listeners_problems(const struct listeners *listeners,
			void (*each)(const char *text, void *arg), void *arg)
{
	for (size_t i = 0; i < listeners->text_count; i++)
		each(listeners->texts[i], arg);
}

/* ---- life ------------------------------------------------------------------------------------ */

struct listeners *listeners_new(const struct listeners_options *options)
{
	struct listeners *listeners = xcalloc(1, sizeof(*listeners));

	listeners->options = *options;
	trigger_init(&listeners->look, options->base, PAUSE_MS, look_run, listeners);
	return listeners;
}

void listeners_free(struct listeners *listeners)
{
	if (!listeners)
		return;
	trigger_done(&listeners->look);
	free(listeners);
}
