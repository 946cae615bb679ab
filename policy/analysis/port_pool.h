/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exact operations on sets of (protocol, port).  Each pair is a point on one line: 65536 points
 * each for TCP, UDP and SCTP, then one point for all other protocols together.  A set is a list of
 * ranges on that line.  Equal sets have one number, and the results of operations are cached.  So
 * two sets are compared by their numbers, and a million pairs of pods cost no more than their few
 * different answers.
 */
#ifndef TENDRIL_POLICY_ANALYSIS_PORT_POOL_H
#define TENDRIL_POLICY_ANALYSIS_PORT_POOL_H

#include "datapath/abi.h"
#include "lib/arena.h"
#include "lib/inet.h"

/* The two sets that every pool has. */
enum { PORTS_NONE, PORTS_ALL };

struct port_range { /* inclusive; sorted, disjoint, neighbours merged */
	uint32_t first;
	uint32_t last;
};

struct port_pool {
	struct arena *arena;      /* borrowed */
	struct intern sets;       /* the key is the array of ranges */
	struct intern operations; /* enum set_operation and two sets */
	uint32_t *results;        /* by operation */
	size_t result_capacity;
	struct port_range *scratch;
	size_t scratch_count;
	size_t scratch_capacity;
};

void port_pool_init(struct port_pool *pool, struct arena *arena);
void port_pool_done(struct port_pool *pool);

/* What the rules of a policy_map entry allow: the first rule that matches decides. */
uint32_t ports_of_rules(struct port_pool *pool, const struct port_rule *rules, size_t count);
/* A range of ports of TCP, UDP or SCTP. */
uint32_t ports_of_range(struct port_pool *pool, uint8_t proto, uint16_t min, uint16_t max);

uint32_t ports_both(struct port_pool *pool, uint32_t left, uint32_t right);
uint32_t ports_either(struct port_pool *pool, uint32_t left, uint32_t right);
uint32_t ports_without(struct port_pool *pool, uint32_t left, uint32_t right);

/* Whether the set holds a port; a protocol other than TCP, UDP and SCTP has none. */
bool ports_hold(const struct port_pool *pool, uint32_t set, uint8_t proto, uint16_t port);

/* A range of a set in the form for people.  proto 0: all other protocols; min 1 and max 65535:
 * every port. */
struct port_span {
	uint8_t proto;
	uint16_t min;
	uint16_t max;
};

/* The n-th span; false: there are no more. */
bool ports_span(const struct port_pool *pool, uint32_t set, size_t n, struct port_span *ret_span);
/* Appends "80/TCP, 8000-8099/UDP", "all TCP", "all ports but 22/TCP", "all ports" or "nothing". */
void ports_text(struct port_pool *pool, uint32_t set, struct buffer *text);

#endif
