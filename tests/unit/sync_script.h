/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sync against maps in memory: a script says what was compiled, and a reader looks at the maps as
 * the datapath would, after every single write if a test asks for it.
 */
#ifndef TENDRIL_TESTS_UNIT_SYNC_SCRIPT_H
#define TENDRIL_TESTS_UNIT_SYNC_SCRIPT_H

#include "agent/sync/sync_internal.h"
#include "unit/fake_maps.h"

/* ---- what was compiled ---- */

#define SCRIPT_MAX 64

struct script {
	struct compiled compiled;
	struct compiled_address addresses[SCRIPT_MAX];
	struct compiled_cidr cidrs[SCRIPT_MAX];
	struct compiled_entry entries[SCRIPT_MAX];
	struct port_rule rules[SCRIPT_MAX][40];
	struct compiled_subject subjects[SCRIPT_MAX];
	struct compiled_identity identities[SCRIPT_MAX];
};

struct script *script_new(void); /* empty; the caller frees it */
/* One that denies the identities 101 and 102: the entry for everyone else waits for theirs. */
struct script *denying_script(void);

void add_address(struct script *script, const char *text, uint32_t identity);
/* In order of address and length, as the compiler gives them. */
void add_cidr(struct script *script, const char *text, uint32_t identity);
void add_identity(struct script *script, uint32_t id);
/* count TCP rules, on every second port from "port" on; in order of policy_id. */
void add_entry(struct script *script, uint32_t policy_id, uint32_t peer, uint16_t port,
	       size_t count);
/* Every protocol and port, or none. */
void add_guarded(struct script *script, uint32_t policy_id, uint32_t peer, bool open);
void add_subject(struct script *script, uint16_t slot, uint32_t identity, uint32_t policy_id);

/* ---- what the maps say ---- */

/* Whether TCP from an address to a port of an endpoint passes, as abi.h says it is decided. */
bool passes(const struct datapath *maps, uint16_t slot, const char *from, uint16_t port);

struct watched_flow {
	uint16_t slot;
	const char *from;
	uint16_t port;
	bool before;
	bool after;
};

/* ---- fixture ---- */

struct sync_fixture {
	struct datapath maps;
	struct store *store; /* empty: the script speaks */
	struct sync *sync;
};

int sync_setup(void **state);
int sync_teardown(void **state);
#define SYNC_CASE(function) cmocka_unit_test_setup_teardown(function, sync_setup, sync_teardown)

/* A new agent process over the same maps. */
void sync_restart(struct sync_fixture *fixture);
void script_apply(struct sync_fixture *fixture, const struct script *script);
/* Between any two writes each flow passes as before or as after. */
void script_apply_watched(struct sync_fixture *fixture, const struct script *script,
			  const struct watched_flow *flows, size_t count);

#endif
