/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of lint share: findings on their way, and rules with their direction. */
#ifndef TENDRIL_POLICY_ANALYSIS_LINT_INTERNAL_H
#define TENDRIL_POLICY_ANALYSIS_LINT_INTERNAL_H

#include "datapath/abi.h"
#include "policy/analysis/lint.h"

struct linter {
	const struct store *store;
	struct lint_findings *findings;
	bool has_pods;
	bool failed; /* out of memory */
};

/* The rules of one direction of a policy of either kind. */
struct rule_list {
	const struct policy_rule *rules;
	size_t count;
	const char *direction; /* "ingress" */
	const char *peers;     /* "from" */
	bool void_;            /* written, but policyTypes leaves the direction out */
};

struct rule_list policy_rules(const struct object *policy, enum direction direction);

/* The pods that a policy's subject or a rule's peers are looked for among: no terminated ones, none
 * of the host's network. */
const struct object *lint_pod_first(const struct linter *linter);
const struct object *lint_pod_next(const struct linter *linter, const struct object *pod);

bool policy_selects(const struct linter *linter, const struct object *policy,
		    const struct object *pod);
bool peer_selects(const struct linter *linter, const struct object *policy,
		  const struct policy_peer *peer, const struct object *pod);

/* A path is relative to the object; "" is the object itself. */
void finding_add(struct linter *linter, enum lint_check check, const struct object *object,
		 const char *path, const struct object *other, const char *other_path,
		 const char *fmt, ...) __attribute__((format(printf, 7, 8)));

#define LINT_PATH_MAX 160

/* "spec.ingress[1]", "spec.ingress[1].from[0]"; returns buf. */
const char *rule_path(const struct rule_list *list, size_t rule, char *buf);
const char *rule_part_path(const struct rule_list *list, size_t rule, const char *part,
			   size_t index, char *buf);

void lint_rules(struct linter *linter, const struct object *policy); /* lint_rule.c */
void lint_shadows(struct linter *linter);                            /* lint_shadow.c */
int lint_dns(struct linter *linter, struct errmsg *err);             /* lint_dns.c */

#endif
