/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One end of a network benchmark: blocking sockets, pinned to one core together with the other end,
 * so that a figure is CPU cost per transaction and not wake-up latency.
 *
 *   netbench CPU server PORT                             the other end of all of these
 *   netbench CPU rr|connect|crr|udp_rr ADDR PORT COUNT   prints microseconds per transaction
 *   netbench CPU stream ADDR PORT MIB FLOWS              prints MiB per second, CPU seconds per GB
 *   netbench CPU service ADDR,... PORT COUNT FIRST SERVICE_PORT N
 *                                                        prints microseconds per connect to one of
 *                                                        these, and to one of N from FIRST on
 *
 * rr: 64 bytes there and back on one connection; udp_rr: the same with datagrams.  connect: connect
 * and reset.  crr: connect, send 64, receive 64, read EOF, close.  stream: writes of 128 KiB, one
 * process a flow, a new connection every 64 MiB.  service: connects to both by turns.  The client's
 * first byte tells the server which of these it is.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MESSAGE       64
#define STREAM_CHUNK  (128 * 1024)
#define ENDPOINTS_MAX 8
#define SERVICE_TURN  50 /* connects before it is the other address's turn */
#define STREAM_MIB    64 /* of a connection; each finds its own pace, so a sample has many */

static int cpu; /* of both ends */

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

/* A child that does not outlive its parent; true in the child. */
static int fork_child(void)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (pid == 0)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid == 0;
}

static void serve_connection(int fd)
{
	static char buf[STREAM_CHUNK];

	set_nodelay(fd);
	if (receive_all(fd, buf, MESSAGE))
		return;
	if (buf[0] == 's') { /* flows run side by side */
		if (fork_child()) {
			while (receive(fd, buf, sizeof(buf)) > 0)
				;
			_exit(0);
		}
		return;
	}
	do {
		if (send(fd, buf, MESSAGE, MSG_NOSIGNAL) != MESSAGE || buf[0] == 'c')
			return;
	} while (receive_all(fd, buf, MESSAGE) == 0);
}

static void *serve_datagrams(void *arg)
{
	const struct sockaddr_in6 *addr = arg;
	int fd = socket(AF_INET6, SOCK_DGRAM, 0);
	char buf[MESSAGE];

	if (bind(fd, (const struct sockaddr *)addr, sizeof(*addr)))
		die("bind");
	for (;;) {
		struct sockaddr_in6 peer;
		socklen_t len = sizeof(peer);
		ssize_t n = recvfrom(fd, buf, sizeof(buf), 0, (struct sockaddr *)&peer, &len);

		if (n > 0)
			sendto(fd, buf, (size_t)n, 0, (struct sockaddr *)&peer, len);
	}
	return NULL;
}

static void serve(uint16_t port)
{
	struct sockaddr_in6 addr = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int listener = socket(AF_INET6, SOCK_STREAM, 0);
	pthread_t datagrams;

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int));
	if (bind(listener, (struct sockaddr *)&addr, sizeof(addr)) || listen(listener, 4096))
		die("listen");
	signal(SIGCHLD, SIG_IGN);
	if (pthread_create(&datagrams, NULL, serve_datagrams, &addr))
		die("thread");
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

static void run_udp_rr(const struct addrinfo *to, long count)
{
	int fd = socket(to->ai_family, SOCK_DGRAM, 0);
	char buf[MESSAGE] = "u";

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){ .tv_sec = 2 },
		   sizeof(struct timeval));
	if (fd < 0 || connect(fd, to->ai_addr, to->ai_addrlen))
		die("connect");
	for (long i = 0; i < count; i++) {
		if (send(fd, buf, MESSAGE, 0) != MESSAGE || recv(fd, buf, MESSAGE, 0) != MESSAGE)
			die("datagram");
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

static void send_stream(const struct addrinfo *to, long mib)
{
	static char buf[STREAM_CHUNK] = "s";
	int fd = connect_to(to);

	for (long left = mib << 20; left > 0;) {
		ssize_t n = send(fd, buf, sizeof(buf), 0);

		if (n < 0)
			die("send");
		left -= n;
	}
	shutdown(fd, SHUT_WR);
	receive(fd, buf, 1);
	close(fd);
}

static double now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

/* How long our CPU has been idle, ever, to the tick.  What it was not idle, we and the kernel used
 * it: nobody else is meant to be there. */
static double idle_us(void)
{
	FILE *stat = fopen("/proc/stat", "r");
	unsigned long long user, nice, system, idle, iowait;
	char line[512];
	int number;

	while (stat && fgets(line, sizeof(line), stat)) {
		if (sscanf(line, "cpu%d %llu %llu %llu %llu %llu", &number, &user, &nice, &system,
			   &idle, &iowait) == 6 &&
		    number == cpu) {
			fclose(stat);
			return (double)(idle + iowait) * 1e6 / (double)sysconf(_SC_CLK_TCK);
		}
	}
	die("/proc/stat");
	return 0;
}

static void measure_stream(const struct addrinfo *to, long mib, long flows)
{
	double idle = idle_us(), start = now_us(), elapsed_us;
	int status;

	for (long i = 0; i < flows; i++) {
		if (fork_child()) {
			for (long left = mib / flows; left > 0; left -= STREAM_MIB)
				send_stream(to, left < STREAM_MIB ? left : STREAM_MIB);
			_exit(0);
		}
	}
	while (wait(&status) > 0) {
		if (status)
			exit(1);
	}
	elapsed_us = now_us() - start;
	idle = idle_us() - idle;
	printf("%.3f %.5f\n", (double)mib / elapsed_us * 1e6,
	       (elapsed_us - idle) / 1e6 / ((double)mib * (1 << 20) / 1e9));
}

/* FIRST plus offset, in its last 32 bits. */
static void address_add(struct addrinfo *addr, uint32_t offset)
{
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)addr->ai_addr;
	struct sockaddr_in *in4 = (struct sockaddr_in *)addr->ai_addr;
	uint32_t *last =
		addr->ai_family == AF_INET6 ? &in6->sin6_addr.s6_addr32[3] : &in4->sin_addr.s_addr;

	*last = htonl(ntohl(*last) + offset);
}

/* The servers that stand behind the services. */
struct endpoints {
	struct addrinfo *addr[ENDPOINTS_MAX];
	size_t count;
};

static struct addrinfo *address_parse(const char *addr, const char *port)
{
	struct addrinfo hints = { .ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM };
	struct addrinfo *to;

	if (getaddrinfo(addr, port, &hints, &to))
		die("address");
	return to;
}

/* By turns, so that what disturbs one disturbs the other.  The endpoints are drawn like the
 * services, and both ways reach all of them alike: what differs is the translation. */
static void measure_service(const struct endpoints *direct, long count, struct addrinfo *service,
			    uint32_t services)
{
	double direct_us = 0, service_us = 0, start;
	uint32_t offset = 0, next;

	for (long i = 0; i < count; i += SERVICE_TURN) {
		start = now_us();
		for (int turn = 0; turn < SERVICE_TURN; turn++)
			run_connect(direct->addr[(unsigned long)random() % direct->count], 1);
		direct_us += now_us() - start;
		start = now_us();
		for (int turn = 0; turn < SERVICE_TURN; turn++) {
			next = (uint32_t)random() % services;
			address_add(service, next - offset);
			offset = next;
			run_connect(service, 1);
		}
		service_us += now_us() - start;
	}
	printf("%.4f %.4f\n", direct_us / (double)count, service_us / (double)count);
}

static const struct {
	const char *name;
	void (*run)(const struct addrinfo *to, long count);
} workloads[] = {
	{ "rr", run_rr },
	{ "connect", run_connect },
	{ "crr", run_crr },
	{ "udp_rr", run_udp_rr },
};

static struct endpoints endpoints_parse(char *list, const char *port)
{
	struct endpoints ends = {};

	for (char *addr = strtok(list, ","); addr && ends.count < ENDPOINTS_MAX;
	     addr = strtok(NULL, ","))
		ends.addr[ends.count++] = address_parse(addr, port);
	return ends;
}

/* Runs what argv names, from its third word on; false if nothing is called so. */
static int measure(int argc, char **argv)
{
	struct endpoints ends = endpoints_parse(argv[3], argv[4]);
	struct addrinfo *to = ends.addr[0];
	long count = strtol(argv[5], NULL, 10);
	double start;

	if (strcmp(argv[2], "stream") == 0 && argc == 7) {
		measure_stream(to, count, strtol(argv[6], NULL, 10));
		return 1;
	}
	if (strcmp(argv[2], "service") == 0 && argc == 9) {
		measure_service(&ends, count, address_parse(argv[6], argv[7]),
				(uint32_t)strtoul(argv[8], NULL, 10));
		return 1;
	}
	for (size_t i = 0; i < sizeof(workloads) / sizeof(workloads[0]) && argc == 6; i++) {
		if (strcmp(argv[2], workloads[i].name) == 0) {
			start = now_us();
			workloads[i].run(to, count);
			printf("%.4f\n", (now_us() - start) / (double)count);
			return 1;
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	cpu_set_t cpus;

	signal(SIGPIPE, SIG_IGN);
	if (argc < 4) {
		fprintf(stderr, "netbench CPU server PORT | netbench CPU WORKLOAD ADDR PORT ...\n");
		return 2;
	}
	cpu = (int)strtol(argv[1], NULL, 10);
	CPU_ZERO(&cpus);
	CPU_SET((size_t)cpu, &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus))
		die("pin");
	if (strcmp(argv[2], "server") == 0)
		serve((uint16_t)strtoul(argv[3], NULL, 10));
	if (argc >= 6 && measure(argc, argv))
		return 0;
	fprintf(stderr, "no workload %s with these arguments\n", argv[2]);
	return 2;
}
