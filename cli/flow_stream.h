/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's observation of flows, as commands follow it. */
#ifndef TENDRIL_CLI_FLOW_STREAM_H
#define TENDRIL_CLI_FLOW_STREAM_H

#include "cli/command.h"
#include "policy/analysis/record.h"

struct observed_flow {
	struct record_flow flow;
	const char *from_pod; /* "namespace/name", or NULL; as long as the call */
	const char *to_pod;
	bool passed; /* also: was there before, or passed an audited end */
	bool found;  /* was there before the observation began */
};

struct flow_stream {
	void (*begun)(void *arg); /* what was there before has been found; or NULL */
	/* A flow that is new or has become more; below 0 ends the observation with that. */
	int (*each)(const struct observed_flow *flow, void *arg);
	void *arg;
	bool incomplete; /* set: some flows may be missing */
};

/* Follows the agent's observation for so many seconds, or until SIGINT or SIGTERM, which end it as
 * if the time were over. */
int flow_stream_follow(const struct arguments *args, uint32_t seconds, struct flow_stream *flows,
		       struct errmsg *err);

/* Whether an end is still the pod that it was when the flow was seen, or no pod at all. */
bool flow_end_is(const struct store *store, const struct addr *addr, const char *pod);

#endif
