/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rulesets -> entries of policy_map: what holds for everyone, and for single identities.  The
 * precedence among tiers and rules is resolved here, so that the datapath knows none.
 */
#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"
#include "policy/compiler/compiler.h"
#include "policy/compiler/layer.h"

/* A port set that a rule gives to one identity. */
struct identity_ports {
	uint32_t identity;
	uint32_t layer; /* number of the rule in the order of asking; NetworkPolicies share one */
	uint32_t ports;
	bool in_doubt; /* as in struct layer */
};

struct identity_ports_list {
	struct identity_ports *items;
	size_t count;
	size_t capacity;
};

/* One direction of a ruleset while its entries are made. */
struct side {
	struct compiler *compiler;
	const struct ruleset *ruleset;
	size_t direction;           /* enum direction */
	const struct id_list *only; /* make entries of these identities, sorted; NULL: of all */
	struct entry_list *entries;
	uint32_t open;       /* port set that NetworkPolicies open to everyone */
	uint32_t base;       /* port set of everyone, all tiers considered */
	uint32_t everything; /* port set */
	struct identity_ports_list named;
	/* Layers and ports -> port set, in results.  Without an arena: NetworkPolicies are the only
	 * tier. */
	struct intern known;
	uint32_t *results;
	size_t result_capacity;
};

static int identity_ports_compare(const void *a, const void *b)
{
	const struct identity_ports *left = a;
	const struct identity_ports *right = b;

	if (left->identity != right->identity)
		return left->identity < right->identity ? -1 : 1;
	if (left->layer != right->layer)
		return left->layer < right->layer ? -1 : 1;
	if (left->ports != right->ports)
		return left->ports < right->ports ? -1 : 1;
	return left->in_doubt - right->in_doubt;
}

/* ---- what rules say to single identities ---- */

/* What a rule that may match, and may not, takes from one identity. */
static void add_in_doubt(struct side *side, const struct rule *rule, size_t layer,
			 uint32_t identity)
{
	*array_add(&side->named) = (struct identity_ports){
		.identity = identity,
		.layer = (uint32_t)layer,
		.ports = rule_ports_in_doubt(side->compiler, rule),
		.in_doubt = true,
	};
}

/* The ports that one rule gives to one identity: its numbers, and what its names mean there. */
static void add_identity(struct side *side, const struct rule *rule, size_t layer,
			 uint32_t identity)
{
	struct compiler *compiler = side->compiler;
	uint32_t group = compiler->allocator.identities[identity].group;
	uint32_t ports = rule->ports;

	if (group != NONE && compiler->allocator.groups[group].unknown && rule->name_count > 0 &&
	    rule->action != ACTION_ACCEPT)
		add_in_doubt(side, rule, layer, identity);
	if (group != NONE)
		ports = rule_ports_for(compiler, rule, &compiler->allocator.groups[group]);
	if (compiler->port_sets.items[ports].len > 0) /* else: names that mean nothing here */
		*array_add(&side->named) =
			(struct identity_ports){ identity, (uint32_t)layer, ports, false };
}

/* A rule without peers that has port names means something else for each identity. */
static void add_everyone(struct side *side, const struct rule *rule, size_t layer)
{
	const struct allocator *allocator = &side->compiler->allocator;
	size_t count = side->only ? side->only->count : allocator_identity_count(allocator);

	for (size_t i = 0; i < count; i++) {
		uint32_t identity = side->only ? side->only->items[i] : (uint32_t)i;

		if (allocator->identities[identity].refs > 0)
			add_identity(side, rule, layer, identity);
	}
}

static void add_peers(struct side *side, const struct rule *rule, size_t layer)
{
	for (size_t p = 0; p < rule->peer_count; p++) {
		const struct id_list *all = &side->compiler->peers[rule->peers[p]].identities;
		const struct id_list *wanted = side->only ? side->only : all;

		for (size_t i = 0; i < wanted->count; i++) {
			if (!side->only || id_list_has(all, wanted->items[i]))
				add_identity(side, rule, layer, wanted->items[i]);
		}
	}
}

/* Pods that are not known may be what the rule selects. */
static void add_unknown(struct side *side, const struct rule *rule, size_t layer)
{
	const struct allocator *allocator = &side->compiler->allocator;
	uint32_t identity;

	if (allocator->unknown_group == NONE || !rule_may_refuse_unknown(side->compiler, rule))
		return;
	identity = allocator->groups[allocator->unknown_group].first_identity;
	for (; identity != NONE; identity = allocator->identities[identity].next_in_group) {
		if (allocator->identities[identity].refs > 0 &&
		    (!side->only || id_list_has(side->only, identity)))
			add_in_doubt(side, rule, layer, identity);
	}
}

static const struct rule_list *tier_rules(const struct side *side, size_t tier)
{
	return &side->ruleset->rules[side->direction][tier];
}

static const struct rule *rule_get(const struct side *side, const struct rule_list *rules, size_t i)
{
	return &side->compiler->rules[rules->items[i]];
}

/* The layer of NetworkPolicies comes after one layer for each rule of the Admin tier. */
static size_t network_layer(const struct side *side)
{
	return tier_rules(side, TIER_ADMIN)->count;
}

/* Collects what rules give to single identities, and what is open to everyone. */
static void side_collect(struct side *side)
{
	size_t layer = 0;

	for (size_t tier = 0; tier < TIER_COUNT; tier++) {
		const struct rule_list *rules = tier_rules(side, tier);

		for (size_t i = 0; i < rules->count; i++) {
			const struct rule *rule = rule_get(side, rules, i);

			if (rule->any && rule->name_count > 0)
				add_everyone(side, rule, layer);
			add_peers(side, rule, layer);
			add_unknown(side, rule, layer);
			layer += tier != TIER_NETWORK;
		}
		layer += tier == TIER_NETWORK;
	}
	if (side->named.count > 0)
		qsort(side->named.items, side->named.count, sizeof(*side->named.items),
		      identity_ports_compare);
	for (size_t i = 0; i < tier_rules(side, TIER_NETWORK)->count; i++) {
		const struct rule *rule = rule_get(side, tier_rules(side, TIER_NETWORK), i);

		if (rule->any)
			ports_append(side->compiler, rule->ports);
	}
	side->open = ports_intern(side->compiler);
}

/* ---- what they decide together ---- */

static enum policy_action layer_action(const struct side *side, size_t layer)
{
	size_t network = network_layer(side);
	const struct rule_list *rules = tier_rules(side, TIER_ADMIN);

	if (layer == network)
		return ACTION_ACCEPT;
	if (layer > network) {
		rules = tier_rules(side, TIER_BASELINE);
		layer -= network + 1;
	}
	return rule_get(side, rules, layer)->action;
}

/* The tiers as one identity sees them: a layer for each of its port sets, and what NetworkPolicies
 * say to everyone.  layers has room for count + 2. */
static void tiers_make(const struct side *side, const struct identity_ports *named, size_t count,
		       struct layer *layers, struct layer_tier tiers[TIER_COUNT])
{
	const struct compiler *compiler = side->compiler;
	size_t network = network_layer(side);
	size_t used = 0;
	size_t i = 0;

	for (size_t tier = 0; tier < TIER_COUNT; tier++) {
		size_t first = used;

		for (; i < count &&
		       (tier == TIER_BASELINE || named[i].layer < network + (tier == TIER_NETWORK));
		     i++) {
			struct layer *layer = &layers[used++];

			layer->action = layer_action(side, named[i].layer);
			layer->in_doubt = named[i].in_doubt;
			layer->ports = ports_get(compiler, named[i].ports, &layer->count);
		}
		if (tier == TIER_NETWORK && side->ruleset->isolated[side->direction]) {
			layers[used].action = ACTION_ACCEPT;
			layers[used].ports = ports_get(compiler, side->open, &layers[used].count);
			used++;
			layers[used].action = ACTION_DENY;
			layers[used].ports =
				ports_get(compiler, side->everything, &layers[used].count);
			used++;
		}
		tiers[tier] =
			(struct layer_tier){ .layers = layers + first, .count = used - first };
	}
}

static uint32_t ports_decide(struct side *side, const struct identity_ports *named, size_t count)
{
	struct compiler *compiler = side->compiler;
	struct port_list *scratch = &compiler->scratch;
	auto_free struct layer *layers = xcalloc(count + 2, sizeof(*layers));
	struct layer_tier tiers[TIER_COUNT];
	size_t rule_count;

	tiers_make(side, named, count, layers, tiers);
	layers_flatten(tiers, TIER_COUNT, scratch);
	rule_count = scratch->count;
	scratch->count = 0;
	/* Not ports_intern(): these rules are in normal form, and some of them deny. */
	return (uint32_t)intern_add(&compiler->port_sets, scratch->items,
				    rule_count * sizeof(*scratch->items));
}

/* The port set of an identity that rules name (NULL, 0: of everybody else).  Equal questions are
 * answered once. */
static uint32_t side_ports(struct side *side, const struct identity_ports *named, size_t count)
{
	struct buffer *key = &side->compiler->key;
	size_t known = side->known.count;
	size_t number;

	if (!side->known.arena) { /* NetworkPolicies only open ports: their union decides */
		ports_append(side->compiler, side->open);
		for (size_t i = 0; i < count; i++)
			ports_append(side->compiler, named[i].ports);
		return ports_intern(side->compiler);
	}
	key->len = 0;
	for (size_t i = 0; i < count; i++) {
		buffer_number(key, named[i].layer << 1 | named[i].in_doubt);
		buffer_number(key, named[i].ports);
	}
	number = intern_add(&side->known, key->data, key->len);
	if (number == known) {
		array_room(&side->results, number, &side->result_capacity, sizeof(uint32_t));
		side->results[number] = ports_decide(side, named, count);
	}
	return side->results[number];
}

/* ---- entries ---- */

static void entry_add(struct side *side, uint32_t peer, uint32_t ports)
{
	struct compiled_entry *entry = array_add(side->entries);

	*entry = (struct compiled_entry){
		.key = { .policy_id = side->ruleset->id,
			 .peer = peer,
			 .direction = (uint8_t)side->direction },
		.guarded = side->known.arena != NULL,
	};
	entry->rules = ports_get(side->compiler, ports, &entry->rule_count);
}

/* The entries of one direction: one for everyone, and one for each identity that differs. */
static void side_compile(struct side *side)
{
	struct compiler *compiler = side->compiler;
	const struct identity_ports_list *named = &side->named;
	size_t end;

	port_list_add(&compiler->scratch, 0, 0, PORT_ANY_MAX);
	side->everything = ports_intern(compiler);
	side_collect(side);
	side->base = side_ports(side, NULL, 0);
	if (!side->only && compiler->port_sets.items[side->base].len > 0)
		entry_add(side, IDENTITY_ANY, side->base);
	for (size_t i = 0; i < named->count; i = end) {
		uint32_t identity = named->items[i].identity;
		uint32_t ports;

		for (end = i; end < named->count && named->items[end].identity == identity;)
			end++;
		ports = side_ports(side, &named->items[i], end - i);
		if (ports != side->base)
			entry_add(side, compiler->allocator.identities[identity].id, ports);
	}
}

void compile_ruleset(struct compiler *compiler, const struct ruleset *ruleset,
		     const struct id_list *only, struct entry_list *list)
{
	for (size_t direction = 0; direction < 2; direction++) {
		auto_(arena) struct arena *arena = NULL;
		struct side side = { .compiler = compiler,
				     .ruleset = ruleset,
				     .direction = direction,
				     .only = only,
				     .entries = list };

		if (!ruleset_decides(ruleset, direction))
			continue;
		if (tier_rules(&side, TIER_ADMIN)->count || tier_rules(&side, TIER_BASELINE)->count)
			side.known.arena = arena = arena_new();
		side_compile(&side);
		free(side.named.items);
		free(side.results);
		intern_done(&side.known);
	}
}

int entry_compare(const void *a, const void *b)
{
	const struct policy_key *left = &((const struct compiled_entry *)a)->key;
	const struct policy_key *right = &((const struct compiled_entry *)b)->key;

	if (left->policy_id != right->policy_id)
		return left->policy_id < right->policy_id ? -1 : 1;
	if (left->peer != right->peer)
		return left->peer < right->peer ? -1 : 1;
	return (left->direction > right->direction) - (left->direction < right->direction);
}

void entry_list_sort(struct entry_list *list)
{
	if (list->count > 0)
		qsort(list->items, list->count, sizeof(*list->items), entry_compare);
}

void compile_entries(struct compiler *compiler)
{
	struct entry_list entries = { 0 };

	for (size_t i = 0; i < compiler->ruleset_keys.count; i++)
		compile_ruleset(compiler, &compiler->rulesets[i], NULL, &entries);
	entry_list_sort(&entries);
	compiler->compiled->entries = entries.items;
	compiler->compiled->entry_count = entries.count;
}

size_t compiled_entries_first(const struct compiled *compiled, uint32_t policy_id)
{
	size_t low = 0;
	size_t high = compiled->entry_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (compiled->entries[middle].key.policy_id < policy_id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}
