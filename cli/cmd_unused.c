/* SPDX-License-Identifier: Apache-2.0 */
/* tendril policy unused: rules that decided about none of the flows which the agent keeps. */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

#include "cli/agent_call.h"
#include "cli/flow_log.h"
#include "cli/output.h"
#include "lib/auto.h"
#include "lib/table.h"

static uint64_t rule_key(const char *direction, const char *kind, const char *namespace,
			 const char *name, int rule)
{
	char text[700];

	snprintf(text, sizeof(text), "%s %s %s/%s %d", direction, kind, namespace, name, rule);
	return table_hash(text, strlen(text));
}

static void used_add(struct table *used, const cJSON *flow, const char *member,
		     const char *direction)
{
	const cJSON *policy;

	cJSON_ArrayForEach (policy, member_get(flow, member)) {
		uint64_t key = rule_key(direction, member_text(policy, "kind", ""),
					member_text(policy, "namespace", ""),
					member_text(policy, "name", ""),
					(int)member_number(policy, "rule"));

		*(bool *)table_put(used, &key) = true;
	}
}

static int flow_add(cJSON *flow, void *arg)
{
	used_add(arg, flow, "egress_allowed_by", "egress");
	used_add(arg, flow, "egress_denied_by", "egress");
	used_add(arg, flow, "ingress_allowed_by", "ingress");
	used_add(arg, flow, "ingress_denied_by", "ingress");
	return 0;
}

static void rules_add(cJSON *rows, const struct table *used, const cJSON *policy,
		      const char *direction, const char *member)
{
	const char *kind = member_text(policy, "kind", "");
	const char *namespace = member_text(policy, "namespace", "");
	const char *name = member_text(policy, "name", "");

	for (int rule = 1; rule <= (int)member_number(policy, member); rule++) {
		uint64_t key = rule_key(direction, kind, namespace, name, rule);
		cJSON *row;

		if (table_find(used, &key))
			continue;
		row = cJSON_CreateObject();
		cJSON_AddStringToObject(row, "kind", kind);
		cJSON_AddStringToObject(row, "namespace", namespace);
		cJSON_AddStringToObject(row, "name", name);
		cJSON_AddStringToObject(row, "direction", direction);
		cJSON_AddNumberToObject(row, "rule", rule);
		cJSON_AddItemToArray(rows, row);
	}
}

static void fill_policy(const cJSON *row, struct cell *cell)
{
	cell_set(cell, COLOUR_STRONG, "%s/%s", member_text(row, "namespace", ""),
		 member_text(row, "name", ""));
}

static const struct column columns[] = {
	{ "POLICY", .fill = fill_policy },
	{ "KIND", .member = "kind" },
	{ "DIRECTION", .member = "direction" },
	{ "RULE", .member = "rule" },
};

/* Only of policies that select a pod of this node: the flows of others are on other nodes. */
static cJSON *unused_rows(const struct arguments *args, const struct table *used,
			  const cJSON *policies)
{
	cJSON *rows = cJSON_CreateArray();
	const cJSON *policy;

	cJSON_ArrayForEach (policy, policies) {
		if (member_number(policy, "selectedEndpoints") < 1 ||
		    (args->namespace &&
		     strcmp(member_text(policy, "namespace", ""), args->namespace) != 0))
			continue;
		rules_add(rows, used, policy, "ingress", "ingressRules");
		rules_add(rows, used, policy, "egress", "egressRules");
	}
	return rows;
}

int cmd_policy_unused(const struct arguments *args, struct errmsg *err)
{
	struct arguments all = *args; /* flows of all namespaces */
	cJSON *policies = NULL, *rows;
	struct table used;
	int ret;

	all.with_policy = true;
	all.namespace = NULL;
	table_init(&used, sizeof(uint64_t), sizeof(bool));
	ret = flow_log_read(&all, 0, NULL, flow_add, &used, err);
	if (!ret)
		ret = agent_call(args, "GET", "/v1/policies", NULL, &policies, err);
	if (!ret) {
		rows = unused_rows(args, &used, policies);
		if (args->json)
			output_json(rows);
		else
			output_table(rows, columns, ARRAY_SIZE(columns), 0);
		cJSON_Delete(rows);
	}
	cJSON_Delete(policies);
	table_done(&used);
	return ret < 0 ? ret : EXIT_OK;
}
