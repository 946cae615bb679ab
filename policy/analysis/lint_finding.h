/* SPDX-License-Identifier: Apache-2.0 */
/* What all checks of lint use: findings, paths of rules, and the pods that policies can select. */
#ifndef TENDRIL_POLICY_ANALYSIS_LINT_FINDING_H
#define TENDRIL_POLICY_ANALYSIS_LINT_FINDING_H

#include "policy/analysis/lint.h"
#include "policy/objects/policy.h"

struct linter {
	const struct store *store;
	struct lint_findings *findings;
	const struct object **pods; /* those that policies can select: with a network of their own,
				     * and not terminated */
	size_t pod_count;
};

/* A path is relative to the object; "" is the object itself. */
void finding_add(struct linter *linter, enum lint_check check, const struct object *object,
		 const char *path, const struct object *other, const char *other_path,
		 const char *fmt, ...) __attribute__((format(printf, 7, 8)));

/* Reports the names in the annotation of an object that are no checks. */
void lint_annotation(struct linter *linter, const struct object *object);

#define LINT_PATH_MAX 160

/* One rule of a policy. */
struct rule_ref {
	const struct object *policy;
	enum direction direction;
	struct policy_rules rules;
	size_t number;
};

/* The first rule of a direction; add to .number to walk them. */
struct rule_ref rule_ref_first(const struct object *policy, enum direction direction);
const struct policy_rule *rule_ref_get(const struct rule_ref *ref);

/* "spec.ingress[1]", "spec.ingress[1].from[0]"; returns buf. */
const char *rule_path(const struct rule_ref *ref, char *buf);
const char *rule_part_path(const struct rule_ref *ref, const char *part, size_t index, char *buf);

bool lint_policy_selects(const struct linter *linter, const struct object *policy,
			 const struct object *pod);
bool lint_peer_selects(const struct linter *linter, const struct object *policy,
		       const struct policy_peer *peer, const struct object *pod);

#endif
