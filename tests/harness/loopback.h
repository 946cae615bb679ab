/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A service on the node's loopback device with two backends of each family, for real sockets under
 * the socket programs.
 *
 *      10.96.0.1:80, fd96::1:80  TCP and UDP  ->  127.0.0.1, ::1 at the ports of two servers
 *      10.96.0.2:80, fd96::2:80               ->  nothing is ready
 */
#ifndef TENDRIL_TESTS_HARNESS_LOOPBACK_H
#define TENDRIL_TESTS_HARNESS_LOOPBACK_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "datapath/maps.h"

#define BACKENDS   2
#define PORT       80
#define TIMEOUT_MS 10000

/* How a socket writes an address: the last is an AF_INET6 socket that speaks IPv4. */
enum form { FORM_V4, FORM_V6, FORM_MAPPED };

struct form_texts {
	const char *service;
	const char *empty; /* a service without ready endpoints */
	const char *backend;
	int domain;
};
extern const struct form_texts forms[];

struct loopback {
	struct datapath *datapath;
	int servers[2][2][BACKENDS];    /* by family (0: IPv4), by UDP, by index */
	uint16_t ports[2][2][BACKENDS]; /* of the servers, host order */
};
extern struct loopback loopback;

/* cmocka fixtures for the group. */
int loopback_setup(void **state);
int loopback_teardown(void **state);
struct datapath_options loopback_options(void);

/* Writes the services above. */
void services_put(void);
/* Writes a service of these ports (host order) of one backend address. */
void service_put(const char *text, uint8_t proto, uint32_t id, const char *backend,
		 const uint16_t ports[], uint32_t backends);

/* ---- sockets ------------------------------------------------------------------------------ */

union any {
	struct sockaddr sa;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

socklen_t any_init(union any *any, enum form form, const char *text, uint16_t port);
uint16_t any_port(const union any *any); /* host order */
void assert_any(const union any *got, enum form form, const char *text, uint16_t port);

/* Closed by the caller. */
int socket_new(enum form form, int type);
/* 0 or a negative errno. */
int socket_connect(int fd, enum form form, const char *text, uint16_t port);
int socket_sendto(int fd, enum form form, const char *text, uint16_t port);
void disconnect(int fd);
void assert_peer(int fd, enum form form, const char *text, uint16_t port);

/* Which backend has a connection or datagram waiting; answers the datagram. */
int server_of(enum form form, bool udp);
uint16_t port_of(enum form form, bool udp, int index);
void assert_answer_from(int fd, enum form form, const char *text, uint16_t port);
void assert_answered(int fd);

#endif
