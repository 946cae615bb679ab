/* SPDX-License-Identifier: Apache-2.0 */
/* tendril policy record: watches flows for a while, and writes the smallest policies that allow
 * them. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/agent_call.h"
#include "cli/argument.h"
#include "cli/flow_stream.h"
#include "cli/output.h"
#include "cli/store_load.h"
#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/inet.h"
#include "lib/table.h"
#include "lib/yaml_print.h"

#define SECONDS_DEFAULT 60

struct seen {
	struct record_flow flow;
	char *from_pod;
	char *to_pod;
};

struct record {
	const struct arguments *args;
	uint32_t seconds;
	struct seen *seen;
	size_t seen_count;
	struct table names; /* struct addr of a peer that is no pod -> char *, what DNS was asked */
	cJSON *endpoints;   /* the agent's, when the window was over */
};

static void record_done(struct record *record)
{
	const void *key;
	size_t pos = 0;
	char **name;

	while ((name = table_next(&record->names, &pos, &key)))
		free(*name);
	table_done(&record->names);
	for (size_t i = 0; i < record->seen_count; i++) {
		free(record->seen[i].from_pod);
		free(record->seen[i].to_pod);
	}
	free(record->seen);
	cJSON_Delete(record->endpoints);
}

/* ---- watching ---- */

static void record_begun(void *arg)
{
	const struct record *record = arg;

	output_note("policy record: observing for %u s; an interrupt ends it early",
		    record->seconds);
}

static int record_flow_seen(const struct observed_flow *flow, void *arg)
{
	struct record *record = arg;
	struct seen *seen;

	char **name;

	if (!flow->passed)
		return 0;
	if (flow->to_name && !flow->to_pod) {
		name = table_put(&record->names, &flow->flow.to);
		free(*name);
		*name = xstrdup(flow->to_name);
	}
	if ((record->seen_count & (record->seen_count + 1)) == 0) /* 0, 1, 3, 7: double it */
		record->seen = xreallocarray(record->seen, 2 * (record->seen_count + 1),
					     sizeof(*record->seen));
	seen = &record->seen[record->seen_count++];
	*seen = (struct seen){ .flow = flow->flow };
	seen->from_pod = flow->from_pod ? xstrdup(flow->from_pod) : NULL;
	seen->to_pod = flow->to_pod ? xstrdup(flow->to_pod) : NULL;
	return 0;
}

/* ---- which pods ---- */

static bool is_named(const struct arguments *args, const char *name)
{
	struct object_name pod;
	char full[600];

	for (size_t i = 0; i < args->operand_count; i++) {
		if (object_name_parse(args->operands[i], args->namespace, &pod, NULL))
			continue;
		snprintf(full, sizeof(full), "%s/%s", pod.namespace, pod.name);
		if (strcmp(full, name) == 0)
			return true;
	}
	return args->operand_count == 0;
}

/* Whether it is a pod of this node that was asked for, by namespace or by name. */
static bool record_wants(const struct object *pod, void *arg)
{
	const struct record *record = arg;
	const cJSON *endpoint;
	char name[600];

	snprintf(name, sizeof(name), "%s/%s", pod->namespace, pod->name);
	if ((record->args->namespace && strcmp(record->args->namespace, pod->namespace) != 0) ||
	    !is_named(record->args, name))
		return false;
	cJSON_ArrayForEach (endpoint, record->endpoints) {
		if (strcmp(member_text(endpoint, "namespace", ""), pod->namespace) == 0 &&
		    strcmp(member_text(endpoint, "name", ""), pod->name) == 0)
			return true;
	}
	return false;
}

static bool endpoint_exists(const cJSON *endpoints, const char *namespace, const char *name)
{
	const cJSON *endpoint;

	cJSON_ArrayForEach (endpoint, endpoints) {
		if (strcmp(member_text(endpoint, "namespace", ""), namespace) == 0 &&
		    (!name || strcmp(member_text(endpoint, "name", ""), name) == 0))
			return true;
	}
	return false;
}

/* Before the observation, so that nobody waits in vain. */
static int scope_check(const struct arguments *args, struct errmsg *err)
{
	struct object_name pod;
	cJSON *endpoints = NULL;
	int ret = 0;

	for (size_t i = 0; !ret && i < args->operand_count; i++)
		ret = object_name_parse(args->operands[i], args->namespace, &pod, err);
	if (!ret)
		ret = agent_call(args, "GET", "/v1/endpoints", NULL, &endpoints, err);
	if (!ret && args->namespace && !endpoint_exists(endpoints, args->namespace, NULL))
		ret = fail_plain(err, -ENOENT, "namespace %s has no pods on this node",
				 args->namespace);
	for (size_t i = 0; !ret && i < args->operand_count; i++) {
		object_name_parse(args->operands[i], args->namespace, &pod, err);
		if (!endpoint_exists(endpoints, pod.namespace, pod.name))
			ret = fail_plain(err, -ENOENT, "%s/%s is not a pod of this node",
					 pod.namespace, pod.name);
	}
	cJSON_Delete(endpoints);
	return ret;
}

/* ---- the policies ---- */

/* The flows whose ends still belong to the same pods. */
static size_t flows_current(struct record *record, const struct store *store,
			    struct record_flow *ret)
{
	size_t count = 0;

	for (size_t i = 0; i < record->seen_count; i++) {
		const struct seen *seen = &record->seen[i];
		bool from = flow_end_is(store, &seen->flow.from, seen->from_pod);

		if (from && flow_end_is(store, &seen->flow.to, seen->to_pod))
			ret[count++] = seen->flow; /* NOLINT(*NullDereference): has room for all */
		else
			output_note("policy record: %s no longer exists: its flows are left out",
				    from ? seen->to_pod : seen->from_pod);
	}
	return count;
}

/* What DNS was asked for a rule's address: the name that a person would write there. */
static const char *comment_of(const cJSON *value, void *arg)
{
	const struct record *record = arg;
	char text[ADDR_TEXT_MAX];
	struct addr addr;
	char **name;

	if (strcmp(value->string, "cidr") != 0)
		return NULL;
	snprintf(text, sizeof(text), "%.*s", (int)strcspn(value->valuestring, "/"),
		 value->valuestring);
	if (addr_parse(text, &addr))
		return NULL;
	name = table_find(&record->names, &addr);
	return name ? *name : NULL;
}

static void recording_print(struct record *record, const struct recording *recording)
{
	const cJSON *note, *document;
	char text[ADDR_TEXT_MAX];
	const void *key;
	size_t pos = 0;
	char **name;

	if (record->args->json) {
		cJSON *list = cJSON_CreateObject();

		cJSON_AddStringToObject(list, "apiVersion", "v1");
		cJSON_AddStringToObject(list, "kind", "List");
		cJSON_AddItemReferenceToObject(list, "items", recording->policies);
		output_json(list);
		cJSON_Delete(list);
	} else {
		cJSON_ArrayForEach (document, recording->policies) {
			puts("---");
			if (!member_get(member_get(document, "spec"), "ingress") &&
			    !member_get(member_get(document, "spec"), "egress"))
				puts("# No flows were seen: these pods may neither send nor "
				     "receive.");
			yaml_print_commented(stdout, document, comment_of, record);
		}
	}
	while ((name = table_next(&record->names, &pos, &key)))
		output_note("policy record: %s is %s", addr_format(key, text), *name);
	cJSON_ArrayForEach (note, recording->notes)
		output_note("policy record: %s", note->valuestring);
	output_note("policy record: %zu flows seen, %d policies", record->seen_count,
		    cJSON_GetArraySize(recording->policies));
}

static int record_write(struct record *record, struct errmsg *err)
{
	auto_free struct record_flow *flows = xcalloc(record->seen_count + 1, sizeof(*flows));
	auto_(cli_store) struct cli_store *store = NULL;
	struct recording recording;
	int ret = store_load(record->args, &store, err);
	size_t count;

	if (!ret)
		ret = agent_call(record->args, "GET", "/v1/endpoints", NULL, &record->endpoints,
				 err);
	if (ret)
		return ret;
	cli_store_know_node(store);
	count = flows_current(record, store->objects, flows);
	recording = policy_record(store->objects, flows, count, record_wants, record);
	recording_print(record, &recording);
	recording_done(&recording);
	return EXIT_OK;
}

int cmd_policy_record(const struct arguments *args, struct errmsg *err)
{
	struct record record = { .args = args, .seconds = SECONDS_DEFAULT };
	struct flow_stream flows = { .begun = record_begun,
				     .each = record_flow_seen,
				     .arg = &record };
	int ret = args->duration ? duration_parse(args->duration, &record.seconds, err) : 0;

	table_init(&record.names, sizeof(struct addr), sizeof(char *));
	if (!ret)
		ret = scope_check(args, err);
	if (!ret)
		ret = flow_stream_follow(args, record.seconds, &flows, err);
	if (!ret && flows.incomplete)
		output_note("policy record: some flows may be missing, because the agent's table "
			    "of flows was "
			    "full; tendrild --max-flows makes it larger");
	if (!ret)
		ret = record_write(&record, err);
	record_done(&record);
	return ret;
}
