/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Makes the two entries of a new translation, with a source port that no other connection needs. */
#ifndef TENDRIL_DATAPATH_BPF_NAT_CLAIM_BPF_H
#define TENDRIL_DATAPATH_BPF_NAT_CLAIM_BPF_H

#include <linux/errno.h>

#include "datapath/bpf/nat_entry.bpf.h"

#define NAT_TRIES      32 /* ports of the node that are tried for a connection */
#define NAT_FAIR_TRIES 16 /* of these that take no live port of another owner */

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
static __noinline int nat_claim(packet_context *ctx, const struct packet *pkt,
				struct nat_work *work, __u32 service_id, __u32 backend)
{
	work->error = -EBUSY;
	work->has_timestamp = pkt->opens && pkt->flow.proto == IPPROTO_TCP &&
			      tcp_timestamp(ctx, pkt, &work->client_time);
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
	if (work->way_flags & NAT_DSR)
		work->error = 0; /* answers do not come here */
	else
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
	if (!(work->way_flags & NAT_DSR))
		bpf_map_delete_elem(&nat_map, &work->key);
	return DROP_NAT_FULL;
}

#endif
