/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What is noted and told of packets that pass: flows for an observer, and what an audited end
 * (ENDPOINT_AUDIT) would have refused.  None of it decides anything.
 */
#ifndef TENDRIL_DATAPATH_BPF_FLOW_BPF_H
#define TENDRIL_DATAPATH_BPF_FLOW_BPF_H

#include "datapath/bpf/drop.bpf.h"

/*
 * Notes a packet in flow_map, unless it is an answer to a flow that is there.  Returns whether it
 * is time to tell of the flow: of every opening, of others each FLOW_TELL_NS.
 */
__weak int flow_note(const struct packet *pkt, __u32 what)
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
	__sync_fetch_and_or(&seen->flags, what);
	if (!(what & FLOW_AUDITED) ||
	    (!pkt->opens && seen->told_ns && now_ns - seen->told_ns < FLOW_TELL_NS))
		return 0;
	seen->told_ns = now_ns;
	return 1;
}

static __always_inline bool is_audited(const struct policy_end *end, __u32 isolated)
{
	return (end->flags & (isolated | ENDPOINT_AUDIT)) == (isolated | ENDPOINT_AUDIT);
}

/* One audited end that would have refused the packet. */
static __noinline int audit_end(const struct packet *pkt, __u32 reason, __u32 direction, int tell)
{
	__u32 slot = direction == DIR_EGRESS ? pkt->src.slot : pkt->dst.slot;
	struct endpoint_stats *stats = stats_get(slot);

	notice(NOTICE_WOULD_DROP);
	if (stats)
		stats->would_drops++;
	return tell ? event_send(pkt, EVENT_AUDIT, reason, direction) : 0;
}

/*
 * A packet passes that would have been dropped for this reason (or its negative), were no end
 * audited.  What the sender's egress refuses, an audited receiver may refuse as well: each end
 * tells for itself.
 */
__weak int audit_tell(const struct packet *pkt, int reason)
{
	__u32 why = reason < 0 ? -reason : reason;
	int tell;

	if (!pkt)
		return DROP_NONE;
	tell = flow_note(pkt, FLOW_PASSED | FLOW_AUDITED);
	if (is_audited(&pkt->src, ENDPOINT_EGRESS_ISOLATED) && why != DROP_INGRESS_DENIED) {
		audit_end(pkt, why, DIR_EGRESS, tell);
		if (why != DROP_EGRESS_DENIED ||
		    !is_audited(&pkt->dst, ENDPOINT_INGRESS_ISOLATED) ||
		    policy_verdict(pkt->dst.policy_id, DIR_INGRESS, pkt->src.identity,
				   pkt->flow.proto, bpf_ntohs(pkt->flow.dport)) == VERDICT_ALLOW)
			return DROP_NONE;
		why = DROP_INGRESS_DENIED;
	}
	audit_end(pkt, why, DIR_INGRESS, tell);
	return DROP_NONE;
}

#endif
