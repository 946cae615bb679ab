/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tendril connectivity test: two pods are wired on this node, packets go everywhere that pods need,
 * and what is lost is told with its reason.
 */
#include <cjson/cJSON.h>
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "cli/agent_call.h"
#include "cli/connect_test.h"
#include "cli/node_probe.h"
#include "cli/output.h"
#include "lib/auto.h"

static const char *const results[] = { "ok", "failed", "skipped" };

/* ---- once at a time -------------------------------------------------------------------------- */

/* The kernel gives the name back, however the process ends. */
static int lock_take(int *ret_fd, struct errmsg *err)
{
	static const char name[] = CONNECT_NAMESPACE;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return fail(err, -errno, "lock");
	memcpy(address.sun_path + 1, name, sizeof(name));
	if (bind(fd, (struct sockaddr *)&address,
		 offsetof(struct sockaddr_un, sun_path) + sizeof(name)) < 0)
		return errno == EADDRINUSE ? fail_plain(err, -EADDRINUSE,
							"another test is running on this node")
					   : fail(err, -errno, "lock");
	*ret_fd = take_fd(&fd);
	return 0;
}

static const int ends[] = { SIGINT, SIGTERM, SIGHUP };

static void signals_catch(void)
{
	const struct sigaction action = { .sa_handler = connect_interrupt };

	for (size_t i = 0; i < ARRAY_SIZE(ends); i++)
		sigaction(ends[i], &action, NULL);
}

static void signals_ignore(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++)
		signal(ends[i], SIG_IGN);
}

/* ---- output ---------------------------------------------------------------------------------- */

static cJSON *row_json(const struct connect_row *row)
{
	cJSON *json = cJSON_CreateObject();
	char why[sizeof(row->why) + sizeof(row->drop) + 4];

	snprintf(why, sizeof(why), "%s%s%s", row->why, *row->drop ? ": " : "", row->drop);
	cJSON_AddStringToObject(json, "from", row->from);
	cJSON_AddStringToObject(json, "to", row->to);
	cJSON_AddStringToObject(json, "protocol", row->protocol);
	cJSON_AddStringToObject(json, "result", results[row->result]);
	cJSON_AddStringToObject(json, "why", why);
	cJSON_AddNumberToObject(json, "microseconds", row->time_us);
	return json;
}

static void fill_result(const cJSON *row, struct cell *cell)
{
	const char *result = member_text(row, "result", "");

	cell_set(cell,
		 strcmp(result, "ok") == 0       ? COLOUR_GOOD
		 : strcmp(result, "failed") == 0 ? COLOUR_BAD
						 : COLOUR_FAINT,
		 "%s", result);
}

static void fill_time(const cJSON *row, struct cell *cell)
{
	if (strcmp(member_text(row, "result", ""), "skipped") == 0)
		cell_set(cell, COLOUR_NONE, "-");
	else
		cell_set(cell, COLOUR_NONE, "%.3f ms", member_number(row, "microseconds") / 1000);
}

static const struct column columns[] = {
	{ "FROM", .member = "from" },         { "TO", .member = "to" },
	{ "PROTOCOL", .member = "protocol" }, { "RESULT", .fill = fill_result },
	{ "TIME", .fill = fill_time },        { "WHY", .member = "why" },
};

static cJSON *document_of(const struct connect_test *test, size_t counts[CONNECT_SKIPPED + 1])
{
	cJSON *document = cJSON_CreateObject();
	cJSON *rows = cJSON_AddArrayToObject(document, "tests");

	connect_answer(test, cJSON_AddArrayToObject(document, "broken"));
	for (size_t i = 0; i < test->row_count; i++) {
		cJSON_AddItemToArray(rows, row_json(&test->rows[i]));
		counts[test->rows[i].result]++;
	}
	for (size_t i = 0; i < ARRAY_SIZE(results); i++)
		cJSON_AddNumberToObject(document, results[i], (double)counts[i]);
	return document;
}

static void document_print(const cJSON *document)
{
	const cJSON *item;

	output_table(member_get(document, "tests"), columns, ARRAY_SIZE(columns), 0);
	printf("\n%.0f ok, %.0f failed, %.0f skipped\n", member_number(document, "ok"),
	       member_number(document, "failed"), member_number(document, "skipped"));
	cJSON_ArrayForEach (item, member_get(document, "broken"))
		printf("\n%s%s%s\n  %s\n", output_colour(COLOUR_BAD),
		       output_shown(member_text(item, "what", "")), output_colour_end(),
		       output_shown(member_text(item, "advice", "")));
	if (member_number(document, "failed") == 0)
		printf("%snothing is broken%s\n", output_colour(COLOUR_GOOD), output_colour_end());
}

/* ---- the command ----------------------------------------------------------------------------- */

static int test_start(struct connect_test *test, struct errmsg *err)
{
	int ret = connect_clean(test->args, err); /* of a test that was killed */

	if (!ret)
		ret = agent_call(test->args, "GET", "/v1/status", NULL, &test->status, err);
	if (!ret)
		ret = nodes_probe(test->args, &test->nodes, err);
	if (!ret)
		ret = connect_drops_start(test->args, &test->drops, err);
	if (!ret)
		ret = prober_start(&test->host, "host", false, err);
	if (!ret)
		ret = connect_pod_add(test->args, &test->client, err);
	return ret ? ret : connect_pod_add(test->args, &test->server, err);
}

/* Also after a failure; the first one is told. */
static int test_stop(struct connect_test *test, struct errmsg *err)
{
	int ret;

	signals_ignore();
	ret = connect_clean(test->args, err);
	prober_stop(&test->host);
	prober_stop(&test->client.prober);
	prober_stop(&test->server.prober);
	connect_drops_stop(&test->drops);
	return ret;
}

static int test_show(const struct connect_test *test)
{
	size_t counts[CONNECT_SKIPPED + 1] = {};
	cJSON *document = document_of(test, counts);

	if (test->args->json)
		output_json(document);
	else
		document_print(document);
	cJSON_Delete(document);
	return counts[CONNECT_FAILED] ? EXIT_FAILED : EXIT_OK;
}

int cmd_connectivity_test(const struct arguments *args, struct errmsg *err)
{
	struct connect_test test = { .args = args,
				     .client = { .name = "client", .prober = PROBER_INIT },
				     .server = { .name = "server", .prober = PROBER_INIT },
				     .host = PROBER_INIT,
				     .drops = { .pid = -1, .fd = -1 } };
	auto_close int lock = -1;
	struct errmsg left;
	struct addr address;
	int ret;

	if (args->external && addr_parse(args->external, &address))
		return misused(err, "--external %s: not an address", args->external);
	if (geteuid() != 0)
		return fail_plain(err, -EPERM, "it needs root: it makes network namespaces");
	ret = lock_take(&lock, err);
	if (ret)
		return ret;
	signals_catch();
	ret = test_start(&test, err);
	if (!ret)
		ret = connect_run(&test, err);
	if (test_stop(&test, ret ? &left : err) && !ret)
		ret = err->code;
	if (!ret)
		ret = test_show(&test);
	cJSON_Delete(test.status);
	cJSON_Delete(test.nodes);
	cJSON_Delete(test.policies);
	free(test.rows);
	return ret;
}
