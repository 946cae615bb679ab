/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tendril policy apply --dry-run and --canary: nothing is applied.  The agent tells who talks to
 * whom on its node; each flow is asked of two compiled worlds, the agent's and the changed one.
 */
#include "cli/canary.h"

#include <arpa/inet.h>
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/flows.h"
#include "cli/input.h"
#include "cli/output.h"
#include "cli/output_reach.h"
#include "lib/auto.h"
#include "lib/table.h"
#include "policy/compiler/verdict.h"

/* Shorter than the agent takes from one report of flows to the next: a pod that one report names
 * for the first time is in the worlds that are read because of it. */
#define REFRESH_MS 100

DEFINE_AUTO(policy_diff)

/* What becomes of a flow that is seen. */
enum fate { FATE_SAME, FATE_CUT, FATE_OPENED, FATE_UNKNOWN };

struct trial {
	const struct arguments *args;
	const cJSON *documents;
	uint32_t seconds;
	struct cli_world *worlds[2]; /* the agent's, and with the change */
	struct compiled *compiled[2];
	uint64_t loaded_ms; /* CLOCK_MONOTONIC: when reading them began */
	struct table told;  /* struct flow_key -> enum fate */
	cJSON *cut;
	cJSON *opened;
	size_t unknown;
	struct errmsg *err;
};

static void trial_forget(struct trial *trial)
{
	for (int i = 0; i < 2; i++) {
		compiled_free(take_ptr(trial->compiled[i]));
		cli_world_free(take_ptr(trial->worlds[i]));
	}
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static int trial_load(struct trial *trial, struct errmsg *err)
{
	int ret;

	trial->loaded_ms = now_ms();
	ret = cli_world_load_agent(trial->args, NULL, &trial->worlds[0], err);
	if (!ret)
		ret = cli_world_load_agent(trial->args, trial->documents, &trial->worlds[1], err);
	return ret;
}

/* Verdicts of flows need the node's addresses; differences of worlds are asked before. */
static int trial_compile(struct trial *trial, struct errmsg *err)
{
	int ret = 0;

	for (int i = 0; !ret && i < 2; i++) {
		ret = cli_world_know_node(trial->worlds[i], err);
		if (!ret)
			ret = policy_compile(cli_world_objects(trial->worlds[i]),
					     &trial->compiled[i], err);
	}
	return ret;
}

/* Pods come and go while a canary watches: the worlds are read anew, at most once a report. */
static int trial_refresh(struct trial *trial)
{
	int ret;

	if (now_ms() - trial->loaded_ms < REFRESH_MS)
		return 0;
	trial_forget(trial);
	ret = trial_load(trial, trial->err);
	return ret ? ret : trial_compile(trial, trial->err);
}

/* ---- flows ----------------------------------------------------------------------------------- */

static bool ends_are(const struct trial *trial, const struct cli_flow *flow)
{
	const struct world *world = cli_world_objects(trial->worlds[0]);

	return cli_flow_end_is(world, &flow->flow.from, flow->from_pod) &&
	       cli_flow_end_is(world, &flow->flow.to, flow->to_pod);
}

static enum fate flow_judge(const struct trial *trial, const struct cli_flow *flow,
			    enum drop_reason *ret_reason)
{
	const struct flow asked = { .saddr = flow->flow.from,
				    .daddr = flow->flow.to,
				    .proto = flow->flow.proto,
				    .dport = htons(flow->flow.port) };
	enum drop_reason before = verdict_flow(trial->compiled[0], &asked);
	enum drop_reason after = verdict_flow(trial->compiled[1], &asked);

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

static void flow_print(const struct cli_flow *flow, enum fate fate, enum drop_reason reason)
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

static cJSON *flow_json(const struct cli_flow *flow, enum fate fate, enum drop_reason reason)
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

static int trial_flow(const struct cli_flow *flow, void *arg)
{
	struct trial *trial = arg;
	struct flow_key key = { .saddr = flow->flow.from,
				.daddr = flow->flow.to,
				.dport = htons(flow->flow.port),
				.proto = flow->flow.proto };
	enum drop_reason reason = DROP_NONE;
	enum fate fate = FATE_UNKNOWN;
	uint32_t *told = table_put(&trial->told, &key);

	if (!told)
		return fail(trial->err, -ENOMEM, "flows");
	if (!ends_are(trial, flow) && trial_refresh(trial))
		return trial->err->code;
	if (ends_are(trial, flow))
		fate = flow_judge(trial, flow, &reason);
	if (*told == fate || fate == FATE_SAME)
		return 0;
	*told = fate;
	if (fate == FATE_UNKNOWN) {
		trial->unknown++;
		return 0;
	}
	if (!trial->args->json)
		flow_print(flow, fate, reason);
	cJSON_AddItemToArray(fate == FATE_CUT ? trial->cut : trial->opened,
			     flow_json(flow, fate, reason));
	return 0;
}

static void trial_begun(void *arg)
{
	const struct trial *trial = arg;

	if (trial->seconds > TRIAL_LOOK_SECONDS)
		output_note("policy: nothing is applied; watching for %u s, an interrupt ends it "
			    "early",
			    trial->seconds);
}

/* ---- the whole ------------------------------------------------------------------------------- */

static int trial_diff(const struct trial *trial, cJSON *report, struct errmsg *err)
{
	auto_(policy_diff) struct policy_diff *diff = NULL;
	int ret = policy_diff(cli_world_objects(trial->worlds[0]),
			      cli_world_objects(trial->worlds[1]), &diff, err);

	if (ret)
		return ret;
	cJSON_AddItemToObject(report, "change", diff_json(diff));
	if (!trial->args->json)
		diff_print(diff);
	return 0;
}

static void trial_summary(const struct trial *trial, bool incomplete)
{
	if (!trial->args->json)
		printf("%zu flows seen: %d would be cut off, %d newly allowed\n", trial->told.count,
		       cJSON_GetArraySize(trial->cut), cJSON_GetArraySize(trial->opened));
	if (trial->unknown)
		output_note("policy: %zu flows of pods that are gone could not be judged",
			    trial->unknown);
	if (incomplete)
		output_note("policy: the table of flows was full: some may be missing; tendrild "
			    "--max-flows makes it larger");
}

int cli_trial(const struct arguments *args, const cJSON *documents, uint32_t seconds, cJSON *report,
	      size_t *ret_cut, struct errmsg *err)
{
	struct trial trial = {
		.args = args,
		.documents = documents,
		.seconds = seconds,
		.cut = cJSON_AddArrayToObject(report, "wouldCut"),
		.opened = cJSON_AddArrayToObject(report, "wouldAllow"),
		.err = err,
	};
	struct cli_flows flows = { .begun = trial_begun, .each = trial_flow, .arg = &trial };
	int ret;

	table_init(&trial.told, sizeof(struct flow_key), sizeof(uint32_t));
	ret = trial_load(&trial, err);
	if (!ret)
		ret = trial_diff(&trial, report, err);
	if (!ret)
		ret = trial_compile(&trial, err);
	if (!ret)
		ret = cli_flows_follow(args, seconds, &flows, err);
	if (!ret) {
		cJSON_AddNumberToObject(report, "flows", (double)trial.told.count);
		cJSON_AddNumberToObject(report, "notJudged", (double)trial.unknown);
		cJSON_AddBoolToObject(report, "incomplete", flows.incomplete);
		*ret_cut = (size_t)cJSON_GetArraySize(trial.cut);
		trial_summary(&trial, flows.incomplete);
	}
	trial_forget(&trial);
	table_done(&trial.told);
	return ret;
}
