/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/table.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "lib/alloc.h"

/* The state of a slot; one that is used has SLOT_USED and seven bits of its key's hash, so that a
 * search seldom looks at a slot that is not the one: each look may be a miss of the cache. */
enum { SLOT_EMPTY, SLOT_DELETED, SLOT_USED = 0x80 };

#define CAPACITY_MIN 16

/* ---- SipHash-1-3 ----------------------------------------------------------------------------- */

static uint64_t rotate(uint64_t x, unsigned int bits)
{
	return (x << bits) | (x >> (64 - bits));
}

static void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotate(v[1], 13) ^ v[0];
	v[0] = rotate(v[0], 32);
	v[2] += v[3];
	v[3] = rotate(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotate(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotate(v[1], 17) ^ v[2];
	v[2] = rotate(v[2], 32);
}

static const uint64_t *hash_key(void)
{
	static uint64_t key[2];

	/* Without entropy (a very early boot) a fixed key only loses the protection. */
	if (!key[0] && getrandom(key, sizeof(key), GRND_NONBLOCK) != (ssize_t)sizeof(key))
		key[1] = 1;
	key[0] |= 1; /* drawn */
	return key;
}

uint64_t table_hash(const void *data, size_t len)
{
	const unsigned char *bytes = data;
	const uint64_t *key = hash_key();
	uint64_t v[4] = {
		key[0] ^ 0x736f6d6570736575ULL,
		key[1] ^ 0x646f72616e646f6dULL,
		key[0] ^ 0x6c7967656e657261ULL,
		key[1] ^ 0x7465646279746573ULL,
	};
	uint64_t word;
	size_t left;

	for (left = len; left >= sizeof(word); left -= sizeof(word), bytes += sizeof(word)) {
		memcpy(&word, bytes, sizeof(word));
		v[3] ^= word;
		sip_round(v);
		v[0] ^= word;
	}
	word = (uint64_t)len << 56;
	for (size_t i = 0; i < left; i++)
		word |= (uint64_t)bytes[i] << (8 * i);
	v[3] ^= word;
	sip_round(v);
	v[0] ^= word;
	v[2] ^= 0xff;
	for (int i = 0; i < 3; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* ---- table ----------------------------------------------------------------------------------- */

static size_t align8(size_t size)
{
	return (size + 7) & ~(size_t)7;
}

void table_init(struct table *table, size_t key_size, size_t value_size)
{
	static uint64_t tables;

	tables++;
	*table = (struct table){
		.key_size = key_size,
		.value_at = align8(key_size),
		.stride = align8(key_size) + align8(value_size),
		.salt = table_hash(&tables, sizeof(tables)) | 1,
	};
}

void table_done(struct table *table)
{
	free(table->slots);
	free(table->state);
	table_init(table, table->key_size, table->stride - table->value_at);
}

static unsigned char *slot_at(const struct table *table, size_t i)
{
	return table->slots + i * table->stride;
}

/* Index of the key's slot, or of the slot where it may be put; a table is never quite full.  With
 * the same order in all tables, who copies a table would fill the new one from one end: each entry
 * would go behind all others, and the copy take time by the square of their number. */
static size_t slot_find(const struct table *table, const void *key, unsigned char *ret_state,
			bool *ret_found)
{
	uint64_t hash = table_hash(key, table->key_size) * table->salt;
	size_t i = (size_t)((hash >> 32) * table->capacity >> 32);
	size_t free_slot = table->capacity;

	*ret_state = SLOT_USED | (hash & 0x7f);
	*ret_found = false;
	/* NOLINTNEXTLINE(*Malloc): after table_resize() state is that of the new table */
	for (; table->state[i] != SLOT_EMPTY; i = i + 1 == table->capacity ? 0 : i + 1) {
		if (table->state[i] == SLOT_DELETED) {
			if (free_slot == table->capacity)
				free_slot = i;
		} else if (table->state[i] == *ret_state &&
			   memcmp(slot_at(table, i), key, table->key_size) == 0) {
			*ret_found = true;
			return i;
		}
	}
	return free_slot == table->capacity ? i : free_slot;
}

/* Moves what there is to a table of this capacity; drops deleted slots, so that chains are short.
 */
static void table_resize(struct table *table, size_t capacity)
{
	struct table resized = *table;
	bool found;

	resized.capacity = capacity < CAPACITY_MIN ? CAPACITY_MIN : capacity;
	resized.slots = xcalloc(resized.capacity, resized.stride);
	resized.state = xcalloc(resized.capacity, 1);
	resized.deleted = 0;
	for (size_t i = 0; i < table->capacity; i++) {
		unsigned char state;
		size_t to;

		if (!(table->state[i] & SLOT_USED))
			continue;
		to = slot_find(&resized, slot_at(table, i), &state, &found);
		memcpy(slot_at(&resized, to), slot_at(table, i), table->stride);
		resized.state[to] = state;
	}
	free(table->slots);
	free(table->state);
	*table = resized;
}

/* Whether so many slots may be in use: searches get long in a full table. */
static bool has_room(const struct table *table, size_t slots)
{
	return slots <= table->capacity / 5 * 4;
}

void table_reserve(struct table *table, size_t count)
{
	if (!has_room(table, table->count + table->deleted + count))
		table_resize(table, (table->count + count) / 4 * 5 + 10);
}

void *table_find(const struct table *table, const void *key)
{
	unsigned char state;
	bool found;
	size_t i;

	if (table->capacity == 0)
		return NULL;
	i = slot_find(table, key, &state, &found);
	return found ? slot_at(table, i) + table->value_at : NULL;
}

void *table_put(struct table *table, const void *key)
{
	unsigned char *slot, state = SLOT_USED;
	bool found = false;
	size_t i = 0;

	if (table->capacity) {
		i = slot_find(table, key, &state, &found);
		if (found)
			return slot_at(table, i) + table->value_at;
	}
	if (!has_room(table, table->count + table->deleted + 1)) {
		table_resize(table, table->count / 4 * 7);
		i = slot_find(table, key, &state, &found);
	}
	if (table->state[i] == SLOT_DELETED) /* NOLINT(*Malloc): table_resize() replaced it */
		table->deleted--;
	table->state[i] = state;
	table->count++;
	slot = slot_at(table, i);
	memset(slot, 0, table->stride);
	memcpy(slot, key, table->key_size);
	return slot + table->value_at;
}

bool table_del(struct table *table, const void *key)
{
	unsigned char state;
	bool found = false;
	size_t i;

	if (table->capacity == 0)
		return false;
	i = slot_find(table, key, &state, &found);
	if (!found)
		return false;
	table->state[i] = SLOT_DELETED;
	table->deleted++;
	table->count--;
	return true;
}

void *table_next(const struct table *table, size_t *pos, const void **ret_key)
{
	while (*pos < table->capacity) {
		size_t i = (*pos)++;

		if (!(table->state[i] & SLOT_USED))
			continue;
		if (ret_key)
			*ret_key = slot_at(table, i);
		return slot_at(table, i) + table->value_at;
	}
	return NULL;
}
