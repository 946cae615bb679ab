/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/analysis/lint.h"

#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"
#include "policy/analysis/lint_checks.h"
#include "policy/analysis/subsume.h"

static void pods_collect(struct linter *linter)
{
	const struct object *const *pods;
	size_t count = store_objects(linter->store, OBJECT_POD, &pods);

	linter->pods = xcalloc(count, sizeof(*linter->pods));
	for (size_t i = 0; i < count; i++) {
		if (!pods[i]->pod.host_network && !pods[i]->pod.terminated)
			linter->pods[linter->pod_count++] = pods[i];
	}
}

static void lint_subject(struct linter *linter, const struct object *policy)
{
	bool cluster = policy->kind == OBJECT_CLUSTER_POLICY;
	const struct selector *pods = cluster ? &policy->cluster_policy.pods : &policy->policy.pods;
	const char *path = cluster ? "spec.subject" : "spec.podSelector";
	const char *key = selector_contradiction(pods);
	size_t i = 0;

	if (!key && cluster)
		key = selector_contradiction(&policy->cluster_policy.namespaces);
	if (key) {
		finding_add(linter, LINT_NEVER_MATCHES, policy, path, NULL, NULL,
			    "its terms for the label \"%s\" contradict each other", key);
		return;
	}
	if (linter->pod_count == 0)
		return;
	while (i < linter->pod_count && !lint_policy_selects(linter, policy, linter->pods[i]))
		i++;
	if (i == linter->pod_count)
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

	pods_collect(&linter);
	lint_kind(&linter, OBJECT_CLUSTER_POLICY);
	lint_kind(&linter, OBJECT_NETWORK_POLICY);
	lint_shadows(&linter);
	lint_dns(&linter);
	free(linter.pods);
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
