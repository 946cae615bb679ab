/* SPDX-License-Identifier: Apache-2.0 */
/* TCP and UDP sockets of other processes by NETLINK_SOCK_DIAG. */
#include "lib/sockdiag.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
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
	int code;

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
	code = netlink_request(netlink, &message, err);
	if (code == 0)
		return 0;
	wrap(err, "destroy a socket");
	return code == -ESTALE ? -ENOENT : code; /* stale: another socket has these addresses now */
}

/* ---- list ------------------------------------------------------------------------------------ */

struct list {
	int (*each)(const struct sockdiag_socket *socket, void *arg);
	void *arg;
	uint8_t proto;
};

static int list_message(const struct nlmsghdr *header, void *arg)
{
	const struct inet_diag_msg *message = mnl_nlmsg_get_payload(header);
	struct list *list = arg;
	struct sockdiag_socket socket = { .flow.proto = list->proto };
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
	socket.cookie = message->id.idiag_cookie[0] | (uint64_t)message->id.idiag_cookie[1] << 32;
	return list->each(&socket, list->arg);
}

int sockdiag_list(struct netlink *netlink, int family, uint8_t proto, uint32_t states,
		  int (*each)(const struct sockdiag_socket *socket, void *arg), void *arg,
		  struct errmsg *err)
{
	struct list list = { each, arg, proto };
	struct netlink_message message;
	struct inet_diag_req_v2 *request;
	int code;

	request = netlink_message_init(&message, SOCK_DIAG_BY_FAMILY, 0, sizeof(*request));
	request->sdiag_family = (uint8_t)family;
	request->sdiag_protocol = proto;
	request->idiag_states = states;
	code = netlink_dump(netlink, &message, list_message, NULL, &list, err);
	return code ? wrap(err, "list sockets") : 0;
}
