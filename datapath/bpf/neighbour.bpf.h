/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Shares of the kernel's neighbour table.  It is small (net.ipv4.neigh.default.gc_thresh3), one for
 * all namespaces, and the node needs it to reach its gateway.  Each packet of a pod to an address
 * of the uplink's own subnet takes an entry there until somebody answers, or for seconds if nobody
 * does.  So an endpoint may only cause so many entries in a second.
 */
#ifndef TENDRIL_DATAPATH_BPF_NEIGHBOUR_BPF_H
#define TENDRIL_DATAPATH_BPF_NEIGHBOUR_BPF_H

#include "datapath/bpf/kernel.bpf.h"
#include "datapath/bpf/packet.bpf.h"

/* This second's share of an endpoint, or of all in slot 0; NULL: no such slot.  CPUs may race to
 * begin a new second: then a few entries are not counted. */
static __always_inline struct neighbour_share *neighbour_share_get(__u32 slot, __u64 second)
{
	struct neighbour_share *share = bpf_map_lookup_elem(&neighbour_map, &slot);

	if (share && share->second != second) {
		share->second = second;
		share->entries = 0;
	}
	return share;
}

/* An endpoint may cause as many new entries as are left for all in this second: one that scans a
 * subnet gets half of them, and the others always get some. */
static __always_inline bool neighbour_take(__u32 slot)
{
	__u64 second = bpf_ktime_get_coarse_ns() / NS_PER_SEC;
	struct neighbour_share *all = neighbour_share_get(0, second);
	struct neighbour_share *own = neighbour_share_get(slot, second);
	__u32 taken;

	if (!all || !own)
		return false;
	taken = all->entries;
	if (taken >= NEIGHBOUR_ENTRY_RATE || own->entries >= NEIGHBOUR_ENTRY_RATE - taken)
		return false;
	__sync_fetch_and_add(&all->entries, 1);
	__sync_fetch_and_add(&own->entries, 1);
	return true;
}

/* Whether the kernel has no MAC address for the packet's next hop. */
static __always_inline bool neighbour_is_unknown(struct __sk_buff *skb, const struct packet *pkt)
{
	struct bpf_fib_lookup fib = {
		.family = pkt->ipv6 ? AF_INET6 : AF_INET,
		.l4_protocol = pkt->flow.proto,
		.sport = pkt->flow.sport,
		.dport = pkt->flow.dport,
		.ifindex = skb->ifindex,
	};

	if (pkt->ipv6) {
		__builtin_memcpy(fib.ipv6_src, &pkt->flow.saddr, sizeof(fib.ipv6_src));
		__builtin_memcpy(fib.ipv6_dst, &pkt->flow.daddr, sizeof(fib.ipv6_dst));
	} else {
		fib.ipv4_src = pkt->flow.saddr.w[3];
		fib.ipv4_dst = pkt->flow.daddr.w[3];
	}
	return (int)bpf_fib_lookup(skb, &fib, sizeof(fib), 0) == BPF_FIB_LKUP_RET_NO_NEIGH;
}

/*
 * Checks a packet that leaves this node.  The last destinations of the endpoint pass without a
 * lookup: each of them has at most one entry.
 */
__weak int neighbour_check(struct __sk_buff *skb, const struct packet *pkt)
{
	struct neighbour_share *share;
	struct addr *recent;
	__u32 slot;

	if (!pkt)
		return DROP_BAD_HEADER;
	slot = pkt->src.slot;
	share = bpf_map_lookup_elem(&neighbour_map, &slot);
	if (!share)
		return DROP_RATE_LIMITED;
	recent = &share->recent[bpf_ntohl(pkt->flow.daddr.w[3]) % NEIGHBOUR_RECENT];
	if (addr_equal(recent, &pkt->flow.daddr))
		return DROP_NONE;
	if (neighbour_is_unknown(skb, pkt) && !neighbour_take(slot))
		return DROP_RATE_LIMITED;
	*recent = pkt->flow.daddr;
	return DROP_NONE;
}

#endif
