/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rules that another rule makes superfluous, and policies that say the same.  Rules of
 * NetworkPolicies add up, so that a wider one of the same pods shadows a narrower one; those of
 * ClusterNetworkPolicies are asked in order, so that an earlier one shadows a later one, and those
 * of the Admin tier shadow all that comes after it.
 */
#include <stdlib.h>
#include <string.h>

#include "lib/auto.h"
#include "policy/analysis/lint_checks.h"
#include "policy/analysis/subsume.h"

static bool ref_subsumes(const struct linter *linter, const struct rule_ref *outer,
			 const struct rule_ref *inner)
{
	return policy_subsumes(linter->store, outer->policy, inner->policy) &&
	       rule_subsumes(linter->store, outer->policy, rule_ref_get(outer), inner->policy,
			     rule_ref_get(inner));
}

static void shadow_report(struct linter *linter, const struct rule_ref *outer,
			  const struct rule_ref *inner)
{
	static const char *const deeds[] = {
		[ACTION_ACCEPT] = "accepts", [ACTION_DENY] = "denies", [ACTION_PASS] = "passes on"
	};
	char path[LINT_PATH_MAX], other_path[LINT_PATH_MAX];
	const struct object *other = outer->policy;
	const char *when =
		other->kind == OBJECT_CLUSTER_POLICY ? ", before it is asked" : " as well";

	finding_add(linter, LINT_SHADOWED_RULE, inner->policy, rule_path(inner, path), other,
		    rule_path(outer, other_path),
		    "%s rule %zu of %s %s%s%s %s all that it matches%s",
		    direction_name(outer->direction), outer->number, object_kind_name(other->kind),
		    other->namespace, *other->namespace ? "/" : "", other->name,
		    deeds[rule_ref_get(outer)->action], when);
}

/* ---- among NetworkPolicies ---- */

/* Of two rules that cover each other the first one stays. */
static bool ref_shadows(const struct linter *linter, const struct rule_ref *outer,
			const struct rule_ref *inner, bool outer_first)
{
	return ref_subsumes(linter, outer, inner) &&
	       (outer_first || !ref_subsumes(linter, inner, outer));
}

static bool shadow_find(struct linter *linter, const struct object *const *policies, size_t count,
			size_t inner_policy, enum direction direction, const struct rule_ref *inner)
{
	for (size_t i = 0; i < count; i++) {
		struct rule_ref outer = rule_ref_first(policies[i], direction);

		if (!policy_subsumes(linter->store, policies[i], inner->policy))
			continue;
		for (; outer.rules.in_force && outer.number < outer.rules.count; outer.number++) {
			bool first = i < inner_policy ||
				     (i == inner_policy && outer.number < inner->number);

			if ((i == inner_policy && outer.number == inner->number) ||
			    !ref_shadows(linter, &outer, inner, first))
				continue;
			shadow_report(linter, &outer, inner);
			return true;
		}
	}
	return false;
}

/* Every rule that is in force in one direction is covered by one of the other policy. */
static bool direction_subsumes(const struct linter *linter, const struct object *outer,
			       const struct object *inner, enum direction direction)
{
	struct rule_ref inner_ref = rule_ref_first(inner, direction);
	struct rule_ref outer_ref = rule_ref_first(outer, direction);

	if (!inner_ref.rules.in_force || !outer_ref.rules.in_force)
		return inner_ref.rules.in_force == outer_ref.rules.in_force;
	for (; inner_ref.number < inner_ref.rules.count; inner_ref.number++) {
		bool covered = false;

		for (outer_ref.number = 0; outer_ref.number < outer_ref.rules.count && !covered;
		     outer_ref.number++)
			covered = ref_subsumes(linter, &outer_ref, &inner_ref);
		if (!covered)
			return false;
	}
	return true;
}

static bool policies_equal(const struct linter *linter, const struct object *a,
			   const struct object *b)
{
	return policy_subsumes(linter->store, a, b) && policy_subsumes(linter->store, b, a) &&
	       direction_subsumes(linter, a, b, DIR_INGRESS) &&
	       direction_subsumes(linter, b, a, DIR_INGRESS) &&
	       direction_subsumes(linter, a, b, DIR_EGRESS) &&
	       direction_subsumes(linter, b, a, DIR_EGRESS);
}

/* An earlier policy that is the same. */
static const struct object *duplicate_find(const struct linter *linter,
					   const struct object *const *policies, size_t number)
{
	for (size_t i = 0; i < number; i++) {
		if (policies_equal(linter, policies[i], policies[number]))
			return policies[i];
	}
	return NULL;
}

/* ---- by ClusterNetworkPolicies ---- */

/* Whether an earlier rule may pass some of what the later one matches on to the later one's tier:
 * then the rules between them do not decide all of it. */
static bool may_pass(const struct linter *linter, const struct rule_ref *earlier,
		     const struct rule_ref *later)
{
	const struct object *policy = earlier->policy;

	if (rule_ref_get(earlier)->action != ACTION_PASS)
		return false;
	if (later->policy->kind == OBJECT_NETWORK_POLICY)
		return namespace_selected(linter->store, later->policy->namespace,
					  &policy->cluster_policy.namespaces);
	return later->policy->cluster_policy.tier != policy->cluster_policy.tier;
}

/* Whether a rule of the ordered policies, those before it if it is one of them, shadows this one.
 */
static bool cluster_shadow_find(struct linter *linter, const struct object *const *policies,
				size_t count, enum direction direction,
				const struct rule_ref *inner)
{
	for (size_t i = 0; i < count; i++) {
		struct rule_ref outer = rule_ref_first(policies[i], direction);
		size_t end = outer.policy == inner->policy ? inner->number : outer.rules.count;

		for (; outer.number < end; outer.number++) {
			if (may_pass(linter, &outer, inner))
				return false;
			if (!ref_subsumes(linter, &outer, inner))
				continue;
			shadow_report(linter, &outer, inner);
			return true;
		}
		if (outer.policy == inner->policy)
			break;
	}
	return false;
}

struct tiers {
	const struct object **admin;
	size_t admin_count;
};

static void lint_tier(struct linter *linter, const struct tiers *tiers, enum policy_tier tier)
{
	size_t count;
	auto_free const struct object **policies = tier_policies(linter->store, tier, &count);

	for (size_t i = 0; i < 2 * count; i++) {
		enum direction direction = (enum direction)(i % 2);
		struct rule_ref inner = rule_ref_first(policies[i / 2], direction);

		for (; inner.number < inner.rules.count; inner.number++) {
			if (tier == TIER_BASELINE &&
			    cluster_shadow_find(linter, tiers->admin, tiers->admin_count, direction,
						&inner))
				continue;
			cluster_shadow_find(linter, policies, i / 2 + 1, direction, &inner);
		}
	}
}

static void lint_namespace(struct linter *linter, const struct tiers *tiers,
			   const struct object *const *policies, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct object *same = duplicate_find(linter, policies, i);

		if (same) {
			finding_add(linter, LINT_DUPLICATE_POLICY, policies[i], "", same, "",
				    "NetworkPolicy %s/%s is the same", same->namespace, same->name);
			continue;
		}
		for (size_t d = 0; d < 2; d++) {
			enum direction direction = (enum direction)d;
			struct rule_ref inner = rule_ref_first(policies[i], direction);

			for (; inner.rules.in_force && inner.number < inner.rules.count;
			     inner.number++) {
				if (!cluster_shadow_find(linter, tiers->admin, tiers->admin_count,
							 direction, &inner))
					shadow_find(linter, policies, count, i, direction, &inner);
			}
		}
	}
}

void lint_shadows(struct linter *linter)
{
	const struct object *policy = store_first(linter->store, OBJECT_NETWORK_POLICY);
	struct tiers tiers = { 0 };

	tiers.admin = tier_policies(linter->store, TIER_ADMIN, &tiers.admin_count);
	lint_tier(linter, &tiers, TIER_ADMIN);
	lint_tier(linter, &tiers, TIER_BASELINE);
	while (policy) {
		const struct object *const *policies;
		size_t count = store_range(linter->store, OBJECT_NETWORK_POLICY, policy->namespace,
					   &policies);

		lint_namespace(linter, &tiers, policies, count);
		policy = store_next(linter->store, policies[count - 1]);
	}
	free(tiers.admin);
}
