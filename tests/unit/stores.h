/* SPDX-License-Identifier: Apache-2.0 */
/* Worlds and questions for the tests of the policy library, written as YAML. */
#ifndef TENDRIL_TESTS_UNIT_STORES_H
#define TENDRIL_TESTS_UNIT_STORES_H

#include <stddef.h>

#include "lib/auto.h"
#include "policy/compiler/compile.h"
#include "policy/objects/parse.h"
#include "policy/objects/store.h"

enum { PASSES = DROP_NONE, EGRESS = DROP_EGRESS_DENIED, INGRESS = DROP_INGRESS_DENIED };

/* A policy in two lines: namespace and spec. */
#define POLICY(name, namespace, spec)                                                         \
	"---\n{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: " name \
	", namespace: " namespace "}, spec: {" spec "}}\n"

#define CLUSTER_POLICY(name, tier, priority, spec)                                          \
	"---\n{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, " \
	"metadata: {name: " name "}, spec: {tier: " tier ", priority: " #priority ", " spec "}}\n"

/* Parses the texts one after the other into one world; ends the test with the first problem. */
struct world *world_of(const char *first, const char *second);
/* Puts the objects of a text into a world, in the place of those with their names. */
void world_add(struct world *world, const char *text);

/* The problems of a text, formatted without a file, one a line; "" if there are none.  buf is
 * returned. */
const char *problems_of(const char *text, unsigned int flags, char *buf, size_t size);

/* Two namespaces (shop, bank), pods in both, one of them with named ports; see worlds.c. */
extern const char two_namespaces[];

/* What compiled tables and explanation say about "namespace/pod" or an address reaching another one
 * at "80/TCP"; ends the test where the two do not agree.  IPv4 unless an end is an IPv6 address. */
enum drop_reason world_ask(const struct world *world, const char *from, const char *to,
			   const char *port);

struct world_question {
	const char *from;
	const char *to;
	const char *port;
	int want;
};

/* Asks them all; ends the test at the first answer that is not the wanted one. */
void world_ask_all(const struct world *world, const struct world_question *questions, size_t count);

/* Asks the questions of a world of the two namespaces with the given policies. */
#define ASK(policies, ...)                                                  \
	do {                                                                \
		const struct world_question questions_[] = { __VA_ARGS__ }; \
		struct world *world_ = world_of(two_namespaces, policies);  \
		world_ask_all(world_, questions_, ARRAY_SIZE(questions_));  \
		world_free(world_);                                         \
	} while (0)

struct compiled *world_compile(const struct world *world);

#endif
