/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * ICMP and ICMPv6 errors.  An error quotes a packet that its receiver has sent, and passes if the
 * receiver can have sent that packet.  The quoted packet is parsed only if it has plain headers: an
 * error about a later fragment, or about a packet with extension headers, belongs to no known
 * connection.
 */
#ifndef TENDRIL_DATAPATH_BPF_ICMP_BPF_H
#define TENDRIL_DATAPATH_BPF_ICMP_BPF_H

#include "datapath/bpf/conntrack.bpf.h"
#include "datapath/bpf/nat.bpf.h"

/* The flow of the quoted packet, as its sender sent it, and the offset of its transport header.
 * False: there is no flow to decide on. */
static __always_inline bool icmp_embedded(struct __sk_buff *skb, const struct packet *pkt,
					  struct flow *ret, __u32 *ret_l4_offset)
{
	__u32 offset = pkt->l4_offset + ICMP_HEADER_LEN;
	struct ipv6hdr ip6;
	__be16 ports[4];
	struct iphdr ip;

	if (pkt->ipv6) {
		if (bpf_skb_load_bytes(skb, offset, &ip6, sizeof(ip6)))
			return false;
		addr_from_v6(&ret->saddr, &ip6.saddr);
		addr_from_v6(&ret->daddr, &ip6.daddr);
		if (addr_is_v4(&ret->saddr) || addr_is_v4(&ret->daddr))
			return false;
		ret->proto = ip6.nexthdr;
		offset += sizeof(ip6);
	} else {
		if (bpf_skb_load_bytes(skb, offset, &ip, sizeof(ip)) || ip.version != 4 ||
		    ip.ihl < 5 || ip.frag_off & bpf_htons(IP_OFFSET_UNITS))
			return false;
		addr_from_v4(&ret->saddr, ip.saddr);
		addr_from_v4(&ret->daddr, ip.daddr);
		ret->proto = ip.protocol;
		offset += ip.ihl * 4U;
	}
	if (bpf_skb_load_bytes(skb, offset, ports, sizeof(ports)))
		return false;
	*ret_l4_offset = offset;
	if (ret->proto == IPPROTO_TCP || ret->proto == IPPROTO_UDP ||
	    ret->proto == IPPROTO_UDPLITE || ret->proto == IPPROTO_SCTP) {
		ret->sport = ports[0];
		ret->dport = ports[1];
	} else if (ret->proto == (pkt->ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP)) {
		/* type and code, checksum, identifier: as packet_parse_icmp() */
		if (*(__u8 *)ports == (pkt->ipv6 ? ICMPV6_ECHO_REQUEST : ICMP_ECHO))
			ret->sport = ports[2];
		else
			ret->dport = ports[2];
	}
	return true;
}

/* A pod of this node is no router: it may only send errors about packets to itself. */
static __always_inline bool icmp_is_about_sender(struct __sk_buff *skb, const struct packet *pkt)
{
	__u32 embedded = pkt->l4_offset + ICMP_HEADER_LEN;
	struct addr daddr;
	__be32 v4;

	if (pkt->ipv6) {
		if (bpf_skb_load_bytes(skb, embedded + offsetof(struct ipv6hdr, daddr), &daddr,
				       sizeof(daddr)))
			return false;
	} else {
		if (bpf_skb_load_bytes(skb, embedded + offsetof(struct iphdr, daddr), &v4,
				       sizeof(v4)))
			return false;
		addr_from_v4(&daddr, v4);
	}
	return addr_equal(&daddr, &pkt->flow.saddr);
}

/* Whether policy lets the error's receiver send the quoted packet, and the receiver has a socket
 * that can have sent it. */
static __always_inline bool icmp_could_be_sent(struct __sk_buff *skb, const struct packet *pkt,
					       const struct flow *sent)
{
	const struct endpoint_entry *endpoint;
	struct socket_view view = {};
	struct ipcache_entry peer;
	struct policy_end to = {};
	struct flow answer = {};
	bool audited;
	__u32 slot;
	__s32 netns;

	peer = ipcache_lookup(&sent->daddr);
	to.identity = peer.identity;
	slot = peer.slot;
	endpoint = bpf_map_lookup_elem(&endpoint_map, &slot);
	if (slot && endpoint)
		policy_end_load(endpoint, slot, pkt->ipv6, &to);
	if (policy_check(&pkt->dst, &to, sent->proto, sent->dport, &audited) && !audited)
		return false;
	if (!receiver_netns(pkt, &netns))
		return false;
	/* The socket is found by what it would receive. */
	answer.saddr = sent->daddr;
	answer.daddr = sent->saddr;
	answer.sport = sent->dport;
	answer.dport = sent->sport;
	if (sent->proto == IPPROTO_TCP)
		return socket_tcp(skb, &answer, netns, &view) != SOCKET_NONE;
	return sent->proto == IPPROTO_UDP && socket_udp(skb, &answer, netns);
}

/* Decision 7: an error to a receiver that not everyone may send to. */
__weak int icmp_error_check(struct __sk_buff *skb, const struct packet *pkt)
{
	struct ct_tuple tuple;
	struct flow sent = {};
	__u32 l4_offset = 0;

	if (!pkt || !icmp_embedded(skb, pkt, &sent, &l4_offset) ||
	    !addr_equal(&sent.saddr, &pkt->flow.daddr))
		return DROP_UNRELATED_ERROR;
	if (ct_find_flow(&sent, &tuple))
		return DROP_NONE;
	return icmp_could_be_sent(skb, pkt, &sent) ? DROP_NONE : DROP_UNRELATED_ERROR;
}

/* ---- errors about translated packets -------------------------------------------------------- */

static __noinline int icmp_write_port(struct __sk_buff *skb, const struct packet *pkt, __u32 offset,
				      __be16 old, __be16 port)
{
	if (old == port)
		return DROP_NONE;
	if (bpf_l4_csum_replace(skb, pkt->l4_offset + ICMP_CHECK_OFFSET, old, port, sizeof(port)) ||
	    bpf_skb_store_bytes(skb, offset, &port, sizeof(port), 0))
		return DROP_REWRITE_FAILED;
	return DROP_NONE;
}

/* One address of the embedded header. */
static __noinline int icmp_write_addr(struct __sk_buff *skb, const struct packet *pkt,
				      enum nat_which which, const struct addr *old,
				      const struct addr *addr)
{
	__u32 ip = pkt->l4_offset + ICMP_HEADER_LEN;
	__s64 diff;

	if (!pkt->ipv6) {
		__u32 offset = which == NAT_SOURCE ? offsetof(struct iphdr, saddr)
						   : offsetof(struct iphdr, daddr);

		/* The embedded header carries a sum of its own, so the error's does not change. */
		if (bpf_l3_csum_replace(skb, ip + offsetof(struct iphdr, check), old->w[3],
					addr->w[3], sizeof(__be32)) ||
		    bpf_skb_store_bytes(skb, ip + offset, &addr->w[3], sizeof(__be32), 0))
			return DROP_REWRITE_FAILED;
		return DROP_NONE;
	}
	ip += which == NAT_SOURCE ? offsetof(struct ipv6hdr, saddr)
				  : offsetof(struct ipv6hdr, daddr);
	diff = bpf_csum_diff((__be32 *)old, sizeof(*old), (__be32 *)addr, sizeof(*addr), 0);
	if (bpf_l4_csum_replace(skb, pkt->l4_offset + ICMP_CHECK_OFFSET, 0, (__u64)diff, 0) ||
	    bpf_skb_store_bytes(skb, ip, addr, sizeof(*addr), 0))
		return DROP_REWRITE_FAILED;
	return DROP_NONE;
}

/* One end of the embedded packet. */
static __always_inline int icmp_write_end(struct __sk_buff *skb, const struct packet *pkt,
					  enum nat_which which, const struct flow *sent,
					  const struct flow *as, __u32 l4_offset)
{
	bool source = which == NAT_SOURCE;
	const struct addr *old = source ? &sent->saddr : &sent->daddr;
	const struct addr *addr = source ? &as->saddr : &as->daddr;
	__u32 port_offset = source ? 0 : sizeof(__be16);

	if (sent->proto == (pkt->ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP))
		port_offset = ICMP_ID_OFFSET;
	if (!addr_equal(old, addr) && icmp_write_addr(skb, pkt, which, old, addr))
		return DROP_REWRITE_FAILED;
	return icmp_write_port(skb, pkt, l4_offset + port_offset,
			       source ? sent->sport : sent->dport, source ? as->sport : as->dport);
}

/* One address of the error's own header. */
static __noinline int icmp_address(struct __sk_buff *skb, struct packet *pkt, enum nat_which which,
				   const struct addr *addr)
{
	struct addr *own = which == NAT_SOURCE ? &pkt->flow.saddr : &pkt->flow.daddr;
	struct addr old = *own;

	if (addr_equal(&old, addr))
		return DROP_NONE;
	*own = *addr;
	return nat_write_addr(skb, pkt, which, &old, addr,
			      pkt->ipv6 ? pkt->l4_offset + ICMP_CHECK_OFFSET : 0, 0);
}

/* Translates an error about a translated packet: it goes to the sender of that packet, and quotes
 * the packet as the sender sent it.  If the backend sent the error, its source becomes the
 * service's address; so does that of an error from a router behind this node, where this node does
 * SNAT. */
static __noinline int icmp_error_rewrite(struct __sk_buff *skb, struct packet *pkt,
					 const struct flow *sent, __u32 l4_offset,
					 const struct nat_work *work)
{
	struct addr saddr = pkt->flow.saddr;
	struct flow as;

	if (work->way_flags & NAT_FORWARD || addr_equal(&saddr, &sent->daddr))
		saddr = work->way.saddr;
	if (work->way_flags & NAT_FORWARD && !pkt->dst.slot) {
		int reason = route_packet(skb, pkt, &saddr, &work->way.daddr);

		if (reason)
			return reason;
	}
	flow_reverse(&work->way, &as);
	if (icmp_write_end(skb, pkt, NAT_SOURCE, sent, &as, l4_offset) ||
	    icmp_write_end(skb, pkt, NAT_DESTINATION, sent, &as, l4_offset) ||
	    icmp_address(skb, pkt, NAT_SOURCE, &saddr) ||
	    icmp_address(skb, pkt, NAT_DESTINATION, &work->way.daddr))
		return DROP_REWRITE_FAILED;
	pkt->translated = 1;
	return DROP_NONE;
}

/* Translates an ICMP error in both directions.  Does nothing if its flow is not translated. */
__weak int icmp_error_translate(struct __sk_buff *skb, struct packet *pkt)
{
	const struct nat_entry *entry;
	struct flow sent = {}, key;
	struct nat_work *work = nat_work();
	__u32 l4_offset = 0;

	if (!pkt || !work || !icmp_embedded(skb, pkt, &sent, &l4_offset))
		return DROP_NONE;
	flow_reverse(&sent, &key);
	entry = bpf_map_lookup_elem(&nat_map, &key);
	if (!entry)
		return DROP_NONE;
	work->way = entry->flow;
	work->way_flags = entry->flags;
	if (entry->flags & NAT_DSR) {
		pkt->to_server = pkt->from_uplink == FROM_OUTSIDE;
		return DROP_NONE;
	}
	return icmp_error_rewrite(skb, pkt, &sent, l4_offset, work);
}

/* What was translated on its way there becomes on its way back what its receiver expects.  Not a
 * translated flow: nothing. */
static __always_inline int reply_translate(struct __sk_buff *skb, struct packet *pkt)
{
	return pkt->kind == PACKET_ICMP_ERROR ? icmp_error_translate(skb, pkt)
					      : nat_reply(skb, pkt);
}

#endif
