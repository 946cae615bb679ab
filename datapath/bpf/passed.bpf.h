/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Counts packets that pass and belong to no TCP connection, by flow: bytes and packets of both
 * ends.  TCP's are counted by the kernel's sockets (tcp.bpf.c).  Nothing here decides about a
 * packet.
 *
 * passed_map is an array, so the look into it is a few instructions without a call.  Both
 * directions of a flow have the same set of places.  CPUs take a place with compare-and-swap and
 * count with atomic additions.  A packet that finds its flow in the very moment in which that makes
 * room for another is counted for the other one.  Two CPUs that see the first packets of a flow at
 * the same moment may make two flows of it.
 */
#ifndef TENDRIL_DATAPATH_BPF_PASSED_BPF_H
#define TENDRIL_DATAPATH_BPF_PASSED_BPF_H

#include "datapath/bpf/budget.bpf.h"
#include "datapath/bpf/dns.bpf.h"
#include "datapath/bpf/nat_entry.bpf.h"
#include "datapath/bpf/packet.bpf.h"
#include "datapath/bpf/report.bpf.h"

/* The same for both directions. */
static __always_inline __u32 passed_hash(const struct flow *flow)
{
	__u32 addrs = 0, ports = (__u32)flow->sport + flow->dport;

	for (int i = 0; i < 4; i++)
		addrs = addrs * 31 + flow->saddr.w[i] + flow->daddr.w[i];
	addrs = (addrs ^ ports * 0x9e3779b1) * 0x85ebca6b;
	return addrs >> 16;
}

/* Whose packet it is in this flow, 0 or 1; negative: it is of another flow.  By words: half of the
 * instructions of comparing the members. */
static __always_inline int passed_end(const struct flow *seen, const struct flow *flow)
{
	typedef __u64 __attribute__((may_alias)) word;
	typedef __u32 __attribute__((may_alias)) port_pair;
	const word *a = (const word *)&seen->saddr, *b = (const word *)&flow->saddr;
	__u32 pair = *(const port_pair *)&flow->sport;
	__u32 ports = *(const port_pair *)&seen->sport;

	_Static_assert(__builtin_offsetof(struct flow, daddr) == 16 &&
			       __builtin_offsetof(struct flow, sport) == 32,
		       "both addresses, then both ports");
	if (seen->proto != flow->proto)
		return -1;
	if (!((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) | (ports ^ pair)))
		return 0;
	pair = pair << 16 | pair >> 16;
	if (!((a[0] ^ b[2]) | (a[1] ^ b[3]) | (a[2] ^ b[0]) | (a[3] ^ b[1]) | (ports ^ pair)))
		return 1;
	return -1;
}

/* Bytes behind the headers of the transport, as its users count them. */
static __always_inline __u32 passed_bytes(const struct packet *pkt)
{
	__u32 headers = pkt->l4_offset;

	if (pkt->fragment != FRAGMENT_LATER)
		headers += packet_l4_need(pkt);
	return pkt->length > headers ? pkt->length - headers : 0;
}

static __always_inline void passed_add(struct __sk_buff *skb, const struct packet *pkt,
				       struct passed_flow *place, bool end)
{
	__u32 segments = skb->gso_segs;

	place->last_ns = bpf_ktime_get_coarse_ns();
	__sync_fetch_and_add(&place->bytes[end], passed_bytes(pkt));
	__sync_fetch_and_add(&place->packets[end], segments ? segments : 1);
}

/* Makes the longest silent flow of a full set report itself; NULL: that would be too many, or there
 * is no room for the report. */
static __always_inline struct passed_flow *passed_make_room(const struct packet *pkt,
							    struct passed_set *set)
{
	struct passed_flow *oldest = &set->ways[0];

#pragma clang loop unroll(disable)
	for (int i = 1; i < PASSED_WAYS; i++) {
		if (set->ways[i].last_ns < oldest->last_ns)
			oldest = &set->ways[i];
	}
	/* Not the receiver: clients outside would use up what it may open itself. */
	if (!budget_take_flow(pkt->src.slot, bpf_ktime_get_coarse_ns()) ||
	    __sync_val_compare_and_swap(&oldest->state, PASSED_LIVE, PASSED_BUSY) != PASSED_LIVE)
		return NULL;
	if (!bpf_ringbuf_output(&tcp_event_map, oldest, sizeof(*oldest), report_wakeup()))
		return oldest;
	__sync_val_compare_and_swap(&oldest->state, PASSED_BUSY, PASSED_LIVE);
	return NULL;
}

/* The service that a UDP socket of this node sent to.  As it is stored with the socket, it costs
 * nothing but for the first packet of a flow. */
static __noinline void passed_set_service(struct __sk_buff *skb, const struct packet *pkt,
					  struct passed_flow *place)
{
	const struct sock_service *stored;
	struct bpf_sock *sk = skb->sk;

	if (!sk || pkt->flow.proto != IPPROTO_UDP)
		return;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return;
	stored = bpf_sk_storage_get(&sock_service, sk, NULL, 0);
	if (!stored || stored->backend_port != pkt->flow.dport ||
	    !addr_equal(&stored->backend_addr, &pkt->flow.daddr))
		return;
	place->service = stored->addr;
	place->service_port = stored->port;
}

/* The service whose address the packet had: what its answer gets back. */
static __noinline void passed_set_translated(const struct packet *pkt, struct passed_flow *place)
{
	const struct flow key = flow_reversed(&pkt->flow);
	const struct nat_entry *entry = bpf_map_lookup_elem(&nat_map, &key);

	if (!entry || entry->flags & NAT_REQUEST)
		return;
	place->translated = 1;
	place->service = entry->flow.saddr;
	place->service_port = entry->flow.sport;
}

/* The place of a new flow; NULL: it gets none. */
static __noinline struct passed_flow *passed_begin(struct __sk_buff *skb, const struct packet *pkt,
						   struct passed_set *set)
{
	struct passed_flow *place = NULL;

#pragma clang loop unroll(disable)
	for (int i = 0; i < PASSED_WAYS && !place; i++) {
		if (__sync_val_compare_and_swap(&set->ways[i].state, PASSED_FREE, PASSED_BUSY) ==
		    PASSED_FREE)
			place = &set->ways[i];
	}
	if (!place)
		place = passed_make_room(pkt, set);
	if (!place) {
		notice(NOTICE_FLOW_LOST);
		return NULL;
	}
	place->flow = pkt->flow;
	place->first_ns = bpf_ktime_get_coarse_ns();
	place->last_ns = place->first_ns;
	place->bytes[0] = place->bytes[1] = 0;
	place->packets[0] = place->packets[1] = 0;
	place->icmp_type = pkt->icmp_type;
	place->translated = 0;
	place->service_port = 0;
	if (pkt->translated)
		passed_set_translated(pkt, place);
	else
		passed_set_service(skb, pkt, place);
	__sync_val_compare_and_swap(&place->state, PASSED_BUSY, PASSED_LIVE);
	return place;
}

/* Weak: the verifier checks it once. */
__weak int passed_count(struct __sk_buff *skb, const struct packet *pkt)
{
	struct passed_flow *place = NULL;
	struct passed_set *set;
	int end = -1;
	__u32 index;

	if (!pkt || pkt->fragment == FRAGMENT_ORPHAN)
		return 0;
	index = passed_hash(&pkt->flow) % PASSED_SETS;
	set = bpf_map_lookup_elem(&passed_map, &index);
	if (!set)
		return 0;
#pragma clang loop unroll(disable)
	for (int i = 0; i < PASSED_WAYS && end < 0; i++) {
		place = &set->ways[i];
		if (place->state == PASSED_LIVE)
			end = passed_end(&place->flow, &pkt->flow);
	}
	if (end < 0)
		place = passed_begin(skb, pkt, set);
	if (place)
		passed_add(skb, pkt, place, end > 0);
	/* An answer to what the pod itself has sent: nobody else can tell it names. */
	if (end > 0 && pkt->flow.proto == IPPROTO_UDP && dns_is_port(pkt->flow.sport) &&
	    node_flags() & NODE_DNS)
		dns_report_udp(skb, pkt);
	return 0;
}

#endif
