/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the allocator and the policies to the tables.  Here: which policies select which group of
 * pods, and the ruleset that this gives each group.  Rules, entries and the other tables have their
 * own files.
 */
#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"
#include "policy/compiler/compiler.h"
#include "policy/objects/policy.h"

/* ---- what policies say about groups ---- */

/* The rules of all policies that select a group. */
struct group_rules {
	bool isolated[2]; /* by enum direction */
	struct id_list rules[2][TIER_COUNT];
};

/* Rules while they are collected. */
struct rule_collection {
	uint32_t only;             /* for this group alone; NONE: for all groups */
	struct group_rules *rules; /* of that group, or by number of the group */
};

static void group_rules_done(struct group_rules *rules)
{
	for (size_t i = 0; i < 2 * TIER_COUNT; i++)
		id_list_done(&rules->rules[i / TIER_COUNT][i % TIER_COUNT]);
}

static void namespace_groups(const struct compiler *compiler, const char *name,
			     const struct selector *pods, struct id_list *groups)
{
	const struct allocator *allocator = &compiler->allocator;
	size_t namespace = intern_find(&allocator->namespaces, name, strlen(name) + 1);

	if (namespace != INTERN_NONE) /* else no pod is there */
		label_index_select(&allocator->index, SCOPE_OF((uint32_t) namespace), pods, groups);
}

void policy_groups(const struct compiler *compiler, const struct object *object,
		   struct id_list *groups)
{
	const struct label_index *index = &compiler->allocator.index;
	const struct cluster_policy_object *policy = &object->cluster_policy;
	struct id_list namespaces = { 0 };

	if (object->kind == OBJECT_NETWORK_POLICY) {
		namespace_groups(compiler, object->namespace, &object->policy.pods, groups);
		return;
	}
	label_index_select(index, SCOPE_NAMESPACES, &policy->namespaces, &namespaces);
	id_list_sort(&namespaces);
	for (size_t i = 0; i < namespaces.count; i++)
		label_index_select(index, SCOPE_OF(namespaces.items[i]), &policy->pods, groups);
	id_list_done(&namespaces);
}

/* Adds the rules of a policy in one direction to the groups that it selects. */
static void collect_direction(struct compiler *compiler, const struct object *policy,
			      enum direction direction, const struct id_list *groups,
			      struct rule_collection *collection)
{
	const struct policy_rules written = policy_rules(policy, direction);
	struct id_list rules = { 0 };

	for (size_t i = 0; i < written.count; i++)
		id_list_add(&rules, compile_rule(compiler, &written.items[i], policy->namespace));
	for (size_t i = 0; i < groups->count; i++) {
		uint32_t number = groups->items[i];
		const struct group *group = &compiler->allocator.groups[number];
		struct group_rules *collected =
			&collection->rules[collection->only == NONE ? number : 0];
		struct id_list *list = &collected->rules[direction][policy_tier(policy)];

		if (group->subjects == 0)
			continue;
		collected->isolated[direction] |= policy->kind == OBJECT_NETWORK_POLICY;
		for (size_t r = 0; r < rules.count; r++)
			id_list_add(list, direction == DIR_INGRESS
						  ? rule_for_group(compiler, rules.items[r], group)
						  : rules.items[r]);
	}
	id_list_done(&rules);
}

static bool any_has_subjects(const struct compiler *compiler, const struct id_list *groups)
{
	for (size_t i = 0; i < groups->count; i++) {
		if (compiler->allocator.groups[groups->items[i]].subjects > 0)
			return true;
	}
	return false;
}

/* Adds the rules of a policy to the groups that it selects. */
static void collect_policy(struct compiler *compiler, const struct object *policy,
			   const char *namespace, struct rule_collection *collection)
{
	const struct allocator *allocator = &compiler->allocator;
	struct id_list groups = { 0 };

	if (collection->only == NONE)
		policy_groups(compiler, policy, &groups);
	else if (policy_selects(compiler->store, policy, namespace,
				&allocator->groups[collection->only].labels))
		id_list_add(&groups, collection->only);
	id_list_sort(&groups);
	for (size_t i = 0; i < 2 && any_has_subjects(compiler, &groups); i++) {
		enum direction direction = (enum direction)i;

		if (policy_rules(policy, direction).in_force)
			collect_direction(compiler, policy, direction, &groups, collection);
	}
	id_list_done(&groups);
}

/* Adds the rules of all policies, in the order in which policies are asked. */
static void collect_rules(struct compiler *compiler, struct rule_collection *collection)
{
	const struct allocator *allocator = &compiler->allocator;
	const char *namespace = NULL;

	if (collection->only != NONE)
	namespace = allocator_namespace(allocator, allocator->groups[collection->only].namespace);
	for (size_t tier = 0; tier < TIER_COUNT; tier++) {
		auto_free const struct object **sorted = NULL;
		const struct object *const *policies;
		size_t count;

		if (tier != TIER_NETWORK)
			policies = sorted =
				tier_policies(compiler->store, (enum policy_tier)tier, &count);
		else if (namespace)
			count = store_range(compiler->store, OBJECT_NETWORK_POLICY, namespace,
					    &policies);
		else
			count = store_objects(compiler->store, OBJECT_NETWORK_POLICY, &policies);
		for (size_t i = 0; i < count; i++)
			collect_policy(compiler, policies[i], namespace, collection);
	}
}

/* ---- rulesets ---- */

/* From the hashes of the rules, as their numbers depend on what else is in the store. */
static uint64_t ruleset_hash(const struct compiler *compiler, const struct ruleset *ruleset)
{
	struct buffer hashes = { 0 };
	uint64_t hash;

	for (size_t direction = 0; direction < 2; direction++) {
		buffer_add(&hashes, &(uint64_t){ ruleset->isolated[direction] }, sizeof(uint64_t));
		for (size_t tier = 0; tier < TIER_COUNT; tier++) {
			const struct rule_list *rules = &ruleset->rules[direction][tier];
			size_t first;

			buffer_add(&hashes, &(uint64_t){ rules->count }, sizeof(uint64_t));
			first = hashes.len;
			for (size_t i = 0; i < rules->count; i++)
				buffer_add(&hashes, &compiler->rules[rules->items[i]].hash,
					   sizeof(uint64_t));
			if (tier == TIER_NETWORK)
				qsort(hashes.data + first, rules->count, sizeof(uint64_t),
				      hash_compare);
		}
	}
	hash = hash_bytes(hashes.data, hashes.len);
	buffer_done(&hashes);
	return hash;
}

/* Brings collected rules into normal form and writes them as bytes: equal bytes, equal rulesets. */
static void group_rules_write(struct group_rules *collected, struct buffer *key)
{
	key->len = 0;
	for (size_t direction = 0; direction < 2; direction++) {
		struct id_list *rules = collected->rules[direction];

		id_list_sort(&rules[TIER_NETWORK]);
		if (collected->isolated[direction]) /* the tiers behind are not asked any more */
			rules[TIER_BASELINE].count = 0;
		buffer_number(key, collected->isolated[direction]);
		for (size_t tier = 0; tier < TIER_COUNT; tier++) {
			buffer_number(key, (uint32_t)rules[tier].count);
			buffer_add(key, rules[tier].items,
				   rules[tier].count * sizeof(*rules[tier].items));
		}
	}
}

/* The number of the ruleset, new or known; NONE: no policy has a say. */
static uint32_t ruleset_intern(struct compiler *compiler, struct group_rules *collected)
{
	size_t known = compiler->ruleset_keys.count;
	struct buffer *key = &compiler->key;
	struct ruleset ruleset = { 0 };
	size_t number;

	for (size_t i = 0; i < 2 * TIER_COUNT; i++) {
		const struct id_list *rules = &collected->rules[i / TIER_COUNT][i % TIER_COUNT];

		ruleset.rules[i / TIER_COUNT][i % TIER_COUNT] =
			(struct rule_list){ rules->items, rules->count };
	}
	memcpy(ruleset.isolated, collected->isolated, sizeof(ruleset.isolated));
	if (!ruleset_decides(&ruleset, DIR_INGRESS) && !ruleset_decides(&ruleset, DIR_EGRESS))
		return NONE;
	group_rules_write(collected, key);
	number = intern_add(&compiler->ruleset_keys, key->data, key->len);
	if (number < known)
		return (uint32_t)number;
	for (size_t i = 0; i < 2 * TIER_COUNT; i++) {
		const struct id_list *rules = &collected->rules[i / TIER_COUNT][i % TIER_COUNT];

		ruleset.rules[i / TIER_COUNT][i % TIER_COUNT] = (struct rule_list){
			.items = arena_copy(compiler->arena, rules->items,
					    rules->count * sizeof(*rules->items)),
			.count = rules->count,
		};
	}
	ruleset.hash = ruleset_hash(compiler, &ruleset);
	array_room(&compiler->rulesets, known, &compiler->ruleset_capacity,
		   sizeof(*compiler->rulesets));
	compiler->rulesets[number] = ruleset;
	return (uint32_t)number;
}

uint32_t compile_group(struct compiler *compiler, uint32_t number)
{
	struct group_rules rules = { 0 };
	struct rule_collection collection = { .only = number, .rules = &rules };
	uint32_t ruleset;

	if (compiler->allocator.groups[number].subjects == 0)
		return NONE;
	collect_rules(compiler, &collection);
	ruleset = ruleset_intern(compiler, &rules);
	group_rules_done(&rules);
	return ruleset;
}

static void compile_rulesets(struct compiler *compiler)
{
	struct group *groups = compiler->allocator.groups;
	size_t count = compiler->allocator.group_keys.count;
	auto_free struct group_rules *rules = xcalloc(count, sizeof(*rules));
	struct rule_collection collection = { .only = NONE, .rules = rules };

	collect_rules(compiler, &collection);
	for (size_t i = 0; i < count; i++) {
		groups[i].ruleset = ruleset_intern(compiler, &rules[i]);
		if (groups[i].ruleset != NONE)
			compiler->rulesets[groups[i].ruleset].refs++;
		group_rules_done(&rules[i]);
	}
}

/* Numbers for the maps; 0 means "no policy". */
static void rulesets_number(struct compiler *compiler)
{
	uint32_t ruleset;
	uint32_t number;
	size_t pos = 0;

	id_pool_init(&compiler->numbers, 1);
	for (size_t i = 0; i < compiler->ruleset_keys.count; i++)
		id_pool_take(&compiler->numbers, compiler->rulesets[i].hash, (uint32_t)i, &number);
	while (id_pool_each(&compiler->numbers, &pos, &ruleset, &number))
		compiler->rulesets[ruleset].id = number;
}

/* ---- all of it ---- */

void compiler_run(struct compiler *compiler, const struct store *store)
{
	compiler->store = store;
	compiler->compiled = xcalloc(1, sizeof(*compiler->compiled));
	compiler->arena = arena_new();
	compiler->compiled->arena = compiler->arena;
	compiler->peer_keys.arena = compiler->arena;
	compiler->port_sets.arena = compiler->arena;
	compiler->rule_keys.arena = compiler->arena;
	compiler->ruleset_keys.arena = compiler->arena;
	allocator_build(&compiler->allocator, store, compiler->arena);
	compile_rulesets(compiler);
	rulesets_number(compiler);
	compile_entries(compiler);
	compile_tables(compiler);
}

void compiler_done(struct compiler *compiler)
{
	allocator_done(&compiler->allocator);
	for (size_t i = 0; i < compiler->peer_keys.count; i++)
		id_list_done(&compiler->peers[i].identities);
	intern_done(&compiler->peer_keys);
	intern_done(&compiler->port_sets);
	intern_done(&compiler->rule_keys);
	intern_done(&compiler->ruleset_keys);
	id_pool_done(&compiler->numbers);
	free(compiler->peers);
	free(compiler->rules);
	free(compiler->rulesets);
	port_list_done(&compiler->scratch);
	buffer_done(&compiler->key);
}

struct compiled *policy_compile(const struct store *store)
{
	struct compiler compiler = { 0 };

	compiler_run(&compiler, store);
	compiler_done(&compiler);
	return compiler.compiled;
}

void compiled_free(struct compiled *compiled)
{
	if (!compiled)
		return;
	free(compiled->identities);
	free(compiled->addresses);
	free(compiled->cidrs);
	free(compiled->entries);
	free(compiled->subjects);
	arena_free(compiled->arena);
	free(compiled);
}
