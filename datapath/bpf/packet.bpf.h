/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Parses a frame into struct packet, once and in the order of the headers; later stages use only
 * that.  Packets that no pod may send (with source routes, IPv4-mapped addresses in IPv6, truncated
 * headers) are refused here.  The first fragment of a datagram has the ports and leaves them in
 * frag_map for the others.
 */
#ifndef TENDRIL_DATAPATH_BPF_PACKET_BPF_H
#define TENDRIL_DATAPATH_BPF_PACKET_BPF_H

#include <stdbool.h>
#include <stddef.h>

#include <linux/bpf.h>
#include <linux/icmpv6.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>

#include "datapath/bpf/context.bpf.h"
#include "datapath/bpf/ipcache.bpf.h"
#include "datapath/bpf/metric.bpf.h"
#include "datapath/bpf/policy.bpf.h"

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

#define SCTP_HEADER_LEN 12
#define SCTP_INIT       1

/* linux/icmp.h cannot be included for BPF: it wants libc's headers. */
#define ICMP_ECHOREPLY     0
#define ICMP_DEST_UNREACH  3
#define ICMP_SOURCE_QUENCH 4
#define ICMP_REDIRECT      5
#define ICMP_ECHO          8
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETERPROB 12
#define ICMP_PORT_UNREACH  3
#define ICMP_FRAG_NEEDED   4

#define ICMP_TIMESTAMPREPLY 14
#define ICMP_INFO_REPLY     16
#define ICMP_ADDRESSREPLY   18
#define ICMP_EXT_ECHOREPLY  43

#define ICMPV6_NODE_INFO_REPLY 140
#define ICMPV6_EXT_ECHO_REPLY  161

#define NDISC_ROUTER_ADVERTISEMENT 134
#define NDISC_REDIRECT             137

#define IP_OFFSET_UNITS    0x1fff
#define IP_MORE_FRAGMENTS  0x2000
#define IP6_MORE_FRAGMENTS 0x0001
#define IP6_OFFSET_BYTES   0xfff8

#define IP6_FRAGMENT_HEADER_LEN 8

/* Enough for an IPv6 header with extensions. */
#define L4_OFFSET_MAX   512
#define EXTENSIONS_MAX  6
#define IP_OPTIONS_MAX  40
#define ICMP_HEADER_LEN 8

#define ICMP_CHECK_OFFSET 2
#define ICMP_ID_OFFSET    4

struct icmp_header { /* of both families */
	__u8 type;
	__u8 code;
	__sum16 check;
	__be16 id;
	__be16 sequence;
};

enum fragment {
	FRAGMENT_NONE,
	FRAGMENT_FIRST,
	FRAGMENT_LATER,
	FRAGMENT_ORPHAN, /* a later one without its first fragment: the ports are not known */
};

enum packet_kind {
	PACKET_PLAIN,
	PACKET_ARP,
	PACKET_NEIGHBOUR,  /* IPv6 neighbour and multicast listener discovery: for the host alone */
	PACKET_ICMP_ERROR, /* about another packet, which it quotes */
};

enum packet_origin {
	FROM_HERE,
	FROM_OUTSIDE,
	FROM_DSR, /* a client outside sent it to another node, which sent it on as it is */
	FROM_DSR_NODE_PORT, /* the same, to an address of that node */
};

struct packet {
	struct flow flow; /* as the packet is now: service translation rewrites it too */
	struct policy_end src;
	struct policy_end dst;
	__u32 src_claimed; /* identity behind the source address; src.identity is who really sent */
	__u32 dst_flags;   /* enum ipcache_flag of the destination */
	__u32 length;      /* of the frame */
	__u32 seq;         /* TCP, host order */
	__u32 ack;
	__u32 payload; /* TCP: bytes of data */
	__be32 fragment_id;
	__u16 l4_offset; /* from the frame's first byte */
	__u8 tcp_flags;
	__u8 fragment; /* enum fragment */
	__u8 kind;     /* enum packet_kind */
	__u8 ipv6;
	__u8 opens;         /* TCP SYN or SCTP INIT: never passes because of an existing entry */
	__u8 from_node;     /* a process of this node itself sent it */
	__u8 mac[ETH_ALEN]; /* source */
	__u8 icmp_type;
	__u8 from_uplink;      /* enum packet_origin: came to the node from outside */
	__u8 translated;       /* by nat_map */
	__u8 forwarded;        /* the kernel has been told where it goes */
	__u16 mtu;             /* of the route, if it is too big for that */
	__u8 to_server;        /* as it is to the backend's node, which answers: NAT_DSR */
} __attribute__((aligned(8))); /* so that addresses are copied in two moves, not in four */

/* Writes the MACs of a frame to the pod: they lie in struct endpoint as in the frame. */
static __always_inline int packet_address_to(packet_context *ctx,
					     const struct endpoint_entry *endpoint)
{
	const __u8 *macs = (const __u8 *)endpoint + offsetof(struct endpoint_entry, mac);

	_Static_assert(offsetof(struct endpoint_entry, host_mac) ==
			       offsetof(struct endpoint_entry, mac) + ETH_ALEN,
		       "the MACs of an endpoint follow each other");
	return (int)packet_store(ctx, 0, macs, 2 * ETH_ALEN, 0);
}

static __always_inline void addr_from_v6(struct addr *addr, const struct in6_addr *v6)
{
	__builtin_memcpy(addr, v6, sizeof(*addr));
}

/* Source routes lead around the checks here; every other option is harmless. */
static __always_inline int packet_check_options(packet_context *ctx, __u32 end)
{
	__u32 offset = ETH_HLEN + sizeof(struct iphdr);
	__u8 option[2];

	for (int i = 0; i < IP_OPTIONS_MAX && offset < end; i++) {
		if (packet_load(ctx, offset, option, 1))
			return DROP_TRUNCATED;
		if (option[0] == IPOPT_END)
			return DROP_NONE;
		if (option[0] == IPOPT_NOOP) {
			offset++;
			continue;
		}
		if (option[0] == IPOPT_LSRR || option[0] == IPOPT_SSRR)
			return DROP_BAD_HEADER;
		if (packet_load(ctx, offset, option, 2))
			return DROP_TRUNCATED;
		if (option[1] < 2)
			return DROP_BAD_HEADER;
		offset += option[1];
	}
	return offset > end ? DROP_BAD_HEADER : DROP_NONE;
}

/* Fills l4_offset, the flow's addresses, proto and fragment.  ret_l4_len: bytes from l4_offset on,
 * as the IP header says. */
static __always_inline int packet_parse_v4(packet_context *ctx, struct packet *pkt,
					   __u32 *ret_l4_len)
{
	struct iphdr *ip = packet_bytes(ctx, ETH_HLEN, sizeof(*ip));
	__u32 header_len, total_len;
	__u16 offset;

	if (!ip)
		return DROP_TRUNCATED;
	header_len = ip->ihl * 4U;
	if (ip->version != 4 || header_len < sizeof(*ip))
		return DROP_BAD_HEADER;
	total_len = bpf_ntohs(ip->tot_len);
	if (!total_len) /* larger than 64 KiB, not yet segmented */
		total_len = pkt->length - ETH_HLEN;
	if (total_len < header_len)
		return DROP_BAD_HEADER;
	if (total_len > pkt->length - ETH_HLEN)
		return DROP_TRUNCATED;
	addr_from_v4(&pkt->flow.saddr, ip->saddr);
	addr_from_v4(&pkt->flow.daddr, ip->daddr);
	pkt->flow.proto = ip->protocol;
	pkt->l4_offset = (__u16)(ETH_HLEN + header_len);
	*ret_l4_len = total_len - header_len;
	offset = bpf_ntohs(ip->frag_off);
	if (offset & (IP_OFFSET_UNITS | IP_MORE_FRAGMENTS)) {
		pkt->fragment = offset & IP_OFFSET_UNITS ? FRAGMENT_LATER : FRAGMENT_FIRST;
		pkt->fragment_id = ip->id;
		/* A second part that starts inside the TCP header could rewrite its flags. */
		if (pkt->flow.proto == IPPROTO_TCP && pkt->fragment == FRAGMENT_LATER &&
		    (offset & IP_OFFSET_UNITS) * 8U < sizeof(struct tcphdr))
			return DROP_BAD_HEADER;
	}
	return header_len > sizeof(*ip) ? packet_check_options(ctx, pkt->l4_offset) : DROP_NONE;
}

/* One IPv6 extension header at *offset; moves on to the next and its type. */
static __always_inline int packet_skip_extension(packet_context *ctx, struct packet *pkt,
						 __u32 *offset, __u8 *type)
{
	struct {
		__u8 next;
		__u8 len;
		union {
			__be16 fragment;
			struct {
				__u8 routing_type;
				__u8 segments_left;
			};
		};
		__be32 id;
	} head;
	__u32 position;

	if (packet_load(ctx, *offset, &head, sizeof(head)))
		return DROP_TRUNCATED;
	if (*type == IPPROTO_FRAGMENT) {
		position = bpf_ntohs(head.fragment);
		if (position & IP6_OFFSET_BYTES)
			pkt->fragment = FRAGMENT_LATER;
		else if (position & IP6_MORE_FRAGMENTS)
			pkt->fragment = FRAGMENT_FIRST;
		pkt->fragment_id = head.id;
		if (pkt->fragment == FRAGMENT_LATER && head.next == IPPROTO_TCP &&
		    (position & IP6_OFFSET_BYTES) < sizeof(struct tcphdr))
			return DROP_BAD_HEADER;
		*offset += sizeof(head);
	} else if (*type == IPPROTO_AH) {
		*offset += (head.len + 2U) * 4;
	} else {
		/* A routing header with stops to go: not the destination that policy would see. */
		if (*type == IPPROTO_ROUTING && head.segments_left)
			return DROP_BAD_HEADER;
		*offset += (head.len + 1U) * 8;
	}
	*type = head.next;
	return DROP_NONE;
}

static __always_inline bool is_extension(__u8 type)
{
	return type == IPPROTO_HOPOPTS || type == IPPROTO_DSTOPTS || type == IPPROTO_ROUTING ||
	       type == IPPROTO_FRAGMENT || type == IPPROTO_AH;
}

static __always_inline int packet_parse_v6(packet_context *ctx, struct packet *pkt,
					   __u32 *ret_l4_len)
{
	struct ipv6hdr *ip = packet_bytes(ctx, ETH_HLEN, sizeof(*ip));
	__u32 offset = ETH_HLEN + sizeof(*ip), end;
	int reason;
	__u8 type;

	if (!ip)
		return DROP_TRUNCATED;
	if (ip->version != 6)
		return DROP_BAD_HEADER;
	end = bpf_ntohs(ip->payload_len);
	end = end ? end + offset : pkt->length; /* 0: larger than 64 KiB, not yet segmented */
	if (end > pkt->length)
		return DROP_TRUNCATED;
	addr_from_v6(&pkt->flow.saddr, &ip->saddr);
	addr_from_v6(&pkt->flow.daddr, &ip->daddr);
	type = ip->nexthdr;
	/* ::ffff:a.b.c.d in an IPv6 header would speak for the IPv4 address in every map. */
	if (addr_is_v4(&pkt->flow.saddr) || addr_is_v4(&pkt->flow.daddr))
		return DROP_BAD_HEADER;
	for (int i = 0; i < EXTENSIONS_MAX; i++) {
		if (!is_extension(type) || pkt->fragment == FRAGMENT_LATER)
			break;
		reason = packet_skip_extension(ctx, pkt, &offset, &type);
		if (reason)
			return reason;
		if (offset > end)
			return DROP_TRUNCATED;
		if (offset > L4_OFFSET_MAX)
			return DROP_BAD_HEADER;
	}
	if (is_extension(type) && pkt->fragment != FRAGMENT_LATER)
		return DROP_BAD_HEADER;
	pkt->flow.proto = type;
	pkt->ipv6 = 1;
	pkt->l4_offset = (__u16)offset;
	*ret_l4_len = end - offset;
	return DROP_NONE;
}

static __always_inline int packet_parse_tcp(struct packet *pkt, const struct tcphdr *tcp, __u32 len)
{
	__u32 header_len = tcp->doff * 4U;

	if (header_len < sizeof(*tcp) || (header_len > len && !pkt->fragment))
		return DROP_BAD_HEADER;
	pkt->flow.sport = tcp->source;
	pkt->flow.dport = tcp->dest;
	pkt->seq = bpf_ntohl(tcp->seq);
	pkt->ack = bpf_ntohl(tcp->ack_seq);
	pkt->tcp_flags = ((const __u8 *)tcp)[13];
	pkt->payload = header_len > len ? 0 : len - header_len;
	pkt->opens = (pkt->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
	return DROP_NONE;
}

/*
 * An echo request gets its identifier as source port, the reply as destination port.  So a reply is
 * its request with the ends exchanged, and never looks like a request of the other side.
 */
static __always_inline int packet_parse_icmp(struct packet *pkt, const struct icmp_header *icmp)
{
	__u8 type = icmp->type;

	pkt->icmp_type = type;
	if (pkt->ipv6) {
		if (type < ICMPV6_ECHO_REQUEST)
			pkt->kind = PACKET_ICMP_ERROR;
		else if (type == ICMPV6_ECHO_REQUEST)
			pkt->flow.sport = icmp->id;
		else if (type == ICMPV6_ECHO_REPLY)
			pkt->flow.dport = icmp->id;
		else if (type == NDISC_ROUTER_ADVERTISEMENT || type == NDISC_REDIRECT)
			return DROP_BAD_HEADER; /* nobody here takes routes from a packet */
		else if ((type >= ICMPV6_MGM_QUERY && type < NDISC_REDIRECT) ||
			 type == ICMPV6_MLD2_REPORT)
			pkt->kind = PACKET_NEIGHBOUR;
		return DROP_NONE;
	}
	if (type == ICMP_ECHO)
		pkt->flow.sport = icmp->id;
	else if (type == ICMP_ECHOREPLY)
		pkt->flow.dport = icmp->id;
	else if (type == ICMP_DEST_UNREACH || type == ICMP_TIME_EXCEEDED ||
		 type == ICMP_PARAMETERPROB || type == ICMP_SOURCE_QUENCH)
		pkt->kind = PACKET_ICMP_ERROR;
	else if (type == ICMP_REDIRECT)
		return DROP_BAD_HEADER;
	return DROP_NONE;
}

/*
 * Whether it is an ICMP message that answers a request.  Messages without an identifier, or with
 * identifier 0, have the same flow in both directions, so only the type tells.  A later fragment
 * has no type, and is useless without its first fragment.
 */
static __always_inline bool packet_is_icmp_reply(const struct packet *pkt)
{
	__u8 type = pkt->icmp_type;

	if (pkt->fragment == FRAGMENT_LATER)
		return true;
	if (pkt->ipv6)
		return type == ICMPV6_ECHO_REPLY || type == ICMPV6_NODE_INFO_REPLY ||
		       type == ICMPV6_EXT_ECHO_REPLY;
	return type == ICMP_ECHOREPLY || type == ICMP_TIMESTAMPREPLY || type == ICMP_INFO_REPLY ||
	       type == ICMP_ADDRESSREPLY || type == ICMP_EXT_ECHOREPLY;
}

/* Whether it has neither IP options nor extension headers but that of a fragment: others are for a
 * router to read. */
static __always_inline bool packet_is_bare(const struct packet *pkt)
{
	__u32 head = sizeof(struct iphdr);

	if (pkt->ipv6)
		head = sizeof(struct ipv6hdr) + (pkt->fragment ? IP6_FRAGMENT_HEADER_LEN : 0);
	return pkt->l4_offset == ETH_HLEN + head;
}

/* Bytes from the transport header to the end of the packet, as the IP header says: the frame may be
 * padded.  0: not known. */
static __always_inline __u32 packet_l4_length(packet_context *ctx, const struct packet *pkt)
{
	__u32 offset =
		pkt->ipv6 ? offsetof(struct ipv6hdr, payload_len) : offsetof(struct iphdr, tot_len);
	__u32 end;
	__be16 length;

	if (packet_load(ctx, ETH_HLEN + offset, &length, sizeof(length)))
		return 0;
	end = ETH_HLEN + bpf_ntohs(length) + (pkt->ipv6 ? sizeof(struct ipv6hdr) : 0);
	return end > pkt->l4_offset ? end - pkt->l4_offset : 0;
}

static __always_inline bool packet_is_icmp(const struct packet *pkt)
{
	return pkt->flow.proto == (pkt->ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
}

/* Bytes of transport header that must be there for a verdict. */
static __always_inline __u32 packet_l4_need(const struct packet *pkt)
{
	switch (pkt->flow.proto) {
	case IPPROTO_TCP:
		return sizeof(struct tcphdr);
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
		return 8;
	case IPPROTO_SCTP:
		return SCTP_HEADER_LEN;
	case IPPROTO_ICMP:
		return pkt->ipv6 ? 0 : ICMP_HEADER_LEN;
	case IPPROTO_ICMPV6:
		return pkt->ipv6 ? ICMP_HEADER_LEN : 0;
	default:
		return 0;
	}
}

static __always_inline int packet_parse_l4(packet_context *ctx, struct packet *pkt, __u32 len)
{
	__u32 need = packet_l4_need(pkt);
	__u32 offset = pkt->l4_offset;
	const __be16 *ports;
	__u8 chunk;

	if (!need)
		return DROP_NONE;
	if (len < need) /* a whole packet is cut short; a first fragment was made so */
		return pkt->fragment ? DROP_BAD_HEADER : DROP_TRUNCATED;
	if (offset > L4_OFFSET_MAX)
		return DROP_BAD_HEADER;
	if (pkt->flow.proto == IPPROTO_TCP) {
		ports = packet_bytes(ctx, offset, sizeof(struct tcphdr));
		return ports ? packet_parse_tcp(pkt, (const void *)ports, len) : DROP_TRUNCATED;
	}
	ports = packet_bytes(ctx, offset, ICMP_HEADER_LEN);
	if (!ports)
		return DROP_TRUNCATED;
	if (pkt->flow.proto == IPPROTO_ICMP || pkt->flow.proto == IPPROTO_ICMPV6)
		return packet_parse_icmp(pkt, (const void *)ports);
	pkt->flow.sport = ports[0];
	pkt->flow.dport = ports[1];
	if (pkt->flow.proto == IPPROTO_SCTP && len > SCTP_HEADER_LEN &&
	    !packet_load(ctx, offset + SCTP_HEADER_LEN, &chunk, 1))
		pkt->opens = chunk == SCTP_INIT;
	return DROP_NONE;
}

/* Fills everything but the ends.  Stages are __weak functions, like this one: the verifier checks
 * them once instead of once for every path that leads to them. */
__weak int packet_parse(packet_context *ctx, struct packet *pkt)
{
	__u32 l4_len = 0;
	struct ethhdr *eth;
	__be16 protocol;
	int reason;

	if (!pkt)
		return DROP_BAD_HEADER;
	pkt->length = packet_length(ctx);
	eth = packet_bytes(ctx, 0, sizeof(*eth));
	if (!eth)
		return DROP_TRUNCATED;
	protocol = eth->h_proto;
	__builtin_memcpy(pkt->mac, eth->h_source, ETH_ALEN);
	/* The kernel has moved an outer VLAN tag out of the frame. */
	if (packet_has_tag(ctx))
		return DROP_UNKNOWN_PROTOCOL;
	if (protocol == bpf_htons(ETH_P_ARP)) {
		pkt->kind = PACKET_ARP;
		return DROP_NONE;
	}
	if (protocol == bpf_htons(ETH_P_IP))
		reason = packet_parse_v4(ctx, pkt, &l4_len);
	else if (protocol == bpf_htons(ETH_P_IPV6))
		reason = packet_parse_v6(ctx, pkt, &l4_len);
	else
		return DROP_UNKNOWN_PROTOCOL;
	if (reason || pkt->fragment == FRAGMENT_LATER)
		return reason;
	return packet_parse_l4(ctx, pkt, l4_len);
}

/* Ports of a fragment: the first one stores them, the others look them up.  Called after the source
 * check, so that a pod can store ports only for its own datagrams. */
__weak int packet_fragment(struct packet *pkt)
{
	struct frag_key key = {};
	struct frag_ports ports, *seen;

	if (!pkt)
		return 0;
	key.saddr = pkt->flow.saddr;
	key.daddr = pkt->flow.daddr;
	key.id = pkt->fragment_id;
	key.proto = pkt->flow.proto;
	if (pkt->fragment == FRAGMENT_FIRST) {
		ports.sport = pkt->flow.sport;
		ports.dport = pkt->flow.dport;
		if (bpf_map_update_elem(&frag_map, &key, &ports, BPF_ANY))
			notice(NOTICE_FRAGMENT_FULL);
		return 0;
	}
	seen = bpf_map_lookup_elem(&frag_map, &key);
	if (!seen) {
		pkt->fragment = FRAGMENT_ORPHAN;
		return 0;
	}
	pkt->flow.sport = seen->sport;
	pkt->flow.dport = seen->dport;
	return 0;
}

#endif
