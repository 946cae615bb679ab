/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Policy sync against maps in memory.  After every single write a reader looks at the maps as the
 * datapath would: at no moment may a flow get a verdict that neither the old nor the new policies
 * give it.  Maps that are too small or refuse are test_sync_full.c.
 */
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "lib/auto.h"
#include "unit/sync_script.h"

#include <cmocka.h> /* last: it makes fail a macro */

static void test_first_policy_isolates_whole(void **state)
{
	struct sync_fixture *fixture = *state;
	auto_free struct script *script = script_new();
	static const struct watched_flow flows[] = {
		{ 1, "10.0.0.2", 80, true, true },
		{ 1, "10.0.0.2", 81, true, false },
		{ 1, "10.0.0.3", 80, true, false },
	};

	add_address(script, "10.0.0.1", 100);
	add_address(script, "10.0.0.2", 101);
	add_address(script, "10.0.0.3", 102);
	add_entry(script, 7, 101, 80, 1);
	add_subject(script, 1, 100, 7);
	script_apply_watched(fixture, script, flows, ARRAY_SIZE(flows));
	assert_int_equal(fixture->maps.endpoints[1].identity, 100);
	assert_int_equal(fixture->maps.node.revision, 1);
}

static void test_same_store_writes_nothing(void **state)
{
	struct sync_fixture *fixture = *state;
	auto_free struct script *script = script_new();
	unsigned int writes;

	add_address(script, "10.0.0.1", 100);
	add_cidr(script, "10.8.0.0/16", 110);
	add_entry(script, 7, 101, 80, 1);
	add_entry(script, 7, 110, 80, 20);
	add_subject(script, 1, 100, 7);
	script_apply(fixture, script);
	writes = fixture->maps.writes;
	assert_int_not_equal(writes, 0);
	script_apply(fixture, script);
	assert_int_equal(fixture->maps.writes, writes);
	assert_int_equal(fixture->maps.node.revision, 1);

	sync_restart(fixture);
	sync_set_missing(fixture->sync, NULL);
	script_apply(fixture, script);
	assert_int_equal(fixture->maps.writes, writes);
	assert_int_equal(fixture->maps.node.revision, 1);
}

static void test_unwired_endpoint_is_left_alone(void **state)
{
	struct sync_fixture *fixture = *state;
	auto_free struct script *script = script_new();

	fixture->maps.endpoints[3].flags = 0;
	add_entry(script, 7, 101, 80, 1);
	add_subject(script, 3, 100, 7);
	script_apply(fixture, script);
	assert_int_equal(fixture->maps.endpoints[3].flags, 0);
	assert_int_equal(fixture->maps.endpoints[3].policy_id, 0);
}

/* A policy that names a CIDR gives the peers new identities and its pod a new policy at once. */
static void test_renumbered_peers_never_lose_an_allowed_flow(void **state)
{
	struct sync_fixture *fixture = *state;
	auto_free struct script *before = script_new();
	auto_free struct script *after = script_new();
	static const struct watched_flow flows[] = {
		{ 1, "10.0.0.2", 80, true, true },
		{ 1, "10.0.0.3", 80, false, false },
		{ 1, "10.0.0.2", 443, false, true },
		{ 1, "10.9.0.1", 443, false, true },
	};

	add_address(before, "10.0.0.2", 101);
	add_address(before, "10.0.0.3", 102);
	add_entry(before, 7, 101, 80, 1);
	add_subject(before, 1, 100, 7);
	script_apply(fixture, before);

	add_address(after, "10.0.0.2", 201);
	add_address(after, "10.0.0.3", 202);
	add_cidr(after, "10.0.0.0/8", 210);
	add_entry(after, 8, 201, 80, 1);
	after->rules[0][1] = (struct port_rule){ 443, 443, IPPROTO_TCP, VERDICT_ALLOW };
	after->entries[0].rule_count = 2;
	add_entry(after, 8, 202, 443, 1);
	add_entry(after, 8, 210, 443, 1);
	add_subject(after, 1, 200, 8);
	script_apply_watched(fixture, after, flows, ARRAY_SIZE(flows));
	assert_int_equal(fake_map_count(&fixture->maps, MAP_POLICY), 3);

	/* And back. */
	static const struct watched_flow back[] = {
		{ 1, "10.0.0.2", 80, true, true },
		{ 1, "10.0.0.3", 80, false, false },
		{ 1, "10.9.0.1", 443, true, false },
	};
	script_apply_watched(fixture, before, back, ARRAY_SIZE(back));
	assert_int_equal(fake_map_count(&fixture->maps, MAP_POLICY), 1);
	assert_int_equal(fixture->maps.node.flags & NODE_HAS_CIDRS, 0);
}

/* The first CIDR that a node knows is denied by a policy that is open to everyone else. */
static void test_the_first_cidr_is_denied_from_the_first_moment(void **state)
{
	struct sync_fixture *fixture = *state;
	auto_free struct script *before = script_new();
	auto_free struct script *after = script_new();
	static const struct watched_flow flows[] = {
		{ 1, "10.8.0.1", 80, false, false },
		{ 1, "10.9.0.1", 80, false, true },
	};

	add_subject(before, 1, 100, 7); /* no entry: nobody may */
	script_apply(fixture, before);
	add_cidr(after, "10.8.0.0/16", 110);
	add_guarded(after, 8, IDENTITY_ANY, true);
	add_guarded(after, 8, 110, false);
	add_subject(after, 1, 100, 8);
	script_apply_watched(fixture, after, flows, ARRAY_SIZE(flows));
}

/* Two endpoints part ways: neither may borrow a rule of the other. */
static void test_parting_endpoints_borrow_nothing(void **state)
{
	struct sync_fixture *fixture = *state;
	auto_free struct script *before = script_new();
	auto_free struct script *after = script_new();
	static const struct watched_flow flows[] = {
		{ 1, "10.0.0.2", 80, false, true },
		{ 2, "10.0.0.2", 80, false, false },
		{ 3, "10.0.0.2", 80, false, false },
	};

	add_address(before, "10.0.0.2", 101);
	add_entry(before, 7, 102, 80, 1);
	for (uint16_t slot = 1; slot <= 3; slot++)
		add_subject(before, slot, 100, 7);
	script_apply(fixture, before);

	add_address(after, "10.0.0.2", 101);
	add_entry(after, 7, 102, 80, 1);
	add_entry(after, 8, 101, 80, 1);
	add_entry(after, 9, 102, 81, 1);
	add_subject(after, 1, 100, 8);
	add_subject(after, 2, 100, 9);
	add_subject(after, 3, 100, 7);
	script_apply_watched(fixture, after, flows, ARRAY_SIZE(flows));
}

static void test_lost_permission_asks_again(void **state)
{
	struct sync_fixture *fixture = *state;
	auto_free struct script *before = script_new();
	auto_free struct script *after = script_new();
	uint32_t revision;

	add_address(before, "10.0.0.2", 101);
	add_entry(before, 7, 101, 80, 1);
	add_entry(before, 7, 102, 80, 1);
	add_subject(before, 1, 100, 7);
	script_apply(fixture, before);
	revision = fixture->maps.node.revision;

	add_address(after, "10.0.0.2", 101);
	add_entry(after, 7, 102, 80, 1);
	add_subject(after, 1, 100, 7);
	script_apply(fixture, after);
	assert_false(passes(&fixture->maps, 1, "10.0.0.2", 80));
	assert_true(fixture->maps.node.revision > revision);
}

static void test_long_rules_share_a_port_set(void **state)
{
	struct sync_fixture *fixture = *state;
	auto_free struct script *script = script_new();
	auto_free struct script *less = script_new();
	size_t ports;

	add_address(script, "10.0.0.2", 101);
	add_address(script, "10.0.0.3", 102);
	add_entry(script, 7, 101, 1000, 20);
	add_entry(script, 7, 102, 1000, 20);
	add_entry(script, 7, 103, 3000, 7);
	add_subject(script, 1, 100, 7);
	script_apply(fixture, script);
	ports = fake_map_count(&fixture->maps, MAP_PORT);
	assert_int_equal(ports, 20 + 7);
	assert_true(passes(&fixture->maps, 1, "10.0.0.2", 1038));
	assert_true(passes(&fixture->maps, 1, "10.0.0.3", 1000));
	assert_false(passes(&fixture->maps, 1, "10.0.0.2", 1001));
	assert_false(passes(&fixture->maps, 1, "10.0.0.2", 3000));

	/* One user of the shared set goes: it stays.  The other set has no user left. */
	add_address(less, "10.0.0.2", 101);
	add_entry(less, 7, 101, 1000, 20);
	add_subject(less, 1, 100, 7);
	script_apply(fixture, less);
	assert_int_equal(fake_map_count(&fixture->maps, MAP_PORT), 20);
	assert_true(passes(&fixture->maps, 1, "10.0.0.2", 1038));
}

static void test_what_denies_comes_before_what_is_open_to_everyone(void **state)
{
	struct sync_fixture *fixture = *state;
	auto_free struct script *before = script_new();
	auto_free struct script *after = denying_script();
	const struct watched_flow flows[] = {
		{ 1, "10.0.0.2", 80, false, false },
		{ 1, "10.0.0.3", 80, false, false },
		{ 1, "10.0.0.9", 80, false, true },
	};

	add_subject(before, 1, 100, 7); /* its policy is known, its entries are not there yet */
	script_apply(fixture, before);
	script_apply_watched(fixture, after, flows, ARRAY_SIZE(flows));
}

static void test_denied_peer_that_changes_its_identity_is_denied_all_along(void **state)
{
	struct sync_fixture *fixture = *state;
	auto_free struct script *before = denying_script();
	auto_free struct script *after = script_new();
	const struct watched_flow flows[] = {
		{ 1, "10.0.0.2", 80, false, false },
		{ 2, "10.0.0.2", 80, false, false },
		{ 2, "10.0.0.9", 80, true, true },
	};

	add_subject(before, 2, 100, 7);
	add_address(after, "10.0.0.2", 201);
	add_address(after, "10.0.0.3", 202);
	/* The endpoints part. */
	for (uint32_t policy_id = 8; policy_id < 10; policy_id++) {
		add_guarded(after, policy_id, IDENTITY_ANY, true);
		add_guarded(after, policy_id, 201, false);
		add_subject(after, policy_id == 8 ? 1 : 2, 100, policy_id);
	}
	script_apply(fixture, before);
	script_apply_watched(fixture, after, flows, ARRAY_SIZE(flows));
}

/* Denied by a rule before, by isolation after: the new policy has no entry to lend. */
static void test_new_peer_like_everyone_else_is_no_stranger_to_an_open_policy(void **state)
{
	struct sync_fixture *fixture = *state;
	auto_free struct script *before = denying_script();
	auto_free struct script *after = script_new();
	const struct watched_flow flows[] = {
		{ 1, "10.0.0.2", 80, false, false },
		{ 1, "10.0.0.3", 80, false, true },
		{ 1, "10.0.0.4", 80, true, true },
		{ 1, "10.0.0.9", 80, true, false },
	};

	add_address(before, "10.0.0.4", 103);
	for (uint32_t id = 201; id <= 203; id++)
		add_identity(after, id);
	add_address(after, "10.0.0.2", 201);
	add_address(after, "10.0.0.3", 202);
	add_address(after, "10.0.0.4", 203);
	add_entry(after, 8, 202, 80, 1);
	add_entry(after, 8, 203, 80, 1);
	add_subject(after, 1, 100, 8);
	script_apply(fixture, before);
	script_apply_watched(fixture, after, flows, ARRAY_SIZE(flows));
	assert_int_equal(fake_map_count(&fixture->maps, MAP_POLICY), 2);
}

static void test_half_known_store_only_adds(void **state)
{
	struct sync_fixture *fixture = *state;
	auto_free struct script *before = script_new();
	auto_free struct script *half = script_new();

	add_address(before, "10.0.0.2", 101);
	add_cidr(before, "10.8.0.0/16", 110);
	add_entry(before, 7, 101, 80, 1);
	add_entry(before, 7, 110, 80, 20);
	add_subject(before, 1, 100, 7);
	script_apply(fixture, before);
	fixture->maps.deletes = 0;
	sync_restart(fixture);

	/* No policy is known yet; another endpoint is new. */
	add_address(half, "10.0.0.2", 55);
	add_address(half, "10.0.0.4", 56);
	add_subject(half, 1, 54, 0);
	add_subject(half, 2, 56, 0);
	script_apply(fixture, half);
	assert_int_equal(fixture->maps.deletes, 0);
	assert_int_equal(fixture->maps.endpoints[1].policy_id, 7);
	assert_true(passes(&fixture->maps, 1, "10.0.0.2", 80));
	assert_false(passes(&fixture->maps, 1, "10.0.0.2", 81));
	assert_int_equal(fixture->maps.endpoints[2].identity, 56);

	sync_set_missing(fixture->sync, NULL);
	script_apply(fixture, half);
	assert_int_equal(fixture->maps.endpoints[1].policy_id, 0);
	assert_int_equal(fake_map_count(&fixture->maps, MAP_POLICY), 0);
	assert_int_equal(fake_map_count(&fixture->maps, MAP_PORT), 0);
	assert_int_equal(fake_map_count(&fixture->maps, MAP_CIDR), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SYNC_CASE(test_first_policy_isolates_whole),
		SYNC_CASE(test_same_store_writes_nothing),
		SYNC_CASE(test_unwired_endpoint_is_left_alone),
		SYNC_CASE(test_renumbered_peers_never_lose_an_allowed_flow),
		SYNC_CASE(test_the_first_cidr_is_denied_from_the_first_moment),
		SYNC_CASE(test_parting_endpoints_borrow_nothing),
		SYNC_CASE(test_lost_permission_asks_again),
		SYNC_CASE(test_long_rules_share_a_port_set),
		SYNC_CASE(test_what_denies_comes_before_what_is_open_to_everyone),
		SYNC_CASE(test_denied_peer_that_changes_its_identity_is_denied_all_along),
		SYNC_CASE(test_new_peer_like_everyone_else_is_no_stranger_to_an_open_policy),
		SYNC_CASE(test_half_known_store_only_adds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
