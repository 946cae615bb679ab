/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One end of a network benchmark: blocking sockets, one thread, pinned to one core together with
 * the other end, so that a figure is CPU cost per transaction and not wake-up latency.
 *
 *   netbench CPU server PORT                     accepts, echoes 64 bytes, for rr, connect and crr
 *   netbench CPU rr|connect|crr|stream ADDR PORT COUNT     prints microseconds per transaction
 *
 * rr: 64 bytes there and back on one connection.  connect: connect and reset.  crr: connect, send
 * 64, receive 64, read EOF, close.  stream: COUNT MiB in 128 KiB writes, prints MiB per second.
 * The client's first byte tells the server which of these it is.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MESSAGE      64
#define STREAM_CHUNK (128 * 1024)

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* Accelerated sockets may say EAGAIN on a blocking read; an event loop would poll, so do we. */
static ssize_t receive(int fd, void *buf, size_t len)
{
	for (;;) {
		ssize_t n = recv(fd, buf, len, 0);
		struct pollfd ready = { .fd = fd, .events = POLLIN };

		if (n >= 0 || (errno != EAGAIN && errno != EINTR))
			return n;
		poll(&ready, 1, 1000);
	}
}

static int receive_all(int fd, char *buf, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = receive(fd, buf + done, len - done);

		if (n <= 0)
			return -1;
		done += (size_t)n;
	}
	return 0;
}

static void set_nodelay(int fd)
{
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
}

static void serve_connection(int fd)
{
	static char buf[STREAM_CHUNK];

	set_nodelay(fd);
	if (receive_all(fd, buf, MESSAGE))
		return;
	if (buf[0] == 's') {
		while (receive(fd, buf, sizeof(buf)) > 0)
			;
		return;
	}
	do {
		if (send(fd, buf, MESSAGE, MSG_NOSIGNAL) != MESSAGE || buf[0] == 'c')
			return;
	} while (receive_all(fd, buf, MESSAGE) == 0);
}

static void serve(uint16_t port)
{
	struct sockaddr_in6 addr = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int listener = socket(AF_INET6, SOCK_STREAM, 0);

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int));
	if (bind(listener, (struct sockaddr *)&addr, sizeof(addr)) || listen(listener, 4096))
		die("listen");
	puts("ready");
	fflush(stdout);
	for (;;) {
		int fd = accept(listener, NULL, NULL);

		if (fd < 0)
			continue; /* the client reset it before we came */
		serve_connection(fd);
		close(fd);
	}
}

static int connect_to(const struct addrinfo *to)
{
	int fd = socket(to->ai_family, SOCK_STREAM, 0);

	set_nodelay(fd);
	if (fd < 0 || connect(fd, to->ai_addr, to->ai_addrlen))
		die("connect");
	return fd;
}

static void run_rr(const struct addrinfo *to, long count)
{
	char buf[MESSAGE] = "r";
	int fd = connect_to(to);

	for (long i = 0; i < count; i++) {
		if (send(fd, buf, MESSAGE, 0) != MESSAGE || receive_all(fd, buf, MESSAGE))
			die("round trip");
	}
	close(fd);
}

static void run_connect(const struct addrinfo *to, long count)
{
	struct linger reset = { .l_onoff = 1, .l_linger = 0 };

	for (long i = 0; i < count; i++) {
		int fd = connect_to(to);

		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		close(fd);
	}
}

static void run_crr(const struct addrinfo *to, long count)
{
	char buf[MESSAGE] = "c";

	for (long i = 0; i < count; i++) {
		int fd = connect_to(to);

		if (send(fd, buf, MESSAGE, 0) != MESSAGE || receive_all(fd, buf, MESSAGE))
			die("request");
		if (receive(fd, buf, 1) != 0)
			die("end of file");
		close(fd);
	}
}

static void run_stream(const struct addrinfo *to, long mib)
{
	static char buf[STREAM_CHUNK] = "s";
	int fd = connect_to(to);

	for (long left = mib * (1 << 20); left > 0;) {
		ssize_t n = send(fd, buf, sizeof(buf), 0);

		if (n < 0)
			die("send");
		left -= n;
	}
	shutdown(fd, SHUT_WR);
	receive(fd, buf, 1);
	close(fd);
}

static const struct {
	const char *name;
	void (*run)(const struct addrinfo *to, long count);
} workloads[] = {
	{ "rr", run_rr },
	{ "connect", run_connect },
	{ "crr", run_crr },
	{ "stream", run_stream },
};

static double now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

static void measure(size_t workload, const char *addr, const char *port, long count)
{
	struct addrinfo hints = { .ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM };
	struct addrinfo *to;
	double start, elapsed_us;

	if (getaddrinfo(addr, port, &hints, &to))
		die("address");
	start = now_us();
	workloads[workload].run(to, count);
	elapsed_us = now_us() - start;
	freeaddrinfo(to);
	if (workloads[workload].run == run_stream)
		printf("%.3f\n", (double)count / elapsed_us * 1e6);
	else
		printf("%.4f\n", elapsed_us / (double)count);
}

int main(int argc, char **argv)
{
	cpu_set_t cpus;

	signal(SIGPIPE, SIG_IGN);
	if (argc < 4) {
		fprintf(stderr,
			"netbench CPU server PORT | netbench CPU WORKLOAD ADDR PORT COUNT\n");
		return 2;
	}
	CPU_ZERO(&cpus);
	CPU_SET(strtoul(argv[1], NULL, 10), &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus))
		die("pin");
	if (strcmp(argv[2], "server") == 0)
		serve((uint16_t)strtoul(argv[3], NULL, 10));
	for (size_t i = 0; argc == 6 && i < sizeof(workloads) / sizeof(workloads[0]); i++) {
		if (strcmp(argv[2], workloads[i].name) == 0) {
			measure(i, argv[3], argv[4], strtol(argv[5], NULL, 10));
			return 0;
		}
	}
	fprintf(stderr, "unknown workload %s\n", argv[2]);
	return 2;
}
