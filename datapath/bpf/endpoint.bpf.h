/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The pods of this node, by slot and by address.
 */
#ifndef TENDRIL_DATAPATH_BPF_ENDPOINT_BPF_H
#define TENDRIL_DATAPATH_BPF_ENDPOINT_BPF_H

#include "datapath/bpf/drop.bpf.h"

static __always_inline const struct endpoint_entry *endpoint_get(__u32 slot)
{
	const struct endpoint_entry *endpoint = bpf_map_lookup_elem(&endpoint_map, &slot);

	return slot && endpoint && endpoint->flags & ENDPOINT_VALID ? endpoint : NULL;
}

static __always_inline bool endpoint_has_addr(const struct endpoint_entry *endpoint, bool ipv6,
					      const struct addr *addr)
{
	const struct addr *own = ipv6 ? &endpoint->v6 : &endpoint->v4;

	return addr_equal(own, addr) && !addr_is_zero(own);
}

/* Reports a connection that may pass, if somebody watches. */
static __always_inline void verdict_report(packet_context *ctx, const struct packet *pkt,
					   enum direction direction)
{
	if (pkt->opens && node_flags() & NODE_VERDICT_EVENTS)
		event_send(ctx, pkt, EVENT_VERDICT, DROP_NONE, direction);
}

/* Looks the destination up in ipcache_map; the slot of a local pod is cached. */
static __noinline int find_by_address(struct packet *pkt, __u32 *cached_slot)
{
	struct ipcache_entry entry = ipcache_lookup(&pkt->flow.daddr);
	const struct endpoint_entry *endpoint;

	pkt->dst_flags = entry.flags;
	pkt->dst.flags = 0;
	pkt->dst.slot = 0;
	pkt->dst.identity = entry.identity;
	if (!entry.slot)
		return DROP_NONE;
	endpoint = endpoint_get(entry.slot);
	if (!endpoint)
		return DROP_NO_ENDPOINT;
	policy_end_load(endpoint, entry.slot, pkt->ipv6, &pkt->dst);
	if (cached_slot && !entry.flags)
		*cached_slot = entry.slot;
	return DROP_NONE;
}

/* The bucket of slot_map for the destination address. */
static __always_inline __u32 *slot_map_bucket(const struct packet *pkt)
{
	__u32 bucket = bpf_ntohl(pkt->flow.daddr.w[3]) % SLOT_MAP_BUCKETS;

	if (pkt->ipv6)
		bucket += SLOT_MAP_BUCKETS;
	return bpf_map_lookup_elem(&slot_map, &bucket);
}

/* Who the destination is; a pod of this node becomes dst with its policy. */
static __always_inline int find_destination(struct packet *pkt)
{
	__u32 *cached_slot = slot_map_bucket(pkt);
	__u32 slot = cached_slot ? *(volatile __u32 *)cached_slot : 0;
	const struct endpoint_entry *endpoint = endpoint_get(slot);

	if (!endpoint || !endpoint_has_addr(endpoint, pkt->ipv6, &pkt->flow.daddr))
		return find_by_address(pkt, cached_slot);
	pkt->dst_flags = 0;
	policy_end_load(endpoint, slot, pkt->ipv6, &pkt->dst);
	return DROP_NONE;
}

#endif
