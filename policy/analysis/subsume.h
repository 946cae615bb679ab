/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether one rule subsumes another: everything that matches the inner one matches the outer one,
 * too, whatever pods there will be.  "Yes" is always right.  "No" may be wrong, because single
 * terms, peers and ports are compared, and several together may subsume one.
 */
#ifndef TENDRIL_POLICY_ANALYSIS_SUBSUME_H
#define TENDRIL_POLICY_ANALYSIS_SUBSUME_H

#include "policy/objects/store.h"

bool selector_subsumes(const struct selector *outer, const struct selector *inner);
/* The key for which terms of a selector contradict each other, so that it matches nothing; or NULL.
 */
const char *selector_contradiction(const struct selector *selector);

/* Whether every pod that inner selects is selected by outer; either kind of policy. */
bool policy_subsumes(const struct store *store, const struct object *outer,
		     const struct object *inner);

bool ports_subsume(const struct policy_port *outer, const struct policy_port *inner);

/* Peers and ports of rules of two policies. */
bool rule_subsumes(const struct store *store, const struct object *outer_policy,
		   const struct policy_rule *outer, const struct object *inner_policy,
		   const struct policy_rule *inner);

/* Whether the exceptions of a block cover all of it. */
bool block_is_empty(const struct policy_peer *peer);

#endif
