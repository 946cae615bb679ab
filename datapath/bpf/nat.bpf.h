/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Translates services packet by packet: for clients outside, and for sockets that the cgroup
 * programs do not see.
 *
 *	request    client -> service   becomes   client  -> backend    (before policy)
 *	reply      backend -> client   becomes   service -> client     (where it is delivered)
 *	hairpin    the backend is the client: it must not get packets from its own address, so the
 *	           request comes from the service's address
 *	SNAT       the backend is on another node, the client is not in the cluster: the request
 *	           comes from this node, so that the reply comes back here
 *	DSR        instead of that: the request goes as it is to the other node, which translates
 *	           it to a backend of its own, and the reply (dsr.bpf.h)
 *
 * nat_map has, for each direction, the flow with which a packet leaves.  Policy and conntrack see
 * only pod addresses.
 */
#ifndef TENDRIL_DATAPATH_BPF_NAT_BPF_H
#define TENDRIL_DATAPATH_BPF_NAT_BPF_H

#include <linux/errno.h>

#include "datapath/bpf/dsr.bpf.h"
#include "datapath/bpf/nat_claim.bpf.h"
#include "datapath/bpf/nat_rewrite.bpf.h"
#include "datapath/bpf/nat_room.bpf.h"

/* ---- a new translation ----------------------------------------------------------------------- */

/* A node takes what comes from another node's address to this port for a packet of the tunnel, with
 * any pod of that node, or any client, as its sender. */
static __always_inline bool nat_is_tunnel(const struct flow *flow)
{
	const struct node_state *node = node_get();

	return node && node->flags & (NODE_TUNNEL | NODE_DSR) && flow->proto == IPPROTO_UDP &&
	       flow->dport == node->tunnel_port;
}

/*
 * Chooses the source address that the backend sees.  Another node cannot answer a client outside,
 * which expects the answer from this node: so the request gets this node's address, but with direct
 * server return.
 */
static __always_inline int nat_choose_source(const struct packet *pkt, bool local_only,
					     struct nat_work *work)
{
	const struct ipcache_entry *entry;
	const struct node_state *node;

	work->reply_flags = 0;
	work->keep_port = 1;
	if (addr_equal(&work->way.daddr, &work->from.saddr)) { /* hairpin */
		work->way.saddr = work->from.daddr;
		/* The port distinguishes the answer from what the pod sends to the node itself. */
		work->keep_port = !(pkt->dst_flags & IPCACHE_HOST);
	}
	if (!pkt->from_uplink)
		return DROP_NONE;
	entry = bpf_map_lookup_elem(&ipcache_map, &work->way.daddr);
	if (entry && entry->flags & IPCACHE_HOST)
		return DROP_NONE;
	work->reply_flags = NAT_FORWARD;
	if (entry && entry->slot)
		return DROP_NONE;
	node = node_get();
	if (!node || local_only)
		return DROP_NO_LOCAL_BACKEND;
	if (node->flags & NODE_DSR && dsr_is_possible(pkt, work)) {
		work->way_flags |= NAT_DSR;
		return DROP_NONE;
	}
	if (nat_is_tunnel(&work->way)) /* as an EndpointSlice may say */
		return DROP_TUNNEL_PORT;
	work->way.saddr = pkt->ipv6 ? node->snat_v6 : node->snat_v4;
	if (addr_is_zero(&work->way.saddr))
		return DROP_NO_ROUTE;
	work->way_flags |= NAT_FORWARD;
	work->keep_port = 0;
	return DROP_NONE;
}

/* Which place of a Maglev table a client has: the same on every node, whichever address of a node
 * it asks. */
static __always_inline __u32 flow_hash(const struct flow *flow)
{
	__u64 hash = flow->saddr.w[3] | (__u64)flow->saddr.w[2] << 32;

	hash ^= (flow->saddr.w[1] | (__u64)flow->saddr.w[0] << 32) * 0x9e3779b97f4a7c15ULL;
	hash ^= ((__u64)flow->sport << 32 | (__u64)flow->dport << 16 | flow->proto) *
		0xc2b2ae3d27d4eb4fULL;
	hash = (hash ^ hash >> 33) * 0xff51afd7ed558ccdULL;
	hash = (hash ^ hash >> 33) * 0xc4ceb9fe1a85ec53ULL;
	return (__u32)(hash >> 32);
}

/*
 * Chooses the backend.  If another node has chosen this one, only for an endpoint of this node: for
 * the very same one, where both have a Maglev table.
 */
static __always_inline int nat_choose(const struct packet *pkt, struct nat_work *work)
{
	struct service *service = &work->service;
	__u32 dice = service->table_size ? flow_hash(&pkt->flow) : bpf_get_prandom_u32();

	if (pkt->from_uplink >= FROM_DSR) {
		if (service->table_size &&
		    !service_choose(service, CLIENT_OUTSIDE, &pkt->flow.saddr, dice,
				    &work->choice) &&
		    dsr_is_here(&work->choice.backend.addr))
			return DROP_NONE;
		service->flags |= SERVICE_LOCAL;
	}
	return service_choose(service, pkt->from_uplink ? CLIENT_OUTSIDE : CLIENT_INSIDE,
			      &pkt->flow.saddr, dice, &work->choice);
}

/* Chooses a backend for the packet's flow, and makes the entries of both directions. */
__weak int nat_open(packet_context *ctx, const struct packet *pkt)
{
	struct nat_work *work = nat_work();
	struct service *service;
	int reason;

	if (!pkt || !work)
		return DROP_NAT_FULL;
	service = &work->service;
	if (!dsr_service(pkt, service))
		return DROP_NO_SERVICE;
	if (!service_admits(service, &pkt->flow.saddr))
		return DROP_SOURCE_RANGE;
	reason = nat_choose(pkt, work);
	if (reason)
		return reason;
	work->from = pkt->flow;
	work->way = pkt->flow;
	work->way.daddr = work->choice.backend.addr;
	work->way.dport = work->choice.backend.port;
	work->way_flags = NAT_REQUEST;
	reason = nat_choose_source(pkt, service->flags & SERVICE_LOCAL, work);
	if (reason)
		return reason;
	/* Bytes are counted by the node that sees both directions. */
	return nat_claim(ctx, pkt, work, work->way_flags & NAT_DSR ? 0 : service->id,
			 work->choice.index);
}

/* ---- requests ------------------------------------------------------------------------------- */

static __always_inline bool is_between(__be16 port, __u16 min, __u16 max)
{
	return max && bpf_ntohs(port) >= min && bpf_ntohs(port) <= max;
}

/* Whether the port of a packet to an address of the node can be that of a service, or one of SNAT,
 * so that the packet is an answer for a client outside. */
static __always_inline bool nat_has_port(const struct packet *pkt)
{
	const struct node_state *node = node_get();

	if (!node)
		return false;
	return is_between(pkt->flow.dport, node->node_port_min, node->node_port_max) ||
	       is_between(pkt->flow.dport, node->snat_port_min, node->snat_port_max) ||
	       is_between(pkt->flow.dport, node->old_snat_port_min, node->old_snat_port_max);
}

/* Whether flows between two addresses can be told apart: by ports, or by the identifier of an echo.
 */
static __always_inline bool nat_has_ports(const struct packet *pkt)
{
	__u8 proto = pkt->flow.proto, type = pkt->icmp_type;

	if (!packet_is_icmp(pkt))
		return proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == IPPROTO_SCTP;
	if (pkt->fragment == FRAGMENT_LATER)
		return true;
	if (pkt->ipv6)
		return type == ICMPV6_ECHO_REQUEST || type == ICMPV6_ECHO_REPLY;
	return type == ICMP_ECHO || type == ICMP_ECHOREPLY;
}

/* Whether a known translation may serve a packet that may open a flow. */
static __noinline bool nat_still_serves(const struct packet *pkt, struct nat_entry *entry)
{
	struct service service = {};

	return !nat_is_done(entry) && dsr_service(pkt, &service) &&
	       (!(entry->flags & NAT_DSR) || dsr_has_server(&entry->flow.daddr)) &&
	       service_has_backend(&service, &entry->flow.daddr, entry->flow.dport,
				   &entry->backend);
}

static __always_inline bool nat_may_open(const struct packet *pkt)
{
	return pkt->flow.proto == IPPROTO_UDP || pkt->opens;
}

/* The translation that the packet has already; NULL: none that may serve it. */
static __always_inline struct nat_entry *nat_known(const struct packet *pkt)
{
	struct nat_entry *entry = nat_lookup(&pkt->flow);

	if (entry && entry->flags & NAT_DSR && pkt->from_uplink >= FROM_DSR)
		return NULL; /* two nodes that hold each other for the backend's would never end */
	if (entry && entry->flags & NAT_REQUEST && nat_may_open(pkt) &&
	    !nat_still_serves(pkt, entry))
		return NULL;
	if (entry && !(entry->flags & NAT_REQUEST) && pkt->opens)
		return NULL; /* an answer opens nothing */
	return entry;
}

/*
 * Finds the backend of a packet.  A known translation stays as long as its backend serves; with TCP
 * and SCTP to the end of the connection.  A packet in the middle of an unknown connection has no
 * backend.
 */
static __always_inline int nat_find(packet_context *ctx, const struct packet *pkt,
				    struct nat_work *ret)
{
	const struct flow *flow = &pkt->flow;
	struct service_key key = { .port = flow->dport, .proto = flow->proto };
	struct nat_entry *entry;
	int reason;

	if (!nat_has_ports(pkt))
		return DROP_NO_SERVICE;
	entry = nat_known(pkt);
	if (entry && entry->flags & NAT_GONE)
		return DROP_NO_BACKEND;
	if (entry) {
		nat_follow(ctx, pkt, entry, ret);
		return DROP_NONE;
	}
	if (nat_may_open(pkt)) {
		ret->owner = pkt->src.slot;
		ret->victims = 0;
		reason = nat_open(ctx, pkt);
		if (reason == DROP_NAT_FULL && ret->error == -E2BIG && nat_make_room())
			reason = nat_open(ctx, pkt);
		return reason;
	}
	key.addr = flow->daddr;
	return bpf_map_lookup_elem(&service_map, &key) ? DROP_NOT_OPENED : DROP_NO_SERVICE;
}

/* Translates a packet to a service: from a client to a backend, or from a backend back to a client.
 * The caller looks up the new destination.  A packet to an address of the node that is for no
 * service stays as it is, because the node's own stack may use it. */
__weak int nat_request(packet_context *ctx, struct packet *pkt)
{
	struct nat_work *work = nat_work();
	int reason;

	if (!pkt || !work)
		return DROP_NO_SERVICE;
	reason = pkt->fragment == FRAGMENT_ORPHAN ? DROP_FRAGMENT : nat_find(ctx, pkt, work);
	if (pkt->dst_flags & IPCACHE_HOST &&
	    (reason == DROP_NO_SERVICE || reason == DROP_NOT_OPENED || reason == DROP_FRAGMENT))
		return DROP_NONE;
	if (reason)
		return reason;
	if (pkt->src.slot)
		nat_mark_translated(pkt->src.slot);
	if (work->way_flags & NAT_DSR) {
		pkt->to_server = 1;
		return DROP_NONE;
	}
	return nat_become(ctx, pkt, &work->way, work->way_flags);
}

/* ---- replies -------------------------------------------------------------------------------- */

/* Gives a backend's packet to a client the service's address as source.  Does nothing if the flow
 * is not translated. */
__weak int nat_reply(packet_context *ctx, struct packet *pkt)
{
	struct nat_work *work = nat_work();
	struct nat_entry *entry;
	struct flow key;

	if (!pkt || !work)
		return DROP_NONE;
	key = pkt->flow;
	entry = bpf_map_lookup_elem(&nat_map, &key);
	if (!entry || entry->flags & NAT_REQUEST)
		return DROP_NONE;
	/* The translated connection has ended, and the client's port is used again without the
	 * service: this SYN belongs to no translation. */
	if (pkt->tcp_flags & TCP_SYN && nat_is_done(entry)) {
		bpf_map_delete_elem(&nat_map, &key);
		return DROP_NONE;
	}
	nat_follow(ctx, pkt, entry, work);
	return nat_become(ctx, pkt, &work->way, work->way_flags);
}

#endif
