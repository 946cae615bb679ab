/* SPDX-License-Identifier: Apache-2.0 */
/* Who is there: pods and endpoints that come, go or change, and what policies read about them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/compiler/incremental_internal.h"
#include "policy/objects/ports.h"

/* ---- names ---- */

/* More than these at once are compiled anew: that is not slower. */
size_t pod_states_limit(const struct incremental *incremental)
{
	return 64 + incremental->compiler.allocator.pod_state_count / 4;
}

static uint32_t pod_state_intern(struct incremental *incremental, const void *key, size_t len)
{
	struct allocator *allocator = &incremental->compiler.allocator;
	size_t number = intern_add(&incremental->pod_state_keys, key, len);

	if (number == INTERN_NONE)
		return NONE;
	if (number < allocator->pod_state_count)
		return (uint32_t)number;
	if (array_room(&allocator->pod_states, allocator->pod_state_count,
		       &allocator->pod_state_capacity, sizeof(*allocator->pod_states)) < 0)
		return NONE;
	allocator->pod_states[allocator->pod_state_count++] =
		(struct pod_state){ .group = NONE, .row = NONE };
	return (uint32_t)number;
}

/* 'e' and the slot, or 'p', namespace and name: compared as memory they are in the order of
 * compiled->subjects. */
uint32_t pod_state_of_name(struct incremental *incremental, const char *namespace, const char *name)
{
	auto_buffer struct buffer key = { 0 };

	buffer_add(&key, "p", 1);
	buffer_text(&key, namespace);
	buffer_text(&key, name);
	return key.failed ? NONE : pod_state_intern(incremental, key.data, key.len);
}

uint32_t pod_state_of_slot(struct incremental *incremental, uint16_t slot)
{
	const unsigned char key[] = { 'e', (unsigned char)(slot >> 8), (unsigned char)slot };

	return pod_state_intern(incremental, key, sizeof(key));
}

int pod_state_order(const struct incremental *incremental, uint32_t left, uint32_t right)
{
	const struct interned *a = &incremental->pod_state_keys.items[left];
	const struct interned *b = &incremental->pod_state_keys.items[right];
	int order = memcmp(a->key, b->key, a->len < b->len ? a->len : b->len);

	return order ? order : (a->len > b->len) - (a->len < b->len);
}

int pod_states_number(struct incremental *incremental)
{
	const struct allocator *allocator = &incremental->compiler.allocator;

	for (size_t i = 0; i < allocator->pod_state_count; i++) {
		const struct pod_state *pod_state = &allocator->pod_states[i];
		uint32_t number =
			pod_state->kind == PLACE_ENDPOINT
				? pod_state_of_slot(incremental, pod_state->slot)
				: pod_state_of_name(incremental, pod_state->pod->namespace,
						    pod_state->pod->name);

		if (number == NONE)
			return -ENOMEM;
	}
	return 0;
}

/* ---- leaving and coming ---- */

/* Who has an address that is a node's too: whose it is then is not worked out here. */
static int address_note(struct incremental *incremental, const struct addr *addr)
{
	struct addr_list *list = &incremental->addresses;

	if (intern_find(&incremental->compiler.allocator.node_addresses, addr, sizeof(*addr)) !=
	    INTERN_NONE)
		return INCREMENTAL_FULL;
	if (array_room(&list->items, list->count, &list->capacity, sizeof(*list->items)) < 0)
		return -ENOMEM;
	list->items[list->count++] = *addr;
	return 0;
}

/* What follows from a member that is there, as it was or as it is. */
static int pod_state_note(struct incremental *incremental, uint32_t number)
{
	const struct allocator *allocator = &incremental->compiler.allocator;
	const struct pod_state *pod_state = &allocator->pod_states[number];
	int ret = 0;

	for (size_t i = 0; i < pod_state->address_count && ret == 0; i++)
		ret = address_note(incremental, &pod_state->addresses[i]);
	if (ret || !pod_state->subject)
		return ret;
	if (allocator->groups[pod_state->group].subjects == 1)
		ret = id_list_add(&incremental->groups, pod_state->group);
	return ret ? ret : id_list_add(&incremental->moved, number);
}

static int pod_state_leave(struct incremental *incremental, uint32_t number)
{
	struct allocator *allocator = &incremental->compiler.allocator;
	struct pod_state *pod_state = &allocator->pod_states[number];
	int ret;

	if (pod_state->group == NONE)
		return 0;
	ret = pod_state_note(incremental, number);
	pod_state_release(allocator, pod_state);
	*pod_state = (struct pod_state){ .group = NONE, .row = pod_state->row };
	return ret;
}

static bool endpoint_speaks_for(const struct store *store, const struct object *pod)
{
	const struct store_endpoint *endpoints;
	size_t count = store_endpoints(store, &endpoints);

	for (size_t i = 0; i < count; i++) {
		if (strcmp(endpoints[i].name, pod->name) == 0 &&
		    strcmp(endpoints[i].namespace, pod->namespace) == 0 &&
		    store_endpoint_pod(store, &endpoints[i]) == pod)
			return true;
	}
	return false;
}

/* The member as the store has it; group NONE: it has no such. */
static int pod_state_find(struct incremental *incremental, uint32_t number,
			  struct pod_state *ret_pod_state)
{
	struct allocator *allocator = &incremental->compiler.allocator;
	const char *key = incremental->pod_state_keys.items[number].key;
	const struct store_endpoint *endpoint;
	const struct object *pod;
	uint16_t slot;

	if (*key == 'e') {
		slot = (uint16_t)((unsigned char)key[1] << 8 | (unsigned char)key[2]);
		endpoint = store_endpoint_find(incremental->store, slot);
		return endpoint ? pod_state_of_endpoint(allocator, endpoint, ret_pod_state) : 0;
	}
	pod = store_find(incremental->store, OBJECT_POD, key + 1, key + 1 + strlen(key + 1) + 1);
	if (!pod || !pod_is_peer(pod) || endpoint_speaks_for(incremental->store, pod))
		return 0;
	return pod_state_of_pod(allocator, pod, ret_pod_state);
}

static int pod_state_come(struct incremental *incremental, uint32_t number)
{
	struct allocator *allocator = &incremental->compiler.allocator;
	struct pod_state pod_state = { .group = NONE };
	int ret = pod_state_find(incremental, number, &pod_state);

	if (ret < 0 || pod_state.group == NONE)
		return ret;
	pod_state.row = allocator->pod_states[number].row;
	allocator->pod_states[number] = pod_state;
	return pod_state_note(incremental, number);
}

/* ---- what policies read ---- */

static const struct labels *pod_state_labels(const struct incremental *incremental,
					     const struct pod_state *pod_state)
{
	return pod_state->pod ? &pod_state->pod->pod.labels
			      : &store_endpoint_find(incremental->store, pod_state->slot)->labels;
}

/* Whether what a policy reads makes a difference for a member. */
static bool term_concerns(const struct incremental *incremental, const struct term *term,
			  const struct pod_state *pod_state)
{
	const char *value;

	switch (term->kind) {
	case TERM_POD_KEY:
		return labels_get(pod_state_labels(incremental, pod_state), term->text, &value);
	case TERM_PORT:
		return pod_state->pod &&
		       named_port_find(pod_state->pod->pod.ports, pod_state->pod->pod.port_count,
				       term->proto, term->text) != 0;
	case TERM_PREFIX:
		for (size_t i = 0; i < pod_state->address_count; i++) {
			if (prefix_contains(&term->prefix, &pod_state->addresses[i]))
				return true;
		}
		return false;
	case TERM_NODES:
	case TERM_NODE_KEY:
		break;
	}
	return false;
}

/* Nodes are only ever compiled anew. */
static bool term_concerns_nodes(const struct incremental *incremental, const struct term *term)
{
	const struct intern *nodes = &incremental->compiler.allocator.node_addresses;
	const struct addr *hosts;
	size_t count = store_host_addresses(incremental->store, &hosts);

	if (term->kind != TERM_PREFIX)
		return term->kind == TERM_NODES || term->kind == TERM_NODE_KEY;
	for (size_t i = 0; i < count; i++) {
		if (prefix_contains(&term->prefix, &hosts[i]))
			return true;
	}
	for (size_t i = 0; i < nodes->count; i++) {
		if (prefix_contains(&term->prefix, nodes->items[i].key))
			return true;
	}
	return false;
}

/* Adds everybody for whom a changed term makes a difference to those who are touched. */
static int term_reach(struct incremental *incremental, const struct term *term,
		      struct id_list *reached)
{
	const struct allocator *allocator = &incremental->compiler.allocator;

	if (term_concerns_nodes(incremental, term))
		return INCREMENTAL_FULL;
	for (size_t i = 0; i < allocator->pod_state_count; i++) {
		const struct pod_state *pod_state = &allocator->pod_states[i];

		/* Of those who are touched already, the objects may be gone. */
		if (pod_state->group == NONE ||
		    id_list_has(&incremental->pod_states, (uint32_t)i) ||
		    !term_concerns(incremental, term, pod_state))
			continue;
		if (id_list_add(reached, (uint32_t)i) < 0)
			return -ENOMEM;
		if (reached->count > pod_states_limit(incremental))
			return INCREMENTAL_FULL;
	}
	return 0;
}

/* Terms that came into force or went out of it; the others are dropped from the list. */
static int terms_reach(struct incremental *incremental)
{
	struct id_list *changed = &incremental->changed_terms;
	struct id_list reached = { 0 };
	size_t kept = 0;
	int ret = 0;

	id_list_sort(changed);
	for (size_t i = 0; i < changed->count && ret == 0; i++) {
		struct term_use *use = &incremental->terms[changed->items[i]];

		if ((use->count > 0) == use->in_force)
			continue;
		use->in_force = use->count > 0;
		incremental->cidrs |= use->term.kind == TERM_PREFIX;
		changed->items[kept++] = changed->items[i];
		ret = term_reach(incremental, &use->term, &reached);
	}
	changed->count = kept;
	for (size_t i = 0; i < reached.count && ret == 0; i++)
		ret = id_list_add(&incremental->pod_states, reached.items[i]);
	id_list_done(&reached);
	id_list_sort(&incremental->pod_states);
	return ret;
}

static int referenced_update(struct incremental *incremental)
{
	struct referenced referenced = { 0 };
	int ret;

	if (incremental->changed_terms.count == 0)
		return 0;
	ret = referenced_build(&referenced, incremental->store);
	if (ret == 0)
		ret = allocator_set_referenced(&incremental->compiler.allocator, &referenced);
	referenced_done(&referenced);
	return ret;
}

/* ---- namespaces ---- */

static bool labels_same(const struct labels *a, const struct labels *b)
{
	for (size_t i = 0; i < a->count && i < b->count; i++) {
		if (strcmp(a->items[i].key, b->items[i].key) != 0 ||
		    strcmp(a->items[i].value, b->items[i].value) != 0)
			return false;
	}
	return a->count == b->count;
}

static int namespace_update(struct incremental *incremental, uint32_t number)
{
	struct allocator *allocator = &incremental->compiler.allocator;
	struct labels *labels = allocator->namespace_labels[number];
	struct relabelled relabelled = { .namespace = number, .before = *labels };

	if (allocator_read_namespace(allocator, number) < 0)
		return -ENOMEM;
	if (labels_same(labels, &relabelled.before))
		return 0;
	if (array_room(&incremental->relabelled, incremental->relabelled_count,
		       &incremental->relabelled_capacity, sizeof(*incremental->relabelled)) < 0)
		return -ENOMEM;
	incremental->relabelled[incremental->relabelled_count++] = relabelled;
	/* Where it is listed under a label that it lost, the selector is asked again. */
	if (label_index_add(&allocator->index, SCOPE_NAMESPACES, labels, number) < 0)
		return -ENOMEM;
	if (store_count(incremental->store, OBJECT_CLUSTER_POLICY) == 0)
		return 0;
	return label_index_select(&allocator->index, SCOPE_OF(number), NULL, &incremental->groups);
}

int pod_states_update(struct incremental *incremental)
{
	struct id_list *pod_states = &incremental->pod_states;
	int ret;

	id_list_sort(pod_states);
	id_list_sort(&incremental->namespaces);
	ret = terms_reach(incremental);
	for (size_t i = 0; i < pod_states->count && ret == 0; i++)
		ret = pod_state_leave(incremental, pod_states->items[i]);
	if (ret == 0)
		ret = referenced_update(incremental);
	for (size_t i = 0; i < incremental->namespaces.count && ret == 0; i++)
		ret = namespace_update(incremental, incremental->namespaces.items[i]);
	for (size_t i = 0; i < pod_states->count && ret == 0; i++)
		ret = pod_state_come(incremental, pod_states->items[i]);
	return ret ? ret : allocator_index(&incremental->compiler.allocator);
}
