/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects lie in arrays sorted by namespace and name, one for each kind, so that walks are ordered
 * and a namespace is a range.  Slices have a second order, by Service.  A hash knows who owns which
 * address.
 */
#include "policy/objects/store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/arena.h"
#include "lib/auto.h"
#include "lib/table.h"

struct object_list {
	struct object **items;
	size_t count;
	size_t capacity;
};

struct store {
	struct object_list lists[OBJECT_KIND_COUNT];
	struct object_list slices; /* the EndpointSlices again, by (namespace, service, name) */
	struct table owners;       /* struct addr -> const struct object * */
	struct store_endpoint *endpoints; /* sorted by slot */
	size_t endpoint_count;
	size_t endpoint_capacity;
	struct addr *host_addresses;
	size_t host_address_count;
	bool local; /* a node's store, even without endpoints */
	const struct store_watcher *watcher;
};

struct store *store_new(void)
{
	struct store *store = calloc(1, sizeof(*store));

	if (store)
		table_init(&store->owners, sizeof(struct addr), sizeof(const struct object *));
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
	for (size_t i = 0; i < store->endpoint_count; i++)
		endpoint_done(&store->endpoints[i]);
	free(store->endpoints);
	free(store->host_addresses);
	free(store);
}

/* ---- who is told ---- */

void store_watch(struct store *store, const struct store_watcher *watcher)
{
	store->watcher = watcher;
}

static void tell_comes(const struct store *store, const struct object *object)
{
	if (store->watcher)
		store->watcher->object_comes(object, store->watcher->arg);
}

static void tell_leaves(const struct store *store, const struct object *object)
{
	if (store->watcher)
		store->watcher->object_leaves(object, store->watcher->arg);
}

static void tell_endpoint(const struct store *store, const struct store_endpoint *endpoint)
{
	if (store->watcher)
		store->watcher->endpoint_changes(endpoint, store->watcher->arg);
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

/* The first place whose object is not before the key. */
static size_t object_list_place(const struct object_list *object_list, const struct key *key)
{
	size_t low = 0;
	size_t high = object_list->count;

	/* A text's objects come in order: nearly all of them belong behind the last one. */
	if (high && key_compare(key, object_list->items[high - 1]) > 0)
		return high;
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (key_compare(key, object_list->items[middle]) > 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct object *object_list_get(const struct object_list *object_list, const struct key *key,
				      size_t place)
{
	if (place < object_list->count && key_compare(key, object_list->items[place]) == 0)
		return object_list->items[place];
	return NULL;
}

static int object_list_reserve(struct object_list *object_list)
{
	return array_room(&object_list->items, object_list->count, &object_list->capacity,
			  sizeof(struct object *));
}

static void object_list_insert(struct object_list *object_list, size_t place, struct object *object)
{
	memmove(&object_list->items[place + 1], &object_list->items[place],
		(object_list->count - place) * sizeof(struct object *));
	object_list->items[place] = object;
	object_list->count++;
}

static void object_list_remove(struct object_list *object_list, size_t place)
{
	object_list->count--;
	memmove(&object_list->items[place], &object_list->items[place + 1],
		(object_list->count - place) * sizeof(struct object *));
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

const struct object *store_owner(const struct store *store, const struct addr *addr)
{
	const struct object **owner = table_find(&store->owners, addr);

	return owner ? *owner : NULL;
}

static void owners_del(struct store *store, const struct object *object)
{
	const struct addr *addresses;
	size_t count = object_addresses(object, &addresses);

	for (size_t i = 0; i < count; i++) {
		if (store_owner(store, &addresses[i]) == object)
			table_del(&store->owners, &addresses[i]);
	}
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

/* Hands the addresses of an object (or NULL) to the one that replaces it; all or none. */
static int owners_replace(struct store *store, const struct object *old,
			  const struct object *object)
{
	const struct addr *addresses;
	size_t count = object_addresses(object, &addresses);
	const struct object **owner;
	size_t done;

	for (done = 0; done < count; done++) {
		owner = table_put(&store->owners, &addresses[done]);
		if (!owner)
			goto undo;
		*owner = object;
	}
	if (old)
		owners_del(store, old);
	return 0;
undo:
	while (done-- > 0) {
		owner = table_find(&store->owners, &addresses[done]);
		if (old && object_has_address(old, &addresses[done]))
			*owner = old;
		else
			table_del(&store->owners, &addresses[done]);
	}
	return -ENOMEM;
}

/* Whether another object than the one to be replaced owns an address of this one. */
static int check_owners(const struct store *store, const struct object *object,
			const struct object *replaced, struct errmsg *err)
{
	const struct addr *addresses;
	size_t count = object_addresses(object, &addresses);
	char buf[ADDR_TEXT_MAX];

	for (size_t i = 0; i < count; i++) {
		const struct object *other = store_owner(store, &addresses[i]);

		if (other && other != replaced)
			return fail_plain(err, -EEXIST, "%s %s/%s and %s %s/%s both have %s",
					  object_kind_name(object->kind), object->namespace,
					  object->name, object_kind_name(other->kind),
					  other->namespace, other->name,
					  addr_format(&addresses[i], buf));
	}
	return 0;
}

/* ---- objects ---- */

static void store_unlink(struct store *store, struct object *object)
{
	struct object_list *object_list = &store->lists[object->kind];
	struct key key = key_of(object);

	owners_del(store, object);
	object_list_remove(object_list, object_list_place(object_list, &key));
	if (object->kind == OBJECT_ENDPOINT_SLICE) {
		key = slice_key_of(object);
		object_list_remove(&store->slices, object_list_place(&store->slices, &key));
	}
}

int store_put(struct store *store, struct object *object, struct errmsg *err)
{
	struct object_list *object_list = &store->lists[object->kind];
	struct key key = key_of(object);
	size_t place = object_list_place(object_list, &key);
	struct object *old = object_list_get(object_list, &key, place);
	int ret = check_owners(store, object, old, err);

	if (ret == 0 &&
	    (object_list_reserve(object_list) < 0 ||
	     (object->kind == OBJECT_ENDPOINT_SLICE && object_list_reserve(&store->slices) < 0)))
		ret = fail_plain(err, -ENOMEM, "out of memory");
	if (ret < 0) {
		object_free(object);
		return ret;
	}
	if (owners_replace(store, old, object) < 0) {
		object_free(object);
		return fail_plain(err, -ENOMEM, "out of memory");
	}
	if (old) {
		tell_leaves(store, old);
		store_unlink(store, old);
		object_free(old);
	}
	object_list_insert(object_list, place, object);
	if (object->kind == OBJECT_ENDPOINT_SLICE) {
		key = slice_key_of(object);
		object_list_insert(&store->slices, object_list_place(&store->slices, &key), object);
	}
	tell_comes(store, object);
	return 0;
}

struct object *store_take(struct store *store, enum object_kind kind, const char *namespace,
			  const char *name)
{
	struct key key = { .namespace = namespace, .name = name };
	struct object_list *object_list = &store->lists[kind];
	struct object *object =
		object_list_get(object_list, &key, object_list_place(object_list, &key));

	if (object) {
		tell_leaves(store, object);
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
	const struct object_list *object_list = &store->lists[kind];

	return object_list_get(object_list, &key, object_list_place(object_list, &key));
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
	const struct object_list *object_list = &store->lists[object->kind];
	struct key key = key_of(object);
	size_t place = object_list_place(object_list, &key) + 1;

	return place < object_list->count ? object_list->items[place] : NULL;
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
	const struct object_list *object_list = &store->lists[kind];
	struct key key = { .namespace = namespace };
	size_t first = object_list_place(object_list, &key);
	size_t end = first;

	while (end < object_list->count &&
	       strcmp(object_list->items[end]->namespace, namespace) == 0)
		end++;
	*ret_first = end > first ? (const struct object *const *)&object_list->items[first] : NULL;
	return end - first;
}

size_t store_slices(const struct store *store, const char *namespace, const char *service,
		    const struct object *const **ret_first)
{
	const struct object_list *object_list = &store->slices;
	struct key key = { .namespace = namespace, .service = service };
	size_t first = object_list_place(object_list, &key);
	size_t end = first;

	while (end < object_list->count &&
	       strcmp(object_list->items[end]->namespace, namespace) == 0 &&
	       strcmp(object_list->items[end]->slice.service_name, service) == 0)
		end++;
	*ret_first = end > first ? (const struct object *const *)&object_list->items[first] : NULL;
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

static size_t endpoint_place(const struct store *store, uint16_t slot)
{
	size_t place = 0;

	while (place < store->endpoint_count && store->endpoints[place].slot < slot)
		place++;
	return place;
}

static int endpoint_copy(const struct store_endpoint *from, struct store_endpoint *ret_copy)
{
	struct store_endpoint copy = { .slot = from->slot, .address_count = from->address_count };

	memcpy(copy.addresses, from->addresses, sizeof(copy.addresses));
	copy.namespace = strdup(from->namespace);
	copy.name = strdup(from->name);
	copy.uid = strdup(from->uid ? from->uid : "");
	copy.labels.items = calloc(from->labels.count + 1, sizeof(*copy.labels.items));
	if (!copy.namespace || !copy.name || !copy.uid || !copy.labels.items)
		goto failed;
	for (size_t i = 0; i < from->labels.count; i++) {
		struct label *label = &copy.labels.items[i];

		copy.labels.count++;
		label->key = strdup(from->labels.items[i].key);
		label->value = strdup(from->labels.items[i].value);
		if (!label->key || !label->value)
			goto failed;
	}
	*ret_copy = copy;
	return 0;
failed:
	endpoint_done(&copy);
	return -ENOMEM;
}

int store_endpoint_set(struct store *store, const struct store_endpoint *endpoint)
{
	size_t place = endpoint_place(store, endpoint->slot);
	struct store_endpoint copy;

	if (array_room(&store->endpoints, store->endpoint_count, &store->endpoint_capacity,
		       sizeof(*store->endpoints)) < 0 ||
	    endpoint_copy(endpoint, &copy) < 0)
		return -ENOMEM;
	labels_sort(&copy.labels);
	if (place < store->endpoint_count && store->endpoints[place].slot == endpoint->slot) {
		tell_endpoint(store, &store->endpoints[place]);
		endpoint_done(&store->endpoints[place]);
	} else {
		memmove(&store->endpoints[place + 1], &store->endpoints[place],
			(store->endpoint_count - place) * sizeof(*store->endpoints));
		store->endpoint_count++;
	}
	store->endpoints[place] = copy;
	tell_endpoint(store, &copy);
	return 0;
}

void store_endpoint_del(struct store *store, uint16_t slot)
{
	size_t place = endpoint_place(store, slot);

	if (place == store->endpoint_count || store->endpoints[place].slot != slot)
		return;
	tell_endpoint(store, &store->endpoints[place]);
	endpoint_done(&store->endpoints[place]);
	store->endpoint_count--;
	memmove(&store->endpoints[place], &store->endpoints[place + 1],
		(store->endpoint_count - place) * sizeof(*store->endpoints));
}

const struct store_endpoint *store_endpoint_find(const struct store *store, uint16_t slot)
{
	size_t place = endpoint_place(store, slot);

	if (place == store->endpoint_count || store->endpoints[place].slot != slot)
		return NULL;
	return &store->endpoints[place];
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

int store_host_addresses_set(struct store *store, const struct addr *addresses, size_t count)
{
	struct addr *copy = calloc(count + 1, sizeof(*copy));

	if (!copy)
		return -ENOMEM;
	if (count)
		memcpy(copy, addresses, count * sizeof(*copy));
	free(store->host_addresses);
	store->host_addresses = copy;
	store->host_address_count = count;
	if (store->watcher)
		store->watcher->hosts_change(store->watcher->arg);
	return 0;
}

size_t store_host_addresses(const struct store *store, const struct addr **ret_first)
{
	*ret_first = store->host_addresses;
	return store->host_address_count;
}
