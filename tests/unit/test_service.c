/* SPDX-License-Identifier: Apache-2.0 */
/* Services and slices -> frontends and backends. */
#include <arpa/inet.h>
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

	frontends =
		service_frontends(store, store_find(store, OBJECT_SERVICE, "shop", "cart"), NULL);
	buf[0] = '\0';
	for (size_t i = 0; i < frontends.count; i++) {
		const struct service_frontend *frontend = &frontends.items[i];
		char addr[ADDR_TEXT_MAX];

		used += (size_t)snprintf(buf + used, size - used, "%s|%u/%s %s ->",
					 addr_format(&frontend->addr, addr), frontend->port,
					 proto_name(frontend->proto), frontend->pool->port->name);
		for (size_t b = 0; b < frontend->pool->backend_count; b++) {
			const struct service_backend *backend = &frontend->pool->backends[b];

			if (backend->use & USE_CLUSTER)
				used += (size_t)snprintf(buf + used, size - used, " %s|%u",
							 addr_format(&backend->addr, addr),
							 backend->port);
		}
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

#define RENAMED \
	"clusterIP: 10.96.0.1, ports: [{name: web, port: 80, appProtocol: kubernetes.io/h2c}]"

static void test_a_renamed_port_waits_for_its_slices(void **state)
{
	(void)state;
	expect(SERVICE(RENAMED)
		       SLICE("a", "IPv4", "{addresses: [10.0.0.1]}", "{name: http, port: 8080}"),
	       "10.96.0.1|80/TCP web ->\n");
	expect(SERVICE(RENAMED) SLICE(
		       "a", "IPv4", "{addresses: [10.0.0.1]}",
		       "{name: web, port: 8080, appProtocol: http}, {name: http, port: 8081}"),
	       "10.96.0.1|80/TCP web -> 10.0.0.1|8080\n");
}

/* There may be several service ranges, and they may change: none is configured here. */
static void test_a_service_may_be_of_any_range(void **state)
{
	(void)state;
	expect(SERVICE("clusterIPs: [10.96.0.1, 'fd00:96::1'], ports: [{port: 80}]")
		       SLICE("a", "IPv4", "{addresses: [10.0.0.1]}", "{port: 8080}"),
	       "10.96.0.1|80/TCP  -> 10.0.0.1|8080\nfd00:96::1|80/TCP  ->\n");
	expect(SERVICE("clusterIPs: [172.30.200.9, '2001:db8:77::1'], ports: [{port: 80}]")
		       SLICE("a", "IPv4", "{addresses: [10.0.0.1]}", "{port: 8080}"),
	       "172.30.200.9|80/TCP  -> 10.0.0.1|8080\n2001:db8:77::1|80/TCP  ->\n");
}

#define ENDPOINTS_MANY  10000
#define ENDPOINTS_SLICE 1000

static void test_ten_thousand_endpoints_of_one_service(void **state)
{
	const size_t room = ENDPOINTS_MANY * 40;
	auto_free char *text = malloc(room);
	struct service_frontends frontends;
	struct store *store;
	size_t len = 0;

	(void)state;
	assert_non_null(text);
	for (size_t i = 0; i < ENDPOINTS_MANY; i++) {
		if (i % ENDPOINTS_SLICE == 0)
			len += (size_t)snprintf(
				text + len, room - len,
				"---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
				"metadata: {namespace: shop, name: x%zu, labels: "
				"{kubernetes.io/service-name: cart}}\naddressType: IPv4\n"
				"ports: [{port: 8080}]\nendpoints:\n",
				i);
		len += (size_t)snprintf(text + len, room - len, "- {addresses: [10.1.%zu.%zu]}\n",
					i / 250, i % 250 + 1);
	}
	assert_true(len < room);
	store = store_of(SERVICE("clusterIP: 10.96.0.1, ports: [{port: 80}]"), text);
	frontends =
		service_frontends(store, store_find(store, OBJECT_SERVICE, "shop", "cart"), NULL);
	assert_int_equal(frontends.count, 1);
	assert_int_equal(frontends.items[0].pool->cluster_count, ENDPOINTS_MANY);
	service_frontends_done(&frontends);
	store_free(store);
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
	frontends =
		service_frontends(store, store_find(store, OBJECT_SERVICE, "shop", "cart"), NULL);
	assert_int_equal(frontends.pools[0].backend_count, 1);
	assert_string_equal(frontends.pools[0].backends[0].pod_name, "p");
	assert_string_equal(frontends.pools[0].backends[0].pod_namespace, "shop");
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
	frontends =
		service_frontends(store, store_find(store, OBJECT_SERVICE, "shop", "cart"), NULL);
	assert_int_equal(frontends.pools[0].backend_count, 2);
	assert_true(addr_equal(&frontends.pools[0].backends[0].addr, &bare.addresses[0]));
	assert_true(addr_equal(&frontends.pools[0].backends[1].addr, &newer.addresses[0]));
	assert_string_equal(frontends.pools[0].backends[0].pod_name, "bare");
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

/* ---- which endpoints, on which node -----------------------------------------------------------
 */

#define NODE(name, zone, address)                                                          \
	"---\napiVersion: v1\nkind: Node\nmetadata: {name: " name                          \
	", labels: {topology.kubernetes.io/zone: " zone "}}\nstatus: {addresses: [{type: " \
	"InternalIP, address: " address "}]}\n"
#define NODES               NODE("n1", "a", "192.0.2.1") NODE("n2", "b", "192.0.2.2")
#define AT_NODE(node)       "nodeName: " node
#define HINTS(zones, nodes) "hints: {forZones: [" zones "], forNodes: [" nodes "]}"
#define UNREADY             "conditions: {ready: false, serving: false}"
#define TERMINATING         "conditions: {ready: false, serving: true, terminating: true}"

static const struct endpoint_case {
	const char *name;
	const char *spec; /* of the service, beside its address and port */
	const char *endpoints;
	const char *cluster; /* last bytes of their addresses */
	const char *local;
	const char *keep;
} endpoint_cases[] = {
	{ "all ready ones", "", "{addresses: [10.0.0.1]}, {addresses: [10.0.0.2]}", "1 2", "", "" },
	{ "a terminating one keeps its flows while another is ready", "",
	  "{addresses: [10.0.0.1], " TERMINATING "}, {addresses: [10.0.0.2]}", "2", "", "1" },
	{ "terminating ones serve where nothing is ready", "",
	  "{addresses: [10.0.0.1], " TERMINATING "}, {addresses: [10.0.0.2], " UNREADY "}", "1", "",
	  "" },
	{ "one that does not serve any more is nothing", "",
	  "{addresses: [10.0.0.1], conditions: {ready: false, serving: false, terminating: true}}",
	  "", "", "" },
	{ "publishNotReadyAddresses", "publishNotReadyAddresses: true, ",
	  "{addresses: [10.0.0.1], " UNREADY "}, {addresses: [10.0.0.2]}", "1 2", "", "" },
	{ "an endpoint in two slices is what the better one says", "",
	  "{addresses: [10.0.0.1], " UNREADY "}, {addresses: [10.0.0.1]}", "1", "", "" },
	{ "an endpoint with two addresses is two", "", "{addresses: [10.0.0.1, 10.0.0.2]}", "1 2",
	  "", "" },
	{ "Local takes this node's", "internalTrafficPolicy: Local, ",
	  "{addresses: [10.0.0.1], " AT_NODE("n1") "}, {addresses: [10.0.0.2], " AT_NODE(
		  "n2") "}, {addresses: [10.0.0.3]}",
	  "1 2 3", "1", "" },
	{ "Local falls back to a terminating one of this node, not to a ready one elsewhere",
	  "externalTrafficPolicy: Local, ",
	  "{addresses: [10.0.0.1], " AT_NODE("n1") ", " TERMINATING
						   "}, {addresses: [10.0.0.2], " AT_NODE("n2") "}",
	  "2", "1", "1" },
	{ "Local without a local endpoint", "internalTrafficPolicy: Local, ",
	  "{addresses: [10.0.0.2], " AT_NODE("n2") "}", "2", "", "" },
	{ "hints for the zone", "",
	  "{addresses: [10.0.0.1], " HINTS("{name: a}", "") "}, {addresses: [10.0.0.2], " HINTS(
		  "{name: b}", "") "}",
	  "1", "", "2" },
	{ "hints for the node win over those for the zone", "",
	  "{addresses: [10.0.0.1], " HINTS(
		  "{name: a}", "{name: n2}") "}, {addresses: [10.0.0.2], " HINTS("{name: b}",
										 "{name: n1}") "}",
	  "2", "", "1" },
	{ "hints count only if every ready endpoint has them", "",
	  "{addresses: [10.0.0.1], " HINTS("{name: a}", "") "}, {addresses: [10.0.0.2]}", "1 2", "",
	  "" },
	{ "hints for nobody here are none", "",
	  "{addresses: [10.0.0.1], " HINTS("{name: b}", "") "}, {addresses: [10.0.0.2], " HINTS(
		  "{name: c}", "") "}",
	  "1 2", "", "" },
	{ "no node hints for this node: those for the zone", "",
	  "{addresses: [10.0.0.1], " HINTS(
		  "{name: a}", "{name: n2}") "}, {addresses: [10.0.0.2], " HINTS("{name: b}",
										 "{name: n2}") "}",
	  "1", "", "2" },
	{ "an endpoint that is not ready needs no hints", "",
	  "{addresses: [10.0.0.1], " HINTS("{name: a}", "") "}, {addresses: [10.0.0.2], " HINTS(
		  "{name: b}", "") "}, {addresses: [10.0.0.3], " UNREADY "}",
	  "1", "", "2" },
	{ "terminating ones serve from any zone", "",
	  "{addresses: [10.0.0.1], " TERMINATING ", " HINTS("{name: b}", "") "}", "1", "", "" },
};

static struct service_node node_of(const struct store *store)
{
	const struct service_settings settings = { .external_ips = true };
	struct service_node node;

	service_node_init(&node, store, &settings);
	return node;
}

static const char *used(const struct service_pool *pool, enum backend_use use, char buf[64])
{
	size_t len = 0;

	buf[0] = '\0';
	for (size_t i = 0; i < pool->backend_count; i++) {
		if (pool->backends[i].use & use)
			len += (size_t)snprintf(buf + len, 64 - len, "%s%u", len ? " " : "",
						ntohl(pool->backends[i].addr.w[3]) & 0xff);
	}
	return buf;
}

static void test_which_endpoints_are_used(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(endpoint_cases); i++) {
		const struct endpoint_case *c = &endpoint_cases[i];
		struct service_frontends frontends;
		struct service_node node;
		struct store *store;
		struct addr host;
		char text[2000], buf[64];

		snprintf(text, sizeof(text),
			 SERVICE("%sclusterIP: 10.96.0.1, ports: [{port: 80}]")
				 SLICE("s", "IPv4", "%s", "{port: 80}") NODES,
			 c->spec, c->endpoints);
		print_message("%s\n", c->name);
		store = store_of(text, NULL);
		assert_int_equal(addr_parse("192.0.2.1", &host), 0);
		store_host_addresses_set(store, &host, 1);
		node = node_of(store);
		frontends = service_frontends(
			store, store_find(store, OBJECT_SERVICE, "shop", "cart"), &node);
		assert_string_equal(used(&frontends.pools[0], USE_CLUSTER, buf), c->cluster);
		assert_string_equal(used(&frontends.pools[0], USE_LOCAL, buf), c->local);
		assert_string_equal(used(&frontends.pools[0], USE_KEEP, buf), c->keep);
		service_frontends_done(&frontends);
		service_node_done(&node);
		store_free(store);
	}
}

/* ---- which addresses ------------------------------------------------------------------------- */

static const struct address_case {
	const char *name;
	const char *spec;
	const char *status;
	const char *wanted;
} address_cases[] = {
	{ "node ports at every address of the node, and loopback",
	  "type: NodePort, clusterIP: 10.96.0.1, ports: [{port: 80, nodePort: 30080}]", "",
	  "10.96.0.1|80 192.0.2.1|30080 127.0.0.1|30080" },
	{ "of the service's families alone",
	  "type: NodePort, clusterIP: 'fd96::1', ports: [{port: 80, nodePort: 30080}]", "",
	  "fd96::1|80 2001:db8::1|30080 ::1|30080" },
	{ "a node port that its type has no use for",
	  "type: ClusterIP, clusterIP: 10.96.0.1, ports: [{port: 80, nodePort: 30080}]", "",
	  "10.96.0.1|80" },
	{ "the addresses of a load balancer, but for those that it proxies",
	  "type: LoadBalancer, clusterIP: 10.96.0.1, ports: [{port: 80}]",
	  "{ip: 203.0.113.1}, {ip: 203.0.113.2, ipMode: Proxy}, {hostname: x}, {ip: '2001:db8::9'}",
	  "10.96.0.1|80 203.0.113.1|80" },
	{ "external addresses, once",
	  "clusterIP: 10.96.0.1, externalIPs: [203.0.113.7, "
	  "203.0.113.7, '2001:db8::7'], ports: [{port: 80}]",
	  "", "10.96.0.1|80 203.0.113.7|80" },
	{ "none of a headless service",
	  "type: ClusterIP, clusterIP: None, externalIPs: [203.0.113.7], ports: [{port: 80}]", "",
	  "" },
	{ "none of ExternalName",
	  "type: ExternalName, externalName: x, clusterIP: 10.96.0.1, ports: [{port: 80}]", "",
	  "" },
};

static void test_which_addresses_are_served(void **state)
{
	static const char *const hosts[] = { "192.0.2.1", "2001:db8::1" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(address_cases); i++) {
		const struct address_case *c = &address_cases[i];
		struct service_frontends frontends;
		struct service_node node;
		struct store *store;
		struct addr addresses[2];
		char text[2000], buf[500] = "", addr[ADDR_TEXT_MAX];
		size_t len = 0;

		snprintf(text, sizeof(text),
			 SERVICE("%s") "status: {loadBalancer: {ingress: [%s]}}\n", c->spec,
			 c->status);
		print_message("%s\n", c->name);
		store = store_of(text, NULL);
		for (size_t k = 0; k < 2; k++)
			assert_int_equal(addr_parse(hosts[k], &addresses[k]), 0);
		store_host_addresses_set(store, addresses, 2);
		node = node_of(store);
		frontends = service_frontends(
			store, store_find(store, OBJECT_SERVICE, "shop", "cart"), &node);
		for (size_t k = 0; k < frontends.count; k++)
			len += (size_t)snprintf(buf + len, sizeof(buf) - len, "%s%s|%u",
						len ? " " : "",
						addr_format(&frontends.items[k].addr, addr),
						frontends.items[k].port);
		assert_string_equal(buf, c->wanted);
		service_frontends_done(&frontends);
		service_node_done(&node);
		store_free(store);
	}
}

static void test_node_ports_only_at_the_chosen_addresses(void **state)
{
	struct service_settings settings = { 0 };
	struct store *store = store_new();
	struct service_node node;
	struct addr hosts[2];

	(void)state;
	assert_int_equal(addr_parse("192.0.2.1", &hosts[0]), 0);
	assert_int_equal(addr_parse("198.51.100.1", &hosts[1]), 0);
	store_host_addresses_set(store, hosts, 2);
	assert_int_equal(prefix_parse("192.0.2.0/24", &settings.node_port_addresses.items[0]), 0);
	settings.node_port_addresses.count = 1;
	service_node_init(&node, store, &settings);
	assert_int_equal(node.address_count, 1); /* and not loopback */
	assert_true(addr_equal(&node.addresses[0], &hosts[0]));
	service_node_done(&node);
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
		cmocka_unit_test(test_a_renamed_port_waits_for_its_slices),
		cmocka_unit_test(test_a_service_may_be_of_any_range),
		cmocka_unit_test(test_ten_thousand_endpoints_of_one_service),
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
		cmocka_unit_test(test_which_endpoints_are_used),
		cmocka_unit_test(test_which_addresses_are_served),
		cmocka_unit_test(test_node_ports_only_at_the_chosen_addresses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
