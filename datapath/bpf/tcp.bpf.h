/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The place of a TCP socket in tcp_map.  Cookies are sequential, so sockets of about the same age
 * do not meet.  The first place is one of few, whose memory stays in the CPU's cache while short
 * connections come and go; long-lived ones drive others to the further places.
 */
#ifndef TENDRIL_DATAPATH_BPF_TCP_BPF_H
#define TENDRIL_DATAPATH_BPF_TCP_BPF_H

#include "datapath/bpf/maps.bpf.h"

#define TCP_FIRST_PLACES 512
#define TCP_PLACE_STEP   4099 /* between two further places of a socket */

static __always_inline struct tcp_socket *tcp_place(__u64 cookie, __u32 place)
{
	__u32 index = place ? (__u32)(cookie + place * TCP_PLACE_STEP) % TCP_SOCKETS
			    : (__u32)cookie % TCP_FIRST_PLACES;

	return bpf_map_lookup_elem(&tcp_map, &index);
}

/* NULL: it is no socket of a pod, or has lost its place, or was there before tcp_state. */
static __noinline struct tcp_socket *tcp_socket_find(__u64 cookie)
{
	for (__u32 place = 0; place < TCP_PLACES; place++) {
		struct tcp_socket *socket = tcp_place(cookie, place);

		if (socket && socket->cookie == cookie)
			return socket;
	}
	return NULL;
}

/* Takes a free place, else that of the oldest socket; NULL: somebody else was quicker.  All but the
 * cookie is the caller's to write. */
static __always_inline struct tcp_socket *tcp_socket_make(__u64 cookie)
{
	struct tcp_socket *oldest = NULL;
	__u64 former;

	for (__u32 place = 0; place < TCP_PLACES; place++) {
		struct tcp_socket *socket = tcp_place(cookie, place);

		if (!socket)
			continue;
		if (!__sync_val_compare_and_swap(&socket->cookie, 0, cookie))
			return socket;
		if (!oldest || socket->start_ns < oldest->start_ns)
			oldest = socket;
	}
	if (!oldest)
		return NULL;
	former = oldest->cookie;
	return __sync_val_compare_and_swap(&oldest->cookie, former, cookie) == former ? oldest
										      : NULL;
}

/* Counts bytes that went from one socket to the other.  Atomic: both ends have a writer. */
static __always_inline void tcp_count_accelerated(__u64 from, __u64 to, __u32 bytes)
{
	struct tcp_socket *socket = tcp_socket_find(from);

	if (socket)
		__sync_fetch_and_add(&socket->accel_sent, bytes);
	socket = tcp_socket_find(to);
	if (socket)
		__sync_fetch_and_add(&socket->accel_received, bytes);
}

#endif
