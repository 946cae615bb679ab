/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Answers the sender of a packet that is dropped.  For a service without a ready endpoint, or an
 * address of the node's own range that no pod has, connect() or send() fails at once with
 * ECONNREFUSED, not after a timeout.  For a packet that is too big for its route, or has passed too
 * many routers, the sender gets the ICMP error that a router would send.
 *
 * The answer to TCP is a reset, made from the packet in place.  An ICMP error arrives here while
 * connect() still holds the lock of its socket, and the kernel then takes it only as a hint.  The
 * answer to UDP is a port unreachable.
 */
#ifndef TENDRIL_DATAPATH_BPF_REJECT_BPF_H
#define TENDRIL_DATAPATH_BPF_REJECT_BPF_H

#include "datapath/bpf/device.bpf.h"
#include "datapath/bpf/nat.bpf.h"

#define REJECT_TTL 64

/* Bytes of the transport header that an error quotes.  If the sender left the checksum to the
 * device, the kernel cuts no packet before that checksum: TCP's comes after the first 8 bytes. */
#define REJECT_QUOTE     8
#define REJECT_QUOTE_TCP sizeof(struct tcphdr)

struct reject_v4 {
	struct iphdr ip;
	struct icmp_header icmp;
	__u8 embedded[sizeof(struct iphdr) + REJECT_QUOTE_TCP];
};

struct reject_v6 {
	struct ipv6hdr ip;
	struct icmp_header icmp;
	__u8 embedded[sizeof(struct ipv6hdr) + REJECT_QUOTE_TCP];
};

/* Swaps addresses and ports, which leaves the checksum as it is. */
static __always_inline int reject_tcp(struct __sk_buff *skb, const struct packet *pkt)
{
	__be16 ports[2] = { pkt->flow.dport, pkt->flow.sport };
	struct addr ends[2] = { pkt->flow.daddr, pkt->flow.saddr };
	__be32 v4_ends[2] = { ends[0].w[3], ends[1].w[3] };
	__be32 old[3], new[3]; /* sequence, acknowledgement, offset with flags and window */
	__s64 diff;

	if (bpf_skb_load_bytes(skb, pkt->l4_offset + 4, old, sizeof(old)))
		return -1;
	new[0] = pkt->tcp_flags &TCP_ACK ? bpf_htonl(pkt->ack) : 0;
	new[1] = bpf_htonl(pkt->seq + pkt->opens + pkt->payload);
	new[2] = (old[2] & bpf_htonl(0xf0000000)) | bpf_htonl((TCP_RST | TCP_ACK) << 16);
	diff = bpf_csum_diff(old, sizeof(old), new, sizeof(new), 0);
	if (bpf_l4_csum_replace(skb, pkt->l4_offset + TCP_CHECK_OFFSET, 0, (__u64)diff, 0) ||
	    bpf_skb_store_bytes(skb, pkt->l4_offset + 4, new, sizeof(new), 0) ||
	    bpf_skb_store_bytes(skb, pkt->l4_offset, ports, sizeof(ports), 0))
		return -1;
	if (pkt->ipv6)
		return (int)bpf_skb_store_bytes(skb, IP6_SADDR_OFFSET, ends, sizeof(ends), 0);
	return (int)bpf_skb_store_bytes(skb, IP_SADDR_OFFSET, v4_ends, sizeof(v4_ends), 0);
}

static __always_inline __sum16 reject_fold(__s64 sum)
{
	__u32 folded = ((__u32)sum & 0xffff) + ((__u32)sum >> 16);

	return (__sum16) ~(folded + (folded >> 16));
}

/* Type, code and MTU of the ICMP error for a drop reason. */
static __always_inline void reject_fill(const struct packet *pkt, int reason,
					struct icmp_header *icmp)
{
	switch (reason) {
	case DROP_TOO_BIG:
		icmp->type = pkt->ipv6 ? ICMPV6_PKT_TOOBIG : ICMP_DEST_UNREACH;
		icmp->code = pkt->ipv6 ? 0 : ICMP_FRAG_NEEDED;
		icmp->sequence = bpf_htons(pkt->mtu);
		break;
	case DROP_TTL_EXCEEDED:
		icmp->type = pkt->ipv6 ? ICMPV6_TIME_EXCEED : ICMP_TIME_EXCEEDED;
		break;
	default:
		icmp->type = pkt->ipv6 ? ICMPV6_DEST_UNREACH : ICMP_DEST_UNREACH;
		icmp->code = pkt->ipv6 ? ICMPV6_PORT_UNREACH : ICMP_PORT_UNREACH;
	}
}

static __always_inline __u32 reject_quote(const struct packet *pkt)
{
	return pkt->flow.proto == IPPROTO_TCP ? REJECT_QUOTE_TCP : REJECT_QUOTE;
}

static __noinline int reject_icmp(struct __sk_buff *skb, const struct packet *pkt, int reason)
{
	struct reject_v4 head = {}; /* zeros after the quoted bytes do not change the checksum */
	__u32 quoted = sizeof(struct iphdr) + reject_quote(pkt);

	if (bpf_skb_load_bytes(skb, ETH_HLEN, head.embedded, quoted) ||
	    bpf_skb_change_tail(skb, ETH_HLEN + quoted, 0) ||
	    bpf_skb_adjust_room(skb, offsetof(struct reject_v4, embedded), BPF_ADJ_ROOM_MAC, 0))
		return -1;
	head.ip.version = 4;
	head.ip.ihl = sizeof(head.ip) / 4;
	head.ip.tot_len = bpf_htons((__u16)(offsetof(struct reject_v4, embedded) + quoted));
	head.ip.ttl = REJECT_TTL;
	head.ip.protocol = IPPROTO_ICMP;
	head.ip.saddr = pkt->flow.daddr.w[3];
	head.ip.daddr = pkt->flow.saddr.w[3];
	head.ip.check = reject_fold(bpf_csum_diff(NULL, 0, (__be32 *)&head.ip, sizeof(head.ip), 0));
	reject_fill(pkt, reason, &head.icmp);
	head.icmp.check = reject_fold(
		bpf_csum_diff(NULL, 0, (__be32 *)&head.icmp, sizeof(head) - sizeof(head.ip), 0));
	return (int)bpf_skb_store_bytes(skb, ETH_HLEN, &head, offsetof(struct reject_v4, embedded),
					0);
}

static __noinline int reject_icmp6(struct __sk_buff *skb, const struct packet *pkt, int reason)
{
	struct reject_v6 head = {};
	__u32 quoted = sizeof(struct ipv6hdr) + reject_quote(pkt);
	__u32 length = sizeof(head.icmp) + quoted;
	__be32 pseudo[2] = { bpf_htonl(length), bpf_htonl(IPPROTO_ICMPV6) };
	__s64 sum;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, head.embedded, quoted) ||
	    bpf_skb_change_tail(skb, ETH_HLEN + quoted, 0) ||
	    bpf_skb_adjust_room(skb, offsetof(struct reject_v6, embedded), BPF_ADJ_ROOM_MAC, 0))
		return -1;
	head.ip.version = 6;
	head.ip.payload_len = bpf_htons((__u16)length);
	head.ip.nexthdr = IPPROTO_ICMPV6;
	head.ip.hop_limit = REJECT_TTL;
	__builtin_memcpy(&head.ip.saddr, &pkt->flow.daddr, sizeof(head.ip.saddr));
	__builtin_memcpy(&head.ip.daddr, &pkt->flow.saddr, sizeof(head.ip.daddr));
	reject_fill(pkt, reason, &head.icmp);
	sum = bpf_csum_diff(NULL, 0, pseudo, sizeof(pseudo), 0);
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&head.ip.saddr, 2 * sizeof(head.ip.saddr),
			    (__u32)sum);
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&head.icmp, sizeof(head) - sizeof(head.ip),
			    (__u32)sum);
	head.icmp.check = reject_fold(sum);
	return (int)bpf_skb_store_bytes(skb, ETH_HLEN, &head, offsetof(struct reject_v6, embedded),
					0);
}

/* Sends the frame back: to the pod that the device belongs to, out of the uplink to the router that
 * it came from, or into the host's stack as if it came in by HOST_DEVICE, whose own MAC is the
 * source of all it sends. */
static __always_inline int reject_send(struct __sk_buff *skb, const struct packet *pkt)
{
	__u32 slot = device_slot(skb->ifindex);
	const struct endpoint_entry *endpoint = bpf_map_lookup_elem(&endpoint_map, &slot);
	__u8 own[ETH_ALEN];

	if (slot && endpoint) {
		skb->tc_index = (__u16)slot; /* to_pod shall not check it */
		return packet_address_to(skb, endpoint) ? TC_ACT_SHOT
							: (int)bpf_redirect(skb->ifindex, 0);
	}
	if (pkt->from_uplink && (bpf_skb_load_bytes(skb, 0, own, sizeof(own)) ||
				 bpf_skb_store_bytes(skb, ETH_ALEN, own, sizeof(own), 0)))
		return TC_ACT_SHOT;
	if (bpf_skb_store_bytes(skb, 0, pkt->mac, sizeof(pkt->mac), 0))
		return TC_ACT_SHOT;
	return (int)bpf_redirect(skb->ifindex, pkt->from_uplink ? 0 : BPF_F_INGRESS);
}

/* Resets what opens a connection, and one whose backend is gone. */
static __always_inline bool reject_resets(const struct packet *pkt, int reason)
{
	return pkt->opens || (reason == DROP_NO_BACKEND && !(pkt->tcp_flags & TCP_RST));
}

/* Turns a dropped packet into the answer; the caller has counted the drop.  Packets with options or
 * extension headers, and fragments, get no answer.  Returns the program's verdict. */
__weak int reject(struct __sk_buff *skb, const struct packet *pkt, int reason)
{
	bool refused = reason != DROP_TOO_BIG && reason != DROP_TTL_EXCEEDED;
	int failed = -1;

	if (!pkt || pkt->fragment)
		return TC_ACT_SHOT;
	if (refused && pkt->flow.proto == IPPROTO_TCP)
		failed = reject_resets(pkt, reason) ? reject_tcp(skb, pkt) : -1;
	else if (refused && pkt->flow.proto != IPPROTO_UDP)
		failed = -1;
	else if (pkt->ipv6 && pkt->l4_offset == ETH_HLEN + sizeof(struct ipv6hdr))
		failed = reject_icmp6(skb, pkt, reason);
	else if (pkt->l4_offset == ETH_HLEN + sizeof(struct iphdr))
		failed = reject_icmp(skb, pkt, reason);
	return failed ? TC_ACT_SHOT : reject_send(skb, pkt);
}

#endif
