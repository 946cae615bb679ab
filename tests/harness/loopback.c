/* SPDX-License-Identifier: Apache-2.0 */
#include "harness/loopback.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "harness/entry.h"
#include "harness/scratch.h"
#include "lib/auto.h"
#include "lib/inet.h"

#include <cmocka.h> /* last: its fail() is a macro, ours a function */

const struct form_texts forms[] = {
	[FORM_V4] = { "10.96.0.1", "10.96.0.2", "127.0.0.1", AF_INET },
	[FORM_V6] = { "fd96::1", "fd96::2", "::1", AF_INET6 },
	[FORM_MAPPED] = { "::ffff:10.96.0.1", "::ffff:10.96.0.2", "::ffff:127.0.0.1", AF_INET6 },
};

struct loopback loopback;

/* ---- addresses and sockets ---------------------------------------------------------------- */

socklen_t any_init(union any *any, enum form form, const char *text, uint16_t port)
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

uint16_t any_port(const union any *any)
{
	return ntohs(any->sa.sa_family == AF_INET ? any->v4.sin_port : any->v6.sin6_port);
}

void assert_any(const union any *got, enum form form, const char *text, uint16_t port)
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

int socket_new(enum form form, int type)
{
	const struct timeval timeout = { .tv_sec = TIMEOUT_MS / 1000 };
	int fd = socket(forms[form].domain, type | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)), 0);
	return fd;
}

int socket_connect(int fd, enum form form, const char *text, uint16_t port)
{
	union any any;
	socklen_t len = any_init(&any, form, text, port);

	return connect(fd, &any.sa, len) ? -errno : 0;
}

int socket_sendto(int fd, enum form form, const char *text, uint16_t port)
{
	union any any;
	socklen_t len = any_init(&any, form, text, port);

	return sendto(fd, "ping", 4, 0, &any.sa, len) == 4 ? 0 : -errno;
}

void assert_peer(int fd, enum form form, const char *text, uint16_t port)
{
	union any any = { 0 };
	socklen_t len = sizeof(any);

	assert_int_equal(getpeername(fd, &any.sa, &len), 0);
	assert_any(&any, form, text, port);
}

void disconnect(int fd)
{
	const struct sockaddr unspec = { .sa_family = AF_UNSPEC };

	assert_int_equal(connect(fd, &unspec, sizeof(unspec)), 0);
}

/* ---- servers ------------------------------------------------------------------------------ */

static void server_open(enum form form, bool udp, int index)
{
	union any any;
	socklen_t len = any_init(&any, form, forms[form].backend, 0);
	int fd = socket_new(form, udp ? SOCK_DGRAM : SOCK_STREAM);

	assert_int_equal(bind(fd, &any.sa, len), 0);
	if (!udp)
		assert_int_equal(listen(fd, 128), 0);
	assert_int_equal(getsockname(fd, &any.sa, &len), 0);
	loopback.servers[form][udp][index] = fd;
	loopback.ports[form][udp][index] = any_port(&any);
}

int server_of(enum form form, bool udp)
{
	const int family = form == FORM_V6 ? FORM_V6 : FORM_V4;
	struct pollfd fds[BACKENDS];
	char buf[16];

	for (int i = 0; i < BACKENDS; i++)
		fds[i] =
			(struct pollfd){ .fd = loopback.servers[family][udp][i], .events = POLLIN };
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

uint16_t port_of(enum form form, bool udp, int index)
{
	return loopback.ports[form == FORM_V6 ? FORM_V6 : FORM_V4][udp][index];
}

void assert_answer_from(int fd, enum form form, const char *text, uint16_t port)
{
	union any from = { 0 };
	socklen_t len = sizeof(from);
	char buf[16];

	assert_int_equal(recvfrom(fd, buf, sizeof(buf), 0, &from.sa, &len), 4);
	assert_any(&from, form, text, port);
}

void assert_answered(int fd)
{
	char buf[16];

	assert_int_equal(recv(fd, buf, sizeof(buf), 0), 4);
}

/* ---- the service -------------------------------------------------------------------------- */

void service_put(const char *text, uint8_t proto, uint32_t id, const char *backend,
		 const uint16_t ports[], uint32_t backends)
{
	const struct service service = { .id = id, .backends = backends };
	struct service_key key = { .port = htons(PORT), .proto = proto };

	for (uint32_t i = 0; i < backends; i++) {
		const struct backend_key backend_key = { .service_id = id, .index = i };
		struct backend value = { .port = htons(ports[i]) };

		assert_int_equal(addr_parse(backend, &value.addr), 0);
		assert_int_equal(backend_map_set(loopback.datapath, &backend_key, &value), 0);
	}
	assert_int_equal(addr_parse(text, &key.addr), 0);
	assert_int_equal(service_map_set(loopback.datapath, &key, &service), 0);
}

struct datapath_options loopback_options(void)
{
	struct datapath_options options = scratch_options();

	options.cgroup = scratch_cgroup();
	options.socket_services = true;
	options.limits.endpoints = 8;
	return options;
}

void services_put(void)
{
	uint32_t id = 1;

	for (enum form form = FORM_V4; form <= FORM_V6; form++) {
		for (int udp = 0; udp <= 1; udp++) {
			const uint8_t proto = udp ? IPPROTO_UDP : IPPROTO_TCP;

			service_put(forms[form].service, proto, id++, forms[form].backend,
				    loopback.ports[form][udp], BACKENDS);
			service_put(forms[form].empty, proto, id++, forms[form].backend, NULL, 0);
		}
	}
}

int loopback_setup(void **state)
{
	struct errmsg err = { 0 };
	struct datapath_options opts;

	(void)state;
	if (scratch_init(&err)) {
		print_error("%s\n", err.text);
		return -1;
	}
	opts = loopback_options();
	if (datapath_open(&opts, &loopback.datapath, &err)) {
		print_error("%s\n", err.text);
		return -1;
	}
	maps_node(loopback.datapath)->netns_cookie = scratch_netns_cookie();
	for (enum form form = FORM_V4; form <= FORM_V6; form++) {
		for (int i = 0; i < BACKENDS; i++) {
			server_open(form, false, i);
			server_open(form, true, i);
		}
	}
	services_put();
	return 0;
}

int loopback_teardown(void **state)
{
	(void)state;
	datapath_close(loopback.datapath);
	scratch_done();
	return 0;
}
