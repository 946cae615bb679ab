/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Drops packets: counts them for each reason and endpoint, and reports them within a budget. drop()
 * is the only exit for a packet that does not pass, so every dropped packet is counted.
 */
#ifndef TENDRIL_DATAPATH_BPF_DROP_BPF_H
#define TENDRIL_DATAPATH_BPF_DROP_BPF_H

#include <linux/pkt_cls.h>

#include "datapath/bpf/budget.bpf.h"
#include "datapath/bpf/packet.bpf.h"

static __always_inline struct endpoint_stats *stats_get(__u32 slot)
{
	return bpf_map_lookup_elem(&endpoint_stats, &slot);
}

static __always_inline void stats_sent(const struct packet *pkt)
{
	struct endpoint_stats *stats = stats_get(pkt->src.slot);

	if (stats) {
		stats->tx_packets++;
		stats->tx_bytes += pkt->length;
	}
}

static __always_inline void stats_count_received(__u32 slot, __u32 length)
{
	struct endpoint_stats *stats = stats_get(slot);

	if (stats) {
		stats->rx_packets++;
		stats->rx_bytes += length;
	}
}

static __always_inline void stats_received(const struct packet *pkt)
{
	stats_count_received(pkt->dst.slot, pkt->length);
}

/* How many bytes of the packet somebody asks for; 0: nobody does. */
static __always_inline __u32 event_bytes(void)
{
	const struct node_state *node = node_get();

	return node ? node->event_bytes : 0;
}

static __always_inline void event_capture(packet_context *ctx, struct packet_event *event,
					  __u32 bytes)
{
	__u32 len = packet_length(ctx) < bytes ? packet_length(ctx) : bytes;
	__u32 last = (len < EVENT_BYTES_MAX ? len : EVENT_BYTES_MAX) - 1;

	/* Linux 6.1 does not see that a length is not 0, but knows what one is added to. */
	PACKET_POINTER_KEEP(last);
	if (last < EVENT_BYTES_MAX && !packet_load(ctx, 0, event->bytes, last + 1))
		event->event.bytes = (__u16)(last + 1);
}

/* Reports a packet to the agent, on the budget of its sender if that is a pod of this node.
 * type: enum event_type. */
__weak int event_send(packet_context *ctx, const struct packet *pkt, __u32 type, __u32 reason,
		      __u32 direction)
{
	__u64 now_ns = bpf_ktime_get_coarse_ns();
	__u32 bytes = event_bytes();
	struct packet_event *with_bytes = NULL;
	struct flow_event *event = NULL;

	if (!pkt)
		return 0;
	if (budget_take_event(pkt->src.slot ? pkt->src.slot : pkt->dst.slot, now_ns)) {
		if (bytes) {
			with_bytes = bpf_ringbuf_reserve(&event_map, sizeof(*with_bytes), 0);
			event = (struct flow_event *)with_bytes;
		} else {
			event = bpf_ringbuf_reserve(&event_map, sizeof(*event), 0);
		}
	}
	if (!event) {
		notice(NOTICE_EVENTS_LOST);
		return 0;
	}
	__builtin_memset(event, 0, sizeof(*event));
	event->time_ns = now_ns;
	event->type = type;
	event->reason = reason;
	event->flow = pkt->flow;
	event->src_identity = pkt->src.identity;
	event->dst_identity = pkt->dst.identity;
	event->src_slot = (__u16)pkt->src.slot;
	event->dst_slot = (__u16)pkt->dst.slot;
	event->length = packet_length(ctx);
	event->tcp_flags = pkt->tcp_flags;
	event->direction = (__u8)direction;
	if (with_bytes)
		event_capture(ctx, with_bytes, bytes);
	bpf_ringbuf_submit(event, 0);
	return 0;
}

/* Counts the packet for its reason, and for one endpoint: the receiver if its ingress policy denied
 * it, else the sender, else the receiver. */
__weak int drop_count(packet_context *ctx, const struct packet *pkt, __u32 reason, __u32 direction)
{
	struct endpoint_stats *stats;
	__u32 slot;

	if (!pkt)
		return 0;
	slot = pkt->src.slot;
	if (!slot || (reason == DROP_INGRESS_DENIED && pkt->dst.slot))
		slot = pkt->dst.slot;
	metric_count(reason);
	if (slot) {
		stats = stats_get(slot);
		if (stats)
			stats->drops++;
	}
	return event_send(ctx, pkt, EVENT_DROP, reason, direction);
}

/* During a takeover the old program decides about packets without an entry here. */
static __always_inline bool drop_is_preliminary(int reason)
{
	return (reason == DROP_NOT_OPENED || reason == DROP_EGRESS_DENIED ||
		reason == DROP_INGRESS_DENIED || reason == DROP_UNRELATED_ERROR) &&
	       node_flags() & NODE_TAKEOVER;
}

static __always_inline int drop(packet_context *ctx, const struct packet *pkt,
				enum drop_reason reason, enum direction direction)
{
	drop_count(ctx, pkt, reason, direction);
	return TC_ACT_SHOT;
}

#endif
