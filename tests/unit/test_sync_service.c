/* SPDX-License-Identifier: Apache-2.0 */
/* Which services and backends are in the maps while objects change. */
#include <errno.h>

#include "unit/services_fixture.h"

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

static void conflict_keep(const struct service_conflict *conflict, void *arg)
{
	snprintf(arg, 200, "%s %s/%s: %s", conflict->kind, conflict->namespace, conflict->name,
		 conflict->text);
}

static void test_who_has_an_address_keeps_it(void **state)
{
	struct fixture *fixture = *state;
	struct errmsg err = { 0 };
	char told[200] = "";

	sync_on_conflicts(fixture->sync, conflict_keep, told);
	SET(&fixture->store, 5, 1);
	sync_all(fixture);
	SET(&fixture->store, 0, 2); /* comes first in the store */
	fixture->store.services[0].frontend.addr = fixture->store.services[5].frontend.addr;
	assert_int_equal(sync_service(fixture->sync, "shop", "s0", &err), -EEXIST);
	assert_string_equal(err.text,
			    "Service shop/s0: 10.96.0.6 port 80/TCP belongs to Service shop/s5");
	assert_string_equal(told, "Service shop/s0: Service shop/s0: 10.96.0.6 port 80/TCP belongs "
				  "to Service shop/s5");
	assert_int_equal(backend_at(fixture, 5, 0), 1);
	assert_int_equal(sync_services(fixture->sync, &err), -EEXIST);
	assert_int_equal(backend_at(fixture, 5, 0), 1);
	/* It does not ask for it any more. */
	fixture->store.services[5].present = false;
	sync_one(fixture, "s5");
	assert_int_equal(backend_at(fixture, 5, 0), 2);
	assert_string_equal(sync_warning(fixture->sync), "");
}

/* s5 and s0 come in one piece of work, with an address that nobody has, or that s3 gives up. */
static void two_come_for_one_address(struct fixture *fixture)
{
	const size_t both[] = { 0, 5 };
	struct errmsg err = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(both); i++) {
		SET(&fixture->store, both[i], (uint16_t)both[i] + 1);
		addr_parse("10.96.0.4", &fixture->store.services[both[i]].frontend.addr);
	}
	assert_int_equal(sync_services(fixture->sync, &err), -EEXIST);
	assert_string_equal(err.text,
			    "Service shop/s5: 10.96.0.4 port 80/TCP belongs to Service shop/s0");
	assert_int_equal(backend_at(fixture, 3, 0), 1);
	assert_int_equal(fake_map_count(&fixture->maps, MAP_SERVICE), 1);
	fixture->store.services[0].present = false;
	sync_one(fixture, "s0");
	assert_int_equal(backend_at(fixture, 3, 0), 6);
	assert_string_equal(sync_warning(fixture->sync), "");
	fixture->store.services[5].present = false;
	sync_one(fixture, "s5");
	trim(fixture);
	assert_int_equal(fake_map_count(&fixture->maps, MAP_SERVICE), 0);
	assert_int_equal(fake_map_count(&fixture->maps, MAP_BACKEND), 0);
	assert_int_equal(fake_map_count(&fixture->maps, MAP_IPCACHE), 0);
}

static void test_of_two_that_come_together_one_has_the_address(void **state)
{
	struct fixture *fixture = *state;

	two_come_for_one_address(fixture);
	SET(&fixture->store, 3, 9);
	sync_all(fixture);
	fixture->store.services[3].present = false;
	two_come_for_one_address(fixture);
}

/* Otherwise one wrong service would make each change cost as much as all services. */
static void test_while_one_waits_for_an_address_others_change_alone(void **state)
{
	struct fixture *fixture = *state;
	struct errmsg err = { 0 };
	unsigned int before;

	SET(&fixture->store, 5, 1);
	SET(&fixture->store, 6, 1);
	sync_all(fixture);
	SET(&fixture->store, 0, 2);
	fixture->store.services[0].frontend.addr = fixture->store.services[5].frontend.addr;
	assert_int_equal(sync_service(fixture->sync, "shop", "s0", &err), -EEXIST);
	before = fixture->store.services[5].looked_at;
	for (uint16_t port = 2; port < 6; port++) {
		SET(&fixture->store, 6, port);
		assert_int_equal(sync_service(fixture->sync, "shop", "s6", &err), -EEXIST);
		assert_int_equal(backend_at(fixture, 6, 0), port);
	}
	assert_int_equal(fixture->store.services[5].looked_at, before);
	/* Whoever gives an address up lets the other have it at once. */
	fixture->store.services[5].present = false;
	sync_one(fixture, "s5");
	assert_int_equal(backend_at(fixture, 5, 0), 2);
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
		CASE(test_full_service_map_is_named),
		CASE(test_address_of_a_pod_is_no_service),
		CASE(test_an_external_address_is_never_a_nodes),
		CASE(test_who_has_an_address_keeps_it),
		CASE(test_of_two_that_come_together_one_has_the_address),
		CASE(test_while_one_waits_for_an_address_others_change_alone),
		CASE(test_local_and_leaving_endpoints_have_their_places),
		CASE(test_source_ranges_come_and_go),
		CASE(test_random_changes_never_leave_a_gap),
		CASE(test_a_maglev_table_comes_and_goes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
