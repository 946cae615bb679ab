/* SPDX-License-Identifier: Apache-2.0 */
/* Rulesets -> entries of policy_map: the ports left open to everyone, and to single identities. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/compiler.h"

/* A port set that is open to one identity. */
struct grant {
	uint32_t identity;
	uint32_t ports;
};

struct grant_list {
	struct grant *items;
	size_t count;
	size_t capacity;
};

static int grant_add(struct grant_list *grants, uint32_t identity, size_t ports)
{
	if (array_room(&grants->items, grants->count, &grants->capacity, sizeof(*grants->items)) <
	    0)
		return -ENOMEM;
	grants->items[grants->count++] =
		(struct grant){ .identity = identity, .ports = (uint32_t)ports };
	return 0;
}

static int grant_compare(const void *a, const void *b)
{
	const struct grant *left = a;
	const struct grant *right = b;

	if (left->identity != right->identity)
		return left->identity < right->identity ? -1 : 1;
	return (left->ports > right->ports) - (left->ports < right->ports);
}

/* What one rule opens to one identity: its numbers, and what its names mean there. */
static int grant_rule(struct compiler *compiler, const struct rule *rule, uint32_t identity,
		      struct grant_list *grants)
{
	uint32_t group = compiler->population.identities[identity].group;
	size_t ports = rule->ports;

	if (rule->name_count > 0 && group != NONE &&
	    (ports_append(compiler, rule->ports) < 0 ||
	     ports_resolve(compiler, rule->names, rule->name_count,
			   &compiler->population.groups[group]) < 0 ||
	     ports_intern(compiler, &ports) < 0))
		return -ENOMEM;
	if (compiler->port_sets.items[ports].len == 0) /* names that mean nothing here */
		return 0;
	return grant_add(grants, identity, ports);
}

static int grant_all(struct compiler *compiler, const struct rule *rule, struct grant_list *grants)
{
	size_t count = population_identity_count(&compiler->population);

	for (size_t i = 0; i < count; i++) {
		if (grant_rule(compiler, rule, (uint32_t)i, grants) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* Collects what the rules of one direction open, and to everyone (base). */
static int grants_collect(struct compiler *compiler, const struct ruleset *ruleset,
			  size_t direction, size_t *ret_base, struct grant_list *grants)
{
	const uint32_t *rules = ruleset->rules[direction];
	size_t count = ruleset->rule_count[direction];

	for (size_t i = 0; i < count; i++) {
		const struct rule *rule = &compiler->rules[rules[i]];

		if (rule->any && ports_append(compiler, rule->ports) < 0)
			return -ENOMEM;
	}
	if (ports_intern(compiler, ret_base) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		const struct rule *rule = &compiler->rules[rules[i]];

		if (rule->any && rule->name_count > 0 && grant_all(compiler, rule, grants) < 0)
			return -ENOMEM;
		for (size_t p = 0; p < rule->peer_count; p++) {
			const struct peer *peer = &compiler->peers[rule->peers[p]];

			for (size_t n = 0; n < peer->count; n++) {
				if (grant_rule(compiler, rule, peer->identities[n], grants) < 0)
					return -ENOMEM;
			}
		}
	}
	return 0;
}

static int entry_add(struct compiler *compiler, uint32_t policy_id, size_t direction, uint32_t peer,
		     size_t ports)
{
	struct compiled *compiled = compiler->compiled;
	struct compiled_entry *entry;

	if (array_room(&compiled->entries, compiled->entry_count, &compiler->entry_capacity,
		       sizeof(*compiled->entries)) < 0)
		return -ENOMEM;
	entry = &compiled->entries[compiled->entry_count++];
	*entry = (struct compiled_entry){
		.key = { .policy_id = policy_id, .peer = peer, .direction = (uint8_t)direction },
	};
	entry->rules = ports_get(compiler, ports, &entry->rule_count);
	return 0;
}

/* Entries of one direction: one for everyone, and one for each identity that has more. */
static int compile_direction(struct compiler *compiler, const struct ruleset *ruleset,
			     size_t direction)
{
	struct grant_list grants = { 0 };
	size_t base = 0;
	int ret = grants_collect(compiler, ruleset, direction, &base, &grants);

	if (ret == 0 && compiler->port_sets.items[base].len > 0)
		ret = entry_add(compiler, ruleset->id, direction, IDENTITY_ANY, base);
	if (grants.count > 0)
		qsort(grants.items, grants.count, sizeof(*grants.items), grant_compare);
	for (size_t i = 0; i < grants.count && ret == 0;) {
		uint32_t identity = grants.items[i].identity;
		size_t ports = base;

		/* Its entry will decide alone, so it holds what is open to everyone as well. */
		ret = ports_append(compiler, base);
		for (; i < grants.count && grants.items[i].identity == identity && ret == 0; i++)
			ret = ports_append(compiler, grants.items[i].ports);
		if (ret == 0)
			ret = ports_intern(compiler, &ports);
		if (ret == 0 && ports != base)
			ret = entry_add(compiler, ruleset->id, direction,
					compiler->population.identities[identity].id, ports);
	}
	free(grants.items);
	return ret;
}

static int entry_compare(const void *a, const void *b)
{
	const struct policy_key *left = &((const struct compiled_entry *)a)->key;
	const struct policy_key *right = &((const struct compiled_entry *)b)->key;

	if (left->policy_id != right->policy_id)
		return left->policy_id < right->policy_id ? -1 : 1;
	if (left->peer != right->peer)
		return left->peer < right->peer ? -1 : 1;
	return (left->direction > right->direction) - (left->direction < right->direction);
}

int compile_entries(struct compiler *compiler)
{
	struct compiled *compiled = compiler->compiled;

	for (size_t i = 0; i < compiler->ruleset_keys.count; i++) {
		for (size_t direction = 0; direction < 2; direction++) {
			if (compiler->rulesets[i].isolated[direction] &&
			    compile_direction(compiler, &compiler->rulesets[i], direction) < 0)
				return -ENOMEM;
		}
	}
	if (compiled->entry_count > 0)
		qsort(compiled->entries, compiled->entry_count, sizeof(*compiled->entries),
		      entry_compare);
	return 0;
}
