/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the population and the policies to the tables.  Here: which policies select which group of
 * subjects, gathered into rulesets.  Rules, entries and the other tables have their own files.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/compiler.h"

/* ---- rulesets ---- */

/* What policies say about one group of subjects, while they are gone through. */
struct draft {
	bool isolated[2];
	struct id_list rules[2];
};

static int draft_add(struct compiler *compiler, struct draft *draft, const struct group *group,
		     enum direction direction, const struct id_list *rules)
{
	draft->isolated[direction] = true;
	for (size_t i = 0; i < rules->count; i++) {
		uint32_t rule = rules->items[i];

		if (direction == DIR_INGRESS && rule_for_group(compiler, rule, group, &rule) < 0)
			return -ENOMEM;
		if (id_list_add(&draft->rules[direction], rule) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int compile_rules(struct compiler *compiler, const struct policy_rule *rules, size_t count,
			 const char *namespace, struct id_list *ret_rules)
{
	for (size_t i = 0; i < count; i++) {
		uint32_t rule;

		if (compile_rule(compiler, &rules[i], namespace, &rule) < 0 ||
		    id_list_add(ret_rules, rule) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* Adds one policy to the drafts of the groups it selects. */
static int compile_policy(struct compiler *compiler, const struct object *object,
			  struct draft *drafts)
{
	const struct population *population = &compiler->population;
	const struct network_policy_object *policy = &object->policy;
	const char *name = object->namespace;
	size_t namespace = intern_find(&population->namespaces, name, strlen(name) + 1);
	struct id_list groups = { 0 };
	struct id_list rules[2] = { { 0 }, { 0 } };
	bool compiled = false;
	int ret = 0;

	if (namespace == INTERN_NONE) /* no pod there */
		return 0;
	ret = label_index_select(&population->index, 1 + (uint32_t) namespace, &policy->pods,
				 &groups);
	id_list_sort(&groups);
	for (size_t i = 0; i < groups.count && ret == 0; i++) {
		uint32_t number = groups.items[i];

		if (!population->groups[number].subject)
			continue;
		if (!compiled && policy->ingress)
			ret = compile_rules(compiler, policy->ingress_rules,
					    policy->ingress_rule_count, name, &rules[DIR_INGRESS]);
		if (!compiled && policy->egress && ret == 0)
			ret = compile_rules(compiler, policy->egress_rules,
					    policy->egress_rule_count, name, &rules[DIR_EGRESS]);
		compiled = true;
		if (policy->ingress && ret == 0)
			ret = draft_add(compiler, &drafts[number], &population->groups[number],
					DIR_INGRESS, &rules[DIR_INGRESS]);
		if (policy->egress && ret == 0)
			ret = draft_add(compiler, &drafts[number], &population->groups[number],
					DIR_EGRESS, &rules[DIR_EGRESS]);
	}
	id_list_done(&groups);
	id_list_done(&rules[0]);
	id_list_done(&rules[1]);
	return ret;
}

static int ruleset_hash(const struct compiler *compiler, const struct ruleset *ruleset,
			uint32_t *ret_hash)
{
	size_t count = ruleset->rule_count[0] + ruleset->rule_count[1];
	uint64_t *hashes = calloc(count + 2, sizeof(*hashes));
	size_t used = 0;

	if (!hashes)
		return -ENOMEM;
	for (size_t direction = 0; direction < 2; direction++) {
		size_t first = used + 1;

		hashes[used++] = ruleset->isolated[direction];
		for (size_t i = 0; i < ruleset->rule_count[direction]; i++)
			hashes[used++] = compiler->rules[ruleset->rules[direction][i]].hash;
		qsort(hashes + first, used - first, sizeof(*hashes), hash_compare);
	}
	*ret_hash = (uint32_t)hash_bytes(hashes, used * sizeof(*hashes));
	free(hashes);
	return 0;
}

static int ruleset_intern(struct compiler *compiler, struct draft *draft, uint32_t *ret_ruleset)
{
	size_t known = compiler->ruleset_keys.count;
	struct buffer *key = &compiler->key;
	struct ruleset ruleset = { 0 };
	size_t number;

	key->len = 0;
	for (size_t direction = 0; direction < 2; direction++) {
		struct id_list *rules = &draft->rules[direction];

		id_list_sort(rules);
		ruleset.isolated[direction] = draft->isolated[direction];
		ruleset.rule_count[direction] = rules->count;
		buffer_number(key, draft->isolated[direction]);
		buffer_number(key, (uint32_t)rules->count);
		buffer_add(key, rules->items, rules->count * sizeof(*rules->items));
	}
	if (key->failed)
		return -ENOMEM;
	number = intern_add(&compiler->ruleset_keys, key->data, key->len);
	if (number == INTERN_NONE)
		return -ENOMEM;
	*ret_ruleset = (uint32_t)number;
	if (number < known)
		return 0;
	for (size_t direction = 0; direction < 2; direction++)
		ruleset.rules[direction] =
			arena_copy(compiler->arena, draft->rules[direction].items,
				   draft->rules[direction].count * sizeof(uint32_t));
	if (arena_failed(compiler->arena) || ruleset_hash(compiler, &ruleset, &ruleset.id) < 0 ||
	    array_room(&compiler->rulesets, known, &compiler->ruleset_capacity,
		       sizeof(*compiler->rulesets)) < 0)
		return -ENOMEM;
	compiler->rulesets[number] = ruleset;
	return 0;
}

/* Numbers: the hash; the next free one where that is taken.  0 means "not isolated". */
static int rulesets_number(struct compiler *compiler)
{
	struct intern used = { .arena = compiler->arena };
	int ret = 0;

	for (size_t i = 0; i < compiler->ruleset_keys.count && ret == 0; i++) {
		uint32_t id = compiler->rulesets[i].id;

		while (id == 0 || intern_find(&used, &id, sizeof(id)) != INTERN_NONE)
			id++;
		if (intern_add(&used, &id, sizeof(id)) == INTERN_NONE)
			ret = -ENOMEM;
		compiler->rulesets[i].id = id;
	}
	intern_done(&used);
	return ret;
}

static int compile_rulesets(struct compiler *compiler)
{
	size_t count = compiler->population.group_keys.count;
	struct draft *drafts = calloc(count + 1, sizeof(*drafts));
	int ret = 0;

	compiler->group_rulesets = arena_alloc(compiler->arena, count * sizeof(uint32_t));
	if (!drafts || !compiler->group_rulesets) {
		free(drafts);
		return -ENOMEM;
	}
	for (const struct object *policy = world_first(compiler->world, OBJECT_NETWORK_POLICY);
	     policy && ret == 0; policy = world_next(compiler->world, policy))
		ret = compile_policy(compiler, policy, drafts);
	for (size_t i = 0; i < count; i++) {
		compiler->group_rulesets[i] = NONE;
		if (ret == 0 && (drafts[i].isolated[0] || drafts[i].isolated[1]))
			ret = ruleset_intern(compiler, &drafts[i], &compiler->group_rulesets[i]);
		id_list_done(&drafts[i].rules[0]);
		id_list_done(&drafts[i].rules[1]);
	}
	free(drafts);
	return ret < 0 ? ret : rulesets_number(compiler);
}

/* ---- all of it ---- */

static int compiler_run(struct compiler *compiler)
{
	int ret = population_build(&compiler->population, compiler->world, compiler->arena);

	if (ret == 0)
		ret = compile_rulesets(compiler);
	if (ret == 0)
		ret = compile_entries(compiler);
	if (ret == 0)
		ret = compile_tables(compiler);
	return ret;
}

static void compiler_done(struct compiler *compiler)
{
	population_done(&compiler->population);
	intern_done(&compiler->peer_keys);
	intern_done(&compiler->port_sets);
	intern_done(&compiler->rule_keys);
	intern_done(&compiler->ruleset_keys);
	free(compiler->peers);
	free(compiler->rules);
	free(compiler->rulesets);
	port_list_done(&compiler->scratch);
	buffer_done(&compiler->key);
}

int policy_compile(const struct world *world, struct compiled **ret, struct errmsg *err)
{
	struct compiled *compiled = calloc(1, sizeof(*compiled));
	struct compiler compiler = { .world = world, .compiled = compiled };
	int status;

	if (!compiled)
		return fail_plain(err, -ENOMEM, "compile policies: out of memory");
	compiled->arena = compiler.arena = arena_new();
	if (!compiler.arena) {
		compiled_free(compiled);
		return fail_plain(err, -ENOMEM, "compile policies: out of memory");
	}
	compiler.peer_keys.arena = compiler.arena;
	compiler.port_sets.arena = compiler.arena;
	compiler.rule_keys.arena = compiler.arena;
	compiler.ruleset_keys.arena = compiler.arena;
	status = compiler_run(&compiler);
	compiler_done(&compiler);
	if (status < 0) {
		compiled_free(compiled);
		return fail_plain(err, status, "compile policies: out of memory");
	}
	*ret = compiled;
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
