/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/analysis/lint.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/auto.h"
#include "policy/analysis/lint_internal.h"
#include "policy/analysis/subsume.h"
#include "policy/objects/tier.h"

static const struct {
	const char *name;
	const char *explains;
} checks[] = {
#define X(id, name, explains) [LINT_##id] = { name, explains },
	LINT_CHECKS(X)
#undef X
};

const char *lint_check_name(enum lint_check check)
{
	return checks[check].name;
}

const char *lint_check_explains(enum lint_check check)
{
	return checks[check].explains;
}

/* ---- findings ---- */

/* Calls found() for every name of the annotation. */
static bool ignore_each(const struct object *object,
			bool (*found)(const char *name, size_t len, void *arg), void *arg)
{
	const char *name = object->lint_ignore;

	while (name && *name) {
		size_t len;

		name += strspn(name, ", ");
		len = strcspn(name, ", ");
		if (len && found(name, len, arg))
			return true;
		name += len;
	}
	return false;
}

static bool name_is(const char *name, size_t len, void *arg)
{
	const char *wanted = arg;

	return strlen(wanted) == len && strncmp(name, wanted, len) == 0;
}

static bool is_silenced(const struct object *object, enum lint_check check)
{
	return ignore_each(object, name_is, (void *)checks[check].name);
}

void finding_add(struct linter *linter, enum lint_check check, const struct object *object,
		 const char *path, const struct object *other, const char *other_path,
		 const char *fmt, ...)
{
	struct lint_findings *findings = linter->findings;
	struct lint_finding *finding;
	auto_free char *message = NULL;
	va_list args;
	int len;

	if (is_silenced(object, check)) {
		findings->silenced++;
		return;
	}
	va_start(args, fmt);
	len = vasprintf(&message, fmt, args);
	va_end(args);
	if (len < 0)
		message = NULL;
	if (!message || array_room(&findings->items, findings->count, &findings->capacity,
				   sizeof(*findings->items)) < 0) {
		linter->failed = true;
		return;
	}
	finding = &findings->items[findings->count++];
	*finding = (struct lint_finding){
		.check = check,
		.object = object,
		.path = arena_string(findings->arena, path),
		.message = arena_string(findings->arena, message),
		.other = other,
		.other_path = other ? arena_string(findings->arena, other_path) : NULL,
	};
}

struct ignore_check {
	struct linter *linter;
	const struct object *object;
};

static bool name_report(const char *name, size_t len, void *arg)
{
	struct ignore_check *ignore = arg;

	for (size_t i = 0; i < LINT_CHECK_COUNT; i++) {
		if (strlen(checks[i].name) == len && strncmp(checks[i].name, name, len) == 0)
			return false;
	}
	finding_add(ignore->linter, LINT_UNKNOWN_CHECK, ignore->object,
		    "metadata.annotations[" LINT_ANNOTATION "]", NULL, NULL,
		    "\"%.*s\" is not a check", (int)len, name);
	return false;
}

/* ---- what the checks look at ---- */

struct rule_list policy_rules(const struct object *policy, enum direction direction)
{
	bool ingress = direction == DIR_INGRESS;
	struct rule_list list = { .direction = ingress ? "ingress" : "egress",
				  .peers = ingress ? "from" : "to" };

	if (policy->kind == OBJECT_NETWORK_POLICY) {
		const struct network_policy_object *written = &policy->policy;

		list.rules = ingress ? written->ingress_rules : written->egress_rules;
		list.count = ingress ? written->ingress_rule_count : written->egress_rule_count;
		list.void_ = !(ingress ? written->ingress : written->egress);
	} else {
		const struct cluster_policy_object *written = &policy->cluster_policy;

		list.rules = ingress ? written->ingress_rules : written->egress_rules;
		list.count = ingress ? written->ingress_rule_count : written->egress_rule_count;
	}
	return list;
}

const char *rule_path(const struct rule_list *list, size_t rule, char *buf)
{
	snprintf(buf, LINT_PATH_MAX, "spec.%s[%zu]", list->direction, rule);
	return buf;
}

const char *rule_part_path(const struct rule_list *list, size_t rule, const char *part,
			   size_t index, char *buf)
{
	snprintf(buf, LINT_PATH_MAX, "spec.%s[%zu].%s[%zu]", list->direction, rule, part, index);
	return buf;
}

static const struct object *pod_from(const struct linter *linter, const struct object *pod)
{
	while (pod && (pod->pod.host_network || pod->pod.terminated))
		pod = store_next(linter->store, pod);
	return pod;
}

const struct object *lint_pod_first(const struct linter *linter)
{
	return pod_from(linter, store_first(linter->store, OBJECT_POD));
}

const struct object *lint_pod_next(const struct linter *linter, const struct object *pod)
{
	return pod_from(linter, store_next(linter->store, pod));
}

bool policy_selects(const struct linter *linter, const struct object *policy,
		    const struct object *pod)
{
	if (policy->kind == OBJECT_CLUSTER_POLICY)
		return cluster_policy_selects(linter->store, policy, pod->namespace,
					      &pod->pod.labels);
	return strcmp(policy->namespace, pod->namespace) == 0 &&
	       selector_matches(&policy->policy.pods, &pod->pod.labels);
}

bool peer_selects(const struct linter *linter, const struct object *policy,
		  const struct policy_peer *peer, const struct object *pod)
{
	if (peer->is_block || peer->nodes)
		return false;
	if (peer->pods && !selector_matches(peer->pods, &pod->pod.labels))
		return false;
	if (!peer->namespaces)
		return strcmp(policy->namespace, pod->namespace) == 0;
	return namespace_selected(linter->store, pod->namespace, peer->namespaces);
}

/* ---- subjects ---- */

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
	while (pod && !policy_selects(linter, policy, pod))
		pod = lint_pod_next(linter, pod);
	if (!pod)
		finding_add(linter, LINT_SELECTS_NO_POD, policy, path, NULL, NULL,
			    "no pod of the inventory is selected");
}

/* ---- all of it ---- */

static void lint_kind(struct linter *linter, enum object_kind kind)
{
	for (const struct object *policy = store_first(linter->store, kind); policy;
	     policy = store_next(linter->store, policy)) {
		struct ignore_check ignore = { linter, policy };

		ignore_each(policy, name_report, &ignore);
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

int policy_lint(const struct store *store, struct lint_findings *ret_findings, struct errmsg *err)
{
	struct lint_findings findings = { .arena = arena_new() };
	struct linter linter = { .store = store, .findings = &findings };
	int ret = 0;

	if (findings.arena) {
		linter.has_pods = lint_pod_first(&linter) != NULL;
		lint_kind(&linter, OBJECT_CLUSTER_POLICY);
		lint_kind(&linter, OBJECT_NETWORK_POLICY);
		lint_shadows(&linter);
		ret = lint_dns(&linter, err);
	}
	if (!ret && (!findings.arena || linter.failed || arena_failed(findings.arena)))
		ret = fail_plain(err, -ENOMEM, "lint: out of memory");
	if (ret) {
		lint_findings_done(&findings);
		return ret;
	}
	if (findings.count)
		qsort(findings.items, findings.count, sizeof(*findings.items), finding_compare);
	*ret_findings = findings;
	return 0;
}

void lint_findings_done(struct lint_findings *findings)
{
	free(findings->items);
	arena_free(findings->arena);
	*findings = (struct lint_findings){ 0 };
}
