/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A follower against policy_compile(): random stores that change at random, one or a few things at
 * a time, seen from a node and from nowhere.  After every step the tables are the same to the byte,
 * and what is said to have changed is what did.
 *
 *     FOLLOW_SEED=7 FOLLOW_STORES=1 build/unit/test_incremental
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/auto.h"
#include "policy/compiler/incremental.h"
#include "unit/store_shuffle.h"

#include <cmocka.h> /* last: it makes fail a macro */

#define STORES      60
#define STEPS       30
#define SECONDS_MAX 2

struct trial {
	uint64_t seed;
	int step;
	struct store *store;
	struct incremental *incremental;
	struct compiled *before; /* what policy_compile() made of the step before */
	bool hosts;
	size_t steps;
	size_t anew;
};

#define check(trial, condition)                                                     \
	do {                                                                        \
		if (!(condition))                                                   \
			fail_msg("FOLLOW_SEED=%llu, step %d: " #condition,          \
				 (unsigned long long)(trial)->seed, (trial)->step); \
	} while (0)

/* ---- the tables ---- */

static bool text_same(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool labels_same(const struct labels *a, const struct labels *b)
{
	bool same = a->count == b->count;

	for (size_t i = 0; i < a->count && same; i++)
		same = text_same(a->items[i].key, b->items[i].key) &&
		       text_same(a->items[i].value, b->items[i].value);
	return same;
}

static bool entry_same(const struct compiled_entry *a, const struct compiled_entry *b)
{
	return memcmp(&a->key, &b->key, sizeof(a->key)) == 0 && a->rule_count == b->rule_count &&
	       memcmp(a->rules, b->rules, a->rule_count * sizeof(*a->rules)) == 0;
}

static bool subject_same(const struct compiled_subject *a, const struct compiled_subject *b)
{
	return a->slot == b->slot && a->identity == b->identity &&
	       a->identity_v6 == b->identity_v6 && a->policy_id == b->policy_id &&
	       a->ingress_isolated == b->ingress_isolated &&
	       a->egress_isolated == b->egress_isolated && a->accel == b->accel &&
	       a->egress_bandwidth == b->egress_bandwidth &&
	       a->ingress_bandwidth == b->ingress_bandwidth && a->audit == b->audit;
}

static bool address_same(const struct compiled_address *a, const struct compiled_address *b)
{
	return addr_equal(&a->addr, &b->addr) && a->identity == b->identity && a->slot == b->slot &&
	       a->flags == b->flags;
}

static bool cidr_same(const struct compiled_cidr *a, const struct compiled_cidr *b)
{
	return addr_equal(&a->prefix.addr, &b->prefix.addr) && a->prefix.len == b->prefix.len &&
	       a->identity == b->identity;
}

static size_t row_of(const struct compiled *compiled, const struct compiled_subject *subject)
{
	return subject ? (size_t)(subject - compiled->subjects) : SIZE_MAX;
}

static void compare_tables(const struct trial *trial, const struct compiled *a,
			   const struct compiled *b)
{
	check(trial, a->identity_count == b->identity_count);
	for (size_t i = 0; i < a->identity_count; i++) {
		check(trial, a->identities[i].id == b->identities[i].id);
		check(trial, text_same(a->identities[i].namespace, b->identities[i].namespace));
		check(trial, text_same(a->identities[i].description, b->identities[i].description));
		check(trial, labels_same(&a->identities[i].labels, &b->identities[i].labels));
	}
	check(trial, a->subject_count == b->subject_count);
	for (size_t i = 0; i < a->subject_count; i++) {
		check(trial, subject_same(&a->subjects[i], &b->subjects[i]));
		check(trial, a->subjects[i].pod == b->subjects[i].pod);
	}
	check(trial, a->address_count == b->address_count);
	for (size_t i = 0; i < a->address_count; i++) {
		check(trial, address_same(&a->addresses[i], &b->addresses[i]));
		check(trial,
		      row_of(a, a->addresses[i].subject) == row_of(b, b->addresses[i].subject));
	}
	check(trial, a->cidr_count == b->cidr_count);
	for (size_t i = 0; i < a->cidr_count; i++)
		check(trial, cidr_same(&a->cidrs[i], &b->cidrs[i]));
	check(trial, a->entry_count == b->entry_count);
	for (size_t i = 0; i < a->entry_count; i++)
		check(trial, entry_same(&a->entries[i], &b->entries[i]));
}

/* ---- what is said to have changed ---- */

static const struct compiled_entry *entry_find(const struct compiled_entry *entries, size_t count,
					       const struct policy_key *key)
{
	for (size_t i = 0; i < count; i++) {
		if (memcmp(&entries[i].key, key, sizeof(*key)) == 0)
			return &entries[i];
	}
	return NULL;
}

static bool key_listed(const struct compiled_changes *changes, const struct policy_key *key)
{
	for (size_t i = 0; i < changes->entries_gone_count; i++) {
		if (memcmp(&changes->entries_gone[i], key, sizeof(*key)) == 0)
			return true;
	}
	return false;
}

static void check_entries(const struct trial *trial, const struct compiled *after,
			  const struct compiled_changes *changes)
{
	const struct compiled *before = trial->before;

	for (size_t i = 0; i < after->entry_count; i++) {
		const struct compiled_entry *entry = &after->entries[i];
		const struct compiled_entry *old =
			entry_find(before->entries, before->entry_count, &entry->key);
		const struct compiled_entry *said =
			entry_find(changes->entries, changes->entry_count, &entry->key);

		check(trial, (said != NULL) == !(old && entry_same(old, entry)));
		check(trial, !said || entry_same(said, entry));
	}
	for (size_t i = 0; i < before->entry_count; i++) {
		const struct policy_key *key = &before->entries[i].key;
		bool gone = !entry_find(after->entries, after->entry_count, key);

		check(trial, key_listed(changes, key) == gone);
	}
	for (size_t i = 0; i < changes->entry_count; i++)
		check(trial,
		      entry_find(after->entries, after->entry_count, &changes->entries[i].key));
}

static const struct compiled_address *address_find(const struct compiled_address *addresses,
						   size_t count, const struct addr *addr)
{
	for (size_t i = 0; i < count; i++) {
		if (addr_equal(&addresses[i].addr, addr))
			return &addresses[i];
	}
	return NULL;
}

static void check_addresses(const struct trial *trial, const struct compiled *after,
			    const struct compiled_changes *changes)
{
	const struct compiled *before = trial->before;
	size_t gone = 0;

	for (size_t i = 0; i < after->address_count; i++) {
		const struct compiled_address *address = &after->addresses[i];
		const struct compiled_address *old =
			address_find(before->addresses, before->address_count, &address->addr);
		const struct compiled_address *said =
			address_find(changes->addresses, changes->address_count, &address->addr);

		check(trial, (said != NULL) == !(old && address_same(old, address)));
		check(trial, !said || address_same(said, address));
	}
	for (size_t i = 0; i < before->address_count; i++)
		gone += !address_find(after->addresses, after->address_count,
				      &before->addresses[i].addr);
	check(trial, gone == changes->addresses_gone_count);
	for (size_t i = 0; i < gone; i++)
		check(trial, !address_find(after->addresses, after->address_count,
					   &changes->addresses_gone[i]));
}

static void check_changes(const struct trial *trial, const struct compiled *after,
			  const struct compiled_changes *changes)
{
	const struct compiled *before = trial->before;

	check_entries(trial, after, changes);
	check_addresses(trial, after, changes);
	for (size_t i = 0; i < after->subject_count; i++) {
		const struct compiled_subject *subject = &after->subjects[i];
		bool same = false;
		bool said = false;

		for (size_t k = 0; k < before->subject_count; k++)
			same |= subject_same(&before->subjects[k], subject);
		for (size_t k = 0; k < changes->subject_count; k++)
			said |= subject_same(&changes->subjects[k], subject);
		check(trial, same || said);
	}
	if (!changes->cidrs) {
		check(trial, before->cidr_count == after->cidr_count);
		for (size_t i = 0; i < after->cidr_count; i++)
			check(trial, cidr_same(&before->cidrs[i], &after->cidrs[i]));
	}
}

/* ---- trials ---- */

static void follow(struct trial *trial)
{
	struct compiled_changes changes = incremental_update(trial->incremental);
	struct compiled *fresh = policy_compile(trial->store);

	compare_tables(trial, fresh, incremental_compiled(trial->incremental));
	if (!changes.all)
		check_changes(trial, incremental_compiled(trial->incremental), &changes);
	trial->steps++;
	trial->anew += changes.all;
	compiled_free(trial->before);
	trial->before = fresh;
}

static void trial_run(struct trial *trial)
{
	random_begin(trial->seed);
	trial->store = store_new();
	trial->hosts = chance(30);
	if (chance(60))
		store_set_local(trial->store);
	trial->incremental = incremental_new(trial->store);
	assert_null(incremental_compiled(trial->incremental));
	random_objects_put(trial->store, 100);
	follow(trial);
	for (trial->step = 1; trial->step <= STEPS; trial->step++) {
		store_shuffle(trial->store, trial->hosts);
		while (chance(30))
			store_shuffle(trial->store, trial->hosts);
		follow(trial);
	}
	incremental_free(trial->incremental);
	compiled_free(trial->before);
	store_free(trial->store);
}

static void test_random_changes(void **state)
{
	uint64_t seed = env_number("FOLLOW_SEED", (uint64_t)time(NULL));
	uint64_t stores = env_number("FOLLOW_STORES", STORES);
	time_t deadline = time(NULL) + SECONDS_MAX;
	size_t steps = 0;
	size_t anew = 0;

	(void)state;
	print_message("FOLLOW_SEED=%llu\n", (unsigned long long)seed);
	for (uint64_t i = 0; i < stores && time(NULL) < deadline; i++) {
		struct trial trial = { .seed = seed + i };

		trial_run(&trial);
		steps += trial.steps;
		anew += trial.anew;
	}
	print_message("%zu steps, %zu of them compiled anew\n", steps, anew);
	assert_true(steps > 0 && anew < steps / 2);
}

/* Stores that once left an entry of a pod that was not known any more. */
static void test_changes_that_went_wrong(void **state)
{
	static const uint64_t seeds[] = { 1004016, 1173041, 1795872689 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(seeds); i++) {
		struct trial trial = { .seed = seeds[i] };

		trial_run(&trial);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_changes_that_went_wrong),
		cmocka_unit_test(test_random_changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
