/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tendril policy apply --dry-run and --canary: nothing is applied.  The agent reports the flows of
 * its node, and each flow gets a verdict from two compiled stores, the agent's and the changed one.
 */
#include "cli/canary.h"

#include <arpa/inet.h>
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/flow_stream.h"
#include "cli/output.h"
#include "cli/output_diff.h"
#include "cli/store_load.h"
#include "lib/auto.h"
#include "lib/table.h"
#include "policy/compiler/verdict.h"

/* Less than the time between two reports of flows by the agent: a pod that a report names for the
 * first time is in the stores that are loaded because of it. */
#define REFRESH_MS 100

DEFINE_AUTO(policy_diff)

/* What the change would do to a flow. */
enum fate { FATE_SAME, FATE_CUT, FATE_OPENED, FATE_UNKNOWN };

struct canary {
	const struct arguments *args;
	const cJSON *documents;
	uint32_t seconds;
	struct cli_store *stores[2]; /* the agent's, and with the change */
	struct compiled *compiled[2];
	uint64_t loaded_ms; /* CLOCK_MONOTONIC: when reading them began */
	struct table told;  /* struct flow_key -> enum fate */
	cJSON *cut;
	cJSON *opened;
	size_t unknown;
	struct errmsg *err;
};

static void canary_forget(struct canary *canary)
{
	for (int i = 0; i < 2; i++) {
		compiled_free(take_ptr(canary->compiled[i]));
		cli_store_free(take_ptr(canary->stores[i]));
	}
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static int canary_load(struct canary *canary, struct errmsg *err)
{
	int ret;

	canary->loaded_ms = now_ms();
	ret = store_load_agent(canary->args, NULL, &canary->stores[0], err);
	if (!ret)
		ret = store_load_agent(canary->args, canary->documents, &canary->stores[1], err);
	return ret;
}

/* Verdicts of flows need the addresses of the node, which the difference of the stores does not. */
static void canary_compile(struct canary *canary)
{
	for (int i = 0; i < 2; i++) {
		cli_store_know_node(canary->stores[i]);
		canary->compiled[i] = policy_compile(canary->stores[i]->objects);
	}
}

/* Pods come and go while a canary watches: loads the stores again, at most once for each report. */
static int canary_refresh(struct canary *canary)
{
	int ret;

	if (now_ms() - canary->loaded_ms < REFRESH_MS)
		return 0;
	canary_forget(canary);
	ret = canary_load(canary, canary->err);
	if (!ret)
		canary_compile(canary);
	return ret;
}

/* ---- flows ---- */

static bool ends_are(const struct canary *canary, const struct observed_flow *flow)
{
	const struct store *store = canary->stores[0]->objects;

	return flow_end_is(store, &flow->flow.from, flow->from_pod) &&
	       flow_end_is(store, &flow->flow.to, flow->to_pod);
}

static enum fate flow_judge(const struct canary *canary, const struct observed_flow *flow,
			    enum drop_reason *ret_reason)
{
	const struct flow asked = { .saddr = flow->flow.from,
				    .daddr = flow->flow.to,
				    .proto = flow->flow.proto,
				    .dport = htons(flow->flow.port) };
	enum drop_reason before = verdict_flow(canary->compiled[0], &asked);
	enum drop_reason after = verdict_flow(canary->compiled[1], &asked);

	*ret_reason = after ? after : before;
	if (before && !after)
		return FATE_OPENED;
	return after && !before && flow->passed ? FATE_CUT : FATE_SAME;
}

static void end_print(const char *pod, const struct addr *addr)
{
	char text[ADDR_TEXT_MAX];

	if (pod)
		printf("%s%s%s (%s)", output_colour(COLOUR_STRONG), output_shown(pod),
		       output_colour_end(), addr_format(addr, text));
	else
		printf("%s", addr_format(addr, text));
}

static void flow_print(const struct observed_flow *flow, enum fate fate, enum drop_reason reason)
{
	bool cut = fate == FATE_CUT;

	printf("%s%-11s%s %s %s ", output_colour(cut ? COLOUR_BAD : COLOUR_GOOD),
	       cut ? "WOULD CUT" : "would allow", output_colour_end(),
	       flow->found ? "live" : "new ", proto_name(flow->flow.proto));
	end_print(flow->from_pod, &flow->flow.from);
	printf(" -> ");
	end_print(flow->to_pod, &flow->flow.to);
	if (proto_has_ports(flow->flow.proto))
		printf(" port %u", flow->flow.port);
	if (cut)
		printf("  %s: no %s rule allows it",
		       reason == DROP_EGRESS_DENIED ? "egress" : "ingress",
		       reason == DROP_EGRESS_DENIED ? "egress" : "ingress");
	putchar('\n');
	fflush(stdout);
}

static cJSON *flow_json(const struct observed_flow *flow, enum fate fate, enum drop_reason reason)
{
	cJSON *json = cJSON_CreateObject();
	char text[ADDR_TEXT_MAX];

	cJSON_AddStringToObject(json, "protocol", proto_name(flow->flow.proto));
	cJSON_AddStringToObject(json, "source", addr_format(&flow->flow.from, text));
	cJSON_AddItemToObject(json, "sourcePod",
			      flow->from_pod ? cJSON_CreateString(flow->from_pod)
					     : cJSON_CreateNull());
	cJSON_AddStringToObject(json, "destination", addr_format(&flow->flow.to, text));
	cJSON_AddItemToObject(json, "destinationPod",
			      flow->to_pod ? cJSON_CreateString(flow->to_pod) : cJSON_CreateNull());
	cJSON_AddNumberToObject(json, "port", flow->flow.port);
	cJSON_AddBoolToObject(json, "live", flow->found);
	if (fate == FATE_CUT)
		cJSON_AddStringToObject(json, "direction",
					reason == DROP_EGRESS_DENIED ? "egress" : "ingress");
	return json;
}

static int canary_flow(const struct observed_flow *flow, void *arg)
{
	struct canary *canary = arg;
	struct flow_key key = { .saddr = flow->flow.from,
				.daddr = flow->flow.to,
				.dport = htons(flow->flow.port),
				.proto = flow->flow.proto };
	enum drop_reason reason = DROP_NONE;
	enum fate fate = FATE_UNKNOWN;
	uint32_t *told = table_put(&canary->told, &key);

	if (!ends_are(canary, flow) && canary_refresh(canary))
		return canary->err->code;
	if (ends_are(canary, flow))
		fate = flow_judge(canary, flow, &reason);
	if (*told == fate || fate == FATE_SAME)
		return 0;
	*told = fate;
	if (fate == FATE_UNKNOWN) {
		canary->unknown++;
		return 0;
	}
	if (!canary->args->json)
		flow_print(flow, fate, reason);
	cJSON_AddItemToArray(fate == FATE_CUT ? canary->cut : canary->opened,
			     flow_json(flow, fate, reason));
	return 0;
}

static void canary_begun(void *arg)
{
	const struct canary *canary = arg;

	if (canary->seconds > CANARY_LOOK_SECONDS)
		output_note(
			"policy apply: nothing is applied; watching for %u s, an interrupt ends it "
			"early",
			canary->seconds);
}

/* ---- the report ---- */

static void canary_diff(const struct canary *canary, cJSON *report)
{
	auto_(policy_diff) struct policy_diff *diff =
		policy_diff(canary->stores[0]->objects, canary->stores[1]->objects);
	const struct cli_store *const stores[] = { canary->stores[0], canary->stores[1] };

	cJSON_AddItemToObject(report, "change", diff_json(diff, stores));
	if (!canary->args->json)
		diff_print(diff, stores);
}

static void canary_summary(const struct canary *canary, bool incomplete)
{
	if (!canary->args->json)
		printf("%zu flows seen: %d would be cut off, %d newly allowed\n",
		       canary->told.count, cJSON_GetArraySize(canary->cut),
		       cJSON_GetArraySize(canary->opened));
	if (canary->unknown)
		output_note("policy apply: %zu flows were not compared: their pods no longer exist",
			    canary->unknown);
	if (incomplete)
		output_note("policy apply: some flows may be missing, because the agent's table of "
			    "flows was "
			    "full; tendrild --max-flows makes it larger");
}

int canary_run(const struct arguments *args, const cJSON *documents, uint32_t seconds,
	       cJSON *report, size_t *ret_cut, struct errmsg *err)
{
	struct canary canary = {
		.args = args,
		.documents = documents,
		.seconds = seconds,
		.cut = cJSON_AddArrayToObject(report, "wouldCut"),
		.opened = cJSON_AddArrayToObject(report, "wouldAllow"),
		.err = err,
	};
	struct flow_stream flows = { .begun = canary_begun, .each = canary_flow, .arg = &canary };
	int ret;

	table_init(&canary.told, sizeof(struct flow_key), sizeof(uint32_t));
	ret = canary_load(&canary, err);
	if (!ret) {
		canary_diff(&canary, report);
		canary_compile(&canary);
		ret = flow_stream_follow(args, seconds, &flows, err);
	}
	if (!ret) {
		cJSON_AddNumberToObject(report, "flows", (double)canary.told.count);
		cJSON_AddNumberToObject(report, "notJudged", (double)canary.unknown);
		cJSON_AddBoolToObject(report, "incomplete", flows.incomplete);
		*ret_cut = (size_t)cJSON_GetArraySize(canary.cut);
		canary_summary(&canary, flows.incomplete);
	}
	canary_forget(&canary);
	table_done(&canary.told);
	return ret;
}
