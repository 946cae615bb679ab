/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses, prefixes, numbers and MACs: what is accepted, what is refused, how it prints. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/auto.h"
#include "lib/inet.h"

static struct addr addr_of(const char *text)
{
	struct addr addr;

	assert_int_equal(addr_parse(text, &addr), 0);
	return addr;
}

static struct prefix prefix_from(const char *text)
{
	struct prefix prefix;

	assert_int_equal(prefix_parse(text, &prefix), 0);
	return prefix;
}

static void test_addr_prints_as_parsed(void **state)
{
	static const char *const same[] = { "0.0.0.0", "10.1.2.3",    "255.255.255.255", "::",
					    "::1",     "2001:db8::1", "fe80::1:2:3:4" };
	char buf[ADDR_TEXT_MAX];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(same); i++) {
		struct addr addr = addr_of(same[i]);

		assert_string_equal(addr_format(&addr, buf), same[i]);
		assert_int_equal(addr_is_v4(&addr), strchr(same[i], ':') == NULL);
	}
}

static void test_special_addresses(void **state)
{
	static const char *const special[] = { "0.0.0.0",         "0.1.2.3",   "127.0.0.1",
					       "169.254.1.1",     "224.0.0.1", "240.0.0.1",
					       "255.255.255.255", "::",        "::1",
					       "fe80::1",         "febf::1",   "ff02::1" };
	static const char *const plain[] = { "1.0.0.0",         "10.0.0.1",    "126.255.255.255",
					     "128.0.0.1",       "169.253.0.1", "169.255.0.1",
					     "223.255.255.255", "::2",         "::1:0:1",
					     "fd00::1",         "fec0::1",     "2001:db8::1" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(special); i++) {
		struct addr addr = addr_of(special[i]);

		assert_true(addr_is_special(&addr));
	}
	for (size_t i = 0; i < ARRAY_SIZE(plain); i++) {
		struct addr addr = addr_of(plain[i]);

		assert_false(addr_is_special(&addr));
	}
}

static void test_addr_refuses(void **state)
{
	static const char *const bad[] = { "",           "1.2.3",          "1.2.3.4.5",
					   "1.2.3.256",  "01.2.3.4",       "1.2.3.4 ",
					   " 1.2.3.4",   "::ffff:1.2.3.4", "::ffff:1:2",
					   "fe80::1%lo", "1:2:3",          "1.2.3.4/32",
					   "localhost" };
	struct addr addr = addr_of("9.9.9.9");
	struct addr before = addr;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(addr_parse(bad[i], &addr), -EINVAL);
		assert_true(addr_equal(&addr, &before));
	}
}

static void test_addr_bytes_round_trip(void **state)
{
	struct addr v4 = addr_of("10.1.2.3");
	struct addr v6 = addr_of("2001:db8::7");
	const uint8_t *bytes;
	struct addr back;

	(void)state;
	assert_int_equal(addr_bytes(&v4, &bytes), 4);
	assert_memory_equal(bytes, "\x0a\x01\x02\x03", 4);
	assert_int_equal(addr_from_bytes(bytes, 4, &back), 0);
	assert_true(addr_equal(&back, &v4));
	assert_int_equal(addr_bytes(&v6, &bytes), 16);
	assert_int_equal(addr_from_bytes(bytes, 16, &back), 0);
	assert_true(addr_equal(&back, &v6));
	assert_int_equal(addr_from_bytes(bytes, 5, &back), -EINVAL);
}

static void test_addr_adds_and_orders(void **state)
{
	struct addr base = addr_of("10.0.0.255");
	struct addr next = addr_add(&base, 2);
	struct addr v6 = addr_of("2001:db8::ffff:ffff");
	struct addr v6_next = addr_add(&v6, 1);
	struct addr zero = { 0 };
	char buf[ADDR_TEXT_MAX];

	(void)state;
	assert_string_equal(addr_format(&next, buf), "10.0.1.1");
	assert_string_equal(addr_format(&v6_next, buf), "2001:db8::1:0:0");
	assert_true(addr_compare(&base, &next) < 0);
	assert_true(addr_compare(&base, &v6) < 0);
	assert_int_equal(addr_compare(&v6, &v6), 0);
	assert_true(addr_is_zero(&zero));
	assert_false(addr_is_zero(&base));
}

static void test_prefix_clears_host_bits(void **state)
{
	static const struct {
		const char *in;
		const char *out;
		uint8_t len;
	} cases[] = {
		{ "10.0.0.1/24", "10.0.0.0/24", 120 },
		{ "10.1.2.3/32", "10.1.2.3/32", 128 },
		{ "10.255.2.3/9", "10.128.0.0/9", 105 },
		{ "1.2.3.4/0", "0.0.0.0/0", 96 },
		{ "2001:db8:ffff::1/33", "2001:db8:8000::/33", 33 },
		{ "::1/128", "::1/128", 128 },
		{ "::/0", "::/0", 0 },
	};
	char buf[ADDR_TEXT_MAX];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct prefix prefix = prefix_from(cases[i].in);

		assert_string_equal(prefix_format(&prefix, buf), cases[i].out);
		assert_int_equal(prefix.len, cases[i].len);
	}
}

static void test_prefix_refuses(void **state)
{
	static const char *const bad[] = { "10.0.0.0",    "10.0.0.0/",   "10.0.0.0/33",
					   "10.0.0.0/-1", "10.0.0.0/08", "10.0.0.0/8 ",
					   "::/129",      "/8",          "::ffff:0.0.0.0/96",
					   "10.0.0/8",    "10.0.0.0/8/8" };
	struct prefix prefix;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(prefix_parse(bad[i], &prefix), -EINVAL);
}

static void test_prefix_contains(void **state)
{
	static const struct {
		const char *prefix;
		const char *addr;
		bool contains;
	} cases[] = {
		{ "10.0.0.0/8", "10.255.255.255", true },
		{ "10.0.0.0/8", "11.0.0.0", false },
		{ "10.0.0.128/25", "10.0.0.127", false },
		{ "10.0.0.128/25", "10.0.0.128", true },
		{ "0.0.0.0/0", "8.8.8.8", true },
		{ "0.0.0.0/0", "2001:db8::1", false },
		{ "::/0", "8.8.8.8", false },
		{ "::/0", "2001:db8::1", true },
		{ "::/80", "8.8.8.8", false },
		{ "2001:db8::/33", "2001:db8:8000::", false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct prefix prefix = prefix_from(cases[i].prefix);
		struct addr addr = addr_of(cases[i].addr);

		assert_int_equal(prefix_contains(&prefix, &addr), cases[i].contains);
	}
}

static void test_prefix_overlaps(void **state)
{
	struct prefix wide = prefix_from("10.0.0.0/8");
	struct prefix narrow = prefix_from("10.1.0.0/16");
	struct prefix other = prefix_from("11.0.0.0/8");
	struct prefix v6 = prefix_from("::/0");

	(void)state;
	assert_true(prefix_overlaps(&wide, &narrow));
	assert_true(prefix_overlaps(&narrow, &wide));
	assert_false(prefix_overlaps(&wide, &other));
	assert_false(prefix_overlaps(&v6, &wide));
}

static void test_proto(void **state)
{
	uint8_t proto;

	(void)state;
	assert_int_equal(proto_parse("tcp", &proto), 0);
	assert_int_equal(proto, 6);
	assert_int_equal(proto_parse("SCTP", &proto), 0);
	assert_int_equal(proto, 132);
	assert_int_equal(proto_parse("IcmpV6", &proto), 0);
	assert_int_equal(proto, 58);
	assert_int_equal(proto_parse("47", &proto), 0);
	assert_int_equal(proto, 47);
	assert_int_equal(proto_parse("256", &proto), -EINVAL);
	assert_int_equal(proto_parse("", &proto), -EINVAL);
	assert_string_equal(proto_name(17), "UDP");
	assert_string_equal(proto_name(47), "proto-47");
	assert_string_equal(proto_name(255), "proto-255");
}

static void test_number(void **state)
{
	uint64_t number = 7;

	(void)state;
	assert_int_equal(number_parse("65535", 1, 65535, &number), 0);
	assert_int_equal(number, 65535);
	assert_int_equal(number_parse("18446744073709551615", 0, UINT64_MAX, &number), 0);
	assert_true(number == UINT64_MAX);
	assert_int_equal(number_parse("18446744073709551616", 0, UINT64_MAX, &number), -ERANGE);
	assert_int_equal(number_parse("0", 1, 2, &number), -ERANGE);
	assert_int_equal(number_parse("3", 1, 2, &number), -ERANGE);
	assert_int_equal(number_parse("", 0, 9, &number), -EINVAL);
	assert_int_equal(number_parse("-1", 0, 9, &number), -EINVAL);
	assert_int_equal(number_parse("+1", 0, 9, &number), -EINVAL);
	assert_int_equal(number_parse(" 1", 0, 9, &number), -EINVAL);
	assert_int_equal(number_parse("1x", 0, 9, &number), -EINVAL);
}

static void test_addr_for_a_socket(void **state)
{
	struct sockaddr_storage socket_address;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&socket_address;
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)&socket_address;
	struct addr addr;
	char text[64];

	(void)state;
	addr = addr_of("192.0.2.1");
	assert_int_equal(addr_socket(&addr, 80, &socket_address), sizeof(*v4));
	assert_int_equal(v4->sin_family, AF_INET);
	assert_int_equal(v4->sin_port, htons(80));
	assert_string_equal(inet_ntop(AF_INET, &v4->sin_addr, text, sizeof(text)), "192.0.2.1");
	addr = addr_of("2001:db8::7");
	assert_int_equal(addr_socket(&addr, 443, &socket_address), sizeof(*v6));
	assert_int_equal(v6->sin6_family, AF_INET6);
	assert_int_equal(v6->sin6_port, htons(443));
	assert_string_equal(inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof(text)), "2001:db8::7");
}

static void test_mac(void **state)
{
	uint8_t mac[6];
	char buf[18];

	(void)state;
	assert_int_equal(mac_parse("02:aB:00:ff:1e:09", mac), 0);
	assert_string_equal(mac_format(mac, buf), "02:ab:00:ff:1e:09");
	assert_int_equal(mac_parse("02:ab:00:ff:1e", mac), -EINVAL);
	assert_int_equal(mac_parse("02:ab:00:ff:1e:0g", mac), -EINVAL);
	assert_int_equal(mac_parse("02-ab-00-ff-1e-09", mac), -EINVAL);
	assert_int_equal(mac_parse("02:ab:00:ff:1e:090", mac), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addr_prints_as_parsed),
		cmocka_unit_test(test_special_addresses),
		cmocka_unit_test(test_addr_refuses),
		cmocka_unit_test(test_addr_bytes_round_trip),
		cmocka_unit_test(test_addr_adds_and_orders),
		cmocka_unit_test(test_prefix_clears_host_bits),
		cmocka_unit_test(test_prefix_refuses),
		cmocka_unit_test(test_prefix_contains),
		cmocka_unit_test(test_prefix_overlaps),
		cmocka_unit_test(test_proto),
		cmocka_unit_test(test_number),
		cmocka_unit_test(test_addr_for_a_socket),
		cmocka_unit_test(test_mac),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
