/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Which endpoint a device belongs to.  If another plugin made the device (ENDPOINT_CHAINED), its
 * index alone does not tell.
 */
#ifndef TENDRIL_DATAPATH_BPF_DEVICE_BPF_H
#define TENDRIL_DATAPATH_BPF_DEVICE_BPF_H

#include "datapath/bpf/endpoint.bpf.h"

/* Not inline, as others below: the stack of a program with all that it calls is 512 bytes. */
static __noinline __u32 chained_slot(__u32 ifindex)
{
	const __u32 *slot;

	if (!(node_flags() & NODE_CHAINED))
		return 0;
	slot = bpf_map_lookup_elem(&chained_map, &ifindex);
	return slot ? *slot : 0;
}

/* The slot of the pod whose host end this device is; 0: none. */
static __always_inline __u32 device_slot(__u32 ifindex)
{
	__u32 slot = ifindex - ENDPOINT_IFINDEX_BASE;

	return slot <= 0xffff ? slot : chained_slot(ifindex);
}

static __always_inline bool device_is_host(__u32 ifindex)
{
	const struct node_state *node = node_get();

	return node && (node->host_ifindex == ifindex || !node->host_ifindex);
}

static __always_inline bool mac_equal(const __u8 *a, const __u8 *b)
{
	const __u16 *left = (const void *)a, *right = (const void *)b;

	return left[0] == right[0] && left[1] == right[1] && left[2] == right[2];
}

#endif
