/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Services for clients outside (node ports, host ports, addresses of load balancers), and pods that
 * talk to the outside under the node's address.
 *
 *	from_uplink   ingress of the devices by which the node reaches the outside
 *	to_uplink     their egress: what pods send out of the cluster (masquerade.bpf.h), and the
 *	              answers of backends that are processes of the node itself
 *
 * What is not translated goes on as if these programs were not there (TC_ACT_UNSPEC: other
 * programs of the device see it).  A pod's answers are translated and sent on by from_pod.
 */
#include <linux/if_packet.h>

#include "datapath/bpf/device.bpf.h"
#include "datapath/bpf/masquerade.bpf.h"
#include "datapath/bpf/reject.bpf.h"
#include "datapath/bpf/verdict.bpf.h"

/* The address that it came to: enum ipcache_flag. */
static __always_inline __u32 uplink_flags(const struct packet *pkt)
{
	struct addr daddr = pkt->flow.daddr;
	const struct ipcache_entry *entry = bpf_map_lookup_elem(&ipcache_map, &daddr);

	return entry ? entry->flags : 0;
}

/* Nobody outside has an address of this node or of its pods. */
static __always_inline int uplink_find_source(struct packet *pkt)
{
	struct ipcache_entry entry = ipcache_lookup(&pkt->flow.saddr);

	pkt->src.identity = entry.identity;
	pkt->src_claimed = entry.identity;
	return entry.slot || entry.flags & IPCACHE_HOST ? DROP_SPOOFED_ADDRESS : DROP_NONE;
}

static __always_inline int uplink_translate(struct __sk_buff *skb, struct packet *pkt)
{
	int reason;

	if (pkt->kind != PACKET_ICMP_ERROR)
		return nat_request(skb, pkt);
	reason = icmp_error_translate(skb, pkt);
	if (!reason && !pkt->translated && !(pkt->dst_flags & IPCACHE_HOST))
		return DROP_UNRELATED_ERROR;
	return reason;
}

/* What becomes of a packet whose destination is a backend, or a client, by now. */
static __always_inline int uplink_deliver(struct __sk_buff *skb, struct packet *pkt)
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
	return pkt->dst.slot && verdict_is_needed(pkt) ? verdict(skb, pkt) : DROP_NONE;
}

static __always_inline int uplink_send(const struct packet *pkt)
{
	if (pkt->forwarded)
		return TC_ACT_REDIRECT;
	if (!pkt->dst.slot || pkt->dst.flags & ENDPOINT_CHAINED)
		return TC_ACT_UNSPEC; /* a backend in the node's own stack, or behind another plugin
				       */
	verdict_report(pkt, DIR_INGRESS);
	stats_received(pkt);
	return (int)bpf_redirect_peer((int)(ENDPOINT_IFINDEX_BASE + pkt->dst.slot), 0);
}

/* Whether the client is told why. */
static __always_inline bool uplink_is_answered(int reason)
{
	return reason == DROP_NO_BACKEND || reason == DROP_TOO_BIG || reason == DROP_TTL_EXCEEDED;
}

SEC("tc")
int from_uplink(struct __sk_buff *skb)
{
	struct packet pkt = { .from_uplink = 1 };
	int reason;

	if (skb->pkt_type != PACKET_HOST || packet_parse(skb, &pkt) ||
	    (pkt.kind != PACKET_PLAIN && pkt.kind != PACKET_ICMP_ERROR))
		return TC_ACT_UNSPEC;
	pkt.dst_flags = uplink_flags(&pkt);
	if (!(pkt.dst_flags & (IPCACHE_HOST | IPCACHE_SERVICE)))
		return TC_ACT_UNSPEC;
	if (pkt.fragment)
		packet_fragment(&pkt);
	if (!(pkt.dst_flags & IPCACHE_SERVICE) && pkt.kind == PACKET_PLAIN && !nat_has_port(&pkt))
		return TC_ACT_UNSPEC;
	reason = uplink_find_source(&pkt);
	if (!reason)
		reason = uplink_translate(skb, &pkt);
	if (!reason && !pkt.translated)
		return TC_ACT_UNSPEC;
	if (!reason)
		reason = uplink_deliver(skb, &pkt);
	if (!reason)
		return uplink_send(&pkt);
	drop_count(&pkt, reason, DIR_INGRESS);
	return uplink_is_answered(reason) ? reject(skb, &pkt, reason) : TC_ACT_SHOT;
}

/* The pod whose own packet this is, if pods are masqueraded. */
static __always_inline const struct endpoint_entry *uplink_sender(const struct __sk_buff *skb)
{
	const struct endpoint_entry *endpoint;

	if (!skb->ingress_ifindex || !(node_flags() & NODE_MASQUERADE))
		return NULL;
	endpoint = endpoint_get(device_slot(skb->ingress_ifindex));
	return endpoint && !(endpoint->flags & ENDPOINT_CHAINED) ? endpoint : NULL;
}

SEC("tc")
int to_uplink(struct __sk_buff *skb)
{
	const struct endpoint_entry *pod = uplink_sender(skb), *node;
	struct packet pkt = {};
	__u32 zero = 0;
	int reason;

	node = bpf_map_lookup_elem(&endpoint_map, &zero);
	if (!node || (!pod && !node->translated) || packet_parse(skb, &pkt) ||
	    (pkt.kind != PACKET_PLAIN && pkt.kind != PACKET_ICMP_ERROR))
		return TC_ACT_UNSPEC;
	if (pkt.fragment)
		packet_fragment(&pkt);
	if (pod && endpoint_has_addr(pod, pkt.ipv6, &pkt.flow.saddr)) {
		pkt.src.slot = device_slot(skb->ingress_ifindex);
		reason = masquerade(skb, &pkt);
	} else {
		reason = pkt.kind == PACKET_ICMP_ERROR ? icmp_error_translate(skb, &pkt)
						       : nat_reply(skb, &pkt);
	}
	return reason ? drop(&pkt, reason, DIR_EGRESS) : TC_ACT_UNSPEC;
}
