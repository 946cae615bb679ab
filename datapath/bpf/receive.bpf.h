/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What a pod of this node is about to receive from somebody who is no pod of this node.  to_pod
 * asks here for what the host's stack brings, and the programs of uplinks and tunnel for what
 * bypasses the stack.
 */
#ifndef TENDRIL_DATAPATH_BPF_RECEIVE_BPF_H
#define TENDRIL_DATAPATH_BPF_RECEIVE_BPF_H

#include "datapath/bpf/bandwidth.bpf.h"
#include "datapath/bpf/verdict.bpf.h"

/* With a tunnel or strict encryption, pods of other nodes come that way, or not at all: only there
 * it is checked who sent a packet.  Returns why it must be dropped. */
__weak int receive_check_way(struct __sk_buff *skb, const struct packet *pkt)
{
	struct cidr_key key = { .prefixlen = 128 };
	const struct node_state *node = node_get();
	const struct cluster_entry *entry;

	if (!pkt || !node || !(node->flags & (NODE_TUNNEL | NODE_STRICT)) ||
	    !skb->ingress_ifindex || skb->ingress_ifindex == node->tunnel_ifindex ||
	    skb->ingress_ifindex == node->wireguard_ifindex)
		return DROP_NONE;
	key.addr = pkt->flow.saddr;
	entry = bpf_map_lookup_elem(&cluster_map, &key);
	if (!entry || addr_is_zero(&entry->node))
		return DROP_NONE;
	return node->flags & NODE_STRICT ? DROP_NOT_ENCRYPTED : DROP_TUNNEL_SOURCE;
}

/* During a takeover the former program may know a translation that is not here yet.  Where policy
 * needed an entry, it was found here, so that one does not know the flow. */
static __noinline bool untranslate_by_former(const struct packet *pkt)
{
	return !pkt->translated && node_flags() & NODE_TAKEOVER &&
	       !is_isolated(&pkt->src, &pkt->dst) && !is_isolated(&pkt->dst, &pkt->src);
}

static __always_inline int untranslate(struct __sk_buff *skb, struct packet *pkt)
{
	int reason;

	if (pkt->fragment == FRAGMENT_ORPHAN)
		return DROP_FRAGMENT;
	reason = reply_translate(skb, pkt);
	return !reason && untranslate_by_former(pkt) ? DROP_NOT_OPENED : reason;
}

/* Decides about a packet whose ends are known, and makes of it what the pod expects. */
static __always_inline int receive_check(struct __sk_buff *skb, struct packet *pkt,
					 const struct endpoint_entry *endpoint)
{
	int reason = verdict_is_needed(pkt) ? verdict(skb, pkt) : DROP_NONE;

	if (!reason && endpoint->translated)
		reason = untranslate(skb, pkt);
	return reason ? reason : bandwidth_receive(skb, pkt);
}

#endif
