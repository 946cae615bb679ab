/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What tests of service sync share: maps in memory, and a store of services whose frontends the
 * test sets.  After every single write a reader looks at the maps as a program would, between its
 * look-up of the service and that of the backend too.
 */
#ifndef TENDRIL_TESTS_UNIT_SERVICES_FIXTURE_H
#define TENDRIL_TESTS_UNIT_SERVICES_FIXTURE_H

#include <arpa/inet.h>
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

/* ---- stubs: a store of services whose frontends the test sets ----------------------------- */

#define SERVICES 300
#define BACKENDS 40

struct scripted_service {
	struct object object;
	char name[16];
	struct service_port port;
	struct service_frontend frontend;
	struct service_pool pool;
	struct service_backend backends[BACKENDS];
	unsigned int looked_at; /* how often */
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
	scripted->looked_at++;
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

static inline const struct object *service_from(const struct store *store, size_t i)
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

static inline void service_set(struct store *store, size_t i, const unsigned int *backends,
			       size_t count)
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

static inline void reader_check(struct datapath *maps, void *arg)
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

static inline int setup(void **state)
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

static inline int teardown(void **state)
{
	struct fixture *fixture = *state;

	sync_free(fixture->sync);
	fake_maps_done(&fixture->maps);
	free(fixture);
	return 0;
}

static inline void restart(struct fixture *fixture)
{
	sync_free(fixture->sync);
	assert_int_equal(sync_new(NULL, &fixture->maps, &fixture->store, &fixture->sync, NULL), 0);
}

static inline void sync_all(struct fixture *fixture)
{
	struct errmsg err = { 0 };

	if (sync_services(fixture->sync, &err))
		fail_msg("sync_services: %s", err.text);
}

static inline void sync_one(struct fixture *fixture, const char *name)
{
	struct errmsg err = { 0 };

	if (sync_service(fixture->sync, "shop", name, &err))
		fail_msg("sync_service: %s", err.text);
}

/* As the timer does when nobody can hold an old count any more. */
static inline void trim(struct fixture *fixture)
{
	memset(&fixture->reader, 0, sizeof(fixture->reader));
	assert_int_equal(sync_trim(fixture->sync), 0);
}

static inline const struct service *service_at(const struct fixture *fixture, size_t i)
{
	struct service_key key = { .port = htons(80), .proto = IPPROTO_TCP };

	addr_parse("10.96.0.1", &key.addr);
	key.addr = addr_add(&key.addr, i);
	return fake_map_get(&fixture->maps, MAP_SERVICE, &key);
}

#define CASE(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

#endif
