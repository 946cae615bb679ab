/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The socket programs, met by real sockets: a service on the node's loopback device with two
 * backends of each family.
 *
 *      10.96.0.1:80, fd96::1:80  TCP and UDP  ->  127.0.0.1, ::1 at the ports of two servers
 *      10.96.0.2:80, fd96::2:80               ->  nothing is ready
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "datapath/maps.h"
#include "harness/entry.h"
#include "harness/scratch.h"
#include "lib/auto.h"
#include "lib/inet.h"

#include <cmocka.h> /* last: its fail() is a macro, ours a function */

#define BACKENDS   2
#define PORT       80
#define TIMEOUT_MS 5000

/* How a socket writes an address: the last is an AF_INET6 socket that speaks IPv4. */
enum form { FORM_V4, FORM_V6, FORM_MAPPED };

static const struct {
	const char *service;
	const char *empty; /* a service without ready endpoints */
	const char *backend;
	int domain;
} forms[] = {
	[FORM_V4] = { "10.96.0.1", "10.96.0.2", "127.0.0.1", AF_INET },
	[FORM_V6] = { "fd96::1", "fd96::2", "::1", AF_INET6 },
	[FORM_MAPPED] = { "::ffff:10.96.0.1", "::ffff:10.96.0.2", "::ffff:127.0.0.1", AF_INET6 },
};

static struct datapath *datapath;
static int servers[2][2][BACKENDS];           /* by family (0: IPv4), by UDP, by index */
static uint16_t server_ports[2][2][BACKENDS]; /* host order */

/* ---- addresses and sockets ------------------------------------------------------------------ */

union any {
	struct sockaddr sa;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

static socklen_t any_init(union any *any, enum form form, const char *text, uint16_t port)
{
	memset(any, 0, sizeof(*any));
	any->sa.sa_family = (sa_family_t)forms[form].domain;
	if (form == FORM_V4) {
		any->v4.sin_port = htons(port);
		assert_int_equal(inet_pton(AF_INET, text, &any->v4.sin_addr), 1);
		return sizeof(any->v4);
	}
	any->v6.sin6_port = htons(port);
	assert_int_equal(inet_pton(AF_INET6, text, &any->v6.sin6_addr), 1);
	return sizeof(any->v6);
}

static uint16_t any_port(const union any *any)
{
	return ntohs(any->sa.sa_family == AF_INET ? any->v4.sin_port : any->v6.sin6_port);
}

static void assert_any(const union any *got, enum form form, const char *text, uint16_t port)
{
	char name[INET6_ADDRSTRLEN];

	if (got->sa.sa_family == AF_INET)
		inet_ntop(AF_INET, &got->v4.sin_addr, name, sizeof(name));
	else
		inet_ntop(AF_INET6, &got->v6.sin6_addr, name, sizeof(name));
	assert_int_equal(got->sa.sa_family, forms[form].domain);
	assert_string_equal(name, text);
	assert_int_equal(any_port(got), port);
}

static int socket_new(enum form form, int type)
{
	const struct timeval timeout = { .tv_sec = TIMEOUT_MS / 1000 };
	int fd = socket(forms[form].domain, type | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)), 0);
	return fd;
}

/* 0 or a negative errno. */
static int socket_connect(int fd, enum form form, const char *text, uint16_t port)
{
	union any any;
	socklen_t len = any_init(&any, form, text, port);

	return connect(fd, &any.sa, len) ? -errno : 0;
}

static int socket_sendto(int fd, enum form form, const char *text, uint16_t port)
{
	union any any;
	socklen_t len = any_init(&any, form, text, port);

	return sendto(fd, "ping", 4, 0, &any.sa, len) == 4 ? 0 : -errno;
}

static void assert_peer(int fd, enum form form, const char *text, uint16_t port)
{
	union any any = { 0 };
	socklen_t len = sizeof(any);

	assert_int_equal(getpeername(fd, &any.sa, &len), 0);
	assert_any(&any, form, text, port);
}

static void disconnect(int fd)
{
	const struct sockaddr unspec = { .sa_family = AF_UNSPEC };

	assert_int_equal(connect(fd, &unspec, sizeof(unspec)), 0);
}

/* ---- servers -------------------------------------------------------------------------------- */

static void server_open(enum form form, bool udp, int index)
{
	union any any;
	socklen_t len = any_init(&any, form, forms[form].backend, 0);
	int fd = socket_new(form, udp ? SOCK_DGRAM : SOCK_STREAM);

	assert_int_equal(bind(fd, &any.sa, len), 0);
	if (!udp)
		assert_int_equal(listen(fd, 128), 0);
	assert_int_equal(getsockname(fd, &any.sa, &len), 0);
	servers[form][udp][index] = fd;
	server_ports[form][udp][index] = any_port(&any);
}

/* Which backend has a connection or datagram waiting; answers the datagram. */
static int server_of(enum form form, bool udp)
{
	const int family = form == FORM_V6 ? FORM_V6 : FORM_V4;
	struct pollfd fds[BACKENDS];
	char buf[16];

	for (int i = 0; i < BACKENDS; i++)
		fds[i] = (struct pollfd){ .fd = servers[family][udp][i], .events = POLLIN };
	assert_int_equal(poll(fds, BACKENDS, TIMEOUT_MS), 1);
	for (int i = 0; i < BACKENDS; i++) {
		union any from;
		socklen_t len = sizeof(from);
		ssize_t size;

		if (!fds[i].revents)
			continue;
		if (!udp) {
			auto_close int fd = accept(fds[i].fd, NULL, NULL);

			assert_true(fd >= 0);
			return i;
		}
		size = recvfrom(fds[i].fd, buf, sizeof(buf), 0, &from.sa, &len);
		assert_int_equal(size, 4);
		assert_int_equal(sendto(fds[i].fd, "pong", 4, 0, &from.sa, len), 4);
		return i;
	}
	return -1;
}

static uint16_t port_of(enum form form, bool udp, int index)
{
	return server_ports[form == FORM_V6 ? FORM_V6 : FORM_V4][udp][index];
}

static void assert_answer_from(int fd, enum form form, const char *text, uint16_t port)
{
	union any from = { 0 };
	socklen_t len = sizeof(from);
	char buf[16];

	assert_int_equal(recvfrom(fd, buf, sizeof(buf), 0, &from.sa, &len), 4);
	assert_any(&from, form, text, port);
}

static void assert_answered(int fd)
{
	char buf[16];

	assert_int_equal(recv(fd, buf, sizeof(buf), 0), 4);
}

/* ---- the service ---------------------------------------------------------------------------- */

static void service_put(const char *text, uint8_t proto, uint32_t id, const char *backend,
			const uint16_t ports[], uint32_t backends)
{
	const struct service service = { .id = id, .backends = backends };
	struct service_key key = { .port = htons(PORT), .proto = proto };

	for (uint32_t i = 0; i < backends; i++) {
		const struct backend_key backend_key = { .service_id = id, .index = i };
		struct backend value = { .port = htons(ports[i]) };

		assert_int_equal(addr_parse(backend, &value.addr), 0);
		assert_int_equal(backend_map_set(datapath, &backend_key, &value), 0);
	}
	assert_int_equal(addr_parse(text, &key.addr), 0);
	assert_int_equal(service_map_set(datapath, &key, &service), 0);
}

static struct datapath_options options(void)
{
	struct datapath_options options = scratch_options();

	options.cgroup = scratch_cgroup();
	options.socket_services = true;
	options.limits.endpoints = 8;
	return options;
}

static void services_put(void)
{
	uint32_t id = 1;

	for (enum form form = FORM_V4; form <= FORM_V6; form++) {
		for (int udp = 0; udp <= 1; udp++) {
			const uint8_t proto = udp ? IPPROTO_UDP : IPPROTO_TCP;

			service_put(forms[form].service, proto, id++, forms[form].backend,
				    server_ports[form][udp], BACKENDS);
			service_put(forms[form].empty, proto, id++, forms[form].backend, NULL, 0);
		}
	}
}

static int group_setup(void **state)
{
	struct errmsg err = { 0 };
	struct datapath_options opts;

	(void)state;
	if (scratch_init(&err)) {
		print_error("%s\n", err.text);
		return -1;
	}
	opts = options();
	if (datapath_open(&opts, &datapath, &err)) {
		print_error("%s\n", err.text);
		return -1;
	}
	maps_node(datapath)->netns_cookie = scratch_netns_cookie();
	for (enum form form = FORM_V4; form <= FORM_V6; form++) {
		for (int i = 0; i < BACKENDS; i++) {
			server_open(form, false, i);
			server_open(form, true, i);
		}
	}
	services_put();
	return 0;
}

static int group_teardown(void **state)
{
	(void)state;
	datapath_close(datapath);
	scratch_done();
	return 0;
}

/* ---- connections ---------------------------------------------------------------------------- */

static void test_programs_are_in_force(void **state)
{
	(void)state;
	assert_true(datapath_socket_services(datapath));
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

	service_put(text, IPPROTO_TCP, OWN_ID, forms[FORM_V4].backend, server_ports[FORM_V4][false],
		    service.backends);
	service.id = OWN_ID;
	assert_int_equal(addr_parse(text, &key.addr), 0);
	assert_int_equal(service_map_set(datapath, &key, &service), 0);
}

static void own_del(const char *text)
{
	struct service_key key = { .port = htons(PORT), .proto = IPPROTO_TCP };

	assert_int_equal(addr_parse(text, &key.addr), 0);
	assert_int_equal(service_map_del(datapath, &key), 0);
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

	assert_int_equal(backend_map_get(datapath, &key, &entry), 0);
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

		assert_int_equal(endpoint_map_set(datapath, 1, &endpoint), 0);
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
	assert_int_equal(endpoint_map_del(datapath, 1), 0);
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
	assert_int_equal(endpoint_map_del(datapath, 1), 0);
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
	assert_int_equal(range_map_set(datapath, &range), 0);
	assert_int_equal(in_other_namespace(&cookie, connect_to_own), -ECONNREFUSED);
	service.flags = SERVICE_LOCAL | SERVICE_HAS_ENDPOINTS;
	service.kind = CLUSTER_IP;
	own_put(service, OWN_SERVICE);
	assert_int_equal(in_other_namespace(&cookie, connect_to_own), -ENETUNREACH);
	own_del(OWN_SERVICE);
	assert_int_equal(endpoint_map_del(datapath, 1), 0);
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

/* ---- where a connection's service is kept --------------------------------------------------- */

static uint64_t cookie_of(int fd)
{
	uint64_t cookie;
	socklen_t len = sizeof(cookie);

	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len), 0);
	return cookie;
}

static struct sock_bucket bucket_of(uint64_t cookie)
{
	auto_close int map = bpf_obj_get(SCRATCH_PIN_DIR "/maps/sock_bucket_map");
	const uint32_t index = (uint32_t)(cookie % SOCK_BUCKETS);
	struct sock_bucket bucket;

	assert_true(map >= 0);
	assert_int_equal(bpf_map_lookup_elem(map, &index, &bucket), 0);
	return bucket;
}

/* A socket whose cookie leads to the same bucket: cookies count up, each CPU by itself. */
static int socket_that_meets(uint64_t cookie)
{
	for (int i = 0; i < 64 * SOCK_BUCKETS; i++) {
		int fd = socket_new(FORM_V4, SOCK_STREAM);

		if (cookie_of(fd) % SOCK_BUCKETS == cookie % SOCK_BUCKETS)
			return fd;
		close(fd);
	}
	fail_msg("no cookie leads to bucket %d", (int)(cookie % SOCK_BUCKETS));
	return -1;
}

static void connect_to_service(int fd)
{
	assert_int_equal(socket_connect(fd, FORM_V4, forms[FORM_V4].service, PORT), 0);
	server_of(FORM_V4, false);
	assert_peer(fd, FORM_V4, forms[FORM_V4].service, PORT);
}

static void test_a_closed_connection_gives_its_bucket_back(void **state)
{
	static const struct sock_service none;
	auto_close int fd = socket_new(FORM_V4, SOCK_STREAM);
	const uint64_t cookie = cookie_of(fd);
	struct sock_bucket bucket;

	(void)state;
	connect_to_service(fd);
	assert_true(bucket_of(cookie).cookie == cookie);
	close(take_fd(&fd));
	bucket = bucket_of(cookie);
	assert_true(bucket.cookie == 0);
	assert_memory_equal(&bucket.service, &none, sizeof(none));
}

static void test_connections_that_meet_in_a_bucket_keep_their_services(void **state)
{
	auto_close int first = socket_new(FORM_V4, SOCK_STREAM), second = -1, third = -1;
	const uint64_t cookie = cookie_of(first);

	(void)state;
	connect_to_service(first);
	second = socket_that_meets(cookie);
	connect_to_service(second);
	assert_peer(first, FORM_V4, forms[FORM_V4].service, PORT);
	assert_true(bucket_of(cookie).cookie == cookie);
	close(take_fd(&first));
	assert_true(bucket_of(cookie).cookie == 0);
	assert_peer(second, FORM_V4, forms[FORM_V4].service, PORT);
	/* What a socket began to remember in one bucket it does not look for in another. */
	disconnect(second);
	connect_to_service(second);
	assert_true(bucket_of(cookie).cookie == 0);
	third = socket_that_meets(cookie);
	connect_to_service(third);
	assert_true(bucket_of(cookie).cookie == cookie_of(third));
	assert_peer(second, FORM_V4, forms[FORM_V4].service, PORT);
}

/* A socket of the kernel's own says nothing when it ends: it must not take a bucket for ever. */
static void test_sockets_of_the_kernel_take_no_bucket(void **state)
{
	auto_close int map = bpf_obj_get(SCRATCH_PIN_DIR "/maps/sock_bucket_map");
	auto_close int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP);
	struct sock_bucket bucket;

	(void)state;
	assert_true(map >= 0 && fd >= 0);
	assert_int_equal(socket_connect(fd, FORM_V4, forms[FORM_V4].service, PORT), 0);
	server_of(FORM_V4, false);
	for (uint32_t index = 0; index < SOCK_BUCKETS; index++) {
		assert_int_equal(bpf_map_lookup_elem(map, &index, &bucket), 0);
		assert_true(bucket.cookie == 0);
	}
}

/* ---- who uses a service ---------------------------------------------------------------------- */

struct listing {
	uint64_t cookies[3];
	unsigned int seen[3];
};

static int listing_note(const struct service_socket *socket, void *arg)
{
	struct listing *listing = arg;

	for (size_t i = 0; i < ARRAY_SIZE(listing->cookies); i++) {
		if (listing->cookies[i] != socket->cookie)
			continue;
		listing->seen[i]++;
		assert_int_equal(socket->slot, 0); /* the node's */
		assert_int_equal(socket->proto, i == 2 ? IPPROTO_UDP : IPPROTO_TCP);
		assert_int_equal(socket->service.port, htons(PORT));
		assert_int_not_equal(socket->service.backend_port, 0);
	}
	return 0;
}

/* In a bucket, in socket storage because the bucket is taken, and UDP. */
static void test_connected_sockets_are_listed(void **state)
{
	auto_close int first = socket_new(FORM_V4, SOCK_STREAM), second = -1;
	auto_close int udp = socket_new(FORM_V4, SOCK_DGRAM);
	auto_close int unconnected = socket_new(FORM_V4, SOCK_DGRAM);
	struct listing listing = { .cookies = { cookie_of(first) } };

	(void)state;
	connect_to_service(first);
	second = socket_that_meets(cookie_of(first));
	connect_to_service(second);
	listing.cookies[1] = cookie_of(second);
	assert_int_equal(socket_connect(udp, FORM_V4, forms[FORM_V4].service, PORT), 0);
	listing.cookies[2] = cookie_of(udp);
	assert_int_equal(service_sockets_foreach(datapath, listing_note, &listing), 0);
	for (size_t i = 0; i < ARRAY_SIZE(listing.seen); i++)
		assert_int_equal(listing.seen[i], 1);
	/* One that sends each datagram with an address goes elsewhere by itself. */
	listing = (struct listing){ .cookies = { cookie_of(unconnected) } };
	assert_int_equal(socket_sendto(unconnected, FORM_V4, forms[FORM_V4].service, PORT), 0);
	server_of(FORM_V4, true);
	assert_int_equal(service_sockets_foreach(datapath, listing_note, &listing), 0);
	assert_int_equal(listing.seen[0], 0);
}

/* ---- datagrams ------------------------------------------------------------------------------ */

static void test_answer_to_a_datagram_comes_from_the_service(void **state)
{
	(void)state;
	for (enum form form = FORM_V4; form <= FORM_MAPPED; form++) {
		auto_close int fd = socket_new(form, SOCK_DGRAM);
		int first = -1;

		for (int i = 0; i < 8; i++) {
			int met;

			assert_int_equal(socket_sendto(fd, form, forms[form].service, PORT), 0);
			met = server_of(form, true);
			if (first < 0)
				first = met;
			assert_int_equal(met, first); /* one socket stays with one backend */
			assert_answer_from(fd, form, forms[form].service, PORT);
		}
	}
}

static void test_sockets_spread_their_datagrams(void **state)
{
	int met[BACKENDS] = { 0 };

	(void)state;
	for (int i = 0; i < 64; i++) {
		auto_close int fd = socket_new(FORM_V6, SOCK_DGRAM);

		assert_int_equal(socket_sendto(fd, FORM_V6, forms[FORM_V6].service, PORT), 0);
		met[server_of(FORM_V6, true)]++;
	}
	assert_in_range(met[0], 10, 54);
}

static void test_one_socket_asks_two_services(void **state)
{
	static const char *const second[] = { "10.96.0.9", "fd96::9" };

	(void)state;
	for (enum form form = FORM_V4; form <= FORM_V6; form++) {
		auto_close int fd = socket_new(form, SOCK_DGRAM);
		int met;

		/* The second service is the one backend that the first does not give this socket:
		 * both must be told apart by the backend alone. */
		assert_int_equal(socket_sendto(fd, form, forms[form].service, PORT), 0);
		met = server_of(form, true);
		assert_answer_from(fd, form, forms[form].service, PORT);
		service_put(second[form], IPPROTO_UDP, 90 + form, forms[form].backend,
			    &server_ports[form][1][!met], 1);
		assert_int_equal(socket_sendto(fd, form, second[form], PORT), 0);
		assert_int_equal(server_of(form, true), !met);
		assert_answer_from(fd, form, second[form], PORT);
		assert_int_equal(socket_sendto(fd, form, forms[form].service, PORT), 0);
		server_of(form, true);
		assert_answer_from(fd, form, forms[form].service, PORT);
		/* Straight to that backend: it speaks for itself again. */
		assert_int_equal(
			socket_sendto(fd, form, forms[form].backend, port_of(form, true, !met)), 0);
		server_of(form, true);
		assert_answer_from(fd, form, forms[form].backend, port_of(form, true, !met));
	}
}

/* Sends to two services of its own by more sockets than any table has room for. */
static void flood(enum form form)
{
	static const char *const services[][2] = { { "10.96.0.20", "10.96.0.21" },
						   { "fd96::20", "fd96::21" } };
	const uint16_t nobody = 1;

	for (int i = 0; i < 2; i++)
		service_put(services[form][i], IPPROTO_UDP, 80 + 2 * form + i, forms[form].backend,
			    &nobody, 1);
	for (int i = 0; i < 10000; i++) {
		auto_close int fd = socket_new(form, SOCK_DGRAM);

		for (int service = 0; service < 2; service++)
			assert_int_equal(socket_sendto(fd, form, services[form][service], PORT), 0);
	}
}

static void test_a_flood_of_sockets_takes_nothing_from_another(void **state)
{
	static const char *const second[] = { "10.96.0.9", "fd96::9" };

	(void)state;
	for (enum form form = FORM_V4; form <= FORM_V6; form++) {
		auto_close int fd = socket_new(form, SOCK_DGRAM);
		int met;

		assert_int_equal(socket_sendto(fd, form, forms[form].service, PORT), 0);
		met = server_of(form, true);
		assert_answer_from(fd, form, forms[form].service, PORT);
		service_put(second[form], IPPROTO_UDP, 90 + form, forms[form].backend,
			    &server_ports[form][1][!met], 1);
		assert_int_equal(socket_sendto(fd, form, second[form], PORT), 0);
		flood(form);
		assert_int_equal(server_of(form, true), !met);
		assert_answer_from(fd, form, second[form], PORT);
	}
}

/* What one socket cannot keep takes the place of its oldest, but the first. */
static void test_one_socket_asks_more_services_than_it_can_keep(void **state)
{
	auto_close int fd = socket_new(FORM_V4, SOCK_DGRAM);
	enum { KEPT = 1 + SENDMSG_SERVICES, ASKED = KEPT + 4 };
	int backends[ASKED];
	char text[32];

	(void)state;
	for (int i = 0; i < ASKED; i++) {
		union any any;
		socklen_t len = any_init(&any, FORM_V4, forms[FORM_V4].backend, 0);
		uint16_t port;

		backends[i] = socket_new(FORM_V4, SOCK_DGRAM);
		assert_int_equal(bind(backends[i], &any.sa, len), 0);
		assert_int_equal(getsockname(backends[i], &any.sa, &len), 0);
		port = any_port(&any);
		snprintf(text, sizeof(text), "10.96.1.%d", i);
		service_put(text, IPPROTO_UDP, 200 + (uint32_t)i, forms[FORM_V4].backend, &port, 1);
		assert_int_equal(socket_sendto(fd, FORM_V4, text, PORT), 0);
	}
	for (int i = 0; i < ASKED; i++) {
		union any from;
		socklen_t len = sizeof(from);
		char buf[16];

		assert_int_equal(recvfrom(backends[i], buf, sizeof(buf), 0, &from.sa, &len), 4);
		assert_int_equal(sendto(backends[i], "pong", 4, 0, &from.sa, len), 4);
		len = sizeof(from);
		assert_int_equal(recvfrom(fd, buf, sizeof(buf), 0, &from.sa, &len), 4);
		snprintf(text, sizeof(text), "10.96.1.%d", i);
		if (i == 0 || i >= ASKED - SENDMSG_SERVICES)
			assert_any(&from, FORM_V4, text, PORT);
		else
			assert_int_not_equal(any_port(&from), PORT);
		close(backends[i]);
	}
}

/* Of two services that share backends, an answer is of the one that was asked last: also after a
 * service has moved to a backend that the other one had. */
static void test_a_backend_answers_for_the_service_that_was_asked_last(void **state)
{
	static const char *const names[] = { "10.96.2.1", "10.96.2.2", "10.96.2.3" };
	const uint16_t *ports = server_ports[FORM_V4][1];
	const uint16_t nobody = 1;
	auto_close int fd = socket_new(FORM_V4, SOCK_DGRAM);

	(void)state;
	service_put(names[0], IPPROTO_UDP, 300, forms[FORM_V4].backend, &nobody, 1);
	service_put(names[1], IPPROTO_UDP, 301, forms[FORM_V4].backend, &ports[0], 1);
	service_put(names[2], IPPROTO_UDP, 302, forms[FORM_V4].backend, &ports[1], 1);
	assert_int_equal(socket_sendto(fd, FORM_V4, names[0], PORT), 0);
	for (int i = 1; i < 3; i++) {
		assert_int_equal(socket_sendto(fd, FORM_V4, names[i], PORT), 0);
		server_of(FORM_V4, true);
		assert_answered(fd);
	}
	/* The last moves to the backend of the one before. */
	service_put(names[2], IPPROTO_UDP, 302, forms[FORM_V4].backend, &ports[0], 1);
	assert_int_equal(socket_sendto(fd, FORM_V4, names[2], PORT), 0);
	assert_int_equal(server_of(FORM_V4, true), 0);
	assert_answer_from(fd, FORM_V4, names[2], PORT);
	/* ... and the first, too. */
	service_put(names[0], IPPROTO_UDP, 300, forms[FORM_V4].backend, &ports[0], 1);
	assert_int_equal(socket_sendto(fd, FORM_V4, names[0], PORT), 0);
	assert_int_equal(server_of(FORM_V4, true), 0);
	assert_answer_from(fd, FORM_V4, names[0], PORT);
}

/* What a socket no longer needs makes room before the oldest does. */
static void test_a_service_that_was_forgotten_makes_room(void **state)
{
	auto_close int fd = socket_new(FORM_V4, SOCK_DGRAM);
	const uint16_t *port = &server_ports[FORM_V4][1][0];
	const uint16_t nobody = 1;

	(void)state;
	service_put("10.96.3.0", IPPROTO_UDP, 320, forms[FORM_V4].backend, &nobody, 1);
	service_put("10.96.3.1", IPPROTO_UDP, 321, forms[FORM_V4].backend, port, 1);
	service_put("10.96.3.2", IPPROTO_UDP, 322, forms[FORM_V4].backend, &port[1], 1);
	assert_int_equal(socket_sendto(fd, FORM_V4, "10.96.3.0", PORT), 0);
	assert_int_equal(socket_sendto(fd, FORM_V4, "10.96.3.1", PORT), 0);
	server_of(FORM_V4, true);
	assert_answered(fd);
	for (int i = 0; i < 2 * SENDMSG_SERVICES; i++) {
		assert_int_equal(socket_sendto(fd, FORM_V4, "10.96.3.2", PORT), 0);
		assert_int_equal(server_of(FORM_V4, true), 1);
		assert_answer_from(fd, FORM_V4, "10.96.3.2", PORT);
		assert_int_equal(socket_sendto(fd, FORM_V4, forms[FORM_V4].backend,
					       port_of(FORM_V4, true, 1)),
				 0);
		server_of(FORM_V4, true);
		assert_answer_from(fd, FORM_V4, forms[FORM_V4].backend, port_of(FORM_V4, true, 1));
	}
	assert_int_equal(socket_sendto(fd, FORM_V4, "10.96.3.1", PORT), 0);
	server_of(FORM_V4, true);
	assert_answer_from(fd, FORM_V4, "10.96.3.1", PORT);
}

static void test_connected_socket_may_send_elsewhere(void **state)
{
	auto_close int fd = socket_new(FORM_V4, SOCK_DGRAM);

	(void)state;
	assert_int_equal(socket_connect(fd, FORM_V4, forms[FORM_V4].service, PORT), 0);
	service_put("10.96.0.8", IPPROTO_UDP, 95, forms[FORM_V4].backend, server_ports[FORM_V4][1],
		    BACKENDS);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(socket_sendto(fd, FORM_V4, "10.96.0.8", PORT), 0);
		server_of(FORM_V4, true);
	}
	assert_peer(fd, FORM_V4, forms[FORM_V4].service, PORT);
}

static void test_backend_that_left_is_replaced(void **state)
{
	const uint16_t gone[BACKENDS] = { port_of(FORM_V4, true, 0), 1 };
	const struct backend_key key = { .service_id = 96, .index = 1 };

	(void)state;
	/* As while the agent shrinks a service: it still counts two, one is gone. */
	service_put("10.96.0.7", IPPROTO_UDP, 96, forms[FORM_V4].backend, gone, BACKENDS);
	assert_int_equal(backend_map_del(datapath, &key), 0);
	for (int i = 0; i < 16; i++) {
		auto_close int connected = socket_new(FORM_V4, SOCK_DGRAM);
		auto_close int fd = socket_new(FORM_V4, SOCK_DGRAM);

		assert_int_equal(socket_sendto(fd, FORM_V4, "10.96.0.7", PORT), 0);
		assert_int_equal(server_of(FORM_V4, true), 0);
		assert_int_equal(socket_connect(connected, FORM_V4, "10.96.0.7", PORT), 0);
		assert_int_equal(send(connected, "ping", 4, 0), 4);
		assert_int_equal(server_of(FORM_V4, true), 0);
	}
}

static void test_a_socket_keeps_its_backend_when_others_come_and_go(void **state)
{
	static const char *const second[] = { "10.96.0.11", "fd96::11" };
	enum { SOCKETS = 8, MANY = 9 };

	(void)state;
	for (enum form form = FORM_V4; form <= FORM_V6; form++) {
		const uint16_t *ports = server_ports[form][1];
		/* Nobody listens on the others: a datagram that moves is lost. */
		const uint16_t shuffled[MANY] = { 1, ports[1], 2, 3, 4, 5, 6, ports[0], 7 };
		int fds[SOCKETS], met[SOCKETS];

		/* Of two services of each socket, one is kept in sock_service and one in
		 * sendmsg_service. Both have the same backends, so an answer does not tell which
		 * was asked. */
		for (int service = 0; service < 2; service++) {
			const char *addr = service ? second[form] : forms[form].service;
			const uint32_t id = service ? 97 + form : 1 + 4 * form + 2;

			service_put(addr, IPPROTO_UDP, id, forms[form].backend, ports, BACKENDS);
			for (int i = 0; i < SOCKETS; i++) {
				if (!service)
					fds[i] = socket_new(form, SOCK_DGRAM);
				assert_int_equal(socket_sendto(fds[i], form, addr, PORT), 0);
				met[i] = server_of(form, true);
				assert_answered(fds[i]);
			}
			service_put(addr, IPPROTO_UDP, id, forms[form].backend, shuffled, MANY);
			for (int i = 0; i < SOCKETS; i++) {
				assert_int_equal(socket_sendto(fds[i], form, addr, PORT), 0);
				assert_int_equal(server_of(form, true), met[i]);
				assert_answered(fds[i]);
			}
			/* One that is no longer ready is replaced. */
			service_put(addr, IPPROTO_UDP, id, forms[form].backend, &ports[1], 1);
			for (int i = 0; i < SOCKETS; i++) {
				assert_int_equal(socket_sendto(fds[i], form, addr, PORT), 0);
				assert_int_equal(server_of(form, true), 1);
				assert_answered(fds[i]);
			}
		}
		for (int i = 0; i < SOCKETS; i++)
			close(fds[i]);
	}
	services_put();
}

/* ---- the loader ----------------------------------------------------------------------------- */

static void test_sockets_survive_the_loader(void **state)
{
	auto_close int tcp = socket_new(FORM_V4, SOCK_STREAM);
	auto_close int udp = socket_new(FORM_V6, SOCK_DGRAM);
	auto_close int between = socket_new(FORM_V4, SOCK_STREAM);
	struct datapath_options opts = options();
	struct errmsg err = { 0 };

	(void)state;
	assert_int_equal(socket_connect(tcp, FORM_V4, forms[FORM_V4].service, PORT), 0);
	server_of(FORM_V4, false);
	assert_int_equal(socket_sendto(udp, FORM_V6, forms[FORM_V6].service, PORT), 0);
	datapath_close(datapath);
	/* Nobody is there, the programs go on. */
	assert_int_equal(socket_connect(between, FORM_V4, forms[FORM_V4].service, PORT), 0);
	server_of(FORM_V4, false);
	server_of(FORM_V6, true);
	datapath = NULL;
	assert_int_equal(datapath_open(&opts, &datapath, &err), 0);
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
		cmocka_unit_test(test_a_closed_connection_gives_its_bucket_back),
		cmocka_unit_test(test_connections_that_meet_in_a_bucket_keep_their_services),
		cmocka_unit_test(test_sockets_of_the_kernel_take_no_bucket),
		cmocka_unit_test(test_connected_sockets_are_listed),
		cmocka_unit_test(test_answer_to_a_datagram_comes_from_the_service),
		cmocka_unit_test(test_sockets_spread_their_datagrams),
		cmocka_unit_test(test_one_socket_asks_two_services),
		cmocka_unit_test(test_a_flood_of_sockets_takes_nothing_from_another),
		cmocka_unit_test(test_one_socket_asks_more_services_than_it_can_keep),
		cmocka_unit_test(test_a_backend_answers_for_the_service_that_was_asked_last),
		cmocka_unit_test(test_a_service_that_was_forgotten_makes_room),
		cmocka_unit_test(test_connected_socket_may_send_elsewhere),
		cmocka_unit_test(test_backend_that_left_is_replaced),
		cmocka_unit_test(test_a_socket_keeps_its_backend_when_others_come_and_go),
		cmocka_unit_test(test_sockets_survive_the_loader),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
