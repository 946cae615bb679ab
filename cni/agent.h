/* SPDX-License-Identifier: Apache-2.0 */
/* Calls to the node agent, with its failures in the specification's codes. */
#ifndef TENDRIL_CNI_AGENT_H
#define TENDRIL_CNI_AGENT_H

#include "cni/error.h"

struct cJSON;

#define AGENT_TIMEOUT_MS 10000 /* for an answer: far beyond what a loaded node needs */
#define AGENT_RESTART_MS 1200  /* an agent that restarts is back well within this */

struct agent_call {
	const char *socket;
	const char *path;
	const struct cJSON *body;
	int fd;                /* passed with the call, or -1 */
	unsigned int retry_ms; /* keep trying while nobody listens */
};

enum agent_outcome {
	AGENT_ANSWERED, /* 0, or the code it answered with */
	AGENT_ABSENT,   /* nobody listens, or the agent died before it answered */
	AGENT_UNKNOWN,  /* no answer in time: what was asked may have been done */
};

/* Returns 0, or a code: the agent's own, CNI_TRY_AGAIN_LATER when there was no answer, or
 * CNI_AGENT_FAILED.  ret_answer (may be NULL) is owned by the caller. */
int agent_call(const struct agent_call *call, struct cJSON **ret_answer,
	       enum agent_outcome *ret_outcome, struct cni_error *err);

#endif
