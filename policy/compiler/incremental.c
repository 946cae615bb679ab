/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Life of a follower: notes what the world tells, and decides whether an update goes step by step
 * or from the beginning.
 *
 * Strings and numbers out of use stay in the arena until they are as much as what is in use; then
 * everything is compiled anew.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/compiler/incremental_internal.h"

#define GARBAGE_FREE ((size_t)1 << 20) /* so much does not matter */

/* ---- what the world tells ---- */

/* A note that cannot be made is not lost: then everything is compiled. */
static void note(struct follower *follower, int ret)
{
	if (ret < 0)
		follower->anew = true;
}

static void touch(struct follower *follower, uint32_t member)
{
	note(follower, member == NONE ? -ENOMEM : id_list_add(&follower->members, member));
	if (follower->members.count > members_limit(follower))
		follower->anew = true;
}

static void touch_pod(struct follower *follower, const struct object *pod)
{
	const struct world_endpoint *endpoints;
	size_t count = world_endpoints(follower->world, &endpoints);

	touch(follower, member_of_name(follower, pod->namespace, pod->name));
	for (size_t i = 0; i < count && !follower->anew; i++) {
		if (strcmp(endpoints[i].name, pod->name) == 0 &&
		    strcmp(endpoints[i].namespace, pod->namespace) == 0)
			touch(follower, member_of_slot(follower, endpoints[i].slot));
	}
}

/* One that no pod is in is read when the first comes. */
static void touch_namespace(struct follower *follower, const struct object *object)
{
	size_t number = intern_find(&follower->compiler.population.namespaces, object->name,
				    strlen(object->name) + 1);

	if (number != INTERN_NONE)
		note(follower, id_list_add(&follower->namespaces, (uint32_t)number));
}

static void touch_policy(struct follower *follower, const struct object *policy, bool comes)
{
	note(follower, terms_count(follower, policy, comes));
	note(follower, policy_groups(&follower->compiler, policy, &follower->groups));
}

static void touch_object(struct follower *follower, const struct object *object, bool comes)
{
	if (follower->anew)
		return;
	switch (object->kind) {
	case OBJECT_POD:
		touch_pod(follower, object);
		break;
	case OBJECT_NAMESPACE:
		touch_namespace(follower, object);
		break;
	case OBJECT_NETWORK_POLICY:
	case OBJECT_CLUSTER_POLICY:
		touch_policy(follower, object, comes);
		break;
	case OBJECT_NODE:
		follower->anew = follower->compiler.population.vocabulary.nodes;
		break;
	case OBJECT_SERVICE:
	case OBJECT_ENDPOINT_SLICE:
	case OBJECT_KIND_COUNT:
		break;
	}
}

static void on_object_comes(const struct object *object, void *arg)
{
	touch_object(arg, object, true);
}

static void on_object_leaves(const struct object *object, void *arg)
{
	touch_object(arg, object, false);
}

static void on_endpoint(const struct world_endpoint *endpoint, void *arg)
{
	struct follower *follower = arg;

	if (follower->anew)
		return;
	touch(follower, member_of_slot(follower, endpoint->slot));
	touch(follower, member_of_name(follower, endpoint->namespace, endpoint->name));
}

static void on_hosts(void *arg)
{
	struct follower *follower = arg;

	follower->anew = true;
}

/* ---- updates ---- */

/* Forgets what the last update found and handed out; the memory is kept where it is little. */
static void update_reset(struct follower *follower)
{
	struct id_list *lists[] = { &follower->born,        &follower->died,
				    &follower->switched,    &follower->moved,
				    &follower->rulesets,    &follower->changed_peers,
				    &follower->peer_firsts, &follower->peer_changes };

	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		id_list_done(lists[i]);
	follower->relabelled_count = 0;
	follower->addresses.count = 0;
	follower->made.count = 0;
	follower->unmade.count = 0;
	follower->entries_set.count = 0;
	follower->entries_gone.count = 0;
	follower->addresses_set.count = 0;
	follower->addresses_gone.count = 0;
	follower->subjects_set.count = 0;
	follower->cidrs = false;
}

static void touches_reset(struct follower *follower)
{
	id_list_done(&follower->members);
	id_list_done(&follower->namespaces);
	id_list_done(&follower->groups);
	id_list_done(&follower->changed_terms);
	follower->compiler.population.turned.count = 0;
}

static void compiler_drop(struct follower *follower)
{
	struct compiled *compiled = follower->compiler.compiled;

	touches_reset(follower);
	intern_done(&follower->member_keys);
	intern_done(&follower->term_keys);
	id_list_done(&follower->rows);
	compiler_done(&follower->compiler);
	compiled_free(compiled);
}

static int terms_count_all(struct follower *follower, enum object_kind kind)
{
	const struct object *const *policies;
	size_t count = world_objects(follower->world, kind, &policies);

	for (size_t i = 0; i < count; i++) {
		if (terms_count(follower, policies[i], true) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* The tables of before stay if there is no memory. */
static int compile_anew(struct follower *follower)
{
	struct compiler compiler = { 0 };
	int ret = compiler_run(&compiler, follower->world);

	if (ret < 0) {
		compiler_done(&compiler);
		compiled_free(compiler.compiled);
		return ret;
	}
	compiler_drop(follower);
	follower->compiler = compiler;
	follower->member_keys.arena = compiler.arena;
	follower->term_keys.arena = compiler.arena;
	follower->local = world_is_local(follower->world);
	ret = members_number(follower);
	if (ret == 0)
		ret = tables_begin(follower);
	if (ret == 0)
		ret = terms_count_all(follower, OBJECT_NETWORK_POLICY);
	if (ret == 0)
		ret = terms_count_all(follower, OBJECT_CLUSTER_POLICY);
	for (size_t i = 0; i < follower->term_keys.count && ret == 0; i++)
		follower->terms[i].in_force = true;
	touches_reset(follower);
	follower->arena_base = arena_size(compiler.arena);
	follower->anew = false;
	return ret;
}

static bool garbage_is_much(const struct follower *follower)
{
	return arena_size(follower->compiler.arena) > 2 * follower->arena_base + GARBAGE_FREE;
}

static int update_steps(struct follower *follower)
{
	int ret = members_update(follower);

	if (ret == 0)
		ret = peers_update(follower);
	if (ret == 0)
		ret = rulesets_update(follower);
	if (ret == 0)
		ret = tables_update(follower);
	return ret;
}

static struct compiled_changes changes_of(const struct follower *follower)
{
	return (struct compiled_changes){
		.entries = follower->entries_set.items,
		.entry_count = follower->entries_set.count,
		.entries_gone = follower->entries_gone.items,
		.entries_gone_count = follower->entries_gone.count,
		.addresses = follower->addresses_set.items,
		.address_count = follower->addresses_set.count,
		.addresses_gone = follower->addresses_gone.items,
		.addresses_gone_count = follower->addresses_gone.count,
		.subjects = follower->subjects_set.items,
		.subject_count = follower->subjects_set.count,
		.cidrs = follower->cidrs,
	};
}

int follower_update(struct follower *follower, struct compiled_changes *ret_changes,
		    struct errmsg *err)
{
	bool anew = follower->anew || follower->local != world_is_local(follower->world) ||
		    garbage_is_much(follower);
	int ret;

	update_reset(follower);
	ret = anew ? FOLLOW_ANEW : update_steps(follower);
	anew = ret == FOLLOW_ANEW;
	if (anew)
		ret = compile_anew(follower);
	if (ret < 0) {
		follower->anew = true;
		return fail_plain(err, ret, "compile policies: out of memory");
	}
	touches_reset(follower);
	*ret_changes = anew ? (struct compiled_changes){ .all = true } : changes_of(follower);
	return 0;
}

const struct compiled *follower_compiled(const struct follower *follower)
{
	return follower->compiler.compiled;
}

/* ---- life ---- */

struct follower *follower_new(struct world *world)
{
	struct follower *follower = calloc(1, sizeof(*follower));

	if (!follower)
		return NULL;
	follower->world = world;
	follower->anew = true;
	follower->watcher = (struct world_watcher){
		.object_comes = on_object_comes,
		.object_leaves = on_object_leaves,
		.endpoint_changes = on_endpoint,
		.hosts_change = on_hosts,
		.arg = follower,
	};
	world_watch(world, &follower->watcher);
	return follower;
}

void follower_free(struct follower *follower)
{
	if (!follower)
		return;
	world_watch(follower->world, NULL);
	update_reset(follower);
	compiler_drop(follower);
	free(follower->terms);
	free(follower->relabelled);
	free(follower->addresses.items);
	free(follower->made.items);
	free(follower->unmade.items);
	free(follower->entries_set.items);
	free(follower->entries_gone.items);
	free(follower->addresses_set.items);
	free(follower->addresses_gone.items);
	free(follower->subjects_set.items);
	free(follower);
}
