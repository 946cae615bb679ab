/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/flow_stream.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "cli/agent_call.h"

bool flow_end_is(const struct store *store, const struct addr *addr, const char *pod)
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

/* ---- the stream ---- */

static bool was_seen(const cJSON *line, const char *how)
{
	const cJSON *seen;

	cJSON_ArrayForEach (seen, member_get(line, "seen")) {
		if (cJSON_IsString(seen) && strcmp(seen->valuestring, how) == 0)
			return true;
	}
	return false;
}

static int flow_line(const cJSON *line, struct flow_stream *flows)
{
	const cJSON *port = member_get(line, "port");
	const cJSON *proto = member_get(line, "protocolNumber");
	struct observed_flow flow = {
		.from_pod = member_text(line, "sourcePod", NULL),
		.to_pod = member_text(line, "destinationPod", NULL),
		.to_name = member_text(line, "destinationName", NULL),
		.found = was_seen(line, "found"),
	};

	if (!cJSON_IsNumber(port) || !cJSON_IsNumber(proto) ||
	    addr_parse(member_text(line, "source", ""), &flow.flow.from) ||
	    addr_parse(member_text(line, "destination", ""), &flow.flow.to))
		return -EBADMSG;
	flow.flow.port = (uint16_t)port->valueint;
	flow.flow.proto = (uint8_t)proto->valueint;
	flow.passed = flow.found || was_seen(line, "passed");
	return flows->each(&flow, flows->arg);
}

static int stream_line(const char *text, void *arg)
{
	struct flow_stream *flows = arg;
	cJSON *line = cJSON_Parse(text);
	int ret = 0;

	if (!line)
		return -EBADMSG;
	if (member_get(line, "end"))
		flows->incomplete = cJSON_IsTrue(member_get(line, "incomplete"));
	else if (member_get(line, "observing"))
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

int flow_stream_follow(const struct arguments *args, uint32_t seconds, struct flow_stream *flows,
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
	ret = agent_follow(args, path, stream_line, flows, err);
	sigaction(SIGINT, &old_int, NULL);
	sigaction(SIGTERM, &old_term, NULL);
	sigprocmask(SIG_SETMASK, &old_mask, NULL);
	if (ret == -EINTR) {
		*err = (struct errmsg){ 0 };
		return 0;
	}
	if (ret && !err->code)
		return fail_plain(err, ret, "the agent's answer is not understood");
	return ret;
}
