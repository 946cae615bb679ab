/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Life of an incremental compiler: notes what the store tells, and decides whether an update goes
 * step by step or from the beginning.
 *
 * Strings and numbers out of use stay in the arena until they are as much as what is in use; then
 * everything is compiled anew.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/compiler/incremental_internal.h"

#define GARBAGE_FREE ((size_t)1 << 20) /* so much does not matter */

/* ---- what the store tells ---- */

/* A note that cannot be made is not lost: then everything is compiled. */
static void note(struct incremental *incremental, int ret)
{
	if (ret < 0)
		incremental->anew = true;
}

static void touch(struct incremental *incremental, uint32_t pod_state)
{
	note(incremental,
	     pod_state == NONE ? -ENOMEM : id_list_add(&incremental->pod_states, pod_state));
	if (incremental->pod_states.count > pod_states_limit(incremental))
		incremental->anew = true;
}

static void touch_pod(struct incremental *incremental, const struct object *pod)
{
	const struct store_endpoint *endpoints;
	size_t count = store_endpoints(incremental->store, &endpoints);

	touch(incremental, pod_state_of_name(incremental, pod->namespace, pod->name));
	for (size_t i = 0; i < count && !incremental->anew; i++) {
		if (strcmp(endpoints[i].name, pod->name) == 0 &&
		    strcmp(endpoints[i].namespace, pod->namespace) == 0)
			touch(incremental, pod_state_of_slot(incremental, endpoints[i].slot));
	}
}

/* One that no pod is in is read when the first comes. */
static void touch_namespace(struct incremental *incremental, const struct object *object)
{
	size_t number = intern_find(&incremental->compiler.allocator.namespaces, object->name,
				    strlen(object->name) + 1);

	if (number != INTERN_NONE)
		note(incremental, id_list_add(&incremental->namespaces, (uint32_t)number));
}

static void touch_policy(struct incremental *incremental, const struct object *policy, bool comes)
{
	note(incremental, terms_count(incremental, policy, comes));
	note(incremental, policy_groups(&incremental->compiler, policy, &incremental->groups));
}

static void touch_object(struct incremental *incremental, const struct object *object, bool comes)
{
	if (incremental->anew)
		return;
	switch (object->kind) {
	case OBJECT_POD:
		touch_pod(incremental, object);
		break;
	case OBJECT_NAMESPACE:
		touch_namespace(incremental, object);
		break;
	case OBJECT_NETWORK_POLICY:
	case OBJECT_CLUSTER_POLICY:
		touch_policy(incremental, object, comes);
		break;
	case OBJECT_NODE:
		incremental->anew = incremental->compiler.allocator.referenced.nodes;
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

static void on_endpoint(const struct store_endpoint *endpoint, void *arg)
{
	struct incremental *incremental = arg;

	if (incremental->anew)
		return;
	touch(incremental, pod_state_of_slot(incremental, endpoint->slot));
	touch(incremental, pod_state_of_name(incremental, endpoint->namespace, endpoint->name));
}

static void on_hosts(void *arg)
{
	struct incremental *incremental = arg;

	incremental->anew = true;
}

/* ---- updates ---- */

/* Forgets what the last update found and handed out; the memory is kept where it is little. */
static void update_reset(struct incremental *incremental)
{
	struct id_list *lists[] = { &incremental->born,        &incremental->died,
				    &incremental->switched,    &incremental->moved,
				    &incremental->rulesets,    &incremental->changed_peers,
				    &incremental->peer_firsts, &incremental->peer_changes };

	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		id_list_done(lists[i]);
	incremental->relabelled_count = 0;
	incremental->addresses.count = 0;
	incremental->made.count = 0;
	incremental->unmade.count = 0;
	incremental->entries_set.count = 0;
	incremental->entries_gone.count = 0;
	incremental->addresses_set.count = 0;
	incremental->addresses_gone.count = 0;
	incremental->subjects_set.count = 0;
	incremental->cidrs = false;
}

static void touches_reset(struct incremental *incremental)
{
	id_list_done(&incremental->pod_states);
	id_list_done(&incremental->namespaces);
	id_list_done(&incremental->groups);
	id_list_done(&incremental->changed_terms);
	incremental->compiler.allocator.changed.count = 0;
}

static void compiler_drop(struct incremental *incremental)
{
	struct compiled *compiled = incremental->compiler.compiled;

	touches_reset(incremental);
	intern_done(&incremental->pod_state_keys);
	intern_done(&incremental->term_keys);
	id_list_done(&incremental->rows);
	compiler_done(&incremental->compiler);
	compiled_free(compiled);
}

static int terms_count_all(struct incremental *incremental, enum object_kind kind)
{
	const struct object *const *policies;
	size_t count = store_objects(incremental->store, kind, &policies);

	for (size_t i = 0; i < count; i++) {
		if (terms_count(incremental, policies[i], true) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* The tables of before stay if there is no memory. */
static int compile_anew(struct incremental *incremental)
{
	struct compiler compiler = { 0 };
	int ret = compiler_run(&compiler, incremental->store);

	if (ret < 0) {
		compiler_done(&compiler);
		compiled_free(compiler.compiled);
		return ret;
	}
	compiler_drop(incremental);
	incremental->compiler = compiler;
	incremental->pod_state_keys.arena = compiler.arena;
	incremental->term_keys.arena = compiler.arena;
	incremental->local = store_is_local(incremental->store);
	ret = pod_states_number(incremental);
	if (ret == 0)
		ret = tables_begin(incremental);
	if (ret == 0)
		ret = terms_count_all(incremental, OBJECT_NETWORK_POLICY);
	if (ret == 0)
		ret = terms_count_all(incremental, OBJECT_CLUSTER_POLICY);
	for (size_t i = 0; i < incremental->term_keys.count && ret == 0; i++)
		incremental->terms[i].in_force = true;
	touches_reset(incremental);
	incremental->arena_base = arena_size(compiler.arena);
	incremental->anew = false;
	return ret;
}

static bool garbage_is_much(const struct incremental *incremental)
{
	return arena_size(incremental->compiler.arena) > 2 * incremental->arena_base + GARBAGE_FREE;
}

static int update_steps(struct incremental *incremental)
{
	int ret = pod_states_update(incremental);

	if (ret == 0)
		ret = peers_update(incremental);
	if (ret == 0)
		ret = rulesets_update(incremental);
	if (ret == 0)
		ret = tables_update(incremental);
	return ret;
}

static struct compiled_changes changes_of(const struct incremental *incremental)
{
	return (struct compiled_changes){
		.entries = incremental->entries_set.items,
		.entry_count = incremental->entries_set.count,
		.entries_gone = incremental->entries_gone.items,
		.entries_gone_count = incremental->entries_gone.count,
		.addresses = incremental->addresses_set.items,
		.address_count = incremental->addresses_set.count,
		.addresses_gone = incremental->addresses_gone.items,
		.addresses_gone_count = incremental->addresses_gone.count,
		.subjects = incremental->subjects_set.items,
		.subject_count = incremental->subjects_set.count,
		.cidrs = incremental->cidrs,
	};
}

int incremental_update(struct incremental *incremental, struct compiled_changes *ret_changes,
		       struct errmsg *err)
{
	bool anew = incremental->anew || incremental->local != store_is_local(incremental->store) ||
		    garbage_is_much(incremental);
	int ret;

	update_reset(incremental);
	ret = anew ? INCREMENTAL_FULL : update_steps(incremental);
	anew = ret == INCREMENTAL_FULL;
	if (anew)
		ret = compile_anew(incremental);
	if (ret < 0) {
		incremental->anew = true;
		return fail_plain(err, ret, "compile policies: out of memory");
	}
	touches_reset(incremental);
	*ret_changes = anew ? (struct compiled_changes){ .all = true } : changes_of(incremental);
	return 0;
}

const struct compiled *incremental_compiled(const struct incremental *incremental)
{
	return incremental->compiler.compiled;
}

/* ---- life ---- */

struct incremental *incremental_new(struct store *store)
{
	struct incremental *incremental = calloc(1, sizeof(*incremental));

	if (!incremental)
		return NULL;
	incremental->store = store;
	incremental->anew = true;
	incremental->watcher = (struct store_watcher){
		.object_comes = on_object_comes,
		.object_leaves = on_object_leaves,
		.endpoint_changes = on_endpoint,
		.hosts_change = on_hosts,
		.arg = incremental,
	};
	store_watch(store, &incremental->watcher);
	return incremental;
}

void incremental_free(struct incremental *incremental)
{
	if (!incremental)
		return;
	store_watch(incremental->store, NULL);
	update_reset(incremental);
	compiler_drop(incremental);
	free(incremental->terms);
	free(incremental->relabelled);
	free(incremental->addresses.items);
	free(incremental->made.items);
	free(incremental->unmade.items);
	free(incremental->entries_set.items);
	free(incremental->entries_gone.items);
	free(incremental->addresses_set.items);
	free(incremental->addresses_gone.items);
	free(incremental->subjects_set.items);
	free(incremental);
}
