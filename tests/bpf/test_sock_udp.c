/* SPDX-License-Identifier: Apache-2.0 */
/* The socket programs and datagrams: a socket may ask many services, each with its address. */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "harness/entry.h"
#include "harness/loopback.h"
#include "lib/auto.h"

#include <cmocka.h> /* last: its fail() is a macro, ours a function */

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

static const char *const other_service[] = { "10.96.0.9", "fd96::9" };

/* Asks the first service, then a second one.  That has the one backend which the first did not give
 * this socket: both must be told apart by the backend alone.  Returns which backend the first gave.
 */
static int ask_two_services(int fd, enum form form)
{
	int met;

	assert_int_equal(socket_sendto(fd, form, forms[form].service, PORT), 0);
	met = server_of(form, true);
	assert_answer_from(fd, form, forms[form].service, PORT);
	service_put(other_service[form], IPPROTO_UDP, 90 + form, forms[form].backend,
		    &loopback.ports[form][1][!met], 1);
	assert_int_equal(socket_sendto(fd, form, other_service[form], PORT), 0);
	return met;
}

static void test_one_socket_asks_two_services(void **state)
{
	(void)state;
	for (enum form form = FORM_V4; form <= FORM_V6; form++) {
		auto_close int fd = socket_new(form, SOCK_DGRAM);
		int met = ask_two_services(fd, form);

		assert_int_equal(server_of(form, true), !met);
		assert_answer_from(fd, form, other_service[form], PORT);
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
	(void)state;
	for (enum form form = FORM_V4; form <= FORM_V6; form++) {
		auto_close int fd = socket_new(form, SOCK_DGRAM);
		int met = ask_two_services(fd, form);
		flood(form);
		assert_int_equal(server_of(form, true), !met);
		assert_answer_from(fd, form, other_service[form], PORT);
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
	const uint16_t *ports = loopback.ports[FORM_V4][1];
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
	const uint16_t *port = &loopback.ports[FORM_V4][1][0];
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
	service_put("10.96.0.8", IPPROTO_UDP, 95, forms[FORM_V4].backend,
		    loopback.ports[FORM_V4][1], BACKENDS);
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
	assert_int_equal(backend_map_del(loopback.datapath, &key), 0);
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
	static const char *const second_service[] = { "10.96.0.11", "fd96::11" };
	enum { SOCKETS = 8, MANY = 9 };

	(void)state;
	for (enum form form = FORM_V4; form <= FORM_V6; form++) {
		const uint16_t *ports = loopback.ports[form][1];
		/* Nobody listens on the others: a datagram that moves is lost. */
		const uint16_t shuffled[MANY] = { 1, ports[1], 2, 3, 4, 5, 6, ports[0], 7 };
		int fds[SOCKETS], met[SOCKETS];

		/* Of two services of each socket, one is kept in sock_service and one in
		 * sendmsg_service. Both have the same backends, so an answer does not tell which
		 * was asked. */
		for (int service = 0; service < 2; service++) {
			const char *addr = service ? second_service[form] : forms[form].service;
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

int main(void)
{
	const struct CMUnitTest tests[] = {
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
	};

	return cmocka_run_group_tests(tests, loopback_setup, loopback_teardown);
}
