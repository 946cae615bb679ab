/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checks of the self-test.  Each one opens a fresh connection between the two namespaces and
 * drives both ends from this thread with sockets that never block; the one check of a blocking call
 * does that call in a child.
 */
#include "agent/accel/accel_selftest_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include "lib/auto.h"
#include "lib/clock.h"
#include "lib/netns.h"
#include "lib/sockdiag.h"

/* For what happens at once on an idle machine.  On a busy one the kernel may be late: it drops what
 * is sent before its worker has activated the device, and TCP sends its SYN again after a second.
 */
#define WAIT_MS 5000
#define PORT    4007 /* not a privileged one */
/* What the queue limit, a full send buffer and a full receive buffer can hold together. */
#define UNREAD_MAX (ACCEL_QUEUE_MAX + 32 * 1024 * 1024)

/* One connection; end 0 opened it. */
struct pair {
	int fd[2];
	uint16_t opener_port;
};

static void pair_done(struct pair *pair)
{
	for (int i = 0; i < 2; i++) {
		if (pair->fd[i] >= 0)
			close(take_fd(&pair->fd[i]));
	}
}
#define auto_pair __attribute__((cleanup(pair_done)))
#define PAIR_INIT             \
	{                     \
		{ -1, -1 }, 0 \
	}

/* A check's outcome: 0, or -1 with the reason in its detail. */
static int seen(struct selftest_check *check, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static int seen(struct selftest_check *check, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(check->detail, sizeof(check->detail), fmt, args);
	va_end(args);
	return -1;
}

/* ---- connections ---------------------------------------------------------------------------- */

static socklen_t sockaddr_fill(const struct end *end, bool v6, struct sockaddr_storage *ret)
{
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;
	struct sockaddr_in *in = (struct sockaddr_in *)ret;

	memset(ret, 0, sizeof(*ret));
	if (v6) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(PORT);
		memcpy(&in6->sin6_addr, end->addr[1].w, 16);
		return sizeof(*in6);
	}
	in->sin_family = AF_INET;
	in->sin_port = htons(PORT);
	in->sin_addr.s_addr = end->addr[0].w[3];
	return sizeof(*in);
}

static bool is_ready(int fd, short events, int timeout_ms)
{
	struct pollfd poll_fd = { .fd = fd, .events = events };

	return poll(&poll_fd, 1, timeout_ms) == 1 && (poll_fd.revents & events);
}

static int pair_open(const struct selftest *selftest, bool v6, struct pair *pair,
		     struct selftest_check *check)
{
	int family = v6 ? AF_INET6 : AF_INET;
	struct sockaddr_storage address;
	struct sockaddr_in6 opener = {}; /* the port lies at the same place in both families */
	socklen_t len = sockaddr_fill(&selftest->end[1], v6, &address);
	socklen_t opener_len = sizeof(opener);
	auto_close int listener = netns_socket(selftest->end[1].netns_fd, family,
					       SOCK_STREAM | SOCK_NONBLOCK, 0, NULL);
	int on = 1;

	pair->fd[0] = netns_socket(selftest->end[0].netns_fd, family, SOCK_STREAM | SOCK_NONBLOCK,
				   0, NULL);
	if (listener < 0 || pair->fd[0] < 0)
		return seen(check, "no socket");
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(listener, (struct sockaddr *)&address, len) < 0 || listen(listener, 1) < 0)
		return seen(check, "listen: %s", strerror(errno));
	if (connect(pair->fd[0], (struct sockaddr *)&address, len) < 0 && errno != EINPROGRESS)
		return seen(check, "connect: %s", strerror(errno));
	if (!is_ready(listener, POLLIN, WAIT_MS) || !is_ready(pair->fd[0], POLLOUT, WAIT_MS))
		return seen(check, "the connection was not established");
	pair->fd[1] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (pair->fd[1] < 0 ||
	    getsockname(pair->fd[0], (struct sockaddr *)&opener, &opener_len) < 0)
		return seen(check, "accept: %s", strerror(errno));
	pair->opener_port = opener.sin6_port;
	for (int i = 0; i < 2; i++)
		setsockopt(pair->fd[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return 0;
}

static struct endpoint_stats stats_of(const struct selftest *selftest, int end)
{
	struct endpoint_stats stats = {};

	endpoint_stats_get(selftest->datapath, SELFTEST_SLOT(end), &stats);
	return stats;
}

/* Sends all of text and makes sure that it went, or did not go, from socket to socket. */
static int say(const struct selftest *selftest, const struct pair *pair, int end, const char *text,
	       bool redirected, struct selftest_check *check)
{
	size_t len = strlen(text);
	uint64_t before = stats_of(selftest, end).accel_bytes, moved;

	if (send(pair->fd[end], text, len, MSG_NOSIGNAL) != (ssize_t)len)
		return seen(check, "send: %s", strerror(errno));
	moved = stats_of(selftest, end).accel_bytes - before;
	if (moved != (redirected ? len : 0))
		return seen(check, "%llu of %zu bytes went from socket to socket",
			    (unsigned long long)moved, len);
	return 0;
}

/* Reads until text has arrived. */
static int hear(const struct pair *pair, int end, const char *text, struct selftest_check *check)
{
	size_t want = strlen(text), have = 0;
	char buf[256] = "";

	while (have < want) {
		ssize_t len;

		if (!is_ready(pair->fd[end], POLLIN, WAIT_MS))
			return seen(check, "no POLLIN after %zu of %zu bytes", have, want);
		len = recv(pair->fd[end], buf + have, sizeof(buf) - have, 0);
		if (len <= 0)
			return seen(check, "recv after POLLIN: %s",
				    len ? strerror(errno) : "end of stream");
		have += (size_t)len;
	}
	if (have != want || memcmp(buf, text, want) != 0)
		return seen(check, "sent \"%s\", received \"%.*s\"", text, (int)have, buf);
	return 0;
}

static int hear_end(const struct pair *pair, int end, struct selftest_check *check)
{
	char byte;
	ssize_t len;

	if (!is_ready(pair->fd[end], POLLIN, WAIT_MS))
		return seen(check, "no POLLIN at the end of the stream");
	len = recv(pair->fd[end], &byte, 1, 0);
	if (len != 0)
		return seen(check, "end of stream: recv says %zd (%s)", len,
			    len < 0 ? strerror(errno) : "data");
	return 0;
}

/* ---- the checks ----------------------------------------------------------------------------- */

static int check_delivery(struct selftest *selftest, struct selftest_check *check)
{
	for (int v6 = 0; v6 < 2; v6++) {
		auto_pair struct pair pair = PAIR_INIT;

		if (pair_open(selftest, v6, &pair, check) ||
		    say(selftest, &pair, 0, "request", true, check) ||
		    hear(&pair, 1, "request", check) ||
		    say(selftest, &pair, 1, "answer", true, check) ||
		    hear(&pair, 0, "answer", check))
			return -1;
	}
	return 0;
}

/* Redirected bytes first and packets later keep their order, and nothing is redirected once a byte
 * went by packet. */
static int check_order(struct selftest *selftest, struct selftest_check *check)
{
	auto_pair struct pair pair = PAIR_INIT;
	int ret;

	if (pair_open(selftest, false, &pair, check) ||
	    say(selftest, &pair, 0, "one ", true, check) ||
	    say(selftest, &pair, 0, "two ", true, check))
		return -1;
	selftest_allow(selftest, false);
	ret = say(selftest, &pair, 0, "three ", false, check) ||
	      say(selftest, &pair, 1, "five ", false, check);
	selftest_allow(selftest, true);
	if (ret || say(selftest, &pair, 0, "four", false, check) ||
	    say(selftest, &pair, 1, "six", false, check) ||
	    hear(&pair, 1, "one two three four", check) || hear(&pair, 0, "five six", check))
		return -1;
	return 0;
}

/* Byte at a position of the test stream: shifted or lost blocks do not look alike. */
static char stream_byte(size_t position)
{
	return (char)(position * 31 + (position >> 12));
}

/* Sends until the socket is full. */
static int stream_fill(struct selftest *selftest, int fd, size_t *ret_sent,
		       struct selftest_check *check)
{
	size_t sent = 0;

	while (sent <= UNREAD_MAX) {
		ssize_t len;

		for (size_t i = 0; i < SELFTEST_BUF_SIZE; i++)
			selftest->buf[i] = stream_byte(sent + i);
		len = send(fd, selftest->buf, SELFTEST_BUF_SIZE, MSG_NOSIGNAL);
		if (len < 0 && errno == EAGAIN) {
			*ret_sent = sent;
			return 0;
		}
		if (len <= 0)
			return seen(check, "send after %zu bytes: %s", sent, strerror(errno));
		sent += (size_t)len;
	}
	return seen(check, "a receiver that does not read was sent %zu bytes", sent);
}

static int stream_drain(struct selftest *selftest, int fd, size_t want,
			struct selftest_check *check)
{
	size_t have = 0;

	while (have < want) {
		ssize_t len;

		if (!is_ready(fd, POLLIN, WAIT_MS))
			return seen(check, "stalled after %zu of %zu bytes", have, want);
		len = recv(fd, selftest->buf, SELFTEST_BUF_SIZE, 0);
		if (len <= 0)
			return seen(check, "recv after %zu bytes: %s", have,
				    len ? strerror(errno) : "end of stream");
		for (ssize_t i = 0; i < len; i++, have++) {
			if (selftest->buf[i] != stream_byte(have))
				return seen(check, "wrong byte at %zu of %zu", have, want);
		}
	}
	return 0;
}

static int check_backpressure(struct selftest *selftest, struct selftest_check *check)
{
	auto_pair struct pair pair = PAIR_INIT;
	uint64_t redirected = stats_of(selftest, 0).accel_bytes;
	size_t sent = 0;

	if (pair_open(selftest, false, &pair, check) ||
	    stream_fill(selftest, pair.fd[0], &sent, check))
		return -1;
	redirected = stats_of(selftest, 0).accel_bytes - redirected;
	if (redirected == 0 || redirected > ACCEL_QUEUE_MAX)
		return seen(check, "%llu of %zu unread bytes went from socket to socket",
			    (unsigned long long)redirected, sent);
	if (is_ready(pair.fd[0], POLLOUT, 0))
		return seen(check, "POLLOUT on a full socket");
	if (stream_drain(selftest, pair.fd[1], sent, check))
		return -1;
	if (!is_ready(pair.fd[0], POLLOUT, WAIT_MS))
		return seen(check, "no POLLOUT after everything was read");
	return 0;
}

static int check_half_close(struct selftest *selftest, struct selftest_check *check)
{
	auto_pair struct pair pair = PAIR_INIT;

	if (pair_open(selftest, false, &pair, check) ||
	    say(selftest, &pair, 0, "request", true, check))
		return -1;
	shutdown(pair.fd[0], SHUT_WR);
	if (hear(&pair, 1, "request", check) || hear_end(&pair, 1, check))
		return -1;
	/* Its peer is not simply established any more: by packet. */
	if (say(selftest, &pair, 1, "answer", false, check) || hear(&pair, 0, "answer", check))
		return -1;
	shutdown(pair.fd[1], SHUT_WR);
	return hear_end(&pair, 0, check);
}

static int check_close(struct selftest *selftest, struct selftest_check *check)
{
	auto_pair struct pair pair = PAIR_INIT;

	if (pair_open(selftest, false, &pair, check) ||
	    say(selftest, &pair, 0, "last words", true, check))
		return -1;
	close(take_fd(&pair.fd[0]));
	return hear(&pair, 1, "last words", check) || hear_end(&pair, 1, check) ? -1 : 0;
}

static int check_poll(struct selftest *selftest, struct selftest_check *check)
{
	auto_pair struct pair pair = PAIR_INIT;

	if (pair_open(selftest, false, &pair, check))
		return -1;
	if (is_ready(pair.fd[1], POLLIN | POLLRDHUP, 0))
		return seen(check, "readable before anything was sent");
	if (say(selftest, &pair, 0, "x", true, check))
		return -1;
	if (!is_ready(pair.fd[1], POLLIN, WAIT_MS) || is_ready(pair.fd[1], POLLRDHUP, 0))
		return seen(check, "not readable, or hung up, with a message waiting");
	if (hear(&pair, 1, "x", check))
		return -1;
	if (is_ready(pair.fd[1], POLLIN, 0))
		return seen(check, "readable after everything was read");
	shutdown(pair.fd[0], SHUT_WR);
	if (!is_ready(pair.fd[1], POLLRDHUP, WAIT_MS))
		return seen(check, "no POLLRDHUP when the peer hung up");
	return 0;
}

static int check_peek(struct selftest *selftest, struct selftest_check *check)
{
	auto_pair struct pair pair = PAIR_INIT;
	char buf[8];

	if (pair_open(selftest, false, &pair, check) ||
	    say(selftest, &pair, 0, "peek", true, check))
		return -1;
	for (int i = 0; i < 2; i++) {
		ssize_t len = recv(pair.fd[1], buf, sizeof(buf), MSG_PEEK);

		if (len != 4 || memcmp(buf, "peek", 4) != 0)
			return seen(check, "MSG_PEEK says %zd (%s)", len,
				    len < 0 ? strerror(errno) : "data");
	}
	return hear(&pair, 1, "peek", check);
}

/* The agent must be able to end a connection that policy no longer allows. */
static int check_destroy(struct selftest *selftest, struct selftest_check *check)
{
	auto_netlink struct netlink netlink = NETLINK_INIT;
	auto_pair struct pair pair = PAIR_INIT;
	struct flow flow = { .dport = htons(PORT), .proto = IPPROTO_TCP };
	struct errmsg err = {};
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);
	char byte;

	if (pair_open(selftest, false, &pair, check) || say(selftest, &pair, 0, "x", true, check) ||
	    hear(&pair, 1, "x", check))
		return -1;
	flow.saddr = selftest->end[0].addr[0];
	flow.daddr = selftest->end[1].addr[0];
	flow.sport = pair.opener_port;
	getsockopt(pair.fd[0], SOL_SOCKET, SO_COOKIE, &cookie, &len);
	if (sockdiag_open(&netlink, selftest->end[0].netns_fd, &err) < 0 ||
	    sockdiag_destroy(&netlink, &(struct sockdiag_socket){ .flow = flow, .cookie = cookie },
			     &err) < 0)
		return seen(check, "%.120s", err.text);
	for (int i = 0; i < 2; i++) {
		if (!is_ready(pair.fd[i], POLLIN, WAIT_MS) || recv(pair.fd[i], &byte, 1, 0) >= 0)
			return seen(check, "end %d lives on", i);
	}
	return 0;
}

/* ---- known to fail on some kernels ---------------------------------------------------------- */

static int check_fionread(struct selftest *selftest, struct selftest_check *check)
{
	auto_pair struct pair pair = PAIR_INIT;
	int waiting = -1;

	if (pair_open(selftest, false, &pair, check) ||
	    say(selftest, &pair, 0, "four", true, check))
		return -1;
	if (ioctl(pair.fd[1], FIONREAD, &waiting) < 0 || waiting != 4)
		return seen(check, "says %d with 4 bytes waiting", waiting);
	return 0;
}

static int check_splice(struct selftest *selftest, struct selftest_check *check)
{
	auto_pair struct pair pair = PAIR_INIT;
	int pipe_fd[2];
	ssize_t len;

	if (pair_open(selftest, false, &pair, check) ||
	    say(selftest, &pair, 0, "four", true, check))
		return -1;
	if (!is_ready(pair.fd[1], POLLIN, WAIT_MS) || pipe2(pipe_fd, O_CLOEXEC) < 0)
		return seen(check, "no POLLIN");
	len = splice(pair.fd[1], NULL, pipe_fd[1], NULL, 4, SPLICE_F_NONBLOCK);
	if (len != 4)
		seen(check, "POLLIN, then splice says %zd (%s)", len,
		     len < 0 ? strerror(errno) : "end of stream");
	close(pipe_fd[0]);
	close(pipe_fd[1]);
	return len == 4 ? 0 : -1;
}

/* State of a child: 'S' once it sleeps in its system call. */
static char process_state(pid_t pid)
{
	char path[48], state = '?';
	auto_fclose FILE *stat = NULL;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	stat = fopen(path, "re");
	if (stat && fscanf(stat, "%*d (%*[^)]) %c", &state) != 1)
		state = '?';
	return state;
}

static bool child_reaches(pid_t pid, char state, unsigned int timeout_ms)
{
	int64_t deadline = now_ms() + timeout_ms;
	char now;

	while ((now = process_state(pid)) != state) {
		if (now == 'Z' || now_ms() > deadline)
			return false;
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
	return true;
}

/* A blocked recv() must outlast a wake-up that brings no data: here the acknowledgement of our own
 * FIN.  The child blocks, so that the event loop does not. */
static int check_blocking(struct selftest *selftest, struct selftest_check *check)
{
	auto_pair struct pair pair = PAIR_INIT;
	int status = -1;
	pid_t child;

	if (pair_open(selftest, false, &pair, check))
		return -1;
	child = fork();
	if (child < 0)
		return seen(check, "fork: %s", strerror(errno));
	if (child == 0) {
		char byte;

		/* Nothing but the socket: the locks of an agent that is killed now must be free at
		 * once, and its end of the pair must close with it, which ends the child too. */
		fcntl(pair.fd[0], F_SETFL, 0);
		if (dup2(pair.fd[0], 0) < 0 || close_range(1, ~0U, 0) < 0)
			_exit(errno);
		_exit(recv(0, &byte, 1, 0) == 1 ? 0 : errno);
	}
	if (child_reaches(child, 'S', WAIT_MS)) {
		shutdown(pair.fd[0], SHUT_WR);
		child_reaches(child, 'Z', 10); /* it should not */
		send(pair.fd[1], "x", 1, MSG_NOSIGNAL);
		child_reaches(child, 'Z', WAIT_MS);
	}
	kill(child, SIGKILL);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	return seen(check, "recv() that should wait says: %s",
		    WIFEXITED(status) ? strerror(WEXITSTATUS(status)) : "nothing, for ever");
}

static const struct {
	const char *name;
	bool required;
	int (*run)(struct selftest *selftest, struct selftest_check *check);
} checks[] = {
	{ "delivery", true, check_delivery },
	{ "order", true, check_order },
	{ "backpressure", true, check_backpressure },
	{ "half close", true, check_half_close },
	{ "close behind data", true, check_close },
	{ "poll", true, check_poll },
	{ "peek", true, check_peek },
	{ "destroy", true, check_destroy },
	{ "FIONREAD", false, check_fionread },
	{ "splice", false, check_splice },
	{ "blocking recv", false, check_blocking },
};
_Static_assert(ARRAY_SIZE(checks) <= SELFTEST_CHECKS_MAX, "room for all checks");

bool selftest_next(struct selftest *selftest, struct selftest_check *ret)
{
	if (selftest->next == ARRAY_SIZE(checks))
		return false;
	*ret = (struct selftest_check){ .required = checks[selftest->next].required };
	snprintf(ret->name, sizeof(ret->name), "%s", checks[selftest->next].name);
	ret->passed = checks[selftest->next].run(selftest, ret) == 0;
	selftest->next++;
	return true;
}
