/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages of DNS in TCP segments: however a stream is cut, what is read is the beginning of a
 * message, and what is not read is counted.
 */
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/flow/dns_stream.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define FIRST_SEQ 0xfffffffe /* it wraps at once */
#define SEED      7

static struct dns_streams streams;
static char seen[2048]; /* what was read, each behind "<" */

static int reset(void **state)
{
	(void)state;
	memset(&streams, 0, sizeof(streams));
	seen[0] = '\0';
	return 0;
}

static bool note(const uint8_t *bytes, size_t len, void *arg)
{
	(void)arg;
	strncat(seen, "<", sizeof(seen) - strlen(seen) - 1);
	strncat(seen, (const char *)bytes, len);
	return true;
}

static struct dns_event segment(const char *bytes, size_t len, uint32_t at)
{
	struct dns_event event = { .netns_cookie = 1,
				   .length = (uint32_t)(len < DNS_BYTES_MAX ? len : DNS_BYTES_MAX),
				   .payload = (uint32_t)len,
				   .seq = FIRST_SEQ + at,
				   .begins = at == 0 };

	event.flow.proto = IPPROTO_TCP;
	memcpy(event.bytes, bytes, event.length);
	return event;
}

static void give(const char *bytes, size_t len, uint32_t at)
{
	const struct dns_event event = segment(bytes, len, at);

	assert_true(dns_stream_read(&streams, &event, note, NULL));
}

#define GIVE(bytes, at) give(bytes, sizeof(bytes) - 1, at)

static void test_one_message_and_several(void **state)
{
	(void)state;
	GIVE("\0\3abc", 0);
	GIVE("\0\2de\0\1f", 5);
	GIVE("\0\1g", 12);
	assert_string_equal(seen, "<abc<de<f<g");
	assert_int_equal(streams.left_out, 0);
}

static void test_the_length_alone(void **state)
{
	(void)state;
	GIVE("\0\3", 0);
	GIVE("abc\0\2", 2);
	GIVE("de", 7);
	assert_string_equal(seen, "<abc<de");
	assert_int_equal(streams.left_out, 0);
}

/* What looks like a message in the middle of another one is none. */
static void test_a_message_that_goes_on(void **state)
{
	(void)state;
	GIVE("\0\11abc", 0);
	GIVE("\0\1x", 5);
	GIVE("def\0\1g", 8);
	assert_string_equal(seen, "<abc<g");
	assert_int_equal(streams.left_out, 1);
}

static void test_a_segment_comes_twice_or_never(void **state)
{
	(void)state;
	GIVE("\0\3abc", 0);
	GIVE("\0\1d", 5);
	GIVE("\0\1d", 5);
	GIVE("\0\1d\0\1e", 5); /* with more behind it */
	assert_string_equal(seen, "<abc<d<e");
	assert_int_equal(streams.left_out, 0);
	GIVE("\0\1f", 14); /* the one before it is missing */
	GIVE("\0\1g", 17);
	assert_string_equal(seen, "<abc<d<e");
	assert_int_equal(streams.left_out, 2);
}

static void test_a_stream_without_its_beginning(void **state)
{
	struct dns_event other = segment("\0\1b", 3, 0);

	(void)state;
	GIVE("\0\1a", 5);
	assert_int_equal(streams.left_out, 1);
	for (uint64_t i = 2; i < 2 + DNS_STREAMS; i++) {
		other.netns_cookie = i;
		assert_true(dns_stream_read(&streams, &other, note, NULL));
	}
	GIVE("\0\1c", 0); /* one too many: the oldest is lost */
	other.begins = 0;
	other.seq += 3;
	for (uint64_t i = 2; i < 2 + DNS_STREAMS; i++) {
		other.netns_cookie = i;
		assert_true(dns_stream_read(&streams, &other, note, NULL));
	}
	assert_int_equal(streams.left_out, 2);
}

static void test_what_is_longer_than_what_is_copied(void **state)
{
	char bytes[700] = { 2, 0x58 }; /* 600 bytes */

	(void)state;
	memset(bytes + 2, 'a', sizeof(bytes) - 2);
	memcpy(bytes + 602, "\0\1b", 3);
	give(bytes, 602, 0);
	assert_int_equal(strlen(seen), 1 + DNS_BYTES_MAX - 2);
	assert_int_equal(streams.left_out, 0);
	give(bytes, 605, 602);
	assert_int_equal(strlen(seen), 2 * (1 + DNS_BYTES_MAX - 2));
	assert_int_equal(streams.left_out, 1); /* the second one's beginning was not copied */
}

static bool refuse(const uint8_t *bytes, size_t len, void *arg)
{
	(void)bytes;
	(void)len;
	(void)arg;
	return false;
}

static void test_who_refuses_gets_no_more(void **state)
{
	const struct dns_event event = segment("\0\1a\0\1b", 6, 0);

	(void)state;
	assert_false(dns_stream_read(&streams, &event, refuse, NULL));
}

static bool check(const uint8_t *bytes, size_t len, void *arg)
{
	const struct dns_event *event = arg;

	assert_true(bytes >= event->bytes);
	assert_true(bytes + len <= event->bytes + sizeof(event->bytes));
	return true;
}

/* Any bytes and numbers: nothing is read that is not in the event. */
static void test_nonsense(void **state)
{
	(void)state;
	srand(SEED);
	for (int i = 0; i < 200000; i++) {
		struct dns_event event = { .netns_cookie = (uint64_t)(rand() % 3) };

		event.seq = (uint32_t)rand() % 64 + (rand() % 9 ? 0 : 0x80000000);
		event.begins = rand() % 4 == 0;
		event.length = (uint32_t)rand() % (DNS_BYTES_MAX + 1);
		event.payload = event.length + (rand() % 4 ? 0 : (uint32_t)rand());
		for (size_t at = 0; at < event.length; at++)
			event.bytes[at] = (uint8_t)(rand() % 16 ? 0 : rand());
		assert_true(dns_stream_read(&streams, &event, check, &event));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_one_message_and_several, reset),
		cmocka_unit_test_setup(test_the_length_alone, reset),
		cmocka_unit_test_setup(test_a_message_that_goes_on, reset),
		cmocka_unit_test_setup(test_a_segment_comes_twice_or_never, reset),
		cmocka_unit_test_setup(test_a_stream_without_its_beginning, reset),
		cmocka_unit_test_setup(test_what_is_longer_than_what_is_copied, reset),
		cmocka_unit_test_setup(test_who_refuses_gets_no_more, reset),
		cmocka_unit_test_setup(test_nonsense, reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
