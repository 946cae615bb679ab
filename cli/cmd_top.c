/* SPDX-License-Identifier: Apache-2.0 */
/* tendril top and tendril drops: the log of flows, summed up; with --watch again and again. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/agent_call.h"
#include "cli/flow_log.h"
#include "cli/output.h"
#include "cli/screen.h"
#include "cli/sums.h"
#include "lib/alloc.h"
#include "lib/auto.h"

#define NAME_TEXT_MAX 1400

struct reading {
	const struct arguments *args;
	struct sums sums; /* of drops, a name is reason, ends and port with a NUL between */
	size_t limit;
};

/* ---- top ------------------------------------------------------------------------------------- */

/* What a row stands for; false: the flow is of none. */
static bool row_name_of(const struct arguments *args, const cJSON *flow, const char *end, char *buf,
			size_t size)
{
	const char *by = args->by ? args->by : "pod";
	const cJSON *json = member_get(flow, end);
	const char *namespace = member_text(json, "namespace", NULL);
	const cJSON *workload = cJSON_GetArrayItem(member_get(json, "workloads"), 0);

	if (strcmp(by, "service") == 0) {
		const cJSON *service = member_get(flow, "destination_service");

		snprintf(buf, size, "%s/%s", member_text(service, "namespace", ""),
			 member_text(service, "name", ""));
		return service != NULL;
	}
	if (!namespace)
		return false;
	if (strcmp(by, "namespace") == 0)
		snprintf(buf, size, "%s", namespace);
	else if (strcmp(by, "workload") == 0 && workload)
		snprintf(buf, size, "%s/%s", namespace, member_text(workload, "name", ""));
	else
		flow_end_name(flow, end, buf, size);
	return true;
}

/* A flow counts for the end that saw it, so that a connection of two pods counts once for each. */
static int top_add(cJSON *flow, void *arg)
{
	struct reading *reading = arg;
	bool egress = strcmp(member_text(flow, "traffic_direction", ""), "EGRESS") == 0;
	double source = flow_number(flow, "source_bytes");
	double destination = flow_number(flow, "destination_bytes");
	double drops = flow_number(flow, "count");
	char name[NAME_TEXT_MAX];
	struct sum *sum;

	if (!row_name_of(reading->args, flow, egress ? "source" : "destination", name,
			 sizeof(name)))
		return 0;
	sum = sum_of(&reading->sums, name, strlen(name));
	if (drops > 0) {
		sum->drops += drops;
		return 0;
	}
	sum->connections++;
	sum->out += egress ? source : destination;
	sum->in += egress ? destination : source;
	sum->retransmits += flow_number(flow, "retransmits");
	return 0;
}

static const struct column top_columns[] = {
	{ "NAME", .member = "name" },
	{ "BYTES-OUT", .member = "bytesOut" },
	{ "BYTES-IN", .member = "bytesIn" },
	{ "CONNECTIONS", .member = "connections" },
	{ "RETRANSMITS", .member = "retransmits" },
	{ "DROPS", .member = "drops" },
};

static bool by_is_known(const char *by)
{
	return !by || strcmp(by, "pod") == 0 || strcmp(by, "namespace") == 0 ||
	       strcmp(by, "workload") == 0 || strcmp(by, "service") == 0;
}

static int top_draw(double seconds, void *arg, struct errmsg *err)
{
	struct reading *reading = arg;
	const struct arguments *args = reading->args;
	size_t limit = args->watch ? screen_rows(reading->limit, 1) : reading->limit;
	int ret;

	(void)seconds;
	sums_clear(&reading->sums);
	ret = flow_log_read(args, 0, NULL, top_add, reading, err);
	if (!ret)
		ret = sums_sort(&reading->sums, args, err);
	if (!ret)
		rows_print(args, sums_rows(&reading->sums, limit, 1), top_columns,
			   ARRAY_SIZE(top_columns));
	return ret;
}

int cmd_top(const struct arguments *args, struct errmsg *err)
{
	struct reading reading = { .args = args };
	int ret = sums_limit(args, &reading.limit, err);

	if (ret)
		return ret;
	if (!by_is_known(args->by))
		return misused(err, "--by %s: must be pod, namespace, workload or service",
			       args->by);
	if (!args->watch && (args->interval || args->duration))
		return misused(err, "--interval and --for are for --watch");
	sums_init(&reading.sums);
	ret = args->watch ? screen_run(args, top_draw, &reading, err) : top_draw(0, &reading, err);
	sums_done(&reading.sums);
	return ret < 0 ? ret : EXIT_OK;
}

/* ---- drops ----------------------------------------------------------------------------------- */

static bool is_drop(const cJSON *flow)
{
	return flow_number(flow, "count") > 0;
}

static int drops_add(cJSON *flow, void *arg)
{
	struct sums *sums = arg;
	char source[NAME_TEXT_MAX / 2], destination[NAME_TEXT_MAX / 2], name[2 * NAME_TEXT_MAX];
	struct sum *sum;
	int len;

	len = snprintf(name, sizeof(name), "%s%c%s%c%s%c%u/%s", flow_text(flow, "reason"), 0,
		       flow_end_name(flow, "source", source, sizeof(source)), 0,
		       flow_end_name(flow, "destination", destination, sizeof(destination)), 0,
		       flow_port(flow), flow_protocol(flow));
	sum = sum_of(sums, name, (size_t)len);
	sum->drops += flow_number(flow, "count");
	if (!sum->first)
		sum->first = xstrdup(flow_text(flow, "first"));
	free(sum->last);
	sum->last = xstrdup(member_text(flow, "time", ""));
	return 0;
}

static int drops_compare(const void *a, const void *b)
{
	const struct sum *left = a, *right = b;

	if (left->drops != right->drops)
		return left->drops < right->drops ? 1 : -1;
	return strcmp(left->last, right->last);
}

static const struct column drops_columns[] = {
	{ "PACKETS", .member = "count" }, { "REASON", .member = "reason" },
	{ "SOURCE", .member = "source" }, { "DESTINATION", .member = "destination" },
	{ "PORT", .member = "port" },     { "FIRST", .member = "first" },
	{ "LAST", .member = "last" },
};

static cJSON *drops_rows(const struct sums *sums, size_t max)
{
	static const char *const members[] = { "reason", "source", "destination", "port" };
	cJSON *rows = cJSON_CreateArray();

	for (size_t i = 0; i < sums->count && i < max; i++) {
		const char *part = sums->items[i].name;
		cJSON *row = cJSON_CreateObject();

		cJSON_AddNumberToObject(row, "count", sums->items[i].drops);
		for (size_t j = 0; j < ARRAY_SIZE(members); j++, part += strlen(part) + 1)
			cJSON_AddStringToObject(row, members[j], part);
		cJSON_AddStringToObject(row, "first", sums->items[i].first);
		cJSON_AddStringToObject(row, "last", sums->items[i].last);
		cJSON_AddItemToArray(rows, row);
	}
	return rows;
}

int cmd_drops(const struct arguments *args, struct errmsg *err)
{
	struct sums sums;
	size_t limit;
	int ret = sums_limit(args, &limit, err);

	if (ret)
		return ret;
	sums_init(&sums);
	ret = flow_log_read(args, 0, is_drop, drops_add, &sums, err);
	if (!ret) {
		if (sums.count)
			qsort(sums.items, sums.count, sizeof(*sums.items), drops_compare);
		rows_print(args, drops_rows(&sums, limit), drops_columns,
			   ARRAY_SIZE(drops_columns));
	}
	sums_done(&sums);
	return ret < 0 ? ret : EXIT_OK;
}
