/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/compiler/identity.h"

#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"
#include "policy/objects/policy.h"
#include "policy/objects/ports.h"

/* ---- namespaces ---- */

/* A copy, as what is compiled outlives the objects of the store. */
static struct labels labels_keep(struct arena *arena, const struct labels *labels)
{
	struct label *items = arena_alloc(arena, labels->count * sizeof(*items));

	for (size_t i = 0; i < labels->count; i++) {
		items[i].key = arena_string(arena, labels->items[i].key);
		items[i].value = arena_string(arena, labels->items[i].value);
	}
	return (struct labels){ .items = items, .count = labels->count };
}

void allocator_read_namespace(struct allocator *allocator, uint32_t namespace)
{
	struct label fallback;
	struct labels labels = namespace_labels(
		allocator->store, allocator_namespace(allocator, namespace), &fallback);

	*allocator->namespace_labels[namespace] = labels_keep(allocator->arena, &labels);
}

static uint32_t allocator_add_namespace(struct allocator *allocator, const char *name)
{
	size_t known = allocator->namespaces.count;
	size_t number = intern_add(&allocator->namespaces, name, strlen(name) + 1);

	if (number < known)
		return (uint32_t)number;
	array_room(&allocator->namespace_labels, known, &allocator->namespace_capacity,
		   sizeof(*allocator->namespace_labels));
	allocator->namespace_labels[number] = arena_alloc(allocator->arena, sizeof(struct labels));
	allocator_read_namespace(allocator, (uint32_t)number);
	return (uint32_t)number;
}

const char *allocator_namespace(const struct allocator *allocator, uint32_t namespace)
{
	return allocator->namespaces.items[namespace].key;
}

/* ---- groups ---- */

/* Fills group with those labels and ports that some policy reads; the caller frees both arrays. */
static void group_reduce(struct allocator *allocator, const struct intern *keys,
			 const struct labels *labels, const struct pod_object *pod,
			 struct group *group)
{
	const struct referenced *referenced = &allocator->referenced;

	group->labels.items = xcalloc(labels->count, sizeof(struct label));
	group->ports = xcalloc(referenced->port_count, sizeof(struct named_port));
	for (size_t i = 0; i < labels->count; i++) {
		const struct label *label = &labels->items[i];

		if (intern_find(keys, label->key, strlen(label->key)) != INTERN_NONE)
			group->labels.items[group->labels.count++] = *label;
	}
	for (size_t i = 0; pod && i < referenced->port_count; i++) {
		const struct port_name *wanted = &referenced->ports[i];
		uint16_t port =
			named_port_find(pod->ports, pod->port_count, wanted->proto, wanted->name);

		if (port)
			group->ports[group->port_count++] = (struct named_port){
				.name = (char *)wanted->name, .port = port, .proto = wanted->proto
			};
	}
}

static void group_key(const struct group *group, const char *namespace, struct buffer *key)
{
	buffer_text(key, namespace);
	buffer_number(key, (uint32_t)group->labels.count);
	for (size_t i = 0; i < group->labels.count; i++) {
		buffer_text(key, group->labels.items[i].key);
		buffer_text(key, group->labels.items[i].value);
	}
	buffer_number(key, (uint32_t)group->port_count);
	for (size_t i = 0; i < group->port_count; i++) {
		buffer_text(key, group->ports[i].name);
		buffer_number(key, (uint32_t)group->ports[i].proto << 16 | group->ports[i].port);
	}
}

/* The number of a group, new or known.  A new one is copied to the arena. */
static uint32_t group_intern(struct allocator *allocator, const struct group *group,
			     const char *namespace)
{
	auto_buffer struct buffer key = { 0 };
	struct arena *arena = allocator->arena;
	size_t known = allocator->group_keys.count;
	struct group *kept;
	size_t number;

	group_key(group, namespace, &key);
	number = intern_add(&allocator->group_keys, key.data, key.len);
	if (number < known)
		return (uint32_t)number;
	array_room(&allocator->groups, known, &allocator->group_capacity,
		   sizeof(*allocator->groups));
	kept = &allocator->groups[number];
	*kept = *group;
	kept->labels = labels_keep(arena, &group->labels);
	kept->ports = arena_copy(arena, group->ports, group->port_count * sizeof(*group->ports));
	for (size_t i = 0; i < group->port_count; i++)
		kept->ports[i].name = arena_string(arena, group->ports[i].name);
	return (uint32_t)number;
}

uint32_t allocator_add_group(struct allocator *allocator, const char *namespace,
			     const struct labels *labels, const struct pod_object *pod)
{
	struct group group = { .namespace = allocator_add_namespace(allocator, namespace),
			       .first_identity = NONE,
			       .ruleset = NONE };
	uint32_t number;

	group_reduce(allocator, &allocator->referenced.keys, labels, pod, &group);
	number = group_intern(allocator, &group, namespace);
	free(group.labels.items);
	free(group.ports);
	return number;
}

uint32_t allocator_add_node_group(struct allocator *allocator, const struct labels *labels)
{
	struct group group = { .namespace = NONE, .first_identity = NONE, .ruleset = NONE };
	uint32_t number;

	group_reduce(allocator, &allocator->referenced.node_keys, labels, NULL, &group);
	number = group_intern(allocator, &group, ""); /* no namespace has this name */
	free(group.labels.items);
	free(group.ports);
	return number;
}

uint32_t allocator_add_unknown_group(struct allocator *allocator)
{
	const struct group group = {
		.namespace = NONE, .unknown = true, .first_identity = NONE, .ruleset = NONE
	};

	return group_intern(allocator, &group, "?"); /* no namespace has this name */
}

/* ---- identities ---- */

size_t allocator_identity_count(const struct allocator *allocator)
{
	return allocator->identity_keys.count;
}

uint64_t identity_hash(const struct allocator *allocator, uint32_t identity)
{
	return allocator->identity_keys.items[identity].hash;
}

/* The number of an identity, new or known.  Its hash comes from the content of the group and the
 * CIDR, not from their numbers. */
static uint32_t identity_intern(struct allocator *allocator, uint32_t group, uint32_t prefix)
{
	auto_buffer struct buffer content = { 0 };
	size_t known = allocator->identity_keys.count;
	struct identity_class *identity;
	size_t number;

	buffer_add(&content, group == NONE ? "c" : "p", 1);
	if (group != NONE)
		buffer_add(&content, allocator->group_keys.items[group].key,
			   allocator->group_keys.items[group].len);
	if (prefix != NONE) {
		const struct prefix *cidr = &allocator->referenced.prefixes[prefix];

		buffer_add(&content, &cidr->addr, sizeof(cidr->addr));
		buffer_add(&content, &cidr->len, sizeof(cidr->len));
	}
	number = intern_add(&allocator->identity_keys, content.data, content.len);
	if (number < known)
		return (uint32_t)number;
	array_room(&allocator->identities, known, &allocator->identity_capacity,
		   sizeof(*allocator->identities));
	identity = &allocator->identities[number];
	*identity = (struct identity_class){
		.group = group, .prefix = NONE, .next_in_group = NONE, .next_in_prefix = NONE
	};
	if (group != NONE) {
		identity->next_in_group = allocator->groups[group].first_identity;
		allocator->groups[group].first_identity = (uint32_t)number;
	}
	return (uint32_t)number;
}

static void prefix_add_identity(struct allocator *allocator, uint32_t number)
{
	struct identity_class *identity = &allocator->identities[number];

	identity->next_in_prefix = allocator->prefix_identities[identity->prefix];
	allocator->prefix_identities[identity->prefix] = number;
}

uint32_t allocator_hold_identity(struct allocator *allocator, uint32_t group, uint32_t prefix)
{
	uint32_t number = identity_intern(allocator, group, prefix);
	struct identity_class *identity = &allocator->identities[number];

	if (identity->prefix != prefix) { /* new, or the CIDR is back */
		identity->prefix = prefix;
		prefix_add_identity(allocator, number);
	}
	if (identity->refs++ == 0)
		id_list_add(&allocator->changed, number);
	return number;
}

void allocator_drop_identity(struct allocator *allocator, uint32_t identity)
{
	if (identity != NONE && --allocator->identities[identity].refs == 0)
		id_list_add(&allocator->changed, identity);
}

static void allocator_number(struct allocator *allocator)
{
	uint32_t identity;
	uint32_t number;
	size_t pos = 0;

	id_pool_init(&allocator->numbers, IDENTITY_FIRST);
	for (size_t i = 0; i < allocator_identity_count(allocator); i++)
		id_pool_take(&allocator->numbers, identity_hash(allocator, (uint32_t)i),
			     (uint32_t)i, &number);
	while (id_pool_each(&allocator->numbers, &pos, &identity, &number))
		allocator->identities[identity].id = number;
}

void allocator_index(struct allocator *allocator)
{
	allocator->index.arena = allocator->arena;
	for (; allocator->namespaces_indexed < allocator->namespaces.count;
	     allocator->namespaces_indexed++) {
		uint32_t i = (uint32_t)allocator->namespaces_indexed;

		label_index_add(&allocator->index, SCOPE_NAMESPACES, allocator->namespace_labels[i],
				i);
	}
	for (; allocator->groups_indexed < allocator->group_keys.count;
	     allocator->groups_indexed++) {
		const struct group *group = &allocator->groups[allocator->groups_indexed];

		if (group->unknown) /* no selector finds it */
			continue;
		/* The index keeps the address of the labels; that of the group may change. */
		label_index_add(&allocator->index,
				group->namespace == NONE ? SCOPE_NODES : SCOPE_OF(group->namespace),
				arena_copy(allocator->arena, &group->labels, sizeof(group->labels)),
				(uint32_t)allocator->groups_indexed);
	}
}

/* ---- CIDRs ---- */

static void allocator_make_prefixes(struct allocator *allocator)
{
	size_t count = allocator->referenced.prefix_count;

	free(allocator->prefix_identities);
	allocator->prefix_identities = xcalloc(count, sizeof(*allocator->prefix_identities));
	for (size_t i = 0; i < count; i++)
		allocator->prefix_identities[i] = NONE;
}

/* Each CIDR holds an identity of its own; those that were there before have theirs. */
static void allocator_add_prefixes(struct allocator *allocator, const struct referenced *before)
{
	const struct referenced *referenced = &allocator->referenced;

	for (size_t i = 0; i < referenced->prefix_count; i++) {
		if (referenced_prefix(before, &referenced->prefixes[i]) == NONE)
			allocator_hold_identity(allocator, NONE, (uint32_t)i);
	}
}

uint32_t allocator_prefix_identity(const struct allocator *allocator, uint32_t prefix)
{
	uint32_t identity = allocator->prefix_identities[prefix];

	while (allocator->identities[identity].group != NONE)
		identity = allocator->identities[identity].next_in_prefix;
	return identity;
}

void allocator_set_referenced(struct allocator *allocator, struct referenced *referenced)
{
	struct referenced before = allocator->referenced;

	for (size_t i = 0; i < before.prefix_count; i++) {
		if (referenced_prefix(referenced, &before.prefixes[i]) == NONE)
			allocator_drop_identity(allocator,
						allocator_prefix_identity(allocator, (uint32_t)i));
	}
	allocator->referenced = *referenced;
	*referenced = (struct referenced){ 0 };
	allocator_make_prefixes(allocator);
	for (size_t i = 0; i < allocator_identity_count(allocator); i++) {
		struct identity_class *identity = &allocator->identities[i];

		if (identity->prefix == NONE || identity->prefix == PREFIX_GONE)
			continue;
		identity->prefix = referenced_prefix(&allocator->referenced,
						     &before.prefixes[identity->prefix]);
		if (identity->prefix == NONE)
			identity->prefix = PREFIX_GONE;
		else
			prefix_add_identity(allocator, (uint32_t)i);
	}
	allocator_add_prefixes(allocator, &before);
	referenced_done(&before);
}

/* ---- all of it ---- */

void allocator_build(struct allocator *allocator, const struct store *store, struct arena *arena)
{
	const struct referenced nothing = { 0 };

	allocator->arena = arena;
	allocator->store = store;
	allocator->namespaces.arena = arena;
	allocator->group_keys.arena = arena;
	allocator->identity_keys.arena = arena;
	allocator->node_addresses.arena = arena;
	referenced_build(&allocator->referenced, store);
	allocator_make_prefixes(allocator);
	allocator_add_prefixes(allocator, &nothing);
	allocator_find_unknown(allocator);
	allocator_find_owners(allocator);
	allocator_number(allocator);
	allocator_index(allocator);
}

void allocator_done(struct allocator *allocator)
{
	referenced_done(&allocator->referenced);
	intern_done(&allocator->namespaces);
	intern_done(&allocator->group_keys);
	intern_done(&allocator->identity_keys);
	intern_done(&allocator->node_addresses);
	free(allocator->node_groups);
	free(allocator->pod_cidrs);
	free(allocator->unknown);
	label_index_done(&allocator->index);
	free(allocator->namespace_labels);
	free(allocator->groups);
	free(allocator->identities);
	free(allocator->prefix_identities);
	id_list_done(&allocator->changed);
	id_pool_done(&allocator->numbers);
	free(allocator->owners);
	free(allocator->pod_states);
}
