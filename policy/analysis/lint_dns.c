/* SPDX-License-Identifier: Apache-2.0 */
/* Finds pods that may not send to port 53/UDP anywhere.  It reads compiled tables, where all tiers
 * are considered. */
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/auto.h"
#include "policy/analysis/lint_checks.h"
#include "policy/compiler/compile.h"

#define DNS_PORT 53

DEFINE_AUTO(compiled)

static bool entry_allows_dns(const struct compiled_entry *entry)
{
	for (size_t i = 0; i < entry->rule_count; i++) {
		const struct port_rule *rule = &entry->rules[i];

		if (rule->proto == 0 || (rule->proto == IPPROTO_UDP && rule->port_min <= DNS_PORT &&
					 DNS_PORT <= rule->port_max))
			return rule->verdict == VERDICT_ALLOW;
	}
	return false;
}

static bool policy_allows_dns(const struct compiled *compiled, uint32_t policy_id)
{
	for (size_t i = compiled_entries_first(compiled, policy_id);
	     i < compiled->entry_count && compiled->entries[i].key.policy_id == policy_id; i++) {
		if (compiled->entries[i].key.direction == DIR_EGRESS &&
		    entry_allows_dns(&compiled->entries[i]))
			return true;
	}
	return false;
}

/* The policy that is reported for a pod: the first that isolates it. */
static const struct object *isolating_policy(const struct linter *linter, const struct object *pod)
{
	const struct object *const *policies;
	size_t count = store_range(linter->store, OBJECT_NETWORK_POLICY, pod->namespace, &policies);
	const struct object *policy;

	for (size_t i = 0; i < count; i++) {
		if (policies[i]->policy.egress && lint_policy_selects(linter, policies[i], pod))
			return policies[i];
	}
	policy = store_first(linter->store, OBJECT_CLUSTER_POLICY);
	while (policy && (policy->cluster_policy.egress_rule_count == 0 ||
			  !lint_policy_selects(linter, policy, pod)))
		policy = store_next(linter->store, policy);
	return policy;
}

struct blame { /* a pod that is cut off, and the policy that is reported; sorted by both */
	const struct object *policy;
	const struct object *pod;
};

static int blame_compare(const void *a, const void *b)
{
	const struct blame *left = a;
	const struct blame *right = b;
	int order = (left->policy > right->policy) - (left->policy < right->policy);

	if (order == 0)
		order = strcmp(left->pod->namespace, right->pod->namespace);
	return order ? order : strcmp(left->pod->name, right->pod->name);
}

static void blames_report(struct linter *linter, struct blame *blames, size_t count)
{
	if (count)
		qsort(blames, count, sizeof(*blames), blame_compare);
	for (size_t first = 0, end; first < count; first = end) {
		const struct object *pod = blames[first].pod;

		for (end = first + 1; end < count && blames[end].policy == blames[first].policy;)
			end++;
		if (end - first == 1)
			finding_add(linter, LINT_DNS_CUT_OFF, blames[first].policy, "", NULL, NULL,
				    "%s/%s may not send to port 53/UDP anywhere", pod->namespace,
				    pod->name);
		else
			finding_add(
				linter, LINT_DNS_CUT_OFF, blames[first].policy, "", NULL, NULL,
				"%zu pods, %s/%s among them, may not send to port 53/UDP anywhere",
				end - first, pod->namespace, pod->name);
	}
}

void lint_dns(struct linter *linter)
{
	auto_(compiled) struct compiled *compiled = policy_compile(linter->store);
	auto_free struct blame *blames = xcalloc(compiled->subject_count, sizeof(*blames));
	size_t count = 0;

	for (size_t i = 0; i < compiled->subject_count; i++) {
		const struct compiled_subject *subject = &compiled->subjects[i];
		const struct object *policy;

		if (!subject->pod || !subject->egress_isolated ||
		    policy_allows_dns(compiled, subject->policy_id))
			continue;
		policy = isolating_policy(linter, subject->pod);
		if (policy)
			blames[count++] = (struct blame){ policy, subject->pod };
	}
	blames_report(linter, blames, count);
}
