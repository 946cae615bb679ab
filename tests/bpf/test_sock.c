/* SPDX-License-Identifier: Apache-2.0 */
/* The socket programs, met by real sockets: connections, and who is left alone. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/entry.h"
#include "harness/loopback.h"
#include "harness/scratch.h"
#include "lib/auto.h"
#include "lib/inet.h"

#include <cmocka.h> /* last: its fail() is a macro, ours a function */

/* ---- connections -------------------------------------------------------------------------- */

static void test_programs_are_in_force(void **state)
{
	(void)state;
	assert_true(datapath_socket_services(loopback.datapath));
}

static void test_connection_meets_a_backend_and_shows_the_service(void **state)
{
	(void)state;
	for (enum form form = FORM_V4; form <= FORM_MAPPED; form++) {
		for (int udp = 0; udp <= 1; udp++) {
			auto_close int fd = socket_new(form, udp ? SOCK_DGRAM : SOCK_STREAM);

			assert_int_equal(socket_connect(fd, form, forms[form].service, PORT), 0);
			assert_peer(fd, form, forms[form].service, PORT);
			if (udp)
				assert_int_equal(send(fd, "ping", 4, 0), 4);
			assert_in_range(server_of(form, udp), 0, BACKENDS - 1);
			if (udp)
				assert_answer_from(fd, form, forms[form].service, PORT);
		}
	}
}

static void test_connections_spread_over_the_backends(void **state)
{
	int met[BACKENDS] = { 0 };

	(void)state;
	for (int i = 0; i < 64; i++) {
		auto_close int fd = socket_new(FORM_V4, SOCK_STREAM);

		assert_int_equal(socket_connect(fd, FORM_V4, forms[FORM_V4].service, PORT), 0);
		met[server_of(FORM_V4, false)]++;
	}
	/* 64 fair coins leave this range once in 10^8. */
	assert_in_range(met[0], 10, 54);
	assert_int_equal(met[0] + met[1], 64);
}

static void test_service_without_backends_refuses_at_once(void **state)
{
	(void)state;
	for (enum form form = FORM_V4; form <= FORM_MAPPED; form++) {
		auto_close int tcp = socket_new(form, SOCK_STREAM);
		auto_close int udp = socket_new(form, SOCK_DGRAM);

		assert_int_equal(socket_connect(tcp, form, forms[form].empty, PORT), -ECONNREFUSED);
		assert_int_equal(socket_connect(udp, form, forms[form].empty, PORT), -ECONNREFUSED);
		assert_int_equal(socket_sendto(udp, form, forms[form].empty, PORT), -ECONNREFUSED);
		/* The same sockets go on with a service that works. */
		assert_int_equal(socket_connect(tcp, form, forms[form].service, PORT), 0);
		assert_peer(tcp, form, forms[form].service, PORT);
		server_of(form, false);
		assert_int_equal(socket_sendto(udp, form, forms[form].service, PORT), 0);
		server_of(form, true);
	}
}

/* ---- whom a service admits, and what it does with others ------------------------------------- */

#define OWN_ID      100
#define OWN_SERVICE "10.96.0.3"

static void own_put(struct service service, const char *text)
{
	struct service_key key = { .port = htons(PORT), .proto = IPPROTO_TCP };

	service_put(text, IPPROTO_TCP, OWN_ID, forms[FORM_V4].backend,
		    loopback.ports[FORM_V4][false], service.backends);
	service.id = OWN_ID;
	assert_int_equal(addr_parse(text, &key.addr), 0);
	assert_int_equal(service_map_set(loopback.datapath, &key, &service), 0);
}

static void own_del(const char *text)
{
	struct service_key key = { .port = htons(PORT), .proto = IPPROTO_TCP };

	assert_int_equal(addr_parse(text, &key.addr), 0);
	assert_int_equal(service_map_del(loopback.datapath, &key), 0);
}

static int own_connect(const char *text)
{
	auto_close int fd = socket_new(FORM_V4, SOCK_STREAM);
	int ret = socket_connect(fd, FORM_V4, text, PORT);

	if (!ret)
		server_of(FORM_V4, false);
	return ret;
}

static void test_without_a_local_endpoint_the_node_is_told_and_nothing_leaves(void **state)
{
	struct service service = { .backends = BACKENDS,
				   .flags = SERVICE_LOCAL | SERVICE_HAS_ENDPOINTS };

	(void)state;
	own_put(service, OWN_SERVICE);
	assert_int_equal(own_connect(OWN_SERVICE), -EPERM);
	service.kind = NODE_PORT; /* the policy of clients outside */
	own_put(service, OWN_SERVICE);
	assert_int_equal(own_connect(OWN_SERVICE), 0);
	own_del(OWN_SERVICE);
}

static void test_a_node_port_answers_on_every_loopback_address(void **state)
{
	(void)state;
	own_put((struct service){ .kind = NODE_PORT, .backends = BACKENDS }, "127.0.0.1");
	assert_int_equal(own_connect("127.0.0.1"), 0);
	assert_int_equal(own_connect("127.1.2.3"), 0);
	own_del("127.0.0.1");
	assert_int_equal(own_connect("127.1.2.3"), -ECONNREFUSED);
}

static int affine_server(const char *text)
{
	auto_close int fd = socket_new(FORM_V4, SOCK_STREAM);

	assert_int_equal(socket_connect(fd, FORM_V4, text, PORT), 0);
	return server_of(FORM_V4, false);
}

static uint32_t counted(uint32_t index)
{
	const struct backend_key key = { .service_id = OWN_ID, .index = index };
	struct backend_entry entry;

	assert_int_equal(backend_map_get(loopback.datapath, &key, &entry), 0);
	return entry.connections;
}

static void test_connections_are_counted_by_backend(void **state)
{
	uint32_t met[BACKENDS] = { 0 };

	(void)state;
	own_put((struct service){ .backends = BACKENDS }, OWN_SERVICE);
	for (int i = 0; i < 20; i++)
		met[affine_server(OWN_SERVICE)]++;
	for (uint32_t i = 0; i < BACKENDS; i++)
		assert_int_equal(counted(i), met[i]);
	own_put((struct service){ .backends = BACKENDS, .affinity_s = 60 }, OWN_SERVICE);
	for (int i = 0; i < 5; i++)
		affine_server(OWN_SERVICE);
	assert_int_equal(counted(0) + counted(1), 5);
	assert_true(!counted(0) || !counted(1));
	own_del(OWN_SERVICE);
}

static void test_the_node_keeps_its_backend_while_affinity_lasts(void **state)
{
	int first;

	(void)state;
	own_put((struct service){ .backends = BACKENDS, .affinity_s = 60 }, OWN_SERVICE);
	/* Another address of the same service. */
	own_put((struct service){ .backends = BACKENDS, .affinity_s = 60, .kind = NODE_PORT },
		"127.0.0.1");
	first = affine_server(OWN_SERVICE);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(affine_server(OWN_SERVICE), first);
		assert_int_equal(affine_server("127.0.0.1"), first);
	}
	own_del("127.0.0.1");
	own_del(OWN_SERVICE);
}

static int connect_to_loopback(void)
{
	auto_close int fd = socket_new(FORM_V4, SOCK_STREAM);

	return socket_connect(fd, FORM_V4, "127.0.0.1", PORT);
}

static int connect_to_own(void)
{
	auto_close int fd = socket_new(FORM_V4, SOCK_STREAM);

	return socket_connect(fd, FORM_V4, OWN_SERVICE, PORT);
}

static void test_other_traffic_is_left_alone(void **state)
{
	(void)state;
	for (enum form form = FORM_V4; form <= FORM_MAPPED; form++) {
		for (int udp = 0; udp <= 1; udp++) {
			auto_close int fd = socket_new(form, udp ? SOCK_DGRAM : SOCK_STREAM);
			auto_close int other = socket_new(form, udp ? SOCK_DGRAM : SOCK_STREAM);
			const uint16_t port = port_of(form, udp, 0);

			assert_int_equal(socket_connect(fd, form, forms[form].backend, port), 0);
			assert_peer(fd, form, forms[form].backend, port);
			if (udp)
				assert_int_equal(send(fd, "ping", 4, 0), 4);
			assert_int_equal(server_of(form, udp), 0);
			if (udp)
				assert_answer_from(fd, form, forms[form].backend, port);
			/* No such port of a service: for the packet path to judge.  There is no
			 * route to it here. */
			assert_int_equal(socket_connect(other, form, forms[form].service, PORT + 1),
					 -ENETUNREACH);
		}
	}
}

/* Runs one step in another network namespace; returns its result. */
static int in_other_namespace(uint64_t *cookie, int (*step)(void))
{
	auto_close int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	int ret;

	assert_true(home >= 0);
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	if (cookie) {
		const struct endpoint_entry endpoint = { .flags = ENDPOINT_VALID,
							 .netns_cookie = scratch_netns_cookie() };

		assert_int_equal(endpoint_map_set(loopback.datapath, 1, &endpoint), 0);
		*cookie = endpoint.netns_cookie;
	}
	ret = step();
	assert_int_equal(setns(home, CLONE_NEWNET), 0);
	return ret;
}

static int connect_to_empty(void)
{
	auto_close int fd = socket_new(FORM_V4, SOCK_STREAM);

	return socket_connect(fd, FORM_V4, forms[FORM_V4].empty, PORT);
}

static int sendto_empty(void)
{
	auto_close int fd = socket_new(FORM_V6, SOCK_DGRAM);

	return socket_sendto(fd, FORM_V6, forms[FORM_V6].empty, PORT);
}

static void test_only_own_namespaces_are_touched(void **state)
{
	uint64_t cookie = 0;

	(void)state;
	/* "Refused" can only come from the program: there is neither a route nor a device. */
	assert_int_equal(in_other_namespace(NULL, connect_to_empty), -ENETUNREACH);
	assert_int_not_equal(in_other_namespace(NULL, sendto_empty), -ECONNREFUSED);
	assert_int_equal(in_other_namespace(&cookie, connect_to_empty), -ECONNREFUSED);
	assert_int_not_equal(cookie, 0);
	assert_int_equal(in_other_namespace(&cookie, sendto_empty), -ECONNREFUSED);
	assert_int_equal(endpoint_map_del(loopback.datapath, 1), 0);
}

static void test_a_pod_has_a_loopback_of_its_own(void **state)
{
	uint64_t cookie = 0;

	(void)state;
	own_put((struct service){ .kind = NODE_PORT }, "127.0.0.1");
	assert_int_equal(connect_to_loopback(), -ECONNREFUSED);
	/* The pod's is not even up. */
	assert_int_equal(in_other_namespace(&cookie, connect_to_loopback), -ENETUNREACH);
	own_del("127.0.0.1");
	assert_int_equal(endpoint_map_del(loopback.datapath, 1), 0);
}

static void test_what_a_pod_may_not_use_is_left_for_tc_to_drop(void **state)
{
	struct service service = { .kind = LOAD_BALANCER, .flags = SERVICE_SOURCE_RANGES };
	struct source_range_key range = { .prefixlen = 32, .service_id = OWN_ID };
	uint64_t cookie = 0;

	(void)state;
	/* "Refused": it got as far as the service, which has nobody. */
	own_put(service, OWN_SERVICE);
	assert_int_equal(connect_to_own(), -ECONNREFUSED);
	assert_int_equal(in_other_namespace(&cookie, connect_to_own), -ENETUNREACH);
	assert_int_equal(range_map_set(loopback.datapath, &range), 0);
	assert_int_equal(in_other_namespace(&cookie, connect_to_own), -ECONNREFUSED);
	service.flags = SERVICE_LOCAL | SERVICE_HAS_ENDPOINTS;
	service.kind = CLUSTER_IP;
	own_put(service, OWN_SERVICE);
	assert_int_equal(in_other_namespace(&cookie, connect_to_own), -ENETUNREACH);
	own_del(OWN_SERVICE);
	assert_int_equal(endpoint_map_del(loopback.datapath, 1), 0);
}

static void test_other_cgroups_are_not_touched(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	pid = fork();
	if (!pid) {
		int procs = open("/sys/fs/cgroup/cgroup.procs", O_WRONLY | O_CLOEXEC);

		if (procs < 0 || write(procs, "0", 1) != 1)
			_exit(1);
		_exit(connect_to_empty() == -ENETUNREACH ? 0 : 2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(connect_to_empty(), -ECONNREFUSED);
}

static void test_peer_follows_when_a_socket_connects_again(void **state)
{
	(void)state;
	for (enum form form = FORM_V4; form <= FORM_MAPPED; form++) {
		auto_close int fd = socket_new(form, SOCK_DGRAM);
		union any any;
		socklen_t len = sizeof(any);
		int backend;

		assert_int_equal(socket_connect(fd, form, forms[form].service, PORT), 0);
		assert_int_equal(send(fd, "ping", 4, 0), 4);
		backend = server_of(form, true);
		assert_answer_from(fd, form, forms[form].service, PORT);
		/* Straight to the very backend that stood for the service. */
		assert_int_equal(
			socket_connect(fd, form, forms[form].backend, port_of(form, true, backend)),
			0);
		assert_peer(fd, form, forms[form].backend, port_of(form, true, backend));
		/* Back, gone, and then unconnected to that backend. */
		assert_int_equal(socket_connect(fd, form, forms[form].service, PORT), 0);
		assert_peer(fd, form, forms[form].service, PORT);
		disconnect(fd);
		assert_int_equal(getpeername(fd, &any.sa, &len), -1);
		assert_int_equal(errno, ENOTCONN);
		for (int i = 0; i < BACKENDS; i++) {
			assert_int_equal(socket_sendto(fd, form, forms[form].backend,
						       port_of(form, true, i)),
					 0);
			assert_int_equal(server_of(form, true), i);
			assert_answer_from(fd, form, forms[form].backend, port_of(form, true, i));
		}
	}
}

static void test_tcp_socket_may_be_used_again(void **state)
{
	auto_close int fd = socket_new(FORM_V4, SOCK_STREAM);
	int backend;

	(void)state;
	assert_int_equal(socket_connect(fd, FORM_V4, forms[FORM_V4].service, PORT), 0);
	backend = server_of(FORM_V4, false);
	disconnect(fd);
	assert_int_equal(socket_connect(fd, FORM_V4, forms[FORM_V4].backend,
					port_of(FORM_V4, false, backend)),
			 0);
	assert_peer(fd, FORM_V4, forms[FORM_V4].backend, port_of(FORM_V4, false, backend));
	assert_int_equal(server_of(FORM_V4, false), backend);
}

/* ---- the loader --------------------------------------------------------------------------- */

static void test_sockets_survive_the_loader(void **state)
{
	auto_close int tcp = socket_new(FORM_V4, SOCK_STREAM);
	auto_close int udp = socket_new(FORM_V6, SOCK_DGRAM);
	auto_close int between = socket_new(FORM_V4, SOCK_STREAM);
	struct datapath_options opts = loopback_options();
	struct errmsg err = { 0 };

	(void)state;
	assert_int_equal(socket_connect(tcp, FORM_V4, forms[FORM_V4].service, PORT), 0);
	server_of(FORM_V4, false);
	assert_int_equal(socket_sendto(udp, FORM_V6, forms[FORM_V6].service, PORT), 0);
	datapath_close(loopback.datapath);
	/* Nobody is there, the programs go on. */
	assert_int_equal(socket_connect(between, FORM_V4, forms[FORM_V4].service, PORT), 0);
	server_of(FORM_V4, false);
	server_of(FORM_V6, true);
	loopback.datapath = NULL;
	assert_int_equal(datapath_open(&opts, &loopback.datapath, &err), 0);
	assert_peer(tcp, FORM_V4, forms[FORM_V4].service, PORT);
	assert_peer(between, FORM_V4, forms[FORM_V4].service, PORT);
	assert_answer_from(udp, FORM_V6, forms[FORM_V6].service, PORT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_programs_are_in_force),
		cmocka_unit_test(test_connection_meets_a_backend_and_shows_the_service),
		cmocka_unit_test(test_connections_spread_over_the_backends),
		cmocka_unit_test(test_service_without_backends_refuses_at_once),
		cmocka_unit_test(test_without_a_local_endpoint_the_node_is_told_and_nothing_leaves),
		cmocka_unit_test(test_a_node_port_answers_on_every_loopback_address),
		cmocka_unit_test(test_connections_are_counted_by_backend),
		cmocka_unit_test(test_the_node_keeps_its_backend_while_affinity_lasts),
		cmocka_unit_test(test_other_traffic_is_left_alone),
		cmocka_unit_test(test_only_own_namespaces_are_touched),
		cmocka_unit_test(test_a_pod_has_a_loopback_of_its_own),
		cmocka_unit_test(test_what_a_pod_may_not_use_is_left_for_tc_to_drop),
		cmocka_unit_test(test_other_cgroups_are_not_touched),
		cmocka_unit_test(test_peer_follows_when_a_socket_connects_again),
		cmocka_unit_test(test_tcp_socket_may_be_used_again),
		cmocka_unit_test(test_sockets_survive_the_loader),
	};

	return cmocka_run_group_tests(tests, loopback_setup, loopback_teardown);
}
