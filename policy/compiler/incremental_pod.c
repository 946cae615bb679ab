/* SPDX-License-Identifier: Apache-2.0 */
/* Pods and endpoints that come, leave or change, and what policies read about them. */
#include <stdlib.h>
#include <string.h>

#include "policy/compiler/incremental_internal.h"
#include "policy/objects/ports.h"

/* ---- names ---- */

size_t pod_states_limit(const struct incremental *incremental)
{
	return 64 + incremental->compiler.allocator.pod_state_count / 4;
}

static uint32_t pod_state_intern(struct incremental *incremental, const void *key, size_t len)
{
	struct allocator *allocator = &incremental->compiler.allocator;
	size_t number = intern_add(&incremental->pod_state_keys, key, len);

	if (number == allocator->pod_state_count) {
		array_room(&allocator->pod_states, number, &allocator->pod_state_capacity,
			   sizeof(*allocator->pod_states));
		allocator->pod_states[allocator->pod_state_count++] =
			(struct pod_state){ .group = NONE, .row = NONE };
	}
	return (uint32_t)number;
}

/* 'e' and the slot, or 'p', namespace and name: compared as memory, the keys are in the order of
 * compiled->subjects. */
uint32_t pod_state_of_name(struct incremental *incremental, const char *namespace, const char *name)
{
	auto_buffer struct buffer key = { 0 };

	buffer_add(&key, "p", 1);
	buffer_text(&key, namespace);
	buffer_text(&key, name);
	return pod_state_intern(incremental, key.data, key.len);
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

void pod_states_number(struct incremental *incremental)
{
	const struct allocator *allocator = &incremental->compiler.allocator;
	size_t count = allocator->pod_state_count;

	for (size_t i = 0; i < count; i++) {
		const struct pod_state *pod_state = &allocator->pod_states[i];

		if (pod_state->kind == OWNER_ENDPOINT)
			pod_state_of_slot(incremental, pod_state->slot);
		else
			pod_state_of_name(incremental, pod_state->pod->namespace,
					  pod_state->pod->name);
	}
}

/* ---- leaving and coming ---- */

/* Records an address that may have another owner now. */
static void address_note(struct incremental *incremental, const struct addr *addr)
{
	/* Only a full compile decides between a pod and a node. */
	if (intern_find(&incremental->compiler.allocator.node_addresses, addr, sizeof(*addr)) !=
	    INTERN_NONE)
		incremental->full = true;
	*array_add(&incremental->addresses) = *addr;
}

/* Records what depends on a pod state, before it leaves or after it came. */
static void pod_state_note(struct incremental *incremental, uint32_t number)
{
	const struct allocator *allocator = &incremental->compiler.allocator;
	const struct pod_state *pod_state = &allocator->pod_states[number];

	for (size_t i = 0; i < pod_state->address_count; i++)
		address_note(incremental, &pod_state->addresses[i]);
	if (!pod_state->subject)
		return;
	if (allocator->groups[pod_state->group].subjects == 1)
		id_list_add(&incremental->groups, pod_state->group);
	id_list_add(&incremental->moved, number);
}

static void pod_state_leave(struct incremental *incremental, uint32_t number)
{
	struct allocator *allocator = &incremental->compiler.allocator;
	struct pod_state *pod_state = &allocator->pod_states[number];

	if (pod_state->group == NONE)
		return;
	pod_state_note(incremental, number);
	pod_state_release(allocator, pod_state);
	*pod_state = (struct pod_state){ .group = NONE, .row = pod_state->row };
}

/* The pod state as the store has it; its group is NONE if the store does not have it. */
static struct pod_state pod_state_find(struct incremental *incremental, uint32_t number)
{
	struct allocator *allocator = &incremental->compiler.allocator;
	const char *key = incremental->pod_state_keys.items[number].key;
	const struct pod_state none = { .group = NONE };
	const struct store_endpoint *endpoint;
	const struct object *pod;
	uint16_t slot;

	if (*key == 'e') {
		slot = (uint16_t)((unsigned char)key[1] << 8 | (unsigned char)key[2]);
		endpoint = store_endpoint_find(incremental->store, slot);
		return endpoint ? pod_state_of_endpoint(allocator, endpoint) : none;
	}
	pod = store_find(incremental->store, OBJECT_POD, key + 1, key + 1 + strlen(key + 1) + 1);
	if (!pod || !pod_is_peer(pod) || store_pod_is_endpoint(incremental->store, pod))
		return none;
	return pod_state_of_pod(allocator, pod);
}

static void pod_state_come(struct incremental *incremental, uint32_t number)
{
	struct allocator *allocator = &incremental->compiler.allocator;
	struct pod_state pod_state = pod_state_find(incremental, number);

	if (pod_state.group == NONE)
		return;
	pod_state.row = allocator->pod_states[number].row;
	allocator->pod_states[number] = pod_state;
	pod_state_note(incremental, number);
}

/* ---- what policies read ---- */

static const struct labels *pod_state_labels(const struct incremental *incremental,
					     const struct pod_state *pod_state)
{
	return pod_state->pod ? &pod_state->pod->pod.labels
			      : &store_endpoint_find(incremental->store, pod_state->slot)->labels;
}

/* Whether a term can make a difference for a pod or an endpoint. */
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
	case TERM_REFUSED_PODS:
		break;
	}
	return false;
}

/* Changes for nodes, and in their pod CIDRs, need a full compile. */
static bool term_concerns_nodes(const struct incremental *incremental, const struct term *term)
{
	const struct intern *nodes = &incremental->compiler.allocator.node_addresses;
	const struct addr *hosts;
	size_t count = store_host_addresses(incremental->store, &hosts);

	if (term->kind != TERM_PREFIX)
		return term->kind == TERM_NODES || term->kind == TERM_NODE_KEY ||
		       term->kind == TERM_REFUSED_PODS;
	if (allocator_pod_cidrs_overlap(&incremental->compiler.allocator, &term->prefix))
		return true;
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

/* Adds all pods and endpoints for which a changed term can make a difference. */
static void term_reach(struct incremental *incremental, const struct term *term,
		       struct id_list *reached)
{
	const struct allocator *allocator = &incremental->compiler.allocator;

	incremental->full |= term_concerns_nodes(incremental, term);
	for (size_t i = 0; i < allocator->pod_state_count && !incremental->full; i++) {
		const struct pod_state *pod_state = &allocator->pod_states[i];

		/* A pod that the store changed is in the list already; its object may be gone. */
		if (pod_state->group == NONE ||
		    id_list_has(&incremental->pod_states, (uint32_t)i) ||
		    !term_concerns(incremental, term, pod_state))
			continue;
		id_list_add(reached, (uint32_t)i);
		incremental->full |= reached->count > pod_states_limit(incremental);
	}
}

/* Finds the terms that came into force or went out of it, and whom they reach. */
static void terms_reach(struct incremental *incremental)
{
	struct id_list *changed = &incremental->changed_terms;
	struct id_list reached = { 0 };
	size_t kept = 0;

	id_list_sort(changed);
	for (size_t i = 0; i < changed->count; i++) {
		struct term_use *use = &incremental->terms[changed->items[i]];

		if ((use->count > 0) == use->in_force)
			continue;
		use->in_force = use->count > 0;
		incremental->cidrs |= use->term.kind == TERM_PREFIX;
		changed->items[kept++] = changed->items[i];
		term_reach(incremental, &use->term, &reached);
	}
	changed->count = kept;
	for (size_t i = 0; i < reached.count; i++)
		id_list_add(&incremental->pod_states, reached.items[i]);
	id_list_done(&reached);
	id_list_sort(&incremental->pod_states);
}

/* ---- namespaces ---- */

static void namespace_update(struct incremental *incremental, uint32_t number)
{
	struct allocator *allocator = &incremental->compiler.allocator;
	struct labels *labels = allocator->namespace_labels[number];
	struct relabelled relabelled = { .namespace = number, .before = *labels };

	allocator_read_namespace(allocator, number);
	if (labels_equal(labels, &relabelled.before))
		return;
	array_room(&incremental->relabelled, incremental->relabelled_count,
		   &incremental->relabelled_capacity, sizeof(*incremental->relabelled));
	incremental->relabelled[incremental->relabelled_count++] = relabelled;
	/* The index still lists it under labels that it lost: the selector is asked again there. */
	label_index_add(&allocator->index, SCOPE_NAMESPACES, labels, number);
	if (store_count(incremental->store, OBJECT_CLUSTER_POLICY) > 0)
		label_index_select(&allocator->index, SCOPE_OF(number), NULL, &incremental->groups);
}

void pod_states_update(struct incremental *incremental)
{
	struct allocator *allocator = &incremental->compiler.allocator;
	struct id_list *pod_states = &incremental->pod_states;

	id_list_sort(pod_states);
	id_list_sort(&incremental->namespaces);
	terms_reach(incremental);
	for (size_t i = 0; i < incremental->pod_addresses.count; i++)
		address_note(incremental, &incremental->pod_addresses.items[i]);
	if (incremental->full)
		return;
	for (size_t i = 0; i < pod_states->count; i++)
		pod_state_leave(incremental, pod_states->items[i]);
	if (incremental->changed_terms.count > 0) {
		struct referenced referenced = { 0 };

		referenced_build(&referenced, incremental->store);
		allocator_set_referenced(allocator, &referenced);
	}
	for (size_t i = 0; i < incremental->namespaces.count; i++)
		namespace_update(incremental, incremental->namespaces.items[i]);
	for (size_t i = 0; i < pod_states->count; i++)
		pod_state_come(incremental, pod_states->items[i]);
	allocator_index(allocator);
}
