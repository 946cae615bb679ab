/* SPDX-License-Identifier: Apache-2.0 */
/* Where the socket programs keep the service of a connection, and the list of who uses which. */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include "datapath/maps.h"
#include "harness/loopback.h"
#include "harness/scratch.h"
#include "lib/auto.h"

#include <cmocka.h> /* last: its fail() is a macro, ours a function */

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
	assert_int_equal(service_sockets_foreach(loopback.datapath, listing_note, &listing), 0);
	for (size_t i = 0; i < ARRAY_SIZE(listing.seen); i++)
		assert_int_equal(listing.seen[i], 1);
	/* One that sends each datagram with an address goes elsewhere by itself. */
	listing = (struct listing){ .cookies = { cookie_of(unconnected) } };
	assert_int_equal(socket_sendto(unconnected, FORM_V4, forms[FORM_V4].service, PORT), 0);
	server_of(FORM_V4, true);
	assert_int_equal(service_sockets_foreach(loopback.datapath, listing_note, &listing), 0);
	assert_int_equal(listing.seen[0], 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_closed_connection_gives_its_bucket_back),
		cmocka_unit_test(test_connections_that_meet_in_a_bucket_keep_their_services),
		cmocka_unit_test(test_sockets_of_the_kernel_take_no_bucket),
		cmocka_unit_test(test_connected_sockets_are_listed),
	};

	return cmocka_run_group_tests(tests, loopback_setup, loopback_teardown);
}
