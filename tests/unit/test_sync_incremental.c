/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sync behind a store that changes at random, against maps in memory: after every step they hold
 * what a first sync would have written into empty ones, also where they were too small in between,
 * or where the agent was killed after some write; and a step writes no more than what differs.
 *
 *     SYNC_SEED=7 SYNC_STORES=1 build/unit/test_sync_incremental
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/sync/sync_internal.h"
#include "lib/auto.h"
#include "unit/fake_maps.h"
#include "unit/store_shuffle.h"

#include <cmocka.h> /* last: it makes fail a macro */

#define STORES      60
#define STEPS       20
#define SECONDS_MAX 2

static const enum map_id maps_of_policy[] = { MAP_IPCACHE, MAP_CIDR, MAP_POLICY, MAP_PORT };

struct node {
	struct datapath maps;
	struct sync *sync;
};

struct trial {
	uint64_t seed;
	int step;
	struct store *store;
	struct node node;
	unsigned int told; /* that the revision was raised */
	bool narrow;       /* maps may be too small */
};

#define check(trial, condition)                                                     \
	do {                                                                        \
		if (!(condition))                                                   \
			fail_msg("SYNC_SEED=%llu, step %d: " #condition,            \
				 (unsigned long long)(trial)->seed, (trial)->step); \
	} while (0)

static void node_begin(struct node *node, struct store *store)
{
	fake_maps_init(&node->maps);
	for (int slot = 1; slot < FAKE_ENDPOINTS; slot++)
		node->maps.endpoints[slot].flags = ENDPOINT_VALID;
	assert_int_equal(sync_new(NULL, &node->maps, store, &node->sync, NULL), 0);
	sync_set_missing(node->sync, NULL);
}

static void node_end(struct node *node)
{
	sync_free(node->sync);
	fake_maps_done(&node->maps);
}

/* ---- comparing ---- */

static size_t value_size(enum map_id map)
{
	switch (map) {
	case MAP_IPCACHE:
		return sizeof(struct ipcache_entry);
	case MAP_CIDR:
		return sizeof(uint32_t);
	case MAP_POLICY:
		return sizeof(struct policy_entry);
	default:
		return sizeof(uint8_t);
	}
}

/* How many entries of a are not as they are in b. */
static size_t map_differences(const struct datapath *a, const struct datapath *b, enum map_id map)
{
	size_t count = 0;
	size_t pos = 0;
	const void *key;
	const void *value;

	while ((value = table_next(&a->maps[map], &pos, &key))) {
		const void *other = fake_map_get(b, map, key);

		count += !other || memcmp(value, other, value_size(map)) != 0;
	}
	return count;
}

/* How many prefixes of port set id in a are not, with the same verdict, in set other of b. */
static size_t port_set_differences(const struct datapath *a, uint32_t id, const struct datapath *b,
				   uint32_t other)
{
	size_t count = 0;
	size_t pos = 0;
	const void *key;
	const uint8_t *verdict;

	while ((verdict = table_next(&a->maps[MAP_PORT], &pos, &key))) {
		struct port_key wanted = *(const struct port_key *)key;
		const uint8_t *found;

		if (wanted.port_set != id)
			continue;
		wanted.port_set = other;
		found = fake_map_get(b, MAP_PORT, &wanted);
		count += !found || *found != *verdict;
	}
	return count;
}

/* As map_differences() of policy_map, but where a part of a port set was left under its number, the
 * whole set has another one. */
static size_t policy_differences(const struct datapath *a, const struct datapath *b)
{
	size_t count = 0;
	size_t pos = 0;
	const void *key;
	const struct policy_entry *entry;

	while ((entry = table_next(&a->maps[MAP_POLICY], &pos, &key))) {
		const struct policy_entry *found = fake_map_get(b, MAP_POLICY, key);
		struct policy_entry same;

		count += !found;
		if (!found)
			continue;
		same = *found;
		same.port_set = entry->port_set;
		count += memcmp(&same, entry, sizeof(same)) != 0 ||
			 !entry->port_set != !found->port_set ||
			 port_set_differences(a, entry->port_set, b, found->port_set) != 0;
	}
	return count;
}

static void compare_endpoints(const struct trial *trial, const struct datapath *maps,
			      const struct datapath *fresh)
{
	const struct store_endpoint *endpoints;
	size_t count = store_endpoints(trial->store, &endpoints);

	for (size_t i = 0; i < count; i++)
		check(trial, memcmp(&maps->endpoints[endpoints[i].slot],
				    &fresh->endpoints[endpoints[i].slot],
				    sizeof(struct endpoint_entry)) == 0);
	check(trial, (maps->node.flags & NODE_HAS_CIDRS) == (fresh->node.flags & NODE_HAS_CIDRS));
}

static void compare_maps(const struct trial *trial, const struct datapath *maps,
			 const struct datapath *fresh)
{
	for (size_t i = 0; i < ARRAY_SIZE(maps_of_policy); i++) {
		check(trial, map_differences(maps, fresh, maps_of_policy[i]) == 0);
		check(trial, map_differences(fresh, maps, maps_of_policy[i]) == 0);
	}
	compare_endpoints(trial, maps, fresh);
}

/* ---- steps ---- */

static void copy_maps(const struct datapath *maps, struct datapath *ret_copy)
{
	fake_maps_init(ret_copy);
	ret_copy->node = maps->node;
	memcpy(ret_copy->endpoints, maps->endpoints, sizeof(maps->endpoints));
	memcpy(ret_copy->capacity, maps->capacity, sizeof(maps->capacity));
	for (size_t i = 0; i < ARRAY_SIZE(maps_of_policy); i++) {
		enum map_id map = maps_of_policy[i];
		size_t pos = 0;
		const void *key;
		const void *value;

		while ((value = table_next(&maps->maps[map], &pos, &key)))
			assert_int_equal(maps_set_batch(ret_copy, map, key, value, 1, NULL), 0);
	}
}

/* What had to be written, the endpoints, and what policies that go may be lent for a moment:
 * entries of those that come, and of identities that were nobody's. */
static void check_writes(const struct trial *trial, const struct datapath *before,
			 const struct compiled *compiled)
{
	const struct datapath *maps = &trial->node.maps;
	size_t lent = fake_map_count(maps, MAP_POLICY) + 2 * compiled->identity_count;
	size_t needed = 0;

	for (size_t i = 0; i < ARRAY_SIZE(maps_of_policy); i++) {
		enum map_id map = maps_of_policy[i];

		needed += map_differences(maps, before, map);
		needed += map_differences(before, maps, map);
	}
	check(trial, maps->writes <= needed + RANDOM_SLOTS + 2 * RANDOM_SLOTS * lent);
}

/* What a SIGKILL after one of the writes leaves. */
struct killing {
	unsigned int after; /* so many writes */
	struct datapath maps;
	bool done;
};

static void maybe_kill(struct datapath *maps, void *arg)
{
	struct killing *killing = arg;

	if (maps->writes != killing->after)
		return;
	copy_maps(maps, &killing->maps);
	killing->done = true;
}

static bool maps_equal(const struct datapath *a, const struct datapath *b)
{
	for (size_t i = 0; i < ARRAY_SIZE(maps_of_policy); i++) {
		if (map_differences(a, b, maps_of_policy[i]) ||
		    map_differences(b, a, maps_of_policy[i]))
			return false;
	}
	return memcmp(a->endpoints, b->endpoints, sizeof(a->endpoints)) == 0;
}

/* The next agent leaves nothing of the half that was written, and live flows ask again. */
static void check_killed(const struct trial *trial, struct killing *killing,
			 const struct datapath *before, const struct compiled *compiled,
			 struct store *nothing, const struct datapath *fresh)
{
	bool differed = !maps_equal(&killing->maps, before);
	struct errmsg err = { 0 };
	struct sync *sync;
	int ret;

	assert_int_equal(sync_new(NULL, &killing->maps, nothing, &sync, NULL), 0);
	sync_set_missing(sync, NULL);
	ret = sync_apply(sync, compiled, &err);
	check(trial, ret == 0 || ret == -ENOSPC);
	if (ret == 0) {
		check(trial, map_differences(&killing->maps, fresh, MAP_IPCACHE) == 0);
		check(trial, map_differences(fresh, &killing->maps, MAP_IPCACHE) == 0);
		check(trial, map_differences(&killing->maps, fresh, MAP_CIDR) == 0);
		check(trial, map_differences(fresh, &killing->maps, MAP_CIDR) == 0);
		check(trial, policy_differences(&killing->maps, fresh) == 0);
		check(trial, policy_differences(fresh, &killing->maps) == 0);
		check(trial,
		      fake_map_count(&killing->maps, MAP_PORT) == fake_map_count(fresh, MAP_PORT));
		compare_endpoints(trial, &killing->maps, fresh);
	}
	check(trial, !differed || killing->maps.node.revision != before->node.revision);
	sync_free(sync);
}

static void changed_note(void *arg)
{
	struct trial *trial = arg;

	trial->told++;
}

static void step(struct trial *trial)
{
	struct compiled *compiled = NULL;
	struct errmsg err = { 0 };
	struct datapath before;
	struct store *nothing = store_new();
	struct killing killing = { .after = 1 + random_below(12) };
	struct node fresh;
	int ret;

	copy_maps(&trial->node.maps, &before);
	trial->node.maps.changed = maybe_kill;
	trial->node.maps.arg = &killing;
	trial->node.maps.writes = 0;
	trial->told = 0;
	ret = sync_policies(trial->node.sync, &err);
	/* Who ends connections that are forbidden now is told once of every change. */
	check(trial, trial->told == (trial->node.maps.node.revision != before.node.revision));
	node_begin(&fresh, nothing);
	memcpy(fresh.maps.capacity, trial->node.maps.capacity, sizeof(fresh.maps.capacity));
	compiled = policy_compile(trial->store);
	check(trial, sync_apply(fresh.sync, compiled, &err) == ret);
	check(trial, ret == 0 || ret == -ENOSPC);
	if (ret == 0)
		compare_maps(trial, &trial->node.maps, &fresh.maps);
	if (!trial->narrow && trial->step > 0)
		check_writes(trial, &before, compiled);
	if (killing.done) {
		if (ret == 0)
			check_killed(trial, &killing, &before, compiled, nothing, &fresh.maps);
		fake_maps_done(&killing.maps);
	}
	node_end(&fresh);
	compiled_free(compiled);
	store_free(nothing);
	/* NOLINTNEXTLINE(*StackAddressEscape): both live in the caller */
	fake_maps_done(&before);
}

static void set_capacity(struct trial *trial)
{
	for (size_t i = 0; i < ARRAY_SIZE(maps_of_policy); i++) {
		enum map_id map = maps_of_policy[i];
		size_t held = fake_map_count(&trial->node.maps, map);

		trial->node.maps.capacity[map] =
			chance(50) ? (uint32_t)held + 1 + random_below(3) : 0;
	}
}

static void trial_run(struct trial *trial)
{
	random_begin(trial->seed);
	trial->narrow = chance(25);
	trial->store = store_new();
	store_set_local(trial->store);
	node_begin(&trial->node, trial->store);
	sync_on_change(trial->node.sync, changed_note, trial);
	random_objects_put(trial->store, 100);
	step(trial);
	for (trial->step = 1; trial->step <= STEPS; trial->step++) {
		if (trial->narrow)
			set_capacity(trial);
		store_shuffle(trial->store, true);
		while (chance(30))
			store_shuffle(trial->store, true);
		step(trial);
	}
	node_end(&trial->node);
	store_free(trial->store);
}

static void test_random_changes(void **state)
{
	uint64_t seed = env_number("SYNC_SEED", (uint64_t)time(NULL));
	uint64_t stores = env_number("SYNC_STORES", STORES);
	time_t deadline = time(NULL) + SECONDS_MAX;

	(void)state;
	print_message("SYNC_SEED=%llu\n", (unsigned long long)seed);
	for (uint64_t i = 0; i < stores && time(NULL) < deadline; i++) {
		struct trial trial = { .seed = seed + i };

		trial_run(&trial);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
