/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of an incremental compiler.  It records which objects the store changes, and decides
 * whether an update goes step by step or compiles everything.
 *
 * Strings and numbers out of use stay in the arena until they take as much memory as those in use;
 * then everything is compiled.
 */
#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"
#include "policy/compiler/incremental_internal.h"

#define GARBAGE_FREE ((size_t)1 << 20) /* bytes of garbage that are never worth a full compile */

/* ---- changes of the store ---- */

static void touch(struct incremental *incremental, uint32_t pod_state)
{
	id_list_add(&incremental->pod_states, pod_state);
	if (incremental->pod_states.count > pod_states_limit(incremental))
		incremental->full = true;
}

static void touch_pod(struct incremental *incremental, const struct object *pod)
{
	const struct store_endpoint *endpoints;
	size_t count = store_endpoints(incremental->store, &endpoints);

	touch(incremental, pod_state_of_name(incremental, pod->namespace, pod->name));
	for (size_t i = 0; i < pod->pod.address_count; i++)
		*array_add(&incremental->pod_addresses) = pod->pod.addresses[i];
	for (size_t i = 0; i < count && !incremental->full; i++) {
		if (strcmp(endpoints[i].name, pod->name) == 0 &&
		    strcmp(endpoints[i].namespace, pod->namespace) == 0)
			touch(incremental, pod_state_of_slot(incremental, endpoints[i].slot));
	}
}

static void touch_namespace(struct incremental *incremental, const struct object *object)
{
	size_t number = intern_find(&incremental->compiler.allocator.namespaces, object->name,
				    strlen(object->name) + 1);

	if (number != INTERN_NONE) /* else it is read when its first pod comes */
		id_list_add(&incremental->namespaces, (uint32_t)number);
}

static void touch_object(struct incremental *incremental, const struct object *object, bool added)
{
	if (incremental->full)
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
		terms_count(incremental, object, added);
		policy_groups(&incremental->compiler, object, &incremental->groups);
		break;
	case OBJECT_NODE:
		incremental->full = incremental->compiler.allocator.referenced.nodes ||
				    incremental->compiler.allocator.referenced.refuses_pods;
		break;
	case OBJECT_SERVICE:
	case OBJECT_ENDPOINT_SLICE:
	case OBJECT_KIND_COUNT:
		break;
	}
}

static void on_object_added(const struct object *object, void *arg)
{
	touch_object(arg, object, true);
}

static void on_object_removed(const struct object *object, void *arg)
{
	touch_object(arg, object, false);
}

static void on_endpoint(const struct store_endpoint *endpoint, void *arg)
{
	struct incremental *incremental = arg;

	if (incremental->full)
		return;
	touch(incremental, pod_state_of_slot(incremental, endpoint->slot));
	touch(incremental, pod_state_of_name(incremental, endpoint->namespace, endpoint->name));
}

static void on_hosts(void *arg)
{
	struct incremental *incremental = arg;

	incremental->full = true;
}

/* ---- updates ---- */

/* Drops the results of the last update.  Small lists keep their memory. */
static void update_reset(struct incremental *incremental)
{
	struct id_list *lists[] = { &incremental->added,       &incremental->removed,
				    &incremental->switched,    &incremental->moved,
				    &incremental->rulesets,    &incremental->changed_peers,
				    &incremental->peer_firsts, &incremental->peer_changes };

	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		id_list_done(lists[i]);
	incremental->relabelled_count = 0;
	incremental->addresses.count = 0;
	incremental->compiled_entries.count = 0;
	incremental->stale.count = 0;
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
	incremental->pod_addresses.count = 0;
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

static void terms_count_all(struct incremental *incremental, enum object_kind kind)
{
	const struct object *const *policies;
	size_t count = store_objects(incremental->store, kind, &policies);

	for (size_t i = 0; i < count; i++)
		terms_count(incremental, policies[i], true);
}

static void compile_all(struct incremental *incremental)
{
	struct compiler *compiler = &incremental->compiler;

	compiler_drop(incremental);
	*compiler = (struct compiler){ 0 };
	compiler_run(compiler, incremental->store);
	incremental->pod_state_keys.arena = compiler->arena;
	incremental->term_keys.arena = compiler->arena;
	incremental->local = store_is_local(incremental->store);
	pod_states_number(incremental);
	tables_begin(incremental);
	terms_count_all(incremental, OBJECT_NETWORK_POLICY);
	terms_count_all(incremental, OBJECT_CLUSTER_POLICY);
	for (size_t i = 0; i < incremental->term_keys.count; i++)
		incremental->terms[i].in_force = true;
	incremental->arena_base = arena_size(compiler->arena);
	incremental->full = false;
}

static bool garbage_is_much(const struct incremental *incremental)
{
	return arena_size(incremental->compiler.arena) > 2 * incremental->arena_base + GARBAGE_FREE;
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

struct compiled_changes incremental_update(struct incremental *incremental)
{
	static void (*const steps[])(struct incremental * incremental) = {
		pod_states_update,
		peers_update,
		rulesets_update,
		tables_update,
	};
	struct compiled_changes changes = { .all = true };

	incremental->full = incremental->full ||
			    incremental->local != store_is_local(incremental->store) ||
			    garbage_is_much(incremental);
	update_reset(incremental);
	for (size_t i = 0; i < ARRAY_SIZE(steps) && !incremental->full; i++)
		steps[i](incremental);
	if (incremental->full)
		compile_all(incremental);
	else
		changes = changes_of(incremental);
	touches_reset(incremental);
	return changes;
}

const struct compiled *incremental_compiled(const struct incremental *incremental)
{
	return incremental->compiler.compiled;
}

/* ---- life ---- */

struct incremental *incremental_new(struct store *store)
{
	struct incremental *incremental = xcalloc(1, sizeof(*incremental));

	incremental->store = store;
	incremental->full = true;
	incremental->watcher = (struct store_watcher){
		.object_added = on_object_added,
		.object_removed = on_object_removed,
		.endpoint_changed = on_endpoint,
		.hosts_changed = on_hosts,
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
	free(incremental->pod_addresses.items);
	free(incremental->compiled_entries.items);
	free(incremental->stale.items);
	free(incremental->entries_set.items);
	free(incremental->entries_gone.items);
	free(incremental->addresses_set.items);
	free(incremental->addresses_gone.items);
	free(incremental->subjects_set.items);
	free(incremental);
}
