/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * When something was last seen.  The coarse clock is a call, jiffies are a load (the verifier
 * writes it so): they tell whether the clock need be asked at all.  User space sees only the clock.
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

/* Within TOUCH_JIFFIES, in which nothing expires. */
static __always_inline bool seen_recently(__u32 seen_jiffies)
{
	return jiffies_now() - seen_jiffies < TOUCH_JIFFIES;
}

#endif
