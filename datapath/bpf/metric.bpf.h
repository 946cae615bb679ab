/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Counters for each drop reason and each notice (metric_map), for each CPU.  A program that
 * interrupts another one on the same CPU may lose a count.
 */
#ifndef TENDRIL_DATAPATH_BPF_METRIC_BPF_H
#define TENDRIL_DATAPATH_BPF_METRIC_BPF_H

#include "datapath/bpf/maps.bpf.h"

/* A function of its own: packets that pass do not use it. */
static __noinline void metric_count(__u32 metric)
{
	__u64 *count = bpf_map_lookup_elem(&metric_map, &metric);

	if (count)
		(*count)++;
}

static __always_inline void notice(enum notice what)
{
	metric_count(METRIC_NOTICES + what);
}

#endif
