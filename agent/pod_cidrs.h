/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pod CIDRs of this node's Node object, for a node whose configuration has none.  RUN_DIR/pod-cidrs
 * keeps them for the next start, which restores pods before it reaches the API server.
 */
#ifndef TENDRIL_AGENT_POD_CIDRS_H
#define TENDRIL_AGENT_POD_CIDRS_H

#include "agent/config.h"
#include "policy/objects/object.h"

/* Fills config->pod_cidrs from the file, if there is one. */
int pod_cidrs_recall(struct config *config, struct errmsg *err);

/* Compares config->pod_cidrs with those of a Node object.  Returns 1 if there were none and it has
 * filled them in; else 0.  If they differ, the new ones are used from the next start on. */
int pod_cidrs_learn(struct config *config, const struct object *node, struct errmsg *err);

#endif
