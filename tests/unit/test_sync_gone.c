/* SPDX-License-Identifier: Apache-2.0 */
/* Which backends of open connections are gone, as far as the documents tell. */
#include "unit/services_fixture.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_a_backend_is_gone_once_nobody_lists_it),
		CASE(test_each_user_is_judged_by_its_own_service),
		CASE(test_a_backend_whose_address_is_a_pods_is_not_gone),
		CASE(test_a_backend_of_another_node_is_gone_only_where_all_pods_are_known),
		CASE(test_a_half_known_store_ends_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
