/* SPDX-License-Identifier: Apache-2.0 */
/* The checks that policy_lint() runs; each reports its findings. */
#ifndef TENDRIL_POLICY_ANALYSIS_LINT_CHECKS_H
#define TENDRIL_POLICY_ANALYSIS_LINT_CHECKS_H

#include "policy/analysis/lint_finding.h"

void lint_rules(struct linter *linter, const struct object *policy); /* lint_rule.c */
void lint_shadows(struct linter *linter);                            /* lint_shadow.c */
void lint_dns(struct linter *linter);                                /* lint_dns.c */

#endif
