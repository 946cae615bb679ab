/* SPDX-License-Identifier: Apache-2.0 */
#include "harness/lab_socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_addr.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/auto.h"
#include "lib/inet.h"
#include "lib/netlink.h"
#include "lib/netns.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define SILENCE_MS 500 /* for what must not come */

void lab_attach(void)
{
	struct errmsg err = { 0 };

	lab.attached = true;
	for (size_t i = 0; i < lab.pods->count; i++)
		assert_int_equal(
			datapath_attach_endpoint(
				lab.datapath, ENDPOINT_IFINDEX_BASE + lab.pods->pod[i].slot, &err),
			0);
	assert_int_equal(datapath_attach_host(lab.datapath, lab.pods->host_ifindex, &err), 0);
}

uint16_t lab_port(void)
{
	static uint16_t port = 20000;

	return port++;
}

static socklen_t socket_address(enum host host, uint16_t port, struct sockaddr_storage *ret)
{
	struct addr addr = at(host);

	memset(ret, 0, sizeof(*ret));
	if (lab.ipv6) {
		struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;

		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
		memcpy(&in6->sin6_addr, &addr, sizeof(addr));
		return sizeof(*in6);
	}
	struct sockaddr_in *in = (struct sockaddr_in *)ret;

	in->sin_family = AF_INET;
	in->sin_port = htons(port);
	in->sin_addr.s_addr = addr.w[3];
	return sizeof(*in);
}

int lab_socket(enum host where, int type)
{
	/* Closing says all at once: a FIN that policy drops would be sent again in a later test,
	 * and its drop be taken for that of the test's own packet. */
	const struct linger at_once = { .l_onoff = 1 };
	int domain = lab.ipv6 ? AF_INET6 : AF_INET, one = 1, fd;

	if (lab_is_pod(where))
		fd = pods_socket(&lab.pods->pod[where], domain, type | SOCK_NONBLOCK);
	else
		fd = socket(domain, type | SOCK_NONBLOCK, 0);
	assert_true(fd >= 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)), 0);
	return fd;
}

/* Whether the address is one of the namespace's own: then it is its own source. */
static bool is_local(enum host where, enum host whom)
{
	auto_close int fd = lab_socket(where, SOCK_DGRAM);
	struct sockaddr_storage peer, own = { 0 };
	socklen_t len = socket_address(whom, 9, &peer), own_len = sizeof(own);

	if (connect(fd, (struct sockaddr *)&peer, len) ||
	    getsockname(fd, (struct sockaddr *)&own, &own_len))
		return false;
	if (lab.ipv6)
		return !memcmp(&((struct sockaddr_in6 *)&own)->sin6_addr,
			       &((struct sockaddr_in6 *)&peer)->sin6_addr, sizeof(struct in6_addr));
	return !memcmp(&((struct sockaddr_in *)&own)->sin_addr,
		       &((struct sockaddr_in *)&peer)->sin_addr, sizeof(struct in_addr));
}

void lab_impersonate(enum host where, enum host whom)
{
	auto_netlink struct netlink netlink = NETLINK_INIT;
	struct addr addr = at(whom);
	struct netlink_message message;
	struct errmsg err = { 0 };
	struct ifinfomsg *link;
	struct ifaddrmsg *info;

	assert_int_equal(
		netlink_open(&netlink,
			     lab_is_pod(where) ? lab.pods->pod[where].netns_fd : lab.pods->node_fd,
			     &err),
		0);
	link = netlink_message_init(&message, RTM_NEWLINK, NLM_F_ACK, sizeof(*link));
	link->ifi_index = 1;
	link->ifi_flags = link->ifi_change = IFF_UP;
	assert_int_equal(netlink_request(&netlink, &message, &err), 0);
	info = netlink_message_init(&message, RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE,
				    sizeof(*info));
	info->ifa_family = lab.ipv6 ? AF_INET6 : AF_INET;
	info->ifa_prefixlen = lab.ipv6 ? 128 : 32;
	info->ifa_index = 1;
	mnl_attr_put_u32(&message.header, IFA_FLAGS, lab.ipv6 ? IFA_F_NODAD : 0);
	netlink_put_addr(&message.header, IFA_LOCAL, &addr);
	netlink_put_addr(&message.header, IFA_ADDRESS, &addr);
	assert_int_equal(netlink_request(&netlink, &message, &err), 0);
	/* IPv6 makes the route to it in a worker. */
	for (int i = 0; !is_local(where, whom); i++) {
		assert_true(i < WAIT_MS);
		poll(NULL, 0, 1);
	}
}

void lab_bind(int fd, enum host host, uint16_t port)
{
	struct sockaddr_storage own;
	socklen_t len = socket_address(host, port, &own);

	assert_int_equal(bind(fd, (struct sockaddr *)&own, len), 0);
}

void lab_peer(int fd, enum host host, uint16_t port)
{
	struct sockaddr_storage peer;
	socklen_t len = socket_address(host, port, &peer);

	assert_true(!connect(fd, (struct sockaddr *)&peer, len) || errno == EINPROGRESS);
}

int lab_listen(enum host where, uint16_t port)
{
	int fd = lab_socket(where, SOCK_STREAM);

	lab_bind(fd, where, port);
	assert_int_equal(listen(fd, 8), 0);
	return fd;
}

int lab_connect_begin(enum host from, uint16_t from_port, enum host to, uint16_t port)
{
	int fd = lab_socket(from, SOCK_STREAM);

	lab_bind(fd, from, from_port);
	lab_peer(fd, to, port);
	return fd;
}

static bool wait_for(int fd, short events, int timeout_ms)
{
	struct pollfd waiting = { .fd = fd, .events = events };

	return poll(&waiting, 1, timeout_ms) == 1;
}

int lab_try(int fd, enum host host, uint16_t port)
{
	struct sockaddr_storage peer;
	socklen_t len = socket_address(host, port, &peer), size = sizeof(int);
	int error = 0;

	if (!connect(fd, (struct sockaddr *)&peer, len))
		return 0;
	if (errno != EINPROGRESS)
		return errno;
	if (!wait_for(fd, POLLOUT, WAIT_MS))
		return ETIMEDOUT;
	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size), 0);
	return error;
}

void lab_connect(enum host from, uint16_t from_port, enum host to, uint16_t port, int *ret_client,
		 int *ret_server)
{
	int listener = lab_listen(to, port);

	*ret_client = lab_connect_begin(from, from_port, to, port);
	assert_true(wait_for(listener, POLLIN, WAIT_MS));
	*ret_server = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
	assert_true(*ret_server >= 0);
	assert_true(wait_for(*ret_client, POLLOUT, WAIT_MS));
	close(listener);
}

bool lab_talks(int from, int to)
{
	char sent = 'x', got = 0;

	return send(from, &sent, 1, MSG_NOSIGNAL) == 1 && wait_for(to, POLLIN, WAIT_MS) &&
	       recv(to, &got, 1, 0) == 1 && got == sent;
}

bool lab_is_silent(int from, int to)
{
	char sent = 'x', got;

	return send(from, &sent, 1, MSG_NOSIGNAL) != 1 || !wait_for(to, POLLIN, SILENCE_MS) ||
	       recv(to, &got, 1, 0) != 1;
}
