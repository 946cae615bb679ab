/* SPDX-License-Identifier: Apache-2.0 */
/* Calls to the node agent; its failures become codes of the specification. */
#ifndef TENDRIL_CNI_AGENT_H
#define TENDRIL_CNI_AGENT_H

#include "cni/error.h"

struct cJSON;

#define AGENT_TIMEOUT_MS 5000  /* for an answer: far beyond what a loaded node needs */
#define AGENT_ADD_MS     15000 /* the same; ADD may wait up to 10 s for its Pod object */
#define AGENT_RESTART_MS 1200  /* an agent that restarts is back well within this */

struct agent_call {
	const char *socket;
	const char *path;
	const struct cJSON *body;
	int fd;         /* passed with the call, or -1 */
	int timeout_ms; /* for an answer */
	unsigned int
		retry_ms; /* try again for so long, if nobody listens or there are too many calls */
};

enum agent_outcome {
	AGENT_ANSWERED, /* with 0 or a code */
	AGENT_ABSENT,   /* nobody listens: nothing was done */
	AGENT_LOST,     /* it ended before it answered: the call may have been executed */
	AGENT_UNCLEAR,  /* no answer in time, or not a valid one: the call may still be executed */
};

/* Returns 0, or a code: the agent's own, CNI_TRY_AGAIN_LATER when there was no answer, or
 * CNI_AGENT_FAILED.  ret_answer (may be NULL) is owned by the caller. */
int agent_call(const struct agent_call *call, struct cJSON **ret_answer,
	       enum agent_outcome *ret_outcome, struct cni_error *err);

#endif
