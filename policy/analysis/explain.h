/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds the rule that decides about a connection.  It reads the objects as they are written,
 * without the compiler, so that it can name what a person wrote, and so that tests can compare the
 * two.
 */
#ifndef TENDRIL_POLICY_ANALYSIS_EXPLAIN_H
#define TENDRIL_POLICY_ANALYSIS_EXPLAIN_H

#include "datapath/abi.h"
#include "policy/objects/store.h"

/* One end of an explained connection. */
struct explain_end {
	const struct object *pod; /* or NULL */
	struct addr addr;         /* zero if the pod has none yet */
	bool has_addr;
	bool is_host; /* an address of the pod's own node */
};

enum explain_reason {
	EXPLAIN_NO_POLICY, /* no policy selects this pod in this direction */
	EXPLAIN_RULE,      /* a rule allows it, or a rule of a ClusterNetworkPolicy denies it */
	EXPLAIN_NO_RULE,   /* isolated by NetworkPolicies, no rule allows it */
	EXPLAIN_NO_MATCH,  /* only ClusterNetworkPolicies select it, none of their rules decides */
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
	bool peer_unknown;             /* explain_is_unknown_pod() of the other end */
	struct explain_rule passed[2]; /* rules with action Pass that matched, in order */
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

/* Whether it is an address in the pod CIDR of a node that no Pod object claims: it may be any pod,
 * so that each rule that refuses pods refuses it, and none accepts it for its labels. */
bool explain_is_unknown_pod(const struct store *store, const struct explain_end *end);

/* Port in host order.  The caller ends the result with explanation_done(). */
struct explanation policy_explain(const struct store *store, const struct explain_end *from,
				  const struct explain_end *to, uint8_t proto, uint16_t port);
void explanation_done(struct explanation *explanation);

#endif
