/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Masquerade: what a pod sends out of the cluster comes from the node, which nat_map remembers as
 * any other translation.  The source becomes the node's address on the uplink by which the packet
 * leaves, and one of the ports for SNAT: so answers are known by their port, and no socket of the
 * node has it.  What cannot be answered does not leave.
 */
#ifndef TENDRIL_DATAPATH_BPF_MASQUERADE_BPF_H
#define TENDRIL_DATAPATH_BPF_MASQUERADE_BPF_H

#include "datapath/bpf/endpoint.bpf.h"
#include "datapath/bpf/icmp.bpf.h"

/* Receivers inside the cluster, and others that the agent names, see the pod itself. */
static __noinline bool masquerade_is_excluded(const struct packet *pkt)
{
	struct cidr_key key = { .prefixlen = 128, .addr = pkt->flow.daddr };

	return addr_is_on_link(&pkt->flow.daddr) || bpf_map_lookup_elem(&cluster_map, &key);
}

/* Whether the packet may be the first of its flow.  Others without a translation do not leave: the
 * pod's own address means nothing outside. */
static __always_inline bool masquerade_opens(const struct packet *pkt)
{
	return pkt->opens || pkt->flow.proto == IPPROTO_UDP ||
	       (packet_is_icmp(pkt) && !packet_is_icmp_reply(pkt));
}

/* moved: the flow had a translation that is of no use any more. */
static __noinline int masquerade_open(struct __sk_buff *skb, const struct packet *pkt,
				      struct nat_work *work, bool moved)
{
	if (addr_is_zero(&work->way.saddr))
		return DROP_NO_ROUTE;
	if (pkt->fragment >= FRAGMENT_LATER)
		return DROP_FRAGMENT;
	if (!nat_has_ports(pkt))
		return DROP_NO_MASQUERADE;
	if (nat_is_tunnel(&pkt->flow))
		return DROP_TUNNEL_PORT;
	if (!moved && !masquerade_opens(pkt))
		return DROP_NOT_OPENED;
	return nat_claim(skb, pkt, work, 0, 0);
}

/*
 * Whether a request's flow still has the node's port that its answers come to.  A flow that is used
 * keeps it, answered or not; one that was silent for long may have lost it to another.
 */
static __noinline bool masquerade_keeps_port(const struct packet *pkt,
					     const struct nat_entry *entry)
{
	struct nat_entry *back;
	struct flow answer;

	if (seen_recently(entry->seen_jiffies))
		return true;
	back = nat_sibling(entry);
	flow_reverse(&pkt->flow, &answer);
	if (!back || !flow_equal(&back->flow, &answer))
		return false;
	nat_touch(back);
	return true;
}

/* Whether the translation may go on.  If not, the flow gets a new one: where the uplink's address
 * has changed, the other end of a connection then resets it, which tells the pod at once. */
static __always_inline bool masquerade_still_serves(const struct packet *pkt,
						    const struct nat_entry *entry,
						    const struct nat_work *work)
{
	return !(pkt->opens && nat_is_done(entry)) &&
	       addr_equal(&entry->flow.saddr, &work->way.saddr) &&
	       masquerade_keeps_port(pkt, entry);
}

/* A connection that opens again where another was has its port again: so the other end knows it by
 * its timestamps, if it is in TIME_WAIT. */
static __always_inline void masquerade_keep_port(const struct nat_entry *entry,
						 struct nat_work *work)
{
	const struct node_state *node = node_get();

	if (node && is_between(entry->flow.sport, node->snat_port_min, node->snat_port_max)) {
		work->way.sport = entry->flow.sport;
		work->keep_port = 1;
	}
}

/* The node's address on the device, or else the one that it uses towards the outside. */
static __noinline void masquerade_address(__u32 ifindex, bool ipv6, struct addr *ret)
{
	const struct uplink_entry *uplink = bpf_map_lookup_elem(&uplink_map, &ifindex);
	const struct node_state *node = node_get();

	if (uplink)
		*ret = ipv6 ? uplink->v6 : uplink->v4;
	if (node && (!uplink || addr_is_zero(ret)))
		*ret = ipv6 ? node->snat_v6 : node->snat_v4;
}

/* Gives a packet of a pod to the outside the node's address on the device; pkt->translated: done.
 */
__weak int masquerade(struct __sk_buff *skb, struct packet *pkt)
{
	struct nat_work *work = nat_work();
	struct nat_entry *entry;
	struct addr own = {};
	bool known;
	int reason;

	if (!pkt || !work)
		return DROP_NONE;
	masquerade_address(skb->ifindex, pkt->ipv6, &own);
	work->from = pkt->flow;
	work->way = pkt->flow;
	work->way.saddr = own;
	work->way_flags = NAT_REQUEST;
	work->reply_flags = 0;
	work->keep_port = 0;
	entry = nat_lookup(&pkt->flow);
	known = entry && entry->flags & NAT_REQUEST;
	if (known && masquerade_still_serves(pkt, entry, work)) {
		nat_follow(skb, pkt, entry, work);
		return nat_become(skb, pkt, &work->way, 0);
	}
	if (masquerade_is_excluded(pkt))
		return DROP_NONE;
	if (known)
		masquerade_keep_port(entry, work);
	work->owner = pkt->src.slot;
	work->victims = 0;
	reason = masquerade_open(skb, pkt, work, known);
	if (reason == DROP_NAT_FULL && work->error == -E2BIG && nat_make_room())
		reason = masquerade_open(skb, pkt, work, known);
	return reason ? reason : nat_become(skb, pkt, &work->way, 0);
}

#endif
