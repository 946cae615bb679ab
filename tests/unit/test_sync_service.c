/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Service sync against maps in memory.  After every single write a reader looks at the maps as a
 * program would, between its look-up of the service and that of the backend too.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/sync/sync_internal.h"
#include "lib/auto.h"
#include "policy/objects/host_port.h"
#include "unit/fake_maps.h"

#include <cmocka.h>

/* ---- stubs: a store of services whose frontends the test sets
 * ------------------------------------ */

#define SERVICES 300
#define BACKENDS 40

struct scripted_service {
	struct object object;
	char name[16];
	struct service_port port;
	struct service_frontend frontend;
	struct service_pool pool;
	struct service_backend backends[BACKENDS];
	bool present;
};

struct store {
	struct scripted_service services[SERVICES];
	struct object *node; /* or NULL */
};

struct incremental *incremental_new(struct store *store)
{
	(void)store;
	return calloc(1, 1);
}

void incremental_free(struct incremental *incremental)
{
	free(incremental);
}

struct compiled_changes incremental_update(struct incremental *incremental)
{
	(void)incremental;
	return (struct compiled_changes){ .all = true };
}

const struct compiled *incremental_compiled(const struct incremental *incremental)
{
	static const struct compiled nothing;

	(void)incremental;
	return &nothing;
}

size_t compiled_entries_first(const struct compiled *compiled, uint32_t policy_id)
{
	(void)policy_id;
	return compiled->entry_count;
}

struct service_frontends service_frontends(const struct store *store, const struct object *service,
					   const struct service_node *node)
{
	struct scripted_service *scripted = (struct scripted_service *)service;

	(void)store;
	(void)node;
	return (struct service_frontends){
		.items = &scripted->frontend, .count = 1, .pools = &scripted->pool, .pool_count = 1
	};
}

void service_node_init(struct service_node *node, const struct store *store,
		       const struct service_settings *settings)
{
	(void)store;
	(void)settings;
	*node = (struct service_node){ 0 };
}

void service_node_done(struct service_node *node)
{
	(void)node;
}

bool service_node_equal(const struct service_node *a, const struct service_node *b)
{
	(void)a;
	(void)b;
	return true;
}

uint64_t store_node_changes(const struct store *store)
{
	(void)store;
	return 0;
}

size_t store_selecting_services(const struct store *store, const struct object *const **ret_first)
{
	(void)store;
	*ret_first = NULL;
	return 0;
}

size_t store_endpoints(const struct store *store, const struct store_endpoint **ret_first)
{
	(void)store;
	*ret_first = NULL;
	return 0;
}

const struct store_endpoint *store_endpoint_find(const struct store *store, uint16_t slot)
{
	(void)store;
	(void)slot;
	return NULL;
}

struct service_frontends host_port_frontends(const struct store *store,
					     const struct store_endpoint *endpoint)
{
	(void)store;
	(void)endpoint;
	return (struct service_frontends){ 0 };
}

uint64_t store_pod_changes(const struct store *store)
{
	(void)store;
	return 0;
}

void service_frontends_done(struct service_frontends *frontends)
{
	(void)frontends;
}

static const struct object *service_from(const struct store *store, size_t i)
{
	for (; i < SERVICES; i++) {
		if (store->services[i].present)
			return &store->services[i].object;
	}
	return NULL;
}

const struct object *store_find(const struct store *store, enum object_kind kind,
				const char *namespace, const char *name)
{
	(void)kind;
	(void)namespace;
	for (size_t i = 0; i < SERVICES; i++) {
		if (store->services[i].present && strcmp(store->services[i].name, name) == 0)
			return &store->services[i].object;
	}
	return NULL;
}

const struct object *store_first(const struct store *store, enum object_kind kind)
{
	return kind == OBJECT_NODE ? store->node : service_from(store, 0);
}

const struct object *store_next(const struct store *store, const struct object *object)
{
	if (object == store->node)
		return NULL;
	return service_from(
		store, (size_t)((const struct scripted_service *)object - store->services) + 1);
}

size_t store_objects(const struct store *store, enum object_kind kind,
		     const struct object *const **ret_first)
{
	static const struct object *objects[SERVICES];
	size_t count = 0;

	for (const struct object *o = store_first(store, kind); o; o = store_next(store, o))
		objects[count++] = o;
	*ret_first = objects;
	return count;
}

static void service_set(struct store *store, size_t i, const unsigned int *backends, size_t count)
{
	struct scripted_service *service = &store->services[i];
	static char namespace[] = "shop";

	service->present = true;
	snprintf(service->name, sizeof(service->name), "s%zu", i);
	service->object.namespace = namespace;
	service->object.name = service->name;
	service->port = (struct service_port){ .name = service->name, .proto = IPPROTO_TCP };
	service->pool = (struct service_pool){
		.port = &service->port,
		.backends = service->backends,
		.backend_count = count,
		.cluster_count = count,
	};
	service->frontend = (struct service_frontend){
		.port = 80,
		.proto = IPPROTO_TCP,
		.pool = &service->pool,
	};
	addr_parse("10.96.0.1", &service->frontend.addr);
	service->frontend.addr = addr_add(&service->frontend.addr, i);
	for (size_t k = 0; k < count; k++) {
		addr_parse("10.1.0.0", &service->backends[k].addr);
		service->backends[k].addr = addr_add(&service->backends[k].addr, backends[k]);
		service->backends[k].port = 8080;
		service->backends[k].use = USE_CLUSTER;
	}
}

#define SET(store, i, ...)                                           \
	service_set(store, i, (const unsigned int[]){ __VA_ARGS__ }, \
		    sizeof((const unsigned int[]){ __VA_ARGS__ }) / sizeof(unsigned int))

/* ---- the reader ------------------------------------------------------------------------------ */

/* The largest count each service had since the last trim: a program may still hold it. */
struct reader {
	uint32_t promised[SERVICES + 8]; /* by service id */
};

static void reader_check(struct datapath *maps, void *arg)
{
	struct reader *reader = arg;
	const struct service *service;
	const void *key;
	size_t pos = 0;

	while ((service = table_next(&maps->maps[MAP_SERVICE], &pos, &key))) {
		assert_true(service->id < ARRAY_SIZE(reader->promised));
		if (service->backends > reader->promised[service->id])
			reader->promised[service->id] = service->backends;
	}
	for (uint32_t id = 0; id < ARRAY_SIZE(reader->promised); id++) {
		for (uint32_t i = 0; i < reader->promised[id]; i++) {
			struct backend_key backend = { .service_id = id, .index = i };

			if (!fake_map_get(maps, MAP_BACKEND, &backend))
				fail_msg("after write %u: service %u has no backend %u",
					 maps->writes, id, i);
		}
	}
	pos = 0;
	while ((service = table_next(&maps->maps[MAP_IPCACHE], &pos, &key))) {
		struct service_key frontend = { .port = htons(80), .proto = IPPROTO_TCP };
		const struct ipcache_entry *entry = (const void *)service;

		memcpy(&frontend.addr, key, sizeof(frontend.addr));
		if (entry->flags & IPCACHE_SERVICE && maps->deletes == 0 &&
		    !fake_map_get(maps, MAP_SERVICE, &frontend))
			fail_msg("after write %u: an address without its service", maps->writes);
	}
}

/* ---- fixture --------------------------------------------------------------------------------- */

struct fixture {
	struct datapath maps;
	struct store store;
	struct reader reader;
	struct sync *sync;
};

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	fake_maps_init(&fixture->maps);
	fixture->maps.changed = reader_check;
	fixture->maps.arg = &fixture->reader;
	assert_int_equal(sync_new(NULL, &fixture->maps, &fixture->store, &fixture->sync, NULL), 0);
	sync_set_missing(fixture->sync, NULL);
	*state = fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	sync_free(fixture->sync);
	fake_maps_done(&fixture->maps);
	free(fixture);
	return 0;
}

static void restart(struct fixture *fixture)
{
	sync_free(fixture->sync);
	assert_int_equal(sync_new(NULL, &fixture->maps, &fixture->store, &fixture->sync, NULL), 0);
}

static void sync_all(struct fixture *fixture)
{
	struct errmsg err = { 0 };

	if (sync_services(fixture->sync, &err))
		fail_msg("sync_services: %s", err.text);
}

static void sync_one(struct fixture *fixture, const char *name)
{
	struct errmsg err = { 0 };

	if (sync_service(fixture->sync, "shop", name, &err))
		fail_msg("sync_service: %s", err.text);
}

/* As the timer does when nobody can hold an old count any more. */
static void trim(struct fixture *fixture)
{
	memset(&fixture->reader, 0, sizeof(fixture->reader));
	assert_int_equal(sync_trim(fixture->sync), 0);
}

static const struct service *service_at(const struct fixture *fixture, size_t i)
{
	struct service_key key = { .port = htons(80), .proto = IPPROTO_TCP };

	addr_parse("10.96.0.1", &key.addr);
	key.addr = addr_add(&key.addr, i);
	return fake_map_get(&fixture->maps, MAP_SERVICE, &key);
}

static bool address_is_service(const struct fixture *fixture, size_t i)
{
	const struct ipcache_entry *entry;
	struct addr addr;

	addr_parse("10.96.0.1", &addr);
	addr = addr_add(&addr, i);
	entry = fake_map_get(&fixture->maps, MAP_IPCACHE, &addr);
	return entry && entry->flags == IPCACHE_SERVICE && entry->identity == IDENTITY_WORLD;
}

/* The last byte of backend "index" of service i. */
static unsigned int backend_at(const struct fixture *fixture, size_t i, uint32_t index)
{
	struct backend_key key = { .service_id = service_at(fixture, i)->id, .index = index };
	const struct backend_entry *entry = fake_map_get(&fixture->maps, MAP_BACKEND, &key);

	assert_non_null(entry);
	assert_int_equal(entry->backend.port, htons(8080));
	return ntohl(entry->backend.addr.w[3]) & 0xff;
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void test_service_appears_with_its_backends(void **state)
{
	struct fixture *fixture = *state;

	SET(&fixture->store, 0, 1, 2);
	sync_all(fixture);
	assert_int_equal(service_at(fixture, 0)->backends, 2);
	assert_int_equal(backend_at(fixture, 0, 0), 1);
	assert_int_equal(backend_at(fixture, 0, 1), 2);
	assert_true(address_is_service(fixture, 0));
	assert_int_equal(fixture->maps.node.revision, 0);
}

static void test_staying_backends_keep_their_index(void **state)
{
	struct fixture *fixture = *state;
	unsigned int writes;
	uint32_t id;

	SET(&fixture->store, 0, 1, 2, 3, 4);
	sync_all(fixture);
	id = service_at(fixture, 0)->id;
	writes = fixture->maps.writes;

	SET(&fixture->store, 0, 1, 3, 4, 9);
	sync_one(fixture, "s0");
	assert_int_equal(fixture->maps.writes, writes + 1);
	assert_int_equal(service_at(fixture, 0)->id, id);
	assert_int_equal(backend_at(fixture, 0, 0), 1);
	assert_int_equal(backend_at(fixture, 0, 1), 9);
	assert_int_equal(backend_at(fixture, 0, 2), 3);
	assert_int_equal(backend_at(fixture, 0, 3), 4);
}

static void test_shrinking_retires_the_tail_later(void **state)
{
	struct fixture *fixture = *state;

	SET(&fixture->store, 0, 1, 2, 3, 4);
	sync_all(fixture);
	SET(&fixture->store, 0, 4);
	sync_one(fixture, "s0");
	assert_int_equal(service_at(fixture, 0)->backends, 1);
	assert_int_equal(backend_at(fixture, 0, 0), 4);
	assert_int_equal(fake_map_count(&fixture->maps, MAP_BACKEND), 4);
	trim(fixture);
	assert_int_equal(fake_map_count(&fixture->maps, MAP_BACKEND), 1);
}

static void test_regrown_service_keeps_what_was_retired(void **state)
{
	struct fixture *fixture = *state;

	SET(&fixture->store, 0, 1, 2, 3);
	sync_all(fixture);
	SET(&fixture->store, 0, 1);
	sync_one(fixture, "s0");
	SET(&fixture->store, 0, 1, 5, 6);
	sync_one(fixture, "s0");
	trim(fixture);
	assert_int_equal(fake_map_count(&fixture->maps, MAP_BACKEND), 3);
	assert_int_equal(backend_at(fixture, 0, 2), 6);
}

static void test_service_without_endpoints_stays_known(void **state)
{
	struct fixture *fixture = *state;

	SET(&fixture->store, 0, 1);
	sync_all(fixture);
	service_set(&fixture->store, 0, NULL, 0);
	sync_one(fixture, "s0");
	trim(fixture);
	assert_int_equal(service_at(fixture, 0)->backends, 0);
	assert_true(address_is_service(fixture, 0));
	assert_int_equal(fake_map_count(&fixture->maps, MAP_BACKEND), 0);
}

static void test_deleted_service_leaves_nothing(void **state)
{
	struct fixture *fixture = *state;

	SET(&fixture->store, 0, 1, 2);
	SET(&fixture->store, 1, 1, 2);
	sync_all(fixture);
	fixture->store.services[0].present = false;
	sync_one(fixture, "s0");
	trim(fixture);
	assert_null(service_at(fixture, 0));
	assert_int_equal(fake_map_count(&fixture->maps, MAP_SERVICE), 1);
	assert_int_equal(fake_map_count(&fixture->maps, MAP_BACKEND), 2);
	assert_int_equal(fake_map_count(&fixture->maps, MAP_IPCACHE), 1);
}

static void test_renamed_service_takes_its_address_along(void **state)
{
	struct fixture *fixture = *state;

	SET(&fixture->store, 0, 1, 2);
	sync_all(fixture);
	/* Another service now has the address; its sync comes first. */
	fixture->store.services[0].present = false;
	SET(&fixture->store, 1, 3);
	fixture->store.services[1].frontend.addr = fixture->store.services[0].frontend.addr;
	sync_one(fixture, "s1");
	sync_one(fixture, "s0");
	assert_int_equal(service_at(fixture, 0)->backends, 1);
	assert_int_equal(backend_at(fixture, 0, 0), 3);
	assert_true(address_is_service(fixture, 0));
}

static void test_restart_keeps_ids_and_writes_nothing(void **state)
{
	struct fixture *fixture = *state;
	uint32_t ids[SERVICES];
	unsigned int writes;

	for (size_t i = 0; i < SERVICES; i++)
		SET(&fixture->store, i, 1, 2, 3);
	sync_all(fixture);
	SET(&fixture->store, 7, 5, 3, 4);
	sync_one(fixture, "s7");
	trim(fixture);
	for (size_t i = 0; i < SERVICES; i++)
		ids[i] = service_at(fixture, i)->id;
	writes = fixture->maps.writes;

	restart(fixture);
	sync_all(fixture);
	sync_set_missing(fixture->sync, NULL);
	sync_all(fixture);
	trim(fixture);
	assert_int_equal(fixture->maps.writes, writes);
	for (size_t i = 0; i < SERVICES; i++)
		assert_int_equal(service_at(fixture, i)->id, ids[i]);

	/* Restarted, it still knows whose a frontend is. */
	fixture->store.services[3].present = false;
	sync_one(fixture, "s3");
	assert_null(service_at(fixture, 3));
}

static void test_leftovers_of_a_killed_agent_go(void **state)
{
	struct fixture *fixture = *state;
	const struct backend_key backend = { .service_id = 9, .index = 0 };
	const struct backend_entry value = { .backend.port = htons(1) };
	const struct ipcache_entry entry = { .flags = IPCACHE_SERVICE };
	struct addr addr;

	addr_parse("10.96.9.9", &addr);
	fixture->maps.changed = NULL;
	maps_set_batch(&fixture->maps, MAP_BACKEND, &backend, &value, 1, NULL);
	maps_set_batch(&fixture->maps, MAP_IPCACHE, &addr, &entry, 1, NULL);
	restart(fixture);
	sync_all(fixture);
	assert_int_equal(fake_map_count(&fixture->maps, MAP_BACKEND), 1);
	sync_set_missing(fixture->sync, NULL);
	sync_all(fixture);
	trim(fixture);
	assert_int_equal(fake_map_count(&fixture->maps, MAP_BACKEND), 0);
	assert_int_equal(fake_map_count(&fixture->maps, MAP_IPCACHE), 0);
}

static void test_half_known_store_takes_nothing_away(void **state)
{
	struct fixture *fixture = *state;

	SET(&fixture->store, 0, 1, 2);
	SET(&fixture->store, 1, 1);
	sync_all(fixture);
	restart(fixture);
	service_set(&fixture->store, 0, NULL, 0);
	fixture->store.services[1].present = false;
	SET(&fixture->store, 2, 7);
	sync_all(fixture);
	assert_int_equal(service_at(fixture, 0)->backends, 2);
	assert_non_null(service_at(fixture, 1));
	assert_int_equal(service_at(fixture, 2)->backends, 1);
	sync_set_missing(fixture->sync, NULL);
	sync_all(fixture);
	assert_int_equal(service_at(fixture, 0)->backends, 0);
	assert_null(service_at(fixture, 1));
}

static void test_full_backend_map_is_named_and_retried(void **state)
{
	struct fixture *fixture = *state;
	struct errmsg err = { 0 };

	fixture->maps.capacity[MAP_BACKEND] = 3;
	SET(&fixture->store, 0, 1, 2);
	SET(&fixture->store, 1, 3, 4);
	assert_int_equal(sync_services(fixture->sync, &err), -ENOSPC);
	assert_string_equal(err.text,
			    "backend_map is full: 1 service entries did not fit (max-backends)");
	assert_string_equal(sync_warning(fixture->sync), err.text);
	assert_int_equal(service_at(fixture, 0)->backends, 2);
	assert_int_equal(service_at(fixture, 1)->backends, 1);

	/* The next change makes room; nobody asks for s1 by name. */
	memset(&fixture->reader, 0, sizeof(fixture->reader));
	fixture->maps.changed = NULL;
	SET(&fixture->store, 0, 1);
	sync_one(fixture, "s0");
	assert_int_equal(service_at(fixture, 1)->backends, 2);
	assert_string_equal(sync_warning(fixture->sync), "");
}

static void test_full_service_map_is_named(void **state)
{
	struct fixture *fixture = *state;
	struct errmsg err = { 0 };

	fixture->maps.capacity[MAP_SERVICE] = 1;
	SET(&fixture->store, 0, 1);
	SET(&fixture->store, 1, 2, 3);
	assert_int_equal(sync_services(fixture->sync, &err), -ENOSPC);
	assert_string_equal(err.text,
			    "service_map is full: 1 service entries did not fit (max-services)");
	assert_false(address_is_service(fixture, 1));
	trim(fixture);
	assert_int_equal(fake_map_count(&fixture->maps, MAP_BACKEND), 1);
	fixture->maps.capacity[MAP_SERVICE] = 2;
	sync_all(fixture);
	assert_int_equal(service_at(fixture, 1)->backends, 2);
	assert_true(address_is_service(fixture, 1));
}

static void test_address_of_a_pod_is_no_service(void **state)
{
	struct fixture *fixture = *state;
	struct compiled_address pod = { .identity = 55, .slot = 3 };
	struct compiled compiled = { .addresses = &pod, .address_count = 1 };
	struct errmsg err = { 0 };

	SET(&fixture->store, 0, 1);
	sync_all(fixture);
	pod.addr = fixture->store.services[0].frontend.addr;
	assert_int_equal(sync_apply(fixture->sync, &compiled, &err), 0);
	assert_true(fixture->sync->service_address_taken);
	assert_int_equal(sync_services(fixture->sync, &err), -EEXIST);
	assert_string_equal(err.text,
			    "Service shop/s0: its address 10.96.0.1 belongs to a pod or a node");
	assert_string_equal(sync_warning(fixture->sync), err.text);
	assert_null(service_at(fixture, 0));
	assert_int_equal(fake_map_count(&fixture->maps, MAP_IPCACHE), 1);

	/* The pod goes (the stub compiles an empty store): the service comes back by itself. */
	assert_int_equal(sync_policies(fixture->sync, &err), 0);
	assert_int_equal(service_at(fixture, 0)->backends, 1);
	assert_true(address_is_service(fixture, 0));
	assert_string_equal(sync_warning(fixture->sync), "");
}

static void test_an_external_address_is_never_a_nodes(void **state)
{
	static const enum service_kind refused[] = { CLUSTER_IP, EXTERNAL_IP };
	static const enum service_kind shared[] = { LOAD_BALANCER, NODE_PORT };
	struct fixture *fixture = *state;
	const struct ipcache_entry host = { .flags = IPCACHE_HOST };
	struct errmsg err = { 0 };
	struct addr addr;

	addr_parse("10.96.0.1", &addr);
	fixture->maps.changed = NULL;
	maps_set_batch(&fixture->maps, MAP_IPCACHE, &addr, &host, 1, NULL);
	restart(fixture);
	sync_set_missing(fixture->sync, NULL);
	SET(&fixture->store, 0, 1);
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		fixture->store.services[0].frontend.kind = refused[i];
		assert_int_equal(sync_services(fixture->sync, &err), -EEXIST);
		assert_null(service_at(fixture, 0));
		assert_int_equal(fixture->maps.node.node_port_max, 0);
	}
	/* A node has its own ports, and a balancer's may be at its address. */
	for (size_t i = 0; i < ARRAY_SIZE(shared); i++) {
		fixture->store.services[0].frontend.kind = shared[i];
		sync_all(fixture);
		assert_int_equal(service_at(fixture, 0)->kind, shared[i]);
		assert_int_equal(fixture->maps.node.node_port_min, 80);
		assert_int_equal(fixture->maps.node.node_port_max, 80);
		assert_false(address_is_service(fixture, 0));
	}
}

static void test_who_has_an_address_keeps_it(void **state)
{
	struct fixture *fixture = *state;
	struct errmsg err = { 0 };

	SET(&fixture->store, 5, 1);
	sync_all(fixture);
	SET(&fixture->store, 0, 2); /* comes first in the store */
	fixture->store.services[0].frontend.addr = fixture->store.services[5].frontend.addr;
	assert_int_equal(sync_service(fixture->sync, "shop", "s0", &err), -EEXIST);
	assert_string_equal(err.text,
			    "Service shop/s0: 10.96.0.6 port 80/TCP belongs to Service shop/s5");
	assert_int_equal(backend_at(fixture, 5, 0), 1);
	assert_int_equal(sync_services(fixture->sync, &err), -EEXIST);
	assert_int_equal(backend_at(fixture, 5, 0), 1);
	/* It does not ask for it any more. */
	fixture->store.services[5].present = false;
	sync_one(fixture, "s5");
	assert_int_equal(backend_at(fixture, 5, 0), 2);
	assert_string_equal(sync_warning(fixture->sync), "");
}

static void test_local_and_leaving_endpoints_have_their_places(void **state)
{
	static const uint8_t uses[] = { USE_CLUSTER | USE_LOCAL, USE_KEEP, USE_CLUSTER };
	struct fixture *fixture = *state;
	struct scripted_service *service = &fixture->store.services[0];
	struct backend_key key = { .index = BACKEND_LOCAL };

	SET(&fixture->store, 0, 1, 2, 3);
	for (size_t i = 0; i < ARRAY_SIZE(uses); i++)
		service->backends[i].use = uses[i];
	service->pool.cluster_count = 2;
	service->pool.local_count = 1;
	service->pool.keep_count = 1;
	service->object.service.internal_local = true;
	service->object.service.affinity_s = 60;
	sync_all(fixture);
	assert_int_equal(service_at(fixture, 0)->backends, 2);
	assert_int_equal(service_at(fixture, 0)->keeping, 1);
	assert_int_equal(service_at(fixture, 0)->local_backends, 1);
	assert_int_equal(service_at(fixture, 0)->affinity_s, 60);
	assert_int_equal(service_at(fixture, 0)->flags, SERVICE_LOCAL | SERVICE_HAS_ENDPOINTS);
	assert_int_equal(backend_at(fixture, 0, 2), 2);
	assert_int_equal(backend_at(fixture, 0, BACKEND_LOCAL), 1);
	/* The local one goes, and the leaving one is gone. */
	key.service_id = service_at(fixture, 0)->id;
	SET(&fixture->store, 0, 3);
	sync_one(fixture, "s0");
	trim(fixture);
	assert_int_equal(fake_map_count(&fixture->maps, MAP_BACKEND), 1);
	assert_null(fake_map_get(&fixture->maps, MAP_BACKEND, &key));
}

static void test_source_ranges_come_and_go(void **state)
{
	struct fixture *fixture = *state;
	struct scripted_service *service = &fixture->store.services[0];
	struct prefix ranges[2];

	assert_int_equal(prefix_parse("198.51.100.0/24", &ranges[0]), 0);
	assert_int_equal(prefix_parse("2001:db8::/32", &ranges[1]), 0);
	SET(&fixture->store, 0, 1);
	SET(&fixture->store, 1, 1);
	service->frontend.kind = LOAD_BALANCER;
	service->object.service.source_ranges = ranges;
	service->object.service.source_range_count = 2;
	sync_all(fixture);
	assert_int_equal(service_at(fixture, 0)->flags,
			 SERVICE_SOURCE_RANGES | SERVICE_HAS_ENDPOINTS);
	assert_int_equal(fake_map_count(&fixture->maps, MAP_SOURCE_RANGE), 1); /* of its family */
	sync_one(fixture, "s1");
	assert_int_equal(fake_map_count(&fixture->maps, MAP_SOURCE_RANGE), 1);
	service->object.service.source_range_count = 0;
	sync_one(fixture, "s0");
	assert_int_equal(service_at(fixture, 0)->flags, SERVICE_HAS_ENDPOINTS);
	assert_int_equal(fake_map_count(&fixture->maps, MAP_SOURCE_RANGE), 0);
}

static void test_random_changes_never_leave_a_gap(void **state)
{
	struct fixture *fixture = *state;
	unsigned int seed = 12345;

	for (int round = 0; round < 500; round++) {
		unsigned int backends[BACKENDS];
		size_t i = (size_t)rand_r(&seed) % 5, count = 0;
		char name[16];

		for (unsigned int b = 0; b < 12; b++) {
			if (rand_r(&seed) % 2)
				backends[count++] = b;
		}
		service_set(&fixture->store, i, backends, count);
		fixture->store.services[i].present = rand_r(&seed) % 8 != 0;
		snprintf(name, sizeof(name), "s%zu", i);
		fixture->maps.deletes = 0;
		sync_one(fixture, name);
		memset(&fixture->reader, 0, sizeof(fixture->reader));
		if (rand_r(&seed) % 4 == 0)
			trim(fixture);
		if (!fixture->store.services[i].present) {
			assert_null(service_at(fixture, i));
			continue;
		}
		assert_int_equal(service_at(fixture, i)->backends, count);
		for (size_t b = 0; b < count; b++) {
			bool found = false;

			for (uint32_t k = 0; k < count; k++)
				found |= backend_at(fixture, i, k) == backends[b];
			assert_true(found);
		}
	}
	for (size_t i = 0; i < 5; i++)
		fixture->store.services[i].present = false;
	sync_all(fixture);
	trim(fixture);
	assert_int_equal(fake_map_count(&fixture->maps, MAP_BACKEND), 0);
}

/* ---- what is gone ---------------------------------------------------------------------------- */

static bool is_gone_from(struct fixture *fixture, size_t i, unsigned int backend, uint8_t proto,
			 bool own_range)
{
	struct backend_user user = { .own_range = own_range,
				     .service = { .port = htons(80), .proto = proto },
				     .backend.port = htons(8080) };

	addr_parse("10.96.0.1", &user.service.addr);
	user.service.addr = addr_add(&user.service.addr, i);
	addr_parse("10.1.0.0", &user.backend.addr);
	user.backend.addr = addr_add(&user.backend.addr, backend);
	sync_find_gone(fixture->sync, &user, 1);
	return user.gone;
}

static bool is_gone(struct fixture *fixture, size_t i, unsigned int backend, uint8_t proto)
{
	return is_gone_from(fixture, i, backend, proto, true);
}

static void count_call(void *arg)
{
	++*(unsigned int *)arg;
}

static void test_a_maglev_table_comes_and_goes(void **state)
{
	struct fixture *fixture = *state;
	struct scripted_service *service = &fixture->store.services[0];
	unsigned int writes;

	SET(&fixture->store, 0, 1, 2, 3);
	service->frontend.kind = NODE_PORT;
	service->pool.table_size = 251;
	sync_all(fixture);
	assert_int_equal(service_at(fixture, 0)->table_size, 251);
	assert_int_equal(fake_map_count(&fixture->maps, MAP_BACKEND), 3 + 251);
	/* One of three goes: a third of the places change, and few others. */
	writes = fixture->maps.writes;
	SET(&fixture->store, 0, 1, 2);
	service->frontend.kind = NODE_PORT;
	service->pool.table_size = 251;
	sync_one(fixture, "s0");
	trim(fixture);
	assert_true(fixture->maps.writes - writes < 251 / 3 + 251 / 20);
	assert_int_equal(fake_map_count(&fixture->maps, MAP_BACKEND), 2 + 251);
	service->pool.table_size = 0;
	sync_one(fixture, "s0");
	trim(fixture);
	assert_int_equal(service_at(fixture, 0)->table_size, 0);
	assert_int_equal(fake_map_count(&fixture->maps, MAP_BACKEND), 2);
}

static void test_a_backend_is_gone_once_nobody_lists_it(void **state)
{
	struct fixture *fixture = *state;
	unsigned int losses = 0;

	sync_on_losses(fixture->sync, count_call, &losses);
	SET(&fixture->store, 0, 1, 2);
	sync_all(fixture);
	losses = 0;
	SET(&fixture->store, 0, 1, 2, 3);
	sync_one(fixture, "s0");
	assert_int_equal(losses, 0);
	assert_false(is_gone(fixture, 0, 2, IPPROTO_TCP));
	assert_true(is_gone(fixture, 0, 7, IPPROTO_TCP));
	/* Listed, but not ready. */
	fixture->store.services[0].backends[1].use = 0;
	fixture->store.services[0].pool.cluster_count = 2;
	sync_one(fixture, "s0");
	assert_int_equal(losses, 1);
	assert_false(is_gone(fixture, 0, 2, IPPROTO_TCP));
	/* No longer listed, which changes nothing in the maps. */
	SET(&fixture->store, 0, 1, 3);
	sync_one(fixture, "s0");
	assert_int_equal(losses, 2);
	assert_true(is_gone(fixture, 0, 2, IPPROTO_TCP));
	/* Without its service nobody knows. */
	fixture->store.services[0].present = false;
	sync_one(fixture, "s0");
	assert_false(is_gone(fixture, 0, 2, IPPROTO_TCP));
}

static void test_a_backend_whose_address_is_a_pods_is_not_gone(void **state)
{
	const struct ipcache_entry pod = { .identity = 100 };
	struct fixture *fixture = *state;
	struct addr addr;

	SET(&fixture->store, 0, 1);
	sync_all(fixture);
	addr_parse("10.1.0.7", &addr);
	map_cache_begin(&fixture->sync->ipcache);
	map_cache_set(&fixture->sync->ipcache, &addr, &pod);
	assert_int_equal(map_cache_flush(&fixture->sync->ipcache), 0);
	assert_false(is_gone(fixture, 0, 7, IPPROTO_TCP));
	assert_true(is_gone(fixture, 0, 8, IPPROTO_TCP));
}

/* Users of many services, in no order. */
static void test_each_user_is_judged_by_its_own_service(void **state)
{
	static struct backend_user users[4 * SERVICES];
	struct fixture *fixture = *state;

	fixture->maps.changed = NULL;
	for (size_t i = 0; i < SERVICES; i++) {
		SET(&fixture->store, i, 1, (unsigned int)i + 2);
		fixture->store.services[i].backends[1].use = 0; /* listed, in no map */
		fixture->store.services[i].pool.cluster_count = 1;
	}
	sync_all(fixture);
	for (size_t i = 0; i < ARRAY_SIZE(users); i++) {
		size_t service = i * 7 % SERVICES;
		/* Every other one has a backend of the next service. */
		size_t backend = service + 2 + i / SERVICES % 2;

		users[i] = (struct backend_user){
			.service = { .port = htons(80), .proto = IPPROTO_TCP },
			.backend.port = htons(8080),
			.own_range = true,
		};
		addr_parse("10.96.0.1", &users[i].service.addr);
		users[i].service.addr = addr_add(&users[i].service.addr, service);
		addr_parse("10.1.0.0", &users[i].backend.addr);
		users[i].backend.addr = addr_add(&users[i].backend.addr, backend);
	}
	sync_find_gone(fixture->sync, users, ARRAY_SIZE(users));
	for (size_t i = 0; i < ARRAY_SIZE(users); i++)
		assert_int_equal(users[i].gone, i / SERVICES % 2);
}

/* Most pods of other nodes are unknown, and nobody outside is known. */
static void test_a_backend_of_another_node_is_gone_only_where_all_pods_are_known(void **state)
{
	struct fixture *fixture = *state;
	struct object *node = object_new(OBJECT_NODE);
	unsigned int losses = 0;

	SET(&fixture->store, 0, 1);
	fixture->store.node = node;
	node->node.pod_cidrs = calloc(2, sizeof(*node->node.pod_cidrs));
	node->node.pod_cidr_count = 2;
	prefix_parse("10.2.0.0/24", &node->node.pod_cidrs[0]);
	prefix_parse("10.1.0.0/28", &node->node.pod_cidrs[1]);
	sync_all(fixture);
	sync_on_losses(fixture->sync, count_call, &losses);
	assert_false(is_gone_from(fixture, 0, 7, IPPROTO_TCP, false));
	assert_true(is_gone_from(fixture, 0, 7, IPPROTO_UDP, false));
	sync_set_all_pods(fixture->sync, true);
	sync_all(fixture);
	assert_int_equal(losses, 1);
	assert_true(is_gone_from(fixture, 0, 7, IPPROTO_TCP, false));
	assert_false(is_gone_from(fixture, 0, 16, IPPROTO_TCP, false)); /* in no pod CIDR */
	assert_true(is_gone_from(fixture, 0, 256 * 256 + 255, IPPROTO_TCP, false));
	assert_false(is_gone_from(fixture, 0, 256 * 256 + 256, IPPROTO_TCP, false));
	sync_set_all_pods(fixture->sync, false);
	assert_false(is_gone_from(fixture, 0, 7, IPPROTO_TCP, false));
	fixture->store.node = NULL;
	object_free(node);
}

static void test_a_half_known_store_ends_nothing(void **state)
{
	struct fixture *fixture = *state;

	SET(&fixture->store, 0, 1);
	sync_all(fixture);
	sync_set_missing(fixture->sync, "a source");
	assert_false(is_gone(fixture, 0, 7, IPPROTO_TCP));
	sync_set_missing(fixture->sync, NULL);
	assert_true(is_gone(fixture, 0, 7, IPPROTO_TCP));
}

#define CASE(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

/* ---- counting -------------------------------------------------------------------------------- */

/* As the programs do for each connection. */
static void use(struct fixture *fixture, size_t i, uint32_t index, uint32_t connections)
{
	struct backend_key key = { .service_id = service_at(fixture, i)->id, .index = index };
	struct backend_entry *entry = table_find(&fixture->maps.maps[MAP_BACKEND], &key);

	assert_non_null(entry);
	entry->connections += connections;
}

static struct service_count count_of(struct fixture *fixture, const char *name)
{
	struct service_counts *counts = sync_counts_new(fixture->sync);
	struct service_count count = sync_counts_service(counts, "shop", name);

	sync_counts_free(counts);
	return count;
}

static struct service_count backend_count_of(struct fixture *fixture, size_t i, unsigned int last)
{
	struct service_counts *counts = sync_counts_new(fixture->sync);
	struct service_key key = { .port = htons(80), .proto = IPPROTO_TCP };
	struct backend backend = { .port = htons(8080) };
	struct service_count count;

	addr_parse("10.96.0.1", &key.addr);
	key.addr = addr_add(&key.addr, i);
	addr_parse("10.1.0.0", &backend.addr);
	backend.addr = addr_add(&backend.addr, last);
	count = sync_counts_backend(counts, &key, &backend);
	sync_counts_free(counts);
	return count;
}

static void test_counts_outlive_backends(void **state)
{
	struct fixture *fixture = *state;

	SET(&fixture->store, 0, 1, 2);
	sync_all(fixture);
	use(fixture, 0, 0, 5);
	use(fixture, 0, 1, 7);
	assert_int_equal(count_of(fixture, "s0").connections, 12);
	assert_int_equal(backend_count_of(fixture, 0, 2).connections, 7);
	SET(&fixture->store, 0, 3); /* one entry changes, the other one goes */
	sync_one(fixture, "s0");
	trim(fixture);
	assert_int_equal(count_of(fixture, "s0").connections, 12);
	assert_int_equal(backend_count_of(fixture, 0, 3).connections, 0);
	SET(&fixture->store, 0, 2); /* it comes back, with what it had */
	sync_one(fixture, "s0");
	assert_int_equal(backend_count_of(fixture, 0, 2).connections, 7);
	fixture->store.services[0].present = false;
	sync_all(fixture);
	assert_int_equal(count_of(fixture, "s0").connections, 0);
}

static void test_counts_in_the_maps_outlive_the_agent(void **state)
{
	struct fixture *fixture = *state;
	unsigned int writes;

	SET(&fixture->store, 0, 1, 2);
	sync_all(fixture);
	use(fixture, 0, 1, 7);
	restart(fixture);
	sync_set_missing(fixture->sync, NULL);
	writes = fixture->maps.writes;
	sync_all(fixture);
	assert_int_equal(fixture->maps.writes, writes);
	assert_int_equal(count_of(fixture, "s0").connections, 7);
}

static void test_bytes_of_closed_connections_are_added(void **state)
{
	struct fixture *fixture = *state;
	struct service_key key = { .port = htons(80), .proto = IPPROTO_TCP };
	struct backend backend = { .port = htons(8080) };

	SET(&fixture->store, 0, 1, 2);
	sync_all(fixture);
	addr_parse("10.96.0.1", &key.addr);
	addr_parse("10.1.0.2", &backend.addr);
	sync_count_bytes(fixture->sync, &key, &backend, 1000);
	sync_count_bytes(fixture->sync, &key, &backend, 24);
	key.port = htons(81); /* nobody's */
	sync_count_bytes(fixture->sync, &key, &backend, 5);
	assert_int_equal(count_of(fixture, "s0").bytes, 1024);
	assert_int_equal(backend_count_of(fixture, 0, 2).bytes, 1024);
	assert_int_equal(backend_count_of(fixture, 0, 1).bytes, 0);
}

/* Backends that come and go for months cost no memory. */
static void test_counts_of_backends_that_are_gone_are_summed_up(void **state)
{
	struct fixture *fixture = *state;

	fixture->maps.changed = NULL;
	for (unsigned int i = 0; i < 5000; i++) {
		SET(&fixture->store, 0, i + 1);
		sync_all(fixture);
		use(fixture, 0, 0, 1);
		assert_in_range(fixture->sync->counted.count, 0, 1026);
	}
	assert_int_equal(count_of(fixture, "s0").connections, 5000);
}

struct told {
	unsigned int named;
	uint64_t connections;
	uint64_t others;
};

static void tell(const char *namespace, const char *name, const struct service_count *count,
		 void *arg)
{
	struct told *told = arg;

	assert_true(!namespace == !name);
	told->connections += count->connections;
	told->named += name != NULL;
	if (!name)
		told->others = count->connections;
}

static void test_metrics_name_a_bounded_number_of_services(void **state)
{
	struct fixture *fixture = *state;
	struct service_counts *counts;
	struct told told = { 0 };

	fixture->maps.changed = NULL;
	for (size_t i = 0; i < SERVICES; i++)
		SET(&fixture->store, i, 1);
	sync_all(fixture);
	for (size_t i = 0; i < SERVICES; i++)
		use(fixture, i, 0, 2);
	counts = sync_counts_new(fixture->sync);
	sync_counts_each(counts, tell, &told);
	sync_counts_free(counts);
	assert_int_equal(told.named, SERVICE_SERIES_MAX);
	assert_int_equal(told.connections, 2 * SERVICES);
	assert_int_equal(told.others, 2 * (SERVICES - SERVICE_SERIES_MAX));
	/* Services that are gone make room. */
	for (size_t i = 0; i < SERVICES; i++)
		fixture->store.services[i].present = i % 2;
	sync_all(fixture);
	told = (struct told){ 0 };
	counts = sync_counts_new(fixture->sync);
	sync_counts_each(counts, tell, &told);
	sync_counts_free(counts);
	assert_int_equal(told.named, SERVICES / 2);
	assert_int_equal(told.others, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_service_appears_with_its_backends),
		CASE(test_staying_backends_keep_their_index),
		CASE(test_shrinking_retires_the_tail_later),
		CASE(test_regrown_service_keeps_what_was_retired),
		CASE(test_service_without_endpoints_stays_known),
		CASE(test_deleted_service_leaves_nothing),
		CASE(test_renamed_service_takes_its_address_along),
		CASE(test_restart_keeps_ids_and_writes_nothing),
		CASE(test_leftovers_of_a_killed_agent_go),
		CASE(test_half_known_store_takes_nothing_away),
		CASE(test_full_backend_map_is_named_and_retried),
		CASE(test_counts_outlive_backends),
		CASE(test_counts_in_the_maps_outlive_the_agent),
		CASE(test_bytes_of_closed_connections_are_added),
		CASE(test_counts_of_backends_that_are_gone_are_summed_up),
		CASE(test_metrics_name_a_bounded_number_of_services),
		CASE(test_full_service_map_is_named),
		CASE(test_address_of_a_pod_is_no_service),
		CASE(test_an_external_address_is_never_a_nodes),
		CASE(test_who_has_an_address_keeps_it),
		CASE(test_local_and_leaving_endpoints_have_their_places),
		CASE(test_source_ranges_come_and_go),
		CASE(test_random_changes_never_leave_a_gap),
		CASE(test_a_maglev_table_comes_and_goes),
		CASE(test_a_backend_is_gone_once_nobody_lists_it),
		CASE(test_each_user_is_judged_by_its_own_service),
		CASE(test_a_backend_whose_address_is_a_pods_is_not_gone),
		CASE(test_a_backend_of_another_node_is_gone_only_where_all_pods_are_known),
		CASE(test_a_half_known_store_ends_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
