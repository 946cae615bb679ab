/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers for the maps that depend on content alone.  A content gets its hash as number, or, where
 * two want one number, the next free one.  Which content has which number depends on what is in the
 * pool, not on the order in which it came: of two, the one with the smaller hash keeps its own.
 * Internal to the compiler.
 */
#ifndef TENDRIL_POLICY_COMPILER_ID_POOL_H
#define TENDRIL_POLICY_COMPILER_ID_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/table.h"

struct id_pool {
	struct table taken; /* number -> struct id_pool_entry */
	uint32_t first;     /* smaller ones mean something else */
};

void id_pool_init(struct id_pool *pool, uint32_t first);
void id_pool_done(struct id_pool *pool);

/* Gives an owner a number.  Returns 1 if others got another number: ask id_pool_each() for all. */
int id_pool_take(struct id_pool *pool, uint64_t hash, uint32_t owner, uint32_t *ret_number);
/* Takes a number back; the result is the same. */
int id_pool_release(struct id_pool *pool, uint32_t number);

/* Walks the owners and their numbers, in no order; *pos is 0 at the start.  False: no more. */
bool id_pool_each(const struct id_pool *pool, size_t *pos, uint32_t *ret_owner,
		  uint32_t *ret_number);

#endif
