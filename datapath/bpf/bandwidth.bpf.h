/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Bandwidth limits of pods.  Every packet has a time when it is due at the rate.  What leaves the
 * node gets that time as its earliest departure time, which fq on the uplink keeps to.  What a pod
 * receives, and all where there is no fq, is dropped if it comes too early.
 */
#ifndef TENDRIL_DATAPATH_BPF_BANDWIDTH_BPF_H
#define TENDRIL_DATAPATH_BPF_BANDWIDTH_BPF_H

#include "datapath/bpf/ipcache.bpf.h"

/* Before this time the packet is too early; a limit that was not used up is not saved for longer
 * than burst_ns. */
static __always_inline __u64 bandwidth_due(struct bandwidth_limit *limit, __u64 now, __u64 burst_ns)
{
	if (limit->due_ns + burst_ns < now)
		limit->due_ns = now - burst_ns;
	return limit->due_ns;
}

static __noinline int bandwidth_take(struct __sk_buff *skb, __u32 slot, __u32 direction)
{
	bool paced = direction == DIR_EGRESS && node_flags() & NODE_PACED;
	struct bandwidth *bandwidth = bpf_map_lookup_elem(&bandwidth_map, &slot);
	__u64 now = bpf_ktime_get_ns(), due;
	struct bandwidth_limit *limit;

	if (!bandwidth)
		return DROP_NONE;
	limit = &bandwidth->limits[direction & 1];
	if (!limit->bytes_per_s)
		return DROP_NONE;
	due = bandwidth_due(limit, now, paced ? 0 : BANDWIDTH_BURST_NS);
	if (due > now + (paced ? BANDWIDTH_HORIZON_NS : 0))
		return DROP_BANDWIDTH;
	__sync_fetch_and_add(&limit->due_ns, skb->len * NS_PER_SEC / limit->bytes_per_s);
	if (paced && due > now)
		bpf_skb_set_tstamp(skb, due, BPF_SKB_TSTAMP_DELIVERY_MONO);
	return DROP_NONE;
}

/* Whether a packet of this pod may leave the node: a drop reason. */
static __always_inline int bandwidth_send(struct __sk_buff *skb, const struct packet *pkt)
{
	return pkt->src.flags & ENDPOINT_EGRESS_LIMITED
		       ? bandwidth_take(skb, pkt->src.slot, DIR_EGRESS)
		       : DROP_NONE;
}

/* Whether this pod may receive the packet: a drop reason. */
static __always_inline int bandwidth_receive(struct __sk_buff *skb, const struct packet *pkt)
{
	return pkt->dst.flags & ENDPOINT_INGRESS_LIMITED
		       ? bandwidth_take(skb, pkt->dst.slot, DIR_INGRESS)
		       : DROP_NONE;
}

#endif
