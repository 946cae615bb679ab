/* SPDX-License-Identifier: Apache-2.0 */
/* tendril flows: the last flows of this node's pods, and those that come. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/agent_call.h"
#include "cli/event_pcap.h"
#include "cli/flow_log.h"
#include "cli/flow_policy.h"
#include "cli/output.h"
#include "lib/auto.h"

#define LAST_DEFAULT  20
#define NAME_TEXT_MAX 600

/* ---- as Hubble prints it --------------------------------------------------------------------- */

/* {"flow":...,"node_name":...,"time":...}; the flow stays the caller's. */
static void print_json(cJSON *flow)
{
	cJSON *json = cJSON_CreateObject();
	auto_free char *text = NULL;

	cJSON_AddItemReferenceToObject(json, "flow", flow);
	cJSON_AddStringToObject(json, "node_name", member_text(flow, "node_name", ""));
	cJSON_AddStringToObject(json, "time", member_text(flow, "time", ""));
	text = cJSON_PrintUnformatted(json);
	cJSON_Delete(json);
	output_json_text(text);
}

static void print_dict(const cJSON *flow)
{
	char source[NAME_TEXT_MAX], destination[NAME_TEXT_MAX], policies[2 * NAME_TEXT_MAX];

	flow_end_name(flow, "source", source, sizeof(source));
	flow_end_name(flow, "destination", destination, sizeof(destination));
	flow_policy_text(flow, policies, sizeof(policies));
	printf("  TIMESTAMP: %s\n", output_shown(member_text(flow, "time", "")));
	printf("     SOURCE: %s\n", output_shown(source));
	printf("DESTINATION: %s:%u\n", output_shown(destination), flow_port(flow));
	printf("       TYPE: %s\n", output_shown(member_text(flow, "Type", "")));
	printf("    VERDICT: %s\n", output_shown(member_text(flow, "verdict", "")));
	printf("     POLICY: %s\n", output_shown(policies));
	printf("    SUMMARY: %s\n", output_shown(member_text(flow, "Summary", "")));
	puts("------------");
}

/* ---- for people ------------------------------------------------------------------------------ */

static void print_end(const cJSON *flow, const char *end)
{
	char name[NAME_TEXT_MAX];

	printf("%s%s%s", output_colour(COLOUR_STRONG),
	       output_shown(flow_end_name(flow, end, name, sizeof(name))), output_colour_end());
}

static void print_service(const cJSON *flow)
{
	const cJSON *service = member_get(flow, "destination_service");

	if (service)
		printf(" (service %s/%s)", output_shown(member_text(service, "namespace", "")),
		       output_shown(member_text(service, "name", "")));
}

static void print_connection(const cJSON *flow)
{
	printf("  %.0f B out, %.0f B in", flow_number(flow, "source_bytes"),
	       flow_number(flow, "destination_bytes"));
	if (flow_number(flow, "duration_us") > 0)
		printf(", %.1f ms", flow_number(flow, "duration_us") / 1000);
	if (flow_number(flow, "srtt_us") > 0)
		printf(", rtt %.0f us", flow_number(flow, "srtt_us"));
	if (flow_number(flow, "retransmits") > 0)
		printf(", %.0f retransmits", flow_number(flow, "retransmits"));
	printf(", %s", output_shown(flow_text(flow, "ended")));
}

static void print_text(const cJSON *flow)
{
	const char *verdict = member_text(flow, "verdict", "");
	bool dropped = flow_number(flow, "count") > 0;
	char policies[2 * NAME_TEXT_MAX];
	unsigned int port = flow_port(flow);

	printf("%s%s%s %s%-9s%s %-7s %s ", output_colour(COLOUR_FAINT),
	       output_shown(member_text(flow, "time", "")), output_colour_end(),
	       output_colour(dropped ? COLOUR_BAD : COLOUR_GOOD), output_shown(verdict),
	       output_colour_end(), output_shown(member_text(flow, "traffic_direction", "")),
	       output_shown(flow_protocol(flow)));
	print_end(flow, "source");
	printf(" -> ");
	print_end(flow, "destination");
	if (port)
		printf(":%u", port);
	print_service(flow);
	if (!dropped)
		print_connection(flow);
	else
		printf("  %s, %.0f packets", output_shown(flow_text(flow, "reason")),
		       flow_number(flow, "count"));
	flow_policy_text(flow, policies, sizeof(policies));
	if (*policies)
		printf("; %s", output_shown(policies));
	putchar('\n');
}

static int print_flow(cJSON *flow, void *arg)
{
	const struct arguments *args = arg;

	if (args->json || strcmp(args->output, "jsonpb") == 0)
		print_json(flow);
	else if (strcmp(args->output, "dict") == 0)
		print_dict(flow);
	else
		print_text(flow);
	if (args->follow)
		fflush(stdout);
	return ferror(stdout) ? -EPIPE : 0;
}

int cmd_flows(const struct arguments *args, struct errmsg *err)
{
	struct arguments with_policy = *args;
	int ret;

	if (strcmp(args->output, "pcapng") == 0)
		return flows_follow_packets(args, err);
	with_policy.with_policy = true;
	ret = flow_log_read(&with_policy, LAST_DEFAULT, NULL, print_flow, &with_policy, err);
	return ret < 0 ? ret : EXIT_OK;
}
