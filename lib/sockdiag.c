/* SPDX-License-Identifier: Apache-2.0 */
/* TCP and UDP sockets of other processes by NETLINK_SOCK_DIAG. */
#include "lib/sockdiag.h"

#include <errno.h>
#include <linux/bpf.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>

int sockdiag_open(struct netlink *netlink, int netns_fd, struct errmsg *err)
{
	return netlink_open_protocol(netlink, netns_fd, NETLINK_SOCK_DIAG, err);
}

int sockdiag_destroy(struct netlink *netlink, const struct sockdiag_socket *socket,
		     struct errmsg *err)
{
	const struct flow *flow = &socket->flow;
	struct netlink_message message;
	struct inet_diag_req_v2 *request;
	const uint8_t *bytes;
	size_t len;
	int ret;

	request = netlink_message_init(&message, SOCK_DESTROY, NLM_F_ACK, sizeof(*request));
	/* An IPv6 socket that speaks IPv4 is found by its IPv4 addresses too. */
	request->sdiag_family = addr_is_v4(&flow->saddr) ? AF_INET : AF_INET6;
	request->sdiag_protocol = flow->proto;
	request->id.idiag_sport = flow->sport;
	request->id.idiag_dport = flow->dport;
	len = addr_bytes(&flow->saddr, &bytes);
	memcpy(request->id.idiag_src, bytes, len);
	len = addr_bytes(&flow->daddr, &bytes);
	memcpy(request->id.idiag_dst, bytes, len);
	/* Without the cookie the kernel would settle for a listener on the same port. */
	request->id.idiag_cookie[0] = (uint32_t)socket->cookie;
	request->id.idiag_cookie[1] = (uint32_t)(socket->cookie >> 32);
	request->id.idiag_if = socket->ifindex;
	ret = netlink_request(netlink, &message, err);
	if (ret == 0)
		return 0;
	wrap(err, "destroy a socket");
	return ret == -ESTALE ? -ENOENT : ret; /* stale: another socket has these addresses now */
}

/* ---- list ------------------------------------------------------------------------------------ */

struct list {
	int (*each)(const struct sockdiag_socket *socket, void *arg);
	void *arg;
	uint8_t proto;
};

/* Whether the peer's FIN has come: the kernel counts it as a byte. */
static bool state_has_fin(uint8_t state)
{
	return state == BPF_TCP_CLOSE_WAIT || state == BPF_TCP_LAST_ACK ||
	       state == BPF_TCP_CLOSING || state == BPF_TCP_TIME_WAIT;
}

/* An older kernel gives a shorter structure, all of which is in this one. */
static void info_read(const struct nlattr *attr, struct sockdiag_socket *socket)
{
	struct tcp_info info = {};
	size_t len = mnl_attr_get_payload_len(attr);

	memcpy(&info, mnl_attr_get_payload(attr), len < sizeof(info) ? len : sizeof(info));
	socket->rtt_us = info.tcpi_rtt;
	socket->retransmits = info.tcpi_total_retrans;
	socket->sent = info.tcpi_bytes_sent - info.tcpi_bytes_retrans;
	socket->received = info.tcpi_bytes_received;
	if (socket->received && state_has_fin(socket->state))
		socket->received--;
}

static int list_message(const struct nlmsghdr *header, void *arg)
{
	const struct inet_diag_msg *message = mnl_nlmsg_get_payload(header);
	struct list *list = arg;
	struct sockdiag_socket socket = { .flow.proto = list->proto };
	const struct nlattr *attr;
	size_t len;

	if (mnl_nlmsg_get_payload_len(header) < sizeof(*message))
		return -EBADMSG;
	len = message->idiag_family == AF_INET ? sizeof(struct in_addr) : sizeof(struct in6_addr);
	if (addr_from_bytes(message->id.idiag_src, len, &socket.flow.saddr) ||
	    addr_from_bytes(message->id.idiag_dst, len, &socket.flow.daddr))
		return -EBADMSG;
	socket.flow.sport = message->id.idiag_sport;
	socket.flow.dport = message->id.idiag_dport;
	socket.state = message->idiag_state;
	socket.ifindex = message->id.idiag_if;
	socket.receive_queue = message->idiag_rqueue;
	socket.send_queue = message->idiag_wqueue;
	socket.cookie = message->id.idiag_cookie[0] | (uint64_t)message->id.idiag_cookie[1] << 32;
	mnl_attr_for_each (attr, header, sizeof(*message)) {
		if (mnl_attr_get_type(attr) == INET_DIAG_INFO)
			info_read(attr, &socket);
		else if (mnl_attr_get_type(attr) == INET_DIAG_SKV6ONLY &&
			 !mnl_attr_validate(attr, MNL_TYPE_U8))
			socket.v6_only = mnl_attr_get_u8(attr);
	}
	return list->each(&socket, list->arg);
}

/* extensions: 1 << (INET_DIAG_* - 1), what to tell of each socket. */
static int list_request(struct netlink *netlink, int family, uint32_t states, uint8_t extensions,
			struct list *list, struct errmsg *err)
{
	struct netlink_message message;
	struct inet_diag_req_v2 *request;
	int ret;

	request = netlink_message_init(&message, SOCK_DIAG_BY_FAMILY, 0, sizeof(*request));
	request->sdiag_family = (uint8_t)family;
	request->sdiag_protocol = list->proto;
	request->idiag_states = states;
	request->idiag_ext = extensions;
	ret = netlink_dump(netlink, &message, list_message, NULL, list, err);
	return ret ? wrap(err, "list sockets") : 0;
}

int sockdiag_list(struct netlink *netlink, int family, uint8_t proto, uint32_t states,
		  int (*each)(const struct sockdiag_socket *socket, void *arg), void *arg,
		  struct errmsg *err)
{
	struct list list = { each, arg, proto };

	return list_request(netlink, family, states, 0, &list, err);
}

int sockdiag_list_tcp(struct netlink *netlink, int family, uint32_t states,
		      int (*each)(const struct sockdiag_socket *socket, void *arg), void *arg,
		      struct errmsg *err)
{
	struct list list = { each, arg, IPPROTO_TCP };

	return list_request(netlink, family, states, 1u << (INET_DIAG_INFO - 1), &list, err);
}
