/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/output_explain.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

#include "cli/output.h"
#include "lib/auto.h"
#include "policy/objects/policy.h"

static const char *const reasons[] = {
	[EXPLAIN_NO_POLICY] = "no policy selects this pod in this direction",
	[EXPLAIN_RULE] = "a rule allows it",
	[EXPLAIN_NO_RULE] = "isolated, and no rule allows it",
	[EXPLAIN_NO_MATCH] = "no rule decides, and no NetworkPolicy selects this pod",
	[EXPLAIN_NOT_A_POD] = "not a pod: nothing is enforced at this end",
	[EXPLAIN_SELF] = "a pod always reaches itself",
	[EXPLAIN_OWN_NODE] = "a node always reaches its own pods",
};

const char *verdict_name(enum verdict verdict)
{
	return verdict == VERDICT_ALLOW ? "allow" : "deny";
}

/* Where a rule is written. */
static const char *rule_source(const struct cli_store *store, enum direction direction,
			       const struct explain_rule *rule, char *buf, size_t size)
{
	char path[64];

	snprintf(path, sizeof(path), "spec.%s[%zu]", direction_name(direction), rule->rule);
	return cli_store_source(store, rule->policy, path, buf, size);
}

static const char *side_reason(const struct explain_side *side)
{
	if (side->reason == EXPLAIN_RULE && side->verdict == VERDICT_DENY)
		return side->peer_unknown ? "a rule may deny it: the other end's address is in a "
					    "pod CIDR, and no Pod object claims it yet"
					  : "a rule denies it";
	return reasons[side->reason];
}

static bool side_names_policies(const struct explain_side *side)
{
	return side->reason == EXPLAIN_NO_RULE || side->reason == EXPLAIN_NO_MATCH;
}

/* ---- JSON ---- */

static cJSON *policy_ref(const struct cli_store *store, const struct object *policy)
{
	cJSON *json = cJSON_CreateObject();
	char source[SOURCE_MAX];

	cJSON_AddStringToObject(json, "kind", object_kind_name(policy->kind));
	cJSON_AddStringToObject(json, "namespace", policy->namespace);
	cJSON_AddStringToObject(json, "name", policy->name);
	if (policy->kind == OBJECT_CLUSTER_POLICY) {
		cJSON_AddStringToObject(json, "tier",
					policy_tier_name(policy->cluster_policy.tier));
		cJSON_AddNumberToObject(json, "priority", policy->cluster_policy.priority);
	}
	cJSON_AddStringToObject(json, "source",
				cli_store_source(store, policy, "", source, sizeof(source)));
	return json;
}

/* "policy", "rule", "ruleName", "source" */
static void rule_add_json(const struct cli_store *store, enum direction direction,
			  const struct explain_rule *rule, cJSON *json)
{
	const char *name = explain_rule_get(rule, direction)->name;
	char source[SOURCE_MAX];

	cJSON_AddItemToObject(json, "policy", policy_ref(store, rule->policy));
	cJSON_AddNumberToObject(json, "rule", (double)rule->rule);
	if (name)
		cJSON_AddStringToObject(json, "ruleName", name);
	cJSON_AddStringToObject(json, "source",
				rule_source(store, direction, rule, source, sizeof(source)));
}

static cJSON *side_json(const struct cli_store *store, enum direction direction,
			const struct explain_side *side)
{
	cJSON *json = cJSON_CreateObject();
	char source[SOURCE_MAX];
	cJSON *array;

	cJSON_AddStringToObject(json, "verdict", verdict_name(side->verdict));
	cJSON_AddStringToObject(json, "reason", side_reason(side));
	if (side->reason == EXPLAIN_RULE)
		rule_add_json(store, direction, &side->decided, json);
	if (side->reason == EXPLAIN_NO_RULE) {
		cJSON_AddItemToObject(json, "policy", policy_ref(store, side->selecting[0]));
		cJSON_AddNullToObject(json, "rule");
		cJSON_AddStringToObject(
			json, "source",
			cli_store_source(store, side->selecting[0], "", source, sizeof(source)));
	}
	if (side_names_policies(side)) {
		array = cJSON_AddArrayToObject(json, "policies");
		for (size_t i = 0; i < side->selecting_count; i++)
			cJSON_AddItemToArray(array, policy_ref(store, side->selecting[i]));
	}
	if (side->passed_count == 0)
		return json;
	array = cJSON_AddArrayToObject(json, "passed");
	for (size_t i = 0; i < side->passed_count; i++) {
		cJSON *passed = cJSON_CreateObject();

		rule_add_json(store, direction, &side->passed[i], passed);
		cJSON_AddItemToArray(array, passed);
	}
	return json;
}

static cJSON *end_json(const struct explain_end *end)
{
	char text[ADDR_TEXT_MAX];
	cJSON *json = cJSON_CreateObject();

	if (end->pod) {
		cJSON_AddStringToObject(json, "namespace", end->pod->namespace);
		cJSON_AddStringToObject(json, "name", end->pod->name);
	}
	if (end->has_addr)
		cJSON_AddStringToObject(json, "address", addr_format(&end->addr, text));
	return json;
}

cJSON *answer_json(const struct cli_store *store, const char *proto, const struct answer *answer)
{
	const struct explanation *explanation = &answer->explanation;
	cJSON *json = cJSON_CreateObject();

	cJSON_AddStringToObject(json, "verdict", verdict_name(explanation->verdict));
	cJSON_AddItemToObject(json, "from", end_json(&answer->from));
	cJSON_AddItemToObject(json, "to", end_json(&answer->to));
	cJSON_AddNumberToObject(json, "port", answer->port);
	cJSON_AddStringToObject(json, "protocol", proto);
	cJSON_AddItemToObject(json, "egress", side_json(store, DIR_EGRESS, &explanation->egress));
	cJSON_AddItemToObject(json, "ingress",
			      side_json(store, DIR_INGRESS, &explanation->ingress));
	return json;
}

/* Nobody can be reached: no policy is evaluated, and both sides deny. */
static cJSON *refused_json(const struct answers *answers)
{
	static const char *const sides[] = { "egress", "ingress" };
	cJSON *json = cJSON_CreateObject();

	cJSON_AddStringToObject(json, "verdict", verdict_name(answers->verdict));
	cJSON_AddNumberToObject(json, "port", answers->port);
	cJSON_AddStringToObject(json, "protocol", proto_name(answers->proto));
	for (size_t i = 0; i < ARRAY_SIZE(sides); i++) {
		cJSON *side = cJSON_AddObjectToObject(json, sides[i]);

		cJSON_AddStringToObject(side, "verdict", verdict_name(answers->verdict));
		cJSON_AddStringToObject(side, "reason", answers->refused);
	}
	return json;
}

cJSON *answers_json(const struct answers *answers)
{
	cJSON *json = answers->count ? answer_json(answers->store, proto_name(answers->proto),
						   &answers->items[answers->deciding])
				     : refused_json(answers);
	cJSON *all;

	if (!answers->service && answers->count < 2)
		return json;
	all = cJSON_AddArrayToObject(json, answers->service ? "backends" : "families");
	for (size_t i = 0; i < answers->count; i++)
		cJSON_AddItemToArray(all, answer_json(answers->store, proto_name(answers->proto),
						      &answers->items[i]));
	return json;
}

/* ---- text ---- */

/* "NetworkPolicy shop/cart", "ClusterNetworkPolicy guard (Admin tier, priority 5)" */
static void add_policy(struct buffer *text, const struct object *policy)
{
	buffer_print(text, "%s %s%s%s", object_kind_name(policy->kind), policy->namespace,
		     *policy->namespace ? "/" : "", policy->name);
	if (policy->kind == OBJECT_CLUSTER_POLICY)
		buffer_print(text, " (%s tier, priority %u)",
			     policy_tier_name(policy->cluster_policy.tier),
			     policy->cluster_policy.priority);
}

static void add_rule(struct buffer *text, const struct cli_store *store, enum direction direction,
		     const struct explain_rule *rule)
{
	const char *name = explain_rule_get(rule, direction)->name;
	char source[SOURCE_MAX];

	add_policy(text, rule->policy);
	buffer_print(text, ", %s rule %zu", direction_name(direction), rule->rule);
	if (name)
		buffer_print(text, " \"%s\"", output_shown(name));
	if (store)
		buffer_print(
			text, " (%s)",
			output_shown(rule_source(store, direction, rule, source, sizeof(source))));
}

/* The reason of one side.  Rules that passed the decision on have lines of their own. */
static void add_side(struct buffer *text, const struct cli_store *store, enum direction direction,
		     const struct explain_side *side)
{
	char source[SOURCE_MAX];

	buffer_print(text, "%s", side_reason(side));
	if (side->reason == EXPLAIN_RULE) {
		buffer_print(text, ": ");
		add_rule(text, store, direction, &side->decided);
	}
	for (size_t i = 0; side_names_policies(side) && i < side->selecting_count; i++) {
		buffer_print(text, "%s ", i ? "," : ":");
		add_policy(text, side->selecting[i]);
		if (store)
			buffer_print(text, " (%s)",
				     output_shown(cli_store_source(store, side->selecting[i], "",
								   source, sizeof(source))));
	}
	buffer_print(text, "\n");
	for (size_t i = 0; i < side->passed_count; i++) {
		buffer_print(text, "%18spassed on by ", "");
		add_rule(text, store, direction, &side->passed[i]);
		buffer_print(text, "\n");
	}
}

void explanation_side_text(const struct cli_store *store, const struct explanation *explanation,
			   enum direction direction, struct buffer *text)
{
	const struct explain_side *side =
		direction == DIR_EGRESS ? &explanation->egress : &explanation->ingress;

	buffer_print(text, "%s %s: ", direction_name(direction), verdict_name(side->verdict));
	add_side(text, store, direction, side);
}

void explanation_text(const struct cli_store *store, const struct explanation *explanation,
		      struct buffer *text)
{
	explanation_side_text(store, explanation, DIR_EGRESS, text);
	explanation_side_text(store, explanation, DIR_INGRESS, text);
}

void answers_text(const struct answers *answers, struct buffer *text)
{
	if (answers->count)
		explanation_text(answers->store, &answers->items[answers->deciding].explanation,
				 text);
	else
		buffer_print(text, "%s\n", answers->refused);
}

static void end_text(const struct explain_end *end, char *buf, size_t size)
{
	char addr[ADDR_TEXT_MAX] = "no address yet";

	if (end->has_addr)
		addr_format(&end->addr, addr);
	if (end->pod)
		snprintf(buf, size, "%s/%s (%s)", end->pod->namespace, end->pod->name, addr);
	else
		snprintf(buf, size, "%s", addr);
}

static const char *verdict_colour(enum verdict verdict)
{
	return output_colour(verdict == VERDICT_ALLOW ? COLOUR_GOOD : COLOUR_BAD);
}

static void print_side(const struct answers *answers, enum direction direction,
		       const struct explain_side *side)
{
	auto_buffer struct buffer text = { 0 };

	add_side(&text, answers->store, direction, side);
	printf("  %-8s %s%-5s%s  %s", direction_name(direction), verdict_colour(side->verdict),
	       verdict_name(side->verdict), output_colour_end(), text.data);
}

static void print_answer(const struct answers *answers, const struct answer *answer)
{
	const struct explanation *explanation = &answer->explanation;
	char from[700], to[700];

	end_text(&answer->from, from, sizeof(from));
	end_text(&answer->to, to, sizeof(to));
	printf("%s%s%s  %s -> %s port %u/%s\n", verdict_colour(explanation->verdict),
	       verdict_name(explanation->verdict), output_colour_end(), from, to, answer->port,
	       proto_name(answers->proto));
	print_side(answers, DIR_EGRESS, &explanation->egress);
	print_side(answers, DIR_INGRESS, &explanation->ingress);
}

void answers_print(const struct answers *answers)
{
	for (size_t i = 0; i < answers->count; i++)
		print_answer(answers, &answers->items[i]);
	if (answers->count == 0)
		printf("%s%s%s  %s\n", verdict_colour(answers->verdict),
		       verdict_name(answers->verdict), output_colour_end(),
		       output_shown(answers->refused));
}
