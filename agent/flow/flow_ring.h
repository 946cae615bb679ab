/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last flows, each with a number, in their order.  When all places are taken, the oldest flow
 * of whoever has most of them makes room: one pod that makes many flows loses its own, and half of
 * all places is the others' if they need them.
 */
#ifndef TENDRIL_AGENT_FLOW_FLOW_RING_H
#define TENDRIL_AGENT_FLOW_FLOW_RING_H

#include <stddef.h>
#include <stdint.h>

struct flow_entry;
struct flow_ring;

/* drop() is called for each flow that makes room, and at the end for all. */
struct flow_ring *flow_ring_new(uint32_t max, void (*drop)(struct flow_entry *entry, void *arg),
				void *arg);
void flow_ring_free(struct flow_ring *ring); /* NULL is fine */

/* A new flow, all zero.  owner: the slot of a pod, or 0. */
struct flow_entry *flow_ring_add(struct flow_ring *ring, uint16_t owner);

/* How many flows there are, and the number that the next one gets; the first got 0. */
uint32_t flow_ring_count(const struct flow_ring *ring);
uint64_t flow_ring_next(const struct flow_ring *ring);
/* The number of the last but n; of the oldest, if there are fewer. */
uint64_t flow_ring_last(const struct flow_ring *ring, uint64_t n);

/* The flow with this number, or the next one that is still there: its number.  NULL: there is none.
 */
struct flow_entry *flow_ring_find(const struct flow_ring *ring, uint64_t number,
				  uint64_t *ret_number);

#endif
