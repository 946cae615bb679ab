/* SPDX-License-Identifier: Apache-2.0 */
/* Linear probing in order of distance from home ("Robin Hood"), which has one layout only. */
#include "policy/compiler/id_pool.h"

struct id_pool_entry {
	uint64_t hash;
	uint32_t owner;
};

void id_pool_init(struct id_pool *pool, uint32_t first)
{
	pool->first = first;
	table_init(&pool->taken, sizeof(uint32_t), sizeof(struct id_pool_entry));
}

void id_pool_done(struct id_pool *pool)
{
	table_done(&pool->taken);
}

static uint32_t number_home(const struct id_pool *pool, uint64_t hash)
{
	return (uint32_t)hash < pool->first ? pool->first : (uint32_t)hash;
}

static uint32_t number_next(const struct id_pool *pool, uint32_t number)
{
	return number == UINT32_MAX ? pool->first : number + 1;
}

/* How far a holder of this number is from home. */
static uint32_t number_distance(const struct id_pool *pool, uint32_t number, uint64_t hash)
{
	uint32_t home = number_home(pool, hash);

	return number >= home ? number - home : number - pool->first + (UINT32_MAX - home) + 1;
}

static bool holder_yields(const struct id_pool *pool, uint32_t number,
			  const struct id_pool_entry *holder, uint64_t hash)
{
	uint32_t held = number_distance(pool, number, holder->hash);
	uint32_t wanted = number_distance(pool, number, hash);

	return held != wanted ? held < wanted : holder->hash > hash;
}

int id_pool_take(struct id_pool *pool, uint64_t hash, uint32_t owner, uint32_t *ret_number)
{
	struct id_pool_entry entry = { .hash = hash, .owner = owner }; /* the one to be placed */
	uint32_t number = number_home(pool, hash);
	struct id_pool_entry *holder;
	bool placed = false; /* the new owner has its number; entry is one that yielded */

	while ((holder = table_find(&pool->taken, &number))) {
		if (holder_yields(pool, number, holder, entry.hash)) {
			struct id_pool_entry yielded = *holder;

			*holder = entry;
			entry = yielded;
			if (!placed)
				*ret_number = number;
			placed = true;
		}
		number = number_next(pool, number);
	}
	holder = table_put(&pool->taken, &number);
	*holder = entry;
	if (!placed)
		*ret_number = number;
	return placed;
}

int id_pool_release(struct id_pool *pool, uint32_t number)
{
	int moved = 0;

	for (;;) {
		uint32_t next_number = number_next(pool, number);
		const struct id_pool_entry *next = table_find(&pool->taken, &next_number);
		struct id_pool_entry *holder;

		if (!next || number_distance(pool, next_number, next->hash) == 0)
			break;
		holder = table_find(&pool->taken, &number);
		*holder = *next;
		number = next_number;
		moved = 1;
	}
	table_del(&pool->taken, &number);
	return moved;
}

bool id_pool_each(const struct id_pool *pool, size_t *pos, uint32_t *ret_owner,
		  uint32_t *ret_number)
{
	const void *key;
	const struct id_pool_entry *holder = table_next(&pool->taken, pos, &key);

	if (!holder)
		return false;
	*ret_owner = holder->owner;
	*ret_number = *(const uint32_t *)key;
	return true;
}
