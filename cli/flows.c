/* SPDX-License-Identifier: Apache-2.0 */
#include <cjson/cJSON.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "cli/flows.h"
#include "lib/auto.h"
#include "lib/http.h"

#define SECONDS_MAX 86400

int cli_duration_parse(const char *text, uint32_t *ret_seconds, struct errmsg *err)
{
	static const struct {
		char letter;
		uint64_t seconds;
	} units[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 } };
	size_t len = strlen(text);
	uint64_t number, unit = 1;
	char digits[16];

	for (size_t i = 0; len && i < ARRAY_SIZE(units); i++) {
		if (text[len - 1] == units[i].letter) {
			unit = units[i].seconds;
			len--;
			break;
		}
	}
	if (len < sizeof(digits)) {
		memcpy(digits, text, len);
		digits[len] = '\0';
		if (number_parse(digits, 1, SECONDS_MAX / unit, &number) == 0) {
			*ret_seconds = (uint32_t)(number * unit);
			return 0;
		}
	}
	return misused(err, "\"%s\" is not a time such as 60s, 5m or 1h, up to a day", text);
}

bool cli_flow_end_is(const struct store *store, const struct addr *addr, const char *pod)
{
	const struct object *owner = store_owner(store, addr);
	char name[600];

	if (!pod)
		return true;
	if (!owner || owner->kind != OBJECT_POD)
		return false;
	snprintf(name, sizeof(name), "%s/%s", owner->namespace, owner->name);
	return strcmp(name, pod) == 0;
}

/* ---- the stream ------------------------------------------------------------------------------ */

static bool was_seen(const cJSON *line, const char *how)
{
	const cJSON *seen;

	cJSON_ArrayForEach (seen, cli_member(line, "seen")) {
		if (cJSON_IsString(seen) && strcmp(seen->valuestring, how) == 0)
			return true;
	}
	return false;
}

static int flow_line(const cJSON *line, struct cli_flows *flows)
{
	const cJSON *port = cli_member(line, "port");
	const cJSON *proto = cli_member(line, "protocolNumber");
	struct cli_flow flow = {
		.from_pod = cli_text(line, "sourcePod", NULL),
		.to_pod = cli_text(line, "destinationPod", NULL),
		.found = was_seen(line, "found"),
	};

	if (!cJSON_IsNumber(port) || !cJSON_IsNumber(proto) ||
	    addr_parse(cli_text(line, "source", ""), &flow.flow.from) ||
	    addr_parse(cli_text(line, "destination", ""), &flow.flow.to))
		return -EBADMSG;
	flow.flow.port = (uint16_t)port->valueint;
	flow.flow.proto = (uint8_t)proto->valueint;
	flow.passed = flow.found || was_seen(line, "passed");
	return flows->each(&flow, flows->arg);
}

static int stream_line(const char *text, void *arg)
{
	struct cli_flows *flows = arg;
	cJSON *line = cJSON_Parse(text);
	int ret = 0;

	if (!line)
		return -EBADMSG;
	if (cli_member(line, "end"))
		flows->incomplete = cJSON_IsTrue(cli_member(line, "incomplete"));
	else if (cli_member(line, "observing"))
		flows->begun ? flows->begun(flows->arg) : (void)0;
	else
		ret = flow_line(line, flows);
	cJSON_Delete(line);
	return ret;
}

static void on_signal(int number)
{
	(void)number; /* only interrupts the wait for the next line */
}

int cli_flows_follow(const struct arguments *args, uint32_t seconds, struct cli_flows *flows,
		     struct errmsg *err)
{
	const struct sigaction interrupt = { .sa_handler = on_signal, .sa_flags = SA_RESETHAND };
	struct sigaction old_int, old_term;
	sigset_t ending, old_mask;
	char path[64];
	int ret;

	snprintf(path, sizeof(path), "/v1/flows?seconds=%u", seconds);
	sigemptyset(&ending);
	sigaddset(&ending, SIGINT);
	sigaddset(&ending, SIGTERM);
	sigprocmask(SIG_BLOCK, &ending, &old_mask);
	sigaction(SIGINT, &interrupt, &old_int);
	sigaction(SIGTERM, &interrupt, &old_term);
	ret = http_follow(args->socket, path, stream_line, flows, err);
	sigaction(SIGINT, &old_int, NULL);
	sigaction(SIGTERM, &old_term, NULL);
	sigprocmask(SIG_SETMASK, &old_mask, NULL);
	if (ret == -EINTR) {
		*err = (struct errmsg){ 0 };
		return 0;
	}
	if (ret == -ENOENT || ret == -ECONNREFUSED)
		return fail_plain(err, ret, "no agent answers on %s: is tendrild running?",
				  args->socket);
	if (ret && !err->code)
		return fail_plain(err, ret, "the agent's answer is not what it should be");
	return ret;
}
