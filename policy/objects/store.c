/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects are in arrays sorted by namespace and name, one array for each kind, so that walks are
 * ordered and a namespace is a range.  Slices are in a second array, by Service.  A hash table
 * finds the owner of an address.
 */
#include "policy/objects/store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/arena.h"
#include "lib/table.h"

struct sorted_objects {
	struct object **items;
	size_t count;
	size_t capacity;
};

/* Who has an address.  Pods that are being deleted may share it with one that is not. */
struct address_owner {
	const struct object *object;
	uint32_t others; /* pods that have it as well, and are not the owner */
};

struct store {
	struct sorted_objects lists[OBJECT_KIND_COUNT];
	struct sorted_objects slices; /* the EndpointSlices again, by (namespace, service, name) */
	struct sorted_objects selecting; /* see store_selecting_services() */
	uint64_t pod_changes;
	uint64_t node_changes;
	struct table owners;              /* struct addr -> struct address_owner */
	struct store_endpoint *endpoints; /* sorted by slot */
	size_t endpoint_count;
	size_t endpoint_capacity;
	struct addr *host_addresses;
	size_t host_address_count;
	bool local; /* a node's store, even without endpoints */
	const struct store_watcher *watcher;
	void (*before_leave)(const struct addr *addresses, size_t count, void *arg);
	void *before_leave_arg;
};

struct store *store_new(void)
{
	struct store *store = xcalloc(1, sizeof(*store));

	store->node_changes = 1;
	table_init(&store->owners, sizeof(struct addr), sizeof(struct address_owner));
	return store;
}

static void endpoint_done(struct store_endpoint *endpoint)
{
	free(endpoint->namespace);
	free(endpoint->name);
	free(endpoint->uid);
	for (size_t i = 0; i < endpoint->labels.count; i++) {
		free(endpoint->labels.items[i].key);
		free(endpoint->labels.items[i].value);
	}
	free(endpoint->labels.items);
	free(endpoint->host_ports);
	*endpoint = (struct store_endpoint){ 0 };
}

void store_free(struct store *store)
{
	if (!store)
		return;
	table_done(&store->owners);
	for (size_t kind = 0; kind < OBJECT_KIND_COUNT; kind++) {
		for (size_t i = 0; i < store->lists[kind].count; i++)
			object_free(store->lists[kind].items[i]);
		free(store->lists[kind].items);
	}
	free(store->slices.items);
	free(store->selecting.items);
	for (size_t i = 0; i < store->endpoint_count; i++)
		endpoint_done(&store->endpoints[i]);
	free(store->endpoints);
	free(store->host_addresses);
	free(store);
}

static size_t object_addresses(const struct object *object, const struct addr **ret_first)
{
	*ret_first = NULL;
	if (object->kind == OBJECT_POD && !object->pod.host_network && !object->pod.terminated) {
		*ret_first = object->pod.addresses;
		return object->pod.address_count;
	}
	if (object->kind == OBJECT_SERVICE) {
		*ret_first = object->service.cluster_ips;
		return object->service.cluster_ip_count;
	}
	return 0;
}

/* ---- the watcher ---- */

void store_watch(struct store *store, const struct store_watcher *watcher)
{
	store->watcher = watcher;
}

void store_before_leave(struct store *store,
			void (*call)(const struct addr *addresses, size_t count, void *arg),
			void *arg)
{
	store->before_leave = call;
	store->before_leave_arg = arg;
}

static void object_leaves(const struct store *store, const struct object *object)
{
	const struct addr *addresses;
	size_t count = object_addresses(object, &addresses);

	if (store->before_leave)
		store->before_leave(addresses, count, store->before_leave_arg);
}

static void endpoint_leaves(const struct store *store, const struct store_endpoint *endpoint)
{
	if (store->before_leave)
		store->before_leave(endpoint->addresses, endpoint->address_count,
				    store->before_leave_arg);
}

static void watch_added(struct store *store, const struct object *object)
{
	store->pod_changes += object->kind == OBJECT_POD;
	store->node_changes += object->kind == OBJECT_NODE;
	if (store->watcher)
		store->watcher->object_added(object, store->watcher->arg);
}

static void watch_removed(struct store *store, const struct object *object)
{
	object_leaves(store, object);
	store->pod_changes += object->kind == OBJECT_POD;
	store->node_changes += object->kind == OBJECT_NODE;
	if (store->watcher)
		store->watcher->object_removed(object, store->watcher->arg);
}

static void watch_endpoint(struct store *store, const struct store_endpoint *endpoint)
{
	store->pod_changes++;
	if (store->watcher)
		store->watcher->endpoint_changed(endpoint, store->watcher->arg);
}

/* ---- sorted arrays ---- */

/* What an object is sorted by; service is NULL in the lists by kind. */
struct key {
	const char *namespace;
	const char *service;
	const char *name; /* NULL: before all names */
};

static int key_compare(const struct key *key, const struct object *object)
{
	int order = strcmp(key->namespace, object->namespace);

	if (order == 0 && key->service)
		order = strcmp(key->service, object->slice.service_name);
	if (order == 0)
		order = key->name ? strcmp(key->name, object->name) : -1;
	return order;
}

/* The index of the first object that is not before the key. */
static size_t sorted_position(const struct sorted_objects *list, const struct key *key)
{
	size_t low = 0;
	size_t high = list->count;

	/* A text's objects come in order: nearly all of them belong behind the last one. */
	if (high && key_compare(key, list->items[high - 1]) > 0)
		return high;
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (key_compare(key, list->items[middle]) > 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct object *sorted_get(const struct sorted_objects *list, const struct key *key,
				 size_t at)
{
	if (at < list->count && key_compare(key, list->items[at]) == 0)
		return list->items[at];
	return NULL;
}

static void sorted_insert(struct sorted_objects *list, size_t at, struct object *object)
{
	array_add(list);
	memmove(&list->items[at + 1], &list->items[at],
		(list->count - 1 - at) * sizeof(struct object *));
	list->items[at] = object;
}

static void sorted_remove(struct sorted_objects *list, size_t at)
{
	list->count--;
	memmove(&list->items[at], &list->items[at + 1],
		(list->count - at) * sizeof(struct object *));
}

static struct key key_of(const struct object *object)
{
	return (struct key){ .namespace = object->namespace, .name = object->name };
}

static struct key slice_key_of(const struct object *object)
{
	return (struct key){ .namespace = object->namespace,
			     .service = object->slice.service_name,
			     .name = object->name };
}

/* ---- who owns an address ---- */

const struct object *store_owner(const struct store *store, const struct addr *addr)
{
	const struct address_owner *owner = table_find(&store->owners, addr);

	return owner ? owner->object : NULL;
}

/* Which of two pods with one address has it: the one that is not being deleted, else the younger.
 */
static bool pod_precedes(const struct object *pod, const struct object *other)
{
	if (pod->pod.deleting != other->pod.deleting)
		return other->pod.deleting;
	if (pod->pod.created != other->pod.created)
		return pod->pod.created > other->pod.created;
	return key_compare(&(struct key){ pod->namespace, NULL, pod->name }, other) < 0;
}

static bool object_has_address(const struct object *object, const struct addr *addr)
{
	const struct addr *addresses;
	size_t count = object_addresses(object, &addresses);

	for (size_t i = 0; i < count; i++) {
		if (addr_equal(&addresses[i], addr))
			return true;
	}
	return false;
}

static void owners_add(struct store *store, const struct object *object)
{
	const struct addr *addresses;
	size_t count = object_addresses(object, &addresses);

	for (size_t i = 0; i < count; i++) {
		struct address_owner *owner = table_put(&store->owners, &addresses[i]);

		if (owner->object)
			owner->others++;
		if (!owner->object || pod_precedes(object, owner->object))
			owner->object = object;
	}
}

/* The next owner of an address that an object gives up; a rare search through all pods. */
static const struct object *owner_search(const struct store *store, const struct addr *addr,
					 const struct object *leaving)
{
	const struct sorted_objects *pods = &store->lists[OBJECT_POD];
	const struct object *best = NULL;

	for (size_t i = 0; i < pods->count; i++) {
		const struct object *pod = pods->items[i];

		if (pod != leaving && object_has_address(pod, addr) &&
		    (!best || pod_precedes(pod, best)))
			best = pod;
	}
	return best;
}

static void owners_del(struct store *store, const struct object *object)
{
	const struct addr *addresses;
	size_t count = object_addresses(object, &addresses);

	for (size_t i = 0; i < count; i++) {
		struct address_owner *owner = table_find(&store->owners, &addresses[i]);

		if (owner->others == 0) {
			table_del(&store->owners, &addresses[i]);
			continue;
		}
		owner->others--;
		if (owner->object == object)
			owner->object = owner_search(store, &addresses[i], object);
	}
}

static bool may_share_address(const struct object *a, const struct object *b)
{
	return a->kind == OBJECT_POD && b->kind == OBJECT_POD &&
	       (a->pod.deleting || b->pod.deleting);
}

/* Whether an object has an address of another one, apart from the one that it replaces. */
static int check_owners(const struct store *store, const struct object *object,
			const struct object *replaced, struct errmsg *err)
{
	const struct addr *addresses;
	size_t count = object_addresses(object, &addresses);
	char buf[ADDR_TEXT_MAX];

	for (size_t i = 0; i < count; i++) {
		const struct object *other = store_owner(store, &addresses[i]);

		if (other && other != replaced && !may_share_address(object, other))
			return fail_plain(err, -EEXIST, "%s %s/%s and %s %s/%s both have %s",
					  object_kind_name(object->kind), object->namespace,
					  object->name, object_kind_name(other->kind),
					  other->namespace, other->name,
					  addr_format(&addresses[i], buf));
	}
	return 0;
}

/* ---- services by selector ---- */

/* Adds a service to those by selector, or removes it: after it, or a slice of it, came or left. */
static void selecting_update(struct store *store, const char *namespace, const char *name,
			     bool service_leaves)
{
	const struct key key = { .namespace = namespace, .name = name };
	const struct object *const *slices;
	struct sorted_objects *list = &store->selecting;
	size_t at = sorted_position(list, &key);
	struct object *service =
		(struct object *)store_find(store, OBJECT_SERVICE, namespace, name);
	bool wanted = service && !service_leaves && service->service.selector.count > 0 &&
		      !*service->uid && !service->service.foreign &&
		      store_slices(store, namespace, name, &slices) == 0;

	if (sorted_get(list, &key, at))
		sorted_remove(list, at);
	if (wanted)
		sorted_insert(list, at, service);
}

size_t store_selecting_services(const struct store *store, const struct object *const **ret_first)
{
	*ret_first = (const struct object *const *)store->selecting.items;
	return store->selecting.count;
}

bool store_is_selecting(const struct store *store, const struct object *service)
{
	struct key key = key_of(service);

	return sorted_get(&store->selecting, &key, sorted_position(&store->selecting, &key));
}

uint64_t store_pod_changes(const struct store *store)
{
	return store->pod_changes;
}

uint64_t store_node_changes(const struct store *store)
{
	return store->node_changes;
}

/* ---- objects ---- */

static void store_unlink(struct store *store, struct object *object)
{
	struct sorted_objects *list = &store->lists[object->kind];
	struct key key = key_of(object);

	owners_del(store, object);
	if (object->kind == OBJECT_SERVICE)
		selecting_update(store, object->namespace, object->name, true);
	sorted_remove(list, sorted_position(list, &key));
	if (object->kind == OBJECT_ENDPOINT_SLICE) {
		key = slice_key_of(object);
		sorted_remove(&store->slices, sorted_position(&store->slices, &key));
		selecting_update(store, object->namespace, object->slice.service_name, false);
	}
}

int store_put(struct store *store, struct object *object, struct errmsg *err)
{
	struct sorted_objects *list = &store->lists[object->kind];
	struct key key = key_of(object);
	size_t at = sorted_position(list, &key);
	struct object *old = sorted_get(list, &key, at);
	int ret = check_owners(store, object, old, err);

	if (ret < 0) {
		object_free(object);
		return ret;
	}
	if (old) {
		watch_removed(store, old);
		store_unlink(store, old);
		object_free(old);
	}
	owners_add(store, object);
	sorted_insert(list, at, object);
	if (object->kind == OBJECT_ENDPOINT_SLICE) {
		key = slice_key_of(object);
		sorted_insert(&store->slices, sorted_position(&store->slices, &key), object);
		selecting_update(store, object->namespace, object->slice.service_name, false);
	}
	if (object->kind == OBJECT_SERVICE)
		selecting_update(store, object->namespace, object->name, false);
	watch_added(store, object);
	return 0;
}

struct object *store_take(struct store *store, enum object_kind kind, const char *namespace,
			  const char *name)
{
	struct key key = { .namespace = namespace, .name = name };
	struct sorted_objects *list = &store->lists[kind];
	struct object *object = sorted_get(list, &key, sorted_position(list, &key));

	if (object) {
		watch_removed(store, object);
		store_unlink(store, object);
	}
	return object;
}

int store_del(struct store *store, enum object_kind kind, const char *namespace, const char *name)
{
	struct object *object = store_take(store, kind, namespace, name);

	if (!object)
		return -ENOENT;
	object_free(object);
	return 0;
}

const struct object *store_find(const struct store *store, enum object_kind kind,
				const char *namespace, const char *name)
{
	struct key key = { .namespace = namespace, .name = name };
	const struct sorted_objects *list = &store->lists[kind];

	return sorted_get(list, &key, sorted_position(list, &key));
}

size_t store_count(const struct store *store, enum object_kind kind)
{
	return store->lists[kind].count;
}

const struct object *store_first(const struct store *store, enum object_kind kind)
{
	return store->lists[kind].count ? store->lists[kind].items[0] : NULL;
}

const struct object *store_next(const struct store *store, const struct object *object)
{
	const struct sorted_objects *list = &store->lists[object->kind];
	struct key key = key_of(object);
	size_t at = sorted_position(list, &key) + 1;

	return at < list->count ? list->items[at] : NULL;
}

size_t store_objects(const struct store *store, enum object_kind kind,
		     const struct object *const **ret_first)
{
	*ret_first = (const struct object *const *)store->lists[kind].items;
	return store->lists[kind].count;
}

size_t store_range(const struct store *store, enum object_kind kind, const char *namespace,
		   const struct object *const **ret_first)
{
	const struct sorted_objects *list = &store->lists[kind];
	struct key key = { .namespace = namespace };
	size_t first = sorted_position(list, &key);
	size_t end = first;

	while (end < list->count && strcmp(list->items[end]->namespace, namespace) == 0)
		end++;
	*ret_first = end > first ? (const struct object *const *)&list->items[first] : NULL;
	return end - first;
}

size_t store_slices(const struct store *store, const char *namespace, const char *service,
		    const struct object *const **ret_first)
{
	const struct sorted_objects *list = &store->slices;
	struct key key = { .namespace = namespace, .service = service };
	size_t first = sorted_position(list, &key);
	size_t end = first;

	while (end < list->count && strcmp(list->items[end]->namespace, namespace) == 0 &&
	       strcmp(list->items[end]->slice.service_name, service) == 0)
		end++;
	*ret_first = end > first ? (const struct object *const *)&list->items[first] : NULL;
	return end - first;
}

/* ---- this node ---- */

void store_set_local(struct store *store)
{
	store->local = true;
}

bool store_is_local(const struct store *store)
{
	return store->local || store->endpoint_count > 0;
}

static size_t endpoint_position(const struct store *store, uint16_t slot)
{
	size_t at = 0;

	while (at < store->endpoint_count && store->endpoints[at].slot < slot)
		at++;
	return at;
}

static struct store_endpoint endpoint_copy(const struct store_endpoint *from)
{
	struct store_endpoint copy = *from;

	copy.namespace = xstrdup(from->namespace);
	copy.name = xstrdup(from->name);
	copy.uid = xstrdup(from->uid ? from->uid : "");
	copy.labels.items = xcalloc(from->labels.count, sizeof(*copy.labels.items));
	for (size_t i = 0; i < from->labels.count; i++) {
		copy.labels.items[i].key = xstrdup(from->labels.items[i].key);
		copy.labels.items[i].value = xstrdup(from->labels.items[i].value);
	}
	labels_sort(&copy.labels);
	copy.host_ports = xcalloc(from->host_port_count, sizeof(*copy.host_ports));
	for (size_t i = 0; i < from->host_port_count; i++)
		copy.host_ports[i] = from->host_ports[i];
	return copy;
}

void store_endpoint_set(struct store *store, const struct store_endpoint *endpoint)
{
	size_t at = endpoint_position(store, endpoint->slot);
	struct store_endpoint copy = endpoint_copy(endpoint);

	if (at < store->endpoint_count && store->endpoints[at].slot == endpoint->slot) {
		endpoint_leaves(store, &store->endpoints[at]);
		watch_endpoint(store, &store->endpoints[at]);
		endpoint_done(&store->endpoints[at]);
	} else {
		array_room(&store->endpoints, store->endpoint_count, &store->endpoint_capacity,
			   sizeof(*store->endpoints));
		memmove(&store->endpoints[at + 1], &store->endpoints[at],
			(store->endpoint_count - at) * sizeof(*store->endpoints));
		store->endpoint_count++;
	}
	store->endpoints[at] = copy;
	watch_endpoint(store, &copy);
}

void store_endpoint_del(struct store *store, uint16_t slot)
{
	size_t at = endpoint_position(store, slot);

	if (at == store->endpoint_count || store->endpoints[at].slot != slot)
		return;
	endpoint_leaves(store, &store->endpoints[at]);
	watch_endpoint(store, &store->endpoints[at]);
	endpoint_done(&store->endpoints[at]);
	store->endpoint_count--;
	memmove(&store->endpoints[at], &store->endpoints[at + 1],
		(store->endpoint_count - at) * sizeof(*store->endpoints));
}

const struct store_endpoint *store_endpoint_find(const struct store *store, uint16_t slot)
{
	size_t at = endpoint_position(store, slot);

	if (at == store->endpoint_count || store->endpoints[at].slot != slot)
		return NULL;
	return &store->endpoints[at];
}

size_t store_endpoints(const struct store *store, const struct store_endpoint **ret_first)
{
	*ret_first = store->endpoints;
	return store->endpoint_count;
}

const struct object *store_endpoint_pod(const struct store *store,
					const struct store_endpoint *endpoint)
{
	const struct object *pod =
		store_find(store, OBJECT_POD, endpoint->namespace, endpoint->name);

	if (pod && *pod->uid && *endpoint->uid && strcmp(pod->uid, endpoint->uid) != 0)
		return NULL;
	return pod;
}

bool store_pod_is_endpoint(const struct store *store, const struct object *pod)
{
	for (size_t i = 0; i < store->endpoint_count; i++) {
		const struct store_endpoint *endpoint = &store->endpoints[i];

		if (strcmp(endpoint->name, pod->name) == 0 &&
		    strcmp(endpoint->namespace, pod->namespace) == 0 &&
		    store_endpoint_pod(store, endpoint) == pod)
			return true;
	}
	return false;
}

void store_host_addresses_set(struct store *store, const struct addr *addresses, size_t count)
{
	free(store->host_addresses);
	store->host_addresses = xmemdup(addresses, count * sizeof(*addresses));
	store->host_address_count = count;
	store->node_changes++;
	if (store->watcher)
		store->watcher->hosts_changed(store->watcher->arg);
}

size_t store_host_addresses(const struct store *store, const struct addr **ret_first)
{
	*ret_first = store->host_addresses;
	return store->host_address_count;
}
