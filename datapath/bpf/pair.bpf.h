/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What a socket remembers: one pair of service and backend, of its connection, or the first that an
 * unconnected socket sent to.
 *
 * Socket storage is made and freed by the allocator, which costs more than all the rest of a
 * connection to a service.  So a TCP socket takes the place in an array that its cookie points to,
 * and gives it back when it is closed; cookies count up, so a place is met again only after
 * SOCK_PLACES further sockets.  Who finds it taken uses the storage.
 */
#ifndef TENDRIL_DATAPATH_BPF_PAIR_BPF_H
#define TENDRIL_DATAPATH_BPF_PAIR_BPF_H

#include <linux/in.h>
#include <stddef.h>

#include "datapath/bpf/kernel.bpf.h"
#include "datapath/bpf/maps.bpf.h"

static __always_inline struct sock_place *pair_place(__u64 cookie)
{
	__u32 index = cookie % SOCK_PLACES;

	return bpf_map_lookup_elem(&sock_places, &index);
}

static __always_inline struct sock_service *pair_stored(struct bpf_sock *sk, __u64 flags)
{
	return bpf_sk_storage_get(&sock_service, sk, NULL, flags);
}

/* The pair of a socket, or NULL if it never met a service. */
static __always_inline struct sock_service *pair_find(struct bpf_sock *sk, __u32 protocol,
						      __u64 cookie)
{
	struct sock_place *place = pair_place(cookie);

	if (place && place->cookie == cookie)
		return &place->pair;
	if (place && !place->crowded && protocol == IPPROTO_TCP)
		return NULL;
	return pair_stored(sk, 0);
}

/* Whether it is a TCP socket that a program will close: those of the kernel (NFS and the like have
 * no file, subflows of MPTCP a layer above) end without notice. */
static __always_inline bool sock_is_programs(struct bpf_sock *sk)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);

	return tcp && !tcp->inet_conn.icsk_ulp_ops && tcp->inet_conn.icsk_inet.sk.sk_socket->file;
}

/* Makes the pair of a socket that has none; NULL without memory. */
static __always_inline struct sock_service *pair_make(struct bpf_sock *sk, __u64 cookie)
{
	struct sock_place *place = pair_place(cookie);

	if (place && sock_is_programs(sk) &&
	    !__sync_val_compare_and_swap(&place->cookie, 0, cookie))
		return &place->pair;
	if (place)
		place->crowded = 1;
	return pair_stored(sk, BPF_SK_STORAGE_GET_F_CREATE);
}

/* The socket is closed.  Its place is empty before it is free. */
static __always_inline void pair_free(__u64 cookie)
{
	struct sock_place *place = pair_place(cookie);

	if (!place || place->cookie != cookie)
		return;
	place->pair = (struct sock_service){ 0 };
	__sync_lock_test_and_set(&place->cookie, 0);
}

#endif
