/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The service that a socket uses and the backend it got: of its connection, or the first service
 * that an unconnected socket sent to.
 *
 * Allocating and freeing socket storage costs more than everything else in a connection to a
 * service.  So a TCP socket uses a bucket of an array, found by its cookie, and frees it when it is
 * closed.  Cookies are sequential: a bucket is used again after SOCK_BUCKETS other sockets.  A
 * socket that finds its bucket taken uses socket storage.
 */
#ifndef TENDRIL_DATAPATH_BPF_SOCK_SERVICE_BPF_H
#define TENDRIL_DATAPATH_BPF_SOCK_SERVICE_BPF_H

#include <linux/in.h>
#include <stdbool.h>

#include "datapath/bpf/kernel.bpf.h"
#include "datapath/bpf/maps.bpf.h"

static __always_inline struct sock_bucket *sock_bucket_get(__u64 cookie)
{
	__u32 index = cookie % SOCK_BUCKETS;

	return bpf_map_lookup_elem(&sock_bucket_map, &index);
}

static __always_inline struct sock_service *sock_service_stored(struct bpf_sock *sk, __u64 flags)
{
	return bpf_sk_storage_get(&sock_service, sk, NULL, flags);
}

/* NULL: this socket uses no service. */
static __always_inline struct sock_service *sock_service_find(struct bpf_sock *sk, __u32 protocol,
							      __u64 cookie)
{
	struct sock_bucket *bucket = sock_bucket_get(cookie);

	if (bucket && bucket->cookie == cookie)
		return &bucket->service;
	if (bucket && !bucket->overflowed && protocol == IPPROTO_TCP)
		return NULL;
	return sock_service_stored(sk, 0);
}

/* Whether it is a TCP socket with a file, so that sock_release runs at its end.  It does not run
 * for sockets of the kernel: those of NFS have no file, subflows of MPTCP have a layer above. */
static __always_inline bool sock_has_file(struct bpf_sock *sk)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);

	return tcp && !tcp->inet_conn.icsk_ulp_ops && tcp->inet_conn.icsk_inet.sk.sk_socket->file;
}

/* For a socket of the pod in this slot (0: the node) that has none yet; NULL: no memory. */
static __always_inline struct sock_service *sock_service_make(struct bpf_sock *sk, __u64 cookie,
							      __u32 slot)
{
	struct sock_bucket *bucket = sock_bucket_get(cookie);

	if (bucket && sock_has_file(sk) &&
	    !__sync_val_compare_and_swap(&bucket->cookie, 0, cookie)) {
		bucket->slot = slot;
		return &bucket->service;
	}
	if (bucket)
		bucket->overflowed = 1;
	return sock_service_stored(sk, BPF_SK_STORAGE_GET_F_CREATE);
}

/* For a socket that is closed.  The bucket is cleared before it becomes free. */
static __always_inline void sock_service_free(__u64 cookie)
{
	struct sock_bucket *bucket = sock_bucket_get(cookie);

	if (!bucket || bucket->cookie != cookie)
		return;
	bucket->service = (struct sock_service){ 0 };
	__sync_lock_test_and_set(&bucket->cookie, 0);
}

#endif
