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

/* Length of the packet from its IP header on; of its largest segment if it will be segmented. */
static __always_inline __u32 route_length(const struct __sk_buff *skb, const struct packet *pkt)
{
	__u32 head = pkt->l4_offset - ETH_HLEN + UDP_HEADER_LEN;

	if (!skb->gso_size)
		return pkt->length - ETH_HLEN;
	if (pkt->flow.proto == IPPROTO_TCP)
		head = pkt->length - ETH_HLEN - pkt->payload;
	return head + skb->gso_size;
}

static __always_inline int route_count_hop(struct __sk_buff *skb, const struct packet *pkt)
{
	__u32 offset = pkt->ipv6 ? IP6_HOP_LIMIT_OFFSET : IP_TTL_OFFSET;
	__u8 ttl[2]; /* IPv4: and the protocol, with which it makes a word of the checksum */
	__be16 old, new;

	if (bpf_skb_load_bytes(skb, offset, ttl, sizeof(ttl)))
		return DROP_TRUNCATED;
	if (ttl[0] <= 1)
		return DROP_TTL_EXCEEDED;
	__builtin_memcpy(&old, ttl, sizeof(old));
	ttl[0]--;
	__builtin_memcpy(&new, ttl, sizeof(new));
	if (!pkt->ipv6 && bpf_l3_csum_replace(skb, ETH_HLEN + offsetof(struct iphdr, check), old,
					      new, sizeof(new)))
		return DROP_REWRITE_FAILED;
	return bpf_skb_store_bytes(skb, offset, ttl, 1, 0) ? DROP_REWRITE_FAILED : DROP_NONE;
}

/*
 * Finds the route between two addresses, which need not be the packet's yet, decrements the TTL,
 * and tells the kernel where the packet goes when the program returns TC_ACT_REDIRECT.  The kernel
 * resolves the neighbour's MAC if it must.
 */
__weak int route_packet(struct __sk_buff *skb, struct packet *pkt, const struct addr *saddr,
			const struct addr *daddr)
{
	struct bpf_fib_lookup fib = { .ifindex = skb->ifindex };
	struct bpf_redir_neigh next = {};
	int reason;
	long found;

	if (!pkt || !saddr || !daddr)
		return DROP_NO_ROUTE;
	fib.l4_protocol = pkt->flow.proto;
	fib.tot_len = (__u16)route_length(skb, pkt);
	if (pkt->ipv6) {
		fib.family = AF_INET6;
		__builtin_memcpy(fib.ipv6_src, saddr, sizeof(fib.ipv6_src));
		__builtin_memcpy(fib.ipv6_dst, daddr, sizeof(fib.ipv6_dst));
	} else {
		fib.family = AF_INET;
		fib.ipv4_src = saddr->w[3];
		fib.ipv4_dst = daddr->w[3];
	}
	found = bpf_fib_lookup(skb, &fib, sizeof(fib), 0);
	if (found == BPF_FIB_LKUP_RET_FRAG_NEEDED) {
		pkt->mtu = fib.mtu_result;
		return DROP_TOO_BIG;
	}
	if (found != BPF_FIB_LKUP_RET_SUCCESS && found != BPF_FIB_LKUP_RET_NO_NEIGH)
		return DROP_NO_ROUTE;
	reason = route_count_hop(skb, pkt);
	if (reason)
		return reason;
	next.nh_family = fib.family; /* of the next hop by now, as is the destination */
	__builtin_memcpy(next.ipv6_nh, fib.ipv6_dst, sizeof(next.ipv6_nh));
	if (bpf_redirect_neigh((int)fib.ifindex, &next, sizeof(next), 0) != TC_ACT_REDIRECT)
		return DROP_NO_ROUTE;
	pkt->forwarded = 1;
	return DROP_NONE;
}

#endif
