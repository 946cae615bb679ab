/* SPDX-License-Identifier: Apache-2.0 */
/* The store of objects: order, replacement, who owns an address, what contradicts. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/auto.h"
#include "unit/stores.h"

#include <cmocka.h> /* last: it makes fail a macro */

static struct object *object_of(const char *text)
{
	struct problems problems = { 0 };
	struct object_list list;
	struct object *object;

	assert_int_equal(objects_parse(text, strlen(text), 0, &list, &problems), 0);
	assert_int_equal(list.count, 1);
	object = take_ptr(list.items[0]);
	object_list_done(&list);
	return object;
}

static struct object *pod_of(const char *namespace, const char *name, const char *status)
{
	char text[300];

	snprintf(text, sizeof(text),
		 "apiVersion: v1\nkind: Pod\nmetadata: {namespace: %s, name: %s}\nstatus: {%s}\n",
		 namespace, name, status);
	return object_of(text);
}

static struct addr addr_of(const char *text)
{
	struct addr addr;

	assert_int_equal(addr_parse(text, &addr), 0);
	return addr;
}

static void put(struct store *store, struct object *object)
{
	struct errmsg err = { 0 };

	if (store_put(store, object, &err) < 0)
		fail_msg("%s", err.text);
}

static void test_walk_is_in_order_of_namespace_and_name(void **state)
{
	static const char *const names[][2] = {
		{ "b", "x" }, { "a", "z" }, { "c", "a" },
		{ "a", "w" }, { "b", "a" }, { "a-b", "m" },
	};
	struct store *store = store_new();
	const struct object *const *range;
	const struct object *object;
	char walked[100] = "";

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		put(store, pod_of(names[i][0], names[i][1], ""));
	for (object = store_first(store, OBJECT_POD); object; object = store_next(store, object)) {
		size_t used = strlen(walked);

		snprintf(walked + used, sizeof(walked) - used, "%s/%s ", object->namespace,
			 object->name);
	}
	assert_string_equal(walked, "a/w a/z a-b/m b/a b/x c/a ");
	assert_int_equal(store_count(store, OBJECT_POD), 6);
	assert_int_equal(store_range(store, OBJECT_POD, "a", &range), 2);
	assert_string_equal(range[1]->name, "z");
	assert_int_equal(store_range(store, OBJECT_POD, "none", &range), 0);
	assert_null(store_first(store, OBJECT_NODE));
	store_free(store);
}

static void test_put_replaces_and_del_removes(void **state)
{
	struct store *store = store_new();
	struct addr first = addr_of("10.0.0.1");
	struct addr second = addr_of("10.0.0.2");

	(void)state;
	put(store, pod_of("shop", "a", "podIP: 10.0.0.1"));
	put(store, pod_of("shop", "a", "podIP: 10.0.0.2"));
	assert_int_equal(store_count(store, OBJECT_POD), 1);
	assert_null(store_owner(store, &first));
	assert_ptr_equal(store_owner(store, &second), store_find(store, OBJECT_POD, "shop", "a"));
	assert_int_equal(store_del(store, OBJECT_POD, "shop", "b"), -ENOENT);
	assert_int_equal(store_del(store, OBJECT_SERVICE, "shop", "a"), -ENOENT);
	assert_int_equal(store_del(store, OBJECT_POD, "shop", "a"), 0);
	assert_null(store_owner(store, &second));
	assert_int_equal(store_count(store, OBJECT_POD), 0);
	store_free(store);
}

static void test_two_owners_of_one_address_contradict(void **state)
{
	struct store *store = store_new();
	struct errmsg err = { 0 };

	(void)state;
	put(store, pod_of("shop", "a", "podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]"));
	assert_int_equal(store_put(store,
				   pod_of("bank", "b",
					  "podIPs: [{ip: 10.0.0.2}, {ip: "
					  "'fd00::1'}]"),
				   &err),
			 -EEXIST);
	assert_string_equal(err.text, "Pod bank/b and Pod shop/a both have fd00::1");
	assert_int_equal(store_count(store, OBJECT_POD), 1);
	assert_int_equal(store_put(store,
				   object_of("apiVersion: v1\nkind: Service\nmetadata: {name: s}\n"
					     "spec: {clusterIP: 10.0.0.1}\n"),
				   &err),
			 -EEXIST);
	assert_string_equal(err.text, "Service default/s and Pod shop/a both have 10.0.0.1");
	/* The object itself may keep its address when it is replaced. */
	put(store, pod_of("shop", "a", "podIP: 10.0.0.1"));
	/* A refused replacement leaves the old object and its address. */
	put(store, pod_of("bank", "b", "podIP: 10.0.0.2"));
	assert_int_equal(store_put(store, pod_of("bank", "b", "podIP: 10.0.0.1"), &err), -EEXIST);
	struct addr kept = addr_of("10.0.0.2");
	assert_string_equal(store_owner(store, &kept)->name, "b");
	store_free(store);
}

#define DELETED "deletionTimestamp: '2026-01-02T00:00:00Z'"

static struct object *pod_with(const char *name, const char *metadata)
{
	char text[400];

	snprintf(text, sizeof(text),
		 "apiVersion: v1\nkind: Pod\nmetadata: {name: %s, namespace: shop%s%s}\n"
		 "status: {phase: Running, podIP: 10.0.0.1}\n",
		 name, *metadata ? ", " : "", metadata);
	return object_of(text);
}

static const char *owner_name(const struct store *store)
{
	struct addr addr = addr_of("10.0.0.1");
	const struct object *owner = store_owner(store, &addr);

	return owner ? owner->name : "";
}

/* A runtime may give an address to a new pod before the object of the old one is gone. */
static void test_address_of_a_pod_that_is_being_deleted_goes_to_the_next(void **state)
{
	(void)state;
	for (int order = 0; order < 2; order++) {
		struct store *store = store_new();

		put(store, order ? pod_with("new", "") : pod_with("old", DELETED));
		put(store, order ? pod_with("old", DELETED) : pod_with("new", ""));
		assert_string_equal(owner_name(store), "new");
		/* Replaced, the new one keeps it; gone, the old one has it again. */
		put(store, pod_with("new", "labels: {app: b}"));
		assert_string_equal(owner_name(store), "new");
		assert_int_equal(store_del(store, OBJECT_POD, "shop", "new"), 0);
		assert_string_equal(owner_name(store), "old");
		assert_int_equal(store_del(store, OBJECT_POD, "shop", "old"), 0);
		assert_string_equal(owner_name(store), "");
		store_free(store);
	}
}

static void test_of_two_pods_being_deleted_the_younger_has_the_address(void **state)
{
	struct store *store = store_new();
	struct errmsg err = { 0 };

	(void)state;
	put(store, pod_with("b", DELETED ", creationTimestamp: '2026-01-01T00:00:00Z'"));
	put(store, pod_with("c", DELETED ", creationTimestamp: '2026-01-01T00:00:01Z'"));
	put(store, pod_with("a", DELETED));
	assert_string_equal(owner_name(store), "c");
	put(store, pod_with("d", ""));
	assert_string_equal(owner_name(store), "d");
	/* Two that stay are a contradiction, as ever. */
	assert_int_equal(store_put(store, pod_with("e", ""), &err), -EEXIST);
	assert_string_equal(err.text, "Pod shop/e and Pod shop/d both have 10.0.0.1");
	assert_int_equal(store_put(store, pod_with("a", ""), &err), -EEXIST);
	put(store, pod_with("d", DELETED));
	assert_string_equal(owner_name(store), "c");
	store_free(store);
}

static void test_host_network_and_terminated_pods_own_nothing(void **state)
{
	struct store *store = store_new();
	struct addr addr = addr_of("10.0.0.1");

	(void)state;
	put(store, pod_of("shop", "done", "phase: Succeeded, podIP: 10.0.0.1"));
	put(store, pod_of("shop", "failed", "phase: Failed, podIP: 10.0.0.1"));
	put(store,
	    object_of("apiVersion: v1\nkind: Pod\nmetadata: {name: host}\nspec: {hostNetwork: "
		      "true}\nstatus: {podIP: 10.0.0.1}\n"));
	assert_null(store_owner(store, &addr));
	put(store, pod_of("shop", "new", "podIP: 10.0.0.1"));
	assert_string_equal(store_owner(store, &addr)->name, "new");
	/* A pod that terminates gives its address back. */
	put(store, pod_of("shop", "new", "phase: Succeeded, podIP: 10.0.0.1"));
	assert_null(store_owner(store, &addr));
	store_free(store);
}

static struct object *slice_of(const char *name, const char *service)
{
	char text[300];

	snprintf(
		text, sizeof(text),
		"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n"
		"metadata: {namespace: shop, name: %s, labels: {kubernetes.io/service-name: %s}}\n",
		name, service);
	return object_of(text);
}

static void test_slices_are_found_by_their_service(void **state)
{
	struct store *store = store_new();
	const struct object *const *slices;

	(void)state;
	put(store, slice_of("c", "cart"));
	put(store, slice_of("a", "web"));
	put(store, slice_of("b", "cart"));
	assert_int_equal(store_slices(store, "shop", "cart", &slices), 2);
	assert_string_equal(slices[0]->name, "b");
	assert_string_equal(slices[1]->name, "c");
	/* A slice may change sides. */
	put(store, slice_of("c", "web"));
	assert_int_equal(store_slices(store, "shop", "cart", &slices), 1);
	assert_int_equal(store_slices(store, "shop", "web", &slices), 2);
	assert_int_equal(store_del(store, OBJECT_ENDPOINT_SLICE, "shop", "a"), 0);
	assert_int_equal(store_slices(store, "shop", "web", &slices), 1);
	assert_int_equal(store_slices(store, "bank", "web", &slices), 0);
	store_free(store);
}

static void test_taken_objects_are_the_callers(void **state)
{
	struct store *store = store_new();
	struct object *object;

	(void)state;
	put(store, pod_of("shop", "a", "podIP: 10.0.0.1"));
	object = store_take(store, OBJECT_POD, "shop", "a");
	assert_non_null(object);
	assert_null(store_take(store, OBJECT_POD, "shop", "a"));
	put(store, object);
	assert_int_equal(store_count(store, OBJECT_POD), 1);
	store_free(store);
}

static void test_endpoints_are_copied_and_sorted_by_slot(void **state)
{
	struct store *store = store_new();
	struct label labels[] = { { (char *)"z", (char *)"1" }, { (char *)"a", (char *)"2" } };
	struct store_endpoint endpoint = { .slot = 9,
					   .namespace = (char *)"shop",
					   .name = (char *)"x",
					   .labels = { .items = labels, .count = 2 } };
	const struct store_endpoint *all;

	(void)state;
	store_endpoint_set(store, &endpoint);
	endpoint.slot = 3;
	store_endpoint_set(store, &endpoint);
	endpoint.name = (char *)"y";
	store_endpoint_set(store, &endpoint);
	assert_int_equal(store_endpoints(store, &all), 2);
	assert_int_equal(all[0].slot, 3);
	assert_string_equal(all[0].name, "y");
	assert_string_equal(all[0].labels.items[0].key, "a");
	assert_ptr_not_equal(all[0].labels.items, labels);
	assert_string_equal(store_endpoint_find(store, 9)->name, "x");
	assert_null(store_endpoint_find(store, 4));
	store_endpoint_del(store, 3);
	store_endpoint_del(store, 3);
	assert_int_equal(store_endpoints(store, &all), 1);
	store_free(store);
}

static void test_pod_speaks_for_an_endpoint_of_its_uid(void **state)
{
	struct store *store = store_new();
	struct store_endpoint endpoint = {
		.slot = 1, .namespace = (char *)"shop", .name = (char *)"a", .uid = (char *)""
	};

	(void)state;
	put(store, object_of("apiVersion: v1\nkind: Pod\nmetadata: {namespace: shop, name: a, uid: "
			     "u1}\n"));
	assert_non_null(store_endpoint_pod(store, &endpoint));
	endpoint.uid = (char *)"u1";
	assert_non_null(store_endpoint_pod(store, &endpoint));
	endpoint.uid = (char *)"u0";
	assert_null(store_endpoint_pod(store, &endpoint));
	store_free(store);
}

static void test_host_addresses_are_replaced_as_a_whole(void **state)
{
	struct store *store = store_new();
	struct addr addresses[] = { addr_of("10.0.0.1"), addr_of("fd00::1") };
	const struct addr *kept;

	(void)state;
	assert_int_equal(store_host_addresses(store, &kept), 0);
	store_host_addresses_set(store, addresses, 2);
	store_host_addresses_set(store, addresses + 1, 1);
	assert_int_equal(store_host_addresses(store, &kept), 1);
	assert_true(addr_equal(&kept[0], &addresses[1]));
	store_host_addresses_set(store, NULL, 0);
	assert_int_equal(store_host_addresses(store, &kept), 0);
	store_free(store);
	store_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_walk_is_in_order_of_namespace_and_name),
		cmocka_unit_test(test_put_replaces_and_del_removes),
		cmocka_unit_test(test_two_owners_of_one_address_contradict),
		cmocka_unit_test(test_address_of_a_pod_that_is_being_deleted_goes_to_the_next),
		cmocka_unit_test(test_of_two_pods_being_deleted_the_younger_has_the_address),
		cmocka_unit_test(test_host_network_and_terminated_pods_own_nothing),
		cmocka_unit_test(test_slices_are_found_by_their_service),
		cmocka_unit_test(test_taken_objects_are_the_callers),
		cmocka_unit_test(test_endpoints_are_copied_and_sorted_by_slot),
		cmocka_unit_test(test_pod_speaks_for_an_endpoint_of_its_uid),
		cmocka_unit_test(test_host_addresses_are_replaced_as_a_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
