/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plain C reference of what the datapath decides for the first packet of a flow, over compiled
 * tables (verdict) and over the objects themselves, naming the deciding rule (explain).
 */
#ifndef TENDRIL_POLICY_COMPILER_VERDICT_H
#define TENDRIL_POLICY_COMPILER_VERDICT_H

#include "policy/compiler/compile.h"

/* Identity behind an address, by ipcache and then longest prefix. */
uint32_t verdict_identity(const struct compiled *compiled, const struct addr *addr);

/* The decision of policy_map for one direction of one policy; port in host order. */
enum verdict verdict_policy(const struct compiled *compiled, uint32_t policy_id,
			    enum direction direction, uint32_t peer, uint8_t proto, uint16_t port);

/* Whether the flow's first packet passes: DROP_NONE, DROP_EGRESS_DENIED or DROP_INGRESS_DENIED. */
enum drop_reason verdict_flow(const struct compiled *compiled, const struct flow *flow);

/* What becomes of it where ends are audited, or all are: what only audited ends refuse passes, and
 * *ret_would is the first reason that was passed over, or DROP_NONE. */
enum drop_reason verdict_audited(const struct compiled *compiled, const struct flow *flow,
				 bool all_audited, enum drop_reason *ret_would);

/* One end of an explained connection. */
struct explain_end {
	const struct object *pod; /* or NULL */
	struct addr addr;         /* zero if the pod has none yet */
	bool has_addr;
	bool is_host; /* an address of the pod's own node */
};

enum explain_reason {
	EXPLAIN_NO_POLICY, /* no policy selects this pod in this direction */
	EXPLAIN_RULE,      /* a rule allows it, or that of a ClusterNetworkPolicy denies it */
	EXPLAIN_NO_RULE,   /* isolated by NetworkPolicies, nothing allows it */
	EXPLAIN_NO_MATCH,  /* ClusterNetworkPolicies alone select it, no rule of theirs decides */
	EXPLAIN_NOT_A_POD, /* the end is outside: nothing is enforced there */
	EXPLAIN_SELF,      /* a pod always reaches itself */
	EXPLAIN_OWN_NODE,  /* a node always reaches its own pods */
};

struct explain_rule {
	const struct object *policy;
	size_t rule; /* its index in ingress or egress */
};

struct explain_side {
	enum verdict verdict;
	enum explain_reason reason;
	struct explain_rule decided;   /* EXPLAIN_RULE: by this one */
	struct explain_rule passed[2]; /* rules that passed it on to the next tier, in order */
	size_t passed_count;
	/* EXPLAIN_NO_RULE: the NetworkPolicies that isolate it; EXPLAIN_NO_MATCH: the
	 * ClusterNetworkPolicies that select it; owned. */
	const struct object **selecting;
	size_t selecting_count;
};

/* The rule as it is written. */
const struct policy_rule *explain_rule_get(const struct explain_rule *rule,
					   enum direction direction);

struct explanation {
	enum verdict verdict;
	struct explain_side egress;
	struct explain_side ingress;
};

int policy_explain(const struct store *store, const struct explain_end *from,
		   const struct explain_end *to, uint8_t proto, uint16_t port,
		   struct explanation *ret, struct errmsg *err);
void explanation_done(struct explanation *explanation);

#endif
