/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the allocator and the policies to the tables.  Here: which policies select which group of
 * subjects, gathered into rulesets.  Rules, entries and the other tables have their own files.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/auto.h"
#include "policy/compiler/compiler.h"
#include "policy/objects/tier.h"

/* ---- rulesets ---- */

/* What policies say about one group of subjects, while they are gone through. */
struct draft {
	bool isolated[2];
	struct id_list rules[2][TIER_COUNT];
};

/* A policy of either kind; its selectors apart. */
struct statement {
	enum policy_tier tier;
	const char *namespace;
	bool in_force[2]; /* by enum direction */
	const struct policy_rule *rules[2];
	size_t rule_count[2];
};

static struct statement statement_of_policy(const struct object *object)
{
	const struct network_policy_object *policy = &object->policy;

	return (struct statement){
		.tier = TIER_NETWORK,
		.namespace = object->namespace,
		.in_force = { [DIR_EGRESS] = policy->egress, [DIR_INGRESS] = policy->ingress },
		.rules = { [DIR_EGRESS] = policy->egress_rules,
			   [DIR_INGRESS] = policy->ingress_rules },
		.rule_count = { [DIR_EGRESS] = policy->egress_rule_count,
				[DIR_INGRESS] = policy->ingress_rule_count },
	};
}

static struct statement statement_of_cluster_policy(const struct object *object)
{
	const struct cluster_policy_object *policy = &object->cluster_policy;

	return (struct statement){
		.tier = policy->tier,
		.namespace = "",
		.in_force = { [DIR_EGRESS] = policy->egress_rule_count > 0,
			      [DIR_INGRESS] = policy->ingress_rule_count > 0 },
		.rules = { [DIR_EGRESS] = policy->egress_rules,
			   [DIR_INGRESS] = policy->ingress_rules },
		.rule_count = { [DIR_EGRESS] = policy->egress_rule_count,
				[DIR_INGRESS] = policy->ingress_rule_count },
	};
}

static int draft_add(struct compiler *compiler, struct draft *draft, const struct group *group,
		     enum direction direction, enum policy_tier tier, const struct id_list *rules)
{
	draft->isolated[direction] |= tier == TIER_NETWORK;
	for (size_t i = 0; i < rules->count; i++) {
		uint32_t rule = rules->items[i];

		if (direction == DIR_INGRESS && rule_for_group(compiler, rule, group, &rule) < 0)
			return -ENOMEM;
		if (id_list_add(&draft->rules[direction][tier], rule) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int compile_rules(struct compiler *compiler, const struct statement *statement,
			 enum direction direction, struct id_list *ret_rules)
{
	for (size_t i = 0; i < statement->rule_count[direction]; i++) {
		uint32_t rule;

		if (compile_rule(compiler, &statement->rules[direction][i], statement->namespace,
				 &rule) < 0 ||
		    id_list_add(ret_rules, rule) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* Adds one direction of a policy to the drafts of the groups it selects. */
static int compile_direction(struct compiler *compiler, const struct statement *statement,
			     enum direction direction, const struct id_list *groups,
			     struct draft *drafts)
{
	const struct allocator *allocator = &compiler->allocator;
	struct id_list rules = { 0 };
	bool compiled = false;
	int ret = 0;

	for (size_t i = 0; i < groups->count && ret == 0; i++) {
		uint32_t number = groups->items[i];

		if (allocator->groups[number].subjects == 0)
			continue;
		if (!compiled)
			ret = compile_rules(compiler, statement, direction, &rules);
		compiled = true;
		if (ret == 0)
			ret = draft_add(compiler, &drafts[number], &allocator->groups[number],
					direction, statement->tier, &rules);
	}
	id_list_done(&rules);
	return ret;
}

static int compile_statement(struct compiler *compiler, const struct statement *statement,
			     struct id_list *groups, struct draft *drafts)
{
	int ret = 0;

	id_list_sort(groups);
	for (int direction = 0; direction < 2 && ret == 0; direction++) {
		if (statement->in_force[direction])
			ret = compile_direction(compiler, statement, (enum direction)direction,
						groups, drafts);
	}
	return ret;
}

static int network_policy_groups(const struct compiler *compiler, const struct object *object,
				 struct id_list *groups)
{
	const struct allocator *allocator = &compiler->allocator;
	const char *name = object->namespace;
	size_t namespace = intern_find(&allocator->namespaces, name, strlen(name) + 1);

	if (namespace == INTERN_NONE) /* no pod there */
		return 0;
	return label_index_select(&allocator->index, SCOPE_OF((uint32_t) namespace),
				  &object->policy.pods, groups);
}

static int cluster_policy_groups(const struct compiler *compiler, const struct object *object,
				 struct id_list *groups)
{
	const struct label_index *index = &compiler->allocator.index;
	const struct cluster_policy_object *policy = &object->cluster_policy;
	struct id_list namespaces = { 0 };
	int ret = label_index_select(index, SCOPE_NAMESPACES, &policy->namespaces, &namespaces);

	id_list_sort(&namespaces);
	for (size_t i = 0; i < namespaces.count && ret == 0; i++)
		ret = label_index_select(index, SCOPE_OF(namespaces.items[i]), &policy->pods,
					 groups);
	id_list_done(&namespaces);
	return ret;
}

int policy_groups(const struct compiler *compiler, const struct object *object,
		  struct id_list *groups)
{
	return object->kind == OBJECT_CLUSTER_POLICY
		       ? cluster_policy_groups(compiler, object, groups)
		       : network_policy_groups(compiler, object, groups);
}

static int compile_policy(struct compiler *compiler, const struct object *object,
			  struct draft *drafts)
{
	const struct statement statement = object->kind == OBJECT_CLUSTER_POLICY
						   ? statement_of_cluster_policy(object)
						   : statement_of_policy(object);
	struct id_list groups = { 0 };
	int ret = policy_groups(compiler, object, &groups);

	if (ret == 0)
		ret = compile_statement(compiler, &statement, &groups, drafts);
	id_list_done(&groups);
	return ret;
}

static int compile_tier(struct compiler *compiler, enum policy_tier tier, struct draft *drafts)
{
	size_t count = 0;
	auto_free const struct object **policies = tier_policies(compiler->store, tier, &count);
	int ret = policies ? 0 : -ENOMEM;

	for (size_t i = 0; i < count && ret == 0; i++)
		ret = compile_policy(compiler, policies[i], drafts);
	return ret;
}

/* From the hashes of the rules, as their numbers depend on what else is in the store. */
static int ruleset_hash(const struct compiler *compiler, const struct ruleset *ruleset,
			uint64_t *ret_hash)
{
	size_t count = 2 * (1 + TIER_COUNT);
	uint64_t *hashes;
	size_t used = 0;

	for (size_t i = 0; i < 2 * TIER_COUNT; i++)
		count += ruleset->rules[i / TIER_COUNT][i % TIER_COUNT].count;
	hashes = calloc(count, sizeof(*hashes));
	if (!hashes)
		return -ENOMEM;
	for (size_t direction = 0; direction < 2; direction++) {
		hashes[used++] = ruleset->isolated[direction];
		for (size_t tier = 0; tier < TIER_COUNT; tier++) {
			const struct rule_list *rules = &ruleset->rules[direction][tier];
			size_t first = ++used;

			hashes[first - 1] = rules->count;
			for (size_t i = 0; i < rules->count; i++)
				hashes[used++] = compiler->rules[rules->items[i]].hash;
			if (tier == TIER_NETWORK)
				qsort(hashes + first, rules->count, sizeof(*hashes), hash_compare);
		}
	}
	*ret_hash = hash_bytes(hashes, used * sizeof(*hashes));
	free(hashes);
	return 0;
}

/* The draft in its normal form, and what it is found by. */
static void draft_write(struct draft *draft, struct buffer *key)
{
	key->len = 0;
	for (size_t direction = 0; direction < 2; direction++) {
		struct id_list *rules = draft->rules[direction];

		id_list_sort(&rules[TIER_NETWORK]);
		if (draft->isolated[direction]) /* then no question goes further */
			rules[TIER_BASELINE].count = 0;
		buffer_number(key, draft->isolated[direction]);
		for (size_t tier = 0; tier < TIER_COUNT; tier++) {
			buffer_number(key, (uint32_t)rules[tier].count);
			buffer_add(key, rules[tier].items,
				   rules[tier].count * sizeof(*rules[tier].items));
		}
	}
}

static int ruleset_intern(struct compiler *compiler, struct draft *draft, uint32_t *ret_ruleset)
{
	size_t known = compiler->ruleset_keys.count;
	struct buffer *key = &compiler->key;
	struct ruleset ruleset = { 0 };
	size_t number;

	draft_write(draft, key);
	if (key->failed)
		return -ENOMEM;
	number = intern_add(&compiler->ruleset_keys, key->data, key->len);
	if (number == INTERN_NONE)
		return -ENOMEM;
	*ret_ruleset = (uint32_t)number;
	if (number < known)
		return 0;
	for (size_t i = 0; i < 2 * TIER_COUNT; i++) {
		const struct id_list *rules = &draft->rules[i / TIER_COUNT][i % TIER_COUNT];

		ruleset.rules[i / TIER_COUNT][i % TIER_COUNT] = (struct rule_list){
			.items = arena_copy(compiler->arena, rules->items,
					    rules->count * sizeof(*rules->items)),
			.count = rules->count,
		};
	}
	memcpy(ruleset.isolated, draft->isolated, sizeof(ruleset.isolated));
	if (arena_failed(compiler->arena) || ruleset_hash(compiler, &ruleset, &ruleset.hash) < 0 ||
	    array_room(&compiler->rulesets, known, &compiler->ruleset_capacity,
		       sizeof(*compiler->rulesets)) < 0)
		return -ENOMEM;
	compiler->rulesets[number] = ruleset;
	return 0;
}

static bool draft_decides(const struct draft *draft)
{
	for (size_t direction = 0; direction < 2; direction++) {
		if (draft->isolated[direction] || draft->rules[direction][TIER_ADMIN].count > 0 ||
		    draft->rules[direction][TIER_BASELINE].count > 0)
			return true;
	}
	return false;
}

static void draft_done(struct draft *draft)
{
	for (size_t i = 0; i < 2 * TIER_COUNT; i++)
		id_list_done(&draft->rules[i / TIER_COUNT][i % TIER_COUNT]);
}

/* Drafts what all policies say of all groups: each policy is asked whom it selects. */
static int drafts_make(struct compiler *compiler, struct draft *drafts)
{
	int ret = compile_tier(compiler, TIER_ADMIN, drafts);

	for (const struct object *policy = store_first(compiler->store, OBJECT_NETWORK_POLICY);
	     policy && ret == 0; policy = store_next(compiler->store, policy))
		ret = compile_policy(compiler, policy, drafts);
	if (ret == 0)
		ret = compile_tier(compiler, TIER_BASELINE, drafts);
	return ret;
}

static int compile_rulesets(struct compiler *compiler)
{
	struct allocator *allocator = &compiler->allocator;
	size_t count = allocator->group_keys.count;
	struct draft *drafts = calloc(count + 1, sizeof(*drafts));
	int ret = drafts ? drafts_make(compiler, drafts) : -ENOMEM;

	for (size_t i = 0; i < count && drafts; i++) {
		uint32_t *ruleset = &allocator->groups[i].ruleset;

		if (ret == 0 && draft_decides(&drafts[i]))
			ret = ruleset_intern(compiler, &drafts[i], ruleset);
		if (*ruleset != NONE)
			compiler->rulesets[*ruleset].refs++;
		draft_done(&drafts[i]);
	}
	free(drafts);
	return ret;
}

/* Numbers for the maps; 0 means "no policy". */
static int rulesets_number(struct compiler *compiler)
{
	uint32_t ruleset;
	uint32_t number;
	size_t pos = 0;

	id_pool_init(&compiler->numbers, 1);
	for (size_t i = 0; i < compiler->ruleset_keys.count; i++) {
		if (id_pool_take(&compiler->numbers, compiler->rulesets[i].hash, (uint32_t)i,
				 &number) < 0)
			return -ENOMEM;
	}
	while (id_pool_each(&compiler->numbers, &pos, &ruleset, &number))
		compiler->rulesets[ruleset].id = number;
	return 0;
}

/* ---- rulesets of single groups ---- */

/* What one policy says of one group, if it selects it. */
static int draft_statement(struct compiler *compiler, const struct statement *statement,
			   const struct group *group, struct draft *draft)
{
	int ret = 0;

	for (int direction = 0; direction < 2 && ret == 0; direction++) {
		struct id_list rules = { 0 };

		if (!statement->in_force[direction])
			continue;
		ret = compile_rules(compiler, statement, (enum direction)direction, &rules);
		if (ret == 0)
			ret = draft_add(compiler, draft, group, (enum direction)direction,
					statement->tier, &rules);
		id_list_done(&rules);
	}
	return ret;
}

static int draft_tier(struct compiler *compiler, enum policy_tier tier, const struct group *group,
		      struct draft *draft)
{
	const char *namespace = allocator_namespace(&compiler->allocator, group->namespace);
	size_t count = 0;
	auto_free const struct object **policies = tier_policies(compiler->store, tier, &count);
	int ret = policies ? 0 : -ENOMEM;

	for (size_t i = 0; i < count && ret == 0; i++) {
		struct statement statement = statement_of_cluster_policy(policies[i]);

		if (cluster_policy_selects(compiler->store, policies[i], namespace, &group->labels))
			ret = draft_statement(compiler, &statement, group, draft);
	}
	return ret;
}

static int draft_group(struct compiler *compiler, const struct group *group, struct draft *draft)
{
	const char *namespace = allocator_namespace(&compiler->allocator, group->namespace);
	const struct object *const *policies;
	size_t count = store_range(compiler->store, OBJECT_NETWORK_POLICY, namespace, &policies);
	int ret = draft_tier(compiler, TIER_ADMIN, group, draft);

	for (size_t i = 0; i < count && ret == 0; i++) {
		struct statement statement = statement_of_policy(policies[i]);

		if (selector_matches(&policies[i]->policy.pods, &group->labels))
			ret = draft_statement(compiler, &statement, group, draft);
	}
	return ret < 0 ? ret : draft_tier(compiler, TIER_BASELINE, group, draft);
}

int compile_group(struct compiler *compiler, uint32_t group, uint32_t *ret_ruleset)
{
	struct draft draft = { 0 };
	int ret = 0;

	*ret_ruleset = NONE;
	if (compiler->allocator.groups[group].subjects > 0)
		ret = draft_group(compiler, &compiler->allocator.groups[group], &draft);
	if (ret == 0 && draft_decides(&draft))
		ret = ruleset_intern(compiler, &draft, ret_ruleset);
	draft_done(&draft);
	return ret;
}

/* ---- all of it ---- */

static int compiler_init(struct compiler *compiler, const struct store *store)
{
	compiler->store = store;
	compiler->compiled = calloc(1, sizeof(*compiler->compiled));
	compiler->arena = arena_new();
	if (!compiler->compiled || !compiler->arena) {
		arena_free(compiler->arena);
		compiler->arena = NULL;
		return -ENOMEM;
	}
	compiler->compiled->arena = compiler->arena;
	compiler->peer_keys.arena = compiler->arena;
	compiler->port_sets.arena = compiler->arena;
	compiler->rule_keys.arena = compiler->arena;
	compiler->ruleset_keys.arena = compiler->arena;
	return 0;
}

int compiler_run(struct compiler *compiler, const struct store *store)
{
	int ret = compiler_init(compiler, store);

	if (ret == 0)
		ret = allocator_build(&compiler->allocator, store, compiler->arena);
	if (ret == 0)
		ret = compile_rulesets(compiler);
	if (ret == 0)
		ret = rulesets_number(compiler);
	if (ret == 0)
		ret = compile_entries(compiler);
	if (ret == 0)
		ret = compile_tables(compiler);
	return ret;
}

void compiler_done(struct compiler *compiler)
{
	allocator_done(&compiler->allocator);
	for (size_t i = 0; i < compiler->peer_keys.count && i < compiler->peer_capacity; i++)
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

int policy_compile(const struct store *store, struct compiled **ret, struct errmsg *err)
{
	struct compiler compiler = { 0 };
	int status = compiler_run(&compiler, store);

	compiler_done(&compiler);
	if (status < 0) {
		compiled_free(compiler.compiled);
		return fail_plain(err, status, "compile policies: out of memory");
	}
	*ret = compiler.compiled;
	return 0;
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
