/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/analysis/port_pool.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Blocks of the line; ports of a block begin at 1, there is no port 0. */
static const uint8_t block_protocols[] = { IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP };
#define BLOCK_SIZE 65536U
#define BLOCKS     ARRAY_SIZE(block_protocols)
#define OTHERS     (BLOCKS * BLOCK_SIZE + 1)

enum set_operation { OPERATION_BOTH, OPERATION_EITHER, OPERATION_WITHOUT };

static const struct port_range everything[] = {
	{ 1, BLOCK_SIZE - 1 },
	{ BLOCK_SIZE + 1, 2 * BLOCK_SIZE - 1 },
	{ 2 * BLOCK_SIZE + 1, 3 * BLOCK_SIZE - 1 },
	{ OTHERS, OTHERS },
};

/* ---- the scratch list, and from it to a number ---- */

static void scratch_add(struct port_pool *pool, uint32_t first, uint32_t last)
{
	struct port_range *end =
		pool->scratch_count ? &pool->scratch[pool->scratch_count - 1] : NULL;

	if (end && end->last + 1 >= first) { /* blocks never touch: their number 0 is in no set */
		if (last > end->last)
			end->last = last;
		return;
	}
	array_room(&pool->scratch, pool->scratch_count, &pool->scratch_capacity,
		   sizeof(*pool->scratch));
	pool->scratch[pool->scratch_count++] = (struct port_range){ first, last };
}

static uint32_t scratch_intern(struct port_pool *pool)
{
	size_t number = intern_add(&pool->sets, pool->scratch,
				   pool->scratch_count * sizeof(*pool->scratch));

	pool->scratch_count = 0;
	return (uint32_t)number;
}

static const struct port_range *set_ranges(const struct port_pool *pool, uint32_t set,
					   size_t *ret_count)
{
	*ret_count = pool->sets.items[set].len / sizeof(struct port_range);
	return pool->sets.items[set].key;
}

void port_pool_init(struct port_pool *pool, struct arena *arena)
{
	*pool = (struct port_pool){ .arena = arena };
	pool->sets.arena = arena;
	pool->operations.arena = arena;
	scratch_intern(pool); /* PORTS_NONE */
	for (size_t i = 0; i < ARRAY_SIZE(everything); i++)
		scratch_add(pool, everything[i].first, everything[i].last);
	scratch_intern(pool); /* PORTS_ALL */
}

void port_pool_done(struct port_pool *pool)
{
	intern_done(&pool->sets);
	intern_done(&pool->operations);
	free(pool->results);
	free(pool->scratch);
	*pool = (struct port_pool){ 0 };
}

/* ---- algebra ---- */

/* Whether a point that is in left or right alone, or in both, is in the result. */
static bool operation_keeps(enum set_operation operation, bool left, bool right)
{
	switch (operation) {
	case OPERATION_BOTH:
		return left && right;
	case OPERATION_EITHER:
		return left || right;
	case OPERATION_WITHOUT:
		return left && !right;
	}
	return false;
}

/* A walk over the borders of one set: the points where it changes between outside and inside. */
struct range_cursor {
	const struct port_range *ranges;
	size_t count;
	size_t at;
	bool inside;
};

static uint32_t cursor_border(const struct range_cursor *cursor)
{
	if (cursor->at == cursor->count)
		return UINT32_MAX;
	return cursor->inside ? cursor->ranges[cursor->at].last + 1
			      : cursor->ranges[cursor->at].first;
}

static void cursor_pass(struct range_cursor *cursor, uint32_t border)
{
	if (cursor_border(cursor) != border)
		return;
	cursor->at += cursor->inside;
	cursor->inside = !cursor->inside;
}

static uint32_t sets_sweep(struct port_pool *pool, enum set_operation operation, uint32_t left_set,
			   uint32_t right_set)
{
	struct range_cursor left = { 0 }, right = { 0 };
	uint32_t begun = 0;
	bool keeping = false;

	left.ranges = set_ranges(pool, left_set, &left.count);
	right.ranges = set_ranges(pool, right_set, &right.count);
	for (;;) {
		uint32_t a = cursor_border(&left), b = cursor_border(&right);
		uint32_t border = a < b ? a : b;
		bool keeps;

		if (border == UINT32_MAX)
			break;
		cursor_pass(&left, border);
		cursor_pass(&right, border);
		keeps = operation_keeps(operation, left.inside, right.inside);
		if (keeps && !keeping)
			begun = border;
		if (!keeps && keeping)
			scratch_add(pool, begun, border - 1);
		keeping = keeps;
	}
	return scratch_intern(pool);
}

static uint32_t sets_operate(struct port_pool *pool, enum set_operation operation, uint32_t left,
			     uint32_t right)
{
	const uint32_t key[] = { operation, left, right };
	size_t known = pool->operations.count;
	size_t number = intern_add(&pool->operations, key, sizeof(key));

	if (number < known)
		return pool->results[number];
	array_room(&pool->results, known, &pool->result_capacity, sizeof(*pool->results));
	pool->results[number] = sets_sweep(pool, operation, left, right);
	return pool->results[number];
}

uint32_t ports_both(struct port_pool *pool, uint32_t left, uint32_t right)
{
	if (left == right || right == PORTS_ALL || left == PORTS_NONE)
		return left;
	if (left == PORTS_ALL || right == PORTS_NONE)
		return right;
	return sets_operate(pool, OPERATION_BOTH, left, right);
}

uint32_t ports_either(struct port_pool *pool, uint32_t left, uint32_t right)
{
	if (left == right || right == PORTS_NONE || left == PORTS_ALL)
		return left;
	if (left == PORTS_NONE || right == PORTS_ALL)
		return right;
	return sets_operate(pool, OPERATION_EITHER, left, right);
}

uint32_t ports_without(struct port_pool *pool, uint32_t left, uint32_t right)
{
	if (left == right || left == PORTS_NONE || right == PORTS_ALL)
		return PORTS_NONE;
	if (right == PORTS_NONE)
		return left;
	return sets_operate(pool, OPERATION_WITHOUT, left, right);
}

/* ---- from rules ---- */

/* The block of a protocol; BLOCKS for those that have no ports. */
static uint32_t proto_block(uint8_t proto)
{
	uint32_t block = 0;

	while (block < BLOCKS && block_protocols[block] != proto)
		block++;
	return block;
}

uint32_t ports_of_range(struct port_pool *pool, uint8_t proto, uint16_t min, uint16_t max)
{
	uint32_t block = proto_block(proto);

	if (block < BLOCKS && max > 0)
		scratch_add(pool, block * BLOCK_SIZE + (min ? min : 1), block * BLOCK_SIZE + max);
	return scratch_intern(pool);
}

uint32_t ports_of_rules(struct port_pool *pool, const struct port_rule *rules, size_t count)
{
	uint32_t allowed = PORTS_NONE, decided = PORTS_NONE;

	for (size_t i = 0; i < count; i++) {
		const struct port_rule *rule = &rules[i];
		uint32_t ports = rule->proto == 0 ? PORTS_ALL
						  : ports_of_range(pool, rule->proto,
								   rule->port_min, rule->port_max);

		if (rule->verdict == VERDICT_ALLOW)
			allowed = ports_either(pool, allowed, ports_without(pool, ports, decided));
		decided = ports_either(pool, decided, ports);
	}
	return allowed;
}

/* ---- what a set holds ---- */

bool ports_hold(const struct port_pool *pool, uint32_t set, uint8_t proto, uint16_t port)
{
	uint32_t block = proto_block(proto);
	uint32_t point = block == BLOCKS ? OTHERS : block * BLOCK_SIZE + port;
	size_t count;
	const struct port_range *ranges = set_ranges(pool, set, &count);

	for (size_t i = 0; i < count; i++) {
		if (ranges[i].first <= point && point <= ranges[i].last)
			return true;
	}
	return false;
}

bool ports_span(const struct port_pool *pool, uint32_t set, size_t n, struct port_span *ret_span)
{
	size_t count;
	const struct port_range *ranges = set_ranges(pool, set, &count);
	uint32_t block;

	if (n >= count)
		return false;
	block = ranges[n].first / BLOCK_SIZE;
	if (block == BLOCKS)
		*ret_span = (struct port_span){ 0 };
	else
		*ret_span = (struct port_span){ .proto = block_protocols[block],
						.min = (uint16_t)(ranges[n].first % BLOCK_SIZE),
						.max = (uint16_t)(ranges[n].last % BLOCK_SIZE) };
	return true;
}

static void spans_text(const struct port_pool *pool, uint32_t set, struct buffer *text)
{
	struct port_span span;
	char words[32];

	for (size_t n = 0; ports_span(pool, set, n, &span); n++) {
		const char *proto = proto_name(span.proto);

		if (span.proto == 0)
			snprintf(words, sizeof(words), "other protocols");
		else if (span.min == 1 && span.max == BLOCK_SIZE - 1)
			snprintf(words, sizeof(words), "all %s", proto);
		else if (span.min == span.max)
			snprintf(words, sizeof(words), "%u/%s", span.min, proto);
		else
			snprintf(words, sizeof(words), "%u-%u/%s", span.min, span.max, proto);
		buffer_string(text, n ? ", " : "");
		buffer_string(text, words);
	}
}

void ports_text(struct port_pool *pool, uint32_t set, struct buffer *text)
{
	uint32_t rest = ports_without(pool, PORTS_ALL, set);

	if (set == PORTS_NONE) {
		buffer_string(text, "nothing");
	} else if (rest == PORTS_NONE) {
		buffer_string(text, "all ports");
	} else if (pool->sets.items[rest].len < pool->sets.items[set].len) {
		buffer_string(text, "all ports but ");
		spans_text(pool, rest, text);
	} else {
		spans_text(pool, set, text);
	}
}
