/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * When a report in tcp_event_map wakes the agent.  While NODE_POLLS_TCP is set the agent looks by
 * itself, and is woken only where much waits: each wakeup costs more than the whole report.
 */
#ifndef TENDRIL_DATAPATH_BPF_REPORT_BPF_H
#define TENDRIL_DATAPATH_BPF_REPORT_BPF_H

#include "datapath/bpf/ipcache.bpf.h"

/* The agent is woken when that much, or a multiple of it, waits. */
#define REPORT_FILL_MARK (128 * 1024)
/* Of the largest record. */
#define REPORT_SIZE (sizeof(struct tcp_event) + BPF_RINGBUF_HDR_SZ)

static __always_inline __u64 report_wakeup(void)
{
	__u64 waiting;

	if (!(node_flags() & NODE_POLLS_TCP))
		return 0;
	waiting = bpf_ringbuf_query(&tcp_event_map, BPF_RB_AVAIL_DATA);
	/* Another CPU may reserve a record at the same moment. */
	return waiting >= REPORT_FILL_MARK && waiting % REPORT_FILL_MARK < 2 * REPORT_SIZE
		       ? BPF_RB_FORCE_WAKEUP
		       : BPF_RB_NO_WAKEUP;
}

#endif
