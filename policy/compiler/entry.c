/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rulesets -> entries of policy_map: what holds for everyone, and for single identities.  All
 * precedence among tiers and rules ends here.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/compiler/compiler.h"
#include "policy/compiler/layer.h"

/* A port set that a rule names to one identity. */
struct grant {
	uint32_t identity;
	uint32_t layer; /* number of the rule in the order of asking; NetworkPolicies share one */
	uint32_t ports;
};

struct grant_list {
	struct grant *items;
	size_t count;
	size_t capacity;
};

/* One direction of a ruleset while its entries are made. */
struct side {
	struct compiler *compiler;
	const struct ruleset *ruleset;
	size_t direction;           /* enum direction */
	const struct id_list *only; /* identities whose entries are made, sorted; NULL: all */
	struct entry_list *entries;
	size_t open; /* port set that NetworkPolicies open to everyone */
	size_t base; /* port set of everyone, all tiers considered */
	size_t everything;
	struct grant_list grants;
	/* Layers and ports -> port set, in results; without an arena there are no tiers but
	 * NetworkPolicies. */
	struct intern known;
	uint32_t *results;
	size_t result_capacity;
};

static int grant_add(struct side *side, uint32_t identity, size_t layer, size_t ports)
{
	struct grant_list *grants = &side->grants;

	if (array_room(&grants->items, grants->count, &grants->capacity, sizeof(*grants->items)) <
	    0)
		return -ENOMEM;
	grants->items[grants->count++] = (struct grant){ .identity = identity,
							 .layer = (uint32_t)layer,
							 .ports = (uint32_t)ports };
	return 0;
}

static int grant_compare(const void *a, const void *b)
{
	const struct grant *left = a;
	const struct grant *right = b;

	if (left->identity != right->identity)
		return left->identity < right->identity ? -1 : 1;
	if (left->layer != right->layer)
		return left->layer < right->layer ? -1 : 1;
	return (left->ports > right->ports) - (left->ports < right->ports);
}

/* ---- what rules say to whom ---- */

/* The ports that one rule names to one identity: its numbers, and what its names mean there. */
static int grant_rule(struct side *side, const struct rule *rule, size_t layer, uint32_t identity)
{
	struct compiler *compiler = side->compiler;
	uint32_t group = compiler->allocator.identities[identity].group;
	size_t ports = rule->ports;

	if (rule->name_count > 0 && group != NONE &&
	    (ports_append(compiler, rule->ports) < 0 ||
	     ports_resolve(compiler, rule->names, rule->name_count,
			   &compiler->allocator.groups[group]) < 0 ||
	     ports_intern(compiler, &ports) < 0))
		return -ENOMEM;
	if (compiler->port_sets.items[ports].len == 0) /* names that mean nothing here */
		return 0;
	return grant_add(side, identity, layer, ports);
}

static int grant_all(struct side *side, const struct rule *rule, size_t layer)
{
	const struct allocator *allocator = &side->compiler->allocator;
	size_t count = side->only ? side->only->count : allocator_identity_count(allocator);

	for (size_t i = 0; i < count; i++) {
		uint32_t identity = side->only ? side->only->items[i] : (uint32_t)i;

		if (allocator->identities[identity].refs > 0 &&
		    grant_rule(side, rule, layer, identity) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int grant_peer(struct side *side, const struct rule *rule, size_t layer,
		      const struct peer *peer)
{
	const struct id_list *few = side->only ? side->only : &peer->identities;

	for (size_t i = 0; i < few->count; i++) {
		if (side->only && !id_list_has(&peer->identities, few->items[i]))
			continue;
		if (grant_rule(side, rule, layer, few->items[i]) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int grant_peers(struct side *side, const struct rule *rule, size_t layer)
{
	for (size_t p = 0; p < rule->peer_count; p++) {
		if (grant_peer(side, rule, layer, &side->compiler->peers[rule->peers[p]]) < 0)
			return -ENOMEM;
	}
	return 0;
}

static const struct rule_list *tier_rules(const struct side *side, size_t tier)
{
	return &side->ruleset->rules[side->direction][tier];
}

static const struct rule *rule_get(const struct side *side, const struct rule_list *rules, size_t i)
{
	return &side->compiler->rules[rules->items[i]];
}

/* The layer of NetworkPolicies: after those of the rules of the Admin tier. */
static size_t network_layer(const struct side *side)
{
	return tier_rules(side, TIER_ADMIN)->count;
}

/* Collects what rules name to single identities, and what is open to everyone. */
static int grants_collect(struct side *side)
{
	struct compiler *compiler = side->compiler;
	size_t layer = 0;

	for (size_t tier = 0; tier < TIER_COUNT; tier++) {
		const struct rule_list *rules = tier_rules(side, tier);

		for (size_t i = 0; i < rules->count; i++) {
			const struct rule *rule = rule_get(side, rules, i);

			if (rule->any && rule->name_count > 0 && grant_all(side, rule, layer) < 0)
				return -ENOMEM;
			if (grant_peers(side, rule, layer) < 0)
				return -ENOMEM;
			layer += tier != TIER_NETWORK;
		}
		layer += tier == TIER_NETWORK;
	}
	for (size_t i = 0; i < tier_rules(side, TIER_NETWORK)->count; i++) {
		const struct rule *rule = rule_get(side, tier_rules(side, TIER_NETWORK), i);

		if (rule->any && ports_append(compiler, rule->ports) < 0)
			return -ENOMEM;
	}
	return ports_intern(compiler, &side->open);
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

/* The tiers as one identity sees them: a layer for each grant, and what NetworkPolicies say to
 * everyone.  layers has room for count + 2. */
static void tiers_make(const struct side *side, const struct grant *grants, size_t count,
		       struct layer *layers, struct layer_tier tiers[TIER_COUNT])
{
	const struct compiler *compiler = side->compiler;
	size_t network = network_layer(side);
	size_t used = 0;
	size_t i = 0;

	for (size_t tier = 0; tier < TIER_COUNT; tier++) {
		size_t first = used;

		for (; i < count && (tier == TIER_BASELINE ||
				     grants[i].layer < network + (tier == TIER_NETWORK));
		     i++) {
			struct layer *layer = &layers[used++];

			layer->action = layer_action(side, grants[i].layer);
			layer->ports = ports_get(compiler, grants[i].ports, &layer->count);
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

/* NetworkPolicies alone only open ports: the union of them is all there is to decide. */
static int ports_unite(struct side *side, const struct grant *grants, size_t count,
		       size_t *ret_ports)
{
	if (ports_append(side->compiler, side->open) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		if (ports_append(side->compiler, grants[i].ports) < 0)
			return -ENOMEM;
	}
	return ports_intern(side->compiler, ret_ports);
}

/* The port set of an identity that the rules name; NULL, 0: of everybody else. */
static int ports_decide(struct side *side, const struct grant *grants, size_t count,
			size_t *ret_ports)
{
	struct compiler *compiler = side->compiler;
	struct port_list *scratch = &compiler->scratch;
	struct layer *layers = calloc(count + 2, sizeof(*layers));
	struct layer_tier tiers[TIER_COUNT];
	int ret;

	if (!layers)
		return -ENOMEM;
	tiers_make(side, grants, count, layers, tiers);
	scratch->count = 0;
	ret = layers_flatten(tiers, TIER_COUNT, scratch);
	free(layers);
	if (ret == 0) {
		*ret_ports = intern_add(&compiler->port_sets, scratch->items,
					scratch->count * sizeof(*scratch->items));
		if (*ret_ports == INTERN_NONE)
			ret = -ENOMEM;
	}
	scratch->count = 0;
	return ret;
}

/* The same, remembered: what rules say to many identities is worked out once. */
static int ports_decide_once(struct side *side, const struct grant *grants, size_t count,
			     size_t *ret_ports)
{
	struct buffer *key = &side->compiler->key;
	size_t known = side->known.count;
	size_t number;
	int ret;

	if (!side->known.arena)
		return ports_unite(side, grants, count, ret_ports);
	key->len = 0;
	for (size_t i = 0; i < count; i++) {
		buffer_number(key, grants[i].layer);
		buffer_number(key, grants[i].ports);
	}
	number = key->failed ? INTERN_NONE : intern_add(&side->known, key->data, key->len);
	if (number == INTERN_NONE ||
	    array_room(&side->results, number, &side->result_capacity, sizeof(uint32_t)) < 0)
		return -ENOMEM;
	if (number < known) {
		*ret_ports = side->results[number];
		return 0;
	}
	ret = ports_decide(side, grants, count, ret_ports);
	if (ret == 0)
		side->results[number] = (uint32_t)*ret_ports;
	return ret;
}

/* ---- entries ---- */

static int entry_add(struct side *side, uint32_t peer, size_t ports)
{
	struct entry_list *entries = side->entries;
	struct compiled_entry *entry;

	if (array_room(&entries->items, entries->count, &entries->capacity,
		       sizeof(*entries->items)) < 0)
		return -ENOMEM;
	entry = &entries->items[entries->count++];
	*entry = (struct compiled_entry){
		.key = { .policy_id = side->ruleset->id,
			 .peer = peer,
			 .direction = (uint8_t)side->direction },
		.guarded = side->known.arena != NULL,
	};
	entry->rules = ports_get(side->compiler, ports, &entry->rule_count);
	return 0;
}

/* One entry for each identity that is not as everyone. */
static int entries_of_identities(struct side *side)
{
	const struct compiler *compiler = side->compiler;
	const struct grant_list *grants = &side->grants;
	size_t end;

	for (size_t i = 0; i < grants->count; i = end) {
		uint32_t identity = grants->items[i].identity;
		size_t ports;

		for (end = i; end < grants->count && grants->items[end].identity == identity;)
			end++;
		if (ports_decide_once(side, &grants->items[i], end - i, &ports) < 0)
			return -ENOMEM;
		if (ports != side->base &&
		    entry_add(side, compiler->allocator.identities[identity].id, ports) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int side_compile(struct side *side)
{
	struct compiler *compiler = side->compiler;
	struct grant_list *grants = &side->grants;

	if (port_list_add(&compiler->scratch, 0, 0, PORT_ANY_MAX) < 0 ||
	    ports_intern(compiler, &side->everything) < 0 || grants_collect(side) < 0 ||
	    ports_decide_once(side, NULL, 0, &side->base) < 0)
		return -ENOMEM;
	if (!side->only && compiler->port_sets.items[side->base].len > 0 &&
	    entry_add(side, IDENTITY_ANY, side->base) < 0)
		return -ENOMEM;
	if (grants->count > 0)
		qsort(grants->items, grants->count, sizeof(*grants->items), grant_compare);
	return entries_of_identities(side);
}

/* Entries of one direction: one for everyone, and one for each identity that differs. */
static int compile_direction(struct compiler *compiler, const struct ruleset *ruleset,
			     size_t number, const struct id_list *only, struct entry_list *list)
{
	auto_(arena) struct arena *arena = NULL;
	struct side side = { .compiler = compiler,
			     .ruleset = ruleset,
			     .direction = number,
			     .only = only,
			     .entries = list };
	int ret;

	if (tier_rules(&side, TIER_ADMIN)->count || tier_rules(&side, TIER_BASELINE)->count) {
		side.known.arena = arena = arena_new();
		if (!arena)
			return -ENOMEM;
	}
	ret = side_compile(&side);

	free(side.grants.items);
	free(side.results);
	intern_done(&side.known);
	return ret;
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

int compile_ruleset(struct compiler *compiler, const struct ruleset *ruleset,
		    const struct id_list *only, struct entry_list *list)
{
	for (size_t direction = 0; direction < 2; direction++) {
		if (ruleset_decides(ruleset, direction) &&
		    compile_direction(compiler, ruleset, direction, only, list) < 0)
			return -ENOMEM;
	}
	return 0;
}

int compile_entries(struct compiler *compiler)
{
	struct entry_list entries = { 0 };
	int ret = 0;

	for (size_t i = 0; i < compiler->ruleset_keys.count && ret == 0; i++)
		ret = compile_ruleset(compiler, &compiler->rulesets[i], NULL, &entries);
	entry_list_sort(&entries);
	compiler->compiled->entries = entries.items;
	compiler->compiled->entry_count = entries.count;
	return ret;
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
