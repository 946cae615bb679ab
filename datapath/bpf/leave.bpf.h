/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The ways out of the node that bypass the host's stack: into the tunnel, or to the next hop behind
 * an uplink.  The programs there still see the packet.
 */
#ifndef TENDRIL_DATAPATH_BPF_LEAVE_BPF_H
#define TENDRIL_DATAPATH_BPF_LEAVE_BPF_H

#include "datapath/bpf/route.bpf.h"

#define TUNNEL_TTL 64

static __always_inline __u32 tunnel_family_flag(void)
{
	return node_flags() & NODE_TUNNEL_IPV6 ? BPF_F_TUNINFO_IPV6 : 0;
}

/* The node whose pods have the address, or which has it itself; NULL: none that is known. */
static __always_inline const struct addr *tunnel_node(const struct cidr_key *addr)
{
	const struct cluster_entry *entry = bpf_map_lookup_elem(&cluster_map, addr);

	return entry && !addr_is_zero(&entry->node) ? &entry->node : NULL;
}

/* Tells the kernel to which node the packet goes.  0, or a negative errno. */
static __always_inline int tunnel_address_to(struct __sk_buff *skb, const struct addr *node)
{
	struct bpf_tunnel_key key = { .tunnel_id = TUNNEL_VNI, .tunnel_ttl = TUNNEL_TTL };
	__u32 flags = tunnel_family_flag();

	if (flags) {
		__builtin_memcpy(key.remote_ipv6, node, sizeof(key.remote_ipv6));
	} else {
		key.remote_ipv4 = bpf_ntohl(node->w[3]);
		flags = BPF_F_ZERO_CSUM_TX; /* the packet inside has its own */
	}
	return (int)bpf_skb_set_tunnel_key(skb, &key, sizeof(key), flags);
}

static __always_inline int leave_by_tunnel(struct __sk_buff *skb, struct packet *pkt,
					   const struct addr *remote)
{
	const struct node_state *node = node_get();
	__u32 mtu = 0;
	int reason;

	if (!node || bpf_check_mtu(skb, node->tunnel_ifindex, &mtu, 0, BPF_MTU_CHK_SEGS))
		return DROP_NONE;
	reason = route_count_hop(skb, pkt);
	if (reason)
		return reason;
	if (tunnel_address_to(skb, remote))
		return DROP_NO_ROUTE;
	skb->tc_index = LEAVE_DECIDED;
	pkt->forwarded = 1;
	return (int)bpf_redirect((int)node->tunnel_ifindex, 0) == TC_ACT_REDIRECT ? DROP_NONE
										  : DROP_NO_ROUTE;
}

static __always_inline int leave_by_uplink(struct __sk_buff *skb, struct packet *pkt)
{
	struct bpf_fib_lookup fib = {};
	__u32 ifindex;

	if (route_find(skb, pkt, &pkt->flow.saddr, &pkt->flow.daddr, &fib) !=
	    BPF_FIB_LKUP_RET_SUCCESS)
		return DROP_NONE;
	ifindex = fib.ifindex;
	if (!bpf_map_lookup_elem(&uplink_map, &ifindex))
		return DROP_NONE;
	skb->tc_index = node_flags() & NODE_MASQUERADE ? 0 : LEAVE_DECIDED;
	return route_follow(skb, pkt, &fib);
}

/*
 * Sends a packet of a pod out of the node (pkt->forwarded), or leaves it to the host's stack as it
 * is.  Returns why it must be dropped.
 */
__weak int leave_node(struct __sk_buff *skb, struct packet *pkt)
{
	struct cidr_key key = { .prefixlen = 128 };
	const struct addr *remote = NULL;
	int reason;

	if (!pkt || !packet_is_bare(pkt))
		return DROP_NONE;
	if (node_flags() & NODE_TUNNEL) {
		key.addr = pkt->flow.daddr;
		remote = tunnel_node(&key);
	}
	reason = remote ? leave_by_tunnel(skb, pkt, remote) : leave_by_uplink(skb, pkt);
	return reason == DROP_TTL_EXCEEDED ? DROP_NONE : reason;
}

#endif
