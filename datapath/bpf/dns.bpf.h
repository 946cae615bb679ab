/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Hands the first bytes of DNS answers to pods over in dns_map, while NODE_DNS is set.  Nothing
 * here reads them: that is for a process without privileges.
 */
#ifndef TENDRIL_DATAPATH_BPF_DNS_BPF_H
#define TENDRIL_DATAPATH_BPF_DNS_BPF_H

#include "datapath/bpf/budget.bpf.h"
#include "datapath/bpf/endpoint.bpf.h"
#include "datapath/bpf/packet.bpf.h"

#define DNS_PORT       53
#define UDP_HEADER_LEN 8

static __always_inline bool dns_is_port(__be16 port)
{
	return port == bpf_htons(DNS_PORT);
}

/* A UDP answer to a pod.  Not inline: few packets take this path. */
static __noinline void dns_report(struct __sk_buff *skb, const struct packet *pkt)
{
	const struct endpoint_entry *endpoint = endpoint_get(pkt->dst.slot);
	__u32 offset = pkt->l4_offset + UDP_HEADER_LEN;
	__u32 length = pkt->length - offset, last;
	__u64 now_ns = bpf_ktime_get_coarse_ns();
	struct dns_event *event;

	if (!endpoint || pkt->length <= offset || pkt->fragment)
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
	event->length = length;
	/* Linux 6.1 does not see that a length is not 0, but knows what one is added to. */
	last = length - 1;
	PACKET_POINTER_KEEP(last);
	if (last < DNS_BYTES_MAX && !bpf_skb_load_bytes(skb, offset, event->bytes, last + 1))
		bpf_ringbuf_submit(event, 0);
	else
		bpf_ringbuf_discard(event, 0);
}

#endif
