/* SPDX-License-Identifier: Apache-2.0 */
/* The nodes, after the agent has asked each of them again. */
#ifndef TENDRIL_CLI_NODE_PROBE_H
#define TENDRIL_CLI_NODE_PROBE_H

#include "cli/command.h"

struct cJSON;

/* Waits for all answers, which takes some seconds if nodes do not answer; a signal or a minute ends
 * it, and what is known by then is told.  The caller owns
 * *ret_rows, the array of GET /v1/nodes. */
int nodes_probe(const struct arguments *args, struct cJSON **ret_rows, struct errmsg *err);

#endif
