/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The identity of an address: exact addresses first, then the prefixes that policies name.
 */
#ifndef TENDRIL_DATAPATH_BPF_IPCACHE_BPF_H
#define TENDRIL_DATAPATH_BPF_IPCACHE_BPF_H

#include <stdbool.h>
#include <stddef.h>

#include <bpf/bpf_endian.h>

#include "datapath/bpf/maps.bpf.h"

static __always_inline const struct node_state *node_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&node_map, &zero);
}

static __always_inline __u32 node_flags(void)
{
	const struct node_state *node = node_get();

	return node ? node->flags : 0;
}

/* Whether packets between pods and uplinks bypass the host's stack: no rule of others has to see
 * them.  During a takeover to_pod decides, because it alone asks the old program. */
static __always_inline bool host_is_bypassed(void)
{
	return (node_flags() & (NODE_BYPASS | NODE_TAKEOVER)) == NODE_BYPASS;
}

/* Read each time again: the agent may increase it while a packet is being processed. */
static __always_inline __u32 node_revision(void)
{
	const struct node_state *node = node_get();

	return node ? *(const volatile __u32 *)&node->revision : 0;
}

static __always_inline bool addr_equal(const struct addr *a, const struct addr *b)
{
	return a->w[3] == b->w[3] && a->w[2] == b->w[2] && a->w[1] == b->w[1] && a->w[0] == b->w[0];
}

static __always_inline bool addr_is_v4(const struct addr *addr)
{
	return addr->w[0] == 0 && addr->w[1] == 0 && addr->w[2] == bpf_htonl(0x0000ffff);
}

static __always_inline void addr_from_v4(struct addr *addr, __be32 v4)
{
	addr->w[0] = 0;
	addr->w[1] = 0;
	addr->w[2] = bpf_htonl(0x0000ffff);
	addr->w[3] = v4;
}

static __always_inline bool addr_is_zero(const struct addr *addr)
{
	return !(addr->w[0] | addr->w[1] | addr->w[2] | addr->w[3]);
}

/* Multicast and broadcast, and addresses that are valid on one link only. */
static __always_inline bool addr_is_on_link(const struct addr *addr)
{
	__u32 head;

	if (addr_is_v4(addr)) {
		head = bpf_ntohl(addr->w[3]);
		return head >> 28 == 0xe || head == 0xffffffff;
	}
	head = bpf_ntohl(addr->w[0]);
	return head >> 24 == 0xff || head >> 22 == 0xfe80 >> 6;
}

static __always_inline bool addr_is_loopback(const struct addr *addr)
{
	if (addr_is_v4(addr))
		return bpf_ntohl(addr->w[3]) >> 24 == 127;
	return !(addr->w[0] | addr->w[1] | addr->w[2]) && addr->w[3] == bpf_htonl(1);
}

/* Of the other node whose pods have the address, or which has it itself; NULL: none that is known.
 */
static __always_inline const struct cluster_entry *remote_find(const struct cidr_key *addr)
{
	const struct cluster_entry *entry = bpf_map_lookup_elem(&cluster_map, addr);

	return entry && !addr_is_zero(&entry->node) ? entry : NULL;
}

/* Identity of an address that ipcache_map does not hold. */
__weak int cidr_identity(const struct addr *addr)
{
	struct cidr_key key = { .prefixlen = 128 };
	const __u32 *identity;

	if (!addr || !(node_flags() & NODE_HAS_CIDRS))
		return IDENTITY_WORLD;
	key.addr = *addr;
	identity = bpf_map_lookup_elem(&cidr_map, &key);
	return identity ? (int)*identity : IDENTITY_WORLD;
}

static __always_inline struct ipcache_entry ipcache_lookup(const struct addr *addr)
{
	struct ipcache_entry *entry = bpf_map_lookup_elem(&ipcache_map, addr);
	struct ipcache_entry outside = {};

	if (entry)
		return *entry;
	outside.identity = (__u32)cidr_identity(addr);
	return outside;
}

#endif
