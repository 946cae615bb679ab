/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Reports packets of pods that the kernel itself drops, with its reason.  Attached only while
 * somebody watches: the tracepoint runs for each packet that the kernel frees without delivering
 * it.
 *
 * Nothing in a packet that is freed can be relied upon: where its headers are, and which device it
 * came by, may be left from somebody else.  So only a packet that has an address of the pod counts.
 */
#include "datapath/bpf/maps.bpf.h"

#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#include <bpf/bpf_endian.h>

#include "datapath/bpf/budget.bpf.h"
#include "datapath/bpf/ipcache.bpf.h"
#include "datapath/bpf/kernel.bpf.h"
#include "datapath/bpf/metric.bpf.h"

#define TCP_FLAGS_OFFSET 13

static __always_inline __u32 netns_slot(const struct net *net)
{
	__u64 cookie = net->net_cookie;
	__u32 *slot = bpf_map_lookup_elem(&netns_map, &cookie);

	return slot ? *slot : 0;
}

/* The pod in whose namespace the packet is, or whose socket has sent it. */
static __always_inline __u32 packet_slot(const struct sk_buff *skb)
{
	const struct sock *sk = skb->sk;
	const struct net_device *dev = skb->dev;
	__u32 slot = dev ? netns_slot(dev->nd_net.net) : 0;

	return slot || !sk ? slot : netns_slot(sk->__sk_common.skc_net.net);
}

/* Addresses and protocol; returns where the transport header is, 0: it is no IP packet. */
static __always_inline __u32 read_ip(const unsigned char *ip, struct flow *flow)
{
	struct ipv6hdr v6;
	struct iphdr v4;

	if (bpf_probe_read_kernel(&v4, sizeof(v4), ip))
		return 0;
	if (v4.version == 4 && v4.ihl >= 5) {
		addr_from_v4(&flow->saddr, v4.saddr);
		addr_from_v4(&flow->daddr, v4.daddr);
		flow->proto = v4.protocol;
		return v4.ihl * 4;
	}
	if (v4.version != 6 || bpf_probe_read_kernel(&v6, sizeof(v6), ip))
		return 0;
	__builtin_memcpy(&flow->saddr, &v6.saddr, sizeof(flow->saddr));
	__builtin_memcpy(&flow->daddr, &v6.daddr, sizeof(flow->daddr));
	flow->proto = v6.nexthdr;
	return sizeof(v6);
}

static __always_inline void read_transport(const unsigned char *transport, struct flow_event *event)
{
	struct flow *flow = &event->flow;
	__be16 ports[2];

	if (flow->proto != IPPROTO_TCP && flow->proto != IPPROTO_UDP && flow->proto != IPPROTO_SCTP)
		return;
	if (!bpf_probe_read_kernel(ports, sizeof(ports), transport)) {
		flow->sport = ports[0];
		flow->dport = ports[1];
	}
	if (flow->proto == IPPROTO_TCP)
		bpf_probe_read_kernel(&event->tcp_flags, 1, transport + TCP_FLAGS_OFFSET);
}

static __always_inline bool endpoint_owns(const struct endpoint_entry *endpoint,
					  const struct addr *addr)
{
	return addr_equal(addr, &endpoint->v4) || addr_equal(addr, &endpoint->v6);
}

/* Fills in what the packet says; false: it is no packet of the pod. */
static __always_inline bool event_fill(struct flow_event *event, const struct sk_buff *skb,
				       __u32 slot)
{
	const struct endpoint_entry *endpoint = bpf_map_lookup_elem(&endpoint_map, &slot);
	const unsigned char *ip = skb->head + skb->network_header;
	__u32 transport = read_ip(ip, &event->flow);

	if (!transport || !endpoint)
		return false;
	read_transport(ip + transport, event);
	if (endpoint_owns(endpoint, &event->flow.daddr)) {
		event->dst_slot = (__u16)slot;
		event->direction = DIR_INGRESS;
		return true;
	}
	event->src_slot = (__u16)slot;
	event->direction = DIR_EGRESS;
	return endpoint_owns(endpoint, &event->flow.saddr);
}

/* What our own programs drop has been reported with a better reason. */
static __always_inline bool reason_counts(__u32 reason)
{
	return reason > bpf_core_enum_value(enum skb_drop_reason, SKB_DROP_REASON_NOT_SPECIFIED) &&
	       reason != bpf_core_enum_value(enum skb_drop_reason, SKB_DROP_REASON_TC_INGRESS) &&
	       reason != bpf_core_enum_value(enum skb_drop_reason, SKB_DROP_REASON_TC_EGRESS);
}

SEC("tp_btf/kfree_skb")
int packet_freed(__u64 *args)
{
	const struct sk_buff *skb = (const struct sk_buff *)args[0];
	__u32 reason = (__u32)args[2];
	struct flow_event *event, filled = {};
	__u64 now_ns;
	__u32 slot;

	if (!reason_counts(reason))
		return 0;
	slot = packet_slot(skb);
	if (!slot || !event_fill(&filled, skb, slot))
		return 0;
	now_ns = bpf_ktime_get_ns();
	if (!budget_take_event(slot, now_ns)) {
		notice(NOTICE_EVENTS_LOST);
		return 0;
	}
	filled.time_ns = now_ns;
	filled.type = EVENT_KERNEL_DROP;
	filled.reason = reason;
	filled.length = skb->len;
	event = bpf_ringbuf_reserve(&event_map, sizeof(*event), 0);
	if (!event) {
		notice(NOTICE_EVENTS_LOST);
		return 0;
	}
	*event = filled;
	bpf_ringbuf_submit(event, 0);
	return 0;
}
