/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Decides whether a packet from one end to the other passes.  The decisions are numbered; each
 * number has its cases in tests/bpf.
 *
 *	1  A pod reaches itself.
 *	2  Nobody is isolated, neither for this packet nor for its answers: passes, no state.
 *	3  A SYN passes by policy alone, never by an entry; an entry is made for its answers if
 *	   they are isolated.
 *	4  Another TCP segment passes where this direction is not isolated, or by policy (which
 *	   keeps no state), or by its entry.
 *	5  Else by the receiver's own socket, if policy lets the receiver open the connection: so a
 *	   full or emptied table breaks no connection whose opener is on this node.
 *	6  Other protocols pass by their entry or by policy.  A packet that policy allows makes an
 *	   entry if policy would deny its answers.  Each packet may be the first.
 *	7  An ICMP error passes if the packet it is about can have been sent (icmp.bpf.h).  One from
 *	   a pod of this node must be about a packet to that pod.
 *	8  A fragment whose ports are not known passes only where they do not matter.
 *	12 A packet that only audited ends deny is decided on as if enforced, reported, and passes.
 *
 * Decision 0, who may send at all, is from_pod's; 9, what policy says, is policy.bpf.h; 10,
 * services, is nat.bpf.h; 11, where a packet goes from here, is pod.bpf.c.
 */
#ifndef TENDRIL_DATAPATH_BPF_VERDICT_BPF_H
#define TENDRIL_DATAPATH_BPF_VERDICT_BPF_H

#include "datapath/bpf/icmp.bpf.h"
#include "datapath/bpf/passed.bpf.h"

static __always_inline bool is_isolated(const struct policy_end *from, const struct policy_end *to)
{
	return from->flags & ENDPOINT_EGRESS_ISOLATED || to->flags & ENDPOINT_INGRESS_ISOLATED;
}

static __always_inline int verdict_policy(const struct packet *pkt, bool *ret_audited)
{
	return policy_check(&pkt->src, &pkt->dst, pkt->flow.proto, pkt->flow.dport, ret_audited);
}

/* Whether an end that is isolated for this packet is enforced, not audited. */
static __always_inline bool is_enforced(const struct packet *pkt)
{
	return (pkt->src.flags & (ENDPOINT_EGRESS_ISOLATED | ENDPOINT_AUDIT)) ==
		       ENDPOINT_EGRESS_ISOLATED ||
	       (pkt->dst.flags & (ENDPOINT_INGRESS_ISOLATED | ENDPOINT_AUDIT)) ==
		       ENDPOINT_INGRESS_ISOLATED;
}

/*
 * Whether to look up policy before the entry.  The order changes the cost, not the verdict: a
 * segment passes if either allows it.  Servers usually have the lower port, and their answers have
 * entries.
 */
static __always_inline bool looks_like_request(const struct packet *pkt)
{
	return bpf_ntohs(pkt->flow.sport) > bpf_ntohs(pkt->flow.dport);
}

/*
 * Whether a segment that passes without the entry must update it: a FIN or RST, and every segment
 * of an opener elsewhere, so that its connection counts as established.  An opener on this node has
 * a socket that proves it (decision 5).
 */
static __always_inline bool ct_must_see(const struct packet *pkt, bool answers_isolated)
{
	return pkt->tcp_flags & (TCP_FIN | TCP_RST) || (answers_isolated && !pkt->src.slot);
}

/* Decisions 3 to 5. */
static __always_inline int verdict_tcp(struct __sk_buff *skb, const struct packet *pkt,
				       bool isolated, bool answers_isolated, bool *ret_audited)
{
	bool policy_first = !answers_isolated && looks_like_request(pkt);
	int reason = DROP_NONE, result;

	if (pkt->opens) { /* 3 */
		reason = verdict_policy(pkt, ret_audited);
		if ((!reason || *ret_audited) && answers_isolated)
			ct_tcp_open(pkt);
		return reason;
	}
	if (!isolated || policy_first) { /* 4 */
		reason = isolated ? verdict_policy(pkt, ret_audited) : DROP_NONE;
		if (!reason) {
			if (ct_must_see(pkt, answers_isolated))
				ct_tcp(skb, pkt);
			return DROP_NONE;
		}
	}
	result = ct_tcp(skb, pkt);
	if (result == CT_PASS)
		return DROP_NONE;
	if (!policy_first)
		reason = verdict_policy(pkt, ret_audited);
	if (!reason || ct_tcp_pick_up(skb, pkt)) /* 5 */
		return DROP_NONE;
	if (!*ret_audited && (result == CT_NOT_OPENED || pkt->tcp_flags & TCP_SYN))
		return DROP_NOT_OPENED;
	return reason;
}

/* Decision 6. */
static __always_inline int verdict_other(struct __sk_buff *skb, const struct packet *pkt,
					 bool isolated, bool answers_isolated, bool *ret_audited)
{
	bool policy_first = !answers_isolated && looks_like_request(pkt);
	int reason = DROP_NONE;
	bool audited;

	if (policy_first) {
		reason = verdict_policy(pkt, ret_audited);
		if (!reason)
			return DROP_NONE;
	}
	if (ct_other(skb, pkt) == CT_PASS)
		return DROP_NONE;
	if (isolated && !policy_first)
		reason = verdict_policy(pkt, ret_audited);
	if ((reason && !*ret_audited) || !answers_isolated)
		return reason;
	/* An ICMP reply opens nothing: its entry would let requests in. */
	if (packet_is_icmp(pkt) && packet_is_icmp_reply(pkt))
		return reason;
	/* If policy lets the other end send this as a request, its answers need no entry.  An entry
	 * made by an answer to such a request would outlive the policy that allowed it. */
	if (ct_check_opener(pkt, false, &audited))
		ct_other_open(pkt);
	return reason;
}

/* Decisions 2 to 8. */
static __always_inline int verdict_decide(struct __sk_buff *skb, const struct packet *pkt,
					  bool *ret_audited)
{
	bool isolated = is_isolated(&pkt->src, &pkt->dst);
	bool answers_isolated = is_isolated(&pkt->dst, &pkt->src);

	if (!isolated && !answers_isolated) /* 2 */
		return DROP_NONE;
	if (pkt->fragment == FRAGMENT_ORPHAN) /* 8 */
		return isolated ? DROP_FRAGMENT : DROP_NONE;
	if (pkt->kind == PACKET_ICMP_ERROR) /* 7 */
		return isolated ? icmp_error_check(skb, pkt) : DROP_NONE;
	if (pkt->flow.proto == IPPROTO_TCP)
		return verdict_tcp(skb, pkt, isolated, answers_isolated, ret_audited);
	return verdict_other(skb, pkt, isolated, answers_isolated, ret_audited);
}

/* False for most packets of pods without policy (2), which saves the call: no end is isolated, and
 * the packet is neither an opening that somebody watches nor an answer of DNS. */
static __always_inline bool verdict_is_needed(const struct packet *pkt)
{
	const __u32 isolated = ENDPOINT_EGRESS_ISOLATED | ENDPOINT_INGRESS_ISOLATED;

	return pkt->flow.proto != IPPROTO_TCP || pkt->opens || dns_is_port(pkt->flow.sport) ||
	       (pkt->src.flags | pkt->dst.flags) & isolated;
}

__weak int verdict(struct __sk_buff *skb, const struct packet *pkt)
{
	bool audited = false;
	int reason;

	if (!pkt)
		return DROP_BAD_HEADER;
	if (pkt->src.slot && pkt->src.slot == pkt->dst.slot) /* 1 */
		return DROP_NONE;
	if (pkt->kind == PACKET_ICMP_ERROR && pkt->src.slot && !icmp_is_about_sender(skb, pkt))
		return DROP_UNRELATED_ERROR; /* 7; it is forged, also in audit mode */
	reason = verdict_decide(skb, pkt, &audited);
	if (reason && (audited || !is_enforced(pkt))) /* 12 */
		return audit_report(skb, pkt, reason);
	/* Here, before the packet leaves: flows have the addresses that policy sees, not the
	 * service's. */
	if ((pkt->opens || pkt->flow.proto != IPPROTO_TCP) && pkt->kind == PACKET_PLAIN &&
	    node_flags() & NODE_FLOWS)
		flow_update(pkt, reason ? FLOW_DENIED : FLOW_PASSED);
	if (!reason && pkt->flow.proto != IPPROTO_TCP && pkt->kind == PACKET_PLAIN &&
	    node_flags() & NODE_PASSED)
		passed_count(skb, pkt);
	if (!reason && pkt->flow.proto == IPPROTO_TCP && dns_is_port(pkt->flow.sport) &&
	    node_flags() & NODE_DNS)
		dns_report_tcp(skb, pkt);
	return reason;
}

#endif
