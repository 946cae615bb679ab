/* SPDX-License-Identifier: Apache-2.0 */
/* Worlds that change at random, a little at a time.  What is drawn follows random_begin(). */
#ifndef TENDRIL_TESTS_UNIT_STORE_SHUFFLE_H
#define TENDRIL_TESTS_UNIT_STORE_SHUFFLE_H

#include "policy/objects/store.h"
#include "unit/random_store.h"

#define RANDOM_SLOTS 6 /* of endpoints: from 1 on */

/* Puts so many objects of a random scene, under the names that the objects of all scenes share. */
void random_objects_put(struct store *store, uint32_t percent);
/* One or a few objects or endpoints come, go or change; the node's addresses only if hosts. */
void store_shuffle(struct store *store, bool hosts);

#endif
