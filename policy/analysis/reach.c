/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/analysis/reach.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/auto.h"

/* A peer group as one store's tables see it. */
struct policy_state {
	uint32_t identity[FAMILY_COUNT];
	uint32_t policy_id;
	/* Ports open to whoever has no entry of its own, by enum direction. */
	uint32_t others[2];
	bool isolated[2];
};

struct peer_group_builder { /* a peer group while it is collected */
	struct policy_state states[REACH_STORES_MAX];
	struct peer_group peer_group;
	const struct object **pods;
	size_t pod_capacity;
};

struct entry_slot {         /* of a hash table of compiled entries by their keys */
	uint32_t policy_id; /* 0: free */
	uint32_t peer;
	uint32_t direction;
	uint32_t ports; /* set of what it allows */
};

struct reach_view { /* one store */
	struct compiled *compiled;
	struct entry_slot *slots;
	size_t slot_count;
};

struct pod_row { /* sorted by namespace and name */
	const struct object *pod;
	size_t peer_group;
};

struct reach {
	struct arena *arena;
	struct port_pool pool;
	struct reach_view views[REACH_STORES_MAX];
	size_t view_count;
	struct intern keys; /* what tells peer groups apart */
	struct peer_group_builder *builders;
	size_t builder_count;
	size_t builder_capacity;
	struct peer_group *peer_groups;
	size_t peer_group_count;
	struct pod_row *pods;
	size_t pod_count;
};

/* ---- entries ---- */

static uint64_t key_hash(uint32_t policy_id, enum direction direction, uint32_t peer)
{
	uint64_t hash = ((uint64_t)policy_id << 32 | peer) + (uint64_t)direction;

	hash = (hash ^ hash >> 30) * 0xbf58476d1ce4e5b9; /* SplitMix64 */
	hash = (hash ^ hash >> 27) * 0x94d049bb133111eb;
	return hash ^ hash >> 31;
}

/* The slot of an entry, or the free one where it belongs. */
static struct entry_slot *view_slot(const struct reach_view *view, uint32_t policy_id,
				    enum direction direction, uint32_t peer)
{
	size_t number = key_hash(policy_id, direction, peer) & (view->slot_count - 1);

	for (;; number = (number + 1) & (view->slot_count - 1)) {
		struct entry_slot *slot = &view->slots[number];

		if (slot->policy_id == 0 || (slot->policy_id == policy_id && slot->peer == peer &&
					     slot->direction == direction))
			return slot;
	}
}

/* Every pair of peer groups is looked up: a hash table takes a quarter of the time of a search. */
static void view_index(struct reach *reach, struct reach_view *view)
{
	const struct compiled *compiled = view->compiled;
	uint32_t ports = PORTS_NONE;

	view->slot_count = 16;
	while (view->slot_count < 2 * compiled->entry_count)
		view->slot_count *= 2;
	view->slots = arena_alloc(reach->arena, view->slot_count * sizeof(*view->slots));
	for (size_t i = 0; i < compiled->entry_count; i++) {
		const struct compiled_entry *entry = &compiled->entries[i];
		const struct policy_key *key = &entry->key;
		enum direction direction = (enum direction)key->direction;

		/* Entries of one rule set share its rules. */
		if (i == 0 || entry->rules != entry[-1].rules ||
		    entry->rule_count != entry[-1].rule_count)
			ports = ports_of_rules(&reach->pool, entry->rules, entry->rule_count);
		*view_slot(view, key->policy_id, direction, key->peer) = (struct entry_slot){
			.policy_id = key->policy_id,
			.peer = key->peer,
			.direction = direction,
			.ports = ports,
		};
	}
}

static uint32_t policy_state_ports(const struct reach_view *view,
				   const struct policy_state *policy_state,
				   enum direction direction, uint32_t peer)
{
	const struct entry_slot *slot;

	if (!policy_state->isolated[direction])
		return PORTS_ALL;
	slot = view_slot(view, policy_state->policy_id, direction, peer);
	return slot->policy_id ? slot->ports : policy_state->others[direction];
}

static void policy_state_finish(const struct reach_view *view, struct policy_state *policy_state)
{
	for (size_t i = 0; i < ARRAY_SIZE(policy_state->isolated); i++) {
		const struct entry_slot *slot =
			view_slot(view, policy_state->policy_id, (enum direction)i, IDENTITY_ANY);

		policy_state->others[i] = slot->policy_id ? slot->ports : PORTS_NONE;
	}
}

uint32_t reach_ports(struct reach *reach, size_t store, enum family family, size_t from, size_t to)
{
	const struct reach_view *view = &reach->views[store];
	const struct policy_state *sender = &reach->builders[from].states[store];
	const struct policy_state *receiver = &reach->builders[to].states[store];

	return ports_both(
		&reach->pool,
		policy_state_ports(view, sender, DIR_EGRESS, receiver->identity[family]),
		policy_state_ports(view, receiver, DIR_INGRESS, sender->identity[family]));
}

bool reach_meets(const struct reach *reach, enum family family, size_t from, size_t to)
{
	const struct peer_group *sender = &reach->peer_groups[from],
				*receiver = &reach->peer_groups[to];

	return sender->families[family] && receiver->families[family] &&
	       (sender->pod_count || receiver->pod_count);
}

bool reach_is_itself(const struct reach *reach, size_t from, size_t to)
{
	return from == to && reach->peer_groups[from].pod_count == 1;
}

/* ---- peer groups ---- */

static void builder_of(struct reach *reach, const struct policy_state *states,
		       const struct peer_group *peer_group, size_t *ret_builder)
{
	auto_buffer struct buffer key = { 0 };
	size_t known = reach->keys.count;
	size_t number;

	for (size_t i = 0; i < reach->view_count; i++) {
		const struct policy_state *policy_state = &states[i];

		buffer_number(&key, policy_state->identity[FAMILY_V4]);
		buffer_number(&key, policy_state->identity[FAMILY_V6]);
		buffer_number(&key, policy_state->policy_id);
		buffer_number(&key,
			      (uint32_t)policy_state->isolated[0] << 1 | policy_state->isolated[1]);
	}
	buffer_number(&key, (uint32_t)peer_group->families[FAMILY_V4] << 1 |
				    peer_group->families[FAMILY_V6]);
	if (peer_group->outside.len) /* no two of them are one, also if both are the store */
		buffer_add(&key, &peer_group->outside, sizeof(peer_group->outside));
	else
		buffer_number(&key, peer_group->pod_count);
	number = intern_add(&reach->keys, key.data, key.len);
	*ret_builder = number;
	if (number < known)
		return;
	array_room(&reach->builders, known, &reach->builder_capacity, sizeof(*reach->builders));
	reach->builders[number] = (struct peer_group_builder){ .peer_group = *peer_group };
	memcpy(reach->builders[number].states, states, reach->view_count * sizeof(*states));
	for (size_t i = 0; i < reach->view_count; i++)
		policy_state_finish(&reach->views[i], &reach->builders[number].states[i]);
	reach->builder_count++;
}

static int pod_compare(const void *a, const void *b)
{
	const struct object *left = *(const struct object *const *)a;
	const struct object *right = *(const struct object *const *)b;
	int order = strcmp(left->namespace, right->namespace);

	return order ? order : strcmp(left->name, right->name);
}

struct subject_row { /* begins with what pod_compare() compares */
	const struct object *pod;
	const struct compiled_subject *subject;
};

static void view_rows(const struct reach_view *view, struct subject_row **ret_rows,
		      size_t *ret_count)
{
	const struct compiled *compiled = view->compiled;
	struct subject_row *rows = xcalloc(compiled->subject_count + 1, sizeof(*rows));
	size_t count = 0;
	for (size_t i = 0; i < compiled->subject_count; i++) {
		if (compiled->subjects[i].pod)
			rows[count++] = (struct subject_row){ compiled->subjects[i].pod,
							      &compiled->subjects[i] };
	}
	qsort(rows, count, sizeof(*rows), pod_compare);
	*ret_rows = rows;
	*ret_count = count;
}

/* A pod without any address (it has not been started) may get both. */
static bool pod_has_family(const struct object *pod, enum family family)
{
	for (size_t i = 0; i < pod->pod.address_count; i++) {
		if (addr_is_v4(&pod->pod.addresses[i]) == (family == FAMILY_V4))
			return true;
	}
	return pod->pod.address_count == 0;
}

static struct policy_state subject_policy_state(const struct compiled_subject *subject)
{
	return (struct policy_state){
		.identity = { subject->identity, subject->identity_v6 },
		.policy_id = subject->policy_id,
		.isolated = { [DIR_INGRESS] = subject->ingress_isolated,
			      [DIR_EGRESS] = subject->egress_isolated },
	};
}

/* Adds one pod, given its subject in each store. */
static void reach_add_pod(struct reach *reach, const struct subject_row *const *rows)
{
	struct policy_state states[REACH_STORES_MAX] = { 0 };
	struct peer_group peer_group = { .families = { true, true } };
	const struct object *pod = rows[reach->view_count - 1]->pod;
	struct peer_group_builder *builder;
	size_t number;

	for (size_t i = 0; i < reach->view_count; i++) {
		states[i] = subject_policy_state(rows[i]->subject);
		for (size_t family = 0; family < FAMILY_COUNT; family++)
			peer_group.families[family] &=
				pod_has_family(rows[i]->pod, (enum family)family);
	}
	builder_of(reach, states, &peer_group, &number);
	builder = &reach->builders[number];
	array_room(&builder->pods, builder->peer_group.pod_count, &builder->pod_capacity,
		   sizeof(const struct object *));
	builder->pods[builder->peer_group.pod_count++] = pod;
	reach->pods[reach->pod_count++] = (struct pod_row){ pod, number };
}

/* Adds the pods that every store has. */
static void reach_add_pods(struct reach *reach)
{
	struct subject_row *rows[REACH_STORES_MAX] = { NULL };
	size_t counts[REACH_STORES_MAX] = { 0 };

	for (size_t i = 0; i < reach->view_count; i++)
		view_rows(&reach->views[i], &rows[i], &counts[i]);
	reach->pods = arena_alloc(reach->arena, counts[0] * sizeof(*reach->pods));
	for (size_t i = 0; i < counts[0]; i++) {
		const struct subject_row *found[REACH_STORES_MAX] = { &rows[0][i] };
		bool everywhere = true;

		for (size_t view = 1; view < reach->view_count; view++) {
			found[view] = bsearch(&rows[0][i], rows[view], counts[view],
					      sizeof(*rows[view]), pod_compare);
			everywhere &= found[view] != NULL;
		}
		if (everywhere)
			reach_add_pod(reach, found);
	}
	for (size_t i = 0; i < reach->view_count; i++)
		free(rows[i]);
}

size_t reach_peer_group_of(const struct reach *reach, const char *namespace, const char *name)
{
	const struct object wanted = { .namespace = (char *)namespace, .name = (char *)name };
	const struct pod_row key = { .pod = &wanted };
	const struct pod_row *row;

	if (reach->pod_count == 0)
		return SIZE_MAX;
	row = bsearch(&key, reach->pods, reach->pod_count, sizeof(key), pod_compare);
	return row ? row->peer_group : SIZE_MAX;
}

/* ---- outside ---- */

/* A CIDR of any store, the address of a pod, or that of a node where policies speak of nodes:
 * borders between regions of addresses. */
struct border {
	struct prefix prefix;
	bool pod;                            /* or a pod CIDR */
	uint32_t identity[REACH_STORES_MAX]; /* 0: not a CIDR or node of this store */
};

struct border_list {
	struct border *items;
	size_t count;
	size_t capacity;
};

static void border_add(struct border_list *list, const struct prefix *prefix, bool pod,
		       size_t store, uint32_t identity)
{
	struct border *border;

	array_room(&list->items, list->count, &list->capacity, sizeof(*list->items));
	border = &list->items[list->count++];
	*border = (struct border){ .prefix = *prefix, .pod = pod };
	border->identity[store] = identity;
}

static int border_compare(const void *a, const void *b)
{
	const struct border *left = a;
	const struct border *right = b;
	bool v4 = addr_is_v4(&left->prefix.addr);
	int order;

	if (v4 != addr_is_v4(&right->prefix.addr)) /* IPv4 lies amid IPv6, and in none of it */
		return v4 ? -1 : 1;
	order = addr_compare(&left->prefix.addr, &right->prefix.addr);
	return order ? order
		     : (left->prefix.len > right->prefix.len) -
			       (left->prefix.len < right->prefix.len);
}

/* Sorts, and makes one of equal ones. */
static void borders_merge(struct border_list *list)
{
	size_t kept = 0;

	qsort(list->items, list->count, sizeof(*list->items), border_compare);
	for (size_t i = 1; i < list->count; i++) {
		struct border *last = &list->items[kept];

		if (border_compare(last, &list->items[i]) != 0) {
			list->items[++kept] = list->items[i];
			continue;
		}
		last->pod |= list->items[i].pod;
		for (size_t store = 0; store < REACH_STORES_MAX; store++)
			last->identity[store] |= list->items[i].identity[store];
	}
	list->count = kept + 1;
}

static void borders_collect(const struct reach *reach, struct border_list *list)
{
	const struct prefix all_v4 = { .addr = { .w = { [2] = htonl(0xffff) } }, .len = 96 };
	const struct prefix all_v6 = { 0 };

	border_add(list, &all_v4, false, 0, 0);
	border_add(list, &all_v6, false, 0, 0);
	for (size_t store = 0; store < reach->view_count; store++) {
		const struct compiled *compiled = reach->views[store].compiled;

		for (size_t i = 0; i < compiled->cidr_count; i++)
			border_add(list, &compiled->cidrs[i].prefix,
				   compiled->cidrs[i].unknown_pods, store,
				   compiled->cidrs[i].identity);
		for (size_t i = 0; i < compiled->address_count; i++) {
			const struct compiled_address *address = &compiled->addresses[i];
			struct prefix prefix = prefix_of(&address->addr, 128);

			border_add(list, &prefix, address->subject, store,
				   address->subject ? 0 : address->identity);
		}
	}
	borders_merge(list);
}

/* How many addresses a prefix has, modulo 2^128. */
static unsigned __int128 prefix_size(const struct prefix *prefix)
{
	return prefix->len == 0 ? 0 : (unsigned __int128)1 << (128 - prefix->len);
}

/* Whether the borders right inside one leave any address to it: they are disjoint, so that they
 * fill it if their sizes add up to its own. */
static bool border_has_room(const struct border_list *list, size_t number)
{
	const struct prefix *outer = &list->items[number].prefix;
	unsigned __int128 inner = 0;
	bool any = false;

	for (size_t i = number + 1;
	     i < list->count && prefix_contains(outer, &list->items[i].prefix.addr);) {
		const struct prefix *next = &list->items[i].prefix;

		inner += prefix_size(next);
		any = true;
		do
			i++;
		while (i < list->count && prefix_contains(next, &list->items[i].prefix.addr));
	}
	return !any || inner != prefix_size(outer);
}

/* What a store sees behind addresses in a border: its own CIDR, or the longest around it. */
static uint32_t border_identity(const struct border_list *list, const size_t *around, size_t depth,
				size_t store)
{
	while (depth > 0) {
		uint32_t identity = list->items[around[--depth]].identity[store];

		if (identity)
			return identity;
	}
	return IDENTITY_WORLD;
}

static void reach_add_region(struct reach *reach, const struct border_list *list,
			     const size_t *around, size_t depth)
{
	const struct prefix *prefix = &list->items[around[depth - 1]].prefix;
	struct policy_state states[REACH_STORES_MAX] = { 0 };
	struct peer_group peer_group = { .outside = *prefix };
	bool v4 = addr_is_v4(&prefix->addr) && prefix->len >= 96;
	size_t builder;

	peer_group.families[FAMILY_V4] = v4;
	peer_group.families[FAMILY_V6] = !v4;
	for (size_t store = 0; store < reach->view_count; store++) {
		uint32_t identity = border_identity(list, around, depth, store);

		states[store].identity[FAMILY_V4] = identity;
		states[store].identity[FAMILY_V6] = identity;
	}
	builder_of(reach, states, &peer_group, &builder);
}

static void reach_add_outside(struct reach *reach)
{
	struct border_list list = { 0 };
	size_t around[130]; /* one for each prefix length */
	size_t depth = 0;

	borders_collect(reach, &list);
	for (size_t i = 0; i < list.count; i++) {
		const struct border *border = &list.items[i];

		while (depth > 0 && !prefix_contains(&list.items[around[depth - 1]].prefix,
						     &border->prefix.addr))
			depth--;
		around[depth++] = i;
		if (!border->pod && border_has_room(&list, i))
			reach_add_region(reach, &list, around, depth);
	}
	free(list.items);
}

/* ---- names ---- */

/* "shop/cart-1", or "shop/app=cart (12 pods)" by the labels that policies of the last store read.
 */
static void peer_group_describe(const struct reach *reach, const struct peer_group_builder *builder,
				struct buffer *text)
{
	const struct peer_group *peer_group = &builder->peer_group;
	const struct compiled *compiled = reach->views[reach->view_count - 1].compiled;
	const struct policy_state *policy_state = &builder->states[reach->view_count - 1];
	const struct compiled_identity *identity =
		compiled_identity_find(compiled, policy_state->identity[FAMILY_V4]);
	const char *description;

	if (peer_group->pod_count == 1) {
		buffer_print(text, "%s/%s", peer_group->pods[0]->namespace,
			     peer_group->pods[0]->name);
		return;
	}
	description = identity ? identity->description : peer_group->pods[0]->namespace;
	buffer_print(text, "%s%s (%zu pods)", description, strchr(description, '/') ? "" : "/*",
		     peer_group->pod_count);
}

static void reach_name_peer_groups(struct reach *reach)
{
	auto_buffer struct buffer text = { 0 };
	char prefix[ADDR_TEXT_MAX];

	reach->peer_group_count = reach->builder_count;
	reach->peer_groups =
		arena_alloc(reach->arena, reach->peer_group_count * sizeof(*reach->peer_groups));
	for (size_t i = 0; i < reach->peer_group_count; i++) {
		struct peer_group_builder *builder = &reach->builders[i];

		builder->peer_group.pods = builder->pods;
		text.len = 0;
		if (builder->peer_group.pod_count)
			peer_group_describe(reach, builder, &text);
		else
			buffer_string(&text, prefix_format(&builder->peer_group.outside, prefix));
		builder->peer_group.name = arena_string(reach->arena, text.data);
		reach->peer_groups[i] = builder->peer_group;
	}
}

/* ---- all of it ---- */

struct reach *reach_new(const struct store *const *stores, size_t store_count)
{
	struct reach *reach = xcalloc(1, sizeof(*reach));

	reach->arena = arena_new();
	reach->keys.arena = reach->arena;
	port_pool_init(&reach->pool, reach->arena);
	reach->view_count = store_count;
	for (size_t i = 0; i < store_count; i++) {
		reach->views[i].compiled = policy_compile(stores[i]);
		view_index(reach, &reach->views[i]);
	}
	reach_add_pods(reach);
	reach_add_outside(reach);
	reach_name_peer_groups(reach);
	return reach;
}

void reach_free(struct reach *reach)
{
	if (!reach)
		return;
	for (size_t i = 0; i < reach->builder_count; i++)
		free(reach->builders[i].pods);
	for (size_t i = 0; i < REACH_STORES_MAX; i++)
		compiled_free(reach->views[i].compiled);
	free(reach->builders);
	intern_done(&reach->keys);
	port_pool_done(&reach->pool);
	arena_free(reach->arena);
	free(reach);
}

const struct peer_group *reach_peer_groups(const struct reach *reach, size_t *ret_count)
{
	*ret_count = reach->peer_group_count;
	return reach->peer_groups;
}

struct port_pool *reach_pool(struct reach *reach)
{
	return &reach->pool;
}
