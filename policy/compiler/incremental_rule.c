/* SPDX-License-Identifier: Apache-2.0 */
/* Which rules hold for whom: from what policies read to the entries that change. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/compiler/incremental_internal.h"

/* ---- terms ---- */

struct term_count {
	struct incremental *incremental;
	bool comes;
};

static void term_key(const struct term *term, struct buffer *key)
{
	buffer_number(key, term->kind);
	buffer_number(key, term->proto);
	if (term->text)
		buffer_text(key, term->text);
	buffer_add(key, &term->prefix.addr, sizeof(term->prefix.addr));
	buffer_add(key, &term->prefix.len, sizeof(term->prefix.len));
}

static int term_add(struct incremental *incremental, size_t number, const struct term *term)
{
	struct term_use *use;

	if (array_room(&incremental->terms, number, &incremental->term_capacity,
		       sizeof(*incremental->terms)) < 0)
		return -ENOMEM;
	use = &incremental->terms[number];
	*use = (struct term_use){ .term = *term };
	if (term->text)
		use->term.text = arena_string(incremental->compiler.arena, term->text);
	return term->text && !use->term.text ? -ENOMEM : 0;
}

static int term_count(const struct term *term, void *arg)
{
	const struct term_count *count = arg;
	struct incremental *incremental = count->incremental;
	auto_buffer struct buffer key = { 0 };
	size_t known = incremental->term_keys.count;
	struct term_use *use;
	size_t number;

	term_key(term, &key);
	number = key.failed ? INTERN_NONE : intern_add(&incremental->term_keys, key.data, key.len);
	if (number == INTERN_NONE || (number == known && term_add(incremental, number, term) < 0))
		return -ENOMEM;
	use = &incremental->terms[number];
	if (count->comes)
		use->count++;
	else
		use->count--;
	if (use->count > 1 || (use->count == 1 && !count->comes))
		return 0;
	return id_list_add(&incremental->changed_terms, (uint32_t)number);
}

int terms_count(struct incremental *incremental, const struct object *policy, bool comes)
{
	struct term_count count = { .incremental = incremental, .comes = comes };

	return policy_terms(policy, term_count, &count);
}

/* ---- identities ---- */

/* One that went out of use keeps its number until the tables are done with it. */
static int identities_retire(struct incremental *incremental)
{
	struct allocator *allocator = &incremental->compiler.allocator;

	for (size_t i = 0; i < incremental->died.count; i++) {
		int ret = id_pool_release(&allocator->numbers,
					  allocator->identities[incremental->died.items[i]].id);

		if (ret)
			return ret; /* others have other numbers now */
	}
	return 0;
}

static bool id_has_retired(const struct incremental *incremental, uint32_t id)
{
	const struct allocator *allocator = &incremental->compiler.allocator;

	for (size_t i = 0; i < incremental->died.count; i++) {
		if (allocator->identities[incremental->died.items[i]].id == id)
			return true;
	}
	return false;
}

static int identities_number(struct incremental *incremental)
{
	struct allocator *allocator = &incremental->compiler.allocator;

	for (size_t i = 0; i < incremental->born.count; i++) {
		uint32_t number = incremental->born.items[i];
		uint32_t id;
		int ret = id_pool_take(&allocator->numbers, identity_hash(allocator, number),
				       number, &id);

		if (ret)
			return ret;
		if (id_has_retired(incremental, id))
			return INCREMENTAL_FULL;
		allocator->identities[number].id = id;
	}
	return 0;
}

/* Sorts those that turned into those that came into use and those that went out of it. */
static int identities_update(struct incremental *incremental)
{
	struct allocator *allocator = &incremental->compiler.allocator;
	struct id_list *changed = &allocator->changed;
	int ret = 0;

	id_list_sort(changed);
	for (size_t i = 0; i < changed->count && ret == 0; i++) {
		const struct identity_class *identity = &allocator->identities[changed->items[i]];
		bool used = identity->id != 0;

		if (identity->refs > 0 && !used)
			ret = id_list_add(&incremental->born, changed->items[i]);
		else if (identity->refs == 0 && used)
			ret = id_list_add(&incremental->died, changed->items[i]);
	}
	if (ret == 0)
		ret = identities_retire(incremental);
	return ret ? ret : identities_number(incremental);
}

/* ---- peers ---- */

/* Looks whether a peer stands for an identity as it is now, and notes a difference. */
static int peer_recheck(struct incremental *incremental, uint32_t number, uint32_t identity)
{
	struct compiler *compiler = &incremental->compiler;
	struct peer *peer = &compiler->peers[number];
	bool has = id_list_has(&peer->identities, identity);
	bool matches = compiler->allocator.identities[identity].refs > 0 &&
		       peer_matches(compiler, peer, identity);
	struct id_list *peers = &incremental->changed_peers;

	if (has == matches)
		return 0;
	if (matches && id_list_put(&peer->identities, identity) < 0)
		return -ENOMEM;
	if (!matches)
		id_list_drop(&peer->identities, identity);
	if ((peers->count == 0 || peers->items[peers->count - 1] != number) &&
	    (id_list_add(peers, number) < 0 ||
	     id_list_add(&incremental->peer_firsts, (uint32_t)incremental->peer_changes.count) < 0))
		return -ENOMEM;
	return id_list_add(&incremental->peer_changes, identity);
}

static int peer_recheck_all(struct incremental *incremental, uint32_t number,
			    const struct id_list *identities)
{
	int ret = 0;

	for (size_t i = 0; i < identities->count && ret == 0; i++)
		ret = peer_recheck(incremental, number, identities->items[i]);
	return ret;
}

/* Identities of those pods of a namespace that a selector (NULL: all) matches. */
static int namespace_identities(const struct incremental *incremental, uint32_t namespace,
				const struct selector *pods, struct id_list *identities)
{
	const struct allocator *allocator = &incremental->compiler.allocator;
	struct id_list groups = { 0 };
	int ret = label_index_select(&allocator->index, SCOPE_OF(namespace), pods, &groups);

	for (size_t i = 0; i < groups.count && ret == 0; i++) {
		uint32_t identity = allocator->groups[groups.items[i]].first_identity;

		for (; identity != NONE && ret == 0;
		     identity = allocator->identities[identity].next_in_group)
			ret = id_list_add(identities, identity);
	}
	id_list_done(&groups);
	return ret;
}

/* Whether the new labels of a namespace make a difference for a peer. */
static bool relabelled_concerns(const struct incremental *incremental,
				const struct relabelled *relabelled, const struct peer *peer)
{
	const struct labels *now =
		incremental->compiler.allocator.namespace_labels[relabelled->namespace];

	return peer->written->namespaces &&
	       selector_matches(peer->written->namespaces, &relabelled->before) !=
		       selector_matches(peer->written->namespaces, now);
}

static int peer_update(struct incremental *incremental, uint32_t number)
{
	int ret = peer_recheck_all(incremental, number, &incremental->died);

	if (ret == 0)
		ret = peer_recheck_all(incremental, number, &incremental->born);
	for (size_t i = 0; i < incremental->relabelled_count && ret == 0; i++) {
		const struct relabelled *relabelled = &incremental->relabelled[i];
		const struct peer *peer = &incremental->compiler.peers[number];
		struct id_list identities = { 0 };

		if (!relabelled_concerns(incremental, relabelled, peer))
			continue;
		ret = namespace_identities(incremental, relabelled->namespace, peer->written->pods,
					   &identities);
		if (ret == 0)
			ret = peer_recheck_all(incremental, number, &identities);
		id_list_done(&identities);
	}
	return ret;
}

int peers_update(struct incremental *incremental)
{
	size_t count = incremental->compiler.peer_keys.count;
	int ret = identities_update(incremental);

	for (size_t i = 0; i < count && ret == 0; i++)
		ret = peer_update(incremental, (uint32_t)i);
	return ret;
}

/* ---- rulesets ---- */

static int group_update(struct incremental *incremental, uint32_t number)
{
	struct compiler *compiler = &incremental->compiler;
	uint32_t before = compiler->allocator.groups[number].ruleset;
	uint32_t ruleset;
	int ret = compile_group(compiler, number, &ruleset);

	if (ret < 0 || ruleset == before)
		return ret;
	compiler->allocator.groups[number].ruleset = ruleset;
	if (ruleset != NONE) {
		compiler->rulesets[ruleset].refs++;
		ret = id_list_add(&incremental->rulesets, ruleset);
	}
	if (before != NONE && ret == 0) {
		compiler->rulesets[before].refs--;
		ret = id_list_add(&incremental->rulesets, before);
	}
	return ret ? ret : id_list_add(&incremental->switched, number);
}

static int unmade_add(struct incremental *incremental, const struct policy_key *key)
{
	struct key_list *list = &incremental->unmade;

	if (array_room(&list->items, list->count, &list->capacity, sizeof(*list->items)) < 0)
		return -ENOMEM;
	list->items[list->count++] = *key;
	return 0;
}

static int ruleset_retire(struct incremental *incremental, struct ruleset *ruleset)
{
	const struct compiled *compiled = incremental->compiler.compiled;
	int ret = 0;

	for (size_t i = compiled_entries_first(compiled, ruleset->id);
	     i < compiled->entry_count && compiled->entries[i].key.policy_id == ruleset->id &&
	     ret == 0;
	     i++)
		ret = unmade_add(incremental, &compiled->entries[i].key);
	if (ret == 0)
		ret = id_pool_release(&incremental->compiler.numbers, ruleset->id);
	ruleset->id = 0;
	return ret;
}

static int ruleset_begin(struct incremental *incremental, uint32_t number)
{
	struct compiler *compiler = &incremental->compiler;
	const struct compiled *compiled = compiler->compiled;
	struct ruleset *ruleset = &compiler->rulesets[number];
	size_t first;
	int ret = id_pool_take(&compiler->numbers, ruleset->hash, number, &ruleset->id);

	if (ret)
		return ret;
	/* Somebody else's number of a moment ago: endpoints would not see that it is another. */
	first = compiled_entries_first(compiled, ruleset->id);
	if (first < compiled->entry_count && compiled->entries[first].key.policy_id == ruleset->id)
		return INCREMENTAL_FULL;
	return compile_ruleset(compiler, ruleset, NULL, &incremental->made);
}

/* Rulesets that no group has any more, and those that the first group has. */
static int rulesets_turn(struct incremental *incremental)
{
	const struct id_list *changed = &incremental->rulesets;
	struct ruleset *rulesets = incremental->compiler.rulesets;
	int ret = 0;

	for (size_t i = 0; i < changed->count && ret == 0; i++) {
		struct ruleset *ruleset = &rulesets[changed->items[i]];

		if (ruleset->refs == 0 && ruleset->id != 0)
			ret = ruleset_retire(incremental, ruleset);
	}
	for (size_t i = 0; i < changed->count && ret == 0; i++) {
		const struct ruleset *ruleset = &rulesets[changed->items[i]];

		if (ruleset->refs > 0 && ruleset->id == 0)
			ret = ruleset_begin(incremental, changed->items[i]);
	}
	return ret;
}

/* ---- entries of rulesets that stay ---- */

static int id_list_append(struct id_list *list, const uint32_t *items, size_t count)
{
	int ret = 0;

	for (size_t i = 0; i < count && ret == 0; i++)
		ret = id_list_add(list, items[i]);
	return ret;
}

/* The identities for which a rule says something else than before. */
static int rule_changes(const struct incremental *incremental, const struct rule *rule,
			struct id_list *identities)
{
	const struct id_list *peers = &incremental->changed_peers;
	int ret = 0;

	/* What the name of a port means is asked of everybody. */
	if (rule->any && rule->name_count > 0) {
		ret = id_list_append(identities, incremental->born.items, incremental->born.count);
		if (ret == 0)
			ret = id_list_append(identities, incremental->died.items,
					     incremental->died.count);
	}
	for (size_t i = 0; i < rule->peer_count && ret == 0; i++) {
		size_t place = id_list_place(peers, rule->peers[i]);
		uint32_t first;
		uint32_t end = (uint32_t)incremental->peer_changes.count;

		if (place == peers->count || peers->items[place] != rule->peers[i])
			continue;
		first = incremental->peer_firsts.items[place];
		if (place + 1 < peers->count)
			end = incremental->peer_firsts.items[place + 1];
		ret = id_list_append(identities, &incremental->peer_changes.items[first],
				     end - first);
	}
	return ret;
}

static int ruleset_changes(const struct incremental *incremental, const struct ruleset *ruleset,
			   struct id_list *identities)
{
	int ret = 0;

	for (size_t i = 0; i < 2 * TIER_COUNT; i++) {
		const struct rule_list *rules = &ruleset->rules[i / TIER_COUNT][i % TIER_COUNT];

		for (size_t r = 0; r < rules->count && ret == 0; r++)
			ret = rule_changes(incremental,
					   &incremental->compiler.rules[rules->items[r]],
					   identities);
	}
	id_list_sort(identities);
	return ret;
}

static int ruleset_update(struct incremental *incremental, const struct ruleset *ruleset)
{
	struct compiler *compiler = &incremental->compiler;
	struct id_list identities = { 0 };
	int ret = ruleset_changes(incremental, ruleset, &identities);

	if (ret == 0 && identities.count > 0)
		ret = compile_ruleset(compiler, ruleset, &identities, &incremental->made);
	/* What was not made again is gone; tables_update() sees to that. */
	for (size_t i = 0; i < 2 * identities.count && ret == 0; i++) {
		struct policy_key key = {
			.policy_id = ruleset->id,
			.peer = compiler->allocator.identities[identities.items[i / 2]].id,
			.direction = (uint8_t)(i % 2),
		};

		ret = unmade_add(incremental, &key);
	}
	id_list_done(&identities);
	return ret;
}

int rulesets_update(struct incremental *incremental)
{
	const struct compiler *compiler = &incremental->compiler;
	bool peers = incremental->changed_peers.count > 0 || incremental->born.count > 0 ||
		     incremental->died.count > 0;
	int ret = 0;

	id_list_sort(&incremental->groups);
	for (size_t i = 0; i < incremental->groups.count && ret == 0; i++)
		ret = group_update(incremental, incremental->groups.items[i]);
	id_list_sort(&incremental->rulesets);
	/* Those that stay first: those that begin are made as all is now. */
	for (size_t i = 0; i < compiler->ruleset_keys.count && peers && ret == 0; i++) {
		const struct ruleset *ruleset = &compiler->rulesets[i];

		if (ruleset->refs > 0 && ruleset->id != 0)
			ret = ruleset_update(incremental, ruleset);
	}
	return ret ? ret : rulesets_turn(incremental);
}
