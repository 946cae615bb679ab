/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Direct server return (NODE_DSR).  The node that a client outside asks chooses a backend.  If that
 * is on another node, the packet goes there as it is, inside the tunnel under TUNNEL_VNI_DSR.  The
 * other node treats it as if it had come by its own uplink to a service with externalTrafficPolicy
 * Local, and its answers leave by its own uplink.  No address has to be told: the packet still has
 * both.
 */
#ifndef TENDRIL_DATAPATH_BPF_DSR_BPF_H
#define TENDRIL_DATAPATH_BPF_DSR_BPF_H

#include "datapath/bpf/packet.bpf.h"
#include "datapath/bpf/service.bpf.h"

/* Each node has its node ports at this address, whatever its others are. */
static __always_inline struct addr dsr_loopback(const struct packet *pkt)
{
	return (struct addr){ .w = { 0, 0, pkt->ipv6 ? 0 : bpf_htonl(0x0000ffff),
				     pkt->ipv6 ? bpf_htonl(1) : bpf_htonl(0x7f000001) } };
}

/* The service that a packet asks for.  false: there is none. */
static __noinline bool dsr_service(const struct packet *pkt, struct service *ret)
{
	const struct flow *flow = &pkt->flow;
	struct addr addr = flow->daddr;

	if (pkt->from_uplink == FROM_DSR_NODE_PORT)
		addr = dsr_loopback(pkt);
	return service_lookup(&addr, flow->dport, flow->proto, ret);
}

/*
 * Whether the backend is a pod and it is known of which other node.  A process of a node is no pod:
 * the node's stack takes no packet of a client by the tunnel where net.ipv4.conf.all.rp_filter is
 * set, because the tunnel has no address.
 */
static __noinline bool dsr_has_server(const struct addr *backend)
{
	struct cidr_key key = { .prefixlen = 128, .addr = *backend };
	const struct cluster_entry *remote;

	if (!(node_flags() & NODE_DSR))
		return false;
	remote = remote_find(&key);
	return remote && !(remote->flags & CLUSTER_NODE);
}

/* Whether an endpoint is of this node. */
static __noinline bool dsr_is_here(const struct addr *backend)
{
	struct addr key = *backend;
	const struct ipcache_entry *entry = bpf_map_lookup_elem(&ipcache_map, &key);

	return entry && (entry->slot || entry->flags & IPCACHE_HOST);
}

static __noinline bool dsr_is_inside(const struct addr *client)
{
	struct cidr_key key = { .prefixlen = 128, .addr = *client };

	return remote_find(&key);
}

/* Whether other nodes know that this address is this node's, and have the same node port. */
static __always_inline bool dsr_is_node_port(const struct packet *pkt,
					     const struct service *service)
{
	struct service_key port = { .addr = dsr_loopback(pkt),
				    .port = pkt->flow.dport,
				    .proto = pkt->flow.proto };
	struct cidr_key key = { .prefixlen = 128, .addr = pkt->flow.daddr };
	const struct cluster_entry *own = bpf_map_lookup_elem(&cluster_map, &key);
	const struct service *known = bpf_map_lookup_elem(&service_map, &port);

	return own && own->flags & CLUSTER_NODE && known && known->id == service->id;
}

/* Whether the node of the chosen backend can answer the client.  Clients inside the cluster expect
 * the answer from whom they have asked: their nodes check who sends what. */
static __noinline bool dsr_is_possible(const struct packet *pkt, const struct nat_work *work)
{
	return dsr_has_server(&work->choice.backend.addr) && !dsr_is_inside(&pkt->flow.saddr) &&
	       (!(pkt->dst_flags & IPCACHE_HOST) || dsr_is_node_port(pkt, &work->service));
}

#endif
