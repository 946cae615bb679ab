/* SPDX-License-Identifier: Apache-2.0 */
/* The connectivity test: its rows, and what they say together. */
#ifndef TENDRIL_CLI_CONNECT_TEST_H
#define TENDRIL_CLI_CONNECT_TEST_H

#include "cli/connect_drops.h"
#include "cli/connect_pods.h"

struct cJSON;

enum connect_about {
	ABOUT_POD,      /* from one pod of the test to the other */
	ABOUT_HOST,     /* pod to its node, and back */
	ABOUT_SERVICE,  /* pod to ClusterIP */
	ABOUT_POLICY,   /* a pod that a policy isolates, and no longer */
	ABOUT_NODE,     /* this node to another one's address */
	ABOUT_RANGE,    /* this node to the range of the other one's pods */
	ABOUT_POD_NODE, /* the same two from a pod */
	ABOUT_POD_RANGE,
	ABOUT_SIZE, /* a packet of the MTU to that range */
	ABOUT_DNS,
	ABOUT_EXTERNAL,
};

enum connect_result { CONNECT_OK, CONNECT_FAILED, CONNECT_SKIPPED };

struct connect_row {
	enum connect_about about;
	char from[80];
	char to[400]; /* with the address */
	struct addr address;
	const char *protocol;
	enum connect_result result;
	int error; /* errno of a failure */
	char why[200];
	char drop[120]; /* what a drop of its packets was told to be, or "" */
	uint32_t time_us;
	uint32_t passing; /* ABOUT_SIZE that failed: the largest packet that passes */
	const char *node; /* the other one, or NULL */
};

struct connect_test {
	const struct arguments *args;
	struct connect_pod client;
	struct connect_pod server;
	struct prober host;
	struct connect_drops drops;
	struct cJSON *nodes;    /* GET /v1/nodes, just measured */
	struct cJSON *status;   /* GET /v1/status */
	struct cJSON *policies; /* names of those that select the pod server; NULL: none known */
	struct connect_row *rows;
	size_t row_count;
};

/* A handler of signals: connect_run() ends as soon as it can. */
void connect_interrupt(int number);
/* Runs all probes.  0, or a negative errno; -EINTR: it was interrupted. */
int connect_run(struct connect_test *test, struct errmsg *err);

/* Adds {"what","advice"} to the array for each thing that is broken. */
void connect_answer(const struct connect_test *test, struct cJSON *broken);

#endif
