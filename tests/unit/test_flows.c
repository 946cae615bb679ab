/* SPDX-License-Identifier: Apache-2.0 */
/* Who opened a connection that was there before anybody looked. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/monitor/flows_internal.h"

#include <cmocka.h> /* last: its fail() is a macro */

static void test_a_listener_accepted_and_others_connected(void **state)
{
	static const struct {
		uint16_t own, remote;
		bool is_listening;
		bool accepted;
	} cases[] = {
		{ 80, 45000, true, true },    { 45000, 80, false, false },
		{ 45000, 41000, true, true }, { 45000, 41000, false, false },
		{ 80, 45000, false, true }, /* the listener has closed */
		{ 5000, 5001, false, false }, { 5000, 5001, true, true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct flow own = { .saddr.w[3] = 1,
				    .daddr.w[3] = 2,
				    .proto = 6,
				    .sport = htons(cases[i].own),
				    .dport = htons(cases[i].remote) };
		struct flow flow = flows_of_socket(&own, cases[i].is_listening);

		assert_int_equal(flow.saddr.w[3], cases[i].accepted ? 2 : 1);
		assert_int_equal(flow.daddr.w[3], cases[i].accepted ? 1 : 2);
		assert_int_equal(flow.sport, cases[i].accepted ? own.dport : own.sport);
		assert_int_equal(flow.dport, cases[i].accepted ? own.sport : own.dport);
		assert_int_equal(flow.proto, 6);
	}
}

static void test_datagrams_to_an_ephemeral_port_are_answers(void **state)
{
	struct flow_key key = {
		.saddr.w[3] = 1, .daddr.w[3] = 2, .proto = 17, .dport = htons(45000)
	};
	struct flow_record record = { .sport = htons(53) };

	(void)state;
	flows_orient(&key, &record);
	assert_int_equal(key.saddr.w[3], 2);
	assert_int_equal(key.daddr.w[3], 1);
	assert_int_equal(key.dport, htons(53));
	assert_int_equal(record.sport, htons(45000));
	flows_orient(&key, &record); /* a question stays as it is */
	assert_int_equal(key.dport, htons(53));
	key.dport = htons(45000);
	record.sport = htons(53);
	key.proto = 6; /* a SYN is no answer */
	flows_orient(&key, &record);
	assert_int_equal(key.dport, htons(45000));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_listener_accepted_and_others_connected),
		cmocka_unit_test(test_datagrams_to_an_ephemeral_port_are_answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
