/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A second opinion on NetworkPolicy and ClusterNetworkPolicy: answers from the JSON as written,
 * following the words of the API references one after the other, slowly.  Shares no code with the
 * policy library.
 */
#ifndef TENDRIL_TESTS_UNIT_ORACLE_H
#define TENDRIL_TESTS_UNIT_ORACLE_H

#include <stdbool.h>

struct cJSON;

struct oracle_query {
	const struct cJSON *objects; /* array of Kubernetes objects */
	const char *source;          /* addresses as text */
	const char *destination;
	const char *protocol; /* "TCP", ...; anything else has no ports */
	int port;
	bool source_is_node; /* an address of the node the destination runs on */
	/* Whether policies of this pod are in force here; NULL: everywhere. */
	bool (*enforced)(const struct cJSON *pod, const void *arg);
	const void *arg;
};

enum oracle_answer { ORACLE_ALLOWED, ORACLE_EGRESS_DENIED, ORACLE_INGRESS_DENIED };

enum oracle_answer oracle_ask(const struct oracle_query *query);

#endif
