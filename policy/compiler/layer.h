/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resolves precedence: rules that are evaluated one after the other, in tiers, become port rules of
 * which at most one matches.  Internal to the compiler.
 */
#ifndef TENDRIL_POLICY_COMPILER_LAYER_H
#define TENDRIL_POLICY_COMPILER_LAYER_H

#include "policy/objects/ports.h"

/* What one rule decides for one peer about these ports. */
struct layer {
	enum policy_action action; /* ACTION_PASS: the next tier decides */
	const struct port_rule *ports;
	size_t count;
	/* It may match or not: what passes either way passes.  Never with ACTION_ACCEPT. */
	bool in_doubt;
};

/* The rules of a tier in the order of evaluation; the first that matches decides. */
struct layer_tier {
	const struct layer *layers;
	size_t count;
};

/* Appends to the list what the tiers decide, one after the other; what none of them decides is
 * allowed.  The result is in normal form: first come the rules of single protocols, sorted, as far
 * as they differ from the rule for all protocols.  That one comes last, with protocol 0, unless it
 * is "deny". */
void layers_flatten(const struct layer_tier *tiers, size_t tier_count, struct port_list *list);

#endif
