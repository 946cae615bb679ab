/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The two tc programs of a node.
 *
 *	from_pod   ingress of the host end of each pod's veth: everything a pod sends
 *	to_pod     egress of HOST_DEVICE, where the host routes the pod addresses: everything that
 *	           reaches a pod by the host's stack.  Also egress of the
 *	           host end of each pod's veth: all that reaches a pod which another plugin wired,
 *	           and what another route leads to ours
 *
 * Both read as their stages; a stage returns a drop reason, and only drop() makes a verdict of it.
 */
#include "datapath/bpf/chained.bpf.h"
#include "datapath/bpf/endpoint.bpf.h"
#include "datapath/bpf/leave.bpf.h"
#include "datapath/bpf/neighbour.bpf.h"
#include "datapath/bpf/receive.bpf.h"
#include "datapath/bpf/reject.bpf.h"

#define ARP_ETHERNET 1

#define JUMBO_HEADER_LEN 8
#define JUMBO_L4_OFFSET  (ETH_HLEN + sizeof(struct ipv6hdr) + JUMBO_HEADER_LEN)
#define JUMBO_LENGTH_MIN (JUMBO_L4_OFFSET + 65536 - JUMBO_HEADER_LEN)
/* Less fits the least MTU of IPv6 anyway, and must not become nothing. */
#define JUMBO_GSO_SIZE_MIN 1024

/* ---- from_pod ------------------------------------------------------------------------------- */

/* An ARP packet, for the host's stack or a bridge alone: its sender must be the pod.  A function of
 * its own: the stack of from_pod and what it calls may be 512 bytes together. */
static __noinline int pod_check_arp(struct __sk_buff *skb, __u32 slot,
				    const struct endpoint_entry *endpoint)
{
	struct { /* linux/if_arp.h cannot be included for BPF: it wants libc's headers */
		__be16 hardware;
		__be16 protocol;
		__u8 mac_len;
		__u8 addr_len;
		__be16 operation;
		__u8 sender_mac[ETH_ALEN];
		__u8 sender[4];
	} arp;
	__be32 sender;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &arp, sizeof(arp)))
		return DROP_TRUNCATED;
	if (arp.hardware != bpf_htons(ARP_ETHERNET) || arp.protocol != bpf_htons(ETH_P_IP) ||
	    arp.mac_len != ETH_ALEN || arp.addr_len != sizeof(arp.sender))
		return DROP_BAD_HEADER;
	if (!mac_equal(arp.sender_mac, endpoint->mac))
		return DROP_SPOOFED_MAC;
	__builtin_memcpy(&sender, arp.sender, sizeof(sender));
	/* 0: a probe for a duplicate address */
	if (sender && sender != endpoint->v4.w[3])
		return DROP_SPOOFED_ADDRESS;
	return budget_take_neighbour(slot) ? DROP_NONE : DROP_RATE_LIMITED;
}

/* The link-local address that the pod's device makes of its MAC (EUI-64, RFC 4291).  Not inline:
 * the stack of from_pod with all that it calls is 512 bytes, which Linux 6.1 counts in steps of 32.
 */
static __noinline bool endpoint_has_link_local(const struct endpoint_entry *endpoint,
					       const struct addr *addr)
{
	const __u8 *mac = endpoint->mac;

	return addr->w[0] == bpf_htonl(0xfe800000) && !addr->w[1] &&
	       addr->w[2] == bpf_htonl((__u32)(mac[0] ^ 2) << 24 | (__u32)mac[1] << 16 |
				       (__u32)mac[2] << 8 | 0xff) &&
	       addr->w[3] ==
		       bpf_htonl(0xfe000000 | (__u32)mac[3] << 16 | (__u32)mac[4] << 8 | mac[5]);
}

/* Decision 0: a pod sends from its own MAC and its own addresses.  Only IPv6 discovery, which stays
 * on the link, may come from no address, or from the one link-local address of the pod's MAC: each
 * further source would take an entry of the node's neighbour table. */
static __always_inline int pod_check_source(struct __sk_buff *skb, const struct packet *pkt,
					    const struct endpoint_entry *endpoint)
{
	if (!mac_equal(pkt->mac, endpoint->mac))
		return DROP_SPOOFED_MAC;
	if (pkt->kind == PACKET_ARP)
		return pod_check_arp(skb, pkt->src.slot, endpoint);
	if (endpoint_has_addr(endpoint, pkt->ipv6, &pkt->flow.saddr))
		return DROP_NONE;
	if (pkt->kind == PACKET_NEIGHBOUR &&
	    (addr_is_zero(&pkt->flow.saddr) || endpoint_has_link_local(endpoint, &pkt->flow.saddr)))
		return DROP_NONE;
	return DROP_SPOOFED_ADDRESS;
}

/* Discovery is for the host, which answers it, and on a bridge for the pods there; it does not
 * leave the link.  What a pod on a bridge says to somebody else is for policy, as any other packet.
 */
static __always_inline int pod_check_neighbour(struct packet *pkt)
{
	bool chained = pkt->src.flags & ENDPOINT_CHAINED;

	if (!addr_is_on_link(&pkt->flow.daddr) && !(pkt->dst_flags & IPCACHE_HOST) &&
	    !(chained && pkt->dst.slot)) {
		if (!chained)
			return DROP_BAD_HEADER;
		pkt->kind = PACKET_PLAIN;
	}
	return budget_take_neighbour(pkt->src.slot) ? DROP_NONE : DROP_RATE_LIMITED;
}

static __always_inline bool pod_asks_service(const struct packet *pkt)
{
	if (pkt->dst_flags & IPCACHE_SERVICE)
		return true;
	return pkt->dst_flags & IPCACHE_HOST && pkt->kind == PACKET_PLAIN && nat_has_port(pkt);
}

/* Decision 10: services.  A packet to one is to its backend from here on. */
static __always_inline int pod_translate(struct __sk_buff *skb, struct packet *pkt)
{
	int reason = pkt->kind == PACKET_ICMP_ERROR ? icmp_error_translate(skb, pkt)
						    : nat_request(skb, pkt);

	if (!reason && !pkt->translated)
		return pkt->dst_flags & IPCACHE_SERVICE ? DROP_UNRELATED_ERROR : DROP_NONE;
	if (!reason)
		reason = find_destination(pkt);
	if (!reason && pkt->dst.slot)
		nat_mark_translated(pkt->dst.slot);
	return reason;
}

/*
 * An IPv6 packet of more than 64 KiB carries a jumbo header that its segments will not have,
 * but ip6_forward() counts it in.  The pod's routes leave room for it on links of the pod's own MTU
 * (agent/endpoint/big_tcp.h); segments for a narrower path give those bytes up here.  The way to a
 * smaller gso_size is to let the packet grow, and to take the room out again.  Not for full
 * segments: the packet is marked as to be checked, and a veth that it is sent by spoils such a
 * packet.
 */
static __always_inline int pod_shorten_segments(struct __sk_buff *skb, const struct packet *pkt)
{
	__u32 gso_size, segment, mtu = 0;

	if (pkt->length < JUMBO_LENGTH_MIN || pkt->l4_offset != JUMBO_L4_OFFSET)
		return DROP_NONE;
	gso_size = skb->gso_size;
	if (gso_size < JUMBO_GSO_SIZE_MIN)
		return DROP_NONE;
	segment = pkt->length - ETH_HLEN - pkt->payload + gso_size;
	bpf_check_mtu(skb, 0, &mtu, 0, 0);
	if (segment >= mtu || bpf_skb_adjust_room(skb, JUMBO_HEADER_LEN, BPF_ADJ_ROOM_NET, 0))
		return DROP_NONE;
	return bpf_skb_adjust_room(skb, -JUMBO_HEADER_LEN, BPF_ADJ_ROOM_NET,
				   BPF_F_ADJ_ROOM_FIXED_GSO)
		       ? DROP_REWRITE_FAILED
		       : DROP_NONE;
}

/*
 * What leaves the node goes straight to the tunnel or the uplink if nothing of the host has to see
 * it.  All that the host's stack knows better is left to the stack: an unknown neighbour, packets
 * that are too big, that have passed too many routers or carry options.
 */
static __always_inline int pod_leave(struct __sk_buff *skb, struct packet *pkt)
{
	int reason = pkt->kind == PACKET_NEIGHBOUR ? DROP_NONE : bandwidth_send(skb, pkt);

	if (reason)
		return reason;
	if (!pkt->forwarded && pkt->kind != PACKET_NEIGHBOUR &&
	    !(pkt->src.flags & ENDPOINT_CHAINED) && host_is_bypassed()) {
		reason = leave_node(skb, pkt);
		if (reason || pkt->forwarded)
			return reason;
	}
	return neighbour_check(skb, pkt);
}

/* Filters of another plugin behind ours on the same device shall see it, too.  During a takeover
 * there stands our own former program, which only drops that are preliminary may reach. */
static __always_inline int chained_pass(struct __sk_buff *skb, __u32 tag)
{
	if (node_flags() & NODE_TAKEOVER) {
		skb->tc_classid = tag; /* which the kernel copies to tc_index */
		return TC_ACT_OK;
	}
	skb->tc_index = (__u16)tag;
	return TC_ACT_UNSPEC;
}

/*
 * Decision 11: a pod of this node gets the packet at once, unchanged; the rest is the host's, or
 * has left the node already.  What is from or to a pod that another plugin wired goes the way of
 * that plugin, and to_pod counts it.
 */
static __always_inline int pod_deliver(struct __sk_buff *skb, const struct packet *pkt)
{
	stats_sent(pkt);
	if (pkt->forwarded)
		return TC_ACT_REDIRECT;
	if (pkt->src.flags & ENDPOINT_CHAINED)
		return chained_pass(skb, chained_tag(skb, pkt->src.slot, pkt->dst.slot));
	if (!pkt->dst.slot || pkt->dst.flags & ENDPOINT_CHAINED) {
		/* The kernel copies it to tc_index, see to_pod_is_done(); what is there now may be
		 * of the pod's making. */
		skb->tc_classid = 0;
		return TC_ACT_OK;
	}
	stats_received(pkt);
	return (int)bpf_redirect_peer((int)(ENDPOINT_IFINDEX_BASE + pkt->dst.slot), 0);
}

/*
 * Whether the sender's socket got this destination as backend of a service, and it is none any
 * more. A connected UDP socket does not ask for another one, so it must be told.
 */
static __noinline bool pod_lost_backend(struct __sk_buff *skb, const struct packet *pkt)
{
	const struct sock_service *stored;
	struct service service = {};
	struct bpf_sock *sk;
	__u32 index;

	sk = skb->sk;
	if (!sk || pkt->flow.proto != IPPROTO_UDP)
		return false;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return false;
	stored = bpf_sk_storage_get(&sock_service, sk, NULL, 0);
	if (!stored || stored->backend_port != pkt->flow.dport ||
	    !addr_equal(&stored->backend_addr, &pkt->flow.daddr))
		return false;
	index = stored->backend;
	return !service_lookup(&stored->addr, stored->port, IPPROTO_UDP, &service) ||
	       !service_has_backend(&service, &stored->backend_addr, stored->backend_port, &index);
}

/* Whether the sender gets an answer that ends its call at once.  What policy denies has none. */
static __always_inline bool pod_is_rejected(struct __sk_buff *skb, const struct packet *pkt,
					    int reason)
{
	switch (reason) {
	case DROP_NO_BACKEND:
	case DROP_NO_ENDPOINT:
	case DROP_TOO_BIG:
	case DROP_TTL_EXCEEDED:
		return true;
	case DROP_EGRESS_DENIED:
	case DROP_INGRESS_DENIED:
		return pod_lost_backend(skb, pkt);
	default:
		return false;
	}
}

SEC("tc")
int from_pod(struct __sk_buff *skb)
{
	struct packet pkt = {};
	const struct endpoint_entry *endpoint;
	int reason;

	pkt.src.slot = device_slot(skb->ifindex);
	endpoint = endpoint_get(pkt.src.slot);
	if (!endpoint) {
		pkt.src.slot = 0;
		return drop(skb, &pkt, DROP_NO_ENDPOINT, DIR_EGRESS);
	}
	reason = packet_parse(skb, &pkt);
	policy_end_load(endpoint, pkt.src.slot, pkt.ipv6, &pkt.src);
	pkt.src_claimed = pkt.src.identity;
	if (!reason)
		reason = pod_check_source(skb, &pkt, endpoint);
	if (!reason && pkt.kind == PACKET_ARP)
		return pod_deliver(skb, &pkt);
	if (!reason && pkt.fragment)
		packet_fragment(&pkt);
	if (!reason)
		reason = find_destination(&pkt);
	if (!reason && pkt.kind == PACKET_NEIGHBOUR)
		reason = pod_check_neighbour(&pkt);
	else if (!reason && pod_asks_service(&pkt))
		reason = pod_translate(skb, &pkt);
	if (!reason && !pkt.dst.slot && addr_is_loopback(&pkt.flow.daddr))
		reason = DROP_BAD_HEADER;
	if (!reason && pkt.kind != PACKET_NEIGHBOUR && verdict_is_needed(&pkt))
		reason = verdict(skb, &pkt);
	if (!reason && endpoint->translated)
		reason = untranslate(skb, &pkt);
	if (!reason)
		reason = pod_shorten_segments(skb, &pkt);
	if (!reason)
		reason = bandwidth_deliver(skb, &pkt);
	if (!reason && !pkt.dst.slot && !(pkt.dst_flags & IPCACHE_HOST))
		reason = pod_leave(skb, &pkt);
	if (reason) {
		if (drop_is_preliminary(reason))
			return TC_ACT_UNSPEC;
		drop_count(skb, &pkt, reason, DIR_EGRESS);
		return pod_is_rejected(skb, &pkt, reason) ? reject(skb, &pkt, reason) : TC_ACT_SHOT;
	}
	verdict_report(skb, &pkt, DIR_EGRESS);
	return pod_deliver(skb, &pkt);
}

/* ---- to_pod --------------------------------------------------------------------------------- */

/*
 * Who sent it.  The address alone does not tell:
 *	- A packet that entered by a pod's device is from that pod, even if the host's NAT has
 *	  changed its address (a published port, masquerading).  Ingress policy sees the pod's
 *	  identity.  from_pod has checked egress policy against the destination that the pod used;
 *	  it is checked again only if the source address is still the pod's own, because then
 *	  from_pod did not know that the destination is a pod.
 *	- A packet with a pod's address that entered by another device is forged.
 *	- Packets that a process of the node sends from an address of the node always pass.  Packets
 *	  that are only forwarded under such an address (masqueraded) have the node's identity.
 */
static __always_inline int pod_find_source(struct __sk_buff *skb, struct packet *pkt)
{
	struct ipcache_entry entry = ipcache_lookup(&pkt->flow.saddr);
	__u32 origin = packet_origin(skb, &entry);
	const struct endpoint_entry *endpoint = endpoint_get(origin);

	pkt->src_claimed = entry.identity;
	pkt->src.identity = entry.identity;
	if (entry.slot && skb->ingress_ifindex && entry.slot != origin)
		return DROP_SPOOFED_ADDRESS;
	if (!origin) {
		int reason = receive_check_way(skb, pkt);

		if (reason)
			return reason;
	}
	if (endpoint) {
		policy_end_load(endpoint, origin, pkt->ipv6, &pkt->src);
		if (entry.slot != origin)
			pkt->src.flags = 0;
	} else if (!skb->ingress_ifindex && entry.flags & IPCACHE_HOST) {
		pkt->from_node = 1;
		pkt->dst.flags &= ~(__u32)ENDPOINT_INGRESS_ISOLATED;
	}
	return DROP_NONE;
}

/* from_pod counts no packet as received that another plugin has yet to deliver. */
static __noinline bool chained_is_done(struct __sk_buff *skb, __u32 slot)
{
	if (!device_slot(skb->ingress_ifindex))
		return false;
	stats_count_received(slot, skb->len);
	return true;
}

/*
 * Whether it was decided on already: to_pod has done so on HOST_DEVICE and redirected the packet,
 * from_pod of another pod has (chained.bpf.h), or reject() has made it.  tc_index names the device
 * that this holds for.  Where the host's stack or a bridge leads packets here, it is believed only
 * of those that entered by a pod's device: others could have set it themselves.
 */
static __always_inline bool to_pod_is_done(struct __sk_buff *skb, __u32 slot,
					   const struct endpoint_entry *endpoint)
{
	if (!slot || skb->tc_index != slot)
		return false;
	if (endpoint && endpoint->flags & ENDPOINT_CHAINED && !chained_is_done(skb, slot))
		return false;
	skb->tc_index = 0;
	return true;
}

/* What the host itself says to its neighbours: ARP, discovery, groups, protocols of the link such
 * as LLDP.  Behind HOST_DEVICE nobody lives, which drops them.  On a bridge other pods speak, too:
 * of theirs only ARP and discovery are of the link, groups are for policy. */
static __always_inline bool to_pod_is_link(struct __sk_buff *skb, const struct packet *pkt,
					   bool chained, int reason)
{
	if (pkt->kind == PACKET_ARP ||
	    (addr_is_on_link(&pkt->flow.daddr) && !(chained && skb->ingress_ifindex)))
		return true;
	if (chained && pkt->kind == PACKET_NEIGHBOUR)
		return neighbour_is_on_link(skb, pkt);
	return !skb->ingress_ifindex &&
	       (pkt->kind == PACKET_NEIGHBOUR || reason == DROP_UNKNOWN_PROTOCOL);
}

static __always_inline int pass_to(struct __sk_buff *skb, const struct endpoint_entry *endpoint)
{
	return endpoint && endpoint->flags & ENDPOINT_CHAINED ? chained_pass(skb, 0) : TC_ACT_OK;
}

static __always_inline int to_pod_deliver(struct __sk_buff *skb, const struct packet *pkt,
					  const struct endpoint_entry *endpoint)
{
	if (!device_is_host(skb->ifindex)) { /* the MACs are right already */
		stats_received(pkt);
		return pass_to(skb, endpoint);
	}
	if (endpoint->flags & ENDPOINT_CHAINED)
		return drop(skb, pkt, DROP_NO_ENDPOINT,
			    DIR_INGRESS); /* it is not behind HOST_DEVICE */
	if (packet_address_to(skb, endpoint))
		return drop(skb, pkt, DROP_REWRITE_FAILED, DIR_INGRESS);
	stats_received(pkt);
	skb->tc_index = (__u16)pkt->dst.slot;
	return (int)bpf_redirect((int)(ENDPOINT_IFINDEX_BASE + pkt->dst.slot), 0);
}

SEC("tc")
int to_pod(struct __sk_buff *skb)
{
	__u32 slot = device_slot(skb->ifindex);
	const struct endpoint_entry *endpoint = endpoint_get(slot);
	struct packet pkt = {};
	int reason = DROP_NONE;

	if (to_pod_is_done(skb, slot, endpoint)) {
		if (endpoint && endpoint->flags & ENDPOINT_CHAINED &&
		    endpoint->flags & ENDPOINT_INGRESS_LIMITED)
			reason = bandwidth_take(skb, slot, DIR_INGRESS);
		return reason ? drop(skb, &pkt, reason, DIR_INGRESS) : pass_to(skb, endpoint);
	}
	if (!slot && !device_is_host(skb->ifindex)) /* of a pod that was let go */
		return drop(skb, &pkt, DROP_NO_ENDPOINT, DIR_INGRESS);
	reason = packet_parse(skb, &pkt);
	if (to_pod_is_link(skb, &pkt, endpoint && endpoint->flags & ENDPOINT_CHAINED, reason))
		return pass_to(skb, endpoint);
	if (!reason && !slot) {
		reason = find_by_address(&pkt, NULL);
		endpoint = endpoint_get(pkt.dst.slot);
	}
	if (!reason && !endpoint)
		reason = DROP_NO_ENDPOINT;
	if (slot && endpoint)
		policy_end_load(endpoint, slot, pkt.ipv6, &pkt.dst);
	if (!reason)
		reason = pod_find_source(skb, &pkt);
	if (!reason && pkt.fragment)
		packet_fragment(&pkt);
	if (!reason && endpoint)
		reason = receive_check(skb, &pkt, endpoint);
	if (reason || !endpoint) {
		if (drop_is_preliminary(reason))
			return TC_ACT_UNSPEC;
		drop_count(skb, &pkt, reason, DIR_INGRESS);
		return reason == DROP_NO_ENDPOINT && device_is_host(skb->ifindex)
			       ? reject(skb, &pkt, reason)
			       : TC_ACT_SHOT;
	}
	verdict_report(skb, &pkt, DIR_INGRESS);
	return to_pod_deliver(skb, &pkt, endpoint);
}
