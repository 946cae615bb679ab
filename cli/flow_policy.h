/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which policies and rules decide about a flow, by the objects that the agent holds now: asked once
 * for each pair of ends and port.
 */
#ifndef TENDRIL_CLI_FLOW_POLICY_H
#define TENDRIL_CLI_FLOW_POLICY_H

#include <stdbool.h>

#include "cli/command.h"

struct cJSON;
struct flow_policy;

struct flow_policy *flow_policy_new(const struct arguments *args);
void flow_policy_free(struct flow_policy *policy); /* NULL is fine */

/* Adds egress_allowed_by, ingress_allowed_by, egress_denied_by and ingress_denied_by as Hubble has
 * them, each with the number of the rule.  A flow one of whose ends is somebody else's by now gets
 * none. */
int flow_policy_add(struct flow_policy *policy, struct cJSON *flow, struct errmsg *err);

/* Whether one of these is the policy "NAMESPACE/NAME", or "/NAME" of a ClusterNetworkPolicy. */
bool flow_policy_is(const struct cJSON *flow, const char *name);

/* "egress shop/web rule 1, ingress shop/cart rule 2" of a flow, or "". */
const char *flow_policy_text(const struct cJSON *flow, char *buf, size_t size);

#endif
