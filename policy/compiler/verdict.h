/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The datapath's decision about the first packet of a flow, in plain C with compiled tables.  Tests
 * compare the datapath with it.
 */
#ifndef TENDRIL_POLICY_COMPILER_VERDICT_H
#define TENDRIL_POLICY_COMPILER_VERDICT_H

#include "policy/compiler/compile.h"

/* The identity of an address: from the exact addresses, else by longest prefix. */
uint32_t verdict_identity(const struct compiled *compiled, const struct addr *addr);

/* The decision of policy_map for one direction of one policy; port in host order. */
enum verdict verdict_policy(const struct compiled *compiled, uint32_t policy_id,
			    enum direction direction, uint32_t peer, uint8_t proto, uint16_t port);

/* Whether the flow's first packet passes: DROP_NONE, DROP_EGRESS_DENIED or DROP_INGRESS_DENIED. */
enum drop_reason verdict_flow(const struct compiled *compiled, const struct flow *flow);

/* The same if some or all ends are audited: a flow that only audited ends deny passes, and
 * *ret_would is the reason for which it would be dropped, or DROP_NONE. */
enum drop_reason verdict_audited(const struct compiled *compiled, const struct flow *flow,
				 bool all_audited, enum drop_reason *ret_would);

#endif
