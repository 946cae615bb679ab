/* SPDX-License-Identifier: Apache-2.0 */
/* tendril monitor: drops, verdicts and what audit lets pass, with the names of both pods. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/agent_call.h"
#include "cli/output.h"
#include "lib/auto.h"

static const char *shown_text(const cJSON *object, const char *name)
{
	return output_shown(member_text(object, name, ""));
}

static void print_end(const cJSON *event, const char *name)
{
	const cJSON *end = cJSON_GetObjectItemCaseSensitive(event, name);
	const cJSON *port = cJSON_GetObjectItemCaseSensitive(end, "port");
	const char *addr = shown_text(end, "address");
	const char *pod = shown_text(end, "pod");

	if (*pod)
		printf("%s%s%s (%s)", output_colour(COLOUR_STRONG), pod, output_colour_end(), addr);
	else
		printf("%s", addr);
	if (cJSON_IsNumber(port))
		printf(" port %.0f", port->valuedouble);
}

static const struct event_kind {
	const char *type;
	const char *shown;
	enum colour colour;
	bool has_reason;
} event_kinds[] = {
	{ "drop", "DROP", COLOUR_BAD, true },
	{ "audit", "WOULD DROP", COLOUR_WARN, true },
	{ "verdict", "allow", COLOUR_GOOD, false },
};

static const struct event_kind *event_kind(const cJSON *event)
{
	const char *type = member_text(event, "type", "");

	for (size_t i = 0; i < ARRAY_SIZE(event_kinds); i++) {
		if (strcmp(event_kinds[i].type, type) == 0)
			return &event_kinds[i];
	}
	return &event_kinds[ARRAY_SIZE(event_kinds) - 1];
}

static int print_event(const char *line, void *arg)
{
	const struct arguments *args = arg;
	const struct event_kind *kind;
	cJSON *event;

	if (args->json) {
		output_json_text(line);
		fflush(stdout);
		return ferror(stdout) ? -EPIPE : 0;
	}
	event = cJSON_Parse(line);
	if (!event)
		return -EBADMSG;
	kind = event_kind(event);
	printf("%s%s%s %s%-10s%s %s ", output_colour(COLOUR_FAINT), shown_text(event, "time"),
	       output_colour_end(), output_colour(kind->colour), kind->shown, output_colour_end(),
	       shown_text(event, "protocol"));
	print_end(event, "source");
	printf(" -> ");
	print_end(event, "destination");
	if (kind->has_reason)
		printf("  %s %s: %s", shown_text(event, "direction"), shown_text(event, "reason"),
		       shown_text(event, "text"));
	putchar('\n');
	fflush(stdout);
	cJSON_Delete(event);
	return ferror(stdout) ? -EPIPE : 0;
}

/* Whether a list with commas names types of events and nothing else. */
static bool types_are_known(const char *types)
{
	for (const char *word = types; word; word = strchr(word, ',')) {
		bool known = false;
		size_t len;

		word += *word == ',' && word > types;
		len = strcspn(word, ",");
		for (size_t i = 0; i < ARRAY_SIZE(event_kinds); i++)
			known |= strlen(event_kinds[i].type) == len &&
				 strncmp(event_kinds[i].type, word, len) == 0;
		if (!known)
			return false;
	}
	return true;
}

int cmd_monitor(const struct arguments *args, struct errmsg *err)
{
	const char *types = args->type ? args->type : "drop,verdict,audit";
	char path[128];
	int ret;

	if (!types_are_known(types) || strlen(types) > 64)
		return misused(err, "--type %s: must be drop, verdict and audit, with commas",
			       types);
	snprintf(path, sizeof(path), "/v1/events?type=%s", types);
	ret = agent_follow(args, path, print_event, (void *)args, err);
	return ret < 0 ? ret : EXIT_OK;
}
