/* SPDX-License-Identifier: Apache-2.0 */
/* Linear probing in order of distance from home ("Robin Hood"), which has one layout only. */
#include "policy/compiler/id_pool.h"

#include <errno.h>

struct id_pool_entry {
	uint64_t hash;
	uint32_t owner;
};

void id_pool_init(struct numbers *numbers, uint32_t first)
{
	numbers->first = first;
	table_init(&numbers->taken, sizeof(uint32_t), sizeof(struct id_pool_entry));
}

void id_pool_done(struct numbers *numbers)
{
	table_done(&numbers->taken);
}

static uint32_t number_home(const struct numbers *numbers, uint64_t hash)
{
	return (uint32_t)hash < numbers->first ? numbers->first : (uint32_t)hash;
}

static uint32_t number_next(const struct numbers *numbers, uint32_t number)
{
	return number == UINT32_MAX ? numbers->first : number + 1;
}

/* How far a holder of this number is from home. */
static uint32_t number_distance(const struct numbers *numbers, uint32_t number, uint64_t hash)
{
	uint32_t home = number_home(numbers, hash);

	return number >= home ? number - home : number - numbers->first + (UINT32_MAX - home) + 1;
}

static bool holder_yields(const struct numbers *numbers, uint32_t number,
			  const struct id_pool_entry *holder, uint64_t hash)
{
	uint32_t held = number_distance(numbers, number, holder->hash);
	uint32_t wanted = number_distance(numbers, number, hash);

	return held != wanted ? held < wanted : holder->hash > hash;
}

int id_pool_take(struct numbers *numbers, uint64_t hash, uint32_t owner, uint32_t *ret_number)
{
	struct id_pool_entry homeless = { .hash = hash, .owner = owner };
	uint32_t number = number_home(numbers, hash);
	struct id_pool_entry *holder;
	bool settled = false;
	int moved = 0;

	while ((holder = table_find(&numbers->taken, &number))) {
		if (holder_yields(numbers, number, holder, homeless.hash)) {
			struct id_pool_entry before = *holder;

			*holder = homeless;
			homeless = before;
			if (!settled)
				*ret_number = number;
			moved = 1;
			settled = true;
		}
		number = number_next(numbers, number);
	}
	holder = table_put(&numbers->taken, &number);
	if (!holder)
		return -ENOMEM;
	*holder = homeless;
	if (!settled)
		*ret_number = number;
	return moved;
}

int id_pool_release(struct numbers *numbers, uint32_t number)
{
	int moved = 0;

	for (;;) {
		uint32_t next = number_next(numbers, number);
		const struct id_pool_entry *incremental = table_find(&numbers->taken, &next);
		struct id_pool_entry *holder;

		if (!incremental || number_distance(numbers, next, incremental->hash) == 0)
			break;
		holder = table_find(&numbers->taken, &number);
		*holder = *incremental;
		number = next;
		moved = 1;
	}
	table_del(&numbers->taken, &number);
	return moved;
}

bool id_pool_each(const struct numbers *numbers, size_t *pos, uint32_t *ret_owner,
		  uint32_t *ret_number)
{
	const void *key;
	const struct id_pool_entry *holder = table_next(&numbers->taken, pos, &key);

	if (!holder)
		return false;
	*ret_owner = holder->owner;
	*ret_number = *(const uint32_t *)key;
	return true;
}
