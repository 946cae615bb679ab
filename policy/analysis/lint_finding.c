/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/analysis/lint_finding.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

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

/* The next name in a list that is separated by commas or blanks; NULL at the end.  *pos is where to
 * go on. */
static const char *name_next(const char **pos, size_t *ret_len)
{
	const char *name = *pos + strspn(*pos, ", ");

	*ret_len = strcspn(name, ", ");
	*pos = name + *ret_len;
	return *ret_len ? name : NULL;
}

static bool name_is(const char *name, size_t len, enum lint_check check)
{
	return strlen(checks[check].name) == len && strncmp(name, checks[check].name, len) == 0;
}

static bool is_silenced(const struct object *object, enum lint_check check)
{
	const char *pos = object->lint_ignore ? object->lint_ignore : "";
	const char *name;
	size_t len;

	while ((name = name_next(&pos, &len))) {
		if (name_is(name, len, check))
			return true;
	}
	return false;
}

void finding_add(struct linter *linter, enum lint_check check, const struct object *object,
		 const char *path, const struct object *other, const char *other_path,
		 const char *fmt, ...)
{
	struct lint_findings *findings = linter->findings;
	char message[1024];
	va_list args;

	if (is_silenced(object, check)) {
		findings->silenced++;
		return;
	}
	va_start(args, fmt);
	vsnprintf(message, sizeof(message), fmt, args);
	va_end(args);
	*array_add(findings) = (struct lint_finding){
		.check = check,
		.object = object,
		.path = arena_string(findings->arena, path),
		.message = arena_string(findings->arena, message),
		.other = other,
		.other_path = other ? arena_string(findings->arena, other_path) : NULL,
	};
}

void lint_annotation(struct linter *linter, const struct object *object)
{
	const char *pos = object->lint_ignore ? object->lint_ignore : "";
	const char *name;
	size_t len;

	while ((name = name_next(&pos, &len))) {
		size_t check = 0;

		while (check < LINT_CHECK_COUNT && !name_is(name, len, (enum lint_check)check))
			check++;
		if (check == LINT_CHECK_COUNT)
			finding_add(linter, LINT_UNKNOWN_CHECK, object,
				    "metadata.annotations[" LINT_ANNOTATION "]", NULL, NULL,
				    "\"%.*s\" is not a check", (int)len, name);
	}
}

/* ---- what the checks look at ---- */

struct rule_ref rule_ref_first(const struct object *policy, enum direction direction)
{
	return (struct rule_ref){ .policy = policy,
				  .direction = direction,
				  .rules = policy_rules(policy, direction) };
}

const struct policy_rule *rule_ref_get(const struct rule_ref *ref)
{
	return &ref->rules.items[ref->number];
}

const char *rule_path(const struct rule_ref *ref, char *buf)
{
	snprintf(buf, LINT_PATH_MAX, "spec.%s[%zu]", direction_name(ref->direction), ref->number);
	return buf;
}

const char *rule_part_path(const struct rule_ref *ref, const char *part, size_t index, char *buf)
{
	snprintf(buf, LINT_PATH_MAX, "spec.%s[%zu].%s[%zu]", direction_name(ref->direction),
		 ref->number, part, index);
	return buf;
}

bool lint_policy_selects(const struct linter *linter, const struct object *policy,
			 const struct object *pod)
{
	return policy_selects(linter->store, policy, pod->namespace, &pod->pod.labels);
}

bool lint_peer_selects(const struct linter *linter, const struct object *policy,
		       const struct policy_peer *peer, const struct object *pod)
{
	struct label fallback;
	struct labels labels = { 0 };

	if (peer->namespaces)
		labels = namespace_labels(linter->store, pod->namespace, &fallback);
	return peer_selects(peer, policy->namespace, pod->namespace, &labels, &pod->pod.labels);
}
