/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects, the node they are seen from, and a flow: what the proofs of policy ask about, cut down
 * to its cause when answers differ, and kept as a YAML file.
 *
 * tests/unit/snapshots/NAME.yaml holds every scene that was ever answered wrongly: the first
 * document is the question, with the answer that the specification gives; the others are the
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

#define SCENE_DIR "tests/unit/snapshots"
/* The addresses of the scene's node. */
#define HOST_V4 "10.0.0.14"
#define HOST_V6 "fd00::e"

struct scene {
	struct cJSON *objects; /* array of Kubernetes objects */
	/* Array of "namespace/name": the pods that are endpoints of this node, by slot from 1 on.
	 * NULL: no node's view; policy holds at every pod. */
	struct cJSON *local;
};

struct question {
	char from[48]; /* addresses as text */
	char to[48];
	char protocol[8]; /* "TCP", "UDP", "SCTP" or "ICMP" */
	uint16_t port;
};

void scene_done(struct scene *scene);
/* The objects as the library reads them; NULL: it refuses one. */
struct world *scene_world(const struct scene *scene, struct errmsg *err);
/* Makes a world what scene_world() would make, by what differs. */
int scene_enter(const struct scene *scene, struct world *world, struct errmsg *err);
/* What the specification says. */
enum drop_reason scene_oracle(const struct scene *scene, const struct question *question);

struct flow question_flow(const struct question *question);
bool question_from_node(const struct question *question);
/* The slot of the endpoint with this address, 0: none. */
uint16_t scene_slot(const struct world *world, const struct addr *addr);

/* Takes out of the scene whatever still() can do without. */
void scene_shrink(struct scene *scene, bool (*still)(const struct scene *scene, void *arg),
		  void *arg);

/* "allow", "deny egress" or "deny ingress"; other reasons by their names. */
const char *answer_name(enum drop_reason reason);
/* As YAML that scene_read() reads; to be freed. */
char *scene_write(const struct scene *scene, const struct question *question,
		  enum drop_reason answer);
int scene_read(const char *path, struct scene *ret, struct question *ret_question,
	       enum drop_reason *ret_answer, struct errmsg *err);

/* Calls each() for all kept scenes; returns how many there are. */
size_t scenes_foreach(void (*each)(const char *path, void *arg), void *arg);

#endif
