/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Pods that another plugin wired, and which endpoint a packet comes from.  The packet of a pod on a
 * bridge may reach its receiver through the bridge's own device.  Then the receiver's program sees
 * only that device, so from_pod leaves a slot in skb->tc_index:
 *
 *	the receiver's	if it has decided for the receiver, and the frame goes there directly
 *	the sender's	otherwise
 *
 * Why not skb->mark: most other plugins use bits of it.
 */
#ifndef TENDRIL_DATAPATH_BPF_CHAINED_BPF_H
#define TENDRIL_DATAPATH_BPF_CHAINED_BPF_H

#include "datapath/bpf/device.bpf.h"

#define HOP_LIMIT_OFFSET (ETH_HLEN + offsetof(struct ipv6hdr, hop_limit))
#define HOP_LIMIT_LINK   255 /* a router would have made it less (RFC 4861) */

/* What from_pod leaves in tc_index of a packet that passes, see above. */
static __noinline __u32 chained_tag(struct __sk_buff *skb, __u32 from, __u32 to)
{
	const struct endpoint_entry *sender = endpoint_get(from);
	const struct endpoint_entry *receiver = endpoint_get(to);
	__u8 mac[8];

	if (!sender || !receiver)
		return from;
	if (!sender->bridge_ifindex) /* it enters by the pod's own device, whatever its way */
		return to;
	if (bpf_skb_load_bytes(skb, 0, mac, ETH_ALEN))
		return from;
	return mac_equal(mac, receiver->mac) ? to : from;
}

/* The same for a packet that came through the device of a bridge: the tag must name a pod of that
 * bridge.  A container on the bridge without a program could forge the tag, so it counts only with
 * the pod's own address (of source_slot), or with the node's. */
static __noinline __u32 chained_origin(const struct __sk_buff *skb, __u32 source_slot,
				       bool behind_node)
{
	__u32 slot = skb->tc_index;
	const struct endpoint_entry *endpoint = endpoint_get(slot);

	if (!endpoint || endpoint->bridge_ifindex != skb->ingress_ifindex)
		return 0;
	return source_slot == slot || behind_node ? slot : 0;
}

/* The slot of the pod that sent a packet to the one whose program runs now; 0: none that is known.
 */
static __always_inline __u32 packet_origin(const struct __sk_buff *skb,
					   const struct ipcache_entry *source)
{
	__u32 slot = skb->ingress_ifindex ? device_slot(skb->ingress_ifindex) : 0;

	if (slot || !skb->ingress_ifindex || !(node_flags() & NODE_CHAINED))
		return slot;
	return chained_origin(skb, source->slot, source->flags & IPCACHE_HOST);
}

/* Whether a discovery message comes from this link: no router has forwarded it. */
static __noinline bool neighbour_is_on_link(struct __sk_buff *skb, const struct packet *pkt)
{
	__u8 hop_limit = 0;

	if (addr_is_on_link(&pkt->flow.daddr))
		return true;
	return !bpf_skb_load_bytes(skb, HOP_LIMIT_OFFSET, &hop_limit, 1) &&
	       hop_limit == HOP_LIMIT_LINK;
}

#endif
