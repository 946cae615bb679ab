/* SPDX-License-Identifier: Apache-2.0 */
/* Keys of WireGuard as text, and the messages about peers in the form that the kernel takes. */
#include <arpa/inet.h>
#include <linux/genetlink.h>
#include <linux/wireguard.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "agent/nodes/wireguard.h"
#include "lib/auto.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define FAMILY 27

static const char text[] = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

static void test_a_key_and_its_text(void **state)
{
	char buf[WIREGUARD_KEY_TEXT_LEN + 1];
	struct wireguard_key key;

	(void)state;
	assert_int_equal(wireguard_key_parse(text, &key), 0);
	for (uint8_t i = 0; i < WIREGUARD_KEY_LEN; i++)
		assert_int_equal(key.bytes[i], i);
	assert_string_equal(wireguard_key_format(&key, buf), text);
	memset(&key, 0xff, sizeof(key));
	assert_string_equal(wireguard_key_format(&key, buf),
			    "//////////////////////////////////////////8=");
	assert_int_equal(wireguard_key_parse(buf, &key), 0);
}

static void test_what_is_no_key(void **state)
{
	static const char *const wrong[] = {
		"",
		"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",   /* short */
		"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8==", /* long */
		"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8A",  /* 33 bytes */
		"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9=",  /* bits behind the last byte */
		"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdH-8=",  /* of another alphabet */
		"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd\n8==",
		"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd=8A=",
		"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", /* nobody's */
	};
	struct wireguard_key key = { .bytes = { 1 } }, before = key;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		if (wireguard_key_parse(wrong[i], &key) == 0)
			fail_msg("\"%s\" is a key", wrong[i]);
		assert_int_equal(wireguard_key_compare(&key, &before), 0);
	}
}

static struct wireguard_peer peer_make(void)
{
	struct wireguard_peer peer = { .allowed_count = 3 };

	assert_int_equal(wireguard_key_parse(text, &peer.key), 0);
	assert_int_equal(addr_parse("192.0.2.2", &peer.endpoint), 0);
	assert_int_equal(prefix_parse("10.9.2.0/24", &peer.allowed[0]), 0);
	assert_int_equal(prefix_parse("fd09:2::/112", &peer.allowed[1]), 0);
	assert_int_equal(prefix_parse("192.0.2.2/32", &peer.allowed[2]), 0);
	return peer;
}

/* As Linux 6.1 has taken it: SET_DEVICE for tendril_wg with one peer, named twice.  The first says
 * everything and asks for keep-alives, the second ends them. */
static const uint8_t recorded[] = {
	0x10, 0x01, 0x00, 0x00, 0x1b, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
	0x00, 0x01, 0x01, 0x00, 0x00, 0x0f, 0x00, 0x02, 0x00, 0x74, 0x65, 0x6e, 0x64, 0x72, 0x69,
	0x6c, 0x5f, 0x77, 0x67, 0x00, 0x00, 0xec, 0x00, 0x08, 0x80, 0xb0, 0x00, 0x00, 0x80, 0x24,
	0x00, 0x01, 0x00, 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b,
	0x0c, 0x0d, 0x0e, 0x0f, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a,
	0x1b, 0x1c, 0x1d, 0x1e, 0x1f, 0x08, 0x00, 0x03, 0x00, 0x02, 0x00, 0x00, 0x00, 0x14, 0x00,
	0x04, 0x00, 0x02, 0x00, 0xca, 0x9f, 0xc0, 0x00, 0x02, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00,
	0x00, 0x00, 0x00, 0x64, 0x00, 0x09, 0x80, 0x1c, 0x00, 0x00, 0x80, 0x06, 0x00, 0x01, 0x00,
	0x02, 0x00, 0x00, 0x00, 0x08, 0x00, 0x02, 0x00, 0x0a, 0x09, 0x02, 0x00, 0x05, 0x00, 0x03,
	0x00, 0x18, 0x00, 0x00, 0x00, 0x28, 0x00, 0x00, 0x80, 0x06, 0x00, 0x01, 0x00, 0x0a, 0x00,
	0x00, 0x00, 0x14, 0x00, 0x02, 0x00, 0xfd, 0x09, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00,
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x05, 0x00, 0x03, 0x00, 0x70, 0x00, 0x00, 0x00,
	0x1c, 0x00, 0x00, 0x80, 0x06, 0x00, 0x01, 0x00, 0x02, 0x00, 0x00, 0x00, 0x08, 0x00, 0x02,
	0x00, 0xc0, 0x00, 0x02, 0x02, 0x05, 0x00, 0x03, 0x00, 0x20, 0x00, 0x00, 0x00, 0x06, 0x00,
	0x05, 0x00, 0x01, 0x00, 0x00, 0x00, 0x38, 0x00, 0x00, 0x80, 0x24, 0x00, 0x01, 0x00, 0x00,
	0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f,
	0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e,
	0x1f, 0x08, 0x00, 0x03, 0x00, 0x04, 0x00, 0x00, 0x00, 0x06, 0x00, 0x05, 0x00, 0x00, 0x00,
	0x00, 0x00,
};

static void test_the_message_about_a_peer(void **state)
{
	const struct wireguard_peer peer = peer_make();
	struct netlink_message message = { 0 };

	(void)state;
	wireguard_peer_message(&message, FAMILY, &peer);
	assert_int_equal(message.header.nlmsg_len, sizeof(recorded));
	assert_memory_equal(message.bytes, recorded, sizeof(recorded));
}

/* The kernel lists a peer as it is set: with the same attributes. */
static void test_a_peer_that_is_listed(void **state)
{
	const struct wireguard_peer peer = peer_make();
	struct wireguard_peers peers = { 0 };
	struct netlink_message message;

	(void)state;
	wireguard_peer_message(&message, FAMILY, &peer);
	wireguard_peers_parse(&message.header, &peers);
	assert_int_equal(peers.count, 1);
	assert_int_equal(wireguard_key_compare(&peers.items[0].key, &peer.key), 0);
	assert_true(addr_equal(&peers.items[0].endpoint, &peer.endpoint));
	assert_int_equal(peers.items[0].allowed_count, 3);
	for (size_t i = 0; i < peer.allowed_count; i++)
		assert_true(prefix_equal(&peers.items[0].allowed[i], &peer.allowed[i]));
	/* The next message of the dump goes on with it: more addresses than a node has. */
	for (int i = 0; i < 3; i++)
		wireguard_peers_parse(&message.header, &peers);
	assert_int_equal(peers.count, 1);
	assert_int_equal(peers.items[0].allowed_count, WIREGUARD_ALLOWED_MAX);
	free(peers.items);
}

static void test_a_peer_by_ipv6(void **state)
{
	struct wireguard_peer peer = peer_make();
	struct wireguard_peers peers = { 0 };
	struct netlink_message message;

	(void)state;
	assert_int_equal(addr_parse("2001:db8::2", &peer.endpoint), 0);
	wireguard_peer_message(&message, FAMILY, &peer);
	wireguard_peers_parse(&message.header, &peers);
	assert_int_equal(peers.count, 1);
	assert_true(addr_equal(&peers.items[0].endpoint, &peer.endpoint));
	free(peers.items);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_key_and_its_text),
		cmocka_unit_test(test_what_is_no_key),
		cmocka_unit_test(test_the_message_about_a_peer),
		cmocka_unit_test(test_a_peer_that_is_listed),
		cmocka_unit_test(test_a_peer_by_ipv6),
	};

	return cmocka_run_group_tests_name(__FILE__, tests, NULL, NULL);
}
