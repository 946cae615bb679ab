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

struct shelf {
	struct object **items;
	size_t count;
	size_t capacity;
};

struct world {
	struct shelf shelves[OBJECT_KIND_COUNT];
	struct shelf slices; /* the EndpointSlices again, by (namespace, service, name) */
	struct table owners; /* struct addr -> const struct object * */
	struct world_endpoint *endpoints; /* sorted by slot */
	size_t endpoint_count;
	size_t endpoint_capacity;
	struct addr *host_addresses;
	size_t host_address_count;
	bool local; /* a node's world, even without endpoints */
	const struct world_watcher *watcher;
};

struct world *world_new(void)
{
	struct world *world = calloc(1, sizeof(*world));

	if (world)
		table_init(&world->owners, sizeof(struct addr), sizeof(const struct object *));
	return world;
}

static void endpoint_done(struct world_endpoint *endpoint)
{
	free(endpoint->namespace);
	free(endpoint->name);
	free(endpoint->uid);
	for (size_t i = 0; i < endpoint->labels.count; i++) {
		free(endpoint->labels.items[i].key);
		free(endpoint->labels.items[i].value);
	}
	free(endpoint->labels.items);
	*endpoint = (struct world_endpoint){ 0 };
}

void world_free(struct world *world)
{
	if (!world)
		return;
	table_done(&world->owners);
	for (size_t kind = 0; kind < OBJECT_KIND_COUNT; kind++) {
		for (size_t i = 0; i < world->shelves[kind].count; i++)
			object_free(world->shelves[kind].items[i]);
		free(world->shelves[kind].items);
	}
	free(world->slices.items);
	for (size_t i = 0; i < world->endpoint_count; i++)
		endpoint_done(&world->endpoints[i]);
	free(world->endpoints);
	free(world->host_addresses);
	free(world);
}

/* ---- who is told ---- */

void world_watch(struct world *world, const struct world_watcher *watcher)
{
	world->watcher = watcher;
}

static void tell_comes(const struct world *world, const struct object *object)
{
	if (world->watcher)
		world->watcher->object_comes(object, world->watcher->arg);
}

static void tell_leaves(const struct world *world, const struct object *object)
{
	if (world->watcher)
		world->watcher->object_leaves(object, world->watcher->arg);
}

static void tell_endpoint(const struct world *world, const struct world_endpoint *endpoint)
{
	if (world->watcher)
		world->watcher->endpoint_changes(endpoint, world->watcher->arg);
}

/* ---- sorted arrays ---- */

/* What an object is sorted by; service is NULL on the shelves by kind. */
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
static size_t shelf_place(const struct shelf *shelf, const struct key *key)
{
	size_t low = 0;
	size_t high = shelf->count;

	/* A text's objects come in order: nearly all of them belong behind the last one. */
	if (high && key_compare(key, shelf->items[high - 1]) > 0)
		return high;
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (key_compare(key, shelf->items[middle]) > 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct object *shelf_get(const struct shelf *shelf, const struct key *key, size_t place)
{
	if (place < shelf->count && key_compare(key, shelf->items[place]) == 0)
		return shelf->items[place];
	return NULL;
}

static int shelf_reserve(struct shelf *shelf)
{
	return array_room(&shelf->items, shelf->count, &shelf->capacity, sizeof(struct object *));
}

static void shelf_insert(struct shelf *shelf, size_t place, struct object *object)
{
	memmove(&shelf->items[place + 1], &shelf->items[place],
		(shelf->count - place) * sizeof(struct object *));
	shelf->items[place] = object;
	shelf->count++;
}

static void shelf_remove(struct shelf *shelf, size_t place)
{
	shelf->count--;
	memmove(&shelf->items[place], &shelf->items[place + 1],
		(shelf->count - place) * sizeof(struct object *));
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

const struct object *world_owner(const struct world *world, const struct addr *addr)
{
	const struct object **owner = table_find(&world->owners, addr);

	return owner ? *owner : NULL;
}

static void owners_del(struct world *world, const struct object *object)
{
	const struct addr *addresses;
	size_t count = object_addresses(object, &addresses);

	for (size_t i = 0; i < count; i++) {
		if (world_owner(world, &addresses[i]) == object)
			table_del(&world->owners, &addresses[i]);
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
static int owners_replace(struct world *world, const struct object *old,
			  const struct object *object)
{
	const struct addr *addresses;
	size_t count = object_addresses(object, &addresses);
	const struct object **owner;
	size_t done;

	for (done = 0; done < count; done++) {
		owner = table_put(&world->owners, &addresses[done]);
		if (!owner)
			goto undo;
		*owner = object;
	}
	if (old)
		owners_del(world, old);
	return 0;
undo:
	while (done-- > 0) {
		owner = table_find(&world->owners, &addresses[done]);
		if (old && object_has_address(old, &addresses[done]))
			*owner = old;
		else
			table_del(&world->owners, &addresses[done]);
	}
	return -ENOMEM;
}

/* Whether another object than the one to be replaced owns an address of this one. */
static int check_owners(const struct world *world, const struct object *object,
			const struct object *replaced, struct errmsg *err)
{
	const struct addr *addresses;
	size_t count = object_addresses(object, &addresses);
	char buf[ADDR_TEXT_MAX];

	for (size_t i = 0; i < count; i++) {
		const struct object *other = world_owner(world, &addresses[i]);

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

static void world_unlink(struct world *world, struct object *object)
{
	struct shelf *shelf = &world->shelves[object->kind];
	struct key key = key_of(object);

	owners_del(world, object);
	shelf_remove(shelf, shelf_place(shelf, &key));
	if (object->kind == OBJECT_ENDPOINT_SLICE) {
		key = slice_key_of(object);
		shelf_remove(&world->slices, shelf_place(&world->slices, &key));
	}
}

int world_put(struct world *world, struct object *object, struct errmsg *err)
{
	struct shelf *shelf = &world->shelves[object->kind];
	struct key key = key_of(object);
	size_t place = shelf_place(shelf, &key);
	struct object *old = shelf_get(shelf, &key, place);
	int ret = check_owners(world, object, old, err);

	if (ret == 0 && (shelf_reserve(shelf) < 0 || (object->kind == OBJECT_ENDPOINT_SLICE &&
						      shelf_reserve(&world->slices) < 0)))
		ret = fail_plain(err, -ENOMEM, "out of memory");
	if (ret < 0) {
		object_free(object);
		return ret;
	}
	if (owners_replace(world, old, object) < 0) {
		object_free(object);
		return fail_plain(err, -ENOMEM, "out of memory");
	}
	if (old) {
		tell_leaves(world, old);
		world_unlink(world, old);
		object_free(old);
	}
	shelf_insert(shelf, place, object);
	if (object->kind == OBJECT_ENDPOINT_SLICE) {
		key = slice_key_of(object);
		shelf_insert(&world->slices, shelf_place(&world->slices, &key), object);
	}
	tell_comes(world, object);
	return 0;
}

struct object *world_take(struct world *world, enum object_kind kind, const char *namespace,
			  const char *name)
{
	struct key key = { .namespace = namespace, .name = name };
	struct shelf *shelf = &world->shelves[kind];
	struct object *object = shelf_get(shelf, &key, shelf_place(shelf, &key));

	if (object) {
		tell_leaves(world, object);
		world_unlink(world, object);
	}
	return object;
}

int world_del(struct world *world, enum object_kind kind, const char *namespace, const char *name)
{
	struct object *object = world_take(world, kind, namespace, name);

	if (!object)
		return -ENOENT;
	object_free(object);
	return 0;
}

const struct object *world_find(const struct world *world, enum object_kind kind,
				const char *namespace, const char *name)
{
	struct key key = { .namespace = namespace, .name = name };
	const struct shelf *shelf = &world->shelves[kind];

	return shelf_get(shelf, &key, shelf_place(shelf, &key));
}

size_t world_count(const struct world *world, enum object_kind kind)
{
	return world->shelves[kind].count;
}

const struct object *world_first(const struct world *world, enum object_kind kind)
{
	return world->shelves[kind].count ? world->shelves[kind].items[0] : NULL;
}

const struct object *world_next(const struct world *world, const struct object *object)
{
	const struct shelf *shelf = &world->shelves[object->kind];
	struct key key = key_of(object);
	size_t place = shelf_place(shelf, &key) + 1;

	return place < shelf->count ? shelf->items[place] : NULL;
}

size_t world_objects(const struct world *world, enum object_kind kind,
		     const struct object *const **ret_first)
{
	*ret_first = (const struct object *const *)world->shelves[kind].items;
	return world->shelves[kind].count;
}

size_t world_range(const struct world *world, enum object_kind kind, const char *namespace,
		   const struct object *const **ret_first)
{
	const struct shelf *shelf = &world->shelves[kind];
	struct key key = { .namespace = namespace };
	size_t first = shelf_place(shelf, &key);
	size_t end = first;

	while (end < shelf->count && strcmp(shelf->items[end]->namespace, namespace) == 0)
		end++;
	*ret_first = end > first ? (const struct object *const *)&shelf->items[first] : NULL;
	return end - first;
}

size_t world_slices(const struct world *world, const char *namespace, const char *service,
		    const struct object *const **ret_first)
{
	const struct shelf *shelf = &world->slices;
	struct key key = { .namespace = namespace, .service = service };
	size_t first = shelf_place(shelf, &key);
	size_t end = first;

	while (end < shelf->count && strcmp(shelf->items[end]->namespace, namespace) == 0 &&
	       strcmp(shelf->items[end]->slice.service_name, service) == 0)
		end++;
	*ret_first = end > first ? (const struct object *const *)&shelf->items[first] : NULL;
	return end - first;
}

/* ---- this node ---- */

void world_set_local(struct world *world)
{
	world->local = true;
}

bool world_is_local(const struct world *world)
{
	return world->local || world->endpoint_count > 0;
}

static size_t endpoint_place(const struct world *world, uint16_t slot)
{
	size_t place = 0;

	while (place < world->endpoint_count && world->endpoints[place].slot < slot)
		place++;
	return place;
}

static int endpoint_copy(const struct world_endpoint *from, struct world_endpoint *ret_copy)
{
	struct world_endpoint copy = { .slot = from->slot, .address_count = from->address_count };

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

int world_endpoint_set(struct world *world, const struct world_endpoint *endpoint)
{
	size_t place = endpoint_place(world, endpoint->slot);
	struct world_endpoint copy;

	if (array_room(&world->endpoints, world->endpoint_count, &world->endpoint_capacity,
		       sizeof(*world->endpoints)) < 0 ||
	    endpoint_copy(endpoint, &copy) < 0)
		return -ENOMEM;
	labels_sort(&copy.labels);
	if (place < world->endpoint_count && world->endpoints[place].slot == endpoint->slot) {
		tell_endpoint(world, &world->endpoints[place]);
		endpoint_done(&world->endpoints[place]);
	} else {
		memmove(&world->endpoints[place + 1], &world->endpoints[place],
			(world->endpoint_count - place) * sizeof(*world->endpoints));
		world->endpoint_count++;
	}
	world->endpoints[place] = copy;
	tell_endpoint(world, &copy);
	return 0;
}

void world_endpoint_del(struct world *world, uint16_t slot)
{
	size_t place = endpoint_place(world, slot);

	if (place == world->endpoint_count || world->endpoints[place].slot != slot)
		return;
	tell_endpoint(world, &world->endpoints[place]);
	endpoint_done(&world->endpoints[place]);
	world->endpoint_count--;
	memmove(&world->endpoints[place], &world->endpoints[place + 1],
		(world->endpoint_count - place) * sizeof(*world->endpoints));
}

const struct world_endpoint *world_endpoint_find(const struct world *world, uint16_t slot)
{
	size_t place = endpoint_place(world, slot);

	if (place == world->endpoint_count || world->endpoints[place].slot != slot)
		return NULL;
	return &world->endpoints[place];
}

size_t world_endpoints(const struct world *world, const struct world_endpoint **ret_first)
{
	*ret_first = world->endpoints;
	return world->endpoint_count;
}

const struct object *world_endpoint_pod(const struct world *world,
					const struct world_endpoint *endpoint)
{
	const struct object *pod =
		world_find(world, OBJECT_POD, endpoint->namespace, endpoint->name);

	if (pod && *pod->uid && *endpoint->uid && strcmp(pod->uid, endpoint->uid) != 0)
		return NULL;
	return pod;
}

int world_host_addresses_set(struct world *world, const struct addr *addresses, size_t count)
{
	struct addr *copy = calloc(count + 1, sizeof(*copy));

	if (!copy)
		return -ENOMEM;
	if (count)
		memcpy(copy, addresses, count * sizeof(*copy));
	free(world->host_addresses);
	world->host_addresses = copy;
	world->host_address_count = count;
	if (world->watcher)
		world->watcher->hosts_change(world->watcher->arg);
	return 0;
}

size_t world_host_addresses(const struct world *world, const struct addr **ret_first)
{
	*ret_first = world->host_addresses;
	return world->host_address_count;
}
