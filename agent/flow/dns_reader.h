/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the answers of DNS that the datapath hands over, in a process that can do nothing but read
 * them and tell what it understood: it has no capabilities, and no system calls but read(), write()
 * and exit().
 */
#ifndef TENDRIL_AGENT_FLOW_DNS_READER_H
#define TENDRIL_AGENT_FLOW_DNS_READER_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/dns.h"

#define DNS_READER_NAME "tendril-dns" /* of the kind of child */

struct datapath;
struct dns_reader;
struct event_base;
struct fork_server;

/* What the process tells of an answer. */
struct dns_record {
	uint64_t time_ns; /* CLOCK_MONOTONIC */
	uint64_t netns_cookie;
	struct dns_answer answer;
};

/* Starts the process.  each() gets what it tells, checked. */
struct dns_reader *dns_reader_new(struct event_base *base, struct fork_server *server,
				  struct datapath *datapath,
				  void (*each)(const struct dns_record *record, void *arg),
				  void *arg);
void dns_reader_free(struct dns_reader *reader); /* NULL is fine */

/* Segments and messages over TCP that were not read, or not to their end. */
uint64_t dns_reader_left_out(const struct dns_reader *reader); /* NULL is fine */

/* Why it does not work; "" if it does. */
const char *dns_reader_problem(const struct dns_reader *reader);

/* What the process does, for the server's table. */
void dns_reader_run(pid_t agent, size_t fd_count) __attribute__((noreturn));

#endif
