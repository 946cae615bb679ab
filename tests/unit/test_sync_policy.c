/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Policy sync against maps in memory.  After every single write a reader looks at the maps as the
 * datapath would: at no moment may a flow get a verdict that neither the old nor the new policies
 * give it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/lib/auto.h"
#include "agent/sync_internal.h"
#include "unit/fake_maps.h"

#include <cmocka.h>

/* ---- stubs: the test says what was compiled -------------------------------------------------- */

struct follower *follower_new(struct world *world)
{
	(void)world;
	return calloc(1, 1);
}

void follower_free(struct follower *follower)
{
	free(follower);
}

int follower_update(struct follower *follower, struct compiled_changes *ret_changes,
		    struct errmsg *err)
{
	(void)follower;
	(void)ret_changes;
	return fail_plain(err, -ENOMEM, "no room to compile");
}

const struct compiled *follower_compiled(const struct follower *follower)
{
	(void)follower;
	return NULL;
}

size_t compiled_entries_first(const struct compiled *compiled, uint32_t policy_id)
{
	size_t i = 0;

	while (i < compiled->entry_count && compiled->entries[i].key.policy_id < policy_id)
		i++;
	return i;
}

int service_frontends(const struct world *world, const struct object *service,
		      struct service_frontends *ret)
{
	(void)world;
	(void)service;
	(void)ret;
	return 0;
}

void service_frontends_done(struct service_frontends *frontends)
{
	(void)frontends;
}

const struct object *world_find(const struct world *world, enum object_kind kind,
				const char *namespace, const char *name)
{
	(void)world;
	(void)kind;
	(void)namespace;
	(void)name;
	return NULL;
}

const struct object *world_first(const struct world *world, enum object_kind kind)
{
	(void)world;
	(void)kind;
	return NULL;
}

const struct object *world_next(const struct world *world, const struct object *object)
{
	(void)world;
	(void)object;
	return NULL;
}

/* ---- what was compiled ----------------------------------------------------------------------- */

#define MAX 64

struct script {
	struct compiled compiled;
	struct compiled_address addresses[MAX];
	struct compiled_cidr cidrs[MAX];
	struct compiled_entry entries[MAX];
	struct port_rule rules[MAX][40];
	struct compiled_subject subjects[MAX];
	struct compiled_identity identities[MAX];
};

static struct script *script_new(void)
{
	struct script *script = calloc(1, sizeof(*script));

	assert_non_null(script);
	script->compiled = (struct compiled){
		.addresses = script->addresses,
		.cidrs = script->cidrs,
		.entries = script->entries,
		.subjects = script->subjects,
		.identities = script->identities,
	};
	return script;
}

static struct addr address(const char *text)
{
	struct addr addr;

	assert_int_equal(addr_parse(text, &addr), 0);
	return addr;
}

static void add_address(struct script *script, const char *text, uint32_t identity)
{
	script->addresses[script->compiled.address_count++] =
		(struct compiled_address){ .addr = address(text), .identity = identity };
}

/* In order of address and length, as the compiler gives them. */
static void add_cidr(struct script *script, const char *text, uint32_t identity)
{
	struct compiled_cidr *cidr = &script->cidrs[script->compiled.cidr_count++];

	assert_int_equal(prefix_parse(text, &cidr->prefix), 0);
	cidr->identity = identity;
}

/* count TCP rules, on every second port from "port" on; in order of policy_id. */
static void add_entry(struct script *script, uint32_t policy_id, uint32_t peer, uint16_t port,
		      size_t count)
{
	size_t i = script->compiled.entry_count++;

	for (size_t k = 0; k < count; k++) {
		uint16_t number = (uint16_t)(port + 2 * k);

		script->rules[i][k] = (struct port_rule){
			.port_min = number,
			.port_max = number,
			.proto = IPPROTO_TCP,
			.verdict = VERDICT_ALLOW,
		};
	}
	script->entries[i] = (struct compiled_entry){
		.key = { .policy_id = policy_id, .peer = peer, .direction = DIR_INGRESS },
		.rules = script->rules[i],
		.rule_count = count,
	};
}

/* Every protocol and port, or none. */
static void add_guarded(struct script *script, uint32_t policy_id, uint32_t peer, bool open)
{
	size_t i = script->compiled.entry_count;

	add_entry(script, policy_id, peer, 0, 0);
	script->entries[i].guarded = true;
	if (!open)
		return;
	script->rules[i][0] =
		(struct port_rule){ .port_max = UINT16_MAX, .verdict = VERDICT_ALLOW };
	script->entries[i].rule_count = 1;
}

static void add_subject(struct script *script, uint16_t slot, uint32_t identity, uint32_t policy_id)
{
	script->subjects[script->compiled.subject_count++] = (struct compiled_subject){
		.slot = slot,
		.identity = identity,
		.identity_v6 = identity,
		.policy_id = policy_id,
		.ingress_isolated = policy_id != 0,
	};
}

/* ---- the reader ------------------------------------------------------------------------------ */

static uint32_t identity_of(const struct datapath *maps, const struct addr *addr)
{
	const struct ipcache_entry *entry = fake_map_get(maps, MAP_IPCACHE, addr);

	if (entry)
		return entry->identity;
	for (uint32_t len = 129; len-- > 0;) {
		struct prefix prefix = { .addr = *addr, .len = (uint8_t)len };
		struct cidr_key key = { .prefixlen = len };
		const uint32_t *identity;
		char text[ADDR_TEXT_MAX];

		if (!(maps->node.flags & NODE_HAS_CIDRS))
			break;
		/* Clears the host bits. */
		prefix_format(&prefix, text);
		if (prefix_parse(text, &prefix))
			continue;
		key.addr = prefix.addr;
		identity = fake_map_get(maps, MAP_CIDR, &key);
		if (identity)
			return *identity;
	}
	return IDENTITY_WORLD;
}

static bool port_set_allows(const struct datapath *maps, uint32_t set, uint16_t port)
{
	for (unsigned int len = 17; len-- > 0;) {
		uint16_t masked = (uint16_t)(len ? port & (0xffff << (16 - len)) : 0);
		struct port_key key = {
			.prefixlen = 40 + len,
			.port_set = set,
			.proto = IPPROTO_TCP,
			.port = { (uint8_t)(masked >> 8), (uint8_t)masked },
		};
		const uint8_t *verdict = fake_map_get(maps, MAP_PORT, &key);

		if (verdict)
			return *verdict == VERDICT_ALLOW;
	}
	return false;
}

static bool entry_allows(const struct datapath *maps, const struct policy_entry *entry,
			 uint16_t port)
{
	if (entry->port_set)
		return port_set_allows(maps, entry->port_set, port);
	for (unsigned int i = 0; i < entry->rule_count; i++) {
		const struct port_rule *rule = &entry->rules[i];

		if (port >= rule->port_min && port <= rule->port_max)
			return rule->verdict == VERDICT_ALLOW;
	}
	return false;
}

/* Whether TCP from an address to a port of an endpoint passes, as abi.h says it is decided. */
static bool passes(const struct datapath *maps, uint16_t slot, const char *from, uint16_t port)
{
	const struct endpoint *endpoint = &maps->endpoints[slot];
	struct addr addr = address(from);
	struct policy_key key = {
		.policy_id = endpoint->policy_id,
		.peer = identity_of(maps, &addr),
		.direction = DIR_INGRESS,
	};
	const struct policy_entry *entry;

	if (!(endpoint->flags & ENDPOINT_INGRESS_ISOLATED))
		return true;
	entry = fake_map_get(maps, MAP_POLICY, &key);
	if (!entry) {
		key.peer = IDENTITY_ANY;
		entry = fake_map_get(maps, MAP_POLICY, &key);
	}
	return entry && entry_allows(maps, entry, port);
}

struct watched_flow {
	uint16_t slot;
	const char *from;
	uint16_t port;
	bool before;
	bool after;
};

struct watch {
	const struct watched_flow *flows;
	size_t count;
};

static void flows_check(struct datapath *maps, void *arg)
{
	const struct watch *watch = arg;

	for (size_t i = 0; i < watch->count; i++) {
		const struct watched_flow *flow = &watch->flows[i];
		bool now = passes(maps, flow->slot, flow->from, flow->port);

		if (now != flow->before && now != flow->after)
			fail_msg("after write %u: %s to slot %u port %u %s for a moment",
				 maps->writes, flow->from, flow->slot, flow->port,
				 now ? "passed" : "was denied");
	}
}

/* ---- fixture --------------------------------------------------------------------------------- */

struct fixture {
	struct datapath maps;
	struct sync *sync;
};

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	fake_maps_init(&fixture->maps);
	for (int slot = 1; slot < FAKE_ENDPOINTS; slot++)
		fixture->maps.endpoints[slot].flags = ENDPOINT_VALID;
	assert_int_equal(sync_new(NULL, &fixture->maps, NULL, &fixture->sync, NULL), 0);
	sync_allow_deletes(fixture->sync);
	*state = fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	sync_free(fixture->sync);
	fake_maps_done(&fixture->maps);
	free(fixture);
	return 0;
}

/* A new agent process over the same maps. */
static void restart(struct fixture *fixture)
{
	sync_free(fixture->sync);
	assert_int_equal(sync_new(NULL, &fixture->maps, NULL, &fixture->sync, NULL), 0);
}

static void apply(struct fixture *fixture, const struct script *script)
{
	struct errmsg err = { 0 };

	if (sync_apply(fixture->sync, &script->compiled, &err))
		fail_msg("sync_apply: %s", err.text);
}

static void apply_watched(struct fixture *fixture, const struct script *script,
			  const struct watched_flow *flows, size_t count)
{
	struct watch watch = { .flows = flows, .count = count };

	for (size_t i = 0; i < count; i++)
		assert_int_equal(
			passes(&fixture->maps, flows[i].slot, flows[i].from, flows[i].port),
			flows[i].before);
	fixture->maps.changed = flows_check;
	fixture->maps.arg = &watch;
	apply(fixture, script);
	fixture->maps.changed = NULL;
	for (size_t i = 0; i < count; i++)
		assert_int_equal(
			passes(&fixture->maps, flows[i].slot, flows[i].from, flows[i].port),
			flows[i].after);
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void test_first_policy_isolates_whole(void **state)
{
	struct fixture *fixture = *state;
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
	apply_watched(fixture, script, flows, ARRAY_SIZE(flows));
	assert_int_equal(fixture->maps.endpoints[1].identity, 100);
	assert_int_equal(fixture->maps.node.revision, 1);
}

static void test_same_world_writes_nothing(void **state)
{
	struct fixture *fixture = *state;
	auto_free struct script *script = script_new();
	unsigned int writes;

	add_address(script, "10.0.0.1", 100);
	add_cidr(script, "10.8.0.0/16", 110);
	add_entry(script, 7, 101, 80, 1);
	add_entry(script, 7, 110, 80, 20);
	add_subject(script, 1, 100, 7);
	apply(fixture, script);
	writes = fixture->maps.writes;
	assert_int_not_equal(writes, 0);
	apply(fixture, script);
	assert_int_equal(fixture->maps.writes, writes);
	assert_int_equal(fixture->maps.node.revision, 1);

	restart(fixture);
	sync_allow_deletes(fixture->sync);
	apply(fixture, script);
	assert_int_equal(fixture->maps.writes, writes);
	assert_int_equal(fixture->maps.node.revision, 1);
}

static void test_unwired_endpoint_is_left_alone(void **state)
{
	struct fixture *fixture = *state;
	auto_free struct script *script = script_new();

	fixture->maps.endpoints[3].flags = 0;
	add_entry(script, 7, 101, 80, 1);
	add_subject(script, 3, 100, 7);
	apply(fixture, script);
	assert_int_equal(fixture->maps.endpoints[3].flags, 0);
	assert_int_equal(fixture->maps.endpoints[3].policy_id, 0);
}

/* A policy that names a CIDR gives the peers new identities and its pod a new policy at once. */
static void test_renumbered_peers_never_lose_an_allowed_flow(void **state)
{
	struct fixture *fixture = *state;
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
	apply(fixture, before);

	add_address(after, "10.0.0.2", 201);
	add_address(after, "10.0.0.3", 202);
	add_cidr(after, "10.0.0.0/8", 210);
	add_entry(after, 8, 201, 80, 1);
	after->rules[0][1] = (struct port_rule){ 443, 443, IPPROTO_TCP, VERDICT_ALLOW };
	after->entries[0].rule_count = 2;
	add_entry(after, 8, 202, 443, 1);
	add_entry(after, 8, 210, 443, 1);
	add_subject(after, 1, 200, 8);
	apply_watched(fixture, after, flows, ARRAY_SIZE(flows));
	assert_int_equal(fake_map_count(&fixture->maps, MAP_POLICY), 3);

	/* And back. */
	static const struct watched_flow back[] = {
		{ 1, "10.0.0.2", 80, true, true },
		{ 1, "10.0.0.3", 80, false, false },
		{ 1, "10.9.0.1", 443, true, false },
	};
	apply_watched(fixture, before, back, ARRAY_SIZE(back));
	assert_int_equal(fake_map_count(&fixture->maps, MAP_POLICY), 1);
	assert_int_equal(fixture->maps.node.flags & NODE_HAS_CIDRS, 0);
}

/* Two endpoints part ways: neither may borrow a rule of the other. */
static void test_parting_endpoints_borrow_nothing(void **state)
{
	struct fixture *fixture = *state;
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
	apply(fixture, before);

	add_address(after, "10.0.0.2", 101);
	add_entry(after, 7, 102, 80, 1);
	add_entry(after, 8, 101, 80, 1);
	add_entry(after, 9, 102, 81, 1);
	add_subject(after, 1, 100, 8);
	add_subject(after, 2, 100, 9);
	add_subject(after, 3, 100, 7);
	apply_watched(fixture, after, flows, ARRAY_SIZE(flows));
}

static void test_lost_permission_asks_again(void **state)
{
	struct fixture *fixture = *state;
	auto_free struct script *before = script_new();
	auto_free struct script *after = script_new();
	uint32_t revision;

	add_address(before, "10.0.0.2", 101);
	add_entry(before, 7, 101, 80, 1);
	add_entry(before, 7, 102, 80, 1);
	add_subject(before, 1, 100, 7);
	apply(fixture, before);
	revision = fixture->maps.node.revision;

	add_address(after, "10.0.0.2", 101);
	add_entry(after, 7, 102, 80, 1);
	add_subject(after, 1, 100, 7);
	apply(fixture, after);
	assert_false(passes(&fixture->maps, 1, "10.0.0.2", 80));
	assert_true(fixture->maps.node.revision > revision);
}

static void test_long_rules_share_a_port_set(void **state)
{
	struct fixture *fixture = *state;
	auto_free struct script *script = script_new();
	auto_free struct script *less = script_new();
	size_t ports;

	add_address(script, "10.0.0.2", 101);
	add_address(script, "10.0.0.3", 102);
	add_entry(script, 7, 101, 1000, 20);
	add_entry(script, 7, 102, 1000, 20);
	add_entry(script, 7, 103, 3000, 7);
	add_subject(script, 1, 100, 7);
	apply(fixture, script);
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
	apply(fixture, less);
	assert_int_equal(fake_map_count(&fixture->maps, MAP_PORT), 20);
	assert_true(passes(&fixture->maps, 1, "10.0.0.2", 1038));
}

static void test_port_ranges_become_prefixes(void **state)
{
	static const struct port_rule rules[] = {
		{ 0, 65535, IPPROTO_UDP, VERDICT_ALLOW },
		{ 1, 65534, IPPROTO_TCP, VERDICT_ALLOW },
		{ 80, 80, IPPROTO_SCTP, VERDICT_ALLOW },
		{ 0, 0, 0, VERDICT_ALLOW },
	};
	auto_free struct port_prefix *prefixes = NULL;
	size_t count, tcp = 0;

	(void)state;
	assert_int_equal(port_prefixes_make(rules, ARRAY_SIZE(rules), &prefixes, &count), 0);
	assert_int_equal(count, 1 + 30 + 1 + 1);
	for (unsigned int port = 0; port <= 65535; port++) {
		for (size_t i = 0; i < count; i++) {
			unsigned int mask = prefixes[i].len ? 0xffffU << (16 - prefixes[i].len) : 0;

			if (prefixes[i].proto == IPPROTO_TCP &&
			    (port & mask & 0xffff) == prefixes[i].port)
				tcp++;
		}
	}
	assert_int_equal(tcp, 65534); /* each port once, 0 and 65535 not */
}

/* ---- full maps ------------------------------------------------------------------------------- */

static void test_full_policy_map_denies_and_says_so(void **state)
{
	struct fixture *fixture = *state;
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
	apply(fixture, script);
	assert_true(passes(&fixture->maps, 1, "10.0.0.3", 80));
	assert_string_equal(fixture->sync->policy_warning, "");
}

static void test_replaced_policy_fits_where_both_do_not(void **state)
{
	struct fixture *fixture = *state;
	auto_free struct script *before = script_new();
	auto_free struct script *after = script_new();

	fixture->maps.capacity[MAP_POLICY] = 3;
	for (uint32_t peer = 101; peer <= 103; peer++) {
		add_entry(before, 7, peer, 80, 1);
		add_entry(after, 8, peer, 80, 1);
	}
	add_subject(before, 1, 100, 7);
	add_subject(after, 1, 100, 8);
	apply(fixture, before);
	apply(fixture, after);
	assert_int_equal(fake_map_count(&fixture->maps, MAP_POLICY), 3);
}

/* A policy that denies some peers: the entry for everyone else waits for theirs. */
static struct script *denying_script(void)
{
	struct script *script = script_new();

	add_address(script, "10.0.0.2", 101);
	add_address(script, "10.0.0.3", 102);
	add_guarded(script, 7, IDENTITY_ANY, true);
	add_guarded(script, 7, 101, false);
	add_guarded(script, 7, 102, false);
	add_subject(script, 1, 100, 7);
	return script;
}

static void test_what_denies_comes_before_what_is_open_to_everyone(void **state)
{
	struct fixture *fixture = *state;
	auto_free struct script *before = script_new();
	auto_free struct script *after = denying_script();
	const struct watched_flow flows[] = {
		{ 1, "10.0.0.2", 80, false, false },
		{ 1, "10.0.0.3", 80, false, false },
		{ 1, "10.0.0.9", 80, false, true },
	};

	add_subject(before, 1, 100, 7); /* its policy is known, its entries are not there yet */
	apply(fixture, before);
	apply_watched(fixture, after, flows, ARRAY_SIZE(flows));
}

static void test_nothing_is_open_to_everyone_while_what_denies_does_not_fit(void **state)
{
	struct fixture *fixture = *state;
	auto_free struct script *script = denying_script();
	struct errmsg err = { 0 };

	fixture->maps.capacity[MAP_POLICY] = 2;
	assert_int_equal(sync_apply(fixture->sync, &script->compiled, &err), -ENOSPC);
	assert_false(passes(&fixture->maps, 1, "10.0.0.3", 80));
	assert_false(passes(&fixture->maps, 1, "10.0.0.9", 80));
	fixture->maps.capacity[MAP_POLICY] = 3;
	apply(fixture, script);
	assert_false(passes(&fixture->maps, 1, "10.0.0.3", 80));
	assert_true(passes(&fixture->maps, 1, "10.0.0.9", 80));
}

static void test_nothing_is_open_to_everyone_while_someone_is_not_known(void **state)
{
	struct fixture *fixture = *state;
	auto_free struct script *script = denying_script();
	struct errmsg err = { 0 };

	fixture->maps.capacity[MAP_IPCACHE] = 1;
	assert_int_equal(sync_apply(fixture->sync, &script->compiled, &err), -ENOSPC);
	assert_false(passes(&fixture->maps, 1, "10.0.0.2", 80));
	assert_false(passes(&fixture->maps, 1, "10.0.0.3", 80));
	assert_false(passes(&fixture->maps, 1, "10.0.0.9", 80));
	fixture->maps.capacity[MAP_IPCACHE] = 2;
	apply(fixture, script);
	assert_false(passes(&fixture->maps, 1, "10.0.0.3", 80));
	assert_true(passes(&fixture->maps, 1, "10.0.0.9", 80));
	/* And again later. */
	fixture->maps.capacity[MAP_CIDR] = 1;
	add_cidr(script, "10.1.0.0/16", 103);
	add_cidr(script, "10.2.0.0/16", 103);
	assert_int_equal(sync_apply(fixture->sync, &script->compiled, &err), -ENOSPC);
	assert_false(passes(&fixture->maps, 1, "10.0.0.9", 80));
}

static void test_denied_peer_that_changes_its_identity_is_denied_all_along(void **state)
{
	struct fixture *fixture = *state;
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
	apply(fixture, before);
	apply_watched(fixture, after, flows, ARRAY_SIZE(flows));
}

static void add_identity(struct script *script, uint32_t id)
{
	script->identities[script->compiled.identity_count++].id = id;
}

/* Denied by a rule before, by isolation after: the new policy has no entry to lend. */
static void test_new_peer_like_everyone_else_is_no_stranger_to_an_open_policy(void **state)
{
	struct fixture *fixture = *state;
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
	apply(fixture, before);
	apply_watched(fixture, after, flows, ARRAY_SIZE(flows));
	assert_int_equal(fake_map_count(&fixture->maps, MAP_POLICY), 2);
}

static void test_port_set_without_room_denies(void **state)
{
	struct fixture *fixture = *state;
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
	apply(fixture, script);
	assert_true(passes(&fixture->maps, 1, "10.0.0.2", 1000));
}

/* 10/8 is allowed except 10.1/16: without room for the exception nothing of it may be allowed. */
static void test_cidr_without_room_never_opens(void **state)
{
	struct fixture *fixture = *state;
	auto_free struct script *before = script_new();
	auto_free struct script *after = script_new();
	struct errmsg err = { 0 };

	fixture->maps.capacity[MAP_CIDR] = 2;
	add_cidr(before, "10.0.0.0/8", 110);
	add_cidr(before, "172.16.0.0/12", 112);
	add_entry(before, 7, 110, 80, 1);
	add_subject(before, 1, 100, 7);
	apply(fixture, before);
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
	apply(fixture, after);
	assert_false(passes(&fixture->maps, 1, "10.1.0.1", 80));
	assert_true(passes(&fixture->maps, 1, "10.2.0.1", 80));
}

static void test_failed_write_keeps_the_old_policy(void **state)
{
	struct fixture *fixture = *state;
	auto_free struct script *before = script_new();
	auto_free struct script *after = script_new();
	struct errmsg err = { 0 };

	add_address(before, "10.0.0.2", 101);
	add_entry(before, 7, 101, 80, 1);
	add_subject(before, 1, 100, 7);
	apply(fixture, before);
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
	struct fixture *fixture = *state;
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
	apply(fixture, after);
	assert_int_equal(fake_map_count(&fixture->maps, MAP_POLICY), 0);
}

/* And what it had deleted before it failed is written again. */
static void test_what_a_failed_delete_took_is_written_again(void **state)
{
	struct fixture *fixture = *state;
	auto_free struct script *before = script_new();
	auto_free struct script *after = script_new();
	struct errmsg err = { 0 };

	for (uint32_t peer = 101; peer < 105; peer++)
		add_entry(before, 7, peer, 80, 1);
	add_subject(before, 1, 100, 7);
	apply(fixture, before);
	fixture->maps.broken[MAP_POLICY] = EIO;
	fixture->maps.broken_after[MAP_POLICY] = 2;
	assert_int_equal(sync_apply(fixture->sync, &after->compiled, &err), -EIO);
	fixture->maps.broken[MAP_POLICY] = 0;
	apply(fixture, before);
	assert_int_equal(fake_map_count(&fixture->maps, MAP_POLICY), 4);
}

/* ---- half-known worlds ----------------------------------------------------------------------- */

static void test_half_known_world_only_adds(void **state)
{
	struct fixture *fixture = *state;
	auto_free struct script *before = script_new();
	auto_free struct script *half = script_new();

	add_address(before, "10.0.0.2", 101);
	add_cidr(before, "10.8.0.0/16", 110);
	add_entry(before, 7, 101, 80, 1);
	add_entry(before, 7, 110, 80, 20);
	add_subject(before, 1, 100, 7);
	apply(fixture, before);
	fixture->maps.deletes = 0;
	restart(fixture);

	/* No policy is known yet; another endpoint is new. */
	add_address(half, "10.0.0.2", 55);
	add_address(half, "10.0.0.4", 56);
	add_subject(half, 1, 54, 0);
	add_subject(half, 2, 56, 0);
	apply(fixture, half);
	assert_int_equal(fixture->maps.deletes, 0);
	assert_int_equal(fixture->maps.endpoints[1].policy_id, 7);
	assert_true(passes(&fixture->maps, 1, "10.0.0.2", 80));
	assert_false(passes(&fixture->maps, 1, "10.0.0.2", 81));
	assert_int_equal(fixture->maps.endpoints[2].identity, 56);

	sync_allow_deletes(fixture->sync);
	apply(fixture, half);
	assert_int_equal(fixture->maps.endpoints[1].policy_id, 0);
	assert_int_equal(fake_map_count(&fixture->maps, MAP_POLICY), 0);
	assert_int_equal(fake_map_count(&fixture->maps, MAP_PORT), 0);
	assert_int_equal(fake_map_count(&fixture->maps, MAP_CIDR), 0);
}

static void test_failed_compile_changes_nothing(void **state)
{
	struct fixture *fixture = *state;
	struct errmsg err = { 0 };

	assert_int_equal(sync_policies(fixture->sync, &err), -ENOMEM);
	assert_string_equal(err.text, "no room to compile");
	assert_int_equal(fixture->maps.writes, 0);
	assert_null(sync_compiled(fixture->sync));
}

#define CASE(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_first_policy_isolates_whole),
		CASE(test_same_world_writes_nothing),
		CASE(test_unwired_endpoint_is_left_alone),
		CASE(test_renumbered_peers_never_lose_an_allowed_flow),
		CASE(test_parting_endpoints_borrow_nothing),
		CASE(test_lost_permission_asks_again),
		CASE(test_long_rules_share_a_port_set),
		cmocka_unit_test(test_port_ranges_become_prefixes),
		CASE(test_full_policy_map_denies_and_says_so),
		CASE(test_what_denies_comes_before_what_is_open_to_everyone),
		CASE(test_nothing_is_open_to_everyone_while_what_denies_does_not_fit),
		CASE(test_nothing_is_open_to_everyone_while_someone_is_not_known),
		CASE(test_denied_peer_that_changes_its_identity_is_denied_all_along),
		CASE(test_new_peer_like_everyone_else_is_no_stranger_to_an_open_policy),
		CASE(test_replaced_policy_fits_where_both_do_not),
		CASE(test_port_set_without_room_denies),
		CASE(test_cidr_without_room_never_opens),
		CASE(test_failed_write_keeps_the_old_policy),
		CASE(test_what_a_failed_write_left_goes_with_the_next_run),
		CASE(test_what_a_failed_delete_took_is_written_again),
		CASE(test_half_known_world_only_adds),
		CASE(test_failed_compile_changes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
