/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What comes to the node from outside, by an uplink or by the tunnel: packets to services and
 * answers to what was translated here.
 */
#ifndef TENDRIL_DATAPATH_BPF_OUTSIDE_BPF_H
#define TENDRIL_DATAPATH_BPF_OUTSIDE_BPF_H

#include <linux/if_packet.h>

#include "datapath/bpf/receive.bpf.h"
#include "datapath/bpf/reject.bpf.h"

static __always_inline int uplink_translate(struct __sk_buff *skb, struct packet *pkt)
{
	int reason;

	if (pkt->kind != PACKET_ICMP_ERROR)
		return nat_request(skb, pkt);
	reason = icmp_error_translate(skb, pkt);
	if (!reason && !pkt->translated && !pkt->to_server && !(pkt->dst_flags & IPCACHE_HOST))
		return DROP_UNRELATED_ERROR;
	return reason;
}

/* Who gets a packet whose destination is a backend, or a client, by now. */
static __always_inline int uplink_find_receiver(struct packet *pkt)
{
	const struct nat_work *work = nat_work();
	int reason;

	if (pkt->forwarded)
		return DROP_NONE;
	reason = find_by_address(pkt, NULL);
	if (reason)
		return reason;
	if (work && work->way_flags & NAT_REQUEST) /* from_pod translates the answers */
		nat_mark_translated(pkt->dst.slot);
	return DROP_NONE;
}

/* Decides about a packet that was translated: its receiver is known. */
static __always_inline int uplink_check(struct __sk_buff *skb, struct packet *pkt)
{
	int reason = DROP_NONE;

	if (!pkt->dst.slot)
		return DROP_NONE;
	if (verdict_is_needed(pkt))
		reason = verdict(skb, pkt);
	return reason ? reason : bandwidth_deliver(skb, pkt);
}

/* The pod that gets the packet although the host's stack does not see it; NULL: none, the stack
 * leads it to to_pod.  Decrements the TTL as a router does. */
static __always_inline const struct endpoint_entry *bypass_receiver(struct __sk_buff *skb,
								    const struct packet *pkt)
{
	if (!pkt->dst.slot || pkt->dst.flags & ENDPOINT_CHAINED || !host_is_bypassed() ||
	    !packet_is_bare(pkt) || route_count_hop(skb, pkt))
		return NULL;
	return endpoint_get(pkt->dst.slot);
}

static __always_inline int uplink_send(struct __sk_buff *skb, const struct packet *pkt)
{
	if (pkt->forwarded)
		return TC_ACT_REDIRECT;
	if (!pkt->dst.slot || pkt->dst.flags & ENDPOINT_CHAINED)
		return TC_ACT_UNSPEC; /* a backend in the node's own stack, or behind another plugin
				       */
	verdict_report(skb, pkt, DIR_INGRESS);
	stats_received(pkt);
	return (int)bpf_redirect_peer((int)(ENDPOINT_IFINDEX_BASE + pkt->dst.slot), 0);
}

/* Whether the client is told why. */
static __always_inline bool uplink_is_answered(int reason)
{
	return reason == DROP_NO_BACKEND || reason == DROP_TOO_BIG || reason == DROP_TTL_EXCEEDED;
}

#endif
