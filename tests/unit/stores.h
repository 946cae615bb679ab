/* SPDX-License-Identifier: Apache-2.0 */
/* Worlds and queries for the tests of the policy library, written as YAML. */
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

/* Parses the texts one after the other into one store; ends the test with the first problem. */
struct store *store_of(const char *first, const char *second);
/* Puts the objects of a text into a store, in the place of those with their names. */
void store_add(struct store *store, const char *text);

/* The problems of a text, formatted without a file, one a line; "" if there are none.  buf is
 * returned. */
const char *problems_of(const char *text, unsigned int flags, char *buf, size_t size);

/* Two namespaces (shop, bank), pods in both, one of them with named ports; see stores.c. */
extern const char two_namespaces[];

/* What compiled tables and explanation say about "namespace/pod" or an address reaching another one
 * at "80/TCP"; ends the test where the two do not agree.  IPv4 unless an end is an IPv6 address. */
enum drop_reason store_ask(const struct store *store, const char *from, const char *to,
			   const char *port);

struct store_query {
	const char *from;
	const char *to;
	const char *port;
	int want;
};

/* Asks them all; ends the test at the first answer that is not the wanted one. */
void store_ask_all(const struct store *store, const struct store_query *queries, size_t count);

/* Asks the queries of a store of the two namespaces with the given policies. */
#define ASK(policies, ...)                                                 \
	do {                                                               \
		const struct store_query questions_[] = { __VA_ARGS__ };   \
		struct store *store_ = store_of(two_namespaces, policies); \
		store_ask_all(store_, questions_, ARRAY_SIZE(questions_)); \
		store_free(store_);                                        \
	} while (0)

struct compiled *store_compile(const struct store *store);

#endif
