/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pod CIDRs that no configuration gives: those of this node's Node object.  RUN_DIR/pod-cidrs holds
 * them for the next start, which has pods to look after before it hears of an API server.
 */
#ifndef TENDRIL_AGENT_POD_CIDRS_H
#define TENDRIL_AGENT_POD_CIDRS_H

#include "agent/config.h"
#include "policy/objects/object.h"

/* Fills config->pod_cidrs from the file, if there is one. */
int pod_cidrs_recall(struct config *config, struct errmsg *err);

/* Compares with those of a Node object.  Returns 1 after config->pod_cidrs was filled, because
 * there were none; 0: nothing is to be done.  Others than before wait for the next start. */
int pod_cidrs_learn(struct config *config, const struct object *node, struct errmsg *err);

#endif
