/* SPDX-License-Identifier: Apache-2.0 */
/* Services and slices -> frontends and backends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/auto.h"
#include "policy/objects/service.h"
#include "unit/stores.h"

#include <cmocka.h> /* last: it makes fail a macro */

#define SERVICE(spec)                                                                              \
	"apiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: cart}\nspec: {" spec "}" \
	"\n"
#define SLICE(name, type, endpoints, ports)                                                       \
	"---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {namespace: shop, " \
	"name: " name ", labels: {kubernetes.io/service-name: cart}}\naddressType: " type         \
	"\nendpoints: [" endpoints "]\nports: [" ports "]\n"

/* "ADDRESS:PORT/PROTO name -> BACKEND:PORT BACKEND:PORT", one frontend a line. */
static const char *frontends_of(const char *text, char *buf, size_t size)
{
	struct store *store = store_of(text, NULL);
	struct service_frontends frontends;
	size_t used = 0;

	frontends = service_frontends(store, store_find(store, OBJECT_SERVICE, "shop", "cart"));
	buf[0] = '\0';
	for (size_t i = 0; i < frontends.count; i++) {
		const struct service_frontend *frontend = &frontends.items[i];
		char addr[ADDR_TEXT_MAX];

		used += (size_t)snprintf(buf + used, size - used, "%s|%u/%s %s ->",
					 addr_format(&frontend->addr, addr), frontend->port,
					 proto_name(frontend->proto), frontend->port_name);
		for (size_t b = 0; b < frontend->backend_count; b++)
			used += (size_t)snprintf(buf + used, size - used, " %s|%u",
						 addr_format(&frontend->backends[b].addr, addr),
						 frontend->backends[b].port);
		used += (size_t)snprintf(buf + used, size - used, "\n");
	}
	service_frontends_done(&frontends);
	store_free(store);
	return buf;
}

static void expect(const char *text, const char *wanted)
{
	char buf[2000];

	assert_string_equal(frontends_of(text, buf, sizeof(buf)), wanted);
}

static void test_both_families_get_their_own_backends(void **state)
{
	(void)state;
	expect(SERVICE("clusterIPs: [10.96.0.1, 'fd00:96::1'], ports: [{port: 80}]")
		       SLICE("v4", "IPv4", "{addresses: [10.0.0.2]}, {addresses: [10.0.0.1]}",
			     "{port: 8080}")
			       SLICE("v6", "IPv6", "{addresses: ['fd00::1']}", "{port: 8080}"),
	       "10.96.0.1|80/TCP  -> 10.0.0.1|8080 10.0.0.2|8080\n"
	       "fd00:96::1|80/TCP  -> fd00::1|8080\n");
}

static void test_slices_are_merged_without_duplicates_and_fqdn_is_ignored(void **state)
{
	(void)state;
	expect(SERVICE("clusterIP: 10.96.0.1, ports: [{port: 80}]") SLICE(
		       "a", "IPv4", "{addresses: [10.0.0.1, 10.0.0.2]}", "{port: 8080}")
		       SLICE("b", "IPv4", "{addresses: [10.0.0.2]}, {addresses: [10.0.0.3]}",
			     "{port: 8080}")
			       SLICE("c", "FQDN", "{addresses: [example.com]}", "{port: 8080}"),
	       "10.96.0.1|80/TCP  -> 10.0.0.1|8080 10.0.0.2|8080 10.0.0.3|8080\n");
}

static void test_one_number_for_tcp_and_udp(void **state)
{
	(void)state;
	expect(SERVICE("clusterIP: 10.96.0.1, ports: [{name: d, port: 53, protocol: UDP}, {name: "
		       "t, port: 53}]")
		       SLICE("a", "IPv4", "{addresses: [10.0.0.1]}",
			     "{name: d, port: 5353, protocol: UDP}, {name: t, port: 5354}"),
	       "10.96.0.1|53/UDP d -> 10.0.0.1|5353\n10.96.0.1|53/TCP t -> 10.0.0.1|5354\n");
}

static void test_port_is_matched_by_name_and_protocol(void **state)
{
	(void)state;
	expect(SERVICE("clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]")
		       SLICE("a", "IPv4", "{addresses: [10.0.0.1]}",
			     "{name: other, port: 1}, {name: http, port: 2, protocol: UDP}, {name: "
			     "http}"),
	       "10.96.0.1|80/TCP http ->\n");
	/* A name may mean another number in another slice: pods differ. */
	expect(SERVICE("clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]") SLICE(
		       "a", "IPv4", "{addresses: [10.0.0.1]}", "{name: http, port: 81}")
		       SLICE("b", "IPv4", "{addresses: [10.0.0.2]}", "{name: http, port: 82}"),
	       "10.96.0.1|80/TCP http -> 10.0.0.1|81 10.0.0.2|82\n");
}

static void test_only_ready_endpoints_while_there_is_one(void **state)
{
	(void)state;
	expect(SERVICE("clusterIP: 10.96.0.1, ports: [{port: 80}]")
		       SLICE("a", "IPv4",
			     "{addresses: [10.0.0.1]}, {addresses: [10.0.0.2], conditions: {ready: "
			     "false}}, {addresses: [10.0.0.3], conditions: {ready: false, serving: "
			     "true, terminating: true}}",
			     "{port: 80}"),
	       "10.96.0.1|80/TCP  -> 10.0.0.1|80\n");
}

static void test_serving_while_terminating_when_none_is_ready(void **state)
{
	(void)state;
	expect(SERVICE("clusterIP: 10.96.0.1, ports: [{port: 80}]") SLICE(
		       "a", "IPv4",
		       "{addresses: [10.0.0.2], conditions: {ready: false, serving: true}}, "
		       "{addresses: [10.0.0.3], conditions: {ready: false, serving: true, "
		       "terminating: true}}, {addresses: [10.0.0.4], conditions: {ready: false, "
		       "serving: false, terminating: true}}",
		       "{port: 80}"),
	       "10.96.0.1|80/TCP  -> 10.0.0.3|80\n");
}

static void test_published_addresses_count_as_ready(void **state)
{
	(void)state;
	expect(SERVICE("clusterIP: 10.96.0.1, publishNotReadyAddresses: true, ports: [{port: 80}]")
		       SLICE("a", "IPv4", "{addresses: [10.0.0.2], conditions: {ready: false}}",
			     "{port: 80}"),
	       "10.96.0.1|80/TCP  -> 10.0.0.2|80\n");
}

static void test_no_frontends(void **state)
{
	static const char *const specs[] = {
		SERVICE("clusterIP: None, ports: [{port: 80}]"),
		SERVICE("type: ExternalName, externalName: x, ports: [{port: 80}]"),
		SERVICE("clusterIP: 10.96.0.1"),
		"apiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: cart, labels: "
		"{service.kubernetes.io/service-proxy-name: x}}\nspec: {clusterIP: 10.96.0.1, "
		"ports: "
		"[{port: 80}]}\n",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(specs); i++)
		expect(specs[i], "");
}

static void test_backends_name_their_pods(void **state)
{
	struct store *store =
		store_of(SERVICE("clusterIP: 10.96.0.1, ports: [{port: 80}]"),
			 SLICE("a", "IPv4", "{addresses: [10.0.0.1]}", "{port: 80}")
				 SLICE("b", "IPv4",
				       "{addresses: [10.0.0.1], targetRef: {kind: Pod, name: p}}",
				       "{port: 80}"));
	struct service_frontends frontends;

	(void)state;
	frontends = service_frontends(store, store_find(store, OBJECT_SERVICE, "shop", "cart"));
	assert_int_equal(frontends.items[0].backend_count, 1);
	assert_string_equal(frontends.items[0].backends[0].pod_name, "p");
	assert_string_equal(frontends.items[0].backends[0].pod_namespace, "shop");
	service_frontends_done(&frontends);
	store_free(store);
}

#define POD(name, labels, more)                                                   \
	"---\napiVersion: v1\nkind: Pod\nmetadata: {namespace: shop, name: " name \
	", labels: {" labels "}}\n" more "\n"
#define SELECTS "clusterIP: 10.96.0.1, selector: {app: cart}, ports: "
#define AT(ip)  "status: {podIP: " ip "}"

static void test_a_selector_finds_the_pods_until_a_slice_names_the_service(void **state)
{
	(void)state;
	expect(SERVICE(SELECTS "[{port: 80, targetPort: 8080}]") POD("a", "app: cart, more: z",
								     AT("10.0.0.1"))
		       POD("b", "app: web", AT("10.0.0.2")) POD("c", "app: cart", AT("10.0.0.3"))
			       POD("d", "app: cart", "status: {phase: Succeeded, podIP: 10.0.0.4}"),
	       "10.96.0.1|80/TCP  -> 10.0.0.1|8080 10.0.0.3|8080\n");
	expect(SERVICE(SELECTS "[{port: 80}]") POD("a", "app: cart", AT("10.0.0.1"))
		       SLICE("s", "IPv4", "{addresses: [10.0.0.9]}", "{port: 80}"),
	       "10.96.0.1|80/TCP  -> 10.0.0.9|80\n");
	/* Even an empty one: its writer knows that there is nobody. */
	expect(SERVICE(SELECTS "[{port: 80}]") POD("a", "app: cart", AT("10.0.0.1"))
		       SLICE("s", "IPv4", "", "{port: 80}"),
	       "10.96.0.1|80/TCP  ->\n");
	expect(SERVICE("clusterIP: 10.96.0.1, ports: [{port: 80}]")
		       POD("a", "app: cart", AT("10.0.0.1")),
	       "10.96.0.1|80/TCP  ->\n");
}

static void test_a_selector_finds_named_ports_and_both_families(void **state)
{
	(void)state;
	expect(SERVICE("clusterIPs: [10.96.0.1, 'fd00:96::1'], selector: {app: cart}, ports: "
		       "[{port: 80, targetPort: http}]")
		       POD("a", "app: cart",
			   "spec: {containers: [{ports: [{name: http, containerPort: 8001}]}]}\n"
			   "status: {podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]}")
			       POD("b", "app: cart",
				   "spec: {containers: [{ports: [{name: http, containerPort: "
				   "8002}]}]}\n"
				   "status: {podIPs: [{ip: 10.0.0.2}]}")
				       POD("c", "app: cart", AT("10.0.0.3")),
	       "10.96.0.1|80/TCP  -> 10.0.0.1|8001 10.0.0.2|8002\n"
	       "fd00:96::1|80/TCP  -> fd00::1|8001\n");
}

#define READY(value) "conditions: [{type: Ready, status: '" value "'}]"

static void test_a_selector_takes_ready_pods_else_those_that_terminate(void **state)
{
	static const char ready[] = SERVICE(SELECTS "[{port: 80}]")
		POD("a", "app: cart", "status: {podIP: 10.0.0.1, " READY("True") "}")
			POD("b", "app: cart", "status: {podIP: 10.0.0.2, " READY("False") "}")
				POD("c", "app: cart", "status: {podIP: 10.0.0.3, phase: Pending}");
	static const char none_ready[] = SERVICE(SELECTS "[{port: 80}]")
		POD("a", "app: cart}, deletionTimestamp: '2026-01-01T00:00:00Z', x: {",
		    "status: {podIP: 10.0.0.1, " READY("True") "}")
			POD("b", "app: cart", "status: {podIP: 10.0.0.2, " READY("False") "}");

	(void)state;
	expect(ready, "10.96.0.1|80/TCP  -> 10.0.0.1|80\n");
	expect(none_ready, "10.96.0.1|80/TCP  -> 10.0.0.1|80\n");
	expect(SERVICE(SELECTS "[{port: 80}], publishNotReadyAddresses: true")
		       POD("b", "app: cart", "status: {podIP: 10.0.0.2, " READY("False") "}"),
	       "10.96.0.1|80/TCP  -> 10.0.0.2|80\n");
}

/* On a node without Pod objects the labels and addresses are those that the runtime handed over. */
static void test_a_selector_finds_endpoints_of_the_node(void **state)
{
	struct store *store = store_of(
		SERVICE(SELECTS "[{port: 80}]") POD("old", "app: cart", AT("10.0.0.1")), NULL);
	struct label label = { .key = (char *)"app", .value = (char *)"cart" };
	struct store_endpoint bare = { .slot = 1,
				       .namespace = (char *)"shop",
				       .name = (char *)"bare",
				       .labels = { .items = &label, .count = 1 },
				       .address_count = 1 };
	struct store_endpoint newer = bare;
	uint64_t before = store_pod_changes(store);
	struct service_frontends frontends;

	(void)state;
	newer.slot = 2;
	newer.name = (char *)"old"; /* its object's address lags behind */
	assert_int_equal(addr_parse("10.0.0.7", &bare.addresses[0]), 0);
	assert_int_equal(addr_parse("10.0.0.8", &newer.addresses[0]), 0);
	store_endpoint_set(store, &bare);
	store_endpoint_set(store, &newer);
	assert_true(store_pod_changes(store) != before);
	frontends = service_frontends(store, store_find(store, OBJECT_SERVICE, "shop", "cart"));
	assert_int_equal(frontends.items[0].backend_count, 2);
	assert_true(addr_equal(&frontends.items[0].backends[0].addr, &bare.addresses[0]));
	assert_true(addr_equal(&frontends.items[0].backends[1].addr, &newer.addresses[0]));
	assert_string_equal(frontends.items[0].backends[0].pod_name, "bare");
	service_frontends_done(&frontends);
	store_free(store);
}

static size_t selecting(const struct store *store)
{
	const struct object *const *services;

	return store_selecting_services(store, &services);
}

static void test_which_services_select_pods(void **state)
{
	struct store *store = store_of(SERVICE(SELECTS "[{port: 80}]"), NULL);

	(void)state;
	assert_int_equal(selecting(store), 1);
	store_add(store, SLICE("s", "IPv4", "", "{port: 80}"));
	assert_int_equal(selecting(store), 0);
	store_add(store, SLICE("t", "IPv4", "", "{port: 80}"));
	assert_int_equal(store_del(store, OBJECT_ENDPOINT_SLICE, "shop", "s"), 0);
	assert_int_equal(selecting(store), 0);
	assert_int_equal(store_del(store, OBJECT_ENDPOINT_SLICE, "shop", "t"), 0);
	assert_int_equal(selecting(store), 1);
	/* An API server has a controller that writes slices. */
	store_add(store,
		  "apiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: cart, uid: "
		  "u}\nspec: {" SELECTS "[{port: 80}]}\n");
	assert_int_equal(selecting(store), 0);
	store_add(store, SERVICE(SELECTS "[{port: 80}]"));
	assert_int_equal(selecting(store), 1);
	assert_int_equal(store_del(store, OBJECT_SERVICE, "shop", "cart"), 0);
	assert_int_equal(selecting(store), 0);
	store_free(store);
}

static void test_services_and_slices_of_other_proxies_are_left_alone(void **state)
{
	(void)state;
	expect("apiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: cart, labels: "
	       "{service.kubernetes.io/headless: ''}}\nspec: {clusterIP: 10.96.0.1, ports: [{port: "
	       "80}]}\n" SLICE("a", "IPv4", "{addresses: [10.0.0.1]}", "{port: 80}"),
	       "");
	expect(SERVICE("clusterIP: 10.96.0.1, ports: [{port: 80}]") "---\napiVersion: "
								    "discovery.k8s.io/v1\nkind: "
								    "EndpointSlice\nmetadata: "
								    "{namespace: shop, "
								    "name: s, labels: "
								    "{kubernetes.io/service-name: "
								    "cart, "
								    "service.kubernetes.io/"
								    "headless: ''}}\naddressType: "
								    "IPv4\nendpoints: "
								    "[{addresses: "
								    "[10.0.0.1]}]\nports: [{port: "
								    "80}]\n",
	       "10.96.0.1|80/TCP  ->\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_both_families_get_their_own_backends),
		cmocka_unit_test(test_slices_are_merged_without_duplicates_and_fqdn_is_ignored),
		cmocka_unit_test(test_one_number_for_tcp_and_udp),
		cmocka_unit_test(test_port_is_matched_by_name_and_protocol),
		cmocka_unit_test(test_only_ready_endpoints_while_there_is_one),
		cmocka_unit_test(test_serving_while_terminating_when_none_is_ready),
		cmocka_unit_test(test_published_addresses_count_as_ready),
		cmocka_unit_test(test_no_frontends),
		cmocka_unit_test(test_backends_name_their_pods),
		cmocka_unit_test(test_a_selector_finds_the_pods_until_a_slice_names_the_service),
		cmocka_unit_test(test_a_selector_finds_named_ports_and_both_families),
		cmocka_unit_test(test_a_selector_takes_ready_pods_else_those_that_terminate),
		cmocka_unit_test(test_a_selector_finds_endpoints_of_the_node),
		cmocka_unit_test(test_which_services_select_pods),
		cmocka_unit_test(test_services_and_slices_of_other_proxies_are_left_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
