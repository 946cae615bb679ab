/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/sync/port_set.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/auto.h"

#define PORT_KEY_BITS 40 /* of port_key before the port: port_set and proto */

struct port_set {
	struct port_prefix *prefixes;
	uint32_t count;
	uint32_t generation; /* that last wanted it */
};

_Static_assert(sizeof(struct port_prefix) == 6, "port_prefix is compared as memory");

/* ---- rules to prefixes ----------------------------------------------------------------------- */

static int prefix_compare(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct port_prefix));
}

/* The largest aligned block that begins at min and does not pass max. */
static unsigned int block_bits(unsigned int min, unsigned int max)
{
	unsigned int bits = 0;

	while (bits < 16 && (min & ((2U << bits) - 1)) == 0 && min + (2U << bits) - 1 <= max)
		bits++;
	return bits;
}

struct port_prefix *port_prefixes_make(const struct port_rule *rules, size_t count,
				       size_t *ret_count)
{
	/* A range of 16 bits never needs more than 30 prefixes. */
	struct port_prefix *prefixes = xcalloc(count * 30 + 1, sizeof(*prefixes));
	size_t used = 0;

	for (size_t i = 0; i < count; i++) {
		unsigned int min = rules[i].proto ? rules[i].port_min : 0;
		unsigned int max = rules[i].proto ? rules[i].port_max : UINT16_MAX;

		while (min <= max) {
			unsigned int bits = block_bits(min, max);

			prefixes[used++] = (struct port_prefix){
				.port = (uint16_t)min,
				.proto = rules[i].proto,
				.len = (uint8_t)(16 - bits),
				.verdict = rules[i].verdict,
			};
			min += 1U << bits;
		}
	}
	qsort(prefixes, used, sizeof(*prefixes), prefix_compare);
	*ret_count = used;
	return prefixes;
}

/* ---- keys ------------------------------------------------------------------------------------ */

static struct port_key key_make(uint32_t id, const struct port_prefix *prefix)
{
	return (struct port_key){
		.prefixlen = PORT_KEY_BITS + prefix->len,
		.port_set = id,
		.proto = prefix->proto,
		.port = { (uint8_t)(prefix->port >> 8), (uint8_t)prefix->port },
	};
}

static struct port_prefix prefix_of_key(const struct port_key *key, uint8_t verdict)
{
	return (struct port_prefix){
		.port = (uint16_t)(key->port[0] << 8 | key->port[1]),
		.proto = key->proto,
		.len = (uint8_t)(key->prefixlen - PORT_KEY_BITS),
		.verdict = verdict,
	};
}

/* FNV-1a: stable across restarts, which table_hash() is not.  Collisions only cost a probe. */
static uint32_t id_make(const struct port_prefix *prefixes, size_t count)
{
	const unsigned char *bytes = (const unsigned char *)prefixes;
	uint32_t hash = 2166136261U;

	for (size_t i = 0; i < count * sizeof(*prefixes); i++)
		hash = (hash ^ bytes[i]) * 16777619U;
	return hash;
}

/* ---- sets ------------------------------------------------------------------------------------ */

/* Takes a prefix found in port_map into its set. */
static void set_add(struct port_sets *sets, uint32_t id, const struct port_prefix *prefix)
{
	struct port_set *set = table_put(&sets->sets, &id);

	set->prefixes = xreallocarray(set->prefixes, set->count + 1, sizeof(*set->prefixes));
	set->prefixes[set->count++] = *prefix;
}

void port_sets_init(struct port_sets *sets, struct map_cache *ports)
{
	struct port_set *set;
	const void *key;
	const void *verdict;
	size_t pos = 0;

	*sets = (struct port_sets){ .ports = ports };
	table_init(&sets->sets, sizeof(uint32_t), sizeof(struct port_set));
	while ((verdict = table_next(&ports->entries, &pos, &key))) {
		const struct port_key *port_key = key;
		struct port_prefix prefix = prefix_of_key(port_key, *(const uint8_t *)verdict);

		set_add(sets, port_key->port_set, &prefix);
	}
	pos = 0;
	while ((set = table_next(&sets->sets, &pos, NULL)))
		qsort(set->prefixes, set->count, sizeof(*set->prefixes), prefix_compare);
}

void port_sets_done(struct port_sets *sets)
{
	struct port_set *set;
	size_t pos = 0;

	while ((set = table_next(&sets->sets, &pos, NULL)))
		free(set->prefixes);
	table_done(&sets->sets);
}

void port_sets_begin(struct port_sets *sets)
{
	sets->generation++;
}

/* The set with exactly this content: one that is known, or a new one with the first free id from
 * its hash on. */
static struct port_set *set_find(struct port_sets *sets, struct port_prefix **prefixes,
				 size_t count, uint32_t *ret_id)
{
	uint32_t id = id_make(*prefixes, count);
	struct port_set *set;

	for (;; id++) {
		if (id == 0) /* means "rules are inline" in policy_map */
			continue;
		set = table_find(&sets->sets, &id);
		if (!set)
			break;
		if (set->count == count &&
		    memcmp(set->prefixes, *prefixes, count * sizeof(**prefixes)) == 0) {
			*ret_id = id;
			return set;
		}
	}
	set = table_put(&sets->sets, &id);
	/* Shrinks what was allocated for the worst case. */
	set->prefixes = xrealloc(take_ptr(*prefixes), count * sizeof(**prefixes) + 1);
	set->count = (uint32_t)count;
	*ret_id = id;
	return set;
}

uint32_t port_sets_want(struct port_sets *sets, const struct port_rule *rules, size_t count)
{
	size_t prefix_count;
	auto_free struct port_prefix *prefixes = port_prefixes_make(rules, count, &prefix_count);
	uint32_t id;
	struct port_set *set = set_find(sets, &prefixes, prefix_count, &id);

	if (set->generation == sets->generation)
		return id; /* queued by an earlier entry of this run */
	set->generation = sets->generation;
	for (size_t i = 0; i < set->count; i++) {
		struct port_key key = key_make(id, &set->prefixes[i]);

		map_cache_set(sets->ports, &key, &set->prefixes[i].verdict);
	}
	return id;
}

bool port_set_is_whole(const struct port_sets *sets, uint32_t id)
{
	const struct port_set *set = table_find(&sets->sets, &id);

	if (!set)
		return false;
	for (size_t i = 0; i < set->count; i++) {
		struct port_key key = key_make(id, &set->prefixes[i]);

		if (!map_cache_get(sets->ports, &key))
			return false;
	}
	return true;
}

void port_sets_keep(struct port_sets *sets, uint32_t id)
{
	struct port_set *set = id ? table_find(&sets->sets, &id) : NULL;

	if (!set || set->generation == sets->generation)
		return;
	set->generation = sets->generation;
	for (size_t i = 0; i < set->count; i++) {
		struct port_key key = key_make(id, &set->prefixes[i]);

		map_cache_keep(sets->ports, &key);
	}
}

int port_sets_sweep(struct port_sets *sets)
{
	struct port_set *set;
	const void *key;
	size_t pos = 0;

	while ((set = table_next(&sets->sets, &pos, &key))) {
		if (set->generation == sets->generation)
			continue;
		free(take_ptr(set->prefixes));
		table_del(&sets->sets, key);
	}
	return map_cache_sweep(sets->ports, NULL, NULL);
}
