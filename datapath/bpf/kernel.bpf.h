/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Members of kernel structures that programs about sockets read.  The loader adapts their offsets
 * to the running kernel (CO-RE).  The rest of the datapath uses only stable interfaces.
 */
#ifndef TENDRIL_DATAPATH_BPF_KERNEL_BPF_H
#define TENDRIL_DATAPATH_BPF_KERNEL_BPF_H

#include <linux/in6.h>
#include <linux/types.h>
#include <stdbool.h>

#include <bpf/bpf_core_read.h>

#define KERNEL_STRUCT __attribute__((preserve_access_index))

struct atomic64 {
	__s64 counter;
};

struct proto {
	unsigned long *memory_pressure; /* non-zero: all sockets of this protocol use too much */
} KERNEL_STRUCT;

struct net {
	__u64 net_cookie;
} KERNEL_STRUCT;

typedef struct { /* the kernel knows it by this name alone */
	struct net *net;
} KERNEL_STRUCT possible_net_t;

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num; /* local port, host order */
	unsigned short skc_family;
	unsigned char skc_state;
	struct proto *skc_prot;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	struct atomic64 skc_cookie;
	unsigned long skc_flags;
} KERNEL_STRUCT;

struct file;

struct socket {
	struct file *file; /* NULL: no program has a descriptor of it */
} KERNEL_STRUCT;

struct sock {
	struct sock_common __sk_common;
	struct socket *sk_socket;
	__u16 sk_protocol;
	void *sk_user_data; /* low bits are flags */
	int sk_err;
} KERNEL_STRUCT;

struct net_device {
	possible_net_t nd_net;
} KERNEL_STRUCT;

struct sk_buff {
	struct net_device *dev;
	struct sock *sk;
	unsigned char *head;
	__u16 network_header; /* from head */
	unsigned int len;
} KERNEL_STRUCT;

enum skb_drop_reason { /* kernels number them differently */
		       SKB_DROP_REASON_NOT_SPECIFIED = 2,
		       SKB_DROP_REASON_TC_EGRESS = 45,
		       SKB_DROP_REASON_TC_INGRESS = 50,
};

enum sock_flags {
	SOCK_DONE = 1, /* TCP: the peer's FIN has arrived */
};

struct ipv6_pinfo {
	int mcast_oif; /* as inet_sock.mc_index, for IPv6 */
} KERNEL_STRUCT;

/* The beginning of a struct sock_common, copied in one go, up to and with skc_cookie.  A kernel
 * that keeps a field further down makes the verifier refuse the program. */
struct sock_head {
	__u64 words[12];
};

#define SOCK_HEAD_FIELD(head, field)                                              \
	(*(__typeof__(((struct sock_common *)0)->field) *)((void *)(head) +       \
							   bpf_core_field_offset( \
								   struct sock_common, field)))

struct inet_sock {
	struct sock sk;
	struct ipv6_pinfo *pinet6;
	__be16 inet_sport; /* stays when skc_num is given back */
	int mc_index;      /* stream sockets: the device that the accepted SYN came in by */
} KERNEL_STRUCT;

struct tcp_ulp_ops;

struct inet_connection_sock {
	struct inet_sock icsk_inet;
	const struct tcp_ulp_ops *icsk_ulp_ops; /* kernel TLS, MPTCP, ... */
} KERNEL_STRUCT;

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	__u64 tcp_mstamp; /* CLOCK_MONOTONIC in microseconds, of the last segment or timer */
	__u64 bytes_sent; /* payload, by packet, retransmissions included */
	__u64 bytes_retrans;
	__u64 bytes_received; /* the peer's FIN counts as one */
	__u32 srtt_us;        /* times 8 */
	__u32 total_retrans;  /* segments */
	__u32 segs_out;
	__u32 segs_in;
	__u32 write_seq; /* end of what the program wrote */
	__u32 snd_nxt;   /* end of what was sent */
	__u32 snd_una;   /* start of what is not acknowledged */
	__u32 rcv_nxt;   /* what is expected next */
	__u8 repair : 1;
} KERNEL_STRUCT;

struct list_head {
	struct list_head *next;
} KERNEL_STRUCT;

struct sk_psock {
	struct list_head ingress_msg; /* redirected messages that nobody has read yet */
} KERNEL_STRUCT;

struct sk_msg_sg {
	__u32 size;
} KERNEL_STRUCT;

struct sk_msg {
	struct sk_msg_sg sg;
	struct list_head list;
} KERNEL_STRUCT;

#define SK_USER_DATA_FLAGS 7UL /* in the low bits of sk_user_data */

/* Well-known numbers of the kernel's own headers. */
#define TCP_ESTABLISHED 1
#define AF_INET         2
#define AF_INET6        10

/*
 * Whether the socket was connected rather than accepted.  A socket that comes out of a handshake as
 * server keeps the device its SYN came in by in the member that IP_MULTICAST_IF sets on datagram
 * sockets, and which a stream socket cannot set: so 0 there means connect().
 */
static __always_inline bool tcp_is_opener(const struct tcp_sock *tcp, bool is_v4)
{
	if (is_v4)
		return tcp->inet_conn.icsk_inet.mc_index == 0;
	return tcp->inet_conn.icsk_inet.pinet6 && tcp->inet_conn.icsk_inet.pinet6->mcast_oif == 0;
}

#endif
