/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/identity.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/ports.h"

static const char namespace_name_label[] = "kubernetes.io/metadata.name";

/* ---- namespaces ---- */

/* The labels of a namespace that has no object: what the API server would give it. */
static int labels_of_unknown(struct arena *arena, const char *namespace, struct labels *ret_labels)
{
	struct label *label = arena_alloc(arena, sizeof(*label));

	if (!label)
		return -ENOMEM;
	label->key = arena_string(arena, namespace_name_label);
	label->value = arena_string(arena, namespace);
	*ret_labels = (struct labels){ .items = label, .count = 1 };
	return arena_failed(arena) ? -ENOMEM : 0;
}

static int population_add_namespace(struct population *population, const char *name,
				    uint32_t *ret_namespace)
{
	size_t known = population->namespaces.count;
	size_t number = intern_add(&population->namespaces, name, strlen(name) + 1);
	const struct object *object;

	if (number == INTERN_NONE)
		return -ENOMEM;
	*ret_namespace = (uint32_t)number;
	if (number < known)
		return 0;
	if (array_room(&population->namespace_labels, known, &population->namespace_capacity,
		       sizeof(*population->namespace_labels)) < 0)
		return -ENOMEM;
	object = world_find(population->world, OBJECT_NAMESPACE, "", name);
	if (object)
		population->namespace_labels[number] = object->ns.labels;
	else if (labels_of_unknown(population->arena, name, &population->namespace_labels[number]) <
		 0)
		return -ENOMEM;
	return 0;
}

const char *population_namespace(const struct population *population, uint32_t namespace)
{
	return population->namespaces.items[namespace].key;
}

/* ---- groups ---- */

static int group_reduce(struct population *population, const struct intern *keys,
			const struct labels *labels, const struct pod_object *pod,
			struct group *group)
{
	const struct vocabulary *vocabulary = &population->vocabulary;
	struct arena *arena = population->arena;

	group->labels.items = arena_alloc(arena, labels->count * sizeof(struct label));
	group->ports = arena_alloc(arena, vocabulary->port_count * sizeof(struct named_port));
	if (!group->labels.items || !group->ports)
		return -ENOMEM;
	for (size_t i = 0; i < labels->count; i++) {
		const struct label *label = &labels->items[i];

		if (intern_find(keys, label->key, strlen(label->key)) != INTERN_NONE)
			group->labels.items[group->labels.count++] = *label;
	}
	for (size_t i = 0; pod && i < vocabulary->port_count; i++) {
		const struct port_name *wanted = &vocabulary->ports[i];
		uint16_t port =
			named_port_find(pod->ports, pod->port_count, wanted->proto, wanted->name);

		if (port)
			group->ports[group->port_count++] = (struct named_port){
				.name = (char *)wanted->name, .port = port, .proto = wanted->proto
			};
	}
	return 0;
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

/* The result outlives the world: texts move into the arena. */
static int group_keep(struct arena *arena, struct group *group)
{
	for (size_t i = 0; i < group->labels.count; i++) {
		struct label *label = &group->labels.items[i];

		label->key = arena_string(arena, label->key);
		label->value = arena_string(arena, label->value);
	}
	for (size_t i = 0; i < group->port_count; i++)
		group->ports[i].name = arena_string(arena, group->ports[i].name);
	return arena_failed(arena) ? -ENOMEM : 0;
}

/* The number of a group: known already, or new. */
static int group_intern(struct population *population, struct group *group, const char *namespace,
			uint32_t *ret_group)
{
	auto_buffer struct buffer key = { 0 };
	size_t known = population->group_keys.count;
	size_t number;

	group_key(group, namespace, &key);
	if (key.failed)
		return -ENOMEM;
	number = intern_add(&population->group_keys, key.data, key.len);
	if (number == INTERN_NONE)
		return -ENOMEM;
	*ret_group = (uint32_t)number;
	if (number < known)
		return 0;
	if (array_room(&population->groups, known, &population->group_capacity,
		       sizeof(*population->groups)) < 0 ||
	    group_keep(population->arena, group) < 0)
		return -ENOMEM;
	population->groups[number] = *group;
	return 0;
}

static int population_add_group(struct population *population, const char *namespace,
				const struct labels *labels, const struct pod_object *pod,
				uint32_t *ret_group)
{
	struct group group = { .first_identity = NONE };

	if (population_add_namespace(population, namespace, &group.namespace) < 0 ||
	    group_reduce(population, &population->vocabulary.keys, labels, pod, &group) < 0)
		return -ENOMEM;
	return group_intern(population, &group, namespace, ret_group);
}

/* No namespace is called "". */
static int population_add_node_group(struct population *population, const struct labels *labels,
				     uint32_t *ret_group)
{
	struct group group = { .namespace = NONE, .first_identity = NONE };

	if (group_reduce(population, &population->vocabulary.node_keys, labels, NULL, &group) < 0)
		return -ENOMEM;
	return group_intern(population, &group, "", ret_group);
}

/* ---- identities ---- */

size_t population_identity_count(const struct population *population)
{
	return population->identity_keys.count;
}

/* What is hashed into the number: the group's content and the CIDR. */
static void identity_content(const struct population *population, uint32_t group, uint32_t prefix,
			     struct buffer *content)
{
	content->len = 0;
	buffer_add(content, group == NONE ? "c" : "p", 1);
	if (group != NONE)
		buffer_add(content, population->group_keys.items[group].key,
			   population->group_keys.items[group].len);
	if (prefix != NONE) {
		const struct prefix *cidr = &population->vocabulary.prefixes[prefix];

		buffer_add(content, &cidr->addr, sizeof(cidr->addr));
		buffer_add(content, &cidr->len, sizeof(cidr->len));
	}
}

static int population_add_identity(struct population *population, uint32_t group, uint32_t prefix,
				   uint32_t *ret_identity)
{
	auto_buffer struct buffer content = { 0 };
	size_t known = population->identity_keys.count;
	struct identity_class *identity;
	size_t number;

	identity_content(population, group, prefix, &content);
	if (content.failed)
		return -ENOMEM;
	number = intern_add(&population->identity_keys, content.data, content.len);
	if (number == INTERN_NONE)
		return -ENOMEM;
	*ret_identity = (uint32_t)number;
	if (number < known)
		return 0;
	if (array_room(&population->identities, known, &population->identity_capacity,
		       sizeof(*population->identities)) < 0)
		return -ENOMEM;
	identity = &population->identities[number];
	*identity = (struct identity_class){
		.group = group, .prefix = prefix, .next_in_group = NONE, .next_in_prefix = NONE
	};
	if (group != NONE) {
		identity->next_in_group = population->groups[group].first_identity;
		population->groups[group].first_identity = *ret_identity;
	}
	if (prefix != NONE) {
		identity->next_in_prefix = population->prefix_identities[prefix];
		population->prefix_identities[prefix] = *ret_identity;
	}
	return 0;
}

/* Numbers: the hash of the content; the next free one where that is taken. */
static int population_number(struct population *population)
{
	struct intern used = { .arena = population->arena };
	int ret = 0;

	for (size_t i = 0; i < population->identity_keys.count && ret == 0; i++) {
		uint32_t id = (uint32_t)population->identity_keys.items[i].hash;

		while (id < IDENTITY_FIRST || intern_find(&used, &id, sizeof(id)) != INTERN_NONE)
			id++;
		if (intern_add(&used, &id, sizeof(id)) == INTERN_NONE)
			ret = -ENOMEM;
		population->identities[i].id = id;
	}
	intern_done(&used);
	return ret;
}

/* ---- who is where ---- */

static int population_add_place(struct population *population, const struct place *place)
{
	if (array_room(&population->places, population->place_count, &population->place_capacity,
		       sizeof(*population->places)) < 0)
		return -ENOMEM;
	population->places[population->place_count++] = *place;
	return 0;
}

/* Whose the addresses of Node objects are; of two nodes with one address, the first by name. */
static int population_find_nodes(struct population *population)
{
	const struct world *world = population->world;

	for (const struct object *object = world_first(world, OBJECT_NODE);
	     object && population->vocabulary.nodes; object = world_next(world, object)) {
		uint32_t group;

		if (population_add_node_group(population, &object->node.labels, &group) < 0)
			return -ENOMEM;
		for (size_t i = 0; i < object->node.address_count; i++) {
			size_t known = population->node_addresses.count;
			size_t number = intern_add(&population->node_addresses,
						   &object->node.addresses[i], sizeof(struct addr));

			if (number == INTERN_NONE)
				return -ENOMEM;
			if (number < known)
				continue;
			if (array_room(&population->node_groups, known, &population->node_capacity,
				       sizeof(*population->node_groups)) < 0)
				return -ENOMEM;
			population->node_groups[number] = group;
		}
	}
	return 0;
}

/* NONE: policies do not speak of nodes, or it is no node's. */
static uint32_t population_node_group(const struct population *population, const struct addr *addr)
{
	size_t number = intern_find(&population->node_addresses, addr, sizeof(*addr));

	return number == INTERN_NONE ? NONE : population->node_groups[number];
}

static int population_add_nodes(struct population *population)
{
	for (size_t i = 0; i < population->node_addresses.count; i++) {
		struct place place = { .kind = PLACE_NODE, .subject = NONE };
		uint32_t prefix;

		memcpy(&place.addr, population->node_addresses.items[i].key, sizeof(place.addr));
		prefix = vocabulary_longest(&population->vocabulary, &place.addr);
		if (population_add_identity(population, population->node_groups[i], prefix,
					    &place.identity) < 0 ||
		    population_add_place(population, &place) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int population_add_hosts(struct population *population)
{
	const struct addr *addresses;
	size_t count = world_host_addresses(population->world, &addresses);

	for (size_t i = 0; i < count; i++) {
		struct place place = {
			.addr = addresses[i], .kind = PLACE_HOST, .identity = NONE, .subject = NONE
		};
		uint32_t prefix = vocabulary_longest(&population->vocabulary, &addresses[i]);
		uint32_t group = population_node_group(population, &addresses[i]);

		if ((group != NONE || prefix != NONE) &&
		    population_add_identity(population, group, prefix, &place.identity) < 0)
			return -ENOMEM;
		if (population_add_place(population, &place) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* Adds a member with its addresses. */
static int population_add_member(struct population *population, struct member *member,
				 enum place_kind kind, bool subject, const struct addr *addresses,
				 size_t address_count)
{
	struct place place = { .kind = kind, .slot = member->slot, .subject = NONE };

	if (subject)
		place.subject = (uint32_t)population->member_count;
	member->identity_v4 = NONE;
	member->identity_v6 = NONE;
	for (size_t i = 0; i < address_count; i++) {
		uint32_t prefix = vocabulary_longest(&population->vocabulary, &addresses[i]);
		uint32_t *of_family =
			addr_is_v4(&addresses[i]) ? &member->identity_v4 : &member->identity_v6;

		place.addr = addresses[i];
		if (population_add_identity(population, member->group, prefix, &place.identity) <
			    0 ||
		    population_add_place(population, &place) < 0)
			return -ENOMEM;
		if (*of_family == NONE)
			*of_family = place.identity;
	}
	if (!subject)
		return 0;
	population->groups[member->group].subject = true;
	/* A family without an address has no packets either: no identity is made for it. */
	if (member->identity_v4 == NONE)
		member->identity_v4 = member->identity_v6;
	if (member->identity_v6 == NONE)
		member->identity_v6 = member->identity_v4;
	if ((member->identity_v4 == NONE &&
	     (population_add_identity(population, member->group, NONE, &member->identity_v4) < 0 ||
	      population_add_identity(population, member->group, NONE, &member->identity_v6) <
		      0)) ||
	    array_room(&population->members, population->member_count, &population->member_capacity,
		       sizeof(*population->members)) < 0)
		return -ENOMEM;
	population->members[population->member_count++] = *member;
	return 0;
}

static int population_add_endpoints(struct population *population)
{
	const struct world_endpoint *endpoints;
	size_t count = world_endpoints(population->world, &endpoints);

	for (size_t i = 0; i < count; i++) {
		const struct world_endpoint *endpoint = &endpoints[i];
		const struct object *pod = world_endpoint_pod(population->world, endpoint);
		struct member member = { .slot = endpoint->slot, .pod = pod };

		if (population_add_group(population, endpoint->namespace,
					 pod ? &pod->pod.labels : &endpoint->labels,
					 pod ? &pod->pod : NULL, &member.group) < 0 ||
		    population_add_member(population, &member, PLACE_ENDPOINT, true,
					  endpoint->addresses, endpoint->address_count) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* Pods that are endpoints of this node: their object's addresses may lag behind. */
static int collect_local_pods(const struct world *world, struct intern *local)
{
	const struct world_endpoint *endpoints;
	size_t count = world_endpoints(world, &endpoints);

	for (size_t i = 0; i < count; i++) {
		const struct object *pod = world_endpoint_pod(world, &endpoints[i]);

		if (pod && intern_add(local, &pod, sizeof(const struct object *)) == INTERN_NONE)
			return -ENOMEM;
	}
	return 0;
}

static int population_add_pods(struct population *population, const struct intern *local)
{
	bool subjects = !world_is_local(population->world);

	for (const struct object *pod = world_first(population->world, OBJECT_POD); pod;
	     pod = world_next(population->world, pod)) {
		struct member member = { .pod = pod };

		if (pod->pod.host_network || pod->pod.terminated ||
		    intern_find(local, &pod, sizeof(const struct object *)) != INTERN_NONE)
			continue;
		if (population_add_group(population, pod->namespace, &pod->pod.labels, &pod->pod,
					 &member.group) < 0 ||
		    population_add_member(population, &member, PLACE_POD, subjects,
					  pod->pod.addresses, pod->pod.address_count) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int place_compare(const void *a, const void *b)
{
	const struct place *left = a;
	const struct place *right = b;
	int order = addr_compare(&left->addr, &right->addr);

	if (order == 0)
		order = (left->kind > right->kind) - (left->kind < right->kind);
	return order ? order : (left->slot > right->slot) - (left->slot < right->slot);
}

static void population_sort_places(struct population *population)
{
	size_t kept = 0;

	if (population->place_count < 2)
		return;
	qsort(population->places, population->place_count, sizeof(*population->places),
	      place_compare);
	for (size_t i = 1; i < population->place_count; i++) {
		if (!addr_equal(&population->places[i].addr, &population->places[kept].addr))
			population->places[++kept] = population->places[i];
	}
	population->place_count = kept + 1;
}

static int population_index(struct population *population)
{
	population->index.arena = population->arena;
	for (size_t i = 0; i < population->namespaces.count; i++) {
		if (label_index_add(&population->index, SCOPE_NAMESPACES,
				    &population->namespace_labels[i], (uint32_t)i) < 0)
			return -ENOMEM;
	}
	for (size_t i = 0; i < population->group_keys.count; i++) {
		const struct group *group = &population->groups[i];
		uint32_t scope =
			group->namespace == NONE ? SCOPE_NODES : SCOPE_OF(group->namespace);

		if (label_index_add(&population->index, scope, &group->labels, (uint32_t)i) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int population_add_prefixes(struct population *population)
{
	size_t count = population->vocabulary.prefix_count;
	uint32_t identity;

	population->prefix_identities =
		arena_alloc(population->arena, count * sizeof(*population->prefix_identities));
	if (!population->prefix_identities)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		population->prefix_identities[i] = NONE;
	for (size_t i = 0; i < count; i++) {
		if (population_add_identity(population, NONE, (uint32_t)i, &identity) < 0)
			return -ENOMEM;
	}
	return 0;
}

int population_build(struct population *population, const struct world *world, struct arena *arena)
{
	struct intern local = { .arena = arena };
	int ret;

	population->arena = arena;
	population->world = world;
	population->namespaces.arena = arena;
	population->group_keys.arena = arena;
	population->identity_keys.arena = arena;
	population->node_addresses.arena = arena;
	ret = vocabulary_build(&population->vocabulary, world, arena);
	if (ret == 0)
		ret = population_add_prefixes(population);
	if (ret == 0)
		ret = population_find_nodes(population);
	if (ret == 0)
		ret = population_add_hosts(population);
	if (ret == 0)
		ret = population_add_endpoints(population);
	if (ret == 0)
		ret = collect_local_pods(world, &local);
	if (ret == 0)
		ret = population_add_pods(population, &local);
	if (ret == 0)
		ret = population_add_nodes(population);
	intern_done(&local);
	if (ret == 0)
		ret = population_number(population);
	if (ret == 0)
		ret = population_index(population);
	population_sort_places(population);
	return ret;
}

void population_done(struct population *population)
{
	vocabulary_done(&population->vocabulary);
	intern_done(&population->namespaces);
	intern_done(&population->group_keys);
	intern_done(&population->identity_keys);
	intern_done(&population->node_addresses);
	free(population->node_groups);
	label_index_done(&population->index);
	free(population->namespace_labels);
	free(population->groups);
	free(population->identities);
	free(population->places);
	free(population->members);
}
