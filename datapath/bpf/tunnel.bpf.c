/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Packets between pods of different nodes, inside UDP packets between the nodes: in the overlay
 * (VXLAN or Geneve), or encrypted (WireGuard).  Both kinds of device have these programs.
 *
 *	to_tunnel     egress of the device, to which the host routes the pods of other nodes:
 *	              tells the kernel to which node a packet goes
 *	from_tunnel   its ingress: what other nodes sent.  Only the sender's address says who it is,
 *	              so it must be one of the node that the packet came from
 *
 * The kernel adds and removes the outer headers.  No node is configured on the overlay's device:
 * cluster_map says who has which addresses.  WireGuard knows its peers by their keys, and drops
 * what does not come from the peer that has the sender's address.  Its packets have no frame around
 * them; ours expect one.  With direct server return the overlay's device also has packets of
 *clients outside that another node has got for a backend of this one; it exists for them alone if
 *pods of other nodes are reached without a tunnel.
 */
#include "datapath/bpf/device.bpf.h"
#include "datapath/bpf/leave.bpf.h"
#include "datapath/bpf/outside.bpf.h"

/* Whether the program runs on the device of WireGuard. */
static __always_inline bool tunnel_is_wireguard(const struct __sk_buff *skb)
{
	const struct node_state *node = node_get();

	return node && node->flags & NODE_WIREGUARD && skb->ifindex == node->wireguard_ifindex;
}

/* Puts a frame around a bare packet. */
static __noinline int tunnel_frame(struct __sk_buff *skb)
{
	__be16 protocol = (__be16)skb->protocol;

	return bpf_skb_change_head(skb, ETH_HLEN, 0) ||
			       bpf_skb_store_bytes(skb, offsetof(struct ethhdr, h_proto), &protocol,
						   sizeof(protocol), 0)
		       ? DROP_REWRITE_FAILED
		       : DROP_NONE;
}

/* ---- to_tunnel ------------------------------------------------------------------------------ */

/* Reads from the IP header on, with or without a frame. */
static __always_inline long tunnel_load(struct __sk_buff *skb, __u32 offset, void *ret, __u32 size)
{
	return bpf_skb_load_bytes_relative(skb, offset - ETH_HLEN, ret, size, BPF_HDR_START_NET);
}

/* The destination of a packet that the host's stack or another program sends, which is well-formed.
 * False: neither IPv4 nor IPv6. */
static __always_inline bool tunnel_destination(struct __sk_buff *skb, struct addr *ret)
{
	__be32 v4;

	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return !tunnel_load(skb, IP6_DADDR_OFFSET, ret, sizeof(*ret));
	if (skb->protocol != bpf_htons(ETH_P_IP) ||
	    tunnel_load(skb, IP_DADDR_OFFSET, &v4, sizeof(v4)))
		return false;
	addr_from_v4(ret, v4);
	return true;
}

/* Drops it.  What the host says to its neighbours ends here, too, and is no loss. */
static __noinline int tunnel_refuse(struct __sk_buff *skb, int reason)
{
	struct packet pkt = {};

	if ((tunnel_is_wireguard(skb) && tunnel_frame(skb)) || packet_parse(skb, &pkt) ||
	    pkt.kind == PACKET_ARP || pkt.kind == PACKET_NEIGHBOUR ||
	    addr_is_on_link(&pkt.flow.daddr))
		return TC_ACT_SHOT;
	return drop(skb, &pkt, reason, DIR_EGRESS);
}

/* The other node believes whatever comes from this one: so a packet with a pod's address that
 * somebody else has sent here must not go there.  What pods send has passed from_pod. */
static __noinline bool tunnel_is_spoofed(struct __sk_buff *skb)
{
	const struct ipcache_entry *entry;
	struct addr source;
	__be32 v4;

	if (!skb->ingress_ifindex || device_slot(skb->ingress_ifindex))
		return false;
	if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		if (tunnel_load(skb, IP6_SADDR_OFFSET, &source, sizeof(source)))
			return true;
	} else {
		if (tunnel_load(skb, IP_SADDR_OFFSET, &v4, sizeof(v4)))
			return true;
		addr_from_v4(&source, v4);
	}
	entry = bpf_map_lookup_elem(&ipcache_map, &source);
	return entry && entry->slot;
}

/* from_pod has addressed it.  Others may set tc_index themselves. */
static __always_inline bool tunnel_is_decided(const struct __sk_buff *skb)
{
	__u32 ifindex = skb->ingress_ifindex;

	if (skb->tc_index == LEAVE_TO_SERVER) /* from_uplink has */
		return ifindex && bpf_map_lookup_elem(&uplink_map, &ifindex);
	return skb->tc_index == LEAVE_DECIDED && ifindex && device_slot(ifindex);
}

SEC("tc")
int to_tunnel(struct __sk_buff *skb)
{
	struct cidr_key destination = { .prefixlen = 128 };
	const struct cluster_entry *remote = NULL;

	if (tunnel_is_decided(skb)) {
		skb->tc_index = 0;
		return TC_ACT_UNSPEC;
	}
	if (tunnel_destination(skb, &destination.addr))
		remote = remote_find(&destination);
	if (!remote)
		return tunnel_refuse(skb, DROP_NO_ROUTE);
	if (tunnel_is_spoofed(skb))
		return tunnel_refuse(skb, DROP_SPOOFED_ADDRESS);
	if (!tunnel_is_wireguard(skb))
		return tunnel_address_to(skb, &remote->node, TUNNEL_VNI) ? TC_ACT_SHOT
									 : TC_ACT_UNSPEC;
	return remote->flags & CLUSTER_SEALED ? TC_ACT_UNSPEC : tunnel_refuse(skb, DROP_NO_KEY);
}

/* ---- from_tunnel ---------------------------------------------------------------------------- */

/* Direct server return: believes other nodes that a client outside sent it to them, but not who is
 * in the cluster.  The address that the client has asked is the other node's, or a service's. */
static __always_inline int tunnel_check_client(struct packet *pkt, struct cidr_key *sender,
					       const struct cluster_entry *source)
{
	struct cidr_key key = { .prefixlen = 128, .addr = pkt->flow.daddr };
	const struct cluster_entry *node = remote_find(&key);

	pkt->from_uplink = node ? FROM_DSR_NODE_PORT : FROM_DSR;
	if (!node)
		node = remote_find(sender);
	if (!node || !addr_equal(&node->node, &sender->addr) || source)
		return DROP_DSR_SOURCE;
	return DROP_NONE;
}

/* Whoever can reach the node's port may write any packet: only what comes from the very node that
 * has the source address is believed. */
static __always_inline int tunnel_check_sender(struct __sk_buff *skb, struct packet *pkt,
					       const struct cluster_entry *source)
{
	struct cidr_key sender = { .prefixlen = 128 };
	struct bpf_tunnel_key key = {};
	__u32 flags = tunnel_family_flag();

	if (bpf_skb_get_tunnel_key(skb, &key, sizeof(key), flags))
		return DROP_TUNNEL_NETWORK;
	if (flags)
		__builtin_memcpy(&sender.addr, key.remote_ipv6, sizeof(sender.addr));
	else
		addr_from_v4(&sender.addr, bpf_htonl(key.remote_ipv4));
	if (key.tunnel_id == TUNNEL_VNI_DSR && node_flags() & NODE_DSR)
		return tunnel_check_client(pkt, &sender, source);
	if (key.tunnel_id != TUNNEL_VNI || !(node_flags() & NODE_TUNNEL))
		return DROP_TUNNEL_NETWORK;
	return source && addr_equal(&source->node, &sender.addr) ? DROP_NONE : DROP_TUNNEL_SOURCE;
}

/* WireGuard has checked which peer sent it; the address must be one of another node all the same.
 */
static __noinline int tunnel_find_source(struct __sk_buff *skb, struct packet *pkt)
{
	struct cidr_key source = { .prefixlen = 128, .addr = pkt->flow.saddr };
	const struct cluster_entry *remote = remote_find(&source);
	struct ipcache_entry entry;
	int reason;

	if (tunnel_is_wireguard(skb))
		reason = remote ? DROP_NONE : DROP_TUNNEL_SOURCE;
	else
		reason = tunnel_check_sender(skb, pkt, remote);
	if (reason)
		return reason;
	entry = ipcache_lookup(&source.addr);
	pkt->src.identity = entry.identity;
	pkt->src_claimed = entry.identity;
	return pkt->from_uplink >= FROM_DSR && (entry.slot || entry.flags & IPCACHE_HOST)
		       ? DROP_DSR_SOURCE
		       : DROP_NONE;
}

/* A client of a service on this node, or the answer to what this node asked in a client's place. */
static __always_inline bool tunnel_asks_service(const struct packet *pkt)
{
	return pkt->from_uplink >= FROM_DSR ||
	       (pkt->dst_flags & IPCACHE_HOST &&
		(pkt->kind == PACKET_ICMP_ERROR || nat_has_port(pkt)));
}

/* Direct server return: the client is not behind the tunnel. */
static __noinline int tunnel_answer_client(struct __sk_buff *skb, const struct packet *pkt)
{
	struct bpf_redir_neigh next = {};
	struct bpf_fib_lookup fib = {};
	long found = route_find(skb, pkt, &pkt->flow.daddr, &pkt->flow.saddr, &fib);

	if (found != BPF_FIB_LKUP_RET_SUCCESS && found != BPF_FIB_LKUP_RET_NO_NEIGH)
		return TC_ACT_SHOT;
	next.nh_family = fib.family;
	__builtin_memcpy(next.ipv6_nh, fib.ipv6_dst, sizeof(next.ipv6_nh));
	return (int)bpf_redirect_neigh((int)fib.ifindex, &next, sizeof(next), 0);
}

/* The answer turns the frame's MACs round.  Both are the other node's own, whose kernel takes a
 * frame with that source for a loop. */
static __always_inline int tunnel_reject(struct __sk_buff *skb, const struct packet *pkt,
					 int reason)
{
	static const __u8 nobody[ETH_ALEN] = { 2 };
	int action;

	if (bpf_skb_store_bytes(skb, 0, nobody, sizeof(nobody), 0))
		return TC_ACT_SHOT;
	action = reject(skb, pkt, reason);
	return action == TC_ACT_REDIRECT && pkt->from_uplink >= FROM_DSR
		       ? tunnel_answer_client(skb, pkt)
		       : action;
}

SEC("tc")
int from_tunnel(struct __sk_buff *skb)
{
	struct packet pkt = { .from_uplink = FROM_OUTSIDE };
	const struct endpoint_entry *pod = NULL;
	int reason = DROP_NONE;

	if (tunnel_is_wireguard(skb))
		reason = tunnel_frame(skb);
	if (!reason)
		reason = packet_parse(skb, &pkt);
	if (!reason && pkt.kind != PACKET_PLAIN && pkt.kind != PACKET_ICMP_ERROR)
		reason = DROP_BAD_HEADER; /* nobody asks for neighbours here */
	if (!reason)
		reason = tunnel_find_source(skb, &pkt);
	if (!reason && pkt.fragment)
		packet_fragment(&pkt);
	if (!reason)
		reason = find_destination(&pkt);
	if (!reason && tunnel_asks_service(&pkt)) {
		reason = uplink_translate(skb, &pkt);
		if (!reason && !pkt.translated && pkt.from_uplink >= FROM_DSR)
			reason = DROP_NO_SERVICE;
		if (!reason && pkt.translated)
			reason = uplink_find_receiver(&pkt);
		if (!reason)
			reason = uplink_check(skb, &pkt);
	} else if (!reason && !pkt.dst.slot && !(pkt.dst_flags & IPCACHE_HOST)) {
		reason = DROP_NO_ENDPOINT; /* this node is no router for others */
	}
	if (!reason && !pkt.translated) {
		pod = bypass_receiver(skb, &pkt);
		if (pod)
			reason = receive_check(skb, &pkt, pod);
	}
	if (drop_is_preliminary(reason))
		return TC_ACT_UNSPEC;
	if (reason) {
		drop_count(skb, &pkt, reason, DIR_INGRESS);
		return reason == DROP_NO_ENDPOINT || uplink_is_answered(reason)
			       ? tunnel_reject(skb, &pkt, reason)
			       : TC_ACT_SHOT;
	}
	/* The frame inside has whatever MACs: the addresses say whose it is. */
	if (skb->pkt_type != PACKET_HOST)
		bpf_skb_change_type(skb, PACKET_HOST);
	return pkt.translated || pod ? uplink_send(skb, &pkt) : TC_ACT_UNSPEC;
}
