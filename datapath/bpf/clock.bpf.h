/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Time of last use.  Reading the coarse clock is a call; reading jiffies is a single load (the
 * verifier inlines it) and shows whether the clock must be read.  User space only sees the clock.
 */
#ifndef TENDRIL_DATAPATH_BPF_CLOCK_BPF_H
#define TENDRIL_DATAPATH_BPF_CLOCK_BPF_H

#include <stdbool.h>

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "datapath/abi.h"

static __always_inline __u32 jiffies_now(void)
{
	return (__u32)bpf_jiffies64();
}

/* Whether the last use was within TOUCH_JIFFIES: then nothing expires, and no time is written. */
static __always_inline bool seen_recently(__u32 seen_jiffies)
{
	return jiffies_now() - seen_jiffies < TOUCH_JIFFIES;
}

#endif
