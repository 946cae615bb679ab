/* SPDX-License-Identifier: Apache-2.0 */
/* Answers of DNS as servers write them, cut off, and hostile; and what pods are remembered to have
 * asked for. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "agent/flow/dns_names.h"
#include "datapath/abi.h"
#include "lib/auto.h"
#include "lib/dns.h"
#include "lib/inet.h"

#include <cmocka.h> /* last: it makes fail a macro */

#define QUESTION(name)     "\x12\x34\x81\x80\0\1\0\2\0\0\0\0" name "\0\1\0\1"
#define A(ttl, a, b, c, d) "\xc0\x0c\0\1\0\1\0\0\0" ttl "\0\4" a b c d

static const struct {
	const char *what;
	const char *bytes;
	size_t len;
	const char *name; /* NULL: it is refused */
	const char *addrs;
	uint32_t ttl_s;
} cases[] = {
#define CASE(what, bytes, name, addrs, ttl)                      \
	{                                                        \
		what, bytes, sizeof(bytes) - 1, name, addrs, ttl \
	}
	CASE("two addresses",
	     QUESTION("\3Api\7exAmple\3org\0") A("\x3c", "\x0a", "\1", "\2", "\3")
		     A("\x1e", "\x0a", "\1", "\2", "\4"),
	     "api.example.org", "10.1.2.3 10.1.2.4", 30),
	CASE("an alias on the way, and IPv6",
	     QUESTION("\1a\0") "\xc0\x0c\0\5\0\1\0\0\0\5\0\3\1b\0"
			       "\1b\0\0\x1c\0\1\0\0\1\0\0\x10\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1",
	     "a", "fd00::1", 5),
	CASE("cut off in the second record",
	     QUESTION("\1a\0") A("\x3c", "\x0a", "\1", "\2", "\3") "\xc0\x0c\0\1\0", "a",
	     "10.1.2.3", 60),
	CASE("no such name", "\x12\x34\x81\x83\0\1\0\0\0\0\0\0\1a\0\0\1\0\1", NULL, "", 0),
	CASE("a question", "\x12\x34\1\0\0\1\0\0\0\0\0\0\1a\0\0\1\0\1", NULL, "", 0),
	CASE("no question", "\x12\x34\x81\x80\0\0\0\1\0\0\0\0", NULL, "", 0),
	CASE("cut off in the header", "\x12\x34\x81\x80\0\1", NULL, "", 0),
	CASE("cut off in the name",
	     "\x12\x34\x81\x80\0\1\0\1\0\0\0\0\x3f"
	     "abc",
	     NULL, "", 0),
	CASE("a name that points", "\x12\x34\x81\x80\0\1\0\1\0\0\0\0\xc0\x0c\0\1\0\1", NULL, "", 0),
	CASE("the root", QUESTION("\0"), NULL, "", 0),
	CASE("terminal, page and metrics",
	     QUESTION("\x09\x1b]<\"\n.\\ \xff\0") A("\1", "\x0a", "\1", "\2", "\3"),
	     "\\027\\093\\060\\034\\010\\046\\092\\032\\255", "10.1.2.3", 1),
	CASE("the wrong length of an address",
	     QUESTION("\1a\0") "\xc0\x0c\0\1\0\1\0\0\0\5\0\3\1\2\3", "a", "", 5),
#undef CASE
};

static void test_answers(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char text[DNS_ADDRS_MAX * ADDR_TEXT_MAX] = "", one[ADDR_TEXT_MAX];
		/* Not one byte behind it may be read. */
		uint8_t *bytes = test_malloc(cases[i].len);
		struct dns_answer answer;
		int ret;

		memcpy(bytes, cases[i].bytes, cases[i].len);
		ret = dns_parse(bytes, cases[i].len, &answer);
		test_free(bytes);
		print_message("%s\n", cases[i].what);
		assert_int_equal(ret == 0, cases[i].name != NULL);
		if (ret)
			continue;
		assert_string_equal(answer.name, cases[i].name);
		for (size_t j = 0; j < answer.count; j++) {
			strncat(text, j ? " " : "", sizeof(text) - strlen(text) - 1);
			strncat(text, addr_format(&answer.addrs[j], one),
				sizeof(text) - strlen(text) - 1);
		}
		assert_string_equal(text, cases[i].addrs);
		assert_int_equal(answer.ttl_s, cases[i].ttl_s);
	}
}

static void test_a_name_has_an_end(void **state)
{
	uint8_t bytes[12 + 4 * 64 + 5] = "\x12\x34\x81\x80\0\1\0\0\0\0\0\0";
	struct dns_answer answer;

	(void)state;
	for (int label = 0; label < 4; label++) {
		bytes[12 + 64 * label] = 63;
		memset(bytes + 13 + 64 * label, 'a', 63);
	}
	bytes[12 + 3 * 64] = 61; /* 63 + 63 + 63 + 61 and three dots are 253 */
	memcpy(bytes + 13 + 3 * 64 + 61, "\0\0\1\0\1", 5);
	assert_int_equal(dns_parse(bytes, 12 + 3 * 64 + 62 + 5, &answer), 0);
	assert_int_equal(strlen(answer.name), 253);
	memset(bytes + 13, 0xff, 63); /* four characters each */
	assert_int_equal(dns_parse(bytes, 12 + 3 * 64 + 62 + 5, &answer), -EBADMSG);
}

/* ---- what is remembered ---------------------------------------------------------------------- */

#define CROWD 20000
#define WEB   7
#define CART  8

static struct dns_answer answer_of(const char *name, const char *addr, uint32_t ttl_s)
{
	struct dns_answer answer = { .count = 1, .ttl_s = ttl_s };

	snprintf(answer.name, sizeof(answer.name), "%s", name);
	assert_int_equal(addr_parse(addr, &answer.addrs[0]), 0);
	return answer;
}

static void assert_name(struct dns_names *names, uint64_t pod, const char *addr, uint64_t since_ns,
			const char *want)
{
	struct addr parsed;
	uint16_t number;

	assert_int_equal(addr_parse(addr, &parsed), 0);
	number = dns_names_find(names, pod, &parsed, since_ns);
	if (!want) {
		assert_int_equal(number, 0);
		return;
	}
	assert_int_not_equal(number, 0);
	assert_string_equal(dns_names_text(names, number), want);
	dns_names_drop(names, number);
}

static void learn(struct dns_names *names, uint64_t pod, uint64_t second, const char *name,
		  const char *addr, uint32_t ttl_s)
{
	const struct dns_answer answer = answer_of(name, addr, ttl_s);

	dns_names_learn(names, pod, second * NS_PER_SEC, &answer);
}

static void test_a_pod_knows_what_it_asked_for(void **state)
{
	struct dns_names *names = dns_names_new();

	(void)state;
	learn(names, WEB, 100, "one.org", "10.0.0.1", 60);
	assert_name(names, WEB, "10.0.0.1", 110 * NS_PER_SEC, "one.org");
	assert_name(names, WEB, "10.0.0.1", 170 * NS_PER_SEC, NULL); /* opened after the TTL */
	assert_name(names, WEB, "10.0.0.1", 0, "one.org");
	assert_name(names, CART, "10.0.0.1", 0, NULL);
	assert_name(names, WEB, "10.0.0.2", 0, NULL);
	learn(names, WEB, 120, "two.org", "10.0.0.1", 60); /* the same server */
	assert_name(names, WEB, "10.0.0.1", 130 * NS_PER_SEC, "two.org");
	learn(names, WEB, 150, "one.org", "10.0.0.1", 60);
	assert_name(names, WEB, "10.0.0.1", 151 * NS_PER_SEC, "one.org");
	assert_int_equal(dns_names_count(names), 2);
	dns_names_free(names);
}

static void test_memory_is_bounded(void **state)
{
	struct dns_names *names = dns_names_new();
	char name[DNS_NAME_MAX], addr[32];
	struct addr first;
	uint16_t held;

	(void)state;
	learn(names, CART, 1, "quiet.org", "10.9.9.9", 60);
	learn(names, WEB, 1, "held.org", "10.8.8.8", 60);
	assert_int_equal(addr_parse("10.8.8.8", &first), 0);
	held = dns_names_find(names, WEB, &first, 0);
	for (int i = 0; i < 100000; i++) { /* one pod asks for ever new names */
		snprintf(name, sizeof(name), "%0200d.org", i);
		snprintf(addr, sizeof(addr), "10.%d.%d.%d", i >> 16 & 7, i >> 8 & 255, i & 255);
		learn(names, WEB, 1, name, addr, 60);
	}
	assert_int_equal(dns_names_count(names), 1 + 1 + 128);
	assert_name(names, CART, "10.9.9.9", 0, "quiet.org");
	assert_string_equal(dns_names_text(names, held), "held.org"); /* a flow has it still */
	dns_names_drop(names, held);
	assert_int_equal(dns_names_count(names), 1 + 128);
	for (int pod = 100; pod < 3000; pod++) { /* and many pods */
		for (int i = 0; i < 64; i++) {
			snprintf(name, sizeof(name), "%0200d.org", pod * 100 + i);
			learn(names, (uint64_t)pod, 1, name, "10.0.0.1", 60);
		}
	}
	assert_true(dns_names_count(names) * 205 <= 512 * 1024);
	assert_true(dns_names_left_out(names) > 0);
	dns_names_free(names);
}

/* A pod's flows hold the names that it has brought in, long after it has forgotten them itself. */
static void crowd(int width)
{
	struct dns_names *names = dns_names_new();
	uint16_t held[CROWD];
	char name[DNS_NAME_MAX];
	struct addr addr;
	size_t count;

	assert_int_equal(addr_parse("10.0.0.1", &addr), 0);
	for (int i = 0; i < CROWD; i++) {
		snprintf(name, sizeof(name), "%0*d.org", width, i);
		learn(names, WEB, (uint64_t)i, name, "10.0.0.1", 60);
		held[i] = dns_names_find(names, WEB, &addr, 0);
	}
	count = dns_names_count(names);
	assert_true(count > 100 && count <= 1024 && count * (size_t)width <= 512 * 1024 / 16);
	assert_int_equal(dns_names_left_out(names), CROWD - count);
	learn(names, CART, 1, "cart.org", "10.9.9.9", 60);
	assert_name(names, CART, "10.9.9.9", 0, "cart.org");
	for (int i = 0; i < CROWD; i++)
		dns_names_drop(names, held[i]);
	for (int i = 0; i < CROWD; i++) { /* there is room again */
		snprintf(name, sizeof(name), "new%d.org", i);
		learn(names, WEB, CROWD + (uint64_t)i, name, "10.0.0.1", 60);
		assert_name(names, WEB, "10.0.0.1", 0, name);
	}
	dns_names_free(names);
}

static void test_one_pod_leaves_room_for_others(void **state)
{
	(void)state;
	crowd(6);   /* so many names */
	crowd(200); /* so many bytes */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_a_name_has_an_end),
		cmocka_unit_test(test_a_pod_knows_what_it_asked_for),
		cmocka_unit_test(test_memory_is_bounded),
		cmocka_unit_test(test_one_pod_leaves_room_for_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
