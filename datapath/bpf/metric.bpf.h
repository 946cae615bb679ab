/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Counting what happens: one element of metric_map for each drop reason and each notice.  Per CPU;
 * a program that interrupts another on the same CPU may cost one count.
 */
#ifndef TENDRIL_DATAPATH_BPF_METRIC_BPF_H
#define TENDRIL_DATAPATH_BPF_METRIC_BPF_H

#include "datapath/bpf/maps.bpf.h"

/* One copy of the code: no packet that passes in peace comes by. */
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
