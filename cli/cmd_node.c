/* SPDX-License-Identifier: Apache-2.0 */
/* tendril node: the nodes, how they are reached, and whether they answer. */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/agent_call.h"
#include "cli/node_probe.h"
#include "cli/view.h"
#include "lib/auto.h"
#include "lib/clock.h"

#define PROBE_MAX_MS 60000

static void fill_routing(const cJSON *row, struct cell *cell)
{
	output_member(row, "routing", cell);
	if (*member_text(row, "problem", ""))
		cell->colour = COLOUR_BAD;
}

static void fill_problem(const cJSON *row, struct cell *cell)
{
	cell_set(cell, COLOUR_BAD, "%s", member_text(row, "problem", ""));
}

/* Which of its addresses does not answer, and why. */
static void fill_reachable(const cJSON *row, struct cell *cell)
{
	static const char *const targets[] = { "node", "pods" };
	const cJSON *health = member_get(row, "health");
	const char *status = member_text(health, "status", "-");

	cell_set(cell, strcmp(status, "reachable") == 0 ? COLOUR_GOOD : COLOUR_NONE, "%s", status);
	for (size_t i = 0; strcmp(status, "unreachable") == 0 && i < ARRAY_SIZE(targets); i++) {
		const cJSON *answer = member_get(health, targets[i]);

		if (strcmp(member_text(answer, "status", ""), status) != 0)
			continue;
		cell_set(cell, COLOUR_BAD, "no: %s %s: %s", targets[i],
			 member_text(answer, "address", "-"), member_text(answer, "error", "-"));
		return;
	}
}

static void fill_latency(const cJSON *row, struct cell *cell)
{
	const cJSON *health = member_get(row, "health");
	const cJSON *pods = member_get(health, "pods");
	const cJSON *answer = cJSON_GetArraySize(pods) ? pods : member_get(health, "node");

	if (*member_text(health, "lastSeen", ""))
		cell_set(cell, COLOUR_NONE, "%.3f ms",
			 member_number(answer, "latencyMicroseconds") / 1000);
	else
		cell_set(cell, COLOUR_NONE, "-");
}

static void fill_seen(const cJSON *row, struct cell *cell)
{
	const char *seen = member_text(member_get(row, "health"), "lastSeen", "");

	cell_set(cell, COLOUR_NONE, "%s", *seen ? seen : "-");
}

static void fill_mtu(const cJSON *row, struct cell *cell)
{
	double mtu = member_number(row, "mtu");

	cell_set(cell, COLOUR_NONE, mtu > 0 ? "%.0f" : "-", mtu);
}

static void fill_host_routing(const cJSON *row, struct cell *cell)
{
	const cJSON *routing = member_get(row, "hostRouting");
	const char *reason = member_text(routing, "reason", "");

	cell_set(cell, COLOUR_NONE, "%s%s%s", member_text(routing, "mode", "-"),
		 *reason ? ": " : "", reason);
}

static const struct column node_columns[] = {
	{ "NODE", .member = "name" },
	{ "ADDRESSES", .member = "addresses" },
	{ "POD CIDRS", .member = "podCIDRs" },
	{ "ROUTING", .fill = fill_routing },
	{ "ENCRYPTION", .member = "encryption" },
	{ "REACHABLE", .fill = fill_reachable },
	{ "PROBLEM", .fill = fill_problem },
	{ "MTU", .fill = fill_mtu, .wide = true },
	{ "LATENCY", .fill = fill_latency, .wide = true },
	{ "LAST SEEN", .fill = fill_seen, .wide = true },
	{ "HOST ROUTING", .fill = fill_host_routing, .wide = true },
	{ "LABELS", .member = "labels", .wide = true },
};
static const struct column node_fields[] = {
	{ "Node", .member = "name" },
	{ "Addresses", .member = "addresses" },
	{ "Pod CIDRs", .member = "podCIDRs" },
	{ "Routing", .fill = fill_routing },
	{ "Host routing", .fill = fill_host_routing },
	{ "Encryption", .member = "encryption" },
	{ "WireGuard key", .member = "wireguardKey" },
	{ "Reachable", .fill = fill_reachable },
	{ "Latency", .fill = fill_latency },
	{ "Last seen", .fill = fill_seen },
	{ "MTU", .fill = fill_mtu },
	{ "Problem", .fill = fill_problem },
	{ "Labels", .member = "labels" },
};

static int fetch_nodes(const struct arguments *args, cJSON **ret_rows, struct errmsg *err)
{
	return agent_call(args, "GET", "/v1/nodes", NULL, ret_rows, err);
}

static const struct view view_nodes = { .columns = node_columns,
					.column_count = ARRAY_SIZE(node_columns),
					.kind = "node",
					.fetch = fetch_nodes };

static bool any_is_probing(const cJSON *rows)
{
	const cJSON *row;

	cJSON_ArrayForEach (row, rows) {
		if (cJSON_IsTrue(member_get(member_get(row, "health"), "probing")))
			return true;
	}
	return false;
}

int nodes_probe(const struct arguments *args, cJSON **ret_rows, struct errmsg *err)
{
	const struct timespec pause = { .tv_nsec = 50000000 };
	const int64_t end_ms = now_ms() + PROBE_MAX_MS;
	int ret = agent_call(args, "POST", "/v1/probe", NULL, NULL, err);

	while (!ret) {
		ret = fetch_nodes(args, ret_rows, err);
		if (ret || !any_is_probing(*ret_rows) || now_ms() > end_ms ||
		    nanosleep(&pause, NULL) < 0) /* by a signal */
			break;
		cJSON_Delete(take_ptr(*ret_rows));
	}
	return ret;
}

/* With --probe; the rows are fetched again by the view. */
static int probe_maybe(const struct arguments *args, struct errmsg *err)
{
	cJSON *rows = NULL;
	int ret = args->probe ? nodes_probe(args, &rows, err) : 0;

	cJSON_Delete(rows);
	return ret;
}

int cmd_node_list(const struct arguments *args, struct errmsg *err)
{
	int ret = probe_maybe(args, err);

	return ret ? ret : view_show(args, &view_nodes, err);
}

int cmd_node_get(const struct arguments *args, struct errmsg *err)
{
	cJSON *row = NULL;
	char path[320];
	int ret;

	snprintf(path, sizeof(path), "/v1/nodes/%s", args->operands[0]);
	ret = probe_maybe(args, err);
	if (!ret)
		ret = agent_call(args, "GET", path, NULL, &row, err);
	if (ret)
		return ret;
	if (args->json)
		output_json(row);
	else
		output_fields(row, node_fields, ARRAY_SIZE(node_fields));
	cJSON_Delete(row);
	return EXIT_OK;
}

int cmd_node_rotate_key(const struct arguments *args, struct errmsg *err)
{
	cJSON *answer = NULL;
	int ret = agent_call(args, "POST", "/v1/key/rotate", NULL, &answer, err);

	if (ret)
		return ret;
	if (args->json)
		output_json(answer);
	else
		printf("%s\n", output_shown(member_text(answer, "wireguardKey", "")));
	cJSON_Delete(answer);
	return EXIT_OK;
}
