/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's stream of flows, for commands. */
#ifndef TENDRIL_CLI_FLOW_STREAM_H
#define TENDRIL_CLI_FLOW_STREAM_H

#include "cli/command.h"
#include "policy/analysis/record.h"

struct observed_flow {
	struct record_flow flow;
	const char *from_pod; /* "namespace/name", or NULL; valid during the call */
	const char *to_pod;
	const char *to_name; /* by which the source asked DNS for it, or NULL; also valid so long */
	bool passed;         /* it was allowed, or existed before, or passed an end in audit mode */
	bool found;          /* it existed before the stream began */
};

struct flow_stream {
	void (*begun)(void *arg); /* existing flows have been found; or NULL */
	/* A new flow, or news about a flow.  A negative result ends the stream and is returned. */
	int (*each)(const struct observed_flow *flow, void *arg);
	void *arg;
	bool incomplete; /* result: some flows may be missing */
};

/* Follows the agent's stream for so many seconds.  SIGINT and SIGTERM end it early, without an
 * error. */
int flow_stream_follow(const struct arguments *args, uint32_t seconds, struct flow_stream *flows,
		       struct errmsg *err);

/* Whether the address still belongs to the pod that had it when the flow was seen; true if it was
 * no pod. */
bool flow_end_is(const struct store *store, const struct addr *addr, const char *pod);

#endif
