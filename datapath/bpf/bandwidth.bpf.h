/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Bandwidth limits of pods.  Every packet has a time when it is due at the rate.  What leaves the
 * node gets that time as its earliest departure time, which fq on the uplink keeps to.  What a pod
 * receives, and all where there is no fq, is dropped if it comes too early.
 */
#ifndef TENDRIL_DATAPATH_BPF_BANDWIDTH_BPF_H
#define TENDRIL_DATAPATH_BPF_BANDWIDTH_BPF_H

#include "datapath/bpf/ipcache.bpf.h"
#include "datapath/bpf/packet.bpf.h"

/* Before this time the packet is too early; a limit that was not used up is not saved for longer
 * than burst_ns. */
static __always_inline __u64 bandwidth_due(struct bandwidth_limit *limit, __u64 now, __u64 burst_ns)
{
	if (limit->due_ns + burst_ns < now)
		limit->due_ns = now - burst_ns;
	return limit->due_ns;
}

/* When the packet departs; 0: as soon as it can.  A time that the pod itself has set (SO_TXTIME) is
 * overwritten: whoever makes packets wait takes room that all have in fq. */
static __always_inline void bandwidth_set_departure(struct __sk_buff *skb, __u64 time)
{
	if (time || skb->tstamp_type == BPF_SKB_TSTAMP_DELIVERY_MONO)
		bpf_skb_set_tstamp(skb, time,
				   time ? BPF_SKB_TSTAMP_DELIVERY_MONO : BPF_SKB_TSTAMP_UNSPEC);
}

/* How late a packet may depart: so that neither bytes nor packets of one pod fill fq. */
static __always_inline __u64 bandwidth_horizon(__u64 cost_ns)
{
	__u64 horizon = BANDWIDTH_PACKETS * cost_ns;

	return horizon < BANDWIDTH_HORIZON_NS ? horizon : BANDWIDTH_HORIZON_NS;
}

/* WireGuard sends its own packets, which do not have the time of the packet inside. */
static __always_inline bool bandwidth_is_paced(void)
{
	return (node_flags() & (NODE_PACED | NODE_WIREGUARD)) == NODE_PACED;
}

static __noinline int bandwidth_take(struct __sk_buff *skb, __u32 slot, __u32 direction)
{
	bool paced = direction == DIR_EGRESS && bandwidth_is_paced();
	struct bandwidth *bandwidth = bpf_map_lookup_elem(&bandwidth_map, &slot);
	__u64 now = bpf_ktime_get_ns(), due, cost;
	struct bandwidth_limit *limit;

	if (!bandwidth)
		return DROP_NONE;
	limit = &bandwidth->limits[direction & 1];
	if (!limit->bytes_per_s)
		return DROP_NONE;
	cost = skb->len * NS_PER_SEC / limit->bytes_per_s;
	due = bandwidth_due(limit, now, paced ? 0 : BANDWIDTH_BURST_NS);
	if (due > now + (paced ? bandwidth_horizon(cost) : 0))
		return DROP_BANDWIDTH;
	__sync_fetch_and_add(&limit->due_ns, cost);
	if (paced)
		bandwidth_set_departure(skb, due > now ? due : 0);
	return DROP_NONE;
}

/* Whether a packet of this pod may leave the node: a drop reason. */
static __always_inline int bandwidth_send(struct __sk_buff *skb, const struct packet *pkt)
{
	if (pkt->src.flags & ENDPOINT_EGRESS_LIMITED)
		return bandwidth_take(skb, pkt->src.slot, DIR_EGRESS);
	if (node_flags() & NODE_PACED)
		bandwidth_set_departure(skb, 0);
	return DROP_NONE;
}

/* Whether this pod may receive the packet: a drop reason. */
static __always_inline int bandwidth_receive(struct __sk_buff *skb, const struct packet *pkt)
{
	return pkt->dst.flags & ENDPOINT_INGRESS_LIMITED
		       ? bandwidth_take(skb, pkt->dst.slot, DIR_INGRESS)
		       : DROP_NONE;
}

/* The same on the way there: what to_pod sees again counts there. */
static __always_inline int bandwidth_deliver(struct __sk_buff *skb, const struct packet *pkt)
{
	return pkt->dst.flags & ENDPOINT_CHAINED ? DROP_NONE : bandwidth_receive(skb, pkt);
}

#endif
