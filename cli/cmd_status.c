/* SPDX-License-Identifier: Apache-2.0 */
/* tendril status: whether the agent is well, what it holds, what it dropped, and what to do. */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/agent_call.h"
#include "cli/argument.h"
#include "cli/output.h"
#include "lib/auto.h"
#include "lib/clock.h"

#define WAIT_PAUSE_NS 100000000

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

static void fill_host_routing(const cJSON *status, struct cell *cell)
{
	const cJSON *routing = member_get(status, "hostRouting");
	const char *reason = member_text(routing, "reason", "");

	cell_set(cell, COLOUR_NONE, "%s%s%s", member_text(routing, "mode", "-"),
		 *reason ? ": " : "", reason);
}

static void fill_nodes(const cJSON *status, struct cell *cell)
{
	const cJSON *nodes = member_get(status, "nodes");
	double reachable = member_number(nodes, "reachable");
	double unreachable = member_number(nodes, "unreachable");
	double all = reachable + unreachable + member_number(nodes, "unknown");

	cell_set(cell, unreachable > 0 ? COLOUR_BAD : COLOUR_NONE, "%.0f/%.0f reachable%s",
		 reachable, all, unreachable > 0 ? "; which and why: tendril node list" : "");
}

static void fill_uplinks(const cJSON *status, struct cell *cell)
{
	const cJSON *uplink;
	char text[200] = "";
	size_t len = 0;

	cJSON_ArrayForEach (uplink, member_get(status, "uplinks")) {
		const char *xdp = member_text(uplink, "xdp", "off");

		if (len < sizeof(text))
			len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s%s%s",
						len ? ", " : "", member_text(uplink, "device", "?"),
						strcmp(xdp, "off") == 0 ? "" : ", XDP ",
						strcmp(xdp, "off") == 0 ? "" : xdp);
	}
	cell_set(cell, COLOUR_NONE, "%s", *text ? text : "none");
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
		cell_set(cell, COLOUR_BAD, "not enforced (audit mode): reported only");
	else if (audited > 0)
		cell_set(cell, COLOUR_BAD, "not enforced on %.0f endpoint%s (audit mode)", audited,
			 audited == 1 ? "" : "s");
	else
		cell_set(cell, COLOUR_GOOD, "enforced");
}

static void fill_kubernetes(const cJSON *status, struct cell *cell)
{
	const cJSON *kubernetes = member_get(status, "kubernetes");
	const char *state = member_text(kubernetes, "state", NULL);

	if (!state)
		cell_set(cell, COLOUR_NONE, "not followed");
	else
		cell_set(cell, strcmp(state, "synced") == 0 ? COLOUR_GOOD : COLOUR_BAD,
			 "%s, %.0f objects", state, member_number(kubernetes, "objects"));
}

static const struct column summary[] = {
	{ "Agent", .fill = fill_agent },
	{ "Datapath", .fill = fill_datapath },
	{ "Host routing", .fill = fill_host_routing },
	{ "Nodes", .fill = fill_nodes },
	{ "Uplinks", .fill = fill_uplinks },
	{ "Load balancer", .member = "loadBalancerMode" },
	{ "Acceleration", .fill = fill_acceleration },
	{ "Memory", .fill = fill_memory },
	{ "Objects", .fill = fill_counts },
	{ "Policy", .fill = fill_audit },
	{ "Kubernetes", .fill = fill_kubernetes },
	{ "Pod CIDRs", .member = "podCIDRs" },
};

static void fill_map_used(const cJSON *map, struct cell *cell)
{
	double used = member_number(map, "used"), capacity = member_number(map, "capacity");
	enum colour colour = COLOUR_NONE;

	if (capacity > 0 && used >= 0.8 * capacity)
		colour = used >= 0.95 * capacity ? COLOUR_BAD : COLOUR_WARN;
	cell_set(cell, colour, "%.0f of %.0f", used, capacity);
}

static const struct column map_columns[] = { { "MAP", .member = "name" },
					     { "USED", .fill = fill_map_used } };
static const struct column drop_columns[] = { { "DROPPED", .member = "reason" },
					      { "COUNT", .member = "count" },
					      { "MEANING", .member = "text" } };
static const struct column notice_columns[] = { { "NOTICED", .member = "name" },
						{ "COUNT", .member = "count" },
						{ "MEANING", .member = "text" } };

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
		output_table(shown, columns, count, 0);
	}
	cJSON_Delete(shown);
}

/* One thing that is wrong, in red, and what to do about it. */
static void print_failure(const char *label, const char *text, const char *advice)
{
	printf("%s%s:%s %s\n", output_colour(COLOUR_BAD), label, output_colour_end(),
	       output_shown(text));
	if (advice)
		printf("  %s\n", advice);
}

static void print_files(const cJSON *status)
{
	const cJSON *file;

	cJSON_ArrayForEach (file, member_get(member_get(status, "objects"), "files")) {
		if (strcmp(member_text(file, "state", "-"), "ok") == 0)
			continue;
		print_failure("refused", member_text(file, "error", "-"),
			      "Correct or remove the file. All its problems: tendril policy "
			      "validate FILE");
	}
}

static void print_audit(const cJSON *status)
{
	const cJSON *audit = member_get(status, "audit");

	if (cJSON_IsTrue(member_get(audit, "node")))
		print_failure("not enforced", "no policy is enforced on this node (audit mode)",
			      "Set \"audit\": false in agent.json: systemctl reload tendrild");
	else if (member_number(audit, "endpoints") > 0)
		print_failure("not enforced", "some pods are in audit mode",
			      "Remove their annotation tendril.io/policy-audit. Which: tendril "
			      "endpoint list");
}

/* Everything that is refused or not enforced. */
static void print_failures(const cJSON *status)
{
	double broken = member_number(status, "brokenEndpoints");
	const cJSON *failure;
	char text[64];

	print_files(status);
	print_audit(status);
	if (!cJSON_IsTrue(member_get(status, "ready")))
		print_failure("not ready", "the agent does not serve pods yet",
			      "If this lasts, read the agent's log: journalctl -u tendrild");
	if (broken > 0) {
		snprintf(text, sizeof(text), "%.0f endpoint%s", broken, broken == 1 ? "" : "s");
		print_failure("broken", text,
			      "Which and why: tendril endpoint list, tendril endpoint get POD");
	}
	cJSON_ArrayForEach (failure, member_get(status, "failures"))
		print_failure("failed", cJSON_IsString(failure) ? failure->valuestring : "", NULL);
}

static bool is_failure(const cJSON *status, const char *text)
{
	const cJSON *failure;

	cJSON_ArrayForEach (failure, member_get(status, "failures")) {
		if (cJSON_IsString(failure) && strcmp(failure->valuestring, text) == 0)
			return true;
	}
	return false;
}

static void print_list(const cJSON *status, const char *member, const char *label)
{
	const cJSON *item;

	cJSON_ArrayForEach (item, member_get(status, member)) {
		const char *text = cJSON_GetStringValue(item);

		if (text && !is_failure(status, text))
			printf("%s%s:%s %s\n", output_colour(COLOUR_WARN), label,
			       output_colour_end(), output_shown(text));
	}
}

/* Whether something is refused or not enforced, as print_failures() counts it. */
static bool status_failed(const cJSON *status)
{
	const cJSON *audit = member_get(status, "audit");
	const cJSON *file;

	cJSON_ArrayForEach (file, member_get(member_get(status, "objects"), "files")) {
		if (strcmp(member_text(file, "state", "-"), "ok") != 0)
			return true;
	}
	return !cJSON_IsTrue(member_get(status, "ready")) ||
	       cJSON_IsTrue(member_get(audit, "node")) || member_number(audit, "endpoints") > 0 ||
	       member_number(status, "brokenEndpoints") > 0 ||
	       cJSON_GetArraySize(member_get(status, "failures")) > 0;
}

static void status_print(const struct arguments *args, const cJSON *status)
{
	if (args->json) {
		output_json(status);
		return;
	}
	output_fields(status, summary, ARRAY_SIZE(summary));
	putchar('\n');
	output_table(member_get(status, "maps"), map_columns, ARRAY_SIZE(map_columns), 0);
	print_counted(member_get(status, "drops"), drop_columns, ARRAY_SIZE(drop_columns));
	print_counted(member_get(status, "notices"), notice_columns, ARRAY_SIZE(notice_columns));
	putchar('\n');
	print_list(status, "notCarriedOut", "no effect");
	print_list(status, "warnings", "warning");
	print_failures(status);
}

/* The last answer before all is well, or before the time is up. */
static int status_await(const struct arguments *args, uint64_t deadline_ns, cJSON **ret_status,
			struct errmsg *err)
{
	static const struct timespec pause = { .tv_nsec = WAIT_PAUSE_NS };

	for (;;) {
		int ret = agent_call(args, "GET", "/v1/status", NULL, ret_status, err);

		if ((ret == 0 && !status_failed(*ret_status)) || now_ns() >= deadline_ns)
			return ret;
		if (ret == 0)
			cJSON_Delete(*ret_status);
		nanosleep(&pause, NULL);
	}
}

int cmd_status(const struct arguments *args, struct errmsg *err)
{
	uint64_t deadline_ns = args->wait && !*args->wait ? UINT64_MAX : 0;
	cJSON *status = NULL;
	uint32_t seconds;
	int ret;

	if (args->wait && *args->wait) {
		ret = duration_parse(args->wait, &seconds, err);
		if (ret)
			return ret;
		deadline_ns = now_ns() + (uint64_t)seconds * 1000000000;
	}
	ret = status_await(args, deadline_ns, &status, err);
	if (ret)
		return ret;
	status_print(args, status);
	ret = status_failed(status) ? EXIT_FAILED : EXIT_OK;
	cJSON_Delete(status);
	return ret;
}
