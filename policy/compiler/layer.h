/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resolves precedence: rules that are asked one after the other, in tiers, become port rules of
 * which at most one matches.  Internal to the compiler.
 */
#ifndef TENDRIL_POLICY_COMPILER_LAYER_H
#define TENDRIL_POLICY_COMPILER_LAYER_H

#include "policy/objects/ports.h"

/* What one rule says to one peer about these ports. */
struct layer {
	enum policy_action action; /* ACTION_PASS: on to the next tier */
	const struct port_rule *ports;
	size_t count;
	/* It may match or not: what passes either way passes.  Never with ACTION_ACCEPT. */
	bool in_doubt;
};

/* The rules of a tier in the order in which they are asked; the first that matches decides. */
struct layer_tier {
	const struct layer *layers;
	size_t count;
};

/* Appends to the list what the tiers decide, one after the other; what none of them decides is
 * allowed.  The result is in normal form: the rules of single protocols come first, sorted, and
 * only where they differ from what holds for all protocols; that comes last as a rule of protocol
 * 0, unless it is "deny". */
void layers_flatten(const struct layer_tier *tiers, size_t tier_count, struct port_list *list);

#endif
