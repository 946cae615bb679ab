/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses for pods: which are handed out, in which order, and what is refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "agent/endpoint/ipam.h"

#include <cmocka.h> /* last: its fail() is a macro */

/* The record of allocations, as the endpoints keep it. */
struct taken {
	struct addr items[300];
	size_t count;
};

static bool in_use(const struct addr *addr, void *arg)
{
	const struct taken *taken = arg;

	for (size_t i = 0; i < taken->count; i++) {
		if (addr_equal(&taken->items[i], addr))
			return true;
	}
	return false;
}

static void release(struct taken *taken, const char *text)
{
	struct addr addr;

	assert_int_equal(addr_parse(text, &addr), 0);
	for (size_t i = 0; i < taken->count; i++) {
		if (addr_equal(&taken->items[i], &addr)) {
			taken->items[i] = taken->items[--taken->count];
			return;
		}
	}
	print_error("%s was not taken\n", text);
	assert_true(false);
}

static struct ipam *ipam_of(const char *first, const char *second)
{
	const char *texts[] = { first, second };
	struct prefix ranges[2];
	struct ipam *ipam = NULL;
	struct errmsg err = {};
	size_t count = 0;

	for (; count < 2 && texts[count]; count++)
		assert_int_equal(prefix_parse(texts[count], &ranges[count]), 0);
	assert_int_equal(ipam_new(ranges, count, &ipam, &err), 0);
	return ipam;
}

/* The next address, remembered as taken; "-" if there is none. */
static const char *take(struct ipam *ipam, bool v4, struct taken *taken)
{
	static char text[ADDR_TEXT_MAX];
	struct ipam_lease lease;
	struct errmsg err = {};

	if (ipam_allocate(ipam, v4, in_use, taken, &lease, &err) < 0) {
		assert_int_equal(err.code, -ENOSPC);
		return "-";
	}
	taken->items[taken->count++] = lease.address.addr;
	return addr_format(&lease.address.addr, text);
}

static void test_order_skips_network_gateway_and_broadcast(void **state)
{
	auto_(ipam) struct ipam *ipam = ipam_of("10.1.2.0/29", NULL);
	struct taken taken = {};

	(void)state;
	assert_string_equal(take(ipam, true, &taken), "10.1.2.2");
	assert_string_equal(take(ipam, true, &taken), "10.1.2.3");
	assert_string_equal(take(ipam, true, &taken), "10.1.2.4");
	assert_string_equal(take(ipam, true, &taken), "10.1.2.5");
	assert_string_equal(take(ipam, true, &taken), "10.1.2.6");
	assert_string_equal(take(ipam, true, &taken), "-");
}

static void test_ipv6_uses_its_last_address(void **state)
{
	auto_(ipam) struct ipam *ipam = ipam_of("fd00::/126", NULL);
	struct taken taken = {};

	(void)state;
	assert_string_equal(take(ipam, false, &taken), "fd00::2");
	assert_string_equal(take(ipam, false, &taken), "fd00::3");
	assert_string_equal(take(ipam, false, &taken), "-");
}

static void test_released_address_is_not_next(void **state)
{
	auto_(ipam) struct ipam *ipam = ipam_of("10.1.2.0/29", NULL);
	struct taken taken = {};

	(void)state;
	take(ipam, true, &taken);
	take(ipam, true, &taken);
	release(&taken, "10.1.2.2");
	assert_string_equal(take(ipam, true, &taken), "10.1.2.4");
	take(ipam, true, &taken);
	take(ipam, true, &taken);
	assert_string_equal(take(ipam, true, &taken), "10.1.2.2"); /* around the end */
	assert_string_equal(take(ipam, true, &taken), "-");
}

static void test_second_range_is_used_when_first_is_full(void **state)
{
	auto_(ipam) struct ipam *ipam = ipam_of("10.1.2.0/30", "10.9.0.0/30");
	struct taken taken = {};

	(void)state;
	assert_string_equal(take(ipam, true, &taken), "10.1.2.2");
	assert_string_equal(take(ipam, true, &taken), "10.9.0.2");
	assert_string_equal(take(ipam, true, &taken), "-");
	assert_string_equal(take(ipam, false, &taken), "-");
}

static void test_continues_after_restart(void **state)
{
	auto_(ipam) struct ipam *ipam = ipam_of("10.1.2.0/24", NULL);
	struct taken taken = {};
	struct addr last;

	(void)state;
	addr_parse("10.1.2.77", &last);
	ipam_continue_after(ipam, &last);
	assert_string_equal(take(ipam, true, &taken), "10.1.2.78");
	addr_parse("10.1.2.254", &last);
	ipam_continue_after(ipam, &last);
	assert_string_equal(take(ipam, true, &taken), "10.1.2.2");
	addr_parse("192.0.2.1", &last); /* not ours: no effect */
	ipam_continue_after(ipam, &last);
	assert_string_equal(take(ipam, true, &taken), "10.1.2.3");
}

static void test_lease_has_length_and_gateway(void **state)
{
	auto_(ipam) struct ipam *ipam = ipam_of("10.1.2.0/24", "fd00:1::/64");
	struct ipam_lease lease;
	char text[ADDR_TEXT_MAX];
	struct taken taken = {};

	(void)state;
	assert_int_equal(ipam_allocate(ipam, true, in_use, &taken, &lease, NULL), 0);
	assert_int_equal(lease.address.len, 96 + 24);
	assert_string_equal(addr_format(&lease.gateway, text), "10.1.2.1");
	assert_int_equal(ipam_allocate(ipam, false, in_use, &taken, &lease, NULL), 0);
	assert_int_equal(lease.address.len, 64);
	assert_string_equal(addr_format(&lease.gateway, text), "fd00:1::1");
}

static void test_requested_address(void **state)
{
	static const struct {
		const char *text;
		int result;
	} cases[] = {
		{ "10.1.2.99", 0 },
		{ "10.1.2.0", -EINVAL },
		{ "10.1.2.1", -EINVAL },
		{ "10.1.2.255", -EINVAL },
		{ "10.1.3.9", -EINVAL },
		{ "10.1.2.2", -EADDRINUSE },
		{ "fd00:1::ffff:ffff:ff", 0 },
		{ "fd00:1::1", -EINVAL },
		{ "fd00:2::5", -EINVAL },
	};
	auto_(ipam) struct ipam *ipam = ipam_of("10.1.2.0/24", "fd00:1::/64");
	struct taken taken = {};

	(void)state;
	take(ipam, true, &taken);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct ipam_lease lease;
		struct errmsg err = {};
		struct addr addr;

		assert_int_equal(addr_parse(cases[i].text, &addr), 0);
		if (ipam_request(ipam, &addr, in_use, &taken, &lease, &err) != cases[i].result) {
			print_error("%s: %d %s\n", cases[i].text, err.code, err.text);
			assert_true(false);
		}
		if (cases[i].result < 0)
			assert_non_null(strstr(err.text, cases[i].text));
		else
			assert_true(addr_equal(&lease.address.addr, &addr));
	}
}

static void test_ranges_that_make_no_sense_are_refused(void **state)
{
	static const struct {
		const char *ranges[2];
		const char *says;
	} cases[] = {
		{ { "10.1.2.0/31", "fd00::/64" }, "10.1.2.0/31 has no room" },
		{ { "10.1.2.7/32", "fd00::/64" }, "10.1.2.7/32 has no room" },
		{ { "10.1.2.0/24", "fd00::/127" }, "fd00::/127 has no room" },
		{ { "10.1.0.0/16", "10.1.2.0/24" }, "10.1.0.0/16 and 10.1.2.0/24 overlap" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct ipam *ipam = NULL;
		struct prefix ranges[2];
		struct errmsg err = {};

		prefix_parse(cases[i].ranges[0], &ranges[0]);
		prefix_parse(cases[i].ranges[1], &ranges[1]);
		assert_int_equal(ipam_new(ranges, 2, &ipam, &err), -EINVAL);
		assert_non_null(strstr(err.text, cases[i].says));
		assert_null(ipam);
	}
}

static void test_huge_range_is_walked_without_overflow(void **state)
{
	auto_(ipam) struct ipam *ipam = ipam_of("fd00::/8", NULL);
	struct taken taken = {};
	struct addr far;

	(void)state;
	assert_string_equal(take(ipam, false, &taken), "fd00::2");
	/* The last address that offsets reach, then around. */
	addr_parse("fd00::3fff:ffff:ffff:ffff", &far);
	ipam_continue_after(ipam, &far);
	assert_string_equal(take(ipam, false, &taken), "fd00::3");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order_skips_network_gateway_and_broadcast),
		cmocka_unit_test(test_ipv6_uses_its_last_address),
		cmocka_unit_test(test_released_address_is_not_next),
		cmocka_unit_test(test_second_range_is_used_when_first_is_full),
		cmocka_unit_test(test_continues_after_restart),
		cmocka_unit_test(test_lease_has_length_and_gateway),
		cmocka_unit_test(test_requested_address),
		cmocka_unit_test(test_ranges_that_make_no_sense_are_refused),
		cmocka_unit_test(test_huge_range_is_walked_without_overflow),
	};

	return cmocka_run_group_tests_name("ipam", tests, NULL, NULL);
}
