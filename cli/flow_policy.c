/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/flow_policy.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/agent_call.h"
#include "cli/explain_query.h"
#include "cli/flow_log.h"
#include "cli/flow_stream.h"
#include "cli/store_load.h"
#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/clock.h"
#include "lib/table.h"

#define STORE_AGE_NS  2000000000ULL /* then the objects are read again, while flows come */
#define DECISIONS_MAX 4096

struct decision_key {
	struct addr from;
	struct addr to;
	uint16_t port;
	uint8_t proto;
	uint8_t pad;
};

struct flow_policy {
	const struct arguments *args;
	struct cli_store *store;
	uint64_t loaded_ns;
	struct table decisions; /* struct decision_key -> cJSON *, an object of the four members */
};

static const char *const members[] = { "egress_allowed_by", "ingress_allowed_by",
				       "egress_denied_by", "ingress_denied_by" };

struct flow_policy *flow_policy_new(const struct arguments *args)
{
	struct flow_policy *policy = xcalloc(1, sizeof(*policy));

	policy->args = args;
	table_init(&policy->decisions, sizeof(struct decision_key), sizeof(cJSON *));
	return policy;
}

static void decisions_forget(struct flow_policy *policy)
{
	cJSON **decision;
	const void *key;
	size_t pos = 0;

	while ((decision = table_next(&policy->decisions, &pos, &key)))
		cJSON_Delete(*decision);
	table_done(&policy->decisions);
	table_init(&policy->decisions, sizeof(struct decision_key), sizeof(cJSON *));
}

void flow_policy_free(struct flow_policy *policy)
{
	if (!policy)
		return;
	decisions_forget(policy);
	table_done(&policy->decisions);
	cli_store_free(policy->store);
	free(policy);
}

static int store_refresh(struct flow_policy *policy, struct errmsg *err)
{
	struct cli_store *store;
	int ret;

	if (policy->store && now_ns() - policy->loaded_ns < STORE_AGE_NS)
		return 0;
	ret = store_load_agent(policy->args, NULL, &store, err);
	if (ret)
		return ret;
	cli_store_know_node(store);
	cli_store_free(policy->store);
	policy->store = store;
	policy->loaded_ns = now_ns();
	decisions_forget(policy);
	return 0;
}

static void policy_add(cJSON *array, const struct object *object, int rule)
{
	cJSON *json = cJSON_CreateObject();

	cJSON_AddStringToObject(json, "name", object->name);
	cJSON_AddStringToObject(json, "namespace", object->namespace);
	cJSON_AddStringToObject(json, "kind", object_kind_name(object->kind));
	if (rule)
		cJSON_AddNumberToObject(json, "rule", rule);
	cJSON_AddItemToArray(array, json);
}

static void side_add(cJSON *decision, const struct explain_side *side, const char *allowed,
		     const char *denied)
{
	cJSON *array;

	if (side->reason != EXPLAIN_RULE && side->reason != EXPLAIN_NO_RULE)
		return;
	array = cJSON_AddArrayToObject(decision, side->verdict == VERDICT_ALLOW ? allowed : denied);
	if (side->reason == EXPLAIN_RULE)
		policy_add(array, side->decided.policy, (int)side->decided.rule + 1);
	for (size_t i = 0; side->reason == EXPLAIN_NO_RULE && i < side->selecting_count; i++)
		policy_add(array, side->selecting[i], 0);
}

static cJSON *decision_make(const struct flow_policy *policy, const cJSON *flow,
			    const struct decision_key *key)
{
	cJSON *decision = cJSON_CreateObject();
	const struct explanation *explanation;
	struct answers answers = {};
	struct errmsg ignored;
	char port[32];
	const struct question question = { .from = flow_address(flow, "source"),
					   .to = flow_address(flow, "destination"),
					   .port = key->port ? port : NULL,
					   .proto = key->proto };

	snprintf(port, sizeof(port), "%u/%s", key->port, proto_name(key->proto));
	if (explain_query(policy->store, &question, &answers, &ignored) || !answers.count)
		return decision;
	explanation = &answers.items[answers.deciding].explanation;
	side_add(decision, &explanation->egress, members[0], members[2]);
	side_add(decision, &explanation->ingress, members[1], members[3]);
	answers_done(&answers);
	return decision;
}

/* Whether the address still belongs to who had it then. */
static bool end_is_current(const struct flow_policy *policy, const cJSON *flow, const char *end,
			   const struct addr *addr)
{
	bool is_pod = member_get(member_get(flow, end), "pod_name") != NULL;
	char name[600];

	return flow_end_is(policy->store->objects, addr,
			   is_pod ? flow_end_name(flow, end, name, sizeof(name)) : NULL);
}

int flow_policy_add(struct flow_policy *policy, cJSON *flow, struct errmsg *err)
{
	struct decision_key key = { .port = flow_port(flow) };
	cJSON **decision;
	int ret = store_refresh(policy, err);

	if (ret)
		return ret;
	if (flow_proto(flow, &key.proto) || proto_has_ports(key.proto) != (key.port != 0) ||
	    addr_parse(flow_address(flow, "source"), &key.from) ||
	    addr_parse(flow_address(flow, "destination"), &key.to) ||
	    !end_is_current(policy, flow, "source", &key.from) ||
	    !end_is_current(policy, flow, "destination", &key.to))
		return 0;
	if (policy->decisions.count >= DECISIONS_MAX)
		decisions_forget(policy);
	decision = table_put(&policy->decisions, &key);
	if (!*decision)
		*decision = decision_make(policy, flow, &key);
	for (const cJSON *member = (*decision)->child; member; member = member->next)
		cJSON_AddItemToObject(flow, member->string, cJSON_Duplicate(member, true));
	return 0;
}

bool flow_policy_is(const cJSON *flow, const char *name)
{
	char full[600];

	for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
		const cJSON *policy;

		cJSON_ArrayForEach (policy, member_get(flow, members[i])) {
			snprintf(full, sizeof(full), "%s/%s", member_text(policy, "namespace", ""),
				 member_text(policy, "name", ""));
			if (strcmp(full, name) == 0)
				return true;
		}
	}
	return false;
}

const char *flow_policy_text(const cJSON *flow, char *buf, size_t size)
{
	static const char *const sides[] = { "egress", "ingress", "egress", "ingress" };
	size_t len = 0;

	buf[0] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
		const cJSON *policy;

		cJSON_ArrayForEach (policy, member_get(flow, members[i])) {
			const double rule = member_number(policy, "rule");
			char number[32] = "";

			if (rule > 0)
				snprintf(number, sizeof(number), " rule %.0f", rule);
			if (len < size)
				len += (size_t)snprintf(buf + len, size - len, "%s%s %s/%s%s",
							len ? ", " : "", sides[i],
							member_text(policy, "namespace", ""),
							member_text(policy, "name", ""), number);
		}
	}
	return buf;
}
