/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether the other nodes answer: each is asked once a minute, at its own address and at its
 * gateway address, which is in the range of its pods and is reached as they are.  The question is a
 * TCP connection to a port where nobody listens: the kernel of the other node refuses it, and
 * nothing that the network sends is read here.
 */
#ifndef TENDRIL_AGENT_NODES_HEALTH_H
#define TENDRIL_AGENT_NODES_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/arena.h"
#include "lib/inet.h"
#include "policy/objects/object.h"

#define HEALTH_PORT 4240 /* that of Cilium's health checks */

struct event_base;
struct health;
struct nodes;

enum health_target { HEALTH_NODE, HEALTH_PODS, HEALTH_TARGETS };
enum health_status { HEALTH_UNKNOWN, HEALTH_REACHABLE, HEALTH_UNREACHABLE };

struct health_answer {
	struct addr address; /* zero: there is none to ask */
	enum health_status status;
	int error;           /* errno, if it is not reachable */
	uint32_t latency_us; /* of the last answer */
	unsigned int mtu;    /* of the path, as this node's kernel knows it; 0: not known */
};

struct health_view {
	struct health_answer answers[HEALTH_TARGETS];
	enum health_status status; /* reachable: at all addresses that it has */
	bool probing;              /* an answer that was asked for is not there yet */
	uint64_t seen_ns;          /* CLOCK_MONOTONIC, when it was last reachable; 0: never */
};

struct health_counts {
	size_t nodes[HEALTH_TARGETS][HEALTH_UNREACHABLE + 1];
	size_t all[HEALTH_UNREACHABLE + 1]; /* by struct health_view's status */
};

struct health *health_new(struct event_base *base, const struct nodes *nodes);
void health_free(struct health *health); /* NULL is fine */

/* Node objects may have changed.  Without other nodes nothing runs. */
void health_sync(struct health *health);
/* Asks every node again, now. */
void health_probe(struct health *health);

/* What is known of another node. */
void health_get(const struct health *health, const struct object *node, struct health_view *ret);
void health_count(const struct health *health, struct health_counts *ret);
const char *health_status_name(enum health_status status);
/* Appends metrics. */
void health_metrics(const struct health *health, struct buffer *out);

#endif
