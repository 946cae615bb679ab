/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Policy sync where maps have no room or refuse what is written: what does not fit is denied and
 * said, nothing is open meanwhile that should not be, and the next run puts it right.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "lib/auto.h"
#include "unit/sync_script.h"

#include <cmocka.h> /* last: it makes fail a macro */

static void test_full_policy_map_denies_and_says_so(void **state)
{
	struct sync_fixture *fixture = *state;
	auto_free struct script *script = script_new();
	struct errmsg err = { 0 };

	fixture->maps.capacity[MAP_POLICY] = 1;
	add_address(script, "10.0.0.2", 101);
	add_address(script, "10.0.0.3", 102);
	add_entry(script, 7, 101, 80, 1);
	add_entry(script, 7, 102, 80, 1);
	add_subject(script, 1, 100, 7);
	assert_int_equal(sync_apply(fixture->sync, &script->compiled, &err), -ENOSPC);
	assert_string_equal(err.text, "policy_map is full: 1 entries did not fit and are denied");
	assert_true(passes(&fixture->maps, 1, "10.0.0.2", 80));
	assert_false(passes(&fixture->maps, 1, "10.0.0.3", 80));
	assert_false(passes(&fixture->maps, 1, "10.0.0.9", 80));

	/* Room is found by the next run. */
	fixture->maps.capacity[MAP_POLICY] = 2;
	script_apply(fixture, script);
	assert_true(passes(&fixture->maps, 1, "10.0.0.3", 80));
	assert_string_equal(fixture->sync->policy_warning, "");
}

static void test_replaced_policy_fits_where_both_do_not(void **state)
{
	struct sync_fixture *fixture = *state;
	auto_free struct script *before = script_new();
	auto_free struct script *after = script_new();

	fixture->maps.capacity[MAP_POLICY] = 3;
	for (uint32_t peer = 101; peer <= 103; peer++) {
		add_entry(before, 7, peer, 80, 1);
		add_entry(after, 8, peer, 80, 1);
	}
	add_subject(before, 1, 100, 7);
	add_subject(after, 1, 100, 8);
	script_apply(fixture, before);
	script_apply(fixture, after);
	assert_int_equal(fake_map_count(&fixture->maps, MAP_POLICY), 3);
}

static void test_nothing_is_open_to_everyone_while_what_denies_does_not_fit(void **state)
{
	struct sync_fixture *fixture = *state;
	auto_free struct script *script = denying_script();
	struct errmsg err = { 0 };

	fixture->maps.capacity[MAP_POLICY] = 2;
	assert_int_equal(sync_apply(fixture->sync, &script->compiled, &err), -ENOSPC);
	assert_false(passes(&fixture->maps, 1, "10.0.0.3", 80));
	assert_false(passes(&fixture->maps, 1, "10.0.0.9", 80));
	fixture->maps.capacity[MAP_POLICY] = 3;
	script_apply(fixture, script);
	assert_false(passes(&fixture->maps, 1, "10.0.0.3", 80));
	assert_true(passes(&fixture->maps, 1, "10.0.0.9", 80));
}

static void test_nothing_is_open_to_everyone_while_someone_is_not_known(void **state)
{
	struct sync_fixture *fixture = *state;
	auto_free struct script *script = denying_script();
	struct errmsg err = { 0 };

	fixture->maps.capacity[MAP_IPCACHE] = 1;
	assert_int_equal(sync_apply(fixture->sync, &script->compiled, &err), -ENOSPC);
	assert_false(passes(&fixture->maps, 1, "10.0.0.2", 80));
	assert_false(passes(&fixture->maps, 1, "10.0.0.3", 80));
	assert_false(passes(&fixture->maps, 1, "10.0.0.9", 80));
	fixture->maps.capacity[MAP_IPCACHE] = 2;
	script_apply(fixture, script);
	assert_false(passes(&fixture->maps, 1, "10.0.0.3", 80));
	assert_true(passes(&fixture->maps, 1, "10.0.0.9", 80));
	/* And again later. */
	fixture->maps.capacity[MAP_CIDR] = 1;
	add_cidr(script, "10.1.0.0/16", 103);
	add_cidr(script, "10.2.0.0/16", 103);
	assert_int_equal(sync_apply(fixture->sync, &script->compiled, &err), -ENOSPC);
	assert_false(passes(&fixture->maps, 1, "10.0.0.9", 80));
}

static void test_port_set_without_room_denies(void **state)
{
	struct sync_fixture *fixture = *state;
	auto_free struct script *script = script_new();
	struct errmsg err = { 0 };

	fixture->maps.capacity[MAP_PORT] = 10;
	add_address(script, "10.0.0.2", 101);
	add_entry(script, 7, 101, 1000, 20);
	add_subject(script, 1, 100, 7);
	assert_int_equal(sync_apply(fixture->sync, &script->compiled, &err), -ENOSPC);
	assert_non_null(strstr(err.text, "port_map is full: 10 entries"));
	assert_false(passes(&fixture->maps, 1, "10.0.0.2", 1000));
	fixture->maps.capacity[MAP_PORT] = 20;
	script_apply(fixture, script);
	assert_true(passes(&fixture->maps, 1, "10.0.0.2", 1000));
}

/* 10/8 is allowed except 10.1/16: without room for the exception nothing of it may be allowed. */
static void test_cidr_without_room_never_opens(void **state)
{
	struct sync_fixture *fixture = *state;
	auto_free struct script *before = script_new();
	auto_free struct script *after = script_new();
	struct errmsg err = { 0 };

	fixture->maps.capacity[MAP_CIDR] = 2;
	add_cidr(before, "10.0.0.0/8", 110);
	add_cidr(before, "172.16.0.0/12", 112);
	add_entry(before, 7, 110, 80, 1);
	add_subject(before, 1, 100, 7);
	script_apply(fixture, before);
	assert_true(passes(&fixture->maps, 1, "10.1.0.1", 80));

	add_cidr(after, "10.0.0.0/8", 110);
	add_cidr(after, "10.1.0.0/16", 111);
	add_cidr(after, "172.16.0.0/12", 112);
	add_entry(after, 8, 110, 80, 1);
	add_subject(after, 1, 100, 8);
	assert_int_equal(sync_apply(fixture->sync, &after->compiled, &err), -ENOSPC);
	assert_false(passes(&fixture->maps, 1, "10.1.0.1", 80));
	assert_int_equal(sync_apply(fixture->sync, &after->compiled, &err), -ENOSPC);
	assert_false(passes(&fixture->maps, 1, "10.1.0.1", 80));

	fixture->maps.capacity[MAP_CIDR] = 3;
	script_apply(fixture, after);
	assert_false(passes(&fixture->maps, 1, "10.1.0.1", 80));
	assert_true(passes(&fixture->maps, 1, "10.2.0.1", 80));
}

static void test_failed_write_keeps_the_old_policy(void **state)
{
	struct sync_fixture *fixture = *state;
	auto_free struct script *before = script_new();
	auto_free struct script *after = script_new();
	struct errmsg err = { 0 };

	add_address(before, "10.0.0.2", 101);
	add_entry(before, 7, 101, 80, 1);
	add_subject(before, 1, 100, 7);
	script_apply(fixture, before);
	add_entry(after, 8, 101, 81, 1);
	add_subject(after, 1, 100, 8);
	fixture->maps.broken[MAP_POLICY] = EPERM;
	assert_int_equal(sync_apply(fixture->sync, &after->compiled, &err), -EPERM);
	assert_string_equal(err.text, "write policy_map: Operation not permitted");
	assert_int_equal(fixture->maps.endpoints[1].policy_id, 7);
	assert_true(passes(&fixture->maps, 1, "10.0.0.2", 80));
}

/* What a run left when it failed half-way is known to the next: else it would stay for ever. */
static void test_what_a_failed_write_left_goes_with_the_next_run(void **state)
{
	struct sync_fixture *fixture = *state;
	auto_free struct script *before = script_new();
	auto_free struct script *after = script_new();
	struct errmsg err = { 0 };

	for (uint32_t peer = 101; peer < 105; peer++)
		add_entry(before, 7, peer, 80, 1);
	add_subject(before, 1, 100, 7);
	fixture->maps.broken[MAP_POLICY] = ENOMEM;
	fixture->maps.broken_after[MAP_POLICY] = 2;
	assert_int_equal(sync_apply(fixture->sync, &before->compiled, &err), -ENOMEM);
	assert_int_equal(fake_map_count(&fixture->maps, MAP_POLICY), 2);
	fixture->maps.broken[MAP_POLICY] = 0;
	script_apply(fixture, after);
	assert_int_equal(fake_map_count(&fixture->maps, MAP_POLICY), 0);
}

/* And what it had deleted before it failed is written again. */
static void test_what_a_failed_delete_took_is_written_again(void **state)
{
	struct sync_fixture *fixture = *state;
	auto_free struct script *before = script_new();
	auto_free struct script *after = script_new();
	struct errmsg err = { 0 };

	for (uint32_t peer = 101; peer < 105; peer++)
		add_entry(before, 7, peer, 80, 1);
	add_subject(before, 1, 100, 7);
	script_apply(fixture, before);
	fixture->maps.broken[MAP_POLICY] = EIO;
	fixture->maps.broken_after[MAP_POLICY] = 2;
	assert_int_equal(sync_apply(fixture->sync, &after->compiled, &err), -EIO);
	fixture->maps.broken[MAP_POLICY] = 0;
	script_apply(fixture, before);
	assert_int_equal(fake_map_count(&fixture->maps, MAP_POLICY), 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SYNC_CASE(test_full_policy_map_denies_and_says_so),
		SYNC_CASE(test_replaced_policy_fits_where_both_do_not),
		SYNC_CASE(test_nothing_is_open_to_everyone_while_what_denies_does_not_fit),
		SYNC_CASE(test_nothing_is_open_to_everyone_while_someone_is_not_known),
		SYNC_CASE(test_port_set_without_room_denies),
		SYNC_CASE(test_cidr_without_room_never_opens),
		SYNC_CASE(test_failed_write_keeps_the_old_policy),
		SYNC_CASE(test_what_a_failed_write_left_goes_with_the_next_run),
		SYNC_CASE(test_what_a_failed_delete_took_is_written_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
