/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/compiler/identity.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/objects/ports.h"

static const char namespace_name_label[] = "kubernetes.io/metadata.name";

/* ---- namespaces ---- */

/* What is compiled outlives the objects of the world. */
static int labels_keep(struct arena *arena, const struct labels *labels, struct labels *ret_labels)
{
	struct label *items = arena_alloc(arena, labels->count * sizeof(*items));

	for (size_t i = 0; items && i < labels->count; i++) {
		items[i].key = arena_string(arena, labels->items[i].key);
		items[i].value = arena_string(arena, labels->items[i].value);
	}
	*ret_labels = (struct labels){ .items = items, .count = labels->count };
	return arena_failed(arena) ? -ENOMEM : 0;
}

int population_read_namespace(struct population *population, uint32_t namespace)
{
	const char *name = population_namespace(population, namespace);
	const struct object *object = world_find(population->world, OBJECT_NAMESPACE, "", name);
	/* What the API server would give a namespace that has no object. */
	struct label label = { .key = (char *)namespace_name_label, .value = (char *)name };
	const struct labels fallback = { .items = &label, .count = 1 };

	return labels_keep(population->arena, object ? &object->ns.labels : &fallback,
			   population->namespace_labels[namespace]);
}

static int population_add_namespace(struct population *population, const char *name,
				    uint32_t *ret_namespace)
{
	size_t known = population->namespaces.count;
	size_t number = intern_add(&population->namespaces, name, strlen(name) + 1);

	if (number == INTERN_NONE)
		return -ENOMEM;
	*ret_namespace = (uint32_t)number;
	if (number < known)
		return 0;
	if (array_room(&population->namespace_labels, known, &population->namespace_capacity,
		       sizeof(*population->namespace_labels)) < 0)
		return -ENOMEM;
	population->namespace_labels[number] =
		arena_alloc(population->arena, sizeof(struct labels));
	if (!population->namespace_labels[number])
		return -ENOMEM;
	return population_read_namespace(population, (uint32_t)number);
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

	group->labels.items = calloc(labels->count + 1, sizeof(struct label));
	group->ports = calloc(vocabulary->port_count + 1, sizeof(struct named_port));
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

static void group_drop(struct group *group)
{
	free(group->labels.items);
	free(group->ports);
}

/* A group that is not known yet, in the arena. */
static int group_keep(struct arena *arena, const struct group *group, struct group *ret_group)
{
	size_t size = group->port_count * sizeof(*group->ports);

	*ret_group = *group;
	ret_group->ports = arena_copy(arena, group->ports, size);
	for (size_t i = 0; ret_group->ports && i < group->port_count; i++)
		ret_group->ports[i].name = arena_string(arena, group->ports[i].name);
	return labels_keep(arena, &group->labels, &ret_group->labels);
}

/* The number of a group: known already, or new. */
static int group_intern(struct population *population, const struct group *group,
			const char *namespace, uint32_t *ret_group)
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
		       sizeof(*population->groups)) < 0)
		return -ENOMEM;
	return group_keep(population->arena, group, &population->groups[number]);
}

static int population_add_group(struct population *population, const char *namespace,
				const struct labels *labels, const struct pod_object *pod,
				uint32_t *ret_group)
{
	struct group group = { .first_identity = NONE, .ruleset = NONE };
	int ret = population_add_namespace(population, namespace, &group.namespace);

	if (ret == 0)
		ret = group_reduce(population, &population->vocabulary.keys, labels, pod, &group);
	if (ret == 0)
		ret = group_intern(population, &group, namespace, ret_group);
	group_drop(&group);
	return ret;
}

/* No namespace is called "". */
static int population_add_node_group(struct population *population, const struct labels *labels,
				     uint32_t *ret_group)
{
	struct group group = { .namespace = NONE, .first_identity = NONE, .ruleset = NONE };
	int ret = group_reduce(population, &population->vocabulary.node_keys, labels, NULL, &group);

	if (ret == 0)
		ret = group_intern(population, &group, "", ret_group);
	group_drop(&group);
	return ret;
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

static int identity_intern(struct population *population, uint32_t group, uint32_t prefix,
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
		.group = group, .prefix = NONE, .next_in_group = NONE, .next_in_prefix = NONE
	};
	if (group != NONE) {
		identity->next_in_group = population->groups[group].first_identity;
		population->groups[group].first_identity = *ret_identity;
	}
	return 0;
}

static void prefix_add_identity(struct population *population, uint32_t number)
{
	struct identity_class *identity = &population->identities[number];

	identity->next_in_prefix = population->prefix_identities[identity->prefix];
	population->prefix_identities[identity->prefix] = number;
}

/* The identity of a group (or NONE) in a CIDR (or NONE), which has one holder more now. */
static int population_add_identity(struct population *population, uint32_t group, uint32_t prefix,
				   uint32_t *ret_identity)
{
	struct identity_class *identity;
	int ret = identity_intern(population, group, prefix, ret_identity);

	if (ret < 0)
		return ret;
	identity = &population->identities[*ret_identity];
	if (identity->prefix != prefix) { /* new, or the CIDR is back */
		identity->prefix = prefix;
		prefix_add_identity(population, *ret_identity);
	}
	if (identity->holders++ == 0)
		ret = id_list_add(&population->turned, *ret_identity);
	return ret;
}

/* NONE is fine. */
static void population_drop_identity(struct population *population, uint32_t identity)
{
	if (identity == NONE)
		return;
	/* Room for it was made when it came into use. */
	if (--population->identities[identity].holders == 0)
		id_list_add(&population->turned, identity);
}

uint64_t identity_hash(const struct population *population, uint32_t identity)
{
	return population->identity_keys.items[identity].hash;
}

static int population_number(struct population *population)
{
	uint32_t identity;
	uint32_t number;
	size_t pos = 0;

	numbers_init(&population->numbers, IDENTITY_FIRST);
	for (size_t i = 0; i < population->identity_keys.count; i++) {
		if (numbers_take(&population->numbers, identity_hash(population, (uint32_t)i),
				 (uint32_t)i, &number) < 0)
			return -ENOMEM;
	}
	while (numbers_each(&population->numbers, &pos, &identity, &number))
		population->identities[identity].id = number;
	return 0;
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
		uint32_t group = NONE;

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
		struct place place = { .kind = PLACE_NODE, .member = NONE };
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
			.addr = addresses[i], .kind = PLACE_HOST, .identity = NONE, .member = NONE
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

/* ---- members ---- */

/* As whom others know it: a pod that has run to completion is nobody any more, also while this node
 * still has its interface. */
static uint32_t member_peer_group(const struct member *member)
{
	return member->pod && !pod_is_peer(member->pod) ? NONE : member->group;
}

/* The identity behind one of its addresses; NONE: nothing tells it from the world. */
static int member_identify_address(struct population *population, const struct member *member,
				   const struct addr *addr, uint32_t *ret_identity)
{
	uint32_t prefix = vocabulary_longest(&population->vocabulary, addr);
	uint32_t group = member_peer_group(member);

	*ret_identity = NONE;
	if (group == NONE && prefix == NONE)
		return 0;
	return population_add_identity(population, group, prefix, ret_identity);
}

/* Finds the identities behind a member's addresses. */
static int member_identify(struct population *population, struct member *member)
{
	member->identity_v4 = NONE;
	member->identity_v6 = NONE;
	for (size_t i = 0; i < member->address_count; i++) {
		const struct addr *addr = &member->addresses[i];
		uint32_t *of_family =
			addr_is_v4(addr) ? &member->identity_v4 : &member->identity_v6;

		if (member_identify_address(population, member, addr, &member->identities[i]) < 0)
			return -ENOMEM;
		if (*of_family == NONE)
			*of_family = member->identities[i];
	}
	if (!member->subject)
		return 0;
	population->groups[member->group].subjects++;
	if (member_peer_group(member) == NONE)
		return 0;
	/* A family without an address has no packets either: no identity is made for it. */
	if (member->identity_v4 == NONE)
		member->identity_v4 = member->identity_v6;
	if (member->identity_v6 == NONE)
		member->identity_v6 = member->identity_v4;
	if (member->identity_v4 != NONE)
		return 0;
	if (population_add_identity(population, member->group, NONE, &member->identity_v4) < 0)
		return -ENOMEM;
	member->identity_v6 = member->identity_v4;
	return 0;
}

void member_release(struct population *population, const struct member *member)
{
	for (size_t i = 0; i < member->address_count; i++)
		population_drop_identity(population, member->identities[i]);
	if (!member->subject)
		return;
	population->groups[member->group].subjects--;
	if (member->address_count == 0)
		population_drop_identity(population, member->identity_v4);
}

static void member_set_addresses(struct member *member, const struct addr *addresses, size_t count)
{
	memcpy(member->addresses, addresses, count * sizeof(*addresses));
	member->address_count = count;
}

int member_of_endpoint(struct population *population, const struct world_endpoint *endpoint,
		       struct member *ret_member)
{
	const struct object *pod = world_endpoint_pod(population->world, endpoint);
	struct member member = { .kind = PLACE_ENDPOINT,
				 .slot = endpoint->slot,
				 .pod = pod,
				 .subject = true,
				 .row = NONE };

	member_set_addresses(&member, endpoint->addresses, endpoint->address_count);
	if (population_add_group(population, endpoint->namespace,
				 pod ? &pod->pod.labels : &endpoint->labels, pod ? &pod->pod : NULL,
				 &member.group) < 0 ||
	    member_identify(population, &member) < 0)
		return -ENOMEM;
	*ret_member = member;
	return 0;
}

int member_of_pod(struct population *population, const struct object *pod,
		  struct member *ret_member)
{
	struct member member = { .kind = PLACE_POD,
				 .pod = pod,
				 .subject = !world_is_local(population->world),
				 .row = NONE };

	member_set_addresses(&member, pod->pod.addresses, pod->pod.address_count);
	if (population_add_group(population, pod->namespace, &pod->pod.labels, &pod->pod,
				 &member.group) < 0 ||
	    member_identify(population, &member) < 0)
		return -ENOMEM;
	*ret_member = member;
	return 0;
}

static int population_add_member(struct population *population, const struct member *member)
{
	struct place place = { .kind = member->kind,
			       .slot = member->slot,
			       .member = (uint32_t)population->member_count };

	for (size_t i = 0; i < member->address_count; i++) {
		place.addr = member->addresses[i];
		place.identity = member->identities[i];
		if (population_add_place(population, &place) < 0)
			return -ENOMEM;
	}
	if (array_room(&population->members, population->member_count, &population->member_capacity,
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
		struct member member;

		if (member_of_endpoint(population, &endpoints[i], &member) < 0 ||
		    population_add_member(population, &member) < 0)
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
	for (const struct object *pod = world_first(population->world, OBJECT_POD); pod;
	     pod = world_next(population->world, pod)) {
		struct member member;

		if (!pod_is_peer(pod) ||
		    intern_find(local, &pod, sizeof(const struct object *)) != INTERN_NONE)
			continue;
		if (member_of_pod(population, pod, &member) < 0 ||
		    population_add_member(population, &member) < 0)
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

int population_index(struct population *population)
{
	population->index.arena = population->arena;
	for (; population->namespaces_indexed < population->namespaces.count;
	     population->namespaces_indexed++) {
		uint32_t i = (uint32_t)population->namespaces_indexed;

		if (label_index_add(&population->index, SCOPE_NAMESPACES,
				    population->namespace_labels[i], i) < 0)
			return -ENOMEM;
	}
	for (; population->groups_indexed < population->group_keys.count;
	     population->groups_indexed++) {
		const struct group *group = &population->groups[population->groups_indexed];
		uint32_t scope =
			group->namespace == NONE ? SCOPE_NODES : SCOPE_OF(group->namespace);
		/* The index keeps the address; that of the group changes as groups come. */
		const struct labels *labels =
			arena_copy(population->arena, &group->labels, sizeof(group->labels));

		if (!labels || label_index_add(&population->index, scope, labels,
					       (uint32_t)population->groups_indexed) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* ---- CIDRs ---- */

static int population_make_prefixes(struct population *population)
{
	size_t count = population->vocabulary.prefix_count;

	free(population->prefix_identities);
	population->prefix_identities = calloc(count + 1, sizeof(*population->prefix_identities));
	if (!population->prefix_identities)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		population->prefix_identities[i] = NONE;
	return 0;
}

/* Each CIDR holds an identity of its own, unless the vocabulary before had it. */
static int population_add_prefixes(struct population *population, const struct vocabulary *before)
{
	const struct vocabulary *vocabulary = &population->vocabulary;
	uint32_t identity;

	for (size_t i = 0; i < vocabulary->prefix_count; i++) {
		if (vocabulary_prefix(before, &vocabulary->prefixes[i]) == NONE &&
		    population_add_identity(population, NONE, (uint32_t)i, &identity) < 0)
			return -ENOMEM;
	}
	return 0;
}

uint32_t population_prefix_identity(const struct population *population, uint32_t prefix)
{
	uint32_t identity = population->prefix_identities[prefix];

	while (population->identities[identity].group != NONE)
		identity = population->identities[identity].next_in_prefix;
	return identity;
}

/* The numbers of CIDRs change with the vocabulary. */
static int population_renumber_prefixes(struct population *population,
					const struct vocabulary *before)
{
	const struct vocabulary *vocabulary = &population->vocabulary;
	int ret = population_make_prefixes(population);

	for (size_t i = 0; i < population_identity_count(population) && ret == 0; i++) {
		struct identity_class *identity = &population->identities[i];

		if (identity->prefix == NONE || identity->prefix == PREFIX_GONE)
			continue;
		identity->prefix =
			vocabulary_prefix(vocabulary, &before->prefixes[identity->prefix]);
		if (identity->prefix == NONE)
			identity->prefix = PREFIX_GONE;
		else
			prefix_add_identity(population, (uint32_t)i);
	}
	return ret;
}

int population_set_vocabulary(struct population *population, struct vocabulary *vocabulary)
{
	struct vocabulary before = population->vocabulary;
	int ret;

	for (size_t i = 0; i < before.prefix_count; i++) {
		if (vocabulary_prefix(vocabulary, &before.prefixes[i]) == NONE)
			population_drop_identity(
				population, population_prefix_identity(population, (uint32_t)i));
	}
	population->vocabulary = *vocabulary;
	*vocabulary = (struct vocabulary){ 0 };
	ret = population_renumber_prefixes(population, &before);
	if (ret == 0)
		ret = population_add_prefixes(population, &before);
	vocabulary_done(&before);
	return ret;
}

int population_build(struct population *population, const struct world *world, struct arena *arena)
{
	const struct vocabulary nothing = { 0 };
	struct intern local = { .arena = arena };
	int ret;

	population->arena = arena;
	population->world = world;
	population->namespaces.arena = arena;
	population->group_keys.arena = arena;
	population->identity_keys.arena = arena;
	population->node_addresses.arena = arena;
	ret = vocabulary_build(&population->vocabulary, world);
	if (ret == 0)
		ret = population_make_prefixes(population);
	if (ret == 0)
		ret = population_add_prefixes(population, &nothing);
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
	free(population->prefix_identities);
	id_list_done(&population->turned);
	numbers_done(&population->numbers);
	free(population->places);
	free(population->members);
}
