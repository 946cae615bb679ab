/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/connect_prober.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/icmp.h>
#include <linux/icmpv6.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "lib/auto.h"
#include "lib/child.h"
#include "lib/clock.h"
#include "lib/dns.h"

#define NOBODY     65534
#define ECHO_SIZE  64
#define PACKET_MAX 65536

static const char greeting[] = "connectivity";

/* ---- asking ---------------------------------------------------------------------------------- */

/* Waits for the event; an errno. */
static int wait_for(int fd, short events, int64_t deadline_ms)
{
	struct pollfd poll_fd = { .fd = fd, .events = events };
	int64_t left = deadline_ms - now_ms();
	int count = poll(&poll_fd, 1, left > 0 ? (int)left : 0);

	if (count < 0)
		return errno;
	return count ? 0 : ETIMEDOUT;
}

static int socket_error(int fd)
{
	socklen_t len = sizeof(int);
	int error = 0;

	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0 ? errno : error;
}

static int connect_to(int fd, const struct probe_request *request, int64_t deadline_ms)
{
	struct sockaddr_storage address;
	socklen_t len = addr_socket(&request->address, request->port, &address);
	int error;

	if (connect(fd, (struct sockaddr *)&address, len) == 0)
		return 0;
	if (errno != EINPROGRESS)
		return errno;
	error = wait_for(fd, POLLOUT, deadline_ms);
	return error ? error : socket_error(fd);
}

/* Sends the bytes, and reads an answer.  Returns its length or a negative errno. */
static ssize_t exchange(int fd, const void *bytes, size_t size, void *answer, size_t room,
			int64_t deadline_ms)
{
	ssize_t len;
	int error;

	if (send(fd, bytes, size, MSG_NOSIGNAL) < 0)
		return -errno;
	error = wait_for(fd, POLLIN, deadline_ms);
	if (error)
		return -error;
	len = recv(fd, answer, room, 0);
	return len < 0 ? -errno : len;
}

static int probe_connection(const struct probe_request *request, int64_t deadline_ms)
{
	const int type = request->kind == PROBE_UDP ? SOCK_DGRAM : SOCK_STREAM;
	auto_close int fd =
		socket(addr_family(&request->address), type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	char answer[sizeof(greeting)];
	ssize_t len;
	int error;

	if (fd < 0)
		return errno;
	error = connect_to(fd, request, deadline_ms);
	if (request->kind == PROBE_TOUCH)
		return error == ECONNREFUSED ? 0 : error;
	if (error)
		return error;
	len = exchange(fd, greeting, sizeof(greeting), answer, sizeof(answer), deadline_ms);
	if (len < 0)
		return (int)-len;
	return len == sizeof(greeting) && !memcmp(answer, greeting, sizeof(greeting)) ? 0 : EBADMSG;
}

static int never_fragment(int fd, bool v4)
{
	const int value = v4 ? IP_PMTUDISC_DO : IPV6_PMTUDISC_DO;

	return v4 ? setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &value, sizeof(value))
		  : setsockopt(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &value, sizeof(value));
}

/* The kernel matches answers with requests, and checks their sums. */
static int probe_echo(const struct probe_request *request, int64_t deadline_ms)
{
	const bool v4 = addr_is_v4(&request->address);
	const size_t head = v4 ? 20 : 40, size = (request->size ? request->size : ECHO_SIZE) - head;
	auto_close int fd =
		socket(addr_family(&request->address), SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
		       v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
	static char bytes[PACKET_MAX], answer[PACKET_MAX];
	ssize_t len;
	int error;

	if (fd < 0)
		return errno;
	if (request->size && never_fragment(fd, v4) < 0)
		return errno;
	bytes[0] = v4 ? ICMP_ECHO : (char)ICMPV6_ECHO_REQUEST;
	error = connect_to(fd, request, deadline_ms);
	if (error)
		return error;
	len = exchange(fd, bytes, size, answer, sizeof(answer), deadline_ms);
	if (len < 0)
		return (int)-len;
	return (size_t)len == size ? 0 : EBADMSG;
}

static int probe_dns(const struct probe_request *request, int64_t deadline_ms)
{
	static const uint8_t query[] = "\x2a\x54\1\0\0\1\0\0\0\0\0\0\12kubernetes\7default\3svc"
				       "\7cluster\5local\0\0\1\0\1";
	auto_close int fd = socket(addr_family(&request->address),
				   SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct dns_answer names;
	uint8_t answer[1500];
	ssize_t len;
	int error;

	if (fd < 0)
		return errno;
	error = connect_to(fd, request, deadline_ms);
	if (error)
		return error;
	len = exchange(fd, query, sizeof(query) - 1, answer, sizeof(answer), deadline_ms);
	if (len < 0)
		return (int)-len;
	if (len < 2 || memcmp(answer, query, 2) != 0)
		return EBADMSG;
	return dns_parse(answer, (size_t)len, &names) || !names.count ? ENOENT : 0;
}

static struct probe_result probe(const struct probe_request *request)
{
	const int64_t deadline_ms = now_ms() + request->timeout_ms;
	const uint64_t start_ns = now_ns();
	struct probe_result result;

	if (request->kind == PROBE_ECHO)
		result.error = probe_echo(request, deadline_ms);
	else if (request->kind == PROBE_DNS)
		result.error = probe_dns(request, deadline_ms);
	else
		result.error = probe_connection(request, deadline_ms);
	result.time_us = (uint32_t)((now_ns() - start_ns) / 1000);
	return result;
}

/* ---- answering ------------------------------------------------------------------------------- */

static int listen_at(int type)
{
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(PROBER_PORT) };
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(PROBER_PORT) };
	int fd = socket(AF_INET6, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	bool both = fd >= 0; /* a node may have no IPv6 */
	int ret;

	if (!both)
		fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	ret = both ? bind(fd, (struct sockaddr *)&v6, sizeof(v6))
		   : bind(fd, (struct sockaddr *)&v4, sizeof(v4));
	if (ret == 0 && (type == SOCK_DGRAM || listen(fd, 8) == 0))
		return fd;
	ret = -errno;
	close(fd);
	return ret;
}

static void answer_stream(int listener)
{
	const struct timeval timeout = { .tv_sec = 1 };
	auto_close int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	char bytes[sizeof(greeting)];
	ssize_t len;

	if (fd < 0)
		return;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	len = recv(fd, bytes, sizeof(bytes), MSG_WAITALL);
	if (len > 0)
		(void)!send(fd, bytes, (size_t)len, MSG_NOSIGNAL);
}

static void answer_datagram(int fd)
{
	struct sockaddr_storage from;
	socklen_t from_len = sizeof(from);
	char bytes[sizeof(greeting)];
	ssize_t len = recvfrom(fd, bytes, sizeof(bytes), 0, (struct sockaddr *)&from, &from_len);

	if (len > 0)
		(void)!sendto(fd, bytes, (size_t)len, MSG_NOSIGNAL, (struct sockaddr *)&from,
			      from_len);
}

/* ---- the child ------------------------------------------------------------------------------- */

/* Any process in the new namespace may send echo requests. */
static int echo_allow(void)
{
	auto_close int fd = open("/proc/sys/net/ipv4/ping_group_range", O_WRONLY | O_CLOEXEC);
	static const char all[] = "0 2147483647";

	return fd < 0 || write(fd, all, sizeof(all) - 1) < 0 ? -errno : 0;
}

/* The agent's container has no capability to become another user: then it stays root without any.
 */
static int privileges_drop(pid_t parent)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {};
	bool other = setgroups(0, NULL) == 0 && setresgid(NOBODY, NOBODY, NOBODY) == 0 &&
		     setresuid(NOBODY, NOBODY, NOBODY) == 0;

	if (!other && errno != EPERM)
		return -errno;
	if (syscall(SYS_capset, &header, none) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	return child_bind_to(parent) ? 0 : -EPIPE;
}

static void serve(int control, int stream, int datagram)
{
	struct pollfd fds[] = { { .fd = control, .events = POLLIN },
				{ .fd = stream, .events = POLLIN },
				{ .fd = datagram, .events = POLLIN } };

	for (;;) {
		struct probe_request request;
		struct probe_result result;

		if (poll(fds, ARRAY_SIZE(fds), -1) < 0)
			continue;
		if (fds[1].revents)
			answer_stream(stream);
		if (fds[2].revents)
			answer_datagram(datagram);
		if (!fds[0].revents)
			continue;
		if (recv(control, &request, sizeof(request), 0) != sizeof(request))
			return;
		result = probe(&request);
		if (send(control, &result, sizeof(result), MSG_NOSIGNAL) < 0)
			return;
	}
}

/* Its first message tells how the start went. */
static void child_run(int control, const char *name, bool in_pod, pid_t parent)
{
	struct probe_result started = {};
	int stream = -1, datagram = -1;
	int ret = child_settle(name, &control, 1);

	control = CHILD_FD_FIRST;
	if (!ret && in_pod) {
		ret = unshare(CLONE_NEWNET) < 0 ? -errno : echo_allow();
		if (!ret)
			ret = stream = listen_at(SOCK_STREAM);
		if (ret >= 0)
			ret = datagram = listen_at(SOCK_DGRAM);
	}
	if (ret >= 0)
		ret = privileges_drop(parent);
	started.error = ret < 0 ? -ret : 0;
	if (send(control, &started, sizeof(started), MSG_NOSIGNAL) > 0 && !started.error)
		serve(control, stream, datagram);
}

/* ---- the parent ------------------------------------------------------------------------------ */

int prober_start(struct prober *prober, const char *name, bool in_pod, struct errmsg *err)
{
	const pid_t parent = getpid();
	struct probe_result started;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return fail(err, -errno, "start %s", name);
	fflush(NULL);
	prober->pid = fork();
	if (prober->pid == 0) {
		child_run(pair[1], name, in_pod, parent);
		_exit(0);
	}
	close(pair[1]);
	prober->fd = pair[0];
	if (prober->pid < 0)
		return fail(err, -errno, "start %s", name);
	if (recv(prober->fd, &started, sizeof(started), 0) != sizeof(started))
		return fail(err, -EPIPE, "start %s", name);
	return started.error ? fail(err, -started.error, "start %s", name) : 0;
}

const char *prober_netns(const struct prober *prober, char *buf, size_t size)
{
	snprintf(buf, size, "/proc/%d/ns/net", prober->pid);
	return buf;
}

int prober_run(const struct prober *prober, const struct probe_request *request,
	       struct probe_result *ret, struct errmsg *err)
{
	ssize_t len = send(prober->fd, request, sizeof(*request), MSG_NOSIGNAL);

	if (len == (ssize_t)sizeof(*request))
		len = recv(prober->fd, ret, sizeof(*ret), 0);
	if (len < 0)
		return errno == EINTR ? fail_plain(err, -EINTR, "interrupted")
				      : fail(err, -errno, "probe");
	return len == (ssize_t)sizeof(*ret) ? 0 : fail(err, -EPIPE, "probe");
}

void prober_stop(struct prober *prober)
{
	if (prober->fd >= 0)
		close(take_fd(&prober->fd));
	if (prober->pid > 0) {
		kill(prober->pid, SIGKILL);
		waitpid(prober->pid, NULL, 0);
	}
	prober->pid = -1;
}
