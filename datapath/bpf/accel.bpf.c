/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Same-node TCP from socket to socket, for pods that asked for it.  sock_opened registers a
 * socket when its handshake is done; msg_redirect decides for every message whether it may go
 * straight into the peer's queue.
 *
 * The receiver reads redirected bytes before bytes that came by packet, so a direction may go from
 * redirecting to packets at any time and never back: struct accel_direction keeps that.  Whatever
 * is in doubt goes by packet, where tc decides.
 */
#include "datapath/bpf/maps.bpf.h"

#include <linux/in.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>

#include "datapath/bpf/kernel.bpf.h"
#include "datapath/bpf/metric.bpf.h"
#include "datapath/bpf/policy.bpf.h"
#include "datapath/bpf/sock_service.bpf.h"
#include "datapath/bpf/tcp.bpf.h"

/* A receiver's queue is not looked at while no more than this can be in it: a page, which the
 * kernel grants every TCP socket even when it is short of memory. */
#define QUEUE_UNWATCHED 4096

/* The endpoint in this slot if it is in use and asked for acceleration. */
static __always_inline struct endpoint_entry *endpoint_accelerated(__u32 slot)
{
	struct endpoint_entry *endpoint = slot ? bpf_map_lookup_elem(&endpoint_map, &slot) : NULL;
	const __u32 wanted = ENDPOINT_VALID | ENDPOINT_ACCEL;

	return endpoint && (endpoint->flags & wanted) == wanted ? endpoint : NULL;
}

static __always_inline bool endpoint_has_addr(const struct endpoint_entry *endpoint,
					      const struct addr *addr)
{
	return addr_equal(&endpoint->v4, addr) || addr_equal(&endpoint->v6, addr);
}

/* ---- registration --------------------------------------------------------------------------- */

static __always_inline void key_from_ops(struct bpf_sock_ops *ops, struct accel_key *key)
{
	if (ops->family == AF_INET6) {
		key->local.w[0] = ops->local_ip6[0];
		key->local.w[1] = ops->local_ip6[1];
		key->local.w[2] = ops->local_ip6[2];
		key->local.w[3] = ops->local_ip6[3];
		key->remote.w[0] = ops->remote_ip6[0];
		key->remote.w[1] = ops->remote_ip6[1];
		key->remote.w[2] = ops->remote_ip6[2];
		key->remote.w[3] = ops->remote_ip6[3];
		/* Keeps clang 14 from merging the last loads of both branches into one from a
		 * computed context pointer, which the verifier refuses. */
		barrier();
	} else {
		key->local.w[2] = bpf_htonl(0xffff);
		key->local.w[3] = ops->local_ip4;
		key->remote.w[2] = bpf_htonl(0xffff);
		key->remote.w[3] = ops->remote_ip4;
	}
	key->local_port = bpf_htons((__u16)ops->local_port);
	key->remote_port = bpf_htons((__u16)bpf_ntohl(ops->remote_port));
	key->opener = ops->op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB;
}

static __always_inline void key_reverse(const struct accel_key *key, struct accel_key *ret)
{
	ret->local = key->remote;
	ret->remote = key->local;
	ret->local_port = key->remote_port;
	ret->remote_port = key->local_port;
	ret->opener = !key->opener;
}

/* Whether both ends are pods of this node that asked, under the addresses this node gave them. */
static __always_inline bool pods_accelerated(struct bpf_sock_ops *ops, const struct accel_key *key,
					     struct accel_direction *dir)
{
	__u64 netns_cookie = bpf_get_netns_cookie(ops);
	__u32 *slot = bpf_map_lookup_elem(&netns_map, &netns_cookie);
	struct endpoint_entry *local = slot ? endpoint_accelerated(*slot) : NULL;
	struct ipcache_entry *remote;

	if (!local || !endpoint_has_addr(local, &key->local))
		return false;
	remote = bpf_map_lookup_elem(&ipcache_map, &key->remote);
	if (!remote || remote->slot == *slot || !endpoint_accelerated(remote->slot))
		return false;
	dir->slot = (__u16)*slot;
	dir->peer_slot = remote->slot;
	return true;
}

/* Sockets that are not what their tuple says: a service stands between, another protocol sits on
 * top (kernel TLS, MPTCP), or there was no handshake (TCP_REPAIR). */
static __always_inline bool sock_is_plain(struct bpf_sock *sk, __u64 cookie)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);

	/* NOLINTNEXTLINE(clang-analyzer-core.uninitialized.Assign): the macro sets it */
	if (!tcp || tcp->inet_conn.icsk_ulp_ops || BPF_CORE_READ_BITFIELD(tcp, repair))
		return false;
	return !sock_service_find(sk, IPPROTO_TCP, cookie);
}

/* Answers of DNS are looked at in packets. */
static __always_inline bool key_is_watched(const struct accel_key *key)
{
	const __be16 port = bpf_htons(DNS_PORT);

	return node_flags() & NODE_DNS && (key->local_port == port || key->remote_port == port);
}

static __always_inline void sock_register(struct bpf_sock_ops *ops)
{
	struct accel_direction dir = {}, *stored;
	struct accel_peer peer = {};
	struct accel_key key = {};
	struct bpf_sock *sk;

	if (!(node_flags() & NODE_ACCEL))
		return;
	key_from_ops(ops, &key);
	if (key_is_watched(&key) || !pods_accelerated(ops, &key, &dir))
		return;
	sk = ops->sk;
	if (!sk || !sock_is_plain(sk, bpf_get_socket_cookie(ops)))
		return;

	key_reverse(&key, &dir.peer_key);
	stored = bpf_sk_storage_get(&accel_sock, sk, NULL, 0);
	if (stored) { /* disconnected and connected again: the map takes a socket only once */
		stored->state = ACCEL_PACKETS;
		return;
	}
	stored = bpf_sk_storage_get(&accel_sock, sk, &dir, BPF_SK_STORAGE_GET_F_CREATE);
	if (!stored || bpf_sock_hash_update(ops, &accel_map, &key, BPF_ANY)) {
		notice(NOTICE_ACCEL_FULL);
		return;
	}
	/* Last: a peer that finds this entry finds the socket in accel_map too. */
	peer.sock = (__u64)sk;
	peer.cookie = bpf_get_socket_cookie(ops);
	peer.netns_cookie = bpf_get_netns_cookie(ops);
	bpf_map_update_elem(&accel_peer_map, &key, &peer, BPF_ANY);
}

/* Every TCP socket below the cgroup comes by here, whoever's it is: 1 and an untouched reply leave
 * it as if there were no program. */
SEC("sockops")
int sock_opened(struct bpf_sock_ops *ops)
{
	if (ops->op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB ||
	    ops->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		sock_register(ops);
	return 1;
}

/* ---- sending -------------------------------------------------------------------------------- */

/* First message: only a direction whose stream is still at its start may be redirected, and only to
 * a peer that has registered itself. */
static __always_inline bool direction_begin(const struct tcp_sock *tcp, struct accel_direction *dir)
{
	struct accel_peer *peer = bpf_map_lookup_elem(&accel_peer_map, &dir->peer_key);

	if (!peer)
		return false;
	dir->peer = *peer;
	bpf_map_delete_elem(&accel_peer_map, &dir->peer_key);
	return tcp->bytes_sent == 0 && tcp->write_seq == tcp->snd_nxt;
}

/* One end as policy sees it, under the address it has in this connection. */
static __always_inline bool end_load(__u32 slot, const struct addr *addr, __u64 netns_cookie,
				     struct policy_end *ret)
{
	struct endpoint_entry *endpoint = endpoint_accelerated(slot);

	if (!endpoint || endpoint->netns_cookie != netns_cookie ||
	    !endpoint_has_addr(endpoint, addr))
		return false;
	policy_end_load(endpoint, slot, !addr_is_v4(addr), ret);
	return true;
}

/* policy_check() of the connection in its opener's direction.  DROP_NO_ENDPOINT: its endpoints are
 * no longer the ones that it was made between. */
static __always_inline int direction_policy(struct sk_msg_md *msg,
					    const struct accel_direction *dir, bool *ret_audited)
{
	const struct accel_key *key = &dir->peer_key;
	struct policy_end sender, receiver;

	*ret_audited = false;
	if (!end_load(dir->slot, &key->remote, bpf_get_netns_cookie(msg), &sender) ||
	    !end_load(dir->peer_slot, &key->local, dir->peer.netns_cookie, &receiver))
		return DROP_NO_ENDPOINT;
	if (key->opener)
		return policy_check(&receiver, &sender, IPPROTO_TCP, key->remote_port, ret_audited);
	return policy_check(&sender, &receiver, IPPROTO_TCP, key->local_port, ret_audited);
}

/* Reads the peer through the pointer it registered.  The memory may be another socket's by now
 * (sockets are freed and reused under RCU), so identity is checked by cookie, and by ports and
 * state because a socket keeps its cookie when it is connected elsewhere. */
static __always_inline bool peer_is_there(struct accel_direction *dir, bool first)
{
	struct tcp_sock *peer = (struct tcp_sock *)dir->peer.sock;
	struct sock_head head;

	if (bpf_probe_read_kernel(&head, sizeof(head), peer) ||
	    (__u64)SOCK_HEAD_FIELD(&head, skc_cookie).counter != dir->peer.cookie ||
	    SOCK_HEAD_FIELD(&head, skc_state) != TCP_ESTABLISHED ||
	    SOCK_HEAD_FIELD(&head, skc_dport) != dir->peer_key.remote_port ||
	    SOCK_HEAD_FIELD(&head, skc_num) != bpf_ntohs(dir->peer_key.local_port))
		return false;
	if (first) {
		if (BPF_CORE_READ(peer, inet_conn.icsk_ulp_ops))
			return false;
		dir->peer_prot = (__u64)SOCK_HEAD_FIELD(&head, skc_prot);
	}
	return (__u64)SOCK_HEAD_FIELD(&head, skc_prot) == dir->peer_prot;
}

/* TCP as a whole is short of memory: a redirected message would fail with ENOMEM, a packet waits.
 */
static __always_inline bool memory_is_short(const struct tcp_sock *tcp)
{
	unsigned long *flag, pressure = 0;

	flag = tcp->inet_conn.icsk_inet.sk.__sk_common.skc_prot->memory_pressure;
	return bpf_probe_read_kernel(&pressure, sizeof(pressure), flag) || pressure;
}

static __always_inline struct list_head *list_next(struct list_head *at)
{
	return BPF_CORE_READ(at, next);
}

/* A walk along a receiver's queue: it ends at the head again, or where bytes exceeds the limit, or
 * at NULL when a reader removed the message at hand meanwhile. */
struct queue_walk {
	struct list_head *head;
	struct list_head *at;
	__u64 bytes;
};

static long queue_walk_step(__u32 index, struct queue_walk *walk)
{
	struct sk_msg *msg;

	(void)index;
	if (walk->at == walk->head || !walk->at || walk->bytes > ACCEL_QUEUE_MAX)
		return 1;
	msg = (void *)walk->at - bpf_core_field_offset(struct sk_msg, list);
	walk->bytes += BPF_CORE_READ(msg, sg.size) + ACCEL_MESSAGE_COST;
	walk->at = list_next(walk->at);
	return 0;
}

/* What waits in the queue, at most little more than ACCEL_QUEUE_MAX.  When a reader is in the way
 * twice, what was seen so far stands for it: readers remove at the head, so a queue that is long
 * is walked past that place at once. */
static __always_inline __u64 queue_measure(struct list_head *head)
{
	struct queue_walk walk = { .head = head };

	for (int attempt = 0; attempt < 2; attempt++) {
		walk.at = list_next(head);
		walk.bytes = 0;
		bpf_loop(ACCEL_QUEUE_MAX / ACCEL_MESSAGE_COST + 2, queue_walk_step, &walk, 0);
		if (walk.at)
			break;
	}
	return walk.bytes;
}

/*
 * Keeps what waits unread at the peer below ACCEL_QUEUE_MAX.  The kernel charges the receiver for
 * the bytes (not so in 6.1.0) and never for the struct sk_msg around them, so the sender counts for
 * itself: it adds each message, starts from zero when it sees the queue empty, and measures the
 * queue when the sum reaches the limit.  Two threads that send on one socket can each miss the
 * other's message in flight.
 */
static __always_inline bool queue_has_room(struct accel_direction *dir, __u64 cost)
{
	struct tcp_sock *peer = (struct tcp_sock *)dir->peer.sock;
	struct list_head *head;
	__u64 psock;

	psock = (__u64)BPF_CORE_READ(peer, inet_conn.icsk_inet.sk.sk_user_data);
	psock &= ~SK_USER_DATA_FLAGS;
	if (!psock)
		return false;
	head = (void *)psock + bpf_core_field_offset(struct sk_psock, ingress_msg);
	if (list_next(head) == head)
		dir->queued_bytes = cost;
	if (dir->queued_bytes > ACCEL_QUEUE_MAX)
		dir->queued_bytes = queue_measure(head) + cost;
	return dir->queued_bytes <= ACCEL_QUEUE_MAX;
}

static __always_inline void direction_count(const struct accel_direction *dir, __u32 connections,
					    __u32 bytes, __u32 fallbacks)
{
	__u32 slot = dir->slot;
	struct endpoint_stats *stats = bpf_map_lookup_elem(&endpoint_stats, &slot);

	if (!stats)
		return;
	/* Atomic: this runs in process context, where a CPU may switch tasks in between. */
	__sync_fetch_and_add(&stats->accel_bytes, bytes);
	if (connections)
		__sync_fetch_and_add(&stats->accel_connections, connections);
	if (fallbacks)
		__sync_fetch_and_add(&stats->accel_fallbacks, fallbacks);
}

/* Counts a connection that went on through a change of policy because an audited end refuses it.
 * Its opening was counted as a packet; the agent reports it. */
static __always_inline void direction_audited(const struct accel_direction *dir, int reason)
{
	bool of_opener = reason == DROP_EGRESS_DENIED;
	__u32 slot = !dir->peer_key.opener == of_opener ? dir->slot : dir->peer_slot;
	struct endpoint_stats *stats = bpf_map_lookup_elem(&endpoint_stats, &slot);

	notice(NOTICE_WOULD_DROP);
	if (stats)
		__sync_fetch_and_add(&stats->would_drops, 1);
}

/* Whether this message may overtake the packet path: 0, or the notice that says why not, which is
 * final for the direction. */
static __always_inline enum notice direction_check(struct sk_msg_md *msg, struct bpf_sock *sk,
						   struct accel_direction *dir)
{
	__u64 cost = (__u64)msg->size + ACCEL_MESSAGE_COST;
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	const struct node_state *node = node_get();
	bool first = dir->state == ACCEL_UNDECIDED;
	__u32 revision;
	bool audited;
	int denied;

	if (!tcp || !node || !(node->flags & NODE_ACCEL))
		return NOTICE_ACCEL_POLICY;
	if (first && !direction_begin(tcp, dir))
		return NOTICE_ACCEL_LATE;
	/* Read before policy is: a change in between is seen with the next message. */
	revision = *(const volatile __u32 *)&node->revision;
	if (first || dir->revision != revision) {
		denied = direction_policy(msg, dir, &audited);
		if (denied && !audited)
			return NOTICE_ACCEL_POLICY;
		if (denied && !first)
			direction_audited(dir, denied);
		dir->revision = revision;
	}
	if (tcp->inet_conn.icsk_ulp_ops || !peer_is_there(dir, first))
		return NOTICE_ACCEL_PEER;
	dir->queued_bytes += cost;
	if (dir->queued_bytes <= QUEUE_UNWATCHED)
		return 0;
	if (memory_is_short(tcp))
		return NOTICE_ACCEL_MEMORY;
	return queue_has_room(dir, cost) ? 0 : NOTICE_ACCEL_QUEUE;
}

/* One message of a registered socket; runs in its sendmsg(), under its lock. */
SEC("sk_msg")
int msg_redirect(struct sk_msg_md *msg)
{
	struct bpf_sock *sk = msg->sk;
	struct accel_direction *dir;
	struct tcp_sock *tcp;
	enum notice reason;

	dir = sk ? bpf_sk_storage_get(&accel_sock, sk, NULL, 0) : NULL;
	if (!dir || dir->state == ACCEL_PACKETS)
		return SK_PASS;
	reason = direction_check(msg, sk, dir);
	if (!reason &&
	    bpf_msg_redirect_hash(msg, &accel_map, &dir->peer_key, BPF_F_INGRESS) != SK_PASS)
		reason = NOTICE_ACCEL_PEER;
	if (reason) {
		dir->state = ACCEL_PACKETS;
		direction_count(dir, 0, 0, 1);
		notice(reason);
		return SK_PASS;
	}
	direction_count(dir, dir->state == ACCEL_UNDECIDED, msg->size, 0);
	tcp = bpf_skc_to_tcp_sock(sk);
	if (tcp)
		tcp_count_accelerated(
			(__u64)tcp->inet_conn.icsk_inet.sk.__sk_common.skc_cookie.counter,
			dir->peer.cookie, msg->size);
	dir->state = ACCEL_REDIRECTING;
	return SK_PASS;
}
