/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Reports each end of a TCP connection of a pod when it closes.  The kernel's socket has counted
 * bytes, segments and round trips anyway; only what it does not keep is kept here, in tcp_map.
 *
 * So has it read the clock, which costs more than all that is done here; the clock is read again
 * only where no segment and no timer ended the connection.
 *
 * The tracepoint sees all sockets of the node, whatever their cgroup, also those that are reset or
 * disconnected.  A connection has some five changes of state at each end; all but three of them
 * leave the program at once.
 */
#include "datapath/bpf/maps.bpf.h"

#include <linux/errno.h>

#include <bpf/bpf_endian.h>

#include "datapath/bpf/ipcache.bpf.h"
#include "datapath/bpf/kernel.bpf.h"
#include "datapath/bpf/metric.bpf.h"
#include "datapath/bpf/report.bpf.h"
#include "datapath/bpf/sock_service.bpf.h"
#include "datapath/bpf/tcp.bpf.h"

#define NS_PER_US 1000

static __always_inline __u64 sock_netns_cookie(const struct sock *sk)
{
	return sk->__sk_common.skc_net.net->net_cookie;
}

/* The slot of the pod in whose namespace the socket is; 0: it is no pod's. */
static __always_inline __u32 sock_slot(const struct sock *sk)
{
	const struct node_state *node = node_get();
	__u64 cookie = sock_netns_cookie(sk);
	__u32 *slot;

	if (node && cookie == node->netns_cookie) /* most sockets of many nodes */
		return 0;
	slot = bpf_map_lookup_elem(&netns_map, &cookie);
	return slot ? *slot : 0;
}

/* A pod's connection with itself, by its loopback or its own address: not for the network. */
static __always_inline bool sock_is_inside(const struct sock *sk)
{
	const struct sock_common *common = &sk->__sk_common;

	if (common->skc_family != AF_INET6)
		return common->skc_daddr == common->skc_rcv_saddr;
	for (int i = 0; i < 4; i++) {
		if (common->skc_v6_daddr.in6_u.u6_addr32[i] !=
		    common->skc_v6_rcv_saddr.in6_u.u6_addr32[i])
			return false;
	}
	return true;
}

static __always_inline void socket_note_service(struct sock *sk, struct tcp_socket *socket)
{
	struct sock_service *service =
		sock_service_find((struct bpf_sock *)sk, IPPROTO_TCP, socket->cookie);

	if (service) {
		socket->service = service->addr;
		socket->service_port = service->port;
	}
}

static __always_inline __u64 tcp_time_ns(const struct tcp_sock *tcp)
{
	return tcp->tcp_mstamp * NS_PER_US;
}

/* The SYN is about to be sent, or the handshake of an accepted connection is done. */
static __always_inline struct tcp_socket *socket_opens(struct sock *sk)
{
	__u32 slot = sock_slot(sk);
	struct tcp_socket *socket;

	if (!slot || sock_is_inside(sk))
		return NULL;
	socket = tcp_socket_make(bpf_get_socket_cookie(sk));
	if (!socket)
		return NULL;
	socket->start_ns = 0;
	socket->accel_sent = 0;
	socket->accel_received = 0;
	socket->service = (struct addr){ 0 };
	socket->service_port = 0;
	socket->slot = (__u16)slot;
	socket->handshake_us = 0;
	return socket;
}

static __always_inline void socket_connects(struct sock *sk)
{
	struct tcp_socket *socket = socket_opens(sk);

	if (socket)
		socket_note_service(sk, socket);
}

/* The opener's first round trip is that of its SYN, unless that was sent again. */
static __always_inline void socket_established(struct sock *sk, int old_state)
{
	bool opener = old_state == BPF_TCP_SYN_SENT;
	struct tcp_socket *socket =
		opener ? tcp_socket_find((__u64)sk->__sk_common.skc_cookie.counter)
		       : socket_opens(sk);
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);

	if (!socket || !tcp)
		return;
	if (opener)
		socket->handshake_us = tcp->srtt_us >> 3;
	socket->start_ns = tcp_time_ns(tcp) - (__u64)socket->handshake_us * NS_PER_US;
}

static __always_inline void event_fill_ends(struct tcp_event *event, const struct tcp_sock *tcp)
{
	const struct sock_common *common = &tcp->inet_conn.icsk_inet.sk.__sk_common;
	struct flow *flow = &event->flow;

	if (common->skc_family == AF_INET6) {
		/* Word by word: the verifier wants each load within one member. */
		for (int i = 0; i < 4; i++) {
			flow->saddr.w[i] = common->skc_v6_rcv_saddr.in6_u.u6_addr32[i];
			flow->daddr.w[i] = common->skc_v6_daddr.in6_u.u6_addr32[i];
		}
	} else {
		flow->saddr.w[2] = bpf_htonl(0xffff);
		flow->saddr.w[3] = common->skc_rcv_saddr;
		flow->daddr.w[2] = bpf_htonl(0xffff);
		flow->daddr.w[3] = common->skc_daddr;
	}
	flow->sport = tcp->inet_conn.icsk_inet.inet_sport;
	flow->dport = common->skc_dport;
	flow->proto = IPPROTO_TCP;
}

/* FIN and SYN take a sequence number, which the kernel counts as a byte received. */
static __always_inline void event_fill_tcp(struct tcp_event *event, const struct tcp_sock *tcp)
{
	const struct sock *sk = &tcp->inet_conn.icsk_inet.sk;

	event->fin_received =
		sk->__sk_common.skc_flags >> bpf_core_enum_value(enum sock_flags, SOCK_DONE) & 1;
	event->sent = tcp->bytes_sent - tcp->bytes_retrans;
	event->received = tcp->bytes_received - event->fin_received;
	event->srtt_us = tcp->srtt_us >> 3;
	event->retransmits = tcp->total_retrans;
	event->segments_out = tcp->segs_out;
	event->segments_in = tcp->segs_in;
	event->error = (__u32)sk->sk_err;
	event->opener = tcp_is_opener(tcp, addr_is_v4(&event->flow.saddr));
}

static __always_inline bool state_has_sent_fin(int state)
{
	return state == BPF_TCP_FIN_WAIT1 || state == BPF_TCP_FIN_WAIT2 ||
	       state == BPF_TCP_CLOSING || state == BPF_TCP_LAST_ACK || state == BPF_TCP_TIME_WAIT;
}

/* When the connection ended: with a segment or a timer, else now. */
static __always_inline __u64 end_ns(const struct tcp_sock *tcp, int old_state)
{
	int error = tcp->inet_conn.icsk_inet.sk.sk_err;

	if (state_has_sent_fin(old_state) || (error && error != ECONNABORTED))
		return tcp_time_ns(tcp);
	return bpf_ktime_get_ns();
}

static __always_inline void socket_closes(struct sock *sk, int old_state)
{
	__u64 cookie = (__u64)sk->__sk_common.skc_cookie.counter;
	struct tcp_socket *socket = cookie ? tcp_socket_find(cookie) : NULL;
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	__u32 slot = socket ? socket->slot : sock_slot(sk);
	struct tcp_event *event;

	if (!slot || !tcp || (!socket && sock_is_inside(sk)))
		return;
	event = bpf_ringbuf_reserve(&tcp_event_map, sizeof(*event), 0);
	if (event) {
		__builtin_memset(event, 0, sizeof(*event));
		event->time_ns = end_ns(tcp, old_state);
		event->netns_cookie = sock_netns_cookie(sk);
		event->slot = (__u16)slot;
		event->old_state = (__u8)old_state;
		event->fin_sent = state_has_sent_fin(old_state);
		if (socket) {
			event->start_ns = socket->start_ns;
			event->accel_sent = socket->accel_sent;
			event->accel_received = socket->accel_received;
			event->service = socket->service;
			event->service_port = socket->service_port;
			event->handshake_us = socket->handshake_us;
		}
		event_fill_ends(event, tcp);
		event_fill_tcp(event, tcp);
		bpf_ringbuf_submit(event, report_wakeup());
	} else {
		notice(NOTICE_TCP_LOST);
	}
	if (socket)
		socket->cookie = 0;
}

SEC("tp_btf/inet_sock_set_state")
int tcp_state(__u64 *args)
{
	struct sock *sk = (struct sock *)args[0];
	int old_state = (int)args[1], new_state = (int)args[2];

	switch (new_state) {
	case BPF_TCP_SYN_SENT:
		socket_connects(sk);
		break;
	case BPF_TCP_ESTABLISHED:
		socket_established(sk, old_state);
		break;
	case BPF_TCP_CLOSE:
		if (old_state != BPF_TCP_LISTEN && old_state != BPF_TCP_CLOSE)
			socket_closes(sk, old_state);
		break;
	default:
		break;
	}
	return 0;
}
