/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/objects/maglev.h"

#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/auto.h"

#define PLACES_EACH 100
#define EMPTY       UINT32_MAX

/* Where a backend looks for a free place: first, then skip places further each time. */
struct permutation {
	uint32_t next;
	uint32_t skip;
};

uint32_t maglev_size(size_t backends)
{
	static const uint32_t primes[] = { 251, 509, 1021, 2039, 4093, 8191, MAGLEV_SIZE_MAX };

	if (backends < 2)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(primes); i++) {
		if (primes[i] >= backends * PLACES_EACH)
			return primes[i];
	}
	return MAGLEV_SIZE_MAX;
}

/* FNV-1a with a final mix: the same on every node, unlike table_hash(). */
static uint64_t backend_hash(const struct backend *backend, uint64_t seed)
{
	const unsigned char *bytes = (const unsigned char *)backend;
	uint64_t hash = 0xcbf29ce484222325ULL ^ seed;

	for (size_t i = 0; i < sizeof(*backend); i++)
		hash = (hash ^ bytes[i]) * 0x100000001b3ULL;
	hash = (hash ^ hash >> 33) * 0xff51afd7ed558ccdULL;
	return hash ^ hash >> 33;
}

void maglev_fill(const struct backend *backends, size_t count, uint32_t *table, uint32_t size)
{
	auto_free struct permutation *permutations = xcalloc(count, sizeof(*permutations));
	uint32_t filled = 0;

	for (size_t i = 0; i < count; i++) {
		permutations[i].next = (uint32_t)(backend_hash(&backends[i], 1) % size);
		permutations[i].skip = (uint32_t)(backend_hash(&backends[i], 2) % (size - 1)) + 1;
	}
	for (uint32_t i = 0; i < size; i++)
		table[i] = EMPTY;
	for (size_t i = 0; filled < size; i = (i + 1) % count) {
		struct permutation *permutation = &permutations[i];

		while (table[permutation->next] != EMPTY)
			permutation->next = (permutation->next + permutation->skip) % size;
		table[permutation->next] = (uint32_t)i;
		filled++;
	}
}
