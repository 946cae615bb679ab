/* SPDX-License-Identifier: Apache-2.0 */
/* tendril status: is the agent well, what does it hold, what did it drop. */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

#include "cli/agent_call.h"
#include "cli/output.h"
#include "lib/auto.h"

static void fill_agent(const cJSON *status, struct cell *cell)
{
	bool ready = cJSON_IsTrue(member_get(status, "ready"));

	cell_set(cell, ready ? COLOUR_GOOD : COLOUR_BAD, "%s, version %s, pid %.0f, up %.0f s",
		 ready ? "ready" : "not ready", member_text(status, "version", "-"),
		 member_number(status, "pid"), member_number(status, "uptimeSeconds"));
}

static void fill_datapath(const cJSON *status, struct cell *cell)
{
	const cJSON *datapath = member_get(status, "datapath");
	bool sockets = cJSON_IsTrue(member_get(datapath, "socketServices"));

	cell_set(cell, COLOUR_NONE, "%s, services %s, %.0f instructions",
		 member_text(datapath, "attach", "-"),
		 sockets ? "in the socket layer" : "per packet",
		 member_number(datapath, "instructions"));
}

static void fill_acceleration(const cJSON *status, struct cell *cell)
{
	const cJSON *acceleration = member_get(status, "acceleration");
	const char *state = member_text(acceleration, "state", "-");
	const char *reason = member_text(acceleration, "reason", "-");
	bool told = *reason && strcmp(reason, "-") != 0;

	cell_set(cell, strcmp(state, "on") == 0 ? COLOUR_GOOD : COLOUR_WARN, "%s%s%s", state,
		 told ? ": " : "", told ? reason : "");
}

static void fill_memory(const cJSON *status, struct cell *cell)
{
	const cJSON *memory = member_get(status, "memory");

	cell_set(cell, COLOUR_NONE, "%.1f MiB resident, %.1f MiB in maps",
		 member_number(memory, "rssBytes") / (1 << 20),
		 member_number(memory, "mapBytes") / (1 << 20));
}

static void fill_counts(const cJSON *status, struct cell *cell)
{
	cell_set(cell, COLOUR_NONE, "%.0f endpoints, %.0f services, %.0f policies, %.0f identities",
		 member_number(status, "endpoints"), member_number(status, "services"),
		 member_number(status, "policies"), member_number(status, "identities"));
}

static void fill_audit(const cJSON *status, struct cell *cell)
{
	const cJSON *audit = member_get(status, "audit");
	double audited = member_number(audit, "endpoints");

	if (cJSON_IsTrue(member_get(audit, "node")))
		cell_set(cell, COLOUR_WARN, "audit mode: told, not enforced");
	else if (audited > 0)
		cell_set(cell, COLOUR_WARN, "enforced, told only on %.0f endpoints", audited);
	else
		cell_set(cell, COLOUR_GOOD, "enforced");
}

static void fill_cidrs(const cJSON *status, struct cell *cell)
{
	output_member(status, "podCIDRs", cell);
}

static const struct column summary[] = {
	{ "Agent", fill_agent },
	{ "Datapath", fill_datapath },
	{ "Acceleration", fill_acceleration },
	{ "Memory", fill_memory },
	{ "Objects", fill_counts },
	{ "Policy", fill_audit },
	{ "Pod CIDRs", fill_cidrs },
};

static void fill_map_name(const cJSON *map, struct cell *cell)
{
	output_member(map, "name", cell);
}

static void fill_map_used(const cJSON *map, struct cell *cell)
{
	double used = member_number(map, "used"), capacity = member_number(map, "capacity");
	enum colour colour = COLOUR_NONE;

	if (capacity > 0 && used >= 0.8 * capacity)
		colour = used >= 0.95 * capacity ? COLOUR_BAD : COLOUR_WARN;
	cell_set(cell, colour, "%.0f of %.0f", used, capacity);
}

static void fill_count(const cJSON *row, struct cell *cell)
{
	output_member(row, "count", cell);
}

static void fill_text(const cJSON *row, struct cell *cell)
{
	output_member(row, "text", cell);
}

static void fill_reason(const cJSON *row, struct cell *cell)
{
	output_member(row, "reason", cell);
}

static void fill_name(const cJSON *row, struct cell *cell)
{
	output_member(row, "name", cell);
}

static const struct column map_columns[] = { { "MAP", fill_map_name }, { "USED", fill_map_used } };
static const struct column drop_columns[] = { { "DROPPED", fill_reason },
					      { "COUNT", fill_count },
					      { "MEANING", fill_text } };
static const struct column notice_columns[] = { { "NOTICED", fill_name },
						{ "COUNT", fill_count },
						{ "MEANING", fill_text } };

/* Prints the rows whose count is not zero. */
static void print_counted(const cJSON *rows, const struct column *columns, size_t count)
{
	cJSON *shown = cJSON_CreateArray();
	const cJSON *row;

	cJSON_ArrayForEach (row, rows) {
		if (member_number(row, "count") > 0)
			cJSON_AddItemToArray(shown, cJSON_Duplicate(row, true));
	}
	if (cJSON_GetArraySize(shown) > 0) {
		putchar('\n');
		output_table(shown, columns, count);
	}
	cJSON_Delete(shown);
}

static void print_problems(const cJSON *status)
{
	const cJSON *warning, *file;

	cJSON_ArrayForEach (warning, member_get(status, "warnings"))
		printf("%swarning:%s %s\n", output_colour(COLOUR_WARN), output_colour_end(),
		       output_shown(cJSON_IsString(warning) ? warning->valuestring : ""));
	cJSON_ArrayForEach (file, member_get(member_get(status, "objects"), "files")) {
		if (strcmp(member_text(file, "state", "-"), "ok") != 0)
			printf("%srefused:%s %s\n", output_colour(COLOUR_BAD), output_colour_end(),
			       output_shown(member_text(file, "error", "-")));
	}
}

int cmd_status(const struct arguments *args, struct errmsg *err)
{
	cJSON *status = NULL;
	int ret = agent_call(args, "GET", "/v1/status", NULL, &status, err);

	if (ret)
		return ret;
	if (args->json) {
		output_json(status);
	} else {
		output_fields(status, summary, ARRAY_SIZE(summary));
		putchar('\n');
		output_table(member_get(status, "maps"), map_columns, ARRAY_SIZE(map_columns));
		print_counted(member_get(status, "drops"), drop_columns, ARRAY_SIZE(drop_columns));
		print_counted(member_get(status, "notices"), notice_columns,
			      ARRAY_SIZE(notice_columns));
		print_problems(status);
	}
	ret = cJSON_IsTrue(member_get(status, "ready")) ? EXIT_OK : EXIT_FAILED;
	cJSON_Delete(status);
	return ret;
}
