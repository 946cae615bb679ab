/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names that pods asked DNS for, with the addresses that they got.  All of it comes from a network,
 * and is bounded for each pod and in all.
 */
#ifndef TENDRIL_AGENT_FLOW_DNS_NAMES_H
#define TENDRIL_AGENT_FLOW_DNS_NAMES_H

#include <stddef.h>
#include <stdint.h>

#include "lib/addr.h"

struct dns_answer;
struct dns_names;

struct dns_names *dns_names_new(void);
void dns_names_free(struct dns_names *names);

/* The pod with this namespace got an answer (time_ns: CLOCK_MONOTONIC). */
void dns_names_learn(struct dns_names *names, uint64_t netns_cookie, uint64_t time_ns,
		     const struct dns_answer *answer);

/* The number of the name by which the pod got an address last, if that was good for the time since
 * since_ns (0: whenever it got it); 0: none.  Held until dns_names_drop(). */
uint16_t dns_names_find(struct dns_names *names, uint64_t netns_cookie, const struct addr *addr,
			uint64_t since_ns);
void dns_names_drop(struct dns_names *names, uint16_t number); /* 0 is fine */

/* The text behind a number that is held. */
const char *dns_names_text(const struct dns_names *names, uint16_t number);

/* How many names are kept, and how many found no room. */
size_t dns_names_count(const struct dns_names *names);
uint64_t dns_names_left_out(const struct dns_names *names);

#endif
