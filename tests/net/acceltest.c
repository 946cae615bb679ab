/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Both ends of integrity tests over TCP, with sockets that never block and an event loop, as the
 * programs that acceleration is made for.  Every byte that arrives is compared with the one that
 * was sent at that position.
 *
 *   acceltest server PORT                            serves until it is killed, on IPv4 and IPv6
 *   acceltest MODE ADDR PORT BYTES [COUNT [PARALLEL]]
 *
 * MODE: paced    both ends send BYTES; neither gets further ahead of the other than WINDOW
 *       free     both ends send BYTES as fast as they can
 *       slow     the client sends BYTES as fast as it can, the server dawdles
 *       peek     as paced; both ends look at data with MSG_PEEK before they take it
 *       half     the client sends BYTES and closes that direction; then the server does
 *       short    COUNT connections, PARALLEL at a time: up to BYTES there, the same back, close
 *
 * The client prints seconds and exits 0, or says what went wrong.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "lib/auto.h"

#define WINDOW       (1024 * 1024)
#define PATTERN      1048573 /* a prime: no block size fits into it */
#define CHUNK_MAX    (256 * 1024)
#define STALLED_MS   20000
#define DAWDLE_NS    200000 /* after each read of a slow reader, for its first DAWDLE_BYTES */
#define DAWDLE_BYTES (32 * 1024 * 1024)

enum mode { PACED, FREE, SLOW, PEEK, HALF, SHORT, MODE_COUNT };
static const char *const mode_names[MODE_COUNT] = {
	"paced", "free", "slow", "peek", "half", "short"
};

/* What the client sends first. */
struct order {
	uint32_t mode;
	uint32_t pad;
	uint64_t bytes;
};

struct conn {
	int fd;
	bool client;
	struct order order;
	size_t order_done; /* bytes of it sent or received */
	uint64_t sent;
	uint64_t received;
	bool sent_end;
	bool received_end;
};

static char pattern[PATTERN + CHUNK_MAX];
static char buffer[CHUNK_MAX];
static uint64_t random_state = 88172645463325252ULL;

static uint64_t random_next(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

/* 1 to CHUNK_MAX, as many small ones as large ones. */
static size_t random_size(void)
{
	return 1 + random_next() % (1ULL << random_next() % 19);
}

static void pattern_fill(void)
{
	for (size_t i = 0; i < PATTERN; i++)
		pattern[i] = (char)(random_next() >> 32);
	memcpy(pattern + PATTERN, pattern, CHUNK_MAX);
}

/* The stream of either end at a position. */
static const char *stream_at(bool client, uint64_t position)
{
	return pattern + (position + (client ? 0 : PATTERN / 2)) % PATTERN;
}

static int conn_fail(const struct conn *conn, const char *what)
{
	fprintf(stderr, "%s %s: %s after %llu sent and %llu received of %llu bytes: %s\n",
		conn->client ? "client" : "server", mode_names[conn->order.mode], what,
		(unsigned long long)conn->sent, (unsigned long long)conn->received,
		(unsigned long long)conn->order.bytes, errno ? strerror(errno) : "");
	return -1;
}

/* ---- sending -------------------------------------------------------------------------------- */

/* How many more bytes may be sent now. */
static uint64_t send_room(const struct conn *conn)
{
	uint64_t left = conn->order.bytes - conn->sent, ahead = conn->sent - conn->received;

	if (conn->order_done < sizeof(conn->order))
		return 0;
	switch ((enum mode)conn->order.mode) {
	case PACED:
	case PEEK:
		if (conn->sent >= conn->received + WINDOW)
			return 0;
		return conn->sent < conn->received || left < WINDOW - ahead ? left : WINDOW - ahead;
	case SLOW:
		return conn->client ? left : 0;
	case HALF:
		return conn->client || conn->received_end ? left : 0;
	case SHORT:
		return conn->client ? left : conn->received - conn->sent;
	case FREE:
	case MODE_COUNT:
		break;
	}
	return left;
}

static bool send_is_complete(const struct conn *conn)
{
	if (conn->order_done < sizeof(conn->order))
		return false;
	if (conn->order.mode == SLOW && !conn->client)
		return conn->received == conn->order.bytes;
	/* Closing one direction sends the other back to packets: not before both are through. */
	if (conn->order.mode == PACED && conn->received < conn->order.bytes)
		return false;
	return conn->sent == conn->order.bytes;
}

static int send_order(struct conn *conn)
{
	ssize_t len = send(conn->fd, (char *)&conn->order + conn->order_done,
			   sizeof(conn->order) - conn->order_done, MSG_NOSIGNAL);

	if (len < 0)
		return errno == EAGAIN ? 0 : conn_fail(conn, "send");
	conn->order_done += (size_t)len;
	return 0;
}

/* Sends what may be sent; at the end the client, and outside SHORT the server too, closes its
 * direction.  In SHORT the server closes first, so that TIME_WAIT does not use up the client's
 * ports. */
static int conn_send(struct conn *conn)
{
	uint64_t room;

	if (conn->client && conn->order_done < sizeof(conn->order) && send_order(conn) < 0)
		return -1;
	while ((room = send_room(conn)) > 0) {
		size_t size = random_size();
		ssize_t len;

		if (size > room)
			size = (size_t)room;
		len = send(conn->fd, stream_at(conn->client, conn->sent), size, MSG_NOSIGNAL);
		if (len < 0 && errno == EAGAIN)
			return 0;
		if (len < 0)
			return conn_fail(conn, "send");
		conn->sent += (uint64_t)len;
	}
	if (!conn->sent_end && send_is_complete(conn) &&
	    !(conn->order.mode == SHORT && conn->client)) {
		shutdown(conn->fd, SHUT_WR);
		conn->sent_end = true;
	}
	return 0;
}

/* ---- receiving ------------------------------------------------------------------------------ */

static int receive_order(struct conn *conn)
{
	ssize_t len = recv(conn->fd, (char *)&conn->order + conn->order_done,
			   sizeof(conn->order) - conn->order_done, 0);

	if (len < 0)
		return errno == EAGAIN ? 0 : conn_fail(conn, "receive an order");
	if (len == 0) {
		conn->received_end = true;
		return conn_fail(conn, "end of stream");
	}
	conn->order_done += (size_t)len;
	if (conn->order_done == sizeof(conn->order) && conn->order.mode >= MODE_COUNT) {
		conn->order.mode = 0;
		return conn_fail(conn, "not an order");
	}
	return 0;
}

static int check_bytes(const struct conn *conn, size_t len)
{
	errno = 0;
	if (memcmp(buffer, stream_at(!conn->client, conn->received), len) != 0)
		return conn_fail(conn, "wrong bytes");
	return 0;
}

static void dawdle(const struct conn *conn)
{
	if (conn->order.mode == SLOW && conn->received < DAWDLE_BYTES)
		nanosleep(&(struct timespec){ .tv_nsec = DAWDLE_NS }, NULL);
}

/* Reads until there is nothing more, or until it is time to send. */
static int conn_receive(struct conn *conn)
{
	if (!conn->client && conn->order_done < sizeof(conn->order) && receive_order(conn) < 0)
		return -1;
	for (int i = 0; i < 16 && conn->order_done == sizeof(conn->order); i++) {
		size_t size = random_size();
		ssize_t len;

		if (conn->order.mode == PEEK) {
			len = recv(conn->fd, buffer, size, MSG_PEEK);
			if (len > 0 && check_bytes(conn, (size_t)len) < 0)
				return -1;
		}
		len = recv(conn->fd, buffer, size, 0);
		if (len < 0 && errno == EAGAIN)
			return 0;
		if (len < 0)
			return conn_fail(conn, "receive");
		if (len == 0) {
			conn->received_end = true;
			return 0;
		}
		if (check_bytes(conn, (size_t)len) < 0)
			return -1;
		conn->received += (uint64_t)len;
		dawdle(conn);
	}
	return 0;
}

/* ---- one connection ------------------------------------------------------------------------- */

/* 1: finished, 0: goes on, -1: failed. */
static int conn_step(struct conn *conn)
{
	uint64_t expected = conn->order.bytes;

	if (conn_receive(conn) < 0 || conn_send(conn) < 0)
		return -1;
	if (!conn->received_end)
		return 0;
	if (conn->client && conn->order.mode == SLOW)
		expected = 0;
	errno = 0;
	if (conn->received != expected)
		return conn_fail(conn, "end of stream");
	return send_is_complete(conn) ? 1 : 0;
}

static short conn_events(const struct conn *conn)
{
	bool wants_out = conn->client && conn->order_done < sizeof(conn->order);

	return (short)(POLLIN | (wants_out || send_room(conn) > 0 ? POLLOUT : 0));
}

static void set_nodelay(int fd)
{
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
}

/* ---- server --------------------------------------------------------------------------------- */

static int listen_on(uint16_t port)
{
	struct sockaddr_in6 address = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int));
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(fd, 4096) < 0) {
		perror("listen");
		exit(1);
	}
	return fd;
}

static void server_accept(int epoll, int listener)
{
	int fd;

	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		struct conn *conn = calloc(1, sizeof(*conn));
		struct epoll_event event = { .events = EPOLLIN, .data.ptr = conn };

		if (!conn)
			exit(1);
		conn->fd = fd;
		/* NOLINTNEXTLINE(*Malloc): epoll keeps conn */
		set_nodelay(fd);
		epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
	}
}

static void server_serve(int epoll, struct conn *conn)
{
	int result = conn_step(conn);

	if (result == 0) {
		struct epoll_event event = { .events = (uint32_t)conn_events(conn),
					     .data.ptr = conn };

		epoll_ctl(epoll, EPOLL_CTL_MOD, conn->fd, &event);
		return;
	}
	if (result < 0) /* a reset, so that the client fails too */
		setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &(struct linger){ .l_onoff = 1 },
			   sizeof(struct linger));
	close(conn->fd);
	free(conn);
}

static void server_run(uint16_t port)
{
	int listener = listen_on(port), epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event events[64] = { { .events = EPOLLIN } };

	epoll_ctl(epoll, EPOLL_CTL_ADD, listener, events);
	puts("ready");
	fflush(stdout);
	for (;;) {
		int count = epoll_wait(epoll, events, 64, -1);

		for (int i = 0; i < count; i++) {
			if (events[i].data.ptr)
				server_serve(epoll, events[i].data.ptr);
			else
				server_accept(epoll, listener);
		}
	}
}

/* ---- client --------------------------------------------------------------------------------- */

static int client_connect(const char *addr, uint16_t port)
{
	bool v6 = strchr(addr, ':');
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int result;

	if (v6 ? inet_pton(AF_INET6, addr, &in6.sin6_addr) != 1
	       : inet_pton(AF_INET, addr, &in.sin_addr) != 1) {
		fprintf(stderr, "%s is not an address\n", addr);
		exit(2);
	}
	set_nodelay(fd);
	result = v6 ? connect(fd, (struct sockaddr *)&in6, sizeof(in6))
		    : connect(fd, (struct sockaddr *)&in, sizeof(in));
	if (fd < 0 || (result < 0 && errno != EINPROGRESS)) {
		perror("connect");
		exit(1);
	}
	return fd;
}

static void client_begin(struct conn *conn, enum mode mode, uint64_t bytes, const char *addr,
			 uint16_t port)
{
	*conn = (struct conn){ .client = true, .order = { .mode = mode, .bytes = bytes } };
	if (mode == SHORT)
		conn->order.bytes = 1 + random_next() % bytes;
	conn->fd = client_connect(addr, port);
}

static int client_run(enum mode mode, uint64_t bytes, const char *addr, uint16_t port,
		      unsigned int count, unsigned int parallel)
{
	auto_free struct conn *conns = calloc(parallel, sizeof(*conns));
	auto_free struct pollfd *polls = calloc(parallel, sizeof(*polls));
	unsigned int begun = 0, finished = 0;

	if (!conns || !polls)
		exit(1);
	while (begun < parallel)
		client_begin(&conns[begun++], mode, bytes, addr, port);
	while (finished < count) {
		for (unsigned int i = 0; i < parallel; i++)
			polls[i] = (struct pollfd){ .fd = conns[i].fd,
						    .events = conn_events(&conns[i]) };
		errno = 0;
		if (poll(polls, parallel, STALLED_MS) <= 0)
			return conn_fail(&conns[0], "stalled");
		for (unsigned int i = 0; i < parallel; i++) {
			int result = polls[i].revents ? conn_step(&conns[i]) : 0;

			if (result < 0)
				return -1;
			if (result == 0)
				continue;
			close(conns[i].fd);
			conns[i].fd = -1;
			finished++;
			if (begun < count) {
				client_begin(&conns[i], mode, bytes, addr, port);
				begun++;
			}
		}
	}
	return 0;
}

static enum mode mode_parse(const char *name)
{
	for (int i = 0; i < MODE_COUNT; i++) {
		if (strcmp(name, mode_names[i]) == 0)
			return (enum mode)i;
	}
	fprintf(stderr, "%s is not a mode\n", name);
	exit(2);
}

int main(int argc, char **argv)
{
	struct timespec begin, end;
	unsigned int count, parallel;

	pattern_fill();
	if (argc == 3 && strcmp(argv[1], "server") == 0)
		server_run((uint16_t)strtoul(argv[2], NULL, 10));
	if (argc < 5) {
		fprintf(stderr,
			"usage: acceltest server PORT | MODE ADDR PORT BYTES [COUNT [PARALLEL]]\n");
		return 2;
	}
	random_state += (uint64_t)getpid() << 32;
	count = argc > 5 ? (unsigned int)strtoul(argv[5], NULL, 10) : 1;
	parallel = argc > 6 ? (unsigned int)strtoul(argv[6], NULL, 10) : 1;
	clock_gettime(CLOCK_MONOTONIC, &begin);
	if (client_run(mode_parse(argv[1]), strtoull(argv[4], NULL, 10), argv[2],
		       (uint16_t)strtoul(argv[3], NULL, 10), count, parallel) < 0)
		return 1;
	clock_gettime(CLOCK_MONOTONIC, &end);
	printf("%.3f\n",
	       (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9);
	return 0;
}
