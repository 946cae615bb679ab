/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/analysis/lint.h"

#include <stdlib.h>
#include <string.h>

#include "policy/analysis/lint_checks.h"
#include "policy/analysis/subsume.h"

static void lint_subject(struct linter *linter, const struct object *policy)
{
	bool cluster = policy->kind == OBJECT_CLUSTER_POLICY;
	const struct selector *pods = cluster ? &policy->cluster_policy.pods : &policy->policy.pods;
	const char *path = cluster ? "spec.subject" : "spec.podSelector";
	const char *key = selector_contradiction(pods);
	const struct object *pod;

	if (!key && cluster)
		key = selector_contradiction(&policy->cluster_policy.namespaces);
	if (key) {
		finding_add(linter, LINT_NEVER_MATCHES, policy, path, NULL, NULL,
			    "what it asks of the label \"%s\" contradicts itself", key);
		return;
	}
	if (!linter->has_pods)
		return;
	pod = lint_pod_first(linter);
	while (pod && !lint_policy_selects(linter, policy, pod))
		pod = lint_pod_next(linter, pod);
	if (!pod)
		finding_add(linter, LINT_SELECTS_NO_POD, policy, path, NULL, NULL,
			    "no pod of the inventory is selected");
}

static void lint_kind(struct linter *linter, enum object_kind kind)
{
	for (const struct object *policy = store_first(linter->store, kind); policy;
	     policy = store_next(linter->store, policy)) {
		lint_annotation(linter, policy);
		lint_subject(linter, policy);
		lint_rules(linter, policy);
	}
}

static int finding_compare(const void *a, const void *b)
{
	const struct lint_finding *left = a;
	const struct lint_finding *right = b;
	int order = (left->object->kind > right->object->kind) -
		    (left->object->kind < right->object->kind);

	if (order == 0)
		order = strcmp(left->object->namespace, right->object->namespace);
	if (order == 0)
		order = strcmp(left->object->name, right->object->name);
	if (order == 0)
		order = strverscmp(left->path, right->path);
	return order ? order : (left->check > right->check) - (left->check < right->check);
}

struct lint_findings policy_lint(const struct store *store)
{
	struct lint_findings findings = { .arena = arena_new() };
	struct linter linter = { .store = store, .findings = &findings };

	linter.has_pods = lint_pod_first(&linter) != NULL;
	lint_kind(&linter, OBJECT_CLUSTER_POLICY);
	lint_kind(&linter, OBJECT_NETWORK_POLICY);
	lint_shadows(&linter);
	lint_dns(&linter);
	if (findings.count)
		qsort(findings.items, findings.count, sizeof(*findings.items), finding_compare);
	return findings;
}

void lint_findings_done(struct lint_findings *findings)
{
	free(findings->items);
	arena_free(findings->arena);
	*findings = (struct lint_findings){ 0 };
}
