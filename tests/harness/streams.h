/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Real TCP connections between pods that asked for socket acceleration, joined by a plain router,
 * under a trial of the acceleration programs: whatever goes by packet needs none of ours.
 */
#ifndef TENDRIL_TESTS_HARNESS_STREAMS_H
#define TENDRIL_TESTS_HARNESS_STREAMS_H

#include <linux/tcp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "datapath/datapath.h"
#include "harness/pods.h"

struct CMUnitTest;

#define WAIT_MS 10000 /* only what is broken takes that long */
#define PORT    8080

enum { CLIENT, SERVER, OTHER, POD_COUNT };

struct store {
	struct pods *pods;
	struct datapath *datapath;
};

/* A connection between two pods; fd[CLIENT] opened it. */
struct pair {
	int fd[2];
};
#define PAIR_INIT              \
	{                      \
		{              \
			-1, -1 \
		}              \
	}

void pair_done(struct pair *pair);
#define auto_pair __attribute__((cleanup(pair_done)))

/* cmocka fixtures: scratch space for the group, a struct store for each case. */
int streams_run(const char *group, const struct CMUnitTest *tests, size_t count);
int streams_setup(void **state);
int streams_teardown(void **state);

/* Whether messages may be redirected at all. */
void redirect_allow(struct store *store, bool allow);
/* Adds flags and sets the policy of an endpoint, as a change of policy does. */
void endpoint_change(struct store *store, int pod, uint32_t flags, uint32_t policy_id);
struct endpoint_stats stats_of(struct store *store, int pod);
size_t sockets_registered(struct store *store);

bool is_ready(int fd, short events, int timeout_ms);
socklen_t sockaddr_fill(const struct addr *addr, uint16_t port, int family,
			struct sockaddr_storage *ret);
int listener_new(const struct pod *pod, int family);
int connect_start(const struct pod *from, int family, const struct addr *to);
void connect_accept(int listener, struct pair *pair);
void pair_open_as(struct store *store, int family, const struct addr *to, int listener_family,
		  struct pair *pair);
void pair_open(struct store *store, struct pair *pair);

/* Sends text from one end; returns how many of its bytes went from socket to socket. */
size_t say(struct store *store, const struct pair *pair, int end, const char *text);
/* Waits for exactly this text, or for the end of the stream. */
void hear(const struct pair *pair, int end, const char *text);
void hear_end(const struct pair *pair, int end);
struct tcp_info tcp_info_of(int fd);

/* Drops every IPv4 TCP segment without SYN that a pod sends, until loss_end(). */
int loss_begin(const struct pods *pods, const struct pod *pod);
void loss_end(const struct pods *pods, const struct pod *pod, int fd);

#endif
