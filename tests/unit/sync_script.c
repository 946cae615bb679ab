/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/sync_script.h"

#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include "lib/auto.h"

#include <cmocka.h> /* last: it makes fail a macro */

/* ---- what was compiled ----------------------------------------------------------------------- */

struct script *script_new(void)
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

void add_address(struct script *script, const char *text, uint32_t identity)
{
	script->addresses[script->compiled.address_count++] =
		(struct compiled_address){ .addr = address(text), .identity = identity };
}

void add_cidr(struct script *script, const char *text, uint32_t identity)
{
	struct compiled_cidr *cidr = &script->cidrs[script->compiled.cidr_count++];

	assert_int_equal(prefix_parse(text, &cidr->prefix), 0);
	cidr->identity = identity;
}

void add_entry(struct script *script, uint32_t policy_id, uint32_t peer, uint16_t port,
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

void add_guarded(struct script *script, uint32_t policy_id, uint32_t peer, bool open)
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

void add_subject(struct script *script, uint16_t slot, uint32_t identity, uint32_t policy_id)
{
	script->subjects[script->compiled.subject_count++] = (struct compiled_subject){
		.slot = slot,
		.identity = identity,
		.identity_v6 = identity,
		.policy_id = policy_id,
		.ingress_isolated = policy_id != 0,
	};
}

void add_identity(struct script *script, uint32_t id)
{
	script->identities[script->compiled.identity_count++].id = id;
}

struct script *denying_script(void)
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

bool passes(const struct datapath *maps, uint16_t slot, const char *from, uint16_t port)
{
	const struct endpoint_entry *endpoint = &maps->endpoints[slot];
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

int sync_setup(void **state)
{
	struct sync_fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	fake_maps_init(&fixture->maps);
	for (int slot = 1; slot < FAKE_ENDPOINTS; slot++)
		fixture->maps.endpoints[slot].flags = ENDPOINT_VALID;
	fixture->store = store_new();
	assert_non_null(fixture->store);
	assert_int_equal(sync_new(NULL, &fixture->maps, fixture->store, &fixture->sync, NULL), 0);
	sync_set_missing(fixture->sync, NULL);
	*state = fixture;
	return 0;
}

int sync_teardown(void **state)
{
	struct sync_fixture *fixture = *state;

	sync_free(fixture->sync);
	store_free(fixture->store);
	fake_maps_done(&fixture->maps);
	free(fixture);
	return 0;
}

void sync_restart(struct sync_fixture *fixture)
{
	sync_free(fixture->sync);
	assert_int_equal(sync_new(NULL, &fixture->maps, fixture->store, &fixture->sync, NULL), 0);
}

void script_apply(struct sync_fixture *fixture, const struct script *script)
{
	struct errmsg err = { 0 };

	if (sync_apply(fixture->sync, &script->compiled, &err))
		fail_msg("sync_apply: %s", err.text);
}

void script_apply_watched(struct sync_fixture *fixture, const struct script *script,
			  const struct watched_flow *flows, size_t count)
{
	struct watch watch = { .flows = flows, .count = count };

	for (size_t i = 0; i < count; i++)
		assert_int_equal(
			passes(&fixture->maps, flows[i].slot, flows[i].from, flows[i].port),
			flows[i].before);
	fixture->maps.changed = flows_check;
	fixture->maps.arg = &watch;
	script_apply(fixture, script);
	fixture->maps.changed = NULL;
	for (size_t i = 0; i < count; i++)
		assert_int_equal(
			passes(&fixture->maps, flows[i].slot, flows[i].from, flows[i].port),
			flows[i].after);
}
