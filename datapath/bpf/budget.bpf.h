/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Limits for each second: events of an endpoint in the ring, its neighbour messages to the host,
 * and its flows that replace others.  They are counted for each CPU, so no counter is shared.
 */
#ifndef TENDRIL_DATAPATH_BPF_BUDGET_BPF_H
#define TENDRIL_DATAPATH_BPF_BUDGET_BPF_H

#include <stdbool.h>

#include "datapath/bpf/maps.bpf.h"

/* This second's counters of an endpoint, or of all events in slot 0; NULL: no such slot. */
static __always_inline struct endpoint_budget *budget_get(__u32 slot, __u64 now_ns)
{
	struct endpoint_budget *budget = bpf_map_lookup_elem(&budget_map, &slot);
	__u64 second = now_ns / NS_PER_SEC;

	if (budget && budget->second != second) {
		budget->second = second;
		budget->events = 0;
		budget->neighbours = 0;
		budget->flows = 0;
		budget->dns = 0;
	}
	return budget;
}

/*
 * Whether this endpoint may send another event (slot 0: no endpoint is involved).  It may send as
 * many as are left for all: one noisy pod gets half of EVENT_RATE, two get a third each, and a
 * quiet pod's first events always have room.
 */
static __always_inline bool budget_take_event(__u32 slot, __u64 now_ns)
{
	struct endpoint_budget *all = budget_get(0, now_ns);
	struct endpoint_budget *own = budget_get(slot, now_ns);

	if (!all || !own || all->events >= EVENT_RATE ||
	    (slot && own->events >= EVENT_RATE - all->events))
		return false;
	all->events++;
	if (slot)
		own->events++;
	return true;
}

/* Whether this endpoint may send another ARP or neighbour discovery message to the host. */
static __always_inline bool budget_take_neighbour(__u32 slot)
{
	struct endpoint_budget *own = budget_get(slot, bpf_ktime_get_coarse_ns());

	if (!own || own->neighbours >= NEIGHBOUR_RATE)
		return false;
	own->neighbours++;
	return true;
}

/* Whether another flow of this endpoint may take the place of an older one (slot 0: a client
 * outside). */
static __always_inline bool budget_take_flow(__u32 slot, __u64 now_ns)
{
	struct endpoint_budget *own = budget_get(slot, now_ns);

	if (!own || own->flows >= PASSED_RATE)
		return false;
	own->flows++;
	return true;
}

/* Whether another answer of DNS to this endpoint may be handed over. */
static __always_inline bool budget_take_dns(__u32 slot, __u64 now_ns)
{
	struct endpoint_budget *own = budget_get(slot, now_ns);

	if (!own || own->dns >= DNS_RATE)
		return false;
	own->dns++;
	return true;
}

#endif
