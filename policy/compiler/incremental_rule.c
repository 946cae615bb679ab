/* SPDX-License-Identifier: Apache-2.0 */
/* What policies read, whom their peers match, and which ruleset each group has. */
#include <stdlib.h>
#include <string.h>

#include "policy/compiler/incremental_internal.h"

/* ---- terms ---- */

struct term_count {
	struct incremental *incremental;
	bool added;
};

static void term_count(const struct term *term, void *arg)
{
	const struct term_count *count = arg;
	struct incremental *incremental = count->incremental;
	auto_buffer struct buffer key = { 0 };
	size_t known = incremental->term_keys.count;
	struct term_use *use;
	size_t number;

	buffer_number(&key, term->kind);
	buffer_number(&key, term->proto);
	if (term->text)
		buffer_text(&key, term->text);
	buffer_add(&key, &term->prefix.addr, sizeof(term->prefix.addr));
	buffer_add(&key, &term->prefix.len, sizeof(term->prefix.len));
	number = intern_add(&incremental->term_keys, key.data, key.len);
	if (number == known) {
		array_room(&incremental->terms, number, &incremental->term_capacity,
			   sizeof(*incremental->terms));
		incremental->terms[number] = (struct term_use){ .term = *term };
		if (term->text)
			incremental->terms[number].term.text =
				arena_string(incremental->compiler.arena, term->text);
	}
	use = &incremental->terms[number];
	if (count->added)
		use->count++;
	else
		use->count--;
	if (use->count == count->added) /* the first was added, or the last removed */
		id_list_add(&incremental->changed_terms, (uint32_t)number);
}

void terms_count(struct incremental *incremental, const struct object *policy, bool added)
{
	policy_terms(policy, term_count, &(struct term_count){ incremental, added });
}

/* ---- identities ---- */

static bool id_was_removed(const struct incremental *incremental, uint32_t id)
{
	const struct allocator *allocator = &incremental->compiler.allocator;

	for (size_t i = 0; i < incremental->removed.count; i++) {
		if (allocator->identities[incremental->removed.items[i]].id == id)
			return true;
	}
	return false;
}

/* Finds the identities that came into use and those that went out of it, and numbers them.  One
 * that went out keeps its number until the tables are done with it. */
static void identities_update(struct incremental *incremental)
{
	struct allocator *allocator = &incremental->compiler.allocator;
	struct id_list *changed = &allocator->changed;

	id_list_sort(changed);
	for (size_t i = 0; i < changed->count; i++) {
		const struct identity_class *identity = &allocator->identities[changed->items[i]];

		if (identity->refs > 0 && identity->id == 0)
			id_list_add(&incremental->added, changed->items[i]);
		else if (identity->refs == 0 && identity->id != 0)
			id_list_add(&incremental->removed, changed->items[i]);
	}
	/* Where others change their numbers as well, everything is compiled. */
	for (size_t i = 0; i < incremental->removed.count && !incremental->full; i++) {
		uint32_t id = allocator->identities[incremental->removed.items[i]].id;

		incremental->full |= id_pool_release(&allocator->numbers, id);
	}
	for (size_t i = 0; i < incremental->added.count && !incremental->full; i++) {
		uint32_t number = incremental->added.items[i];
		uint32_t id;

		incremental->full |= id_pool_take(&allocator->numbers,
						  identity_hash(allocator, number), number, &id);
		incremental->full |= id_was_removed(incremental, id);
		allocator->identities[number].id = id;
	}
}

/* ---- peers ---- */

/* Looks whether a peer matches an identity now, and records a difference. */
static void peer_recheck(struct incremental *incremental, uint32_t number, uint32_t identity)
{
	struct compiler *compiler = &incremental->compiler;
	struct peer *peer = &compiler->peers[number];
	bool has = id_list_has(&peer->identities, identity);
	bool matches = compiler->allocator.identities[identity].refs > 0 &&
		       peer_matches(compiler, peer, identity);
	struct id_list *peers = &incremental->changed_peers;

	if (has == matches)
		return;
	if (matches)
		id_list_put(&peer->identities, identity);
	else
		id_list_drop(&peer->identities, identity);
	if (peers->count == 0 || peers->items[peers->count - 1] != number) {
		id_list_add(peers, number);
		id_list_add(&incremental->peer_firsts, (uint32_t)incremental->peer_changes.count);
	}
	id_list_add(&incremental->peer_changes, identity);
}

static void peer_recheck_all(struct incremental *incremental, uint32_t number,
			     const struct id_list *identities)
{
	for (size_t i = 0; i < identities->count; i++)
		peer_recheck(incremental, number, identities->items[i]);
}

/* Rechecks a peer for the pods of a namespace whose labels changed, if this can matter to it. */
static void peer_recheck_namespace(struct incremental *incremental, uint32_t number,
				   const struct relabelled *relabelled)
{
	const struct allocator *allocator = &incremental->compiler.allocator;
	const struct policy_peer *written = incremental->compiler.peers[number].written;
	const struct labels *now = allocator->namespace_labels[relabelled->namespace];
	struct id_list groups = { 0 };

	if (!written->namespaces || selector_matches(written->namespaces, &relabelled->before) ==
					    selector_matches(written->namespaces, now))
		return;
	label_index_select(&allocator->index, SCOPE_OF(relabelled->namespace), written->pods,
			   &groups);
	for (size_t i = 0; i < groups.count; i++) {
		uint32_t identity = allocator->groups[groups.items[i]].first_identity;

		for (; identity != NONE; identity = allocator->identities[identity].next_in_group)
			peer_recheck(incremental, number, identity);
	}
	id_list_done(&groups);
}

void peers_update(struct incremental *incremental)
{
	identities_update(incremental);
	for (size_t i = 0; i < incremental->compiler.peer_keys.count; i++) {
		uint32_t number = (uint32_t)i;

		peer_recheck_all(incremental, number, &incremental->removed);
		peer_recheck_all(incremental, number, &incremental->added);
		for (size_t r = 0; r < incremental->relabelled_count; r++)
			peer_recheck_namespace(incremental, number, &incremental->relabelled[r]);
	}
}

/* ---- rulesets ---- */

static void group_update(struct incremental *incremental, uint32_t number)
{
	struct compiler *compiler = &incremental->compiler;
	uint32_t before = compiler->allocator.groups[number].ruleset;
	uint32_t ruleset = compile_group(compiler, number);

	if (ruleset == before)
		return;
	compiler->allocator.groups[number].ruleset = ruleset;
	if (ruleset != NONE) {
		compiler->rulesets[ruleset].refs++;
		id_list_add(&incremental->rulesets, ruleset);
	}
	if (before != NONE) {
		compiler->rulesets[before].refs--;
		id_list_add(&incremental->rulesets, before);
	}
	id_list_add(&incremental->switched, number);
}

static void ruleset_retire(struct incremental *incremental, struct ruleset *ruleset)
{
	const struct compiled *compiled = incremental->compiler.compiled;

	for (size_t i = compiled_entries_first(compiled, ruleset->id);
	     i < compiled->entry_count && compiled->entries[i].key.policy_id == ruleset->id; i++)
		*array_add(&incremental->stale) = compiled->entries[i].key;
	incremental->full |= id_pool_release(&incremental->compiler.numbers, ruleset->id);
	ruleset->id = 0;
}

static void ruleset_begin(struct incremental *incremental, uint32_t number)
{
	struct compiler *compiler = &incremental->compiler;
	const struct compiled *compiled = compiler->compiled;
	struct ruleset *ruleset = &compiler->rulesets[number];
	size_t first;

	incremental->full |= id_pool_take(&compiler->numbers, ruleset->hash, number, &ruleset->id);
	/* If another ruleset had the number until now, endpoints would not notice the change. */
	first = compiled_entries_first(compiled, ruleset->id);
	incremental->full |= first < compiled->entry_count &&
			     compiled->entries[first].key.policy_id == ruleset->id;
	compile_ruleset(compiler, ruleset, NULL, &incremental->compiled_entries);
}

/* ---- entries of rulesets that stay ---- */

static void id_list_append(struct id_list *list, const uint32_t *items, size_t count)
{
	for (size_t i = 0; i < count; i++)
		id_list_add(list, items[i]);
}

static void append_unknown(const struct allocator *allocator, const struct id_list *changed,
			   struct id_list *identities)
{
	for (size_t i = 0; i < changed->count; i++) {
		uint32_t group = allocator->identities[changed->items[i]].group;

		if (group != NONE && group == allocator->unknown_group)
			id_list_add(identities, changed->items[i]);
	}
}

/* Appends the identities to which a rule gives something else than before. */
static void rule_changes(const struct incremental *incremental, const struct rule *rule,
			 struct id_list *identities)
{
	const struct id_list *peers = &incremental->changed_peers;

	/* A port name may mean something on every pod. */
	if (rule->any && rule->name_count > 0) {
		id_list_append(identities, incremental->added.items, incremental->added.count);
		id_list_append(identities, incremental->removed.items, incremental->removed.count);
	}
	if (rule_may_refuse_unknown(&incremental->compiler, rule)) { /* which no peer lists */
		const struct allocator *allocator = &incremental->compiler.allocator;

		append_unknown(allocator, &incremental->added, identities);
		append_unknown(allocator, &incremental->removed, identities);
	}
	for (size_t i = 0; i < rule->peer_count; i++) {
		size_t at = id_list_position(peers, rule->peers[i]);
		uint32_t end = (uint32_t)incremental->peer_changes.count;
		uint32_t first;

		if (at == peers->count || peers->items[at] != rule->peers[i])
			continue;
		first = incremental->peer_firsts.items[at];
		if (at + 1 < peers->count)
			end = incremental->peer_firsts.items[at + 1];
		id_list_append(identities, &incremental->peer_changes.items[first], end - first);
	}
}

static void ruleset_update(struct incremental *incremental, const struct ruleset *ruleset)
{
	struct compiler *compiler = &incremental->compiler;
	struct id_list identities = { 0 };

	for (size_t i = 0; i < 2 * TIER_COUNT; i++) {
		const struct rule_list *rules = &ruleset->rules[i / TIER_COUNT][i % TIER_COUNT];

		for (size_t r = 0; r < rules->count; r++)
			rule_changes(incremental, &compiler->rules[rules->items[r]], &identities);
	}
	id_list_sort(&identities);
	if (identities.count > 0)
		compile_ruleset(compiler, ruleset, &identities, &incremental->compiled_entries);
	/* An entry that was not compiled again is gone: tables_update() compares. */
	for (size_t i = 0; i < 2 * identities.count; i++)
		*array_add(&incremental->stale) = (struct policy_key){
			.policy_id = ruleset->id,
			.peer = compiler->allocator.identities[identities.items[i / 2]].id,
			.direction = (uint8_t)(i % 2),
		};
	id_list_done(&identities);
}

void rulesets_update(struct incremental *incremental)
{
	const struct compiler *compiler = &incremental->compiler;
	const struct id_list *changed = &incremental->rulesets;
	bool peers_changed = incremental->changed_peers.count > 0 || incremental->added.count > 0 ||
			     incremental->removed.count > 0;

	id_list_sort(&incremental->groups);
	for (size_t i = 0; i < incremental->groups.count; i++)
		group_update(incremental, incremental->groups.items[i]);
	id_list_sort(&incremental->rulesets);
	/* Rulesets that stay come first: new ones are compiled as everything is now. */
	for (size_t i = 0; i < compiler->ruleset_keys.count && peers_changed; i++) {
		const struct ruleset *ruleset = &compiler->rulesets[i];

		if (ruleset->refs > 0 && ruleset->id != 0)
			ruleset_update(incremental, ruleset);
	}
	for (size_t i = 0; i < changed->count && !incremental->full; i++) {
		struct ruleset *ruleset = &compiler->rulesets[changed->items[i]];

		if (ruleset->refs == 0 && ruleset->id != 0)
			ruleset_retire(incremental, ruleset);
	}
	for (size_t i = 0; i < changed->count && !incremental->full; i++) {
		const struct ruleset *ruleset = &compiler->rulesets[changed->items[i]];

		if (ruleset->refs > 0 && ruleset->id == 0)
			ruleset_begin(incremental, changed->items[i]);
	}
}
