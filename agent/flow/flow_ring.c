/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entries have fixed places.  order[] has numbers and places, with a hole where a flow has made
 * room that was not the oldest of all; it has a quarter more room than there are places, and is
 * squeezed when that is used up.  The flows of an owner are a list, by place, from the oldest on.
 */
#include "agent/flow/flow_ring.h"

#include <stdlib.h>
#include <string.h>

#include "agent/flow/flow_internal.h"
#include "lib/alloc.h"

#define PIECE  1024       /* entries for which memory is taken at once */
#define HOLE   UINT32_MAX /* no place */
#define RESCAN 256        /* flows until it is looked again who has most */

struct position {
	uint32_t number; /* the lower half */
	uint32_t place;
};

struct owner {
	uint32_t oldest; /* place; valid while there is one */
	uint32_t latest;
	uint32_t count;
};

struct flow_ring {
	uint32_t max;
	uint32_t count;
	uint64_t next;              /* number */
	struct flow_entry **pieces; /* by place */
	uint32_t *positions;        /* by place: in order[] */
	uint32_t *later;            /* by place: the owner's next one */
	struct position *order;
	uint32_t order_room;
	uint32_t begin, end;  /* in order[] */
	struct owner *owners; /* by slot */
	size_t owner_count;
	uint16_t most; /* the owner with about the most flows */
	void (*drop)(struct flow_entry *entry, void *arg);
	void *arg;
};

static struct flow_entry *entry_at(const struct flow_ring *ring, uint32_t place)
{
	return &ring->pieces[place / PIECE][place % PIECE];
}

/* ---- owners ---------------------------------------------------------------------------------- */

static struct owner *owner_get(struct flow_ring *ring, uint16_t slot)
{
	size_t count = (size_t)slot + 1;

	if (count > ring->owner_count) {
		ring->owners = xreallocarray(ring->owners, count, sizeof(*ring->owners));
		memset(ring->owners + ring->owner_count, 0,
		       (count - ring->owner_count) * sizeof(*ring->owners));
		ring->owner_count = count;
	}
	return &ring->owners[slot];
}

static void owner_add(struct flow_ring *ring, uint16_t slot, uint32_t place)
{
	struct owner *owner = owner_get(ring, slot);

	if (owner->count)
		ring->later[owner->latest] = place;
	else
		owner->oldest = place;
	owner->latest = place;
	owner->count++;
	if (owner->count > ring->owners[ring->most].count)
		ring->most = slot;
}

/* Others were larger when it lost to them: so not with each flow. */
static void most_find(struct flow_ring *ring)
{
	for (size_t i = 0; i < ring->owner_count; i++) {
		if (ring->owners[i].count > ring->owners[ring->most].count)
			ring->most = (uint16_t)i;
	}
}

/* ---- the order ------------------------------------------------------------------------------- */

static void order_squeeze(struct flow_ring *ring)
{
	uint32_t to = 0;

	for (uint32_t from = ring->begin; from < ring->end; from++) {
		if (ring->order[from].place == HOLE)
			continue;
		ring->order[to] = ring->order[from];
		ring->positions[ring->order[to].place] = to;
		to++;
	}
	ring->begin = 0;
	ring->end = to;
}

static uint64_t number_at(const struct flow_ring *ring, uint32_t position)
{
	return ring->next - (uint32_t)((uint32_t)ring->next - ring->order[position].number);
}

static void order_add(struct flow_ring *ring, uint32_t place)
{
	if (ring->end == ring->order_room)
		order_squeeze(ring);
	ring->positions[place] = ring->end;
	ring->order[ring->end++] = (struct position){ (uint32_t)ring->next, place };
}

/* ---- flows ----------------------------------------------------------------------------------- */

/* The oldest flow of the owner that has most makes room. */
static uint32_t place_free(struct flow_ring *ring)
{
	struct owner *owner = &ring->owners[ring->most];
	uint32_t place;

	/* At the average or below it, there is one that has more. */
	if (ring->next % RESCAN == 0 || owner->count <= ring->count / ring->owner_count)
		most_find(ring);
	owner = &ring->owners[ring->most];
	place = owner->oldest;
	owner->oldest = ring->later[place];
	owner->count--;
	ring->order[ring->positions[place]].place = HOLE;
	while (ring->begin < ring->end && ring->order[ring->begin].place == HOLE)
		ring->begin++;
	ring->drop(entry_at(ring, place), ring->arg);
	return place;
}

struct flow_entry *flow_ring_add(struct flow_ring *ring, uint16_t owner)
{
	uint32_t place = ring->count;
	struct flow_entry *entry;

	if (ring->count == ring->max)
		place = place_free(ring);
	else
		ring->count++;
	if (!ring->pieces[place / PIECE])
		ring->pieces[place / PIECE] = xcalloc(PIECE, sizeof(*entry));
	owner_add(ring, owner, place);
	order_add(ring, place);
	ring->next++;
	entry = entry_at(ring, place);
	*entry = (struct flow_entry){ .count = 1 };
	return entry;
}

uint32_t flow_ring_count(const struct flow_ring *ring)
{
	return ring->count;
}

uint64_t flow_ring_next(const struct flow_ring *ring)
{
	return ring->next;
}

uint64_t flow_ring_last(const struct flow_ring *ring, uint64_t n)
{
	uint32_t at = ring->end;

	while (n && at > ring->begin)
		n -= ring->order[--at].place != HOLE;
	return at < ring->end ? number_at(ring, at) : ring->next;
}

struct flow_entry *flow_ring_find(const struct flow_ring *ring, uint64_t number,
				  uint64_t *ret_number)
{
	uint32_t low = ring->begin, high = ring->end;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (number_at(ring, middle) < number)
			low = middle + 1;
		else
			high = middle;
	}
	while (low < ring->end && ring->order[low].place == HOLE)
		low++;
	if (low == ring->end)
		return NULL;
	*ret_number = number_at(ring, low);
	return entry_at(ring, ring->order[low].place);
}

/* ---- life ------------------------------------------------------------------------------------ */

struct flow_ring *flow_ring_new(uint32_t max, void (*drop)(struct flow_entry *entry, void *arg),
				void *arg)
{
	struct flow_ring *ring = xcalloc(1, sizeof(*ring));

	ring->max = max;
	ring->drop = drop;
	ring->arg = arg;
	ring->order_room = max + max / 4 + 1;
	ring->pieces = xcalloc((max + PIECE - 1) / PIECE, sizeof(*ring->pieces));
	ring->positions = xcalloc(max, sizeof(*ring->positions));
	ring->later = xcalloc(max, sizeof(*ring->later));
	ring->order = xcalloc(ring->order_room, sizeof(*ring->order));
	owner_get(ring, 0);
	return ring;
}

void flow_ring_free(struct flow_ring *ring)
{
	if (!ring)
		return;
	for (uint32_t place = 0; place < ring->count; place++)
		ring->drop(entry_at(ring, place), ring->arg);
	for (size_t i = 0; i < (ring->max + PIECE - 1) / PIECE; i++)
		free(ring->pieces[i]);
	free(ring->pieces);
	free(ring->positions);
	free(ring->later);
	free(ring->order);
	free(ring->owners);
	free(ring);
}
