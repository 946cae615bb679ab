/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The entries of nat_map, one for each direction of a translated connection: finding them, using
 * one for a packet, counting, and following the end of a TCP connection.
 */
#ifndef TENDRIL_DATAPATH_BPF_NAT_ENTRY_BPF_H
#define TENDRIL_DATAPATH_BPF_NAT_ENTRY_BPF_H

#include "datapath/bpf/clock.bpf.h"
#include "datapath/bpf/packet.bpf.h"
#include "datapath/bpf/service.bpf.h"

#define TCP_DOFF_OFFSET 12

static __always_inline struct nat_entry *nat_lookup(const struct flow *flow)
{
	struct flow key = *flow;

	return bpf_map_lookup_elem(&nat_map, &key);
}

static __always_inline struct flow flow_reversed(const struct flow *flow)
{
	return (struct flow){
		.saddr = flow->daddr,
		.daddr = flow->saddr,
		.sport = flow->dport,
		.dport = flow->sport,
		.proto = flow->proto,
	};
}

static __noinline void flow_reverse(const struct flow *flow, struct flow *ret)
{
	*ret = flow_reversed(flow);
}

static __always_inline bool flow_equal(const struct flow *a, const struct flow *b)
{
	return a->sport == b->sport && a->dport == b->dport && addr_equal(&a->saddr, &b->saddr) &&
	       addr_equal(&a->daddr, &b->daddr);
}

/* The other direction of a translation. */
static __noinline struct nat_entry *nat_sibling(const struct nat_entry *entry)
{
	struct flow key = flow_reversed(&entry->flow);

	return bpf_map_lookup_elem(&nat_map, &key);
}

/* translations: how many more the owner holds. */
static __always_inline void nat_count_add(__u32 owner, __s64 translations)
{
	__s64 *count = bpf_map_lookup_elem(&nat_count_map, &owner);

	if (count)
		__sync_fetch_and_add(count, translations);
}

static __always_inline bool nat_is_done(const struct nat_entry *entry)
{
	const __u32 both = NAT_CLIENT_DONE | NAT_BACKEND_DONE;

	return (entry->flags & both) == both;
}

/* CPUs may race to write nearly the same time: each of them is right.  False: it was not due. */
static __always_inline bool nat_touch(struct nat_entry *entry)
{
	if (seen_recently(entry->seen_jiffies))
		return false;
	entry->last_seen_ns = bpf_ktime_get_coarse_ns();
	entry->seen_jiffies = jiffies_now();
	return true;
}

/*
 * Adds the bytes of a flow to those of its backend.  That costs a look-up, so it is done with the
 * time of last use, when the flow ends, and before the counter is full.  An index may have another
 * backend by now, which then counts them.
 */
static __noinline void nat_count_bytes(struct nat_entry *entry)
{
	struct backend_entry *backend;

	if (!entry->service_id)
		return;
	backend = service_backend_at(entry->service_id, entry->backend);
	if (backend)
		__sync_fetch_and_add(&backend->bytes, entry->bytes);
	entry->bytes = 0;
}

/*
 * Whether the other end still remembers a connection that is over (TIME_WAIT), from a port of this
 * node.  These entries stay until a later connection may follow from there, the agent sweeps them,
 * or others need the room.
 */
static __always_inline bool nat_is_remembered(const struct nat_entry *back)
{
	const __u32 both = NAT_BACKEND_FIRST | NAT_SOURCE_TAKEN;

	return (back->flags & both) == both;
}

/*
 * The TCP option with the sender's timestamp: the stacks in use begin it at a multiple of 4 bytes,
 * after two NOPs or SACK-permitted, with at most MSS and window scale before it.
 */
static __noinline bool tcp_timestamp(packet_context *ctx, const struct packet *pkt, __u32 *ret)
{
	__u32 offset = pkt->l4_offset + sizeof(struct tcphdr);
	__be32 option[2];
	__u8 words;

	if (packet_load(ctx, pkt->l4_offset + TCP_DOFF_OFFSET, &words, sizeof(words)))
		return false;
	words >>= 4;
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < 3; i++, offset += sizeof(__be32)) {
		if (words < (sizeof(struct tcphdr) + sizeof(option)) / sizeof(__be32) + i ||
		    packet_load(ctx, offset, option, sizeof(option)))
			return false;
		if (option[0] == bpf_htonl(0x0101080a) || option[0] == bpf_htonl(0x0402080a)) {
			*ret = bpf_ntohl(option[1]);
			return true;
		}
	}
	return false;
}

/* Whether a RST ends the connection for certain: the pod's own does, and one that acknowledges what
 * the client sent last, which nobody can forge who does not see the connection. */
static __always_inline bool nat_reset_is_true(const struct packet *pkt,
					      const struct nat_entry *entry,
					      const struct nat_entry *sibling)
{
	if (entry->flags & NAT_REQUEST)
		return entry->flags >> NAT_OWNER_SHIFT && sibling->flags & NAT_SOURCE_TAKEN;
	return entry->flags & NAT_SOURCE_TAKEN && pkt->tcp_flags & TCP_ACK &&
	       pkt->ack == sibling->fin_end;
}

/*
 * Follows the end of a TCP connection, in both entries.  They are deleted when both FINs are
 * acknowledged: otherwise short connections would evict the long ones.  A RST may be forged; then
 * it only shortens the time that the entries may be unused.
 */
static __noinline void nat_close(packet_context *ctx, const struct packet *pkt,
				 struct nat_entry *entry)
{
	const __u32 acked = NAT_CLIENT_ACKED | NAT_BACKEND_ACKED;
	bool request = entry->flags & NAT_REQUEST, reset = pkt->tcp_flags & TCP_RST;
	struct nat_entry *sibling = nat_sibling(entry);
	__u32 owner = entry->flags >> NAT_OWNER_SHIFT;
	struct flow there, back;
	__u32 flags = 0;

	if (reset)
		flags = NAT_CLIENT_DONE | NAT_BACKEND_DONE;
	if (reset && sibling && nat_reset_is_true(pkt, entry, sibling))
		flags |= acked;
	if (pkt->tcp_flags & TCP_FIN) {
		entry->fin_end = pkt->seq + pkt->payload + 1;
		flags = request ? NAT_CLIENT_DONE : NAT_BACKEND_DONE;
		if (!request && !(entry->flags & NAT_CLIENT_DONE))
			flags |= NAT_BACKEND_FIRST;
		if (request && sibling && sibling->flags & NAT_SOURCE_TAKEN &&
		    tcp_timestamp(ctx, pkt, &sibling->client_time))
			flags |= NAT_TIMESTAMP;
	}
	if (pkt->tcp_flags & TCP_FIN && entry->flags & NAT_DSR)
		flags |= NAT_BACKEND_DONE; /* whose FIN does not come by here */
	if (sibling && pkt->tcp_flags & TCP_ACK && pkt->ack == sibling->fin_end &&
	    entry->flags & (request ? NAT_BACKEND_DONE : NAT_CLIENT_DONE))
		flags |= request ? NAT_BACKEND_ACKED : NAT_CLIENT_ACKED;
	if (!flags)
		return;
	__sync_fetch_and_or(&entry->flags, flags);
	if (!sibling)
		return;
	__sync_fetch_and_or(&sibling->flags, flags);
	if ((entry->flags & acked) != acked)
		return;
	entry->bytes += sibling->bytes;
	sibling->bytes = 0;
	nat_count_bytes(entry);
	if (!reset && nat_is_remembered(request ? sibling : entry))
		return;
	flow_reverse(request ? &entry->flow : &sibling->flow, &back);
	flow_reverse(request ? &sibling->flow : &entry->flow, &there);
	bpf_map_delete_elem(&nat_map, &back);
	if (!(int)bpf_map_delete_elem(&nat_map, &there))
		nat_count_add(owner, -1);
}

static __always_inline struct nat_work *nat_work(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&nat_work_map, &zero);
}

/* Uses this translation for the packet: copies the flow with which it leaves, and updates the
 * entry. */
static __noinline void nat_follow(packet_context *ctx, const struct packet *pkt,
				  struct nat_entry *entry, struct nat_work *ret)
{
	ret->way = entry->flow;
	ret->way_flags = entry->flags;
	if (!(entry->flags & (NAT_REQUEST | NAT_REPLIED)))
		__sync_fetch_and_or(&entry->flags, NAT_REPLIED);
	entry->bytes += pkt->length; /* CPUs that count at the same moment may lose some */
	if (nat_touch(entry) || entry->bytes >> 30)
		nat_count_bytes(entry);
	if ((entry->flags & (NAT_REQUEST | NAT_USED)) == NAT_REQUEST)
		__sync_fetch_and_or(&entry->flags, NAT_USED);
	if (pkt->flow.proto == IPPROTO_TCP && (pkt->tcp_flags & (TCP_FIN | TCP_RST) ||
					       entry->flags & (NAT_CLIENT_DONE | NAT_BACKEND_DONE)))
		nat_close(ctx, pkt, entry);
}

/* The connection as the receiver's socket knows it: a client's peer is the service. */
static __always_inline void nat_socket_flow(const struct packet *pkt, struct flow *ret)
{
	const struct endpoint_entry *endpoint;
	const struct nat_entry *entry;
	__u32 slot = pkt->dst.slot;

	*ret = pkt->flow;
	endpoint = bpf_map_lookup_elem(&endpoint_map, &slot);
	if (!endpoint || !endpoint->translated)
		return;
	entry = nat_lookup(&pkt->flow);
	if (entry && !(entry->flags & NAT_REQUEST))
		*ret = entry->flow;
}

/* From now on packets of this endpoint are looked up in nat_map; 0: those of the node itself. */
static __always_inline void nat_mark_translated(__u32 slot)
{
	struct endpoint_entry *endpoint = bpf_map_lookup_elem(&endpoint_map, &slot);

	if (endpoint && !endpoint->translated)
		endpoint->translated = 1;
}

#endif
