/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Rewrites the addresses and ports of a packet, and corrects its checksums. */
#ifndef TENDRIL_DATAPATH_BPF_NAT_REWRITE_BPF_H
#define TENDRIL_DATAPATH_BPF_NAT_REWRITE_BPF_H

#include "datapath/bpf/route.bpf.h"
#include "datapath/bpf/sctp.bpf.h"

#define IP_SADDR_OFFSET  (ETH_HLEN + offsetof(struct iphdr, saddr))
#define IP_DADDR_OFFSET  (ETH_HLEN + offsetof(struct iphdr, daddr))
#define IP_CHECK_OFFSET  (ETH_HLEN + offsetof(struct iphdr, check))
#define IP6_SADDR_OFFSET (ETH_HLEN + offsetof(struct ipv6hdr, saddr))
#define IP6_DADDR_OFFSET (ETH_HLEN + offsetof(struct ipv6hdr, daddr))
#define TCP_CHECK_OFFSET 16
#define UDP_CHECK_OFFSET 6

enum nat_which { NAT_SOURCE, NAT_DESTINATION };

/* Replaces one address in the IP header and in what the checksums cover.  check: of the transport,
 * 0 if this packet has none (a later fragment). */
static __always_inline int nat_write_addr(packet_context *ctx, const struct packet *pkt,
					  enum nat_which which, const struct addr *old,
					  const struct addr *addr, __u32 check, __u64 flags)
{
	__u32 offset = which == NAT_SOURCE ? IP_SADDR_OFFSET : IP_DADDR_OFFSET;
	__s64 diff;

	flags |= BPF_F_PSEUDO_HDR;
	if (!pkt->ipv6) {
		if (check &&
		    packet_l4_sum(ctx, check, old->w[3], addr->w[3], flags | sizeof(__be32)))
			return DROP_REWRITE_FAILED;
		if (packet_l3_sum(ctx, IP_CHECK_OFFSET, old->w[3], addr->w[3], sizeof(__be32)) ||
		    packet_store(ctx, offset, &addr->w[3], sizeof(__be32), 0))
			return DROP_REWRITE_FAILED;
		return DROP_NONE;
	}
	offset = which == NAT_SOURCE ? IP6_SADDR_OFFSET : IP6_DADDR_OFFSET;
	diff = bpf_csum_diff((__be32 *)old, sizeof(*old), (__be32 *)addr, sizeof(*addr), 0);
	if (check && packet_l4_sum(ctx, check, 0, (__u64)diff, flags))
		return DROP_REWRITE_FAILED;
	if (packet_store(ctx, offset, addr, sizeof(*addr), 0))
		return DROP_REWRITE_FAILED;
	return DROP_NONE;
}

/* Where the checksum of the transport is, and for how to change it; 0: it has none that covers what
 * is translated. */
static __always_inline __u32 nat_check_offset(const struct packet *pkt, __u64 *ret_flags)
{
	*ret_flags = 0;
	if (pkt->fragment >= FRAGMENT_LATER || pkt->flow.proto == IPPROTO_SCTP)
		return 0;
	if (packet_is_icmp(pkt))
		return pkt->l4_offset + ICMP_CHECK_OFFSET;
	if (pkt->flow.proto != IPPROTO_UDP)
		return pkt->l4_offset + TCP_CHECK_OFFSET;
	*ret_flags = BPF_F_MARK_MANGLED_0; /* 0 stays 0: the sender did not sum */
	return pkt->l4_offset + UDP_CHECK_OFFSET;
}

/* Replaces one end of the packet, in the packet and in pkt->flow.  Works on packets whose checksum
 * is still to be filled in, and on super-packets. */
__weak int nat_rewrite(packet_context *ctx, struct packet *pkt, const struct addr *addr, __u32 port,
		       __u32 which)
{
	struct addr old, new;
	__u32 offset, check;
	__be16 old_port;
	__u64 flags;

	if (!pkt || !addr)
		return DROP_REWRITE_FAILED;
	new = *addr;
	old = which == NAT_SOURCE ? pkt->flow.saddr : pkt->flow.daddr;
	old_port = which == NAT_SOURCE ? pkt->flow.sport : pkt->flow.dport;
	check = nat_check_offset(pkt, &flags);
	/* The sum of ICMP does not cover IPv4 addresses. */
	if (nat_write_addr(ctx, pkt, which, &old, &new, pkt->flow.proto == IPPROTO_ICMP ? 0 : check,
			   flags))
		return DROP_REWRITE_FAILED;
	offset = pkt->l4_offset + (which == NAT_SOURCE ? 0 : 2);
	if (packet_is_icmp(pkt))
		offset = pkt->l4_offset + ICMP_ID_OFFSET;
	if (pkt->fragment < FRAGMENT_LATER && old_port != (__be16)port) {
		__be16 new_port = (__be16)port;

		if (pkt->flow.proto == IPPROTO_SCTP &&
		    sctp_replace_port(ctx, pkt, which == NAT_SOURCE, old_port, new_port))
			return DROP_REWRITE_FAILED;
		if (check && packet_l4_sum(ctx, check, old_port, new_port, flags | sizeof(__be16)))
			return DROP_REWRITE_FAILED;
		if (packet_store(ctx, offset, &new_port, sizeof(new_port), 0))
			return DROP_REWRITE_FAILED;
	}
	if (which == NAT_SOURCE) {
		pkt->flow.saddr = new;
		pkt->flow.sport = (__be16)port;
	} else {
		pkt->flow.daddr = new;
		pkt->flow.dport = (__be16)port;
	}
	return DROP_NONE;
}

/* Gives the packet both ends of another flow. */
static __always_inline int nat_write_flow(packet_context *ctx, struct packet *pkt,
					  const struct flow *flow)
{
	int reason = DROP_NONE;

	if (!(flow->sport == pkt->flow.sport && addr_equal(&flow->saddr, &pkt->flow.saddr)))
		reason = nat_rewrite(ctx, pkt, &flow->saddr, flow->sport, NAT_SOURCE);
	if (!reason &&
	    !(flow->dport == pkt->flow.dport && addr_equal(&flow->daddr, &pkt->flow.daddr)))
		reason = nat_rewrite(ctx, pkt, &flow->daddr, flow->dport, NAT_DESTINATION);
	return reason;
}

/*
 * Turns the packet into one of another flow.  NAT_FORWARD: routes it, too.  The route is looked up
 * first, because an answer that there is none quotes the packet as its sender sent it.
 */
static __always_inline int nat_become(packet_context *ctx, struct packet *pkt,
				      const struct flow *flow, __u32 flags)
{
	int reason = DROP_NONE;

	if (flags & NAT_FORWARD && !pkt->dst.slot)
		reason = route_packet(ctx, pkt, &flow->saddr, &flow->daddr);
	if (!reason)
		reason = nat_write_flow(ctx, pkt, flow);
	pkt->translated = 1;
	return reason;
}

#endif
