/* SPDX-License-Identifier: Apache-2.0 */
/* Connections and bytes of services and backends, which outlive both backends and agent. */
#include "unit/services_fixture.h"

#define SERIES 256 /* the default */

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
	struct service_counts *alone = sync_counts_of(fixture->sync, "shop", name);
	struct service_count count = sync_counts_service(counts, "shop", name);
	struct service_count same = sync_counts_service(alone, "shop", name);

	assert_memory_equal(&same, &count, sizeof(count));
	sync_counts_free(alone);
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

/* So many that the map is read as a whole; those that stay are not counted twice. */
static void test_counts_outlive_many_backends_at_once(void **state)
{
	struct fixture *fixture = *state;
	char name[16];

	fixture->maps.changed = NULL;
	for (size_t i = 0; i < SERVICES; i++)
		SET(&fixture->store, i, 1, 2, 3, 4, 5, 6);
	sync_all(fixture);
	for (size_t i = 0; i < SERVICES; i++) {
		for (uint32_t index = 0; index < 6; index++)
			use(fixture, i, index, (uint32_t)i + index);
		SET(&fixture->store, i, 1);
	}
	sync_all(fixture);
	for (int trimmed = 0; trimmed < 2; trimmed++) {
		for (size_t i = 0; i < SERVICES; i++) {
			snprintf(name, sizeof(name), "s%zu", i);
			assert_int_equal(count_of(fixture, name).connections, 6 * i + 15);
		}
		trim(fixture);
	}
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
	assert_int_equal(told.named, SERIES);
	assert_int_equal(told.connections, 2 * SERVICES);
	assert_int_equal(told.others, 2 * (SERVICES - SERIES));
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

struct told_backends {
	unsigned int named;
	uint64_t connections;
	uint64_t others;
	uint64_t most; /* of one backend */
};

static void tell_backend(const char *namespace, const char *name, const struct backend *backend,
			 const struct service_count *count, void *arg)
{
	struct told_backends *told = arg;

	assert_true(!namespace == !backend && !name == !backend);
	told->connections += count->connections;
	told->named += backend != NULL;
	if (!backend)
		told->others = count->connections;
	else if (count->connections > told->most)
		told->most = count->connections;
}

static struct told_backends backends_told(struct fixture *fixture)
{
	struct service_counts *counts = sync_counts_new(fixture->sync);
	struct told_backends told = { 0 };

	sync_counts_each_backend(counts, tell_backend, &told);
	sync_counts_free(counts);
	return told;
}

static void test_metrics_name_a_bounded_number_of_backends(void **state)
{
	struct fixture *fixture = *state;
	struct told_backends told;

	fixture->maps.changed = NULL;
	for (size_t i = 0; i < 4; i++)
		SET(&fixture->store, i, (unsigned int)i + 1);
	sync_all(fixture);
	for (size_t i = 0; i < 4; i++)
		use(fixture, i, 0, 2 + i);
	told = backends_told(fixture);
	assert_int_equal(told.named + told.connections, 0); /* nobody wants them */
	sync_limit_series(fixture->sync, 16, 3);
	told = backends_told(fixture);
	assert_int_equal(told.named, 3);
	assert_int_equal(told.connections, 2 + 3 + 4 + 5);
	assert_true(told.others >= 2 && told.others <= 5);
	sync_limit_series(fixture->sync, 16, 16);
	told = backends_told(fixture);
	assert_int_equal(told.named, 4);
	assert_int_equal(told.others, 0);
	assert_int_equal(told.most, 5);
	/* Those of services without series have none either; those that are gone make room. */
	for (size_t i = 0; i < 3; i++)
		fixture->store.services[i].present = false;
	sync_all(fixture);
	told = backends_told(fixture);
	assert_int_equal(told.named, 1);
	assert_int_equal(told.connections, 5);
	assert_int_equal(fixture->sync->backend_series.count, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_counts_outlive_backends),
		CASE(test_counts_in_the_maps_outlive_the_agent),
		CASE(test_bytes_of_closed_connections_are_added),
		CASE(test_counts_of_backends_that_are_gone_are_summed_up),
		CASE(test_counts_outlive_many_backends_at_once),
		CASE(test_metrics_name_a_bounded_number_of_services),
		CASE(test_metrics_name_a_bounded_number_of_backends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
