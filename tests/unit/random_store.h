/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random scenes and queries about them.  One seed gives one scene and its queries, whatever was
 * drawn before.
 */
#ifndef TENDRIL_TESTS_UNIT_RANDOM_STORE_H
#define TENDRIL_TESTS_UNIT_RANDOM_STORE_H

#include "unit/snapshot.h"

#define SNAPSHOT_LOCAL_MAX 8 /* endpoints of a random scene's node */

void random_begin(uint64_t seed);
uint32_t random_below(uint32_t limit);
bool chance(uint32_t percent);

/* node: seen from a node with some of the pods; else from nowhere. */
struct snapshot random_snapshot(bool node);
/* Other policies, and other labels here and there; pods and addresses stay. */
void random_change(struct snapshot *snapshot);

/* The addresses that queries about a scene are about: of its pods, of its node, of others. */
struct addresses {
	const char *items[64]; /* borrowed from the scene */
	size_t count;
	size_t local_count; /* the first ones are the endpoints' */
};

void addresses_collect(const struct snapshot *snapshot, struct addresses *ret);
/* A flow between two addresses of one family; local: at least one is an endpoint's, of which there
 * must be one. */
struct query random_query(const struct addresses *addresses, bool local);

/* From the environment, or otherwise. */
uint64_t env_number(const char *name, uint64_t otherwise);

#endif
