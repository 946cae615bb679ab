/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client with arbitrary bytes and arbitrary timing against the server.  Input: first byte of each
 * step says what to do (send so many of the next bytes, turn the loop, pass descriptors, answer a
 * request that waits, write to a stream, stop sending), until the input ends and the client hangs
 * up.
 */
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct event_base *base;
static struct sockaddr_un addr = { .sun_family = AF_UNIX };
static struct http_exchange *waiting; /* owes an answer */
static struct http_exchange *stream;

static void on_closed(void *arg)
{
	(void)arg;
	stream = NULL;
}

static void handle(struct http_exchange *exchange, const struct http_request *request, void *arg)
{
	(void)arg;
	if (strlen(request->body) > request->head.body_len)
		abort();
	if (request->head.path[1] == 'l' && !waiting) {
		waiting = exchange;
	} else if (request->head.path[1] == 's' && !stream) {
		stream = exchange;
		if (http_stream_begin(exchange, on_closed, NULL))
			stream = NULL;
	} else {
		http_reply(exchange, request->fd >= 0 ? 200 : 404, request->body);
	}
}

static void remove_socket(void)
{
	unlink(addr.sun_path);
}

static void server_start(void)
{
	const struct http_limits limits = {
		.body_max = 300,
		.clients = 4,
		.streams = 2,
		.idle_ms = 20,
		.stream_backlog = 2000,
	};
	struct http_server *server;

	base = event_base_new();
	snprintf(addr.sun_path, sizeof(addr.sun_path), "/tmp/fuzz_http.%d", getpid());
	if (http_server_new(base, addr.sun_path, &limits, handle, NULL, &server, NULL))
		abort();
	atexit(remove_socket);
}

static void turn(int count)
{
	while (count--)
		event_base_loop(base, EVLOOP_NONBLOCK);
}

static void send_bytes(int fd, const uint8_t *data, size_t len, unsigned int fds)
{
	union {
		struct cmsghdr head;
		char space[CMSG_SPACE(3 * sizeof(int))];
	} control = {};
	int passed[3] = { STDERR_FILENO, STDERR_FILENO, STDERR_FILENO };
	struct iovec iov = { .iov_base = (void *)data, .iov_len = len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fds) {
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(fds * sizeof(int));
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		control.head.cmsg_len = CMSG_LEN(fds * sizeof(int));
		memcpy(CMSG_DATA(&control.head), passed, fds * sizeof(int));
	}
	if (len && sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno == EBADF)
		abort();
}

/* One step; returns how many bytes of the input it took. */
static size_t step(int fd, const uint8_t *data, size_t size)
{
	size_t len = data[0] & 0x3f;
	char sink[512];

	if (len > size - 1)
		len = size - 1;
	switch (data[0] >> 6) {
	case 0: /* bytes */
		send_bytes(fd, data + 1, len, 0);
		return 1 + len;
	case 1: /* bytes with descriptors */
		send_bytes(fd, data + 1, len, 1 + (data[0] & 1) * 2);
		return 1 + len;
	case 2:
		turn(1 + (data[0] & 3));
		return 1;
	default:
		break;
	}
	if (data[0] & 1 && waiting) {
		http_reply(waiting, 200, "{}");
		waiting = NULL;
	}
	if (data[0] & 2 && stream && http_stream_line(stream, "[\"0123456789abcdef\"]") &&
	    data[0] & 4) {
		http_stream_end(stream);
		stream = NULL;
	}
	if (data[0] & 8)
		shutdown(fd, SHUT_WR);
	if (data[0] & 16)
		while (recv(fd, sink, sizeof(sink), MSG_DONTWAIT) > 0)
			;
	return 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (!base)
		server_start();
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		abort();
	turn(1);
	while (size) {
		size_t used = step(fd, data, size);

		data += used;
		size -= used;
	}
	turn(4);
	close(fd);
	turn(4);
	if (waiting) { /* its client is gone or not: an answer is owed all the same */
		http_reply(waiting, 200, "[]");
		waiting = NULL;
	}
	while (stream) { /* only a cut-off or a hang-up may end it */
		http_stream_line(stream, "[]");
		turn(1);
	}
	turn(4);
	return 0;
}
