/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers for the maps that depend only on content.  A content gets its hash as number; if two want
 * one number, one of them gets the next free one.  The numbers depend on the contents in the pool,
 * not on the order in which they were added: of two, the one with the smaller hash keeps its own
 * number.  Internal to the compiler.
 */
#ifndef TENDRIL_POLICY_COMPILER_ID_POOL_H
#define TENDRIL_POLICY_COMPILER_ID_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/table.h"

struct id_pool {
	struct table taken; /* number -> struct id_pool_entry */
	uint32_t first;     /* smaller numbers have a fixed meaning */
};

void id_pool_init(struct id_pool *pool, uint32_t first);
void id_pool_done(struct id_pool *pool);

/* Gives an owner a number.  Returns 1 if other owners got a new number, see id_pool_each(). */
int id_pool_take(struct id_pool *pool, uint64_t hash, uint32_t owner, uint32_t *ret_number);
/* Releases a number; returns the same. */
int id_pool_release(struct id_pool *pool, uint32_t number);

/* Walks the owners and their numbers, in no order; *pos is 0 at the start.  False: no more. */
bool id_pool_each(const struct id_pool *pool, size_t *pos, uint32_t *ret_owner,
		  uint32_t *ret_number);

#endif
