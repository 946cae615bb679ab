/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Hands the first bytes of DNS answers to pods over in dns_map, while NODE_DNS is set.  Nothing
 * here reads them: that is for a process without privileges.  Nor does anything here follow a TCP
 * stream: that process gets every segment, and knows where messages begin.
 */
#ifndef TENDRIL_DATAPATH_BPF_DNS_BPF_H
#define TENDRIL_DATAPATH_BPF_DNS_BPF_H

#include "datapath/bpf/budget.bpf.h"
#include "datapath/bpf/endpoint.bpf.h"
#include "datapath/bpf/nat_entry.bpf.h"
#include "datapath/bpf/packet.bpf.h"
#include "datapath/bpf/socket.bpf.h"

#define UDP_HEADER_LEN    8
#define TCP_OFFSET_OFFSET 12 /* of the header's length, in its upper half */

static __always_inline bool dns_is_port(__be16 port)
{
	return port == bpf_htons(DNS_PORT);
}

/* Not inline: few packets take this path. */
static __noinline void dns_report(struct __sk_buff *skb, const struct packet *pkt, __u32 offset,
				  bool begins)
{
	const struct endpoint_entry *endpoint = endpoint_get(pkt->dst.slot);
	const bool tcp = pkt->flow.proto == IPPROTO_TCP;
	__u32 length = tcp ? pkt->payload : pkt->length - offset, last;
	__u64 now_ns = bpf_ktime_get_coarse_ns();
	struct dns_event *event;

	if (!endpoint)
		return;
	if (length > DNS_BYTES_MAX)
		length = DNS_BYTES_MAX;
	event = budget_take_dns(pkt->dst.slot, now_ns)
			? bpf_ringbuf_reserve(&dns_map, sizeof(*event), 0)
			: NULL;
	if (!event) {
		notice(NOTICE_DNS_LOST);
		return;
	}
	event->time_ns = now_ns;
	event->netns_cookie = endpoint->netns_cookie;
	event->flow = pkt->flow;
	event->length = length;
	event->payload = pkt->payload;
	event->seq = pkt->seq;
	event->begins = begins;
	/* Linux 6.1 does not see that a length is not 0, but knows what one is added to. */
	last = length - 1;
	PACKET_POINTER_KEEP(last);
	if (last < DNS_BYTES_MAX && !bpf_skb_load_bytes(skb, offset, event->bytes, last + 1))
		bpf_ringbuf_submit(event, 0);
	else
		bpf_ringbuf_discard(event, 0);
}

/* A UDP packet to a pod. */
static __always_inline void dns_report_udp(struct __sk_buff *skb, const struct packet *pkt)
{
	__u32 offset = pkt->l4_offset + UDP_HEADER_LEN;

	if (pkt->length > offset && !pkt->fragment)
		dns_report(skb, pkt, offset, false);
}

/* A TCP segment, if the socket of the pod behind it is one that called connect(). */
__weak int dns_report_tcp(struct __sk_buff *skb, const struct packet *pkt)
{
	struct socket_view view = {};
	struct flow flow;
	__u8 header;

	if (!pkt || !pkt->payload || pkt->fragment || !pkt->dst.slot ||
	    packet_load(skb, pkt->l4_offset + TCP_OFFSET_OFFSET, &header, 1))
		return 0;
	nat_socket_flow(pkt, &flow);
	if (socket_opened(skb, pkt, &flow, &view))
		dns_report(skb, pkt, pkt->l4_offset + (header >> 4) * 4U,
			   !view.received && pkt->seq == view.rcv_nxt);
	return 0;
}

#endif
