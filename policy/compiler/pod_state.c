/* SPDX-License-Identifier: Apache-2.0 */
/* Who owns which address, and behind which identity: nodes, this node's endpoints, pods. */
#include <stdlib.h>
#include <string.h>

#include "policy/compiler/identity.h"

static void allocator_add_owner(struct allocator *allocator, const struct ip_owner *owner)
{
	array_room(&allocator->owners, allocator->owner_count, &allocator->owner_capacity,
		   sizeof(*allocator->owners));
	allocator->owners[allocator->owner_count++] = *owner;
}

/* ---- nodes ---- */

/* Finds the group of each address of a Node object; of two nodes with one address, the first by
 * name has it. */
static void allocator_find_nodes(struct allocator *allocator)
{
	const struct store *store = allocator->store;

	for (const struct object *object = store_first(store, OBJECT_NODE);
	     object && allocator->referenced.nodes; object = store_next(store, object)) {
		uint32_t group = allocator_add_node_group(allocator, &object->node.labels);

		for (size_t i = 0; i < object->node.address_count; i++) {
			size_t known = allocator->node_addresses.count;
			size_t number = intern_add(&allocator->node_addresses,
						   &object->node.addresses[i], sizeof(struct addr));

			if (number < known)
				continue;
			array_room(&allocator->node_groups, known, &allocator->node_capacity,
				   sizeof(*allocator->node_groups));
			allocator->node_groups[number] = group;
		}
	}
}

/* NONE: no policy has nodes as peers, or it is no node's address. */
static uint32_t allocator_node_group(const struct allocator *allocator, const struct addr *addr)
{
	size_t number = intern_find(&allocator->node_addresses, addr, sizeof(*addr));

	return number == INTERN_NONE ? NONE : allocator->node_groups[number];
}

static void allocator_add_nodes(struct allocator *allocator)
{
	for (size_t i = 0; i < allocator->node_addresses.count; i++) {
		struct ip_owner owner = { .kind = OWNER_NODE, .pod_state = NONE };

		memcpy(&owner.addr, allocator->node_addresses.items[i].key, sizeof(owner.addr));
		owner.identity = allocator_hold_identity(
			allocator, allocator->node_groups[i],
			referenced_longest(&allocator->referenced, &owner.addr));
		allocator_add_owner(allocator, &owner);
	}
}

static void allocator_add_hosts(struct allocator *allocator)
{
	const struct addr *addresses;
	size_t count = store_host_addresses(allocator->store, &addresses);

	for (size_t i = 0; i < count; i++) {
		struct ip_owner owner = { .addr = addresses[i],
					  .kind = OWNER_HOST,
					  .identity = NONE,
					  .pod_state = NONE };
		uint32_t prefix = referenced_longest(&allocator->referenced, &addresses[i]);
		uint32_t group = allocator_node_group(allocator, &addresses[i]);

		if (group != NONE || prefix != NONE)
			owner.identity = allocator_hold_identity(allocator, group, prefix);
		allocator_add_owner(allocator, &owner);
	}
}

/* ---- pods ---- */

/* The group that others see.  A pod that ran to completion is no peer any more, even while this
 * node still has its interface. */
static uint32_t pod_state_peer_group(const struct pod_state *pod_state)
{
	return pod_state->pod && !pod_is_peer(pod_state->pod) ? NONE : pod_state->group;
}

/* Takes the addresses, and finds the identities behind them. */
static void pod_state_identify(struct allocator *allocator, struct pod_state *pod_state,
			       const struct addr *addresses, size_t count)
{
	uint32_t group = pod_state_peer_group(pod_state);

	memcpy(pod_state->addresses, addresses, count * sizeof(*addresses));
	pod_state->address_count = count;
	pod_state->identity_v4 = NONE;
	pod_state->identity_v6 = NONE;
	for (size_t i = 0; i < count; i++) {
		uint32_t prefix = referenced_longest(&allocator->referenced, &addresses[i]);
		uint32_t *of_family = addr_is_v4(&addresses[i]) ? &pod_state->identity_v4
								: &pod_state->identity_v6;

		uint32_t behind = group != NONE
					  ? group
					  : allocator_group_without_pod(allocator, &addresses[i]);

		pod_state->identities[i] = NONE;
		if (behind != NONE || prefix != NONE)
			pod_state->identities[i] =
				allocator_hold_identity(allocator, behind, prefix);
		if (*of_family == NONE)
			*of_family = pod_state->identities[i];
	}
	if (!pod_state->subject)
		return;
	allocator->groups[pod_state->group].subjects++;
	if (group == NONE)
		return;
	/* A family without an address has no packets: it needs no identity of its own. */
	if (pod_state->identity_v4 == NONE)
		pod_state->identity_v4 = pod_state->identity_v6;
	if (pod_state->identity_v6 == NONE)
		pod_state->identity_v6 = pod_state->identity_v4;
	if (pod_state->identity_v4 != NONE)
		return;
	pod_state->identity_v4 = allocator_hold_identity(allocator, pod_state->group, NONE);
	pod_state->identity_v6 = pod_state->identity_v4;
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

struct pod_state pod_state_of_endpoint(struct allocator *allocator,
				       const struct store_endpoint *endpoint)
{
	const struct object *pod = store_endpoint_pod(allocator->store, endpoint);
	struct pod_state pod_state = { .kind = OWNER_ENDPOINT,
				       .slot = endpoint->slot,
				       .pod = pod,
				       .subject = true,
				       .row = NONE };

	pod_state.group = allocator_add_group(allocator, endpoint->namespace,
					      pod ? &pod->pod.labels : &endpoint->labels,
					      pod ? &pod->pod : NULL);
	pod_state_identify(allocator, &pod_state, endpoint->addresses, endpoint->address_count);
	return pod_state;
}

struct pod_state pod_state_of_pod(struct allocator *allocator, const struct object *pod)
{
	struct pod_state pod_state = { .kind = OWNER_POD,
				       .pod = pod,
				       .subject = !store_is_local(allocator->store),
				       .row = NONE };

	pod_state.group =
		allocator_add_group(allocator, pod->namespace, &pod->pod.labels, &pod->pod);
	pod_state_identify(allocator, &pod_state, pod->pod.addresses, pod->pod.address_count);
	return pod_state;
}

static void allocator_add_pod_state(struct allocator *allocator, struct pod_state pod_state)
{
	for (size_t i = 0; i < pod_state.address_count; i++) {
		const struct addr *addr = &pod_state.addresses[i];

		/* A pod that is being deleted may have lost its address to another. */
		if (pod_state.kind == OWNER_POD &&
		    store_owner(allocator->store, addr) != pod_state.pod)
			continue;
		allocator_add_owner(allocator,
				    &(struct ip_owner){
					    .addr = *addr,
					    .kind = pod_state.kind,
					    .identity = pod_state.identities[i],
					    .pod_state = (uint32_t)allocator->pod_state_count,
					    .slot = pod_state.slot,
				    });
	}
	array_room(&allocator->pod_states, allocator->pod_state_count,
		   &allocator->pod_state_capacity, sizeof(*allocator->pod_states));
	allocator->pod_states[allocator->pod_state_count++] = pod_state;
}

static void allocator_add_pods(struct allocator *allocator)
{
	const struct store *store = allocator->store;
	struct intern local = { .arena = allocator->arena }; /* pods that are endpoints here */
	const struct store_endpoint *endpoints;
	size_t count = store_endpoints(store, &endpoints);

	for (size_t i = 0; i < count; i++) {
		const struct object *pod = store_endpoint_pod(store, &endpoints[i]);

		if (pod)
			intern_add(&local, &pod, sizeof(const struct object *));
		allocator_add_pod_state(allocator, pod_state_of_endpoint(allocator, &endpoints[i]));
	}
	/* The addresses of an endpoint's Pod object may lag behind: the endpoint's count. */
	for (const struct object *pod = store_first(store, OBJECT_POD); pod;
	     pod = store_next(store, pod)) {
		if (pod_is_peer(pod) &&
		    intern_find(&local, &pod, sizeof(const struct object *)) == INTERN_NONE)
			allocator_add_pod_state(allocator, pod_state_of_pod(allocator, pod));
	}
	intern_done(&local);
}

static int owner_compare(const void *a, const void *b)
{
	const struct ip_owner *left = a;
	const struct ip_owner *right = b;
	int order = addr_compare(&left->addr, &right->addr);

	if (order == 0)
		order = (left->kind > right->kind) - (left->kind < right->kind);
	return order ? order : (left->slot > right->slot) - (left->slot < right->slot);
}

void allocator_find_owners(struct allocator *allocator)
{
	size_t kept = 0;

	allocator_find_nodes(allocator);
	allocator_add_hosts(allocator);
	allocator_add_pods(allocator);
	allocator_add_nodes(allocator);
	if (allocator->owner_count < 2)
		return;
	qsort(allocator->owners, allocator->owner_count, sizeof(*allocator->owners), owner_compare);
	for (size_t i = 1; i < allocator->owner_count; i++) {
		if (!addr_equal(&allocator->owners[i].addr, &allocator->owners[kept].addr))
			allocator->owners[++kept] = allocator->owners[i];
	}
	allocator->owner_count = kept + 1;
	array_trim(&allocator->owners, allocator->owner_count, &allocator->owner_capacity,
		   sizeof(*allocator->owners));
	array_trim(&allocator->pod_states, allocator->pod_state_count,
		   &allocator->pod_state_capacity, sizeof(*allocator->pod_states));
}
