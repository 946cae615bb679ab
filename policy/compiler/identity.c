/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/compiler/identity.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/objects/ports.h"

static const char namespace_name_label[] = "kubernetes.io/metadata.name";

/* ---- namespaces ---- */

/* What is compiled outlives the objects of the store. */
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

int allocator_read_namespace(struct allocator *allocator, uint32_t namespace)
{
	const char *name = allocator_namespace(allocator, namespace);
	const struct object *object = store_find(allocator->store, OBJECT_NAMESPACE, "", name);
	/* What the API server would give a namespace that has no object. */
	struct label label = { .key = (char *)namespace_name_label, .value = (char *)name };
	const struct labels fallback = { .items = &label, .count = 1 };

	return labels_keep(allocator->arena, object ? &object->ns.labels : &fallback,
			   allocator->namespace_labels[namespace]);
}

static int allocator_add_namespace(struct allocator *allocator, const char *name,
				   uint32_t *ret_namespace)
{
	size_t known = allocator->namespaces.count;
	size_t number = intern_add(&allocator->namespaces, name, strlen(name) + 1);

	if (number == INTERN_NONE)
		return -ENOMEM;
	*ret_namespace = (uint32_t)number;
	if (number < known)
		return 0;
	if (array_room(&allocator->namespace_labels, known, &allocator->namespace_capacity,
		       sizeof(*allocator->namespace_labels)) < 0)
		return -ENOMEM;
	allocator->namespace_labels[number] = arena_alloc(allocator->arena, sizeof(struct labels));
	if (!allocator->namespace_labels[number])
		return -ENOMEM;
	return allocator_read_namespace(allocator, (uint32_t)number);
}

const char *allocator_namespace(const struct allocator *allocator, uint32_t namespace)
{
	return allocator->namespaces.items[namespace].key;
}

/* ---- groups ---- */

static int group_reduce(struct allocator *allocator, const struct intern *keys,
			const struct labels *labels, const struct pod_object *pod,
			struct group *group)
{
	const struct referenced *referenced = &allocator->referenced;

	group->labels.items = calloc(labels->count + 1, sizeof(struct label));
	group->ports = calloc(referenced->port_count + 1, sizeof(struct named_port));
	if (!group->labels.items || !group->ports)
		return -ENOMEM;
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
static int group_intern(struct allocator *allocator, const struct group *group,
			const char *namespace, uint32_t *ret_group)
{
	auto_buffer struct buffer key = { 0 };
	size_t known = allocator->group_keys.count;
	size_t number;

	group_key(group, namespace, &key);
	if (key.failed)
		return -ENOMEM;
	number = intern_add(&allocator->group_keys, key.data, key.len);
	if (number == INTERN_NONE)
		return -ENOMEM;
	*ret_group = (uint32_t)number;
	if (number < known)
		return 0;
	if (array_room(&allocator->groups, known, &allocator->group_capacity,
		       sizeof(*allocator->groups)) < 0)
		return -ENOMEM;
	return group_keep(allocator->arena, group, &allocator->groups[number]);
}

static int allocator_add_group(struct allocator *allocator, const char *namespace,
			       const struct labels *labels, const struct pod_object *pod,
			       uint32_t *ret_group)
{
	struct group group = { .first_identity = NONE, .ruleset = NONE };
	int ret = allocator_add_namespace(allocator, namespace, &group.namespace);

	if (ret == 0)
		ret = group_reduce(allocator, &allocator->referenced.keys, labels, pod, &group);
	if (ret == 0)
		ret = group_intern(allocator, &group, namespace, ret_group);
	group_drop(&group);
	return ret;
}

/* No namespace is called "". */
static int allocator_add_node_group(struct allocator *allocator, const struct labels *labels,
				    uint32_t *ret_group)
{
	struct group group = { .namespace = NONE, .first_identity = NONE, .ruleset = NONE };
	int ret = group_reduce(allocator, &allocator->referenced.node_keys, labels, NULL, &group);

	if (ret == 0)
		ret = group_intern(allocator, &group, "", ret_group);
	group_drop(&group);
	return ret;
}

/* ---- identities ---- */

size_t allocator_identity_count(const struct allocator *allocator)
{
	return allocator->identity_keys.count;
}

/* What is hashed into the number: the group's content and the CIDR. */
static void identity_content(const struct allocator *allocator, uint32_t group, uint32_t prefix,
			     struct buffer *content)
{
	content->len = 0;
	buffer_add(content, group == NONE ? "c" : "p", 1);
	if (group != NONE)
		buffer_add(content, allocator->group_keys.items[group].key,
			   allocator->group_keys.items[group].len);
	if (prefix != NONE) {
		const struct prefix *cidr = &allocator->referenced.prefixes[prefix];

		buffer_add(content, &cidr->addr, sizeof(cidr->addr));
		buffer_add(content, &cidr->len, sizeof(cidr->len));
	}
}

static int identity_intern(struct allocator *allocator, uint32_t group, uint32_t prefix,
			   uint32_t *ret_identity)
{
	auto_buffer struct buffer content = { 0 };
	size_t known = allocator->identity_keys.count;
	struct identity_class *identity;
	size_t number;

	identity_content(allocator, group, prefix, &content);
	if (content.failed)
		return -ENOMEM;
	number = intern_add(&allocator->identity_keys, content.data, content.len);
	if (number == INTERN_NONE)
		return -ENOMEM;
	*ret_identity = (uint32_t)number;
	if (number < known)
		return 0;
	if (array_room(&allocator->identities, known, &allocator->identity_capacity,
		       sizeof(*allocator->identities)) < 0)
		return -ENOMEM;
	identity = &allocator->identities[number];
	*identity = (struct identity_class){
		.group = group, .prefix = NONE, .next_in_group = NONE, .next_in_prefix = NONE
	};
	if (group != NONE) {
		identity->next_in_group = allocator->groups[group].first_identity;
		allocator->groups[group].first_identity = *ret_identity;
	}
	return 0;
}

static void prefix_add_identity(struct allocator *allocator, uint32_t number)
{
	struct identity_class *identity = &allocator->identities[number];

	identity->next_in_prefix = allocator->prefix_identities[identity->prefix];
	allocator->prefix_identities[identity->prefix] = number;
}

/* The identity of a group (or NONE) in a CIDR (or NONE), which has one holder more now. */
static int allocator_add_identity(struct allocator *allocator, uint32_t group, uint32_t prefix,
				  uint32_t *ret_identity)
{
	struct identity_class *identity;
	int ret = identity_intern(allocator, group, prefix, ret_identity);

	if (ret < 0)
		return ret;
	identity = &allocator->identities[*ret_identity];
	if (identity->prefix != prefix) { /* new, or the CIDR is back */
		identity->prefix = prefix;
		prefix_add_identity(allocator, *ret_identity);
	}
	if (identity->refs++ == 0)
		ret = id_list_add(&allocator->changed, *ret_identity);
	return ret;
}

/* NONE is fine. */
static void allocator_drop_identity(struct allocator *allocator, uint32_t identity)
{
	if (identity == NONE)
		return;
	/* Room for it was made when it came into use. */
	if (--allocator->identities[identity].refs == 0)
		id_list_add(&allocator->changed, identity);
}

uint64_t identity_hash(const struct allocator *allocator, uint32_t identity)
{
	return allocator->identity_keys.items[identity].hash;
}

static int allocator_number(struct allocator *allocator)
{
	uint32_t identity;
	uint32_t number;
	size_t pos = 0;

	id_pool_init(&allocator->numbers, IDENTITY_FIRST);
	for (size_t i = 0; i < allocator->identity_keys.count; i++) {
		if (id_pool_take(&allocator->numbers, identity_hash(allocator, (uint32_t)i),
				 (uint32_t)i, &number) < 0)
			return -ENOMEM;
	}
	while (id_pool_each(&allocator->numbers, &pos, &identity, &number))
		allocator->identities[identity].id = number;
	return 0;
}

/* ---- who is where ---- */

static int allocator_add_place(struct allocator *allocator, const struct place *place)
{
	if (array_room(&allocator->places, allocator->place_count, &allocator->place_capacity,
		       sizeof(*allocator->places)) < 0)
		return -ENOMEM;
	allocator->places[allocator->place_count++] = *place;
	return 0;
}

/* Whose the addresses of Node objects are; of two nodes with one address, the first by name. */
static int allocator_find_nodes(struct allocator *allocator)
{
	const struct store *store = allocator->store;

	for (const struct object *object = store_first(store, OBJECT_NODE);
	     object && allocator->referenced.nodes; object = store_next(store, object)) {
		uint32_t group = NONE;

		if (allocator_add_node_group(allocator, &object->node.labels, &group) < 0)
			return -ENOMEM;
		for (size_t i = 0; i < object->node.address_count; i++) {
			size_t known = allocator->node_addresses.count;
			size_t number = intern_add(&allocator->node_addresses,
						   &object->node.addresses[i], sizeof(struct addr));

			if (number == INTERN_NONE)
				return -ENOMEM;
			if (number < known)
				continue;
			if (array_room(&allocator->node_groups, known, &allocator->node_capacity,
				       sizeof(*allocator->node_groups)) < 0)
				return -ENOMEM;
			allocator->node_groups[number] = group;
		}
	}
	return 0;
}

/* NONE: policies do not speak of nodes, or it is no node's. */
static uint32_t allocator_node_group(const struct allocator *allocator, const struct addr *addr)
{
	size_t number = intern_find(&allocator->node_addresses, addr, sizeof(*addr));

	return number == INTERN_NONE ? NONE : allocator->node_groups[number];
}

static int allocator_add_nodes(struct allocator *allocator)
{
	for (size_t i = 0; i < allocator->node_addresses.count; i++) {
		struct place place = { .kind = PLACE_NODE, .pod_state = NONE };
		uint32_t prefix;

		memcpy(&place.addr, allocator->node_addresses.items[i].key, sizeof(place.addr));
		prefix = referenced_longest(&allocator->referenced, &place.addr);
		if (allocator_add_identity(allocator, allocator->node_groups[i], prefix,
					   &place.identity) < 0 ||
		    allocator_add_place(allocator, &place) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int allocator_add_hosts(struct allocator *allocator)
{
	const struct addr *addresses;
	size_t count = store_host_addresses(allocator->store, &addresses);

	for (size_t i = 0; i < count; i++) {
		struct place place = { .addr = addresses[i],
				       .kind = PLACE_HOST,
				       .identity = NONE,
				       .pod_state = NONE };
		uint32_t prefix = referenced_longest(&allocator->referenced, &addresses[i]);
		uint32_t group = allocator_node_group(allocator, &addresses[i]);

		if ((group != NONE || prefix != NONE) &&
		    allocator_add_identity(allocator, group, prefix, &place.identity) < 0)
			return -ENOMEM;
		if (allocator_add_place(allocator, &place) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* ---- members ---- */

/* As whom others know it: a pod that has run to completion is nobody any more, also while this node
 * still has its interface. */
static uint32_t pod_state_peer_group(const struct pod_state *pod_state)
{
	return pod_state->pod && !pod_is_peer(pod_state->pod) ? NONE : pod_state->group;
}

/* The identity behind one of its addresses; NONE: nothing tells it from the store. */
static int pod_state_identify_address(struct allocator *allocator,
				      const struct pod_state *pod_state, const struct addr *addr,
				      uint32_t *ret_identity)
{
	uint32_t prefix = referenced_longest(&allocator->referenced, addr);
	uint32_t group = pod_state_peer_group(pod_state);

	*ret_identity = NONE;
	if (group == NONE && prefix == NONE)
		return 0;
	return allocator_add_identity(allocator, group, prefix, ret_identity);
}

/* Finds the identities behind a member's addresses. */
static int pod_state_identify(struct allocator *allocator, struct pod_state *pod_state)
{
	pod_state->identity_v4 = NONE;
	pod_state->identity_v6 = NONE;
	for (size_t i = 0; i < pod_state->address_count; i++) {
		const struct addr *addr = &pod_state->addresses[i];
		uint32_t *of_family =
			addr_is_v4(addr) ? &pod_state->identity_v4 : &pod_state->identity_v6;

		if (pod_state_identify_address(allocator, pod_state, addr,
					       &pod_state->identities[i]) < 0)
			return -ENOMEM;
		if (*of_family == NONE)
			*of_family = pod_state->identities[i];
	}
	if (!pod_state->subject)
		return 0;
	allocator->groups[pod_state->group].subjects++;
	if (pod_state_peer_group(pod_state) == NONE)
		return 0;
	/* A family without an address has no packets either: no identity is made for it. */
	if (pod_state->identity_v4 == NONE)
		pod_state->identity_v4 = pod_state->identity_v6;
	if (pod_state->identity_v6 == NONE)
		pod_state->identity_v6 = pod_state->identity_v4;
	if (pod_state->identity_v4 != NONE)
		return 0;
	if (allocator_add_identity(allocator, pod_state->group, NONE, &pod_state->identity_v4) < 0)
		return -ENOMEM;
	pod_state->identity_v6 = pod_state->identity_v4;
	return 0;
}

void pod_state_release(struct allocator *allocator, const struct pod_state *pod_state)
{
	for (size_t i = 0; i < pod_state->address_count; i++)
		allocator_drop_identity(allocator, pod_state->identities[i]);
	if (!pod_state->subject)
		return;
	allocator->groups[pod_state->group].subjects--;
	if (pod_state->address_count == 0)
		allocator_drop_identity(allocator, pod_state->identity_v4);
}

static void pod_state_set_addresses(struct pod_state *pod_state, const struct addr *addresses,
				    size_t count)
{
	memcpy(pod_state->addresses, addresses, count * sizeof(*addresses));
	pod_state->address_count = count;
}

int pod_state_of_endpoint(struct allocator *allocator, const struct store_endpoint *endpoint,
			  struct pod_state *ret_pod_state)
{
	const struct object *pod = store_endpoint_pod(allocator->store, endpoint);
	struct pod_state pod_state = { .kind = PLACE_ENDPOINT,
				       .slot = endpoint->slot,
				       .pod = pod,
				       .subject = true,
				       .row = NONE };

	pod_state_set_addresses(&pod_state, endpoint->addresses, endpoint->address_count);
	if (allocator_add_group(allocator, endpoint->namespace,
				pod ? &pod->pod.labels : &endpoint->labels, pod ? &pod->pod : NULL,
				&pod_state.group) < 0 ||
	    pod_state_identify(allocator, &pod_state) < 0)
		return -ENOMEM;
	*ret_pod_state = pod_state;
	return 0;
}

int pod_state_of_pod(struct allocator *allocator, const struct object *pod,
		     struct pod_state *ret_pod_state)
{
	struct pod_state pod_state = { .kind = PLACE_POD,
				       .pod = pod,
				       .subject = !store_is_local(allocator->store),
				       .row = NONE };

	pod_state_set_addresses(&pod_state, pod->pod.addresses, pod->pod.address_count);
	if (allocator_add_group(allocator, pod->namespace, &pod->pod.labels, &pod->pod,
				&pod_state.group) < 0 ||
	    pod_state_identify(allocator, &pod_state) < 0)
		return -ENOMEM;
	*ret_pod_state = pod_state;
	return 0;
}

static int allocator_add_pod_state(struct allocator *allocator, const struct pod_state *pod_state)
{
	struct place place = { .kind = pod_state->kind,
			       .slot = pod_state->slot,
			       .pod_state = (uint32_t)allocator->pod_state_count };

	for (size_t i = 0; i < pod_state->address_count; i++) {
		place.addr = pod_state->addresses[i];
		place.identity = pod_state->identities[i];
		if (allocator_add_place(allocator, &place) < 0)
			return -ENOMEM;
	}
	if (array_room(&allocator->pod_states, allocator->pod_state_count,
		       &allocator->pod_state_capacity, sizeof(*allocator->pod_states)) < 0)
		return -ENOMEM;
	allocator->pod_states[allocator->pod_state_count++] = *pod_state;
	return 0;
}

static int allocator_add_endpoints(struct allocator *allocator)
{
	const struct store_endpoint *endpoints;
	size_t count = store_endpoints(allocator->store, &endpoints);

	for (size_t i = 0; i < count; i++) {
		struct pod_state pod_state;

		if (pod_state_of_endpoint(allocator, &endpoints[i], &pod_state) < 0 ||
		    allocator_add_pod_state(allocator, &pod_state) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* Pods that are endpoints of this node: their object's addresses may lag behind. */
static int collect_local_pods(const struct store *store, struct intern *local)
{
	const struct store_endpoint *endpoints;
	size_t count = store_endpoints(store, &endpoints);

	for (size_t i = 0; i < count; i++) {
		const struct object *pod = store_endpoint_pod(store, &endpoints[i]);

		if (pod && intern_add(local, &pod, sizeof(const struct object *)) == INTERN_NONE)
			return -ENOMEM;
	}
	return 0;
}

static int allocator_add_pods(struct allocator *allocator, const struct intern *local)
{
	for (const struct object *pod = store_first(allocator->store, OBJECT_POD); pod;
	     pod = store_next(allocator->store, pod)) {
		struct pod_state pod_state;

		if (!pod_is_peer(pod) ||
		    intern_find(local, &pod, sizeof(const struct object *)) != INTERN_NONE)
			continue;
		if (pod_state_of_pod(allocator, pod, &pod_state) < 0 ||
		    allocator_add_pod_state(allocator, &pod_state) < 0)
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

static void allocator_sort_places(struct allocator *allocator)
{
	size_t kept = 0;

	if (allocator->place_count < 2)
		return;
	qsort(allocator->places, allocator->place_count, sizeof(*allocator->places), place_compare);
	for (size_t i = 1; i < allocator->place_count; i++) {
		if (!addr_equal(&allocator->places[i].addr, &allocator->places[kept].addr))
			allocator->places[++kept] = allocator->places[i];
	}
	allocator->place_count = kept + 1;
}

int allocator_index(struct allocator *allocator)
{
	allocator->index.arena = allocator->arena;
	for (; allocator->namespaces_indexed < allocator->namespaces.count;
	     allocator->namespaces_indexed++) {
		uint32_t i = (uint32_t)allocator->namespaces_indexed;

		if (label_index_add(&allocator->index, SCOPE_NAMESPACES,
				    allocator->namespace_labels[i], i) < 0)
			return -ENOMEM;
	}
	for (; allocator->groups_indexed < allocator->group_keys.count;
	     allocator->groups_indexed++) {
		const struct group *group = &allocator->groups[allocator->groups_indexed];
		uint32_t scope =
			group->namespace == NONE ? SCOPE_NODES : SCOPE_OF(group->namespace);
		/* The index keeps the address; that of the group changes as groups come. */
		const struct labels *labels =
			arena_copy(allocator->arena, &group->labels, sizeof(group->labels));

		if (!labels || label_index_add(&allocator->index, scope, labels,
					       (uint32_t)allocator->groups_indexed) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* ---- CIDRs ---- */

static int allocator_make_prefixes(struct allocator *allocator)
{
	size_t count = allocator->referenced.prefix_count;

	free(allocator->prefix_identities);
	allocator->prefix_identities = calloc(count + 1, sizeof(*allocator->prefix_identities));
	if (!allocator->prefix_identities)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		allocator->prefix_identities[i] = NONE;
	return 0;
}

/* Each CIDR holds an identity of its own, unless the referenced labels before had it. */
static int allocator_add_prefixes(struct allocator *allocator, const struct referenced *before)
{
	const struct referenced *referenced = &allocator->referenced;
	uint32_t identity;

	for (size_t i = 0; i < referenced->prefix_count; i++) {
		if (referenced_prefix(before, &referenced->prefixes[i]) == NONE &&
		    allocator_add_identity(allocator, NONE, (uint32_t)i, &identity) < 0)
			return -ENOMEM;
	}
	return 0;
}

uint32_t allocator_prefix_identity(const struct allocator *allocator, uint32_t prefix)
{
	uint32_t identity = allocator->prefix_identities[prefix];

	while (allocator->identities[identity].group != NONE)
		identity = allocator->identities[identity].next_in_prefix;
	return identity;
}

/* The numbers of CIDRs change with the referenced labels. */
static int allocator_renumber_prefixes(struct allocator *allocator, const struct referenced *before)
{
	const struct referenced *referenced = &allocator->referenced;
	int ret = allocator_make_prefixes(allocator);

	for (size_t i = 0; i < allocator_identity_count(allocator) && ret == 0; i++) {
		struct identity_class *identity = &allocator->identities[i];

		if (identity->prefix == NONE || identity->prefix == PREFIX_GONE)
			continue;
		identity->prefix =
			referenced_prefix(referenced, &before->prefixes[identity->prefix]);
		if (identity->prefix == NONE)
			identity->prefix = PREFIX_GONE;
		else
			prefix_add_identity(allocator, (uint32_t)i);
	}
	return ret;
}

int allocator_set_referenced(struct allocator *allocator, struct referenced *referenced)
{
	struct referenced before = allocator->referenced;
	int ret;

	for (size_t i = 0; i < before.prefix_count; i++) {
		if (referenced_prefix(referenced, &before.prefixes[i]) == NONE)
			allocator_drop_identity(allocator,
						allocator_prefix_identity(allocator, (uint32_t)i));
	}
	allocator->referenced = *referenced;
	*referenced = (struct referenced){ 0 };
	ret = allocator_renumber_prefixes(allocator, &before);
	if (ret == 0)
		ret = allocator_add_prefixes(allocator, &before);
	referenced_done(&before);
	return ret;
}

int allocator_build(struct allocator *allocator, const struct store *store, struct arena *arena)
{
	const struct referenced nothing = { 0 };
	struct intern local = { .arena = arena };
	int ret;

	allocator->arena = arena;
	allocator->store = store;
	allocator->namespaces.arena = arena;
	allocator->group_keys.arena = arena;
	allocator->identity_keys.arena = arena;
	allocator->node_addresses.arena = arena;
	ret = referenced_build(&allocator->referenced, store);
	if (ret == 0)
		ret = allocator_make_prefixes(allocator);
	if (ret == 0)
		ret = allocator_add_prefixes(allocator, &nothing);
	if (ret == 0)
		ret = allocator_find_nodes(allocator);
	if (ret == 0)
		ret = allocator_add_hosts(allocator);
	if (ret == 0)
		ret = allocator_add_endpoints(allocator);
	if (ret == 0)
		ret = collect_local_pods(store, &local);
	if (ret == 0)
		ret = allocator_add_pods(allocator, &local);
	if (ret == 0)
		ret = allocator_add_nodes(allocator);
	intern_done(&local);
	if (ret == 0)
		ret = allocator_number(allocator);
	if (ret == 0)
		ret = allocator_index(allocator);
	allocator_sort_places(allocator);
	return ret;
}

void allocator_done(struct allocator *allocator)
{
	referenced_done(&allocator->referenced);
	intern_done(&allocator->namespaces);
	intern_done(&allocator->group_keys);
	intern_done(&allocator->identity_keys);
	intern_done(&allocator->node_addresses);
	free(allocator->node_groups);
	label_index_done(&allocator->index);
	free(allocator->namespace_labels);
	free(allocator->groups);
	free(allocator->identities);
	free(allocator->prefix_identities);
	id_list_done(&allocator->changed);
	id_pool_done(&allocator->numbers);
	free(allocator->places);
	free(allocator->pod_states);
}
