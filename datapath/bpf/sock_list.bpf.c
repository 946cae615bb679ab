/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Lists the sockets that keep their service in socket storage: connected UDP, and TCP without a
 * bucket of its own.  User space reads the list from an iterator over the map, for it can neither
 * walk socket storage nor tell the namespace of what is there.
 */
#include <stdbool.h>

#include <linux/bpf.h>
#include <linux/in.h>

#include <bpf/bpf_helpers.h>

#include "datapath/bpf/kernel.bpf.h"
#include "datapath/bpf/maps.bpf.h"

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
} KERNEL_STRUCT;

struct bpf_iter__bpf_sk_storage_map {
	struct bpf_iter_meta *meta;
	struct sock *sk;
	void *value;
} KERNEL_STRUCT;

/* Slot of the pod that has this namespace, 0 for the node; false: others' sockets. */
static __always_inline bool netns_slot(__u64 cookie, __u32 *ret_slot)
{
	__u32 zero = 0;
	const struct node_state *node = bpf_map_lookup_elem(&node_map, &zero);
	const __u32 *slot;

	*ret_slot = 0;
	if (node && node->netns_cookie == cookie)
		return true;
	slot = bpf_map_lookup_elem(&netns_map, &cookie);
	if (slot)
		*ret_slot = *slot;
	return slot;
}

SEC("iter/bpf_sk_storage_map")
int list_sockets(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	const struct sock_service *service = ctx->value;
	struct service_socket entry = {};
	struct sock *sk = ctx->sk;

	if (!sk || !service || !service->port)
		return 0;
	if (sk->sk_protocol == IPPROTO_UDP && sk->__sk_common.skc_state != TCP_ESTABLISHED)
		return 0; /* it names the destination of each datagram */
	if (!netns_slot(sk->__sk_common.skc_net.net->net_cookie, &entry.slot))
		return 0;
	entry.cookie = (__u64)sk->__sk_common.skc_cookie.counter;
	entry.proto = sk->sk_protocol;
	entry.service = *service;
	bpf_seq_write(ctx->meta->seq, &entry, sizeof(entry));
	return 0;
}
