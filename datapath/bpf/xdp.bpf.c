/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The quick way of packets that only pass through this node: of connections from clients outside to
 * backends on other nodes, in both directions.  They leave by the device that they came by, before
 * the kernel has made an skb of them.
 *
 *	uplink_xdp    XDP of the uplinks, in front of from_uplink
 *
 * It follows translations that from_uplink has made, with the same code, and leaves everything else
 * to from_uplink as it came: new connections, errors, fragments, SCTP (the sum needs the packet's
 * end), packets too long for the way, and whatever is to be dropped or answered.  So it drops
 * nothing, and without it everything works alike.
 */
#include "datapath/bpf/xdp_context.bpf.h" /* before all others: they are for XDP then */

#include "datapath/bpf/device.bpf.h"
#include "datapath/bpf/nat.bpf.h"
#include "datapath/bpf/way.bpf.h"

/*
 * Whether the transport's checksum is complete.  A sender on the same machine may leave it to a
 * device and write only the sum of the pseudo-header, which tc knows from the skb.  A complete sum
 * that happens to be the same goes to tc in vain.
 */
__weak int xdp_sum_is_complete(struct xdp_md *ctx, const struct packet *pkt)
{
	const __sum16 *check;
	__u32 offset;
	__u64 sum;

	if (!pkt)
		return false;
	offset = pkt->flow.proto == IPPROTO_TCP ? TCP_CHECK_OFFSET : UDP_CHECK_OFFSET;
	sum = bpf_htons((__u16)packet_l4_length(ctx, pkt)) + bpf_htons(pkt->flow.proto);
	for (int i = pkt->ipv6 ? 0 : 3; i < 4; i++)
		sum += (__u64)pkt->flow.saddr.w[i] + pkt->flow.daddr.w[i];
	check = packet_bytes(ctx, pkt->l4_offset + offset, sizeof(*check));
	return check && xdp_sum_add((__u16)~0, sum) != (__u16) ~*check;
}

/* Whether from_uplink would see it as one for a service, or as an answer to one. */
static __always_inline bool xdp_is_for_services(const struct packet *pkt)
{
	const struct ipcache_entry *from, *to;

	if (pkt->kind != PACKET_PLAIN || pkt->fragment || !packet_is_bare(pkt) ||
	    (pkt->flow.proto != IPPROTO_TCP && pkt->flow.proto != IPPROTO_UDP))
		return false;
	to = bpf_map_lookup_elem(&ipcache_map, &pkt->flow.daddr);
	if (!to || to->slot || !(to->flags & (IPCACHE_HOST | IPCACHE_SERVICE)) ||
	    (!(to->flags & IPCACHE_SERVICE) && !nat_has_port(pkt)))
		return false;
	from = bpf_map_lookup_elem(&ipcache_map, &pkt->flow.saddr);
	return !from || !(from->slot || from->flags & IPCACHE_HOST);
}

/* The way of a frame that leaves by the device that it came by: struct leave_way for XDP, which
 * writes the addresses of the frame itself. */
struct xdp_macs {
	__u8 dest[ETH_ALEN];
	__u8 source[ETH_ALEN];
};
_Static_assert(sizeof(struct xdp_macs) <= sizeof(((struct leave_way *)0)->next_hop), "room");

static __noinline void xdp_ask_way(struct xdp_md *ctx, const struct packet *pkt,
				   const struct flow *flow, struct leave_way *ret)
{
	struct xdp_macs *macs = (void *)&ret->next_hop;
	struct bpf_fib_lookup fib = {};

	ret->flow = *flow;
	ret->ifindex = 0;
	ret->asked_jiffies = jiffies_now();
	if (route_find(ctx, pkt, &flow->saddr, &flow->daddr, &fib) != BPF_FIB_LKUP_RET_SUCCESS)
		return;
	ret->mtu = fib.mtu_result;
	__builtin_memcpy(macs->dest, fib.dmac, ETH_ALEN);
	__builtin_memcpy(macs->source, fib.smac, ETH_ALEN);
	ret->ifindex = fib.ifindex;
}

/* NULL: the way out is not the device that the packet came by, or the packet was not sent to that
 * device: a device that hears all frames brings others' as well. */
static __always_inline const struct xdp_macs *
xdp_find_way(struct xdp_md *ctx, const struct packet *pkt, const struct flow *flow)
{
	const struct ethhdr *eth = packet_bytes(ctx, 0, sizeof(*eth));
	struct flow key = *flow;
	const struct xdp_macs *macs;
	struct leave_way *way;

	key.pad[0] = 1; /* what from_pod remembers has no such flow */
	way = leave_place(&key);
	if (!way || !eth)
		return NULL;
	if (!leave_is_known(way, &key))
		xdp_ask_way(ctx, pkt, &key, way);
	macs = (const void *)&way->next_hop;
	if (way->ifindex != ctx->ingress_ifindex || route_length(ctx, pkt) > way->mtu ||
	    !mac_equal(eth->h_dest, macs->source))
		return NULL;
	return macs;
}

/* Sends the packet along a translation.  The checks come first: from here on tc cannot have it as
 * it was. */
static __always_inline int xdp_follow(struct xdp_md *ctx, struct packet *pkt,
				      struct nat_entry *entry, struct nat_work *work)
{
	const struct xdp_macs *macs;
	struct ethhdr *eth;

	work->way = entry->flow;
	macs = xdp_find_way(ctx, pkt, &work->way);
	if (!macs || !xdp_sum_is_complete(ctx, pkt) || route_count_hop(ctx, pkt))
		return XDP_PASS;
	nat_follow(ctx, pkt, entry, work);
	eth = packet_bytes(ctx, 0, sizeof(*eth));
	if (!eth || nat_write_flow(ctx, pkt, &work->way)) {
		metric_count(DROP_REWRITE_FAILED); /* for the verifier: the headers are there */
		return XDP_DROP;
	}
	__builtin_memcpy(eth->h_dest, macs->dest, ETH_ALEN);
	__builtin_memcpy(eth->h_source, macs->source, ETH_ALEN);
	notice(NOTICE_XDP_FORWARDED);
	return XDP_TX;
}

SEC("xdp")
int uplink_xdp(struct xdp_md *ctx)
{
	struct packet pkt = { .from_uplink = FROM_OUTSIDE };
	struct nat_work *work = nat_work();
	struct nat_entry *entry;

	if (!work || packet_parse(ctx, &pkt) || !xdp_is_for_services(&pkt))
		return XDP_PASS;
	entry = nat_known(&pkt);
	if (!entry || (entry->flags & (NAT_FORWARD | NAT_GONE)) != NAT_FORWARD)
		return XDP_PASS;
	return xdp_follow(ctx, &pkt, entry, work);
}
