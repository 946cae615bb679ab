/* SPDX-License-Identifier: Apache-2.0 */
/* Who is there: pods and endpoints that come, go or change, and what policies read about them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/compiler/incremental_internal.h"
#include "policy/objects/ports.h"

/* ---- names ---- */

/* More than these at once are compiled anew: that is not slower. */
size_t members_limit(const struct follower *follower)
{
	return 64 + follower->compiler.population.member_count / 4;
}

static uint32_t member_intern(struct follower *follower, const void *key, size_t len)
{
	struct population *population = &follower->compiler.population;
	size_t number = intern_add(&follower->member_keys, key, len);

	if (number == INTERN_NONE)
		return NONE;
	if (number < population->member_count)
		return (uint32_t)number;
	if (array_room(&population->members, population->member_count, &population->member_capacity,
		       sizeof(*population->members)) < 0)
		return NONE;
	population->members[population->member_count++] =
		(struct member){ .group = NONE, .row = NONE };
	return (uint32_t)number;
}

/* 'e' and the slot, or 'p', namespace and name: compared as memory they are in the order of
 * compiled->subjects. */
uint32_t member_of_name(struct follower *follower, const char *namespace, const char *name)
{
	auto_buffer struct buffer key = { 0 };

	buffer_add(&key, "p", 1);
	buffer_text(&key, namespace);
	buffer_text(&key, name);
	return key.failed ? NONE : member_intern(follower, key.data, key.len);
}

uint32_t member_of_slot(struct follower *follower, uint16_t slot)
{
	const unsigned char key[] = { 'e', (unsigned char)(slot >> 8), (unsigned char)slot };

	return member_intern(follower, key, sizeof(key));
}

int member_order(const struct follower *follower, uint32_t left, uint32_t right)
{
	const struct interned *a = &follower->member_keys.items[left];
	const struct interned *b = &follower->member_keys.items[right];
	int order = memcmp(a->key, b->key, a->len < b->len ? a->len : b->len);

	return order ? order : (a->len > b->len) - (a->len < b->len);
}

int members_number(struct follower *follower)
{
	const struct population *population = &follower->compiler.population;

	for (size_t i = 0; i < population->member_count; i++) {
		const struct member *member = &population->members[i];
		uint32_t number = member->kind == PLACE_ENDPOINT
					  ? member_of_slot(follower, member->slot)
					  : member_of_name(follower, member->pod->namespace,
							   member->pod->name);

		if (number == NONE)
			return -ENOMEM;
	}
	return 0;
}

/* ---- leaving and coming ---- */

/* Who has an address that is a node's too: whose it is then is not worked out here. */
static int address_note(struct follower *follower, const struct addr *addr)
{
	struct addr_list *list = &follower->addresses;

	if (intern_find(&follower->compiler.population.node_addresses, addr, sizeof(*addr)) !=
	    INTERN_NONE)
		return FOLLOW_ANEW;
	if (array_room(&list->items, list->count, &list->capacity, sizeof(*list->items)) < 0)
		return -ENOMEM;
	list->items[list->count++] = *addr;
	return 0;
}

/* What follows from a member that is there, as it was or as it is. */
static int member_note(struct follower *follower, uint32_t number)
{
	const struct population *population = &follower->compiler.population;
	const struct member *member = &population->members[number];
	int ret = 0;

	for (size_t i = 0; i < member->address_count && ret == 0; i++)
		ret = address_note(follower, &member->addresses[i]);
	if (ret || !member->subject)
		return ret;
	if (population->groups[member->group].subjects == 1)
		ret = id_list_add(&follower->groups, member->group);
	return ret ? ret : id_list_add(&follower->moved, number);
}

static int member_leave(struct follower *follower, uint32_t number)
{
	struct population *population = &follower->compiler.population;
	struct member *member = &population->members[number];
	int ret;

	if (member->group == NONE)
		return 0;
	ret = member_note(follower, number);
	member_release(population, member);
	*member = (struct member){ .group = NONE, .row = member->row };
	return ret;
}

static bool endpoint_speaks_for(const struct world *world, const struct object *pod)
{
	const struct world_endpoint *endpoints;
	size_t count = world_endpoints(world, &endpoints);

	for (size_t i = 0; i < count; i++) {
		if (strcmp(endpoints[i].name, pod->name) == 0 &&
		    strcmp(endpoints[i].namespace, pod->namespace) == 0 &&
		    world_endpoint_pod(world, &endpoints[i]) == pod)
			return true;
	}
	return false;
}

/* The member as the world has it; group NONE: it has no such. */
static int member_find(struct follower *follower, uint32_t number, struct member *ret_member)
{
	struct population *population = &follower->compiler.population;
	const char *key = follower->member_keys.items[number].key;
	const struct world_endpoint *endpoint;
	const struct object *pod;
	uint16_t slot;

	if (*key == 'e') {
		slot = (uint16_t)((unsigned char)key[1] << 8 | (unsigned char)key[2]);
		endpoint = world_endpoint_find(follower->world, slot);
		return endpoint ? member_of_endpoint(population, endpoint, ret_member) : 0;
	}
	pod = world_find(follower->world, OBJECT_POD, key + 1, key + 1 + strlen(key + 1) + 1);
	if (!pod || !pod_is_peer(pod) || endpoint_speaks_for(follower->world, pod))
		return 0;
	return member_of_pod(population, pod, ret_member);
}

static int member_come(struct follower *follower, uint32_t number)
{
	struct population *population = &follower->compiler.population;
	struct member member = { .group = NONE };
	int ret = member_find(follower, number, &member);

	if (ret < 0 || member.group == NONE)
		return ret;
	member.row = population->members[number].row;
	population->members[number] = member;
	return member_note(follower, number);
}

/* ---- what policies read ---- */

static const struct labels *member_labels(const struct follower *follower,
					  const struct member *member)
{
	return member->pod ? &member->pod->pod.labels
			   : &world_endpoint_find(follower->world, member->slot)->labels;
}

/* Whether what a policy reads makes a difference for a member. */
static bool term_concerns(const struct follower *follower, const struct term *term,
			  const struct member *member)
{
	const char *value;

	switch (term->kind) {
	case TERM_POD_KEY:
		return labels_get(member_labels(follower, member), term->text, &value);
	case TERM_PORT:
		return member->pod &&
		       named_port_find(member->pod->pod.ports, member->pod->pod.port_count,
				       term->proto, term->text) != 0;
	case TERM_PREFIX:
		for (size_t i = 0; i < member->address_count; i++) {
			if (prefix_contains(&term->prefix, &member->addresses[i]))
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
static bool term_concerns_nodes(const struct follower *follower, const struct term *term)
{
	const struct intern *nodes = &follower->compiler.population.node_addresses;
	const struct addr *hosts;
	size_t count = world_host_addresses(follower->world, &hosts);

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
static int term_reach(struct follower *follower, const struct term *term, struct id_list *reached)
{
	const struct population *population = &follower->compiler.population;

	if (term_concerns_nodes(follower, term))
		return FOLLOW_ANEW;
	for (size_t i = 0; i < population->member_count; i++) {
		const struct member *member = &population->members[i];

		/* Of those who are touched already, the objects may be gone. */
		if (member->group == NONE || id_list_has(&follower->members, (uint32_t)i) ||
		    !term_concerns(follower, term, member))
			continue;
		if (id_list_add(reached, (uint32_t)i) < 0)
			return -ENOMEM;
		if (reached->count > members_limit(follower))
			return FOLLOW_ANEW;
	}
	return 0;
}

/* Terms that came into force or went out of it; the others are dropped from the list. */
static int terms_reach(struct follower *follower)
{
	struct id_list *changed = &follower->changed_terms;
	struct id_list reached = { 0 };
	size_t kept = 0;
	int ret = 0;

	id_list_sort(changed);
	for (size_t i = 0; i < changed->count && ret == 0; i++) {
		struct term_use *use = &follower->terms[changed->items[i]];

		if ((use->count > 0) == use->in_force)
			continue;
		use->in_force = use->count > 0;
		follower->cidrs |= use->term.kind == TERM_PREFIX;
		changed->items[kept++] = changed->items[i];
		ret = term_reach(follower, &use->term, &reached);
	}
	changed->count = kept;
	for (size_t i = 0; i < reached.count && ret == 0; i++)
		ret = id_list_add(&follower->members, reached.items[i]);
	id_list_done(&reached);
	id_list_sort(&follower->members);
	return ret;
}

static int vocabulary_update(struct follower *follower)
{
	struct vocabulary vocabulary = { 0 };
	int ret;

	if (follower->changed_terms.count == 0)
		return 0;
	ret = vocabulary_build(&vocabulary, follower->world);
	if (ret == 0)
		ret = population_set_vocabulary(&follower->compiler.population, &vocabulary);
	vocabulary_done(&vocabulary);
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

static int namespace_update(struct follower *follower, uint32_t number)
{
	struct population *population = &follower->compiler.population;
	struct labels *labels = population->namespace_labels[number];
	struct relabelled relabelled = { .namespace = number, .before = *labels };

	if (population_read_namespace(population, number) < 0)
		return -ENOMEM;
	if (labels_same(labels, &relabelled.before))
		return 0;
	if (array_room(&follower->relabelled, follower->relabelled_count,
		       &follower->relabelled_capacity, sizeof(*follower->relabelled)) < 0)
		return -ENOMEM;
	follower->relabelled[follower->relabelled_count++] = relabelled;
	/* Where it is listed under a label that it lost, the selector is asked again. */
	if (label_index_add(&population->index, SCOPE_NAMESPACES, labels, number) < 0)
		return -ENOMEM;
	if (world_count(follower->world, OBJECT_CLUSTER_POLICY) == 0)
		return 0;
	return label_index_select(&population->index, SCOPE_OF(number), NULL, &follower->groups);
}

int members_update(struct follower *follower)
{
	struct id_list *members = &follower->members;
	int ret;

	id_list_sort(members);
	id_list_sort(&follower->namespaces);
	ret = terms_reach(follower);
	for (size_t i = 0; i < members->count && ret == 0; i++)
		ret = member_leave(follower, members->items[i]);
	if (ret == 0)
		ret = vocabulary_update(follower);
	for (size_t i = 0; i < follower->namespaces.count && ret == 0; i++)
		ret = namespace_update(follower, follower->namespaces.items[i]);
	for (size_t i = 0; i < members->count && ret == 0; i++)
		ret = member_come(follower, members->items[i]);
	return ret ? ret : population_index(&follower->compiler.population);
}
