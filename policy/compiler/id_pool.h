/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers for the maps that follow content alone: the hash, or, where two contents want one number,
 * the next that is free.  Who has which number depends on who is there, not on who came first: of
 * two the one with the smaller hash stays at home.  Internal to the compiler.
 */
#ifndef TENDRIL_POLICY_COMPILER_ID_POOL_H
#define TENDRIL_POLICY_COMPILER_ID_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/table.h"

struct numbers {
	struct table taken; /* number -> struct id_pool_entry */
	uint32_t first;     /* smaller ones mean something else */
};

void id_pool_init(struct numbers *numbers, uint32_t first);
void id_pool_done(struct numbers *numbers);

/* Gives an owner a number.  1: others had to move, ask id_pool_each() for all; -ENOMEM leaves
 * numbers to be thrown away. */
int id_pool_take(struct numbers *numbers, uint64_t hash, uint32_t owner, uint32_t *ret_number);
/* Takes it back; likewise. */
int id_pool_release(struct numbers *numbers, uint32_t number);

/* The owners and what they have now, in no order. */
bool id_pool_each(const struct numbers *numbers, size_t *pos, uint32_t *ret_owner,
		  uint32_t *ret_number);

#endif
