/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Service translation packet by packet, for clients whose sockets the cgroup programs do not reach.
 *
 *	request    client -> service   becomes   client  -> backend    (from_pod, before policy)
 *	reply      backend -> client   becomes   service -> client     (where it is delivered)
 *	hairpin    the backend is the client: it must not see its own address as a peer, so the
 *	           request comes from the service's address, and the reply to that is recognised
 *
 * Two entries of nat_map remember a translation, one for each direction.  Policy and conntrack only
 * ever see pod addresses.  TCP and UDP alone: SCTP's checksum cannot be corrected from here.
 */
#ifndef TENDRIL_DATAPATH_BPF_NAT_BPF_H
#define TENDRIL_DATAPATH_BPF_NAT_BPF_H

#include "datapath/bpf/clock.bpf.h"
#include "datapath/bpf/drop.bpf.h"
#include "datapath/bpf/service.bpf.h"

#define IP_SADDR_OFFSET  (ETH_HLEN + offsetof(struct iphdr, saddr))
#define IP_DADDR_OFFSET  (ETH_HLEN + offsetof(struct iphdr, daddr))
#define IP_CHECK_OFFSET  (ETH_HLEN + offsetof(struct iphdr, check))
#define IP6_SADDR_OFFSET (ETH_HLEN + offsetof(struct ipv6hdr, saddr))
#define IP6_DADDR_OFFSET (ETH_HLEN + offsetof(struct ipv6hdr, daddr))
#define TCP_CHECK_OFFSET 16
#define UDP_CHECK_OFFSET 6

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

/* Replaces one end of the packet, in the packet and in pkt->flow.  Works on packets whose checksum
 * is still to be filled in, and on super-packets. */
__weak int nat_rewrite(struct __sk_buff *skb, struct packet *pkt, const struct addr *addr,
		       __u32 port, __u32 which)
{
	struct addr old, new;
	__u32 offset, check = 0;
	__be16 old_port;
	__u64 flags = 0;

	if (!pkt || !addr)
		return DROP_REWRITE_FAILED;
	new = *addr;
	old = which == NAT_SOURCE ? pkt->flow.saddr : pkt->flow.daddr;
	old_port = which == NAT_SOURCE ? pkt->flow.sport : pkt->flow.dport;
	if (pkt->fragment < FRAGMENT_LATER) {
		check = pkt->l4_offset + TCP_CHECK_OFFSET;
		if (pkt->flow.proto == IPPROTO_UDP) {
			check = pkt->l4_offset + UDP_CHECK_OFFSET;
			flags = BPF_F_MARK_MANGLED_0; /* 0 stays 0: the sender did not sum */
		}
	}
	if (nat_write_addr(skb, pkt, which, &old, &new, check, flags))
		return DROP_REWRITE_FAILED;
	offset = pkt->l4_offset + (which == NAT_SOURCE ? 0 : 2);
	if (check && old_port != (__be16)port) {
		__be16 new_port = (__be16)port;

		if (bpf_l4_csum_replace(skb, check, old_port, new_port, flags | sizeof(__be16)) ||
		    bpf_skb_store_bytes(skb, offset, &new_port, sizeof(new_port), 0))
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

/* ---- what is remembered --------------------------------------------------------------------- */

static __always_inline struct nat_entry *nat_lookup(const struct addr *client, __be16 client_port,
						    const struct addr *peer, __be16 peer_port,
						    __u8 proto, enum nat_side side)
{
	struct nat_key key = {
		.client = *client,
		.peer = *peer,
		.client_port = client_port,
		.peer_port = peer_port,
		.proto = proto,
		.side = (__u8)side,
	};

	return bpf_map_lookup_elem(&nat_map, &key);
}

/* The translation that a packet from a backend to a client belongs to. */
static __always_inline struct nat_entry *nat_lookup_reply(const struct flow *flow)
{
	return nat_lookup(&flow->daddr, flow->dport, &flow->saddr, flow->sport, flow->proto,
			  NAT_REPLY);
}

static __always_inline bool nat_is_done(const struct nat_entry *entry)
{
	const __u32 both = NAT_CLIENT_DONE | NAT_BACKEND_DONE;

	return (entry->flags & both) == both;
}

/* Both entries learn of an end that is done, so that either can be swept early. */
static __always_inline void nat_track(const struct packet *pkt, struct nat_entry *entry,
				      struct nat_entry *sibling, enum nat_flag who)
{
	__u32 flags = who;

	if (pkt->tcp_flags & TCP_RST)
		flags = NAT_CLIENT_DONE | NAT_BACKEND_DONE;
	__sync_fetch_and_or(&entry->flags, flags);
	if (sibling)
		__sync_fetch_and_or(&sibling->flags, flags);
}

/* CPUs may race to write nearly the same time: either will do. */
static __always_inline void nat_touch(struct nat_entry *entry)
{
	if (seen_recently(entry->seen_jiffies))
		return;
	entry->last_seen_ns = bpf_ktime_get_coarse_ns();
	entry->seen_jiffies = jiffies_now();
}

/* The connection as the receiver's socket knows it: a client talks to the service's address. */
static __always_inline void nat_socket_flow(const struct packet *pkt, struct flow *ret)
{
	const struct endpoint_entry *endpoint;
	const struct nat_entry *entry;
	__u32 slot = pkt->dst.slot;

	*ret = pkt->flow;
	endpoint = bpf_map_lookup_elem(&endpoint_map, &slot);
	if (!endpoint || !endpoint->translated)
		return;
	entry = nat_lookup_reply(&pkt->flow);
	if (entry) {
		ret->saddr = entry->addr;
		ret->sport = entry->port;
	}
}

/* From now on this endpoint's packets are looked up in nat_map. */
static __always_inline void nat_mark_translated(__u32 slot)
{
	struct endpoint_entry *endpoint = bpf_map_lookup_elem(&endpoint_map, &slot);

	if (slot && endpoint && !endpoint->translated)
		endpoint->translated = 1;
}

/* ---- requests ------------------------------------------------------------------------------- */

/*
 * Claims the way back from this backend.  It is taken while another service translates the same
 * client port to the same backend: then packets of the two could not be told apart.
 */
static __always_inline bool nat_claim_reply(const struct flow *flow,
					    const struct nat_entry *request)
{
	struct nat_key key = {
		.client = flow->saddr,
		.peer = request->addr,
		.client_port = flow->sport,
		.peer_port = request->port,
		.proto = flow->proto,
		.side = NAT_REPLY,
	};
	struct nat_entry entry = {
		.addr = flow->daddr,
		.port = flow->dport,
		.flags = request->flags,
		.last_seen_ns = request->last_seen_ns,
	};
	const struct nat_entry *taken = bpf_map_lookup_elem(&nat_map, &key);
	__u64 lifetime = flow->proto == IPPROTO_TCP ? CT_TCP_ESTABLISHED_NS : CT_OTHER_UNREPLIED_NS;

	if (taken && !(taken->port == flow->dport && addr_equal(&taken->addr, &flow->daddr)) &&
	    !nat_is_done(taken) && request->last_seen_ns - taken->last_seen_ns < lifetime)
		return false;
	return !bpf_map_update_elem(&nat_map, &key, &entry, BPF_ANY);
}

/* Remembers the way there. */
static __always_inline bool nat_claim_request(const struct flow *flow,
					      const struct nat_entry *entry)
{
	struct nat_key key = {
		.client = flow->saddr,
		.peer = flow->daddr,
		.client_port = flow->sport,
		.peer_port = flow->dport,
		.proto = flow->proto,
		.side = NAT_REQUEST,
	};
	/* Linux 6.1 takes no pointer argument of a global function as a map's value. */
	struct nat_entry value = *entry;

	return !bpf_map_update_elem(&nat_map, &key, &value, BPF_ANY);
}

/* Remembers both ways of a flow whose backend is in entry; fills the rest of it. */
__weak int nat_claim(const struct flow *flow, struct nat_entry *entry)
{
	if (!flow || !entry)
		return DROP_NAT_FULL;
	entry->flags = addr_equal(&entry->addr, &flow->saddr) ? NAT_HAIRPIN : 0;
	entry->last_seen_ns = bpf_ktime_get_coarse_ns();
	return nat_claim_reply(flow, entry) && nat_claim_request(flow, entry) ? DROP_NONE
									      : DROP_NAT_FULL;
}

/* Chooses a backend for the flow and remembers both ways; fills ret. */
static __always_inline int nat_open(const struct flow *flow, const struct service *service,
				    struct nat_entry *ret)
{
	struct service_choice choice = {};
	int reason = service_choose(service, CLIENT_INSIDE, &flow->saddr, bpf_get_prandom_u32(),
				    &choice);

	if (reason)
		return reason;
	*ret = (struct nat_entry){
		.addr = choice.backend.addr,
		.port = choice.backend.port,
		.backend = choice.index,
	};
	return nat_claim(flow, ret);
}

/* The way back from one backend may be taken: others are tried, at random.  Written out, because
 * Linux 6.1 refuses a loop whose last block runs into its first. */
static __always_inline int nat_open_any(const struct flow *flow, const struct service *service,
					struct nat_entry *ret)
{
	int reason = service_admits(service, &flow->saddr) ? nat_open(flow, service, ret)
							   : DROP_SOURCE_RANGE;

	if (reason == DROP_NAT_FULL)
		reason = nat_open(flow, service, ret);
	if (reason == DROP_NAT_FULL)
		reason = nat_open(flow, service, ret);
	if (reason == DROP_NAT_FULL)
		reason = nat_open(flow, service, ret);
	return reason;
}

/* The reply to a request that came from the service's address: back to the client's own. */
static __always_inline bool nat_is_hairpin_reply(const struct packet *pkt, struct nat_entry *ret)
{
	const struct nat_entry *entry =
		nat_lookup(&pkt->flow.saddr, pkt->flow.dport, &pkt->flow.saddr, pkt->flow.sport,
			   pkt->flow.proto, NAT_REPLY);

	if (!entry || !(entry->flags & NAT_HAIRPIN) || !addr_equal(&entry->addr, &pkt->flow.daddr))
		return false;
	*ret = *entry;
	return true;
}

/*
 * The backend of this packet.  A known translation is kept as long as its backend serves; TCP keeps
 * it to the end of the connection.  A packet in the middle of a connection that nobody remembers
 * belongs to no backend.
 */
static __always_inline int nat_find_backend(const struct packet *pkt, struct nat_entry *ret)
{
	const struct flow *flow = &pkt->flow;
	bool starts = flow->proto != IPPROTO_TCP || pkt->opens;
	struct service service = {};
	struct nat_entry *entry;
	bool served;

	if (flow->proto != IPPROTO_TCP && flow->proto != IPPROTO_UDP)
		return DROP_NO_SERVICE;
	served = service_lookup(&flow->daddr, flow->dport, flow->proto, &service);
	entry = nat_lookup(&flow->saddr, flow->sport, &flow->daddr, flow->dport, flow->proto,
			   NAT_REQUEST);
	if (entry && starts &&
	    (!served || nat_is_done(entry) ||
	     !service_has_backend(&service, &entry->addr, entry->port, &entry->backend)))
		entry = NULL;
	if (!entry) {
		if (!served)
			return DROP_NO_SERVICE;
		return starts ? nat_open_any(flow, &service, ret) : DROP_NOT_OPENED;
	}
	nat_touch(entry);
	if (pkt->tcp_flags & (TCP_FIN | TCP_RST))
		nat_track(pkt, entry,
			  nat_lookup(&flow->saddr, flow->sport, &entry->addr, entry->port,
				     flow->proto, NAT_REPLY),
			  NAT_CLIENT_DONE);
	*ret = *entry;
	return DROP_NONE;
}

/* A packet to a service address: makes it one to a backend.  The caller looks up who that is. */
__weak int nat_request(struct __sk_buff *skb, struct packet *pkt)
{
	struct nat_entry entry = {};
	struct addr service;
	int reason;

	if (!pkt)
		return DROP_NO_SERVICE;
	if (pkt->fragment == FRAGMENT_ORPHAN)
		return DROP_FRAGMENT;
	service = pkt->flow.daddr;
	if (nat_is_hairpin_reply(pkt, &entry)) {
		struct addr client = pkt->flow.saddr;
		__be16 client_port = pkt->flow.dport;

		reason = nat_rewrite(skb, pkt, &service, entry.port, NAT_SOURCE);
		return reason ? reason
			      : nat_rewrite(skb, pkt, &client, client_port, NAT_DESTINATION);
	}
	reason = nat_find_backend(pkt, &entry);
	if (reason)
		return reason;
	nat_mark_translated(pkt->src.slot);
	if (entry.flags & NAT_HAIRPIN) {
		reason = nat_rewrite(skb, pkt, &service, pkt->flow.sport, NAT_SOURCE);
		if (reason)
			return reason;
	}
	return nat_rewrite(skb, pkt, &entry.addr, entry.port, NAT_DESTINATION);
}

/* ---- replies -------------------------------------------------------------------------------- */

/* What a backend sent to a client comes from the service again.  Not a translated flow: nothing. */
__weak int nat_reply(struct __sk_buff *skb, struct packet *pkt)
{
	struct addr service;
	struct nat_entry *entry;
	__be16 port;

	if (!pkt)
		return DROP_NONE;
	entry = nat_lookup_reply(&pkt->flow);
	if (!entry || entry->flags & NAT_HAIRPIN)
		return DROP_NONE;
	/* A translated connection that ended answers no SYN: the client's port came back without
	 * the service.  What the backend says is its own from here on. */
	if (pkt->tcp_flags & TCP_SYN && nat_is_done(entry)) {
		entry->addr = pkt->flow.saddr;
		entry->port = pkt->flow.sport;
	}
	nat_touch(entry);
	service = entry->addr;
	port = entry->port;
	if (pkt->tcp_flags & (TCP_FIN | TCP_RST))
		nat_track(pkt, entry,
			  nat_lookup(&pkt->flow.daddr, pkt->flow.dport, &service, port,
				     pkt->flow.proto, NAT_REQUEST),
			  NAT_BACKEND_DONE);
	return nat_rewrite(skb, pkt, &service, port, NAT_SOURCE);
}

#endif
