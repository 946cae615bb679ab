/* SPDX-License-Identifier: Apache-2.0 */
/* tendril monitor: drops and verdicts as they happen, with the names of both pods. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/lib/auto.h"
#include "agent/lib/http.h"
#include "policy/cli.h"
#include "policy/output.h"

static void print_end(const cJSON *event, const char *name)
{
	const cJSON *end = cJSON_GetObjectItemCaseSensitive(event, name);
	const cJSON *port = cJSON_GetObjectItemCaseSensitive(end, "port");
	const char *addr = cli_text(end, "address", "");
	const char *pod = cli_text(end, "pod", "");

	if (*pod)
		printf("%s%s%s (%s)", output_colour(COLOUR_STRONG), pod, output_colour_end(), addr);
	else
		printf("%s", addr);
	if (cJSON_IsNumber(port))
		printf(" port %.0f", port->valuedouble);
}

static int print_event(const char *line, void *arg)
{
	const struct arguments *args = arg;
	cJSON *event;
	bool drop;

	if (args->json) {
		puts(line);
		fflush(stdout);
		return ferror(stdout) ? -EPIPE : 0;
	}
	event = cJSON_Parse(line);
	if (!event)
		return -EBADMSG;
	drop = strcmp(cli_text(event, "type", ""), "drop") == 0;
	printf("%s%s%s %s%-7s%s %s ", output_colour(COLOUR_FAINT), cli_text(event, "time", ""),
	       output_colour_end(), output_colour(drop ? COLOUR_BAD : COLOUR_GOOD),
	       drop ? "DROP" : "allow", output_colour_end(), cli_text(event, "protocol", ""));
	print_end(event, "source");
	printf(" -> ");
	print_end(event, "destination");
	if (drop)
		printf("  %s: %s", cli_text(event, "reason", ""), cli_text(event, "text", ""));
	putchar('\n');
	fflush(stdout);
	cJSON_Delete(event);
	return ferror(stdout) ? -EPIPE : 0;
}

int cmd_monitor(const struct arguments *args, struct errmsg *err)
{
	char path[128];
	int ret;

	snprintf(path, sizeof(path), "/v1/events?type=%.64s",
		 args->type ? args->type : "drop,verdict");
	ret = http_follow(args->socket, path, print_event, (void *)args, err);
	if (ret == -ENOENT || ret == -ECONNREFUSED)
		return fail_plain(err, ret, "no agent answers on %s: is tendrild running?",
				  args->socket);
	return ret < 0 ? ret : EXIT_OK;
}
