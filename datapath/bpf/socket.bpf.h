/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the receiver's own TCP stack knows about a packet's connection: the evidence for flows
 * without a conntrack entry, and the sequence numbers that distinguish a reset from a forged one.
 *
 * Only sockets of the receiver's namespace count.  The sender's sockets prove nothing: its root can
 * give any socket any state (TCP_REPAIR).  Sockets in a namespace nested in the pod, in a user
 * space stack, or bound to a device are not found; their connections need their entries.
 */
#ifndef TENDRIL_DATAPATH_BPF_SOCKET_BPF_H
#define TENDRIL_DATAPATH_BPF_SOCKET_BPF_H

#include "datapath/bpf/kernel.bpf.h"
#include "datapath/bpf/packet.bpf.h"

enum socket_kind {
	SOCKET_NONE,    /* no socket for exactly this pair of ends */
	SOCKET_PARTIAL, /* TIME_WAIT, or a handshake that the receiver has not finished */
	SOCKET_FULL,
};

struct socket_view { /* valid for SOCKET_FULL */
	__u32 state; /* BPF_TCP_* */
	__u32 rcv_nxt;
	__u32 write_seq;
	__u32 snd_una;
	__u32 opener;   /* this end called connect() */
	__u32 received; /* bytes, the lower half of their number */
};

static __always_inline __u32 socket_tuple(const struct flow *flow, struct bpf_sock_tuple *tuple)
{
	if (addr_is_v4(&flow->saddr)) {
		tuple->ipv4.saddr = flow->saddr.w[3];
		tuple->ipv4.daddr = flow->daddr.w[3];
		tuple->ipv4.sport = flow->sport;
		tuple->ipv4.dport = flow->dport;
		return sizeof(tuple->ipv4);
	}
	__builtin_memcpy(tuple->ipv6.saddr, &flow->saddr, sizeof(flow->saddr));
	__builtin_memcpy(tuple->ipv6.daddr, &flow->daddr, sizeof(flow->daddr));
	tuple->ipv6.sport = flow->sport;
	tuple->ipv6.dport = flow->dport;
	return sizeof(tuple->ipv6);
}

/* enum socket_kind of the socket that would receive this TCP flow in a namespace (its id, or -1 for
 * the agent's own). */
__weak int socket_tcp(struct __sk_buff *skb, const struct flow *flow, __s32 netns,
		      struct socket_view *ret)
{
	struct bpf_sock_tuple tuple = {};
	int kind = SOCKET_PARTIAL;
	struct tcp_sock *tcp;
	struct bpf_sock *sk;
	__u32 size;

	if (!flow || !ret)
		return SOCKET_NONE;
	size = socket_tuple(flow, &tuple);
	/* Two calls, each with a constant: the verifier of Linux 6.1 must know the size. */
	if (size == sizeof(tuple.ipv4))
		sk = bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), (__u64)(__s64)netns, 0);
	else
		sk = bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv6), (__u64)(__s64)netns, 0);
	if (!sk)
		return SOCKET_NONE;
	if (sk->state == BPF_TCP_LISTEN) {
		kind = SOCKET_NONE;
	} else if (sk->state != BPF_TCP_TIME_WAIT && sk->state != BPF_TCP_NEW_SYN_RECV) {
		tcp = bpf_skc_to_tcp_sock(sk);
		if (tcp) {
			kind = SOCKET_FULL;
			ret->state = sk->state;
			ret->rcv_nxt = tcp->rcv_nxt;
			ret->write_seq = tcp->write_seq;
			ret->snd_una = tcp->snd_una;
			ret->received = (__u32)tcp->bytes_received;
			ret->opener = tcp_is_opener(tcp, addr_is_v4(&flow->saddr));
		}
	}
	bpf_sk_release(sk);
	return kind;
}

/* Whether some UDP socket of the namespace would receive this flow. */
__weak int socket_udp(struct __sk_buff *skb, const struct flow *flow, __s32 netns)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sk;

	if (!flow)
		return 0;
	if (socket_tuple(flow, &tuple) == sizeof(tuple.ipv4))
		sk = bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv4), (__u64)(__s64)netns, 0);
	else
		sk = bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv6), (__u64)(__s64)netns, 0);
	if (!sk)
		return 0;
	bpf_sk_release(sk);
	return 1;
}

/* The namespace with the sockets of the packet's receiver.  False: not on this node, or unknown. */
static __always_inline bool receiver_netns(const struct packet *pkt, __s32 *ret_netns)
{
	const struct endpoint_entry *endpoint;
	__u32 slot = pkt->dst.slot;

	if (!slot) {
		*ret_netns = -1;
		return pkt->dst_flags & IPCACHE_HOST;
	}
	endpoint = bpf_map_lookup_elem(&endpoint_map, &slot);
	if (!endpoint)
		return false;
	*ret_netns = (__s32)endpoint->netns_id;
	return *ret_netns >= 0;
}

/* Whether the packet acknowledges something that the socket sent and nobody acknowledged yet.
 * Not by snd_nxt: the answer to a SYN arrives before connect() has moved it past the SYN. */
static __always_inline bool socket_ack_is_new(const struct socket_view *view, __u32 ack)
{
	return ack - view->snd_una - 1 < view->write_seq - view->snd_una;
}

/*
 * Whether the receiver opened the connection that this packet belongs to: a socket for exactly
 * these ends that called connect().  While it waits for the answer to its SYN, only that answer
 * counts.  A socket in TIME_WAIT does not count, because it no longer knows who opened; only the
 * repeated FIN of its peer is lost.
 */
static __always_inline bool socket_opened(struct __sk_buff *skb, const struct packet *pkt,
					  const struct flow *flow, struct socket_view *view)
{
	__s32 netns;

	if (!receiver_netns(pkt, &netns) || socket_tcp(skb, flow, netns, view) != SOCKET_FULL ||
	    !view->opener)
		return false;
	if (view->state != BPF_TCP_SYN_SENT)
		return view->state != BPF_TCP_CLOSE;
	return pkt->tcp_flags & TCP_ACK && pkt->tcp_flags & (TCP_SYN | TCP_RST) &&
	       socket_ack_is_new(view, pkt->ack);
}

enum reset { RESET_ENDS, RESET_MAY_END, RESET_IGNORED };

/* So many bytes may be in the receiver's queue without being counted in rcv_nxt. */
#define RESET_WINDOW (1U << 20)

/*
 * What a RST does to the connection, by the rules of the receiver (RFC 5961): exact sequence
 * number, or the right acknowledgement while connecting.  RESET_MAY_END: not known, because the
 * receiver is on another node, or is half closed, or has bytes in its queue.
 */
static __always_inline enum reset socket_reset(struct __sk_buff *skb, const struct packet *pkt,
					       const struct flow *flow)
{
	struct socket_view view = {};
	__s32 netns;
	int kind;

	if (!receiver_netns(pkt, &netns))
		return RESET_MAY_END;
	kind = socket_tcp(skb, flow, netns, &view);
	if (kind == SOCKET_NONE)
		return RESET_ENDS;
	if (kind == SOCKET_PARTIAL)
		return RESET_MAY_END;
	if (view.state == BPF_TCP_SYN_SENT)
		return pkt->tcp_flags & TCP_ACK && socket_ack_is_new(&view, pkt->ack)
			       ? RESET_ENDS
			       : RESET_IGNORED;
	if (pkt->seq == view.rcv_nxt)
		return RESET_ENDS;
	return pkt->seq - view.rcv_nxt < RESET_WINDOW ? RESET_MAY_END : RESET_IGNORED;
}

#endif
