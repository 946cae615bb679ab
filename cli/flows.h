/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's observation of flows, as commands follow it. */
#ifndef TENDRIL_CLI_FLOWS_H
#define TENDRIL_CLI_FLOWS_H

#include "cli/cli.h"
#include "policy/analysis/record.h"

struct cli_flow {
	struct record_flow flow;
	const char *from_pod; /* "namespace/name", or NULL; as long as the call */
	const char *to_pod;
	bool passed; /* also: was there before, or passed an audited end */
	bool found;  /* was there before the observation began */
};

struct cli_flows {
	void (*begun)(void *arg); /* what was there before has been found; or NULL */
	/* A flow that is new or has become more; below 0 ends the observation with that. */
	int (*each)(const struct cli_flow *flow, void *arg);
	void *arg;
	bool incomplete; /* set: some flows may be missing */
};

/* Follows the agent's observation for so many seconds, or until SIGINT or SIGTERM, which end it as
 * if the time were over. */
int cli_flows_follow(const struct arguments *args, uint32_t seconds, struct cli_flows *flows,
		     struct errmsg *err);

/* Whether an end is still the pod that it was when the flow was seen, or no pod at all. */
bool cli_flow_end_is(const struct store *store, const struct addr *addr, const char *pod);

/* "60s", "5m", "1h" or a number of seconds, at most a day. */
int cli_duration_parse(const char *text, uint32_t *ret_seconds, struct errmsg *err);

#endif
