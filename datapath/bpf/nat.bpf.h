/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Translates services packet by packet: for clients outside, and for sockets that the cgroup
 * programs do not see.
 *
 *	request    client -> service   becomes   client  -> backend    (before policy)
 *	reply      backend -> client   becomes   service -> client     (where it is delivered)
 *	hairpin    the backend is the client: it must not get packets from its own address, so the
 *	           request comes from the service's address
 *	SNAT       the backend is on another node, the client is not in the cluster: the request
 *	           comes from this node, so that the reply comes back here
 *
 * nat_map has, for each direction, the flow with which a packet leaves.  Policy and conntrack see
 * only pod addresses.
 */
#ifndef TENDRIL_DATAPATH_BPF_NAT_BPF_H
#define TENDRIL_DATAPATH_BPF_NAT_BPF_H

#include <linux/errno.h>

#include "datapath/bpf/clock.bpf.h"
#include "datapath/bpf/route.bpf.h"
#include "datapath/bpf/sctp.bpf.h"
#include "datapath/bpf/service.bpf.h"

#define IP_SADDR_OFFSET  (ETH_HLEN + offsetof(struct iphdr, saddr))
#define IP_DADDR_OFFSET  (ETH_HLEN + offsetof(struct iphdr, daddr))
#define IP_CHECK_OFFSET  (ETH_HLEN + offsetof(struct iphdr, check))
#define IP6_SADDR_OFFSET (ETH_HLEN + offsetof(struct ipv6hdr, saddr))
#define IP6_DADDR_OFFSET (ETH_HLEN + offsetof(struct ipv6hdr, daddr))
#define TCP_DOFF_OFFSET  12
#define TCP_CHECK_OFFSET 16
#define UDP_CHECK_OFFSET 6

#define NAT_TRIES      32 /* ports of the node that are tried for a connection */
#define NAT_FAIR_TRIES 16 /* of these that take no live port of another owner */
#define NAT_ROOM_TRIES 64 /* places that are looked at for one that makes room */
#define NAT_VICTIMS    4  /* translations of which the one goes that is needed least */

enum nat_which { NAT_SOURCE, NAT_DESTINATION };

/* ---- rewriting ------------------------------------------------------------------------------ */

/* Replaces one address in the IP header and in what the checksums cover.  check: of the transport,
 * 0 if this packet has none (a later fragment). */
static __always_inline int nat_write_addr(struct __sk_buff *skb, const struct packet *pkt,
					  enum nat_which which, const struct addr *old,
					  const struct addr *addr, __u32 check, __u64 flags)
{
	__u32 offset = which == NAT_SOURCE ? IP_SADDR_OFFSET : IP_DADDR_OFFSET;
	__s64 diff;

	flags |= BPF_F_PSEUDO_HDR;
	if (!pkt->ipv6) {
		if (check &&
		    bpf_l4_csum_replace(skb, check, old->w[3], addr->w[3], flags | sizeof(__be32)))
			return DROP_REWRITE_FAILED;
		if (bpf_l3_csum_replace(skb, IP_CHECK_OFFSET, old->w[3], addr->w[3],
					sizeof(__be32)) ||
		    bpf_skb_store_bytes(skb, offset, &addr->w[3], sizeof(__be32), 0))
			return DROP_REWRITE_FAILED;
		return DROP_NONE;
	}
	offset = which == NAT_SOURCE ? IP6_SADDR_OFFSET : IP6_DADDR_OFFSET;
	diff = bpf_csum_diff((__be32 *)old, sizeof(*old), (__be32 *)addr, sizeof(*addr), 0);
	if (check && bpf_l4_csum_replace(skb, check, 0, (__u64)diff, flags))
		return DROP_REWRITE_FAILED;
	if (bpf_skb_store_bytes(skb, offset, addr, sizeof(*addr), 0))
		return DROP_REWRITE_FAILED;
	return DROP_NONE;
}

/* Where the checksum of the transport is, and for how to change it; 0: it has none that covers what
 * is translated. */
static __always_inline __u32 nat_check_offset(const struct packet *pkt, __u64 *ret_flags)
{
	*ret_flags = 0;
	if (pkt->fragment >= FRAGMENT_LATER || pkt->flow.proto == IPPROTO_SCTP)
		return 0;
	if (packet_is_icmp(pkt))
		return pkt->l4_offset + ICMP_CHECK_OFFSET;
	if (pkt->flow.proto != IPPROTO_UDP)
		return pkt->l4_offset + TCP_CHECK_OFFSET;
	*ret_flags = BPF_F_MARK_MANGLED_0; /* 0 stays 0: the sender did not sum */
	return pkt->l4_offset + UDP_CHECK_OFFSET;
}

/* Replaces one end of the packet, in the packet and in pkt->flow.  Works on packets whose checksum
 * is still to be filled in, and on super-packets. */
__weak int nat_rewrite(struct __sk_buff *skb, struct packet *pkt, const struct addr *addr,
		       __u32 port, __u32 which)
{
	struct addr old, new;
	__u32 offset, check;
	__be16 old_port;
	__u64 flags;

	if (!pkt || !addr)
		return DROP_REWRITE_FAILED;
	new = *addr;
	old = which == NAT_SOURCE ? pkt->flow.saddr : pkt->flow.daddr;
	old_port = which == NAT_SOURCE ? pkt->flow.sport : pkt->flow.dport;
	check = nat_check_offset(pkt, &flags);
	/* The sum of ICMP does not cover IPv4 addresses. */
	if (nat_write_addr(skb, pkt, which, &old, &new, pkt->flow.proto == IPPROTO_ICMP ? 0 : check,
			   flags))
		return DROP_REWRITE_FAILED;
	offset = pkt->l4_offset + (which == NAT_SOURCE ? 0 : 2);
	if (packet_is_icmp(pkt))
		offset = pkt->l4_offset + ICMP_ID_OFFSET;
	if (pkt->fragment < FRAGMENT_LATER && old_port != (__be16)port) {
		__be16 new_port = (__be16)port;

		if (pkt->flow.proto == IPPROTO_SCTP &&
		    sctp_replace_port(skb, pkt, which == NAT_SOURCE, old_port, new_port))
			return DROP_REWRITE_FAILED;
		if (check &&
		    bpf_l4_csum_replace(skb, check, old_port, new_port, flags | sizeof(__be16)))
			return DROP_REWRITE_FAILED;
		if (bpf_skb_store_bytes(skb, offset, &new_port, sizeof(new_port), 0))
			return DROP_REWRITE_FAILED;
	}
	if (which == NAT_SOURCE) {
		pkt->flow.saddr = new;
		pkt->flow.sport = (__be16)port;
	} else {
		pkt->flow.daddr = new;
		pkt->flow.dport = (__be16)port;
	}
	return DROP_NONE;
}

/*
 * Turns the packet into one of another flow.  NAT_FORWARD: routes it, too.  The route is looked up
 * first, because an answer that there is none quotes the packet as its sender sent it.
 */
static __always_inline int nat_become(struct __sk_buff *skb, struct packet *pkt,
				      const struct flow *flow, __u32 flags)
{
	int reason = DROP_NONE;

	if (flags & NAT_FORWARD && !pkt->dst.slot)
		reason = route_packet(skb, pkt, &flow->saddr, &flow->daddr);
	if (!reason &&
	    !(flow->sport == pkt->flow.sport && addr_equal(&flow->saddr, &pkt->flow.saddr)))
		reason = nat_rewrite(skb, pkt, &flow->saddr, flow->sport, NAT_SOURCE);
	if (!reason &&
	    !(flow->dport == pkt->flow.dport && addr_equal(&flow->daddr, &pkt->flow.daddr)))
		reason = nat_rewrite(skb, pkt, &flow->daddr, flow->dport, NAT_DESTINATION);
	pkt->translated = 1;
	return reason;
}

/* ---- what is remembered --------------------------------------------------------------------- */

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
static __noinline bool tcp_timestamp(struct __sk_buff *skb, const struct packet *pkt, __u32 *ret)
{
	__u32 offset = pkt->l4_offset + sizeof(struct tcphdr);
	__be32 option[2];
	__u8 words;

	if (bpf_skb_load_bytes(skb, pkt->l4_offset + TCP_DOFF_OFFSET, &words, sizeof(words)))
		return false;
	words >>= 4;
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < 3; i++, offset += sizeof(__be32)) {
		if (words < (sizeof(struct tcphdr) + sizeof(option)) / sizeof(__be32) + i ||
		    bpf_skb_load_bytes(skb, offset, option, sizeof(option)))
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
static __noinline void nat_close(struct __sk_buff *skb, const struct packet *pkt,
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
		    tcp_timestamp(skb, pkt, &sibling->client_time))
			flags |= NAT_TIMESTAMP;
	}
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
static __noinline void nat_follow(struct __sk_buff *skb, const struct packet *pkt,
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
		nat_close(skb, pkt, entry);
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

/* ---- a new translation ---------------------------------------------------------------------- */

static __always_inline bool nat_is_own(const struct nat_work *work, const struct nat_entry *entry)
{
	return !(entry->flags & NAT_REQUEST) && flow_equal(&entry->flow, &work->entry.flow);
}

/* Looks for the request whose answers come with work->key, under work->victim; NULL: it has another
 * port by now, or is gone. */
static __always_inline struct nat_entry *nat_find_victim(struct nat_work *work,
							 const struct nat_entry *back)
{
	struct nat_entry *request;

	if (back->flags & NAT_REQUEST)
		return NULL;
	flow_reverse(&back->flow, &work->victim);
	request = bpf_map_lookup_elem(&nat_map, &work->victim);
	return request && request->flow.sport == work->key.dport ? request : NULL;
}

/* Whether an end in TIME_WAIT takes the SYN for a new connection (RFC 6191): its timestamp, or else
 * its sequence number, comes after the last of the old one. */
static __always_inline bool nat_syn_is_later(const struct nat_work *work,
					     const struct nat_entry *back,
					     const struct nat_entry *request)
{
	if (back->flags & NAT_TIMESTAMP && work->has_timestamp)
		return (__s32)(work->client_time - back->client_time) > 0;
	return request && (__s32)(work->entry.fin_end - request->fin_end) > 1;
}

/* How long another client may still need this way back, from its last use on. */
static __always_inline __u64 nat_needed_ns(const struct nat_work *work,
					   const struct nat_entry *back,
					   const struct nat_entry *request)
{
	const __u32 acked = NAT_CLIENT_ACKED | NAT_BACKEND_ACKED;

	if (work->key.proto != IPPROTO_TCP)
		return back->flags & NAT_REPLIED ? CT_OTHER_REPLIED_NS : CT_OTHER_UNREPLIED_NS;
	if (!nat_is_done(back))
		return back->flags & NAT_REPLIED ? CT_TCP_ESTABLISHED_NS : CT_TCP_OPENING_NS;
	if (!(back->flags & NAT_SOURCE_TAKEN))
		return 0;
	if ((back->flags & acked) != acked)
		return CT_TCP_CLOSING_NS; /* or a RST was forged */
	return nat_syn_is_later(work, back, request) ? 0 : NAT_TIME_WAIT_NS;
}

/* Whether an owner holds more than twice as much as the one that opens a translation. */
static __noinline bool nat_is_hog(__u32 owner, __u32 opener)
{
	const __s64 *count = bpf_map_lookup_elem(&nat_count_map, &owner);
	const __s64 *own = bpf_map_lookup_elem(&nat_count_map, &opener);

	return count && own && *count > 2 * *own + 1;
}

/*
 * Makes the way back under work->key free for a new connection, and deletes the request of the one
 * that had it; false: that one may still need it.  fair: whoever uses it keeps it, else an owner
 * who holds many gives it up.
 */
static __always_inline bool nat_free_port(struct nat_work *work, const struct nat_entry *back,
					  bool fair)
{
	const struct nat_entry *request;
	__u32 owner = back->flags >> NAT_OWNER_SHIFT;
	__s64 silent;

	if (nat_is_own(work, back))
		return true;
	request = nat_find_victim(work, back);
	/* Negative if another CPU has touched it since this one read the clock. */
	silent = (__s64)(work->entry.last_seen_ns - back->last_seen_ns);
	if (silent < (__s64)nat_needed_ns(work, back, request) &&
	    (fair || !nat_is_hog(owner, work->owner)))
		return false;
	if (request && !(int)bpf_map_delete_elem(&nat_map, &work->victim))
		nat_count_add(owner, -1);
	return true;
}

/*
 * Gives the request another source port; false: no other port may be used.  The first try follows
 * from the client's own port and address, so that a port of the node is used again together with
 * the client's port.  The other end may still remember the last connection (TIME_WAIT) and accepts
 * a new one by its timestamps, which only grow for the same port of the same client.
 */
static __always_inline bool nat_take_port(struct nat_work *work, __u32 attempt)
{
	const struct node_state *node = node_get();
	__u32 min, max, offset;

	if (!node)
		return false;
	min = node->snat_port_min;
	max = node->snat_port_max;
	if (!max || max < min)
		return false;
	offset = attempt ? bpf_get_prandom_u32()
			 : bpf_ntohs(work->from.sport) + bpf_ntohl(work->from.saddr.w[3]);
	work->way.sport = bpf_htons((__u16)(min + offset % (max - min + 1)));
	return true;
}

/* Where a later nat_make_room() may find the new translation: the place of the one that made room
 * for it, or any. */
static __always_inline void nat_take_place(const struct nat_work *work)
{
	const struct node_state *node = node_get();
	__u32 place = work->place;

	if (!node || !node->nat_places)
		return;
	if (!work->victims)
		place = bpf_get_prandom_u32() % node->nat_places;
	bpf_map_update_elem(&nat_place_map, &place, &work->from, BPF_ANY);
}

static long nat_claim_step(__u32 index, void *arg)
{
	struct nat_work *work = nat_work();
	const struct nat_entry *entry;

	(void)arg;
	if (!work || ((index || !work->keep_port) && !nat_take_port(work, index)))
		return 1;
	flow_reverse(&work->way, &work->key);
	entry = bpf_map_lookup_elem(&nat_map, &work->key);
	if (entry && !nat_free_port(work, entry, index < NAT_FAIR_TRIES))
		return 0;
	work->error = (int)bpf_map_update_elem(&nat_map, &work->key, &work->entry, BPF_ANY);
	return 1;
}

/*
 * Makes the entries of both directions; returns a drop reason.  The one from the backend exists
 * already if the same port of the same client uses this backend through another address, or if the
 * port of the node is in use.  Then other ports are tried at random.  service_id 0: it is for no
 * service.
 */
static __noinline int nat_claim(struct __sk_buff *skb, const struct packet *pkt,
				struct nat_work *work, __u32 service_id, __u32 backend)
{
	work->error = -EBUSY;
	work->has_timestamp = pkt->opens && pkt->flow.proto == IPPROTO_TCP &&
			      tcp_timestamp(skb, pkt, &work->client_time);
	work->entry = (struct nat_entry){
		.flags = work->reply_flags | work->owner << NAT_OWNER_SHIFT,
		.backend = backend,
		.service_id = service_id,
		.seen_jiffies = jiffies_now(),
		.fin_end = pkt->seq + pkt->payload + 1,
		.last_seen_ns = bpf_ktime_get_coarse_ns(),
	};
	if (!addr_equal(&work->way.saddr, &work->from.saddr))
		work->entry.flags |= NAT_SOURCE_TAKEN;
	flow_reverse(&work->from, &work->entry.flow);
	bpf_loop(NAT_TRIES, nat_claim_step, NULL, 0);
	if (work->error)
		return work->error == -EBUSY ? DROP_NO_SNAT_PORT : DROP_NAT_FULL;
	work->entry.flow = work->way;
	work->entry.flags = work->way_flags | work->owner << NAT_OWNER_SHIFT;
	work->entry.bytes = pkt->length;
	work->error = (int)bpf_map_update_elem(&nat_map, &work->from, &work->entry, BPF_NOEXIST);
	if (!work->error) {
		nat_count_add(work->owner, 1);
		nat_take_place(work);
		return DROP_NONE;
	}
	if (work->error == -EEXIST &&
	    !bpf_map_update_elem(&nat_map, &work->from, &work->entry, BPF_EXIST))
		return DROP_NONE;
	bpf_map_delete_elem(&nat_map, &work->key);
	return DROP_NAT_FULL;
}

/*
 * Chooses the source address that the backend sees.  Another node cannot answer a client outside,
 * which expects the answer from this node: so the request gets this node's address.
 */
static __always_inline int nat_choose_source(const struct packet *pkt, bool local_only,
					     struct nat_work *work)
{
	const struct ipcache_entry *entry;
	const struct node_state *node;

	work->reply_flags = 0;
	work->keep_port = 1;
	if (addr_equal(&work->way.daddr, &work->from.saddr)) { /* hairpin */
		work->way.saddr = work->from.daddr;
		/* The port distinguishes the answer from what the pod sends to the node itself. */
		work->keep_port = !(pkt->dst_flags & IPCACHE_HOST);
	}
	if (!pkt->from_uplink)
		return DROP_NONE;
	entry = bpf_map_lookup_elem(&ipcache_map, &work->way.daddr);
	if (entry && entry->flags & IPCACHE_HOST)
		return DROP_NONE;
	work->reply_flags = NAT_FORWARD;
	if (entry && entry->slot)
		return DROP_NONE;
	node = node_get();
	if (!node || local_only)
		return DROP_NO_LOCAL_BACKEND;
	work->way.saddr = pkt->ipv6 ? node->snat_v6 : node->snat_v4;
	if (addr_is_zero(&work->way.saddr))
		return DROP_NO_ROUTE;
	work->way_flags |= NAT_FORWARD;
	work->keep_port = 0;
	return DROP_NONE;
}

/* Which place of a Maglev table a client has: the same on every node, whichever address of a node
 * it asks. */
static __always_inline __u32 flow_hash(const struct flow *flow)
{
	__u64 hash = flow->saddr.w[3] | (__u64)flow->saddr.w[2] << 32;

	hash ^= (flow->saddr.w[1] | (__u64)flow->saddr.w[0] << 32) * 0x9e3779b97f4a7c15ULL;
	hash ^= ((__u64)flow->sport << 32 | (__u64)flow->dport << 16 | flow->proto) *
		0xc2b2ae3d27d4eb4fULL;
	hash = (hash ^ hash >> 33) * 0xff51afd7ed558ccdULL;
	hash = (hash ^ hash >> 33) * 0xc4ceb9fe1a85ec53ULL;
	return (__u32)(hash >> 32);
}

/* Chooses a backend for the packet's flow, and makes the entries of both directions. */
__weak int nat_open(struct __sk_buff *skb, const struct packet *pkt)
{
	struct nat_work *work = nat_work();
	struct service *service;
	int reason;

	if (!pkt || !work)
		return DROP_NAT_FULL;
	service = &work->service;
	if (!service_lookup(&pkt->flow.daddr, pkt->flow.dport, pkt->flow.proto, service))
		return DROP_NO_SERVICE;
	if (!service_admits(service, &pkt->flow.saddr))
		return DROP_SOURCE_RANGE;
	reason = service_choose(
		service, pkt->from_uplink ? CLIENT_OUTSIDE : CLIENT_INSIDE, &pkt->flow.saddr,
		service->table_size ? flow_hash(&pkt->flow) : bpf_get_prandom_u32(), &work->choice);
	if (reason)
		return reason;
	work->from = pkt->flow;
	work->way = pkt->flow;
	work->way.daddr = work->choice.backend.addr;
	work->way.dport = work->choice.backend.port;
	work->way_flags = NAT_REQUEST;
	reason = nat_choose_source(pkt, service->flags & SERVICE_LOCAL, work);
	if (reason)
		return reason;
	return nat_claim(skb, pkt, work, service->id, work->choice.index);
}

/* ---- room for a new translation -------------------------------------------------------------- */

/*
 * Looks at one place.  A translation may go if it is the owner's own, or of an owner who holds
 * more: so a flood takes nothing from those who hold less, and an owner may have the whole table
 * while nobody else wants it.
 */
static long nat_room_step(__u32 index, void *arg)
{
	const struct node_state *node = node_get();
	struct nat_work *work = nat_work();
	const struct nat_entry *entry;
	const struct flow *key;
	const __s64 *count;
	__u32 place, owner;
	__u64 need;

	(void)index;
	(void)arg;
	if (!work || !node || !node->nat_places)
		return 1;
	place = bpf_get_prandom_u32() % node->nat_places;
	key = bpf_map_lookup_elem(&nat_place_map, &place);
	if (!key)
		return 1;
	work->key = *key;
	entry = bpf_map_lookup_elem(&nat_map, &work->key);
	if (!entry || !(entry->flags & NAT_REQUEST))
		return 0;
	owner = entry->flags >> NAT_OWNER_SHIFT;
	count = bpf_map_lookup_elem(&nat_count_map, &owner);
	if (owner != work->owner && (!count || *count <= work->owned))
		return 0;
	/* Who holds more goes before the owner itself, and what was not used since it was opened
	 * before what was. */
	need = entry->last_seen_ns;
	if (entry->flags & NAT_USED && !nat_is_done(entry))
		need += CT_TCP_ESTABLISHED_NS;
	if (owner == work->owner)
		need |= 1ULL << 62;
	if (!work->victims || need < work->victim_need) {
		work->victim = work->key;
		work->victim_need = need;
		work->place = place;
	}
	return ++work->victims >= NAT_VICTIMS;
}

/* Deletes the translation of NAT_VICTIMS at random that is needed least.  0: none may go. */
__weak int nat_make_room(void)
{
	struct nat_work *work = nat_work();
	const __s64 *owned;
	struct nat_entry *entry;
	__u32 owner;

	if (!work)
		return 0;
	owner = work->owner;
	owned = bpf_map_lookup_elem(&nat_count_map, &owner);
	work->owned = owned ? *owned : 0;
	bpf_loop(NAT_ROOM_TRIES, nat_room_step, NULL, 0);
	if (!work->victims)
		return 0;
	entry = bpf_map_lookup_elem(&nat_map, &work->victim);
	if (!entry)
		return 1; /* another CPU was faster */
	nat_count_bytes(entry);
	owner = entry->flags >> NAT_OWNER_SHIFT;
	flow_reverse(&entry->flow, &work->key);
	if (!(int)bpf_map_delete_elem(&nat_map, &work->victim))
		nat_count_add(owner, -1);
	bpf_map_delete_elem(&nat_map, &work->key);
	return 1;
}

/* ---- requests ------------------------------------------------------------------------------- */

static __always_inline bool is_between(__be16 port, __u16 min, __u16 max)
{
	return max && bpf_ntohs(port) >= min && bpf_ntohs(port) <= max;
}

/* Whether the port of a packet to an address of the node can be that of a service, or one of SNAT,
 * so that the packet is an answer for a client outside. */
static __always_inline bool nat_has_port(const struct packet *pkt)
{
	const struct node_state *node = node_get();

	if (!node)
		return false;
	return is_between(pkt->flow.dport, node->node_port_min, node->node_port_max) ||
	       is_between(pkt->flow.dport, node->snat_port_min, node->snat_port_max) ||
	       is_between(pkt->flow.dport, node->old_snat_port_min, node->old_snat_port_max);
}

/* Whether flows between two addresses can be told apart: by ports, or by the identifier of an echo.
 */
static __always_inline bool nat_has_ports(const struct packet *pkt)
{
	__u8 proto = pkt->flow.proto, type = pkt->icmp_type;

	if (!packet_is_icmp(pkt))
		return proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == IPPROTO_SCTP;
	if (pkt->fragment == FRAGMENT_LATER)
		return true;
	if (pkt->ipv6)
		return type == ICMPV6_ECHO_REQUEST || type == ICMPV6_ECHO_REPLY;
	return type == ICMP_ECHO || type == ICMP_ECHOREPLY;
}

/* Whether a known translation may serve a packet that may open a flow. */
static __noinline bool nat_still_serves(const struct packet *pkt, struct nat_entry *entry)
{
	const struct flow *flow = &pkt->flow;
	struct service service = {};

	return !nat_is_done(entry) &&
	       service_lookup(&flow->daddr, flow->dport, flow->proto, &service) &&
	       service_has_backend(&service, &entry->flow.daddr, entry->flow.dport,
				   &entry->backend);
}

/*
 * Finds the backend of a packet.  A known translation stays as long as its backend serves; with TCP
 * and SCTP to the end of the connection.  A packet in the middle of an unknown connection has no
 * backend.
 */
static __always_inline int nat_find(struct __sk_buff *skb, const struct packet *pkt,
				    struct nat_work *ret)
{
	const struct flow *flow = &pkt->flow;
	bool starts = flow->proto == IPPROTO_UDP || pkt->opens;
	struct service_key key = { .port = flow->dport, .proto = flow->proto };
	struct nat_entry *entry;
	int reason;

	if (!nat_has_ports(pkt))
		return DROP_NO_SERVICE;
	entry = nat_lookup(flow);
	if (entry && entry->flags & NAT_REQUEST && starts && !nat_still_serves(pkt, entry))
		entry = NULL;
	if (entry && !(entry->flags & NAT_REQUEST) && pkt->opens)
		entry = NULL; /* an answer opens nothing */
	if (entry && entry->flags & NAT_GONE)
		return DROP_NO_BACKEND;
	if (entry) {
		nat_follow(skb, pkt, entry, ret);
		return DROP_NONE;
	}
	if (starts) {
		ret->owner = pkt->src.slot;
		ret->victims = 0;
		reason = nat_open(skb, pkt);
		if (reason == DROP_NAT_FULL && ret->error == -E2BIG && nat_make_room())
			reason = nat_open(skb, pkt);
		return reason;
	}
	key.addr = flow->daddr;
	return bpf_map_lookup_elem(&service_map, &key) ? DROP_NOT_OPENED : DROP_NO_SERVICE;
}

/* Translates a packet to a service: from a client to a backend, or from a backend back to a client.
 * The caller looks up the new destination.  A packet to an address of the node that is for no
 * service stays as it is, because the node's own stack may use it. */
__weak int nat_request(struct __sk_buff *skb, struct packet *pkt)
{
	struct nat_work *work = nat_work();
	int reason;

	if (!pkt || !work)
		return DROP_NO_SERVICE;
	reason = pkt->fragment == FRAGMENT_ORPHAN ? DROP_FRAGMENT : nat_find(skb, pkt, work);
	if (pkt->dst_flags & IPCACHE_HOST &&
	    (reason == DROP_NO_SERVICE || reason == DROP_NOT_OPENED || reason == DROP_FRAGMENT))
		return DROP_NONE;
	if (reason)
		return reason;
	if (pkt->src.slot)
		nat_mark_translated(pkt->src.slot);
	return nat_become(skb, pkt, &work->way, work->way_flags);
}

/* ---- replies -------------------------------------------------------------------------------- */

/* Gives a backend's packet to a client the service's address as source.  Does nothing if the flow
 * is not translated. */
__weak int nat_reply(struct __sk_buff *skb, struct packet *pkt)
{
	struct nat_work *work = nat_work();
	struct nat_entry *entry;
	struct flow key;

	if (!pkt || !work)
		return DROP_NONE;
	key = pkt->flow;
	entry = bpf_map_lookup_elem(&nat_map, &key);
	if (!entry || entry->flags & NAT_REQUEST)
		return DROP_NONE;
	/* The translated connection has ended, and the client's port is used again without the
	 * service: this SYN belongs to no translation. */
	if (pkt->tcp_flags & TCP_SYN && nat_is_done(entry)) {
		bpf_map_delete_elem(&nat_map, &key);
		return DROP_NONE;
	}
	nat_follow(skb, pkt, entry, work);
	return nat_become(skb, pkt, &work->way, work->way_flags);
}

#endif
