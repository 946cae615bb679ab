/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Makes room in a full nat_map: deletes the translation that is needed least, of an owner who holds
 * at least as many as the one that needs the room.
 */
#ifndef TENDRIL_DATAPATH_BPF_NAT_ROOM_BPF_H
#define TENDRIL_DATAPATH_BPF_NAT_ROOM_BPF_H

#include "datapath/bpf/nat_entry.bpf.h"

#define NAT_ROOM_TRIES 64 /* places that are looked at for one that makes room */
#define NAT_VICTIMS    4  /* translations of which the one goes that is needed least */

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

#endif
