/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The ways that the kernel found for the packets of a flow, remembered for a moment (leave_map). */
#ifndef TENDRIL_DATAPATH_BPF_WAY_BPF_H
#define TENDRIL_DATAPATH_BPF_WAY_BPF_H

#include "datapath/bpf/clock.bpf.h"
#include "datapath/bpf/maps.bpf.h"

static __always_inline struct leave_way *leave_place(const struct flow *flow)
{
	__u32 place = flow->saddr.w[3] ^ flow->daddr.w[3] ^
		      ((__u32)flow->sport << 16 | flow->dport) * 0x9e3779b1;

	place = (place ^ place >> 16) % LEAVE_WAYS;
	return bpf_map_lookup_elem(&leave_map, &place);
}

/* Whether the kernel was asked about these packets a moment ago. */
static __always_inline bool leave_is_known(const struct leave_way *way, const struct flow *flow)
{
	const __u64 *a = (const void *)&way->flow, *b = (const void *)flow;

	return !((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) | (a[4] ^ b[4])) &&
	       way->ifindex && jiffies_now() - way->asked_jiffies < LEAVE_JIFFIES;
}

#endif
