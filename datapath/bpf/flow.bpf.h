/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Records packets that pass: the flows that somebody watches, and packets that the policy of an
 * audited end (ENDPOINT_AUDIT) denies.  Nothing here decides about a packet.
 */
#ifndef TENDRIL_DATAPATH_BPF_FLOW_BPF_H
#define TENDRIL_DATAPATH_BPF_FLOW_BPF_H

#include "datapath/bpf/drop.bpf.h"

/*
 * Counts a packet in flow_map, unless it is an answer to a flow that is there.  flags: enum
 * flow_flag.  Returns whether to report the flow now: each opening, other packets once in
 * FLOW_REPORT_NS.
 */
__weak int flow_update(const struct packet *pkt, __u32 flags)
{
	__u64 now_ns = bpf_ktime_get_coarse_ns();
	struct flow_record *seen, record = {};
	struct flow_key key __attribute__((aligned(8))) = {}; /* copied in two moves, not four */

	if (!pkt)
		return 0;
	key.proto = pkt->flow.proto;
	if (!pkt->opens) {
		key.saddr = pkt->flow.daddr;
		key.daddr = pkt->flow.saddr;
		key.dport = pkt->flow.sport;
		if (bpf_map_lookup_elem(&flow_map, &key))
			return 0;
	}
	key.saddr = pkt->flow.saddr;
	key.daddr = pkt->flow.daddr;
	key.dport = pkt->flow.dport;
	seen = bpf_map_lookup_elem(&flow_map, &key);
	if (!seen) {
		record.first_ns = now_ns;
		record.sport = pkt->flow.sport;
		bpf_map_update_elem(&flow_map, &key, &record, BPF_NOEXIST);
		seen = bpf_map_lookup_elem(&flow_map, &key);
		if (!seen)
			return 1;
	}
	seen->packets++;
	seen->last_ns = now_ns;
	__sync_fetch_and_or(&seen->flags, flags);
	if (!(flags & FLOW_AUDITED) ||
	    (!pkt->opens && seen->reported_ns && now_ns - seen->reported_ns < FLOW_REPORT_NS))
		return 0;
	seen->reported_ns = now_ns;
	return 1;
}

static __always_inline bool is_audited(const struct policy_end *end, __u32 isolated)
{
	return (end->flags & (isolated | ENDPOINT_AUDIT)) == (isolated | ENDPOINT_AUDIT);
}

/* Counts and reports for one audited end.  Inline: a frame less on the deepest stack. */
static __always_inline int audit_end(struct __sk_buff *skb, const struct packet *pkt, __u32 reason,
				     __u32 direction, int report)
{
	__u32 slot = direction == DIR_EGRESS ? pkt->src.slot : pkt->dst.slot;
	struct endpoint_stats *stats = stats_get(slot);

	notice(NOTICE_WOULD_DROP);
	if (stats)
		stats->would_drops++;
	return report ? event_send(skb, pkt, EVENT_AUDIT, reason, direction) : 0;
}

/*
 * For a packet that passes, but would be dropped for this reason if no end were audited.  If the
 * sender's egress policy denies it, an audited receiver may deny it as well: each is reported.
 */
__weak int audit_report(struct __sk_buff *skb, const struct packet *pkt, __u32 reason)
{
	int report;

	if (!pkt)
		return DROP_NONE;
	report = flow_update(pkt, FLOW_PASSED | FLOW_AUDITED);
	if (is_audited(&pkt->src, ENDPOINT_EGRESS_ISOLATED) && reason != DROP_INGRESS_DENIED) {
		audit_end(skb, pkt, reason, DIR_EGRESS, report);
		if (reason != DROP_EGRESS_DENIED ||
		    !is_audited(&pkt->dst, ENDPOINT_INGRESS_ISOLATED) ||
		    policy_verdict(pkt->dst.policy_id, DIR_INGRESS, pkt->src.identity,
				   pkt->flow.proto, bpf_ntohs(pkt->flow.dport)) == VERDICT_ALLOW)
			return DROP_NONE;
		reason = DROP_INGRESS_DENIED;
	}
	audit_end(skb, pkt, reason, DIR_INGRESS, report);
	return DROP_NONE;
}

#endif
