/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Services in the socket layer.  A service address is replaced by a backend when a program connects
 * or sends: once for a connection, not for each packet.  The program sees the service again when it
 * asks for its peer.  The programs are attached to a cgroup, so all sockets of the node use them;
 * only those in the agent's own namespace or in a pod's are changed.  Sockets out of reach (another
 * cgroup, a nested namespace) are served packet by packet in nat.bpf.h.
 *
 * Every program runs under the socket's lock, so a struct sock_service has one writer.  An IPv4
 * peer of an AF_INET6 socket comes as ::ffff:a.b.c.d, the form that all maps use, or through the
 * programs of IPv4.
 */
#include <linux/bpf.h>
#include <linux/errno.h>
#include <linux/in.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "datapath/bpf/ipcache.bpf.h"
#include "datapath/bpf/metric.bpf.h"
#include "datapath/bpf/service.bpf.h"
#include "datapath/bpf/sock_service.bpf.h"

#define GOLDEN_RATIO 0x9e3779b97f4a7c15ULL

enum family { IPV4, IPV6 };

/* Result of a cgroup program: the system call fails with the value given to bpf_set_retval(), or
 * continues. */
enum sys_verdict { SYS_REJECT, SYS_PROCEED };

struct peer {
	struct addr addr;
	__be16 port;
};

/* ---- the address at hand -------------------------------------------------------------------- */

/* family is constant in every caller: the verifier wants each field of the context by itself. */
static __always_inline void peer_read(const struct bpf_sock_addr *ctx, enum family family,
				      struct peer *ret_peer)
{
	if (family == IPV4) {
		ret_peer->addr.w[0] = 0;
		ret_peer->addr.w[1] = 0;
		ret_peer->addr.w[2] = bpf_htonl(0xffff);
		ret_peer->addr.w[3] = ctx->user_ip4;
	} else {
		ret_peer->addr.w[0] = ctx->user_ip6[0];
		ret_peer->addr.w[1] = ctx->user_ip6[1];
		ret_peer->addr.w[2] = ctx->user_ip6[2];
		ret_peer->addr.w[3] = ctx->user_ip6[3];
	}
	ret_peer->port = (__be16)ctx->user_port;
}

static __always_inline void peer_write(struct bpf_sock_addr *ctx, enum family family,
				       const struct addr *addr, __be16 port)
{
	if (family == IPV4) {
		ctx->user_ip4 = addr->w[3];
	} else {
		ctx->user_ip6[0] = addr->w[0];
		ctx->user_ip6[1] = addr->w[1];
		ctx->user_ip6[2] = addr->w[2];
		ctx->user_ip6[3] = addr->w[3];
	}
	ctx->user_port = port;
}

static __always_inline bool sock_is_connected(const struct bpf_sock_addr *ctx)
{
	return ctx->sk->state == BPF_TCP_ESTABLISHED; /* of connected UDP, too */
}

/* ---- the services that a socket uses --------------------------------------------------------- */

static __always_inline void sock_service_set(struct sock_service *stored,
					     const struct peer *service,
					     const struct service_choice *choice)
{
	stored->addr = service->addr;
	stored->port = service->port;
	stored->backend_addr = choice->backend.addr;
	stored->backend_port = choice->backend.port;
	stored->backend = choice->index;
}

static __always_inline bool sock_service_is_for(const struct sock_service *stored,
						const struct peer *service)
{
	return stored->port == service->port && addr_equal(&stored->addr, &service->addr);
}

static __always_inline bool sock_service_has_backend(const struct sock_service *stored,
						     const struct addr *addr, __be16 port)
{
	return stored->backend_port == port && addr_equal(&stored->backend_addr, addr);
}

/* ---- services beside the first --------------------------------------------------------------- */

static __always_inline struct sendmsg_services *further_get(struct bpf_sock *sk, __u64 flags)
{
	return bpf_sk_storage_get(&sendmsg_service, sk, NULL, flags);
}

static __always_inline struct sock_service *further_by_service(struct bpf_sock *sk,
							       const struct peer *service)
{
	struct sendmsg_services *further = further_get(sk, 0);

	for (int i = 0; further && i < SENDMSG_SERVICES; i++) {
		if (sock_service_is_for(&further->items[i], service))
			return &further->items[i];
	}
	return NULL;
}

static __always_inline struct sock_service *further_by_backend(struct bpf_sock *sk,
							       const struct peer *backend)
{
	struct sendmsg_services *further = further_get(sk, 0);

	for (int i = 0; further && i < SENDMSG_SERVICES; i++) {
		if (sock_service_has_backend(&further->items[i], &backend->addr, backend->port))
			return &further->items[i];
	}
	return NULL;
}

/* Room for one more: an item that is free, or the oldest.  NULL: no memory. */
static __always_inline struct sock_service *further_make(struct bpf_sock *sk)
{
	struct sendmsg_services *further = further_get(sk, BPF_SK_STORAGE_GET_F_CREATE);
	__u32 oldest;

	if (!further)
		return NULL;
	for (int i = 0; i < SENDMSG_SERVICES; i++) {
		if (!further->items[i].port)
			return &further->items[i];
	}
	oldest = further->oldest;
	if (oldest >= SENDMSG_SERVICES)
		return NULL;
	further->oldest = oldest + 1 < SENDMSG_SERVICES ? oldest + 1 : 0;
	return &further->items[oldest];
}

/* The program now sends to this address by itself: answers from there are no service's. */
static __always_inline void send_forget(struct bpf_sock_addr *ctx, const struct peer *peer)
{
	struct sock_service *stored = sock_service_stored(ctx->sk, 0);

	if (!stored)
		return;
	if (sock_service_has_backend(stored, &peer->addr, peer->port) && !sock_is_connected(ctx))
		*stored = (struct sock_service){ 0 };
	stored = further_by_backend(ctx->sk, peer);
	if (stored)
		*stored = (struct sock_service){ 0 };
}

/* Keeps the backend of a datagram: the first service in sock_service, others beside it.  A backend
 * answers for one service, the last that was sent to it. */
static __always_inline void send_remember(struct bpf_sock_addr *ctx, struct sock_service *stored,
					  const struct peer *service,
					  const struct service_choice *choice)
{
	struct peer backend = { .addr = choice->backend.addr, .port = choice->backend.port };
	struct sock_service *further = NULL;

	send_forget(ctx, &backend);
	if (stored &&
	    (sock_is_connected(ctx) || (stored->port && !sock_service_is_for(stored, service)))) {
		further = further_by_service(ctx->sk, service);
		stored = further ? further : further_make(ctx->sk);
	}
	if (stored)
		sock_service_set(stored, service, choice);
	else
		notice(NOTICE_SENDMSG_FULL);
}

/* ---- choosing a backend --------------------------------------------------------------------- */

/* Whose socket it is.  Several agents share a cgroup: others' namespaces are left alone. */
enum owner { OWNER_OTHER, OWNER_NODE, OWNER_POD };

/* ret_slot: of the pod. */
static __always_inline enum owner sock_owner(struct bpf_sock_addr *ctx, __u32 *ret_slot)
{
	__u64 cookie = bpf_get_netns_cookie(ctx);
	const struct node_state *node = node_get();
	const __u32 *slot;

	if (node && node->netns_cookie == cookie)
		return OWNER_NODE;
	slot = bpf_map_lookup_elem(&netns_map, &cookie);
	if (!slot)
		return OWNER_OTHER;
	*ret_slot = *slot;
	return OWNER_POD;
}

/* The address that the pod would send from; the node has several: all zero. */
static __always_inline void client_addr(__u32 slot, const struct addr *peer, struct addr *ret)
{
	const struct endpoint_entry *endpoint = bpf_map_lookup_elem(&endpoint_map, &slot);

	if (slot && endpoint)
		*ret = addr_is_v4(peer) ? endpoint->v4 : endpoint->v6;
}

/* What a socket asked for. */
struct request {
	struct peer peer;
	struct service service;
	enum owner owner;
	__u32 slot;
};

/* Fills req but for req->peer; false: not a service's, or the socket is nobody's here.  Node ports
 * on loopback addresses are the node's alone: a pod has a loopback of its own.  They are known
 * under 127.0.0.1, and under ::1. */
static __always_inline bool request_lookup(struct bpf_sock_addr *ctx, __u8 proto,
					   struct request *req)
{
	struct addr addr = req->peer.addr;
	bool loopback = addr_is_loopback(&addr);

	if (loopback && addr_is_v4(&addr))
		addr.w[3] = bpf_htonl(0x7f000001);
	if (!service_lookup(&addr, req->peer.port, proto, &req->service))
		return false;
	req->owner = sock_owner(ctx, &req->slot);
	return req->owner == OWNER_NODE || (req->owner == OWNER_POD && !loopback);
}

/* Returns a drop reason, as service_choose() does. */
static __always_inline int request_choose(const struct request *req, __u32 dice,
					  struct service_choice *ret)
{
	struct addr client = {};

	if (req->service.affinity_s || req->service.flags & SERVICE_SOURCE_RANGES)
		client_addr(req->slot, &req->peer.addr, &client);
	if (req->owner == OWNER_POD && !service_admits(&req->service, &client))
		return DROP_SOURCE_RANGE;
	return service_choose(&req->service, CLIENT_INSIDE, &client, dice, ret);
}

/* Nobody serves: refused at once.  What is to be dropped in silence, tc drops and counts for a pod;
 * the node's own packets would leave the node. */
static __always_inline enum sys_verdict request_refuse(const struct request *req, int reason)
{
	if (reason != DROP_NO_BACKEND && req->owner == OWNER_POD)
		return SYS_PROCEED;
	bpf_set_retval(reason == DROP_NO_BACKEND ? -ECONNREFUSED : -EPERM);
	return SYS_REJECT;
}

/* ---- connect -------------------------------------------------------------------------------- */

/* A service address without such a port is left alone: tc drops the packet and names the reason. */
static __always_inline enum sys_verdict sock_connect(struct bpf_sock_addr *ctx, enum family family)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);
	struct sock_service *stored = sock_service_find(ctx->sk, ctx->protocol, cookie);
	struct service_choice choice = {};
	struct request req = {};
	int reason;

	peer_read(ctx, family, &req.peer);
	if (!request_lookup(ctx, (__u8)ctx->protocol, &req)) {
		if (stored) /* of an earlier connect of this socket */
			*stored = (struct sock_service){ 0 };
		return SYS_PROCEED;
	}
	reason = request_choose(&req, bpf_get_prandom_u32(), &choice);
	if (reason)
		return request_refuse(&req, reason);
	if (!stored)
		stored = sock_service_make(ctx->sk, cookie, req.slot);
	if (stored)
		sock_service_set(stored, &req.peer, &choice);
	else
		notice(NOTICE_SENDMSG_FULL); /* connected all the same, but by the backend's name */
	peer_write(ctx, family, &choice.backend.addr, choice.backend.port);
	return SYS_PROCEED;
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	return sock_connect(ctx, IPV4);
}

SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *ctx)
{
	return sock_connect(ctx, IPV6);
}

/* getpeername() of a connected socket. */
static __always_inline enum sys_verdict sock_getpeername(struct bpf_sock_addr *ctx,
							 enum family family)
{
	const struct sock_service *stored =
		sock_service_find(ctx->sk, ctx->protocol, bpf_get_socket_cookie(ctx));
	struct peer peer;

	if (!stored)
		return SYS_PROCEED;
	peer_read(ctx, family, &peer);
	if (sock_service_has_backend(stored, &peer.addr, peer.port))
		peer_write(ctx, family, &stored->addr, stored->port);
	return SYS_PROCEED;
}

SEC("cgroup/getpeername4")
int getpeername4(struct bpf_sock_addr *ctx)
{
	return sock_getpeername(ctx, IPV4);
}

SEC("cgroup/getpeername6")
int getpeername6(struct bpf_sock_addr *ctx)
{
	return sock_getpeername(ctx, IPV6);
}

SEC("cgroup/sock_release")
int sock_release(struct bpf_sock *sk)
{
	if (sk->protocol == IPPROTO_TCP)
		sock_service_free(bpf_get_socket_cookie(sk));
	return SYS_PROCEED;
}

/* ---- UDP with an address -------------------------------------------------------------------- */

/*
 * The backend of an unconnected socket is kept as long as it serves, so that all datagrams of one
 * exchange (QUIC, TFTP) meet the same one.  The first follows from the cookie: sockets spread, and
 * one whose entry was lost finds its backend again as long as the service keeps its backends.
 */
static __always_inline __u32 send_dice(struct bpf_sock_addr *ctx, const struct service *service)
{
	return (__u32)((bpf_get_socket_cookie(ctx) + service->id) * GOLDEN_RATIO >> 32);
}

/* The backend that this socket has for the service, if it still is one. */
static __always_inline bool send_known(struct bpf_sock_addr *ctx, struct sock_service *stored,
				       const struct peer *peer, const struct service *service,
				       struct service_choice *ret)
{
	if (!stored)
		return false;
	if (!sock_service_is_for(stored, peer))
		stored = further_by_service(ctx->sk, peer);
	if (!stored)
		return false;
	ret->backend.addr = stored->backend_addr;
	ret->backend.port = stored->backend_port;
	ret->index = stored->backend;
	if (!service_has_backend(service, &ret->backend.addr, ret->backend.port, &ret->index))
		return false;
	stored->backend = ret->index;
	return true;
}

static __always_inline enum sys_verdict sock_sendmsg(struct bpf_sock_addr *ctx, enum family family)
{
	struct service_choice choice = {};
	struct sock_service *stored;
	struct request req = {};
	int reason;

	peer_read(ctx, family, &req.peer);
	if (!request_lookup(ctx, IPPROTO_UDP, &req)) {
		send_forget(ctx, &req.peer);
		return SYS_PROCEED;
	}
	stored = sock_service_stored(ctx->sk, BPF_SK_STORAGE_GET_F_CREATE);
	if (!send_known(ctx, stored, &req.peer, &req.service, &choice)) {
		reason = request_choose(&req, send_dice(ctx, &req.service), &choice);
		if (reason)
			return request_refuse(&req, reason);
		send_remember(ctx, stored, &req.peer, &choice);
	}
	peer_write(ctx, family, &choice.backend.addr, choice.backend.port);
	return SYS_PROCEED;
}

SEC("cgroup/sendmsg4")
int sendmsg4(struct bpf_sock_addr *ctx)
{
	return sock_sendmsg(ctx, IPV4);
}

SEC("cgroup/sendmsg6")
int sendmsg6(struct bpf_sock_addr *ctx)
{
	return sock_sendmsg(ctx, IPV6);
}

/* A datagram was received and its source asked for, on a connected socket or not. */
static __always_inline enum sys_verdict sock_recvmsg(struct bpf_sock_addr *ctx, enum family family)
{
	const struct sock_service *stored = sock_service_stored(ctx->sk, 0);
	struct peer peer;

	if (!stored)
		return SYS_PROCEED;
	peer_read(ctx, family, &peer);
	if (!sock_service_has_backend(stored, &peer.addr, peer.port))
		stored = further_by_backend(ctx->sk, &peer);
	if (stored)
		peer_write(ctx, family, &stored->addr, stored->port);
	return SYS_PROCEED;
}

SEC("cgroup/recvmsg4")
int recvmsg4(struct bpf_sock_addr *ctx)
{
	return sock_recvmsg(ctx, IPV4);
}

SEC("cgroup/recvmsg6")
int recvmsg6(struct bpf_sock_addr *ctx)
{
	return sock_recvmsg(ctx, IPV6);
}
