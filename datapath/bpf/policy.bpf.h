/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The verdict of compiled policy for two ends, a protocol and a port.  It does not need a packet,
 * so tc programs and socket programs call the same functions.  policy/compiler/verdict.c does the
 * same in plain C, and tests compare the two.
 */
#ifndef TENDRIL_DATAPATH_BPF_POLICY_BPF_H
#define TENDRIL_DATAPATH_BPF_POLICY_BPF_H

#include <bpf/bpf_endian.h>

#include "datapath/bpf/ipcache.bpf.h"

/* One end of a flow as policy sees it.  Flags of an end that is not enforced here (outside, host,
 * another node) are 0. */
struct policy_end {
	__u32 flags; /* enum endpoint_flag */
	__u32 policy_id;
	__u32 identity;
	__u32 slot; /* of the local endpoint, 0: none */
};

/* flags and policy_id are read as one word, as they were written: a mix of an old and a new policy
 * must not be used. */
static __always_inline void policy_end_load(const struct endpoint_entry *endpoint, __u32 slot,
					    bool ipv6, struct policy_end *ret)
{
	union {
		__u64 word;
		struct {
			__u32 flags;
			__u32 policy_id;
		};
	} seen = { .word = *(const volatile __u64 *)endpoint };

	ret->flags = seen.flags;
	ret->policy_id = seen.policy_id;
	ret->identity = ipv6 ? endpoint->identity_v6 : endpoint->identity;
	ret->slot = slot;
}

static __always_inline enum verdict port_set_verdict(__u32 port_set, __u32 proto, __u32 port)
{
	struct port_key key = {
		.prefixlen = 56,
		.port_set = port_set,
		.proto = (__u8)proto,
		.port = { (__u8)(port >> 8), (__u8)port },
	};
	const __u8 *verdict = bpf_map_lookup_elem(&port_map, &key);

	if (!verdict) {
		key.proto = 0;
		verdict = bpf_map_lookup_elem(&port_map, &key);
	}
	return verdict ? *verdict : VERDICT_DENY;
}

/*
 * enum verdict of one direction of one policy; port in host order.  A weak function, so that the
 * verifier checks it once; several objects contain it, and the linker keeps one.
 */
__weak int policy_verdict(__u32 policy_id, __u32 direction, __u32 peer, __u32 proto, __u32 port)
{
	struct policy_key key = {
		.policy_id = policy_id,
		.peer = peer,
		.direction = (__u8)direction,
	};
	const struct policy_entry *entry = bpf_map_lookup_elem(&policy_map, &key);
	const struct port_rule *rule;

	if (!entry) {
		key.peer = IDENTITY_ANY;
		entry = bpf_map_lookup_elem(&policy_map, &key);
	}
	if (!entry)
		return VERDICT_DENY;
	if (entry->port_set)
		return port_set_verdict(entry->port_set, proto, port);
#pragma unroll
	for (int i = 0; i < POLICY_INLINE_RULES; i++) {
		rule = &entry->rules[i];
		if (i >= entry->rule_count)
			break;
		if (!rule->proto ||
		    (rule->proto == proto && rule->port_min <= port && port <= rule->port_max))
			return rule->verdict;
	}
	return VERDICT_DENY;
}

/*
 * Whether "from" may send to this port of "to": egress policy of the sender first, then ingress
 * policy of the receiver.  Returns DROP_NONE or the reason why not.  *ret_audited: only audited
 * ends deny it, so the packet passes and the reason is for the report.  XDP does not use it.
 */
static __noinline __attribute__((unused)) int policy_check(const struct policy_end *from,
							   const struct policy_end *to, __u32 proto,
							   __be16 port, bool *ret_audited)
{
	int reason = DROP_NONE;

	*ret_audited = false;
	if (from->flags & ENDPOINT_EGRESS_ISOLATED &&
	    policy_verdict(from->policy_id, DIR_EGRESS, to->identity, proto, bpf_ntohs(port)) !=
		    VERDICT_ALLOW) {
		reason = DROP_EGRESS_DENIED;
		if (!(from->flags & ENDPOINT_AUDIT))
			return reason;
		*ret_audited = true;
	}
	if (to->flags & ENDPOINT_INGRESS_ISOLATED &&
	    policy_verdict(to->policy_id, DIR_INGRESS, from->identity, proto, bpf_ntohs(port)) !=
		    VERDICT_ALLOW) {
		*ret_audited = to->flags & ENDPOINT_AUDIT;
		if (!reason || !*ret_audited)
			reason = DROP_INGRESS_DENIED;
	}
	return reason;
}

#endif
