/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Routes packets that the node's own stack would refuse, because a program has made the node's
 * address their source.  Uses the node's routing and neighbour tables, as a router does.
 */
#ifndef TENDRIL_DATAPATH_BPF_ROUTE_BPF_H
#define TENDRIL_DATAPATH_BPF_ROUTE_BPF_H

#include "datapath/bpf/drop.bpf.h"
#include "datapath/bpf/kernel.bpf.h"

#define IP_TTL_OFFSET        (ETH_HLEN + offsetof(struct iphdr, ttl))
#define IP6_HOP_LIMIT_OFFSET (ETH_HLEN + offsetof(struct ipv6hdr, hop_limit))
#define UDP_HEADER_LEN       8

/* In skb->tc_index of a packet that from_pod sends out of the node itself: the programs there have
 * nothing to decide.  No slot is so high. */
#define LEAVE_DECIDED 0xffff

/* The same of a client's packet that from_uplink sends into the tunnel. */
#define LEAVE_TO_SERVER 0xfffe

/* Length of the packet from its IP header on; of its largest segment if it will be segmented. */
static __always_inline __u32 route_length(const packet_context *ctx, const struct packet *pkt)
{
	__u32 head = pkt->l4_offset - ETH_HLEN + UDP_HEADER_LEN;

	if (!packet_segment(ctx))
		return pkt->length - ETH_HLEN;
	if (pkt->flow.proto == IPPROTO_TCP)
		head = pkt->length - ETH_HLEN - pkt->payload;
	return head + packet_segment(ctx);
}

/* Of IPv4: with the sum, which changes as the TTL does. */
struct route_ttl {
	__u8 ttl;
	__u8 protocol;
	__sum16 check;
};

static __always_inline int route_count_hop(packet_context *ctx, const struct packet *pkt)
{
	__u32 offset = pkt->ipv6 ? IP6_HOP_LIMIT_OFFSET : IP_TTL_OFFSET;
	struct route_ttl head;
	__u32 check;

	if (packet_load(ctx, offset, &head, sizeof(head)))
		return DROP_TRUNCATED;
	if (head.ttl <= 1)
		return DROP_TTL_EXCEEDED;
	head.ttl--;
	if (pkt->ipv6)
		return packet_store(ctx, offset, &head.ttl, 1, BPF_F_RECOMPUTE_CSUM)
			       ? DROP_REWRITE_FAILED
			       : DROP_NONE;
	check = (__u32)head.check + bpf_htons(0x0100);
	head.check = (__sum16)(check + (check >= 0xffff));
	return packet_store(ctx, offset, &head, sizeof(head), 0) ? DROP_REWRITE_FAILED : DROP_NONE;
}

/* Finds the route between two addresses, which need not be the packet's yet.  Returns
 * BPF_FIB_LKUP_RET_..., or a negative errno. */
static __always_inline long route_find(packet_context *ctx, const struct packet *pkt,
				       const struct addr *saddr, const struct addr *daddr,
				       struct bpf_fib_lookup *ret)
{
	ret->ifindex = packet_device(ctx);
	ret->l4_protocol = pkt->flow.proto;
	ret->sport = pkt->flow.sport;
	ret->dport = pkt->flow.dport;
	ret->tot_len = (__u16)route_length(ctx, pkt);
	if (pkt->ipv6) {
		ret->family = AF_INET6;
		__builtin_memcpy(ret->ipv6_src, saddr, sizeof(ret->ipv6_src));
		__builtin_memcpy(ret->ipv6_dst, daddr, sizeof(ret->ipv6_dst));
	} else {
		ret->family = AF_INET;
		ret->ipv4_src = saddr->w[3];
		ret->ipv4_dst = daddr->w[3];
	}
	return bpf_fib_lookup(ctx, ret, sizeof(*ret), 0);
}

/* Decrements the TTL, and tells the kernel where the packet goes when the program returns
 * TC_ACT_REDIRECT.  The kernel resolves the neighbour's MAC if it must. */
static __always_inline int route_follow(packet_context *ctx, struct packet *pkt, __u32 ifindex,
					__u32 family, const void *next_hop)
{
	struct bpf_redir_neigh next = { .nh_family = family };
	int reason = route_count_hop(ctx, pkt);

	if (reason)
		return reason;
	__builtin_memcpy(next.ipv6_nh, next_hop, sizeof(next.ipv6_nh));
	if (bpf_redirect_neigh((int)ifindex, &next, sizeof(next), 0) != TC_ACT_REDIRECT)
		return DROP_NO_ROUTE;
	pkt->forwarded = 1;
	return DROP_NONE;
}

/* Sends the packet on as a router does, in the name of saddr, which it need not have yet. */
__weak int route_packet(packet_context *ctx, struct packet *pkt, const struct addr *saddr,
			const struct addr *daddr)
{
	struct bpf_fib_lookup fib = {};
	long found;

	if (!pkt || !saddr || !daddr)
		return DROP_NO_ROUTE;
	found = route_find(ctx, pkt, saddr, daddr, &fib);
	if (found == BPF_FIB_LKUP_RET_FRAG_NEEDED) {
		pkt->mtu = fib.mtu_result;
		return DROP_TOO_BIG;
	}
	if (found != BPF_FIB_LKUP_RET_SUCCESS && found != BPF_FIB_LKUP_RET_NO_NEIGH)
		return DROP_NO_ROUTE;
	/* Family and destination are those of the next hop by now. */
	return route_follow(ctx, pkt, fib.ifindex, fib.family, fib.ipv6_dst);
}

#endif
