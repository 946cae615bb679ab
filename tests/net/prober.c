/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Serves and connects in all pods of a test at once: one process whose sockets live in many network
 * namespaces, so that a table of a thousand cells costs as long as its slowest answer.
 *
 * A cell is (source, destination, probe).  Probes 0 to 11 are TCP, UDP and SCTP, each to both
 *ports, by IPv4 and IPv6; 12 and 13 are echo by ICMP and ICMPv6.  A cell succeeds when its own
 *message has come back marked by the host that was meant: for TCP after a handshake, for SCTP,
 *which kernels need not have, as an INIT-ACK for an INIT, both made by hand.  Sets of cells are
 *hexadecimal.
 *
 *	host INDEX ANSWERS NETNS V4 V6   from now on; ANSWERS: who is meant by it (for a service
 *its backend); NETNS "-": it is only an address gone INDEX table ASK WANT DEADLINE QUIET KEEP tries
 *these cells; says which succeeded, after DEADLINE ms, or QUIET ms after the last success once all
 *of WANT did; KEEP: the TCP and UDP flows to the first port stay open live WANT DEADLINE QUIET a
 *message over every kept flow drop                              closes them
 *
 * Every command is answered by a line: "ok", or "HEX MICROSECONDS".
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/icmp.h>
#include <linux/icmpv6.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "lib/auto.h"
#include "lib/netns.h"

#define HOSTS  16
#define PROBES 16
#define CELLS  (HOSTS * HOSTS * PROBES)
#define PORTS  2
#define FDS    8192

enum protocol { PROTOCOL_TCP, PROTOCOL_UDP, PROTOCOL_SCTP, PROTOCOL_ICMP };

static const uint16_t ports[PORTS] = { 80, 81 };

/* What goes there and comes back. */
struct message {
	uint32_t run;
	uint16_t cell;
	uint16_t answered_by; /* a host's index; NOBODY on the way there */
};
#define NOBODY UINT16_MAX

struct host {
	bool there;
	int netns_fd; /* -1: only an address */
	uint16_t answers_as;
	struct sockaddr_storage addr[2]; /* by family; port 0 */
	int raw[2][2];                   /* by protocol - PROTOCOL_SCTP, and family */
	int udp[2];                      /* clients of the table at hand */
};

/* What a descriptor is for. */
enum role {
	ROLE_NONE,
	ROLE_LISTENER,
	ROLE_SERVED, /* accepted */
	ROLE_UDP_SERVER,
	ROLE_RAW,
	ROLE_TCP_CLIENT,
	ROLE_UDP_CLIENT
};

static struct {
	enum role role;
	uint16_t host;
	uint16_t cell;    /* ROLE_TCP_CLIENT */
	uint8_t protocol; /* ROLE_RAW */
	uint8_t family;   /* ROLE_RAW: 0 IPv4 */
	bool sent;        /* ROLE_TCP_CLIENT */
} descriptors[FDS];

static struct host hosts[HOSTS];
static int tcp_clients[CELLS]; /* descriptor, or 0 */
static bool asked[CELLS], wanted[CELLS], got[CELLS], kept[CELLS];
static int epoll_fd;
static uint32_t run; /* number of the table or live round: strays of an earlier one do not count */
static uint64_t last_success_us;

static void die(const char *what)
{
	fprintf(stderr, "prober: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* ---- cells ---------------------------------------------------------------------------------- */

static unsigned int cell_source(unsigned int cell)
{
	return cell / PROBES / HOSTS;
}

static unsigned int cell_destination(unsigned int cell)
{
	return cell / PROBES % HOSTS;
}

static enum protocol cell_protocol(unsigned int cell)
{
	return (enum protocol)(cell % PROBES / 4);
}

static unsigned int cell_family(unsigned int cell)
{
	return cell % 2;
}

static uint16_t cell_port(unsigned int cell)
{
	return ports[cell / 2 % 2];
}

static void succeed(const struct message *message)
{
	if (message->run != run || message->cell >= CELLS || got[message->cell] ||
	    message->answered_by != hosts[cell_destination(message->cell)].answers_as)
		return;
	got[message->cell] = true;
	last_success_us = now_us();
}

/* Most significant digit first, so that it reads as one large number. */
static void cells_read(const char *hex, bool *cells)
{
	size_t len = strlen(hex);

	memset(cells, 0, CELLS * sizeof(*cells));
	for (size_t i = 0; i < len && i < CELLS / 4; i++) {
		char digit = hex[len - 1 - i];
		unsigned int value = (unsigned int)(digit <= '9' ? digit - '0' : digit - 'a' + 10);

		for (unsigned int bit = 0; bit < 4; bit++)
			cells[4 * i + bit] = value >> bit & 1;
	}
}

static void cells_print(const bool *cells)
{
	for (size_t i = CELLS / 4; i--;)
		putchar("0123456789abcdef"[cells[4 * i] | cells[4 * i + 1] << 1 |
					   cells[4 * i + 2] << 2 | cells[4 * i + 3] << 3]);
}

/* ---- sockets -------------------------------------------------------------------------------- */

static socklen_t address_size(const struct sockaddr_storage *addr)
{
	return addr->ss_family == AF_INET ? sizeof(struct sockaddr_in)
					  : sizeof(struct sockaddr_in6);
}

static struct sockaddr_storage address_with_port(const struct sockaddr_storage *addr, uint16_t port)
{
	struct sockaddr_storage ret = *addr;

	/* The port is at the same place in both. */
	((struct sockaddr_in *)&ret)->sin_port = htons(port);
	return ret;
}

/* In the namespace that the process is in. */
static int socket_new(int domain, int type, int protocol, enum role role, unsigned int host)
{
	int fd = socket(domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

	if (fd < 0 || fd >= FDS)
		die("socket");
	memset(&descriptors[fd], 0, sizeof(descriptors[fd]));
	descriptors[fd].role = role;
	descriptors[fd].host = (uint16_t)host;
	if (role == ROLE_TCP_CLIENT)
		event.events |= EPOLLOUT;
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event))
		die("epoll");
	return fd;
}

/* A reset rather than a FIN: nothing lingers. */
static void socket_close(int fd)
{
	struct linger now = { .l_onoff = 1 };

	if (descriptors[fd].role == ROLE_TCP_CLIENT || descriptors[fd].role == ROLE_SERVED)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	descriptors[fd].role = ROLE_NONE;
	close(fd);
}

static void sockets_close(unsigned int host, bool (*which)(enum role role))
{
	for (int fd = 0; fd < FDS; fd++) {
		if (descriptors[fd].role && (host == NOBODY || descriptors[fd].host == host) &&
		    which(descriptors[fd].role))
			socket_close(fd);
	}
}

static void set_option(int fd, int level, int name, int value)
{
	if (setsockopt(fd, level, name, &value, sizeof(value)))
		die("setsockopt");
}

static void serve_port(unsigned int host, int type, uint16_t port)
{
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int fd = socket_new(AF_INET6, type, 0,
			    type == SOCK_STREAM ? ROLE_LISTENER : ROLE_UDP_SERVER, host);

	set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
	if (bind(fd, (struct sockaddr *)&any, sizeof(any)) ||
	    (type == SOCK_STREAM && listen(fd, 1024)))
		die("serve");
}

static void serve_raw(unsigned int host, enum protocol protocol, unsigned int family)
{
	int number = protocol == PROTOCOL_SCTP ? IPPROTO_SCTP
		     : family                  ? IPPROTO_ICMPV6
					       : IPPROTO_ICMP;
	int fd = socket_new(family ? AF_INET6 : AF_INET, SOCK_RAW, number, ROLE_RAW, host);

	descriptors[fd].protocol = (uint8_t)protocol;
	descriptors[fd].family = (uint8_t)family;
	hosts[host].raw[protocol - PROTOCOL_SCTP][family] = fd;
}

/* ---- SCTP by hand --------------------------------------------------------------------------- */

#define SCTP_INIT     1
#define SCTP_INIT_ACK 2

struct sctp_init {
	uint16_t sport;
	uint16_t dport;
	uint32_t tag; /* of the receiver; 0 in an INIT */
	uint32_t checksum;
	uint8_t type;
	uint8_t flags;
	uint16_t length;
	uint32_t initiate_tag;
	uint32_t window;
	uint16_t streams_out;
	uint16_t streams_in;
	uint32_t tsn;
	uint16_t cookie_type; /* only in an INIT-ACK */
	uint16_t cookie_length;
	uint32_t cookie;
};

#define SCTP_INIT_SIZE offsetof(struct sctp_init, cookie_type)

static uint32_t crc32c(const uint8_t *bytes, size_t len)
{
	uint32_t crc = UINT32_MAX;

	for (size_t i = 0; i < len; i++) {
		crc ^= bytes[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
	}
	return ~crc;
}

static void sctp_send(int fd, const struct sockaddr_storage *to, struct sctp_init *packet)
{
	size_t size = packet->type == SCTP_INIT ? SCTP_INIT_SIZE : sizeof(*packet);

	packet->length = htons((uint16_t)(size - offsetof(struct sctp_init, type)));
	packet->window = htonl(65536);
	packet->streams_out = packet->streams_in = htons(1);
	packet->cookie_type = htons(7);
	packet->cookie_length = htons(8);
	packet->checksum = 0;
	packet->checksum = htole32(crc32c((const uint8_t *)packet, size));
	sendto(fd, packet, size, 0, (const struct sockaddr *)to, address_size(to));
}

static void sctp_receive(int fd, const struct sctp_init *packet,
			 const struct sockaddr_storage *from)
{
	uint32_t tag = ntohl(packet->tag);
	struct message message = { .run = run, .cell = (uint16_t)tag };

	if (packet->type == SCTP_INIT &&
	    (packet->dport == htons(ports[0]) || packet->dport == htons(ports[1]))) {
		struct sctp_init answer = { .type = SCTP_INIT_ACK,
					    .sport = packet->dport,
					    .dport = packet->sport,
					    .tag = packet->initiate_tag,
					    .initiate_tag = htonl(descriptors[fd].host + 1) };

		sctp_send(fd, from, &answer);
	} else if (packet->type == SCTP_INIT_ACK && tag >> 16 == (run & 0x7fff) + 1) {
		message.answered_by = (uint16_t)(ntohl(packet->initiate_tag) - 1);
		succeed(&message);
	}
}

/* ---- trying --------------------------------------------------------------------------------- */

static uint16_t checksum(const void *data, size_t len)
{
	const uint8_t *bytes = data;
	uint32_t sum = 0;

	for (size_t i = 0; i + 1 < len; i += 2)
		/* The analyzer loses the bytes of a field that was set as a whole. */
		/* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult) */
		sum += (uint32_t)bytes[i] << 8 | bytes[i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static void try_echo(const struct host *source, const struct sockaddr_storage *to,
		     unsigned int cell)
{
	struct icmphdr request = { .type = cell_family(cell) ? ICMPV6_ECHO_REQUEST : ICMP_ECHO };

	request.un.echo.id = htons((uint16_t)run);
	request.un.echo.sequence = htons((uint16_t)cell);
	request.checksum = checksum(&request, sizeof(request));
	sendto(source->raw[1][cell_family(cell)], &request, sizeof(request), 0,
	       (const struct sockaddr *)to, address_size(to));
}

static void try_sctp(const struct host *source, const struct sockaddr_storage *to,
		     unsigned int cell)
{
	struct sctp_init init = {
		.type = SCTP_INIT,
		.sport = htons((uint16_t)(1024 + run % 60000)),
		.dport = htons(cell_port(cell)),
		.initiate_tag = htonl(((run & 0x7fff) + 1) << 16 | cell),
	};

	sctp_send(source->raw[0][cell_family(cell)], to, &init);
}

static void try_udp(const struct host *source, const struct sockaddr_storage *to, unsigned int cell)
{
	struct message message = { .run = run, .cell = (uint16_t)cell, .answered_by = NOBODY };
	struct sockaddr_storage server = address_with_port(to, cell_port(cell));

	sendto(source->udp[cell_family(cell)], &message, sizeof(message), 0,
	       (const struct sockaddr *)&server, address_size(&server));
}

static void try_tcp(unsigned int source, const struct sockaddr_storage *to, unsigned int cell)
{
	struct sockaddr_storage server = address_with_port(to, cell_port(cell));
	int fd = socket_new(server.ss_family, SOCK_STREAM, 0, ROLE_TCP_CLIENT, source);

	set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	descriptors[fd].cell = (uint16_t)cell;
	tcp_clients[cell] = fd;
	/* Whatever becomes of it, the table will tell. */
	(void)connect(fd, (const struct sockaddr *)&server, address_size(&server));
}

static void try_cell(unsigned int cell)
{
	const struct host *source = &hosts[cell_source(cell)];
	const struct sockaddr_storage *to = &hosts[cell_destination(cell)].addr[cell_family(cell)];

	switch (cell_protocol(cell)) {
	case PROTOCOL_TCP:
		try_tcp(cell_source(cell), to, cell);
		break;
	case PROTOCOL_UDP:
		try_udp(source, to, cell);
		break;
	case PROTOCOL_SCTP:
		try_sctp(source, to, cell);
		break;
	case PROTOCOL_ICMP:
		try_echo(source, to, cell);
		break;
	}
}

/* ---- what arrives --------------------------------------------------------------------------- */

static void on_listener(int fd)
{
	int accepted = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct epoll_event event = { .events = EPOLLIN, .data.fd = accepted };

	if (accepted < 0)
		return;
	if (accepted >= FDS || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, accepted, &event))
		die("accept");
	set_option(accepted, IPPROTO_TCP, TCP_NODELAY, 1);
	descriptors[accepted].role = ROLE_SERVED;
	descriptors[accepted].host = descriptors[fd].host;
}

static void on_served(int fd)
{
	struct message message;
	ssize_t len = recv(fd, &message, sizeof(message), 0);

	if (len == sizeof(message)) {
		message.answered_by = descriptors[fd].host;
		send(fd, &message, sizeof(message), MSG_NOSIGNAL);
	} else if (len >= 0 || errno != EAGAIN) {
		socket_close(fd);
	}
}

static void on_udp_server(int fd)
{
	struct sockaddr_storage from;
	socklen_t size = sizeof(from);
	struct message message;

	if (recvfrom(fd, &message, sizeof(message), 0, (struct sockaddr *)&from, &size) !=
	    sizeof(message))
		return;
	message.answered_by = descriptors[fd].host;
	sendto(fd, &message, sizeof(message), 0, (struct sockaddr *)&from, size);
}

static void on_client(int fd)
{
	struct message message;

	while (recv(fd, &message, sizeof(message), 0) == sizeof(message))
		succeed(&message);
}

static void tcp_send(int fd)
{
	struct message message = { .run = run,
				   .cell = descriptors[fd].cell,
				   .answered_by = NOBODY };

	send(fd, &message, sizeof(message), MSG_NOSIGNAL);
}

static void on_tcp_client(int fd, uint32_t events)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

	if (events & EPOLLIN)
		on_client(fd);
	if (events & (EPOLLERR | EPOLLHUP)) {
		tcp_clients[descriptors[fd].cell] = 0;
		socket_close(fd);
	} else if (!descriptors[fd].sent && events & EPOLLOUT) {
		descriptors[fd].sent = true;
		epoll_ctl(epoll_fd, EPOLL_CTL_MOD, fd, &event);
		tcp_send(fd);
	}
}

static void on_raw(int fd)
{
	uint8_t bytes[256] __attribute__((aligned(8)));
	struct sockaddr_storage from = { 0 };
	socklen_t size = sizeof(from);
	ssize_t len = recvfrom(fd, bytes, sizeof(bytes), 0, (struct sockaddr *)&from, &size);
	size_t header = len > 0 && !descriptors[fd].family ? (bytes[0] & 15) * 4u : 0;
	const struct icmphdr *echo = (const void *)(bytes + header);

	if (len < 0 || (size_t)len < header + sizeof(*echo))
		return;
	from = address_with_port(&from, 0); /* IPv6 has the protocol there */
	if (descriptors[fd].protocol == PROTOCOL_SCTP) {
		if ((size_t)len >= header + SCTP_INIT_SIZE)
			sctp_receive(fd, (const void *)(bytes + header), &from);
		return;
	}
	if (echo->type == (descriptors[fd].family ? ICMPV6_ECHO_REPLY : ICMP_ECHOREPLY) &&
	    echo->un.echo.id == htons((uint16_t)run)) {
		struct message message = { .run = run, .cell = ntohs(echo->un.echo.sequence) };

		/* Only the address says who answered. */
		if (message.cell < CELLS) {
			message.answered_by = hosts[cell_destination(message.cell)].answers_as;
			succeed(&message);
		}
	}
}

static void on_event(const struct epoll_event *event)
{
	int fd = event->data.fd;

	switch (descriptors[fd].role) {
	case ROLE_LISTENER:
		on_listener(fd);
		break;
	case ROLE_SERVED:
		on_served(fd);
		break;
	case ROLE_UDP_SERVER:
		on_udp_server(fd);
		break;
	case ROLE_RAW:
		on_raw(fd);
		break;
	case ROLE_UDP_CLIENT:
		on_client(fd);
		break;
	case ROLE_TCP_CLIENT:
		on_tcp_client(fd, event->events);
		break;
	case ROLE_NONE:
		break;
	}
}

static bool all_wanted(void)
{
	for (size_t i = 0; i < CELLS; i++) {
		if (wanted[i] && !got[i])
			return false;
	}
	return true;
}

static void collect(unsigned int deadline_ms, unsigned int quiet_ms)
{
	uint64_t began = last_success_us = now_us(), now = began;
	uint64_t end = began + 1000ULL * deadline_ms, quiet = 1000ULL * quiet_ms;
	struct epoll_event events[256];

	while (now < end) {
		int count = epoll_wait(epoll_fd, events, 256, 2);

		for (int i = 0; i < count; i++)
			on_event(&events[i]);
		now = now_us();
		if (count == 0 && now > last_success_us + quiet && all_wanted())
			break;
	}
	cells_print(got);
	printf(" %llu\n", (unsigned long long)(last_success_us - began));
}

/* ---- commands ------------------------------------------------------------------------------- */

static bool is_any(enum role role)
{
	(void)role;
	return true;
}

static bool is_of_flows(enum role role)
{
	return role == ROLE_TCP_CLIENT || role == ROLE_UDP_CLIENT || role == ROLE_SERVED;
}

static void command_drop(void)
{
	sockets_close(NOBODY, is_of_flows);
	memset(kept, 0, sizeof(kept));
	memset(tcp_clients, 0, sizeof(tcp_clients));
}

static void command_gone(unsigned int index)
{
	struct host *host = &hosts[index];

	if (!host->there)
		return;
	sockets_close(index, is_any);
	for (unsigned int cell = 0; cell < CELLS; cell++) {
		if (cell_source(cell) == index || cell_destination(cell) == index)
			kept[cell] = false;
		if (cell_source(cell) == index)
			tcp_clients[cell] = 0;
	}
	if (host->netns_fd >= 0)
		close(host->netns_fd);
	*host = (struct host){ .netns_fd = -1 };
}

static void command_host(unsigned int index, unsigned int answers_as, const char *netns,
			 const char *v4, const char *v6)
{
	struct host *host = &hosts[index];
	struct sockaddr_in *in = (struct sockaddr_in *)&host->addr[0];
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&host->addr[1];
	auto_netns struct netns_scope scope = NETNS_SCOPE_INIT;

	command_gone(index);
	*host = (struct host){ .there = true, .netns_fd = -1, .answers_as = (uint16_t)answers_as };
	in->sin_family = AF_INET;
	in6->sin6_family = AF_INET6;
	if (inet_pton(AF_INET, v4, &in->sin_addr) != 1 ||
	    inet_pton(AF_INET6, v6, &in6->sin6_addr) != 1)
		die("address");
	if (!strcmp(netns, "-"))
		return;
	host->netns_fd = open(netns, O_RDONLY | O_CLOEXEC);
	if (host->netns_fd < 0 || netns_enter(host->netns_fd, &scope, NULL))
		die(netns);
	for (size_t i = 0; i < PORTS; i++) {
		serve_port(index, SOCK_STREAM, ports[i]);
		serve_port(index, SOCK_DGRAM, ports[i]);
	}
	for (unsigned int family = 0; family < 2; family++) {
		serve_raw(index, PROTOCOL_SCTP, family);
		serve_raw(index, PROTOCOL_ICMP, family);
	}
}

/* All cells of a source, from inside its namespace. */
static void try_source(unsigned int index)
{
	auto_netns struct netns_scope scope = NETNS_SCOPE_INIT;
	struct host *host = &hosts[index];

	if (host->netns_fd < 0)
		return;
	if (netns_enter(host->netns_fd, &scope, NULL))
		die("namespace");
	for (unsigned int family = 0; family < 2; family++)
		host->udp[family] = socket_new(family ? AF_INET6 : AF_INET, SOCK_DGRAM, 0,
					       ROLE_UDP_CLIENT, index);
	for (unsigned int cell = index * HOSTS * PROBES; cell < (index + 1) * HOSTS * PROBES;
	     cell++) {
		if (asked[cell] && hosts[cell_destination(cell)].there)
			try_cell(cell);
	}
}

static bool is_live_probe(unsigned int cell)
{
	return cell_protocol(cell) <= PROTOCOL_UDP && cell_port(cell) == ports[0];
}

static void command_table(unsigned int deadline_ms, unsigned int quiet_ms, bool keep)
{
	command_drop();
	memset(got, 0, sizeof(got));
	run++;
	for (unsigned int i = 0; i < HOSTS; i++)
		try_source(i);
	collect(deadline_ms, quiet_ms);
	if (!keep) {
		command_drop();
		return;
	}
	for (unsigned int cell = 0; cell < CELLS; cell++) {
		kept[cell] = got[cell] && is_live_probe(cell);
		if (!kept[cell] && tcp_clients[cell]) {
			socket_close(tcp_clients[cell]);
			tcp_clients[cell] = 0;
		}
	}
}

static void command_live(unsigned int deadline_ms, unsigned int quiet_ms)
{
	memset(got, 0, sizeof(got));
	run++;
	for (unsigned int cell = 0; cell < CELLS; cell++) {
		if (!kept[cell])
			continue;
		if (cell_protocol(cell) == PROTOCOL_UDP)
			try_cell(cell);
		else if (tcp_clients[cell])
			tcp_send(tcp_clients[cell]);
	}
	collect(deadline_ms, quiet_ms);
}

static void command_run(char *line)
{
	static char ask[CELLS], want[CELLS];
	char netns[128], v4[64], v6[64];
	unsigned int index, number, deadline, quiet;

	if (sscanf(line, "host %u %u %127s %63s %63s", &index, &number, netns, v4, v6) == 5) {
		command_host(index, number, netns, v4, v6);
		puts("ok");
	} else if (sscanf(line, "gone %u", &index) == 1) {
		command_gone(index);
		puts("ok");
	} else if (sscanf(line, "table %4095s %4095s %u %u %u", ask, want, &deadline, &quiet,
			  &number) == 5) {
		cells_read(ask, asked);
		cells_read(want, wanted);
		command_table(deadline, quiet, number);
	} else if (sscanf(line, "live %4095s %u %u", want, &deadline, &quiet) == 3) {
		cells_read(want, wanted);
		command_live(deadline, quiet);
	} else if (!strcmp(line, "drop\n")) {
		command_drop();
		puts("ok");
	} else {
		errno = EINVAL;
		die(line);
	}
	fflush(stdout);
}

int main(void)
{
	static char line[3 * CELLS];

	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		die("epoll");
	for (size_t i = 0; i < HOSTS; i++)
		hosts[i].netns_fd = -1;
	while (fgets(line, sizeof(line), stdin))
		command_run(line);
	return 0;
}
