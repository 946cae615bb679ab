/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects, the node they are seen from, and a flow: what the proofs of policy ask about, cut down
 * to its cause when answers differ, and kept as a YAML file.
 *
 * tests/unit/snapshots/NAME.yaml holds every scene that was ever answered wrongly: the first
 * document is the query, with the answer that the specification gives; the others are the
 * objects.
 */
#ifndef TENDRIL_TESTS_UNIT_SNAPSHOT_H
#define TENDRIL_TESTS_UNIT_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "datapath/abi.h"
#include "lib/errmsg.h"
#include "policy/objects/store.h"

struct cJSON;

#define SNAPSHOT_DIR "tests/unit/snapshots"
/* The addresses of the scene's node. */
#define HOST_V4 "10.0.0.14"
#define HOST_V6 "fd00::e"

struct snapshot {
	struct cJSON *objects; /* array of Kubernetes objects */
	/* Array of "namespace/name": the pods that are endpoints of this node, by slot from 1 on.
	 * NULL: no node's view; policy holds at every pod. */
	struct cJSON *local;
};

struct query {
	char from[48]; /* addresses as text */
	char to[48];
	char protocol[8]; /* "TCP", "UDP", "SCTP" or "ICMP" */
	uint16_t port;
};

void snapshot_done(struct snapshot *snapshot);
/* The objects as the library reads them; NULL: it refuses one. */
struct store *snapshot_store(const struct snapshot *snapshot, struct errmsg *err);
/* Makes a store what snapshot_store() would make, by what differs. */
int snapshot_enter(const struct snapshot *snapshot, struct store *store, struct errmsg *err);
/* What the specification says. */
enum drop_reason snapshot_oracle(const struct snapshot *snapshot, const struct query *query);

struct flow question_flow(const struct query *query);
bool question_from_node(const struct query *query);
/* The slot of the endpoint with this address, 0: none. */
uint16_t snapshot_slot(const struct store *store, const struct addr *addr);

/* Takes out of the scene whatever still() can do without. */
void snapshot_shrink(struct snapshot *snapshot,
		     bool (*still)(const struct snapshot *snapshot, void *arg), void *arg);

/* "allow", "deny egress" or "deny ingress"; other reasons by their names. */
const char *answer_name(enum drop_reason reason);
/* As YAML that snapshot_read() reads; to be freed. */
char *snapshot_write(const struct snapshot *snapshot, const struct query *query,
		     enum drop_reason answer);
int snapshot_read(const char *path, struct snapshot *ret, struct query *ret_question,
		  enum drop_reason *ret_answer, struct errmsg *err);

/* Calls each() for all kept scenes; returns how many there are. */
size_t snapshots_foreach(void (*each)(const char *path, void *arg), void *arg);

#endif
