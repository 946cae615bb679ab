/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Connection state: entries that let answers pass where policy alone would deny them.  An entry
 * exists only if the direction of the answers is isolated; verdict.bpf.h decides when it is looked
 * up.
 *
 * An entry is evidence: for TCP of a SYN that passed policy, then of a SYN-ACK that answers this
 * SYN.  It has the revision under which policy last allowed the connection.  If the revision
 * differs, policy is checked again in the opener's direction, whichever end sends.
 */
#ifndef TENDRIL_DATAPATH_BPF_CONNTRACK_BPF_H
#define TENDRIL_DATAPATH_BPF_CONNTRACK_BPF_H

#include <linux/errno.h>

#include "datapath/bpf/clock.bpf.h"
#include "datapath/bpf/flow.bpf.h"
#include "datapath/bpf/nat_entry.bpf.h"
#include "datapath/bpf/socket.bpf.h"

enum ct_result {
	CT_MISS,
	CT_PASS,
	CT_NOT_OPENED, /* an entry waits for its handshake, and this packet is not part of it */
};

struct ct_tuple {
	struct ct_key key;
	__u32 from_b; /* this packet comes from end b */
} __attribute__((aligned(8)));

static __always_inline __u64 addr_high(const struct addr *addr)
{
	return (__u64)bpf_ntohl(addr->w[0]) << 32 | bpf_ntohl(addr->w[1]);
}

static __always_inline __u64 addr_low(const struct addr *addr)
{
	return (__u64)bpf_ntohl(addr->w[2]) << 32 | bpf_ntohl(addr->w[3]);
}

/* Whether the flow's source sorts before its destination. */
static __always_inline bool flow_is_sorted(const struct flow *flow)
{
	__u64 s = addr_high(&flow->saddr), d = addr_high(&flow->daddr);

	if (s != d)
		return s < d;
	s = addr_low(&flow->saddr);
	d = addr_low(&flow->daddr);
	if (s != d)
		return s < d;
	return bpf_ntohs(flow->sport) <= bpf_ntohs(flow->dport);
}

static __always_inline void ct_tuple_fill(const struct flow *flow, struct ct_tuple *ret)
{
	bool sorted = flow_is_sorted(flow);

	ret->from_b = !sorted;
	ret->key.a = sorted ? flow->saddr : flow->daddr;
	ret->key.b = sorted ? flow->daddr : flow->saddr;
	ret->key.a_port = sorted ? flow->sport : flow->dport;
	ret->key.b_port = sorted ? flow->dport : flow->sport;
	ret->key.proto = flow->proto;
	__builtin_memset(ret->key.pad, 0, sizeof(ret->key.pad));
}

/* For paths that few packets take: one copy of the code. */
static __noinline void ct_tuple_make(const struct flow *flow, struct ct_tuple *ret)
{
	ct_tuple_fill(flow, ret);
}

static __always_inline __u64 ct_lifetime(const struct ct_entry *ct, __u8 proto)
{
	if (proto != IPPROTO_TCP)
		return ct->flags & CT_REPLIED ? CT_OTHER_REPLIED_NS : CT_OTHER_UNREPLIED_NS;
	if (ct->flags & CT_FIN_A && ct->flags & CT_FIN_B)
		return CT_TCP_CLOSING_NS;
	return ct->flags & CT_ESTABLISHED ? CT_TCP_ESTABLISHED_NS : CT_TCP_OPENING_NS;
}

/* ---- shares of the table --------------------------------------------------------------------- */

static __always_inline __s64 *ct_count(__u32 key)
{
	return bpf_map_lookup_elem(&ct_count_map, &key);
}

/* Weak: the verifier checks it once, not once for each place where an entry is deleted. */
__weak int ct_share_release(__u32 owner)
{
	__s64 *free = ct_count(CT_COUNT_FREE), *own = ct_count(owner);

	if (!free || !own)
		return 0;
	__sync_fetch_and_add(free, 1);
	__sync_fetch_and_sub(own, 1);
	return 0;
}

/* The endpoint that owns an entry: the opener, or the other end if the opener is no pod of this
 * node. */
static __always_inline __u32 ct_owner(const struct packet *pkt, bool answered)
{
	__u32 opener = answered ? pkt->dst.slot : pkt->src.slot;

	return opener ? opener : pkt->src.slot + pkt->dst.slot;
}

static __noinline void ct_delete(const struct ct_tuple *tuple, const struct ct_entry *ct)
{
	__u32 owner = ct->owner; /* the memory may soon be another entry */

	if (!(int)bpf_map_delete_elem(&ct_map, &tuple->key))
		ct_share_release(owner);
}

/* ---- entries --------------------------------------------------------------------------------- */

static __always_inline void ct_touch(struct ct_entry *ct, __u64 now_ns)
{
	ct->last_seen_ns = now_ns;
	ct->seen_jiffies = jiffies_now();
}

/* The live entry of a tuple, with its time updated.  An expired entry that the agent has not
 * deleted yet does not count.  CPUs may race to write nearly the same time; each of them is right.
 */
static __always_inline struct ct_entry *ct_find(const struct ct_tuple *tuple)
{
	struct ct_entry *ct = bpf_map_lookup_elem(&ct_map, &tuple->key);
	__u64 now_ns;

	if (!ct || seen_recently(ct->seen_jiffies))
		return ct;
	now_ns = bpf_ktime_get_coarse_ns();
	/* Written by a CPU whose coarse clock is a tick ahead: not old. */
	if ((__s64)(now_ns - ct->last_seen_ns) > (__s64)ct_lifetime(ct, tuple->key.proto))
		return NULL;
	ct_touch(ct, now_ns);
	return ct;
}

/* For paths that few packets take: one copy of the code. */
static __noinline struct ct_entry *ct_find_flow(const struct flow *flow, struct ct_tuple *ret)
{
	ct_tuple_make(flow, ret);
	return ct_find(ret);
}

static __always_inline bool ct_from_opener(const struct ct_entry *ct, const struct ct_tuple *tuple)
{
	return !(ct->flags & CT_FROM_B) == !tuple->from_b;
}

/* Whether policy lets the opener open this connection now: as policy_check(). */
static __noinline int ct_check_opener(const struct packet *pkt, bool from_opener, bool *ret_audited)
{
	struct policy_end opener;

	if (from_opener)
		return policy_check(&pkt->src, &pkt->dst, pkt->flow.proto, pkt->flow.dport,
				    ret_audited);
	opener = pkt->src;
	opener.identity = pkt->src_claimed;
	return policy_check(&pkt->dst, &opener, pkt->flow.proto, pkt->flow.sport, ret_audited);
}

/* Checks policy again if the revision differs.  False: the entry is gone. */
static __always_inline bool ct_revalidate(struct __sk_buff *skb, const struct packet *pkt,
					  struct ct_entry *ct, const struct ct_tuple *tuple,
					  bool from_opener)
{
	__u32 revision = node_revision();
	bool audited;
	int reason;

	if (ct->revision == revision)
		return true;
	if (!from_opener && ct->flags & CT_BEHIND_NODE)
		return true; /* needs a packet of the opener; the revision stays */
	reason = ct_check_opener(pkt, from_opener, &audited);
	if (reason && !audited) {
		ct_delete(tuple, ct);
		return false;
	}
	if (reason) {
		if (!from_opener)
			return true; /* reported with the opener's next packet */
		audit_report(skb, pkt, reason);
	}
	ct->revision = revision;
	return true;
}

static __always_inline void ct_flags_set(struct ct_entry *ct, __u32 flags)
{
	if ((ct->flags & flags) != flags)
		__sync_fetch_and_or(&ct->flags, flags);
}

/*
 * Makes an entry with the packet's sender as opener, or its receiver if "answered".  -EEXIST: there
 * is one.  -ENOSPC: the owner's share is full, and the flow goes on without an entry.
 *
 * An endpoint may own as many entries as are free: one endpoint that floods the table gets half of
 * it, two get a third each, and the others always find room.
 */
static __noinline int ct_insert(const struct packet *pkt, const struct ct_tuple *tuple,
				bool answered)
{
	__s64 *free, *own;
	int ret = -ENOSPC;
	struct ct_entry ct = {
		.revision = node_revision(),
		.syn_seq = answered ? 0 : pkt->seq,
		.syn_len = answered ? 0 : pkt->payload,
		.owner = ct_owner(pkt, answered),
	};

	free = ct_count(CT_COUNT_FREE);
	own = ct_count(ct.owner);
	ct_touch(&ct, bpf_ktime_get_coarse_ns());
	if (!tuple->from_b == answered)
		ct.flags = CT_FROM_B;
	if (answered)
		ct.flags |= CT_REPLIED | CT_ESTABLISHED;
	if (answered ? !!(pkt->dst_flags & IPCACHE_HOST)
		     : pkt->from_node || pkt->src.identity != pkt->src_claimed)
		ct.flags |= CT_BEHIND_NODE;
	/* Linux before 6.4 returns an int in a 64-bit register: the upper half is not the sign. */
	if (free && own && *own < *free)
		ret = (int)bpf_map_update_elem(&ct_map, &tuple->key, &ct, BPF_NOEXIST);
	if (!ret) {
		__sync_fetch_and_sub(free, 1);
		__sync_fetch_and_add(own, 1);
	} else if (ret != -EEXIST) {
		notice(NOTICE_CT_FULL);
	}
	return ret;
}

/* As ct_insert(), but replaces an entry that exists. */
static __noinline void ct_replace(const struct packet *pkt, const struct ct_tuple *tuple,
				  bool answered)
{
	const struct ct_entry *old = bpf_map_lookup_elem(&ct_map, &tuple->key);

	if (old)
		ct_delete(tuple, old);
	ct_insert(pkt, tuple, answered);
}

/* ---- TCP ------------------------------------------------------------------------------------ */

/* For a SYN that policy allowed, if its answers need an entry.  Replaces an older entry of the same
 * ends, unless this is the same SYN sent again: its answer may have been seen already. */
__weak int ct_tcp_open(const struct packet *pkt)
{
	struct ct_tuple tuple;
	struct ct_entry *ct;
	int ret;

	if (!pkt)
		return 0;
	ct_tuple_make(&pkt->flow, &tuple);
	ret = ct_insert(pkt, &tuple, false);
	if (!ret)
		return 0;
	ct = ct_find_flow(&pkt->flow, &tuple);
	if (ct && ct_from_opener(ct, &tuple) && ct->syn_seq == pkt->seq &&
	    ct->syn_len == pkt->payload) {
		ct->revision = node_revision();
		return 0;
	}
	if (ct || ret == -EEXIST) /* an expired one is there, too */
		ct_replace(pkt, &tuple, false);
	return 0;
}

/* SYN-ACK or RST that acknowledges the opener's SYN, or its SYN and the data in it. */
static __always_inline bool ct_answers_syn(const struct packet *pkt, const struct ct_entry *ct)
{
	return pkt->tcp_flags & TCP_ACK && pkt->tcp_flags & (TCP_SYN | TCP_RST) &&
	       pkt->ack - ct->syn_seq - 1 <= ct->syn_len;
}

/* Not inline: without its flow the deepest stack is within what Linux 6.1 allows. */
static __noinline void ct_tcp_reset(struct __sk_buff *skb, const struct packet *pkt,
				    struct ct_entry *ct, const struct ct_tuple *tuple)
{
	enum reset reset;
	struct flow flow;

	nat_socket_flow(pkt, &flow);
	reset = socket_reset(skb, pkt, &flow);
	if (reset == RESET_ENDS)
		ct_delete(tuple, ct);
	else if (reset == RESET_MAY_END)
		ct_flags_set(ct, CT_FIN_A | CT_FIN_B);
}

/*
 * Follows the end of a connection.  The ACK of the second FIN, the last packet that needs the
 * entry, deletes it; or the second FIN itself, if the direction of that ACK is not isolated.
 * CT_TCP_CLOSING_NS is for connections whose last ACK is never seen.
 */
static __always_inline void ct_tcp_close(const struct packet *pkt, struct ct_entry *ct,
					 const struct ct_tuple *tuple)
{
	__u32 both = CT_FIN_A | CT_FIN_B;
	bool ack_is_free = !(pkt->dst.flags & ENDPOINT_EGRESS_ISOLATED ||
			     pkt->src.flags & ENDPOINT_INGRESS_ISOLATED);
	__u32 before = ct->flags & both;

	if (pkt->tcp_flags & TCP_FIN) {
		ct_flags_set(ct, tuple->from_b ? CT_FIN_B : CT_FIN_A);
		if (!ack_is_free || (ct->flags & both) != both)
			return;
	} else if (before != both) {
		return;
	}
	ct_delete(tuple, ct);
}

/* Returns enum ct_result of a segment that is not a SYN, and updates its entry. */
__weak int ct_tcp(struct __sk_buff *skb, const struct packet *pkt)
{
	struct ct_tuple tuple;
	struct ct_entry *ct;
	bool from_opener;

	if (!pkt)
		return CT_MISS;
	ct_tuple_fill(&pkt->flow, &tuple);
	ct = ct_find(&tuple);
	if (!ct)
		return CT_MISS;
	from_opener = ct_from_opener(ct, &tuple);
	if (!ct_revalidate(skb, pkt, ct, &tuple, from_opener))
		return CT_MISS;
	if (!(ct->flags & CT_REPLIED)) {
		if (!from_opener && !ct_answers_syn(pkt, ct))
			return CT_NOT_OPENED;
		if (!from_opener)
			ct_flags_set(ct, CT_REPLIED);
	} else if (!(pkt->tcp_flags & (TCP_SYN | TCP_RST))) {
		/* This only decides how long it may be silent: the receiver itself judges a
		 * handshake that its opener never finished. */
		ct_flags_set(ct, CT_ESTABLISHED);
	}
	if (pkt->tcp_flags & TCP_RST)
		ct_tcp_reset(skb, pkt, ct, &tuple);
	else
		ct_tcp_close(pkt, ct, &tuple);
	return CT_PASS;
}

/*
 * There is no entry, and policy does not let the sender open this connection.  The packet may still
 * be an answer whose entry was lost, or never made because no end was isolated.  True if policy
 * lets the receiver open the connection and the receiver's own socket proves that it did.  Makes
 * the entry again, unless the connection is about to end.
 */
__weak int ct_tcp_pick_up(struct __sk_buff *skb, const struct packet *pkt)
{
	struct socket_view view = {};
	struct ct_tuple tuple;
	struct flow flow;
	bool audited;

	if (!pkt)
		return 0;
	/* Connections that the node itself opened need no policy, and its namespace has no sockets
	 * of pods. */
	if (!(pkt->dst_flags & IPCACHE_HOST) && ct_check_opener(pkt, false, &audited) && !audited)
		return 0;
	nat_socket_flow(pkt, &flow);
	if (!socket_opened(skb, pkt, &flow, &view))
		return 0;
	if (!(pkt->tcp_flags & TCP_RST) &&
	    (view.state == BPF_TCP_ESTABLISHED || view.state == BPF_TCP_SYN_SENT)) {
		ct_tuple_make(&pkt->flow, &tuple);
		ct_replace(pkt, &tuple, true);
	}
	return 1;
}

/* ---- everything else ------------------------------------------------------------------------ */

/*
 * Returns enum ct_result of a packet of a protocol without a handshake.  If its entry is lost, the
 * answers are dropped until the opener sends again: no socket proves who sent first.
 */
__weak int ct_other(struct __sk_buff *skb, const struct packet *pkt)
{
	struct ct_tuple tuple;
	struct ct_entry *ct;
	bool from_opener;

	if (!pkt)
		return CT_MISS;
	ct = ct_find_flow(&pkt->flow, &tuple);
	if (!ct)
		return CT_MISS;
	from_opener = ct_from_opener(ct, &tuple);
	/* The other end opens an association or sends a request of its own: not an answer. */
	if (!from_opener && (pkt->opens || (packet_is_icmp(pkt) && !packet_is_icmp_reply(pkt))))
		return CT_MISS;
	if (!ct_revalidate(skb, pkt, ct, &tuple, from_opener))
		return CT_MISS;
	if (!from_opener)
		ct_flags_set(ct, CT_REPLIED);
	return CT_PASS;
}

__weak int ct_other_open(const struct packet *pkt)
{
	struct ct_tuple tuple;

	if (!pkt)
		return 0;
	ct_tuple_make(&pkt->flow, &tuple);
	ct_replace(pkt, &tuple, false);
	return 0;
}

#endif
