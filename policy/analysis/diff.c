/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/analysis/diff.h"

#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/auto.h"
#include "policy/compiler/label_index.h"

enum { OLD, NEW };

/* How a pair of peer groups changes; equal ones are one. */
struct delta {
	uint32_t allowed;
	uint32_t denied;
	uint32_t families; /* bits by enum family */
};

struct delta_use { /* one receiver of the sender at hand */
	uint32_t delta;
	uint32_t to;
};

struct differ {
	struct reach *reach;
	struct policy_diff *diff;
	const struct peer_group *peer_groups;
	size_t peer_group_count;
	struct intern deltas;
	struct delta_use *row; /* of one sender */
	size_t row_count;
	size_t row_capacity;
	struct intern changes;   /* delta and receivers */
	struct id_list *senders; /* by change */
	size_t sender_capacity;
	struct buffer key;
};

/* ---- pairs ---- */

static void row_add(struct differ *differ, const struct delta *delta, size_t to)
{
	size_t number = intern_add(&differ->deltas, delta, sizeof(*delta));

	array_room(&differ->row, differ->row_count, &differ->row_capacity, sizeof(*differ->row));
	differ->row[differ->row_count++] = (struct delta_use){ (uint32_t)number, (uint32_t)to };
}

static void count_pairs(struct differ *differ, size_t from, size_t to, bool gains, bool loses)
{
	uint64_t senders = differ->peer_groups[from].pod_count;
	uint64_t receivers = differ->peer_groups[to].pod_count;
	uint64_t pairs = (senders ? senders : 1) * (receivers ? receivers : 1);

	if (from == to)
		pairs -= senders; /* itself is nobody's peer */
	differ->diff->allowed_pairs += gains ? pairs : 0;
	differ->diff->denied_pairs += loses ? pairs : 0;
}

/* One delta for both families where they do not differ, or where the pair has only one. */
static void pair_compare(struct differ *differ, size_t from, size_t to)
{
	struct port_pool *pool = reach_pool(differ->reach);
	struct delta deltas[FAMILY_COUNT] = { 0 };
	uint32_t missing = 0;
	bool gains = false, loses = false;

	for (size_t i = 0; i < FAMILY_COUNT; i++) {
		enum family family = (enum family)i;
		uint32_t before, after;

		if (!reach_meets(differ->reach, family, from, to)) {
			missing |= 1U << family;
			continue;
		}
		before = reach_ports(differ->reach, OLD, family, from, to);
		after = reach_ports(differ->reach, NEW, family, from, to);
		if (before == after)
			continue;
		deltas[i].allowed = ports_without(pool, after, before);
		deltas[i].denied = ports_without(pool, before, after);
		deltas[i].families = 1U << family;
		gains |= deltas[i].allowed != PORTS_NONE;
		loses |= deltas[i].denied != PORTS_NONE;
	}
	if (deltas[0].allowed == deltas[1].allowed && deltas[0].denied == deltas[1].denied) {
		deltas[0].families |= deltas[1].families;
		deltas[1].families = 0;
	}
	count_pairs(differ, from, to, gains, loses);
	for (size_t i = 0; i < FAMILY_COUNT; i++) {
		if (deltas[i].families)
			deltas[i].families |= missing;
		if (deltas[i].families)
			row_add(differ, &deltas[i], to);
	}
}

/* ---- rows: what changes alike for the same receivers is one change ---- */

static int use_compare(const void *a, const void *b)
{
	const struct delta_use *left = a;
	const struct delta_use *right = b;

	if (left->delta != right->delta)
		return left->delta < right->delta ? -1 : 1;
	return (left->to > right->to) - (left->to < right->to);
}

static void change_add(struct differ *differ, size_t first, size_t last, size_t from)
{
	size_t known = differ->changes.count;
	size_t number;

	differ->key.len = 0;
	buffer_add(&differ->key, &differ->row[first].delta, sizeof(uint32_t));
	for (size_t i = first; i < last; i++)
		buffer_add(&differ->key, &differ->row[i].to, sizeof(uint32_t));
	number = intern_add(&differ->changes, differ->key.data, differ->key.len);
	if (number == known) {
		array_room(&differ->senders, known, &differ->sender_capacity,
			   sizeof(*differ->senders));
		differ->senders[number] = (struct id_list){ 0 };
	}
	id_list_add(&differ->senders[number], (uint32_t)from);
}

static void row_finish(struct differ *differ, size_t from)
{
	size_t first = 0;

	if (differ->row_count)
		qsort(differ->row, differ->row_count, sizeof(*differ->row), use_compare);
	for (size_t i = 0; i < differ->row_count; i++) {
		if (i + 1 < differ->row_count && differ->row[i + 1].delta == differ->row[i].delta)
			continue;
		/* What would change between two of its kind helps to merge rows, no more. */
		if ((i > first || !reach_is_itself(differ->reach, from, differ->row[i].to)))
			change_add(differ, first, i + 1, from);
		first = i + 1;
	}
	differ->row_count = 0;
}

/* ---- the result ---- */

static const size_t *keep_numbers(struct arena *arena, const uint32_t *numbers, size_t count)
{
	size_t *kept = arena_alloc(arena, count * sizeof(*kept));

	for (size_t i = 0; i < count; i++)
		kept[i] = numbers[i];
	return kept;
}

static void change_fill(const struct differ *differ, size_t number, struct diff_change *change)
{
	const uint32_t *key = differ->changes.items[number].key;
	const struct delta *delta = differ->deltas.items[key[0]].key;
	const struct id_list *senders = &differ->senders[number];
	struct arena *arena = differ->diff->arena;

	change->from_count = senders->count;
	change->from = keep_numbers(arena, senders->items, senders->count);
	change->to_count = differ->changes.items[number].len / sizeof(uint32_t) - 1;
	change->to = keep_numbers(arena, key + 1, change->to_count);
	change->allowed = delta->allowed;
	change->denied = delta->denied;
	for (size_t i = 0; i < FAMILY_COUNT; i++)
		change->families[i] = delta->families & 1U << i;
}

static void differ_done(struct differ *differ)
{
	for (size_t i = 0; i < differ->changes.count; i++)
		id_list_done(&differ->senders[i]);
	free(differ->senders);
	free(differ->row);
	intern_done(&differ->deltas);
	intern_done(&differ->changes);
	buffer_done(&differ->key);
}

struct policy_diff *policy_diff(const struct store *old_store, const struct store *new_store)
{
	const struct store *stores[] = { [OLD] = old_store, [NEW] = new_store };
	struct policy_diff *diff = xcalloc(1, sizeof(*diff));
	struct differ differ = { .diff = diff };
	struct diff_change *changes;

	diff->arena = arena_new();
	diff->reach = reach_new(stores, ARRAY_SIZE(stores));
	differ.reach = diff->reach;
	differ.deltas.arena = diff->arena;
	differ.changes.arena = diff->arena;
	differ.peer_groups = reach_peer_groups(diff->reach, &differ.peer_group_count);
	for (size_t from = 0; from < differ.peer_group_count; from++) {
		for (size_t to = 0; to < differ.peer_group_count; to++)
			pair_compare(&differ, from, to);
		row_finish(&differ, from);
	}
	diff->change_count = differ.changes.count;
	changes = arena_alloc(diff->arena, diff->change_count * sizeof(*changes));
	for (size_t i = 0; i < diff->change_count; i++)
		change_fill(&differ, i, &changes[i]);
	diff->changes = changes;
	differ_done(&differ);
	return diff;
}

void policy_diff_free(struct policy_diff *diff)
{
	if (!diff)
		return;
	reach_free(diff->reach);
	arena_free(diff->arena);
	free(diff);
}
