/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections that existed before the observation began.  The pods' own sockets show TCP; who
 * opened other flows is only in ct_map, and only where policy makes it keep state.
 */
#define LOG_MODULE "flows"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <time.h>

#include "agent/endpoint/endpoint.h"
#include "agent/monitor/flows_internal.h"
#include "lib/auto.h"
#include "lib/log.h"
#include "lib/sockdiag.h"

#define EPHEMERAL_FIRST 32768 /* net.ipv4.ip_local_port_range begins here by default */

struct flow_search {
	struct datapath *datapath;
	const struct endpoints *endpoints;
	struct endpoint_info pod;
	uint64_t now_ns;
	uint8_t listening[65536 / 8]; /* ports, whatever the address */
};

static void flow_found(struct flow_search *search, const struct flow *flow)
{
	struct flow_key key = { .saddr = flow->saddr,
				.daddr = flow->daddr,
				.dport = flow->dport,
				.proto = flow->proto };
	struct flow_record record = { .first_ns = search->now_ns,
				      .last_ns = search->now_ns,
				      .flags = FLOW_FOUND,
				      .sport = flow->sport };
	int ret = flow_map_add(search->datapath, &key, &record);

	if (ret && ret != -EEXIST)
		log_debug("a flow could not be added: %s", strerror(-ret));
}

/* ---- sockets --------------------------------------------------------------------------------- */

struct flow flows_of_socket(const struct flow *own, bool is_listening)
{
	bool accepted = is_listening || (ntohs(own->sport) < EPHEMERAL_FIRST &&
					 ntohs(own->dport) >= EPHEMERAL_FIRST);
	struct flow flow = *own;

	if (accepted) {
		flow.saddr = own->daddr;
		flow.daddr = own->saddr;
		flow.sport = own->dport;
		flow.dport = own->sport;
	}
	return flow;
}

void flows_orient(struct flow_key *key, struct flow_record *record)
{
	struct addr addr = key->saddr;
	__be16 port = record->sport;

	if (key->proto != IPPROTO_UDP || record->flags & FLOW_FOUND ||
	    ntohs(port) >= EPHEMERAL_FIRST || ntohs(key->dport) < EPHEMERAL_FIRST)
		return;
	key->saddr = key->daddr;
	record->sport = key->dport;
	key->daddr = addr;
	key->dport = port;
}

static int listener_note(const struct sockdiag_socket *socket, void *arg)
{
	struct flow_search *search = arg;
	uint16_t port = ntohs(socket->flow.sport);

	search->listening[port / 8] |= (uint8_t)(1u << port % 8);
	return 0;
}

static bool is_own(const struct flow_search *search, const struct addr *addr)
{
	for (size_t i = 0; i < search->pod.address_count; i++) {
		if (addr_equal(addr, &search->pod.addresses[i]))
			return true;
	}
	return false;
}

/* Where packets are translated, the socket knows the service, and policy the backend.  False: the
 * translation is gone. */
static bool service_resolve(const struct flow_search *search, struct flow *own)
{
	struct ipcache_entry peer;
	struct nat_entry entry;

	if (ipcache_map_get(search->datapath, &own->daddr, &peer) ||
	    !(peer.flags & IPCACHE_SERVICE))
		return true;
	if (nat_map_get(search->datapath, own, &entry))
		return false;
	own->daddr = entry.flow.daddr;
	own->dport = entry.flow.dport;
	return true;
}

static int socket_found(const struct sockdiag_socket *socket, void *arg)
{
	struct flow_search *search = arg;
	struct flow own = socket->flow;
	uint16_t port = ntohs(own.sport);
	struct flow flow;

	if (!is_own(search, &own.saddr) || is_own(search, &own.daddr) ||
	    !service_resolve(search, &own))
		return 0;
	flow = flows_of_socket(&own, search->listening[port / 8] >> port % 8 & 1);
	flow_found(search, &flow);
	return 0;
}

static int sockets_find(struct flow_search *search, struct errmsg *err)
{
	static const int families[] = { AF_INET, AF_INET6 };
	const uint32_t connected = 1u << TCP_ESTABLISHED | 1u << TCP_FIN_WAIT1 |
				   1u << TCP_FIN_WAIT2 | 1u << TCP_CLOSE_WAIT;
	auto_netlink struct netlink netlink = NETLINK_INIT;
	int ret = endpoints_sockdiag_open(search->endpoints, search->pod.slot, &netlink, err);

	for (size_t i = 0; !ret && i < ARRAY_SIZE(families); i++)
		ret = sockdiag_list(&netlink, families[i], IPPROTO_TCP, 1u << TCP_LISTEN,
				    listener_note, search, err);
	for (size_t i = 0; !ret && i < ARRAY_SIZE(families); i++)
		ret = sockdiag_list(&netlink, families[i], IPPROTO_TCP, connected, socket_found,
				    search, err);
	return ret;
}

/* ---- ct_map ---------------------------------------------------------------------------------- */

static int connection_found(const void *key, const void *value, void *arg)
{
	const struct ct_entry *entry = value;
	const struct ct_key *ct = key;
	struct flow flow = { .saddr = ct->a,
			     .daddr = ct->b,
			     .sport = ct->a_port,
			     .dport = ct->b_port,
			     .proto = ct->proto };

	if (!(entry->flags & CT_REPLIED))
		return 0;
	if (entry->flags & CT_FROM_B) {
		flow.saddr = ct->b;
		flow.daddr = ct->a;
		flow.sport = ct->b_port;
		flow.dport = ct->a_port;
	}
	flow_found(arg, &flow);
	return 0;
}

void flows_find(struct datapath *datapath, const struct endpoints *endpoints, uint16_t slot)
{
	struct flow_search search = { .datapath = datapath, .endpoints = endpoints };
	struct errmsg err = {};
	struct timespec now;
	int ret;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	search.now_ns = (uint64_t)now.tv_sec * NS_PER_SEC + (uint64_t)now.tv_nsec;
	if (!slot) {
		ret = maps_foreach(datapath, MAP_CT, connection_found, &search);
		if (ret)
			log_warn("read ct_map: %s", strerror(-ret));
		return;
	}
	if (endpoints_by_slot(endpoints, slot, &search.pod) && sockets_find(&search, &err))
		log_debug("sockets of %s/%s: %s", search.pod.namespace, search.pod.name, err.text);
}
