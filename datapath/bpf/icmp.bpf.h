/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * ICMP and ICMPv6 errors.  An error is about a packet that its receiver is said to have sent, and
 * passes if the receiver can have sent it.  The embedded packet is parsed only if it has plain
 * headers: an error about a later fragment, or behind extension headers, belongs to no known
 * connection.
 */
#ifndef TENDRIL_DATAPATH_BPF_ICMP_BPF_H
#define TENDRIL_DATAPATH_BPF_ICMP_BPF_H

#include "datapath/bpf/conntrack.bpf.h"

#define ICMP_CHECK_OFFSET 2

/* The embedded packet's flow, as its sender sent it, and where its transport header is.  False:
 * there is none that can be judged. */
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

/* Whether policy lets the error's receiver send the embedded packet, and it has a socket that would
 * have sent it. */
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

/* The embedded packet of a translated flow went to a backend; its sender only knows the service. */
static __always_inline int icmp_rewrite_embedded(struct __sk_buff *skb, const struct packet *pkt,
						 const struct flow *sent, __u32 l4_offset,
						 const struct addr *service, __be16 port)
{
	__u32 check = pkt->l4_offset + ICMP_CHECK_OFFSET;
	__u32 ip = pkt->l4_offset + ICMP_HEADER_LEN;
	__s64 diff;

	if (bpf_l4_csum_replace(skb, check, sent->dport, port, sizeof(port)) ||
	    bpf_skb_store_bytes(skb, l4_offset + sizeof(port), &port, sizeof(port), 0))
		return DROP_REWRITE_FAILED;
	if (!pkt->ipv6) {
		/* The embedded header carries a sum of its own, so the error's does not change. */
		if (bpf_l3_csum_replace(skb, ip + offsetof(struct iphdr, check), sent->daddr.w[3],
					service->w[3], sizeof(__be32)) ||
		    bpf_skb_store_bytes(skb, ip + offsetof(struct iphdr, daddr), &service->w[3],
					sizeof(__be32), 0))
			return DROP_REWRITE_FAILED;
		return DROP_NONE;
	}
	diff = bpf_csum_diff((__be32 *)&sent->daddr, sizeof(*service), (__be32 *)service,
			     sizeof(*service), 0);
	if (bpf_l4_csum_replace(skb, check, 0, (__u64)diff, 0) ||
	    bpf_skb_store_bytes(skb, ip + offsetof(struct ipv6hdr, daddr), service,
				sizeof(*service), 0))
		return DROP_REWRITE_FAILED;
	return DROP_NONE;
}

/* An error to a client whose packet was translated is about the service, and comes from the service
 * if the backend itself sent it. */
__weak int icmp_error_reply(struct __sk_buff *skb, const struct packet *pkt)
{
	const struct nat_entry *entry;
	struct addr service, sender;
	struct flow sent = {};
	__u32 l4_offset = 0;
	__be16 port;

	if (!pkt || !icmp_embedded(skb, pkt, &sent, &l4_offset))
		return DROP_NONE;
	entry = nat_lookup(&sent.saddr, sent.sport, &sent.daddr, sent.dport, sent.proto, NAT_REPLY);
	if (!entry || entry->flags & NAT_HAIRPIN)
		return DROP_NONE;
	service = entry->addr;
	port = entry->port;
	sender = pkt->flow.saddr;
	if (addr_equal(&sender, &sent.daddr) &&
	    nat_write_addr(skb, pkt, NAT_SOURCE, &sender, &service,
			   pkt->ipv6 ? pkt->l4_offset + ICMP_CHECK_OFFSET : 0, 0))
		return DROP_REWRITE_FAILED;
	return icmp_rewrite_embedded(skb, pkt, &sent, l4_offset, &service, port);
}

#endif
