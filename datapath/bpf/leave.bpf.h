/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The ways out of the node that bypass the host's stack: into WireGuard, into the tunnel, or to the
 * next hop behind an uplink.  The programs there still see the packet.  With direct server return,
 * packets of clients outside take the tunnel, too.
 */
#ifndef TENDRIL_DATAPATH_BPF_LEAVE_BPF_H
#define TENDRIL_DATAPATH_BPF_LEAVE_BPF_H

#include "datapath/bpf/route.bpf.h"
#include "datapath/bpf/way.bpf.h"

#define TUNNEL_TTL 64

static __always_inline __u32 tunnel_family_flag(void)
{
	return node_flags() & NODE_TUNNEL_IPV6 ? BPF_F_TUNINFO_IPV6 : 0;
}

/* Tells the kernel to which node the packet goes.  0, or a negative errno. */
static __always_inline int tunnel_address_to(struct __sk_buff *skb, const struct addr *node,
					     __u32 vni)
{
	struct bpf_tunnel_key key = { .tunnel_id = vni, .tunnel_ttl = TUNNEL_TTL };
	__u32 flags = tunnel_family_flag();

	if (flags) {
		__builtin_memcpy(key.remote_ipv6, node, sizeof(key.remote_ipv6));
	} else {
		key.remote_ipv4 = bpf_ntohl(node->w[3]);
		flags = BPF_F_ZERO_CSUM_TX; /* the packet inside has its own */
	}
	return (int)bpf_skb_set_tunnel_key(skb, &key, sizeof(key), flags);
}

/* ---- the way of a flow ----------------------------------------------------------------------- */

/* To another node, by WireGuard or the tunnel.  False: the address is not known as one of another
 * node, or both are not for it.  What may not leave at all is dropped where the host's stack leads
 * it. */
static __always_inline bool leave_find_tunnel(struct __sk_buff *skb, const struct packet *pkt,
					      struct leave_way *ret)
{
	struct cidr_key key = { .prefixlen = 128, .addr = pkt->flow.daddr };
	const struct node_state *node = node_get();
	const struct cluster_entry *remote;
	__u32 mtu = 0, ifindex;
	bool sealed;

	if (!node || !(node->flags & (NODE_TUNNEL | NODE_WIREGUARD)))
		return false;
	remote = remote_find(&key);
	if (!remote)
		return false;
	sealed = node->flags & NODE_WIREGUARD && remote->flags & CLUSTER_SEALED;
	if (!sealed && !(node->flags & (NODE_TUNNEL | NODE_STRICT)))
		return false;
	ifindex = sealed ? node->wireguard_ifindex : node->tunnel_ifindex;
	if ((!sealed && node->flags & NODE_STRICT) || bpf_check_mtu(skb, ifindex, &mtu, 0, 0) < 0)
		return true; /* there is no such device */
	ret->ifindex = ifindex;
	ret->family = 0;
	ret->mtu = mtu;
	ret->next_hop = sealed ? (struct addr){ 0 } : remote->node;
	return true;
}

/* Asks the kernel's routing table. */
static __always_inline void leave_find_route(struct __sk_buff *skb, const struct packet *pkt,
					     struct leave_way *ret)
{
	struct bpf_fib_lookup fib = {};
	__u32 ifindex;

	if (route_find(skb, pkt, &pkt->flow.saddr, &pkt->flow.daddr, &fib) !=
	    BPF_FIB_LKUP_RET_SUCCESS)
		return;
	ifindex = fib.ifindex;
	if (!bpf_map_lookup_elem(&uplink_map, &ifindex))
		return;
	ret->family = fib.family; /* of the next hop by now, as is the destination */
	ret->mtu = fib.mtu_result;
	__builtin_memcpy(&ret->next_hop, fib.ipv6_dst, sizeof(ret->next_hop));
	ret->ifindex = ifindex;
}

/* Not inline: the first packet of a flow has the cost of this, all others have not. */
static __noinline void leave_find(struct __sk_buff *skb, const struct packet *pkt,
				  struct leave_way *ret)
{
	ret->flow = pkt->flow;
	ret->ifindex = 0;
	ret->asked_jiffies = jiffies_now();
	if (!leave_find_tunnel(skb, pkt, ret))
		leave_find_route(skb, pkt, ret);
}

/* ---- leaving --------------------------------------------------------------------------------- */

static __always_inline int leave_by_tunnel(struct __sk_buff *skb, struct packet *pkt,
					   const struct leave_way *way)
{
	int reason = route_count_hop(skb, pkt);

	if (reason)
		return reason;
	if ((!addr_is_zero(&way->next_hop) && tunnel_address_to(skb, &way->next_hop, TUNNEL_VNI)) ||
	    bpf_redirect((int)way->ifindex, 0) != TC_ACT_REDIRECT)
		return DROP_NO_ROUTE;
	skb->tc_index = LEAVE_DECIDED;
	pkt->forwarded = 1;
	return DROP_NONE;
}

static __always_inline int leave_by_uplink(struct __sk_buff *skb, struct packet *pkt,
					   const struct leave_way *way)
{
	struct addr next_hop = way->next_hop;

	return route_follow(skb, pkt, way->ifindex, way->family, &next_hop);
}

/*
 * Sends a packet of a pod out of the node (pkt->forwarded), or leaves it to the host's stack as it
 * is.  Returns why it must be dropped.
 */
__weak int leave_node(struct __sk_buff *skb, struct packet *pkt)
{
	struct leave_way *way;
	int reason;

	if (!pkt || !packet_is_bare(pkt))
		return DROP_NONE;
	way = leave_place(&pkt->flow);
	if (!way)
		return DROP_NONE;
	if (!leave_is_known(way, &pkt->flow))
		leave_find(skb, pkt, way);
	if (!way->ifindex || route_length(skb, pkt) > way->mtu)
		return DROP_NONE;
	reason = way->family ? leave_by_uplink(skb, pkt, way) : leave_by_tunnel(skb, pkt, way);
	return reason == DROP_TTL_EXCEEDED ? DROP_NONE : reason;
}

/*
 * Direct server return: sends a client's packet as it came to the node of its backend, which
 * answers the client itself.  A client gets no answer to a fragment: one that does not fit is
 * fragmented once more between the nodes, which IPv6 does not do.
 */
__weak int leave_to_server(struct __sk_buff *skb, struct packet *pkt, const struct addr *backend)
{
	struct cidr_key key = { .prefixlen = 128 };
	const struct node_state *node = node_get();
	const struct cluster_entry *remote;
	__u32 mtu = 0;
	int reason;

	if (!pkt || !backend || !node || !(node->flags & NODE_DSR))
		return DROP_NO_ROUTE;
	key.addr = *backend;
	remote = remote_find(&key);
	if (!remote || bpf_check_mtu(skb, node->tunnel_ifindex, &mtu, 0, 0) < 0)
		return DROP_NO_ROUTE;
	if ((!pkt->fragment || node->flags & NODE_TUNNEL_IPV6) && route_length(skb, pkt) > mtu) {
		pkt->mtu = (__u16)mtu;
		return DROP_TOO_BIG;
	}
	reason = route_count_hop(skb, pkt);
	if (reason)
		return reason;
	if (tunnel_address_to(skb, &remote->node, TUNNEL_VNI_DSR) ||
	    bpf_redirect((int)node->tunnel_ifindex, 0) != TC_ACT_REDIRECT)
		return DROP_NO_ROUTE;
	skb->tc_index = LEAVE_TO_SERVER;
	pkt->translated = 1;
	pkt->forwarded = 1;
	return DROP_NONE;
}

#endif
