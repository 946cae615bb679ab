/* SPDX-License-Identifier: Apache-2.0 */
/* API: the stream of flows that are observed, the log of the last ones, and sockets. */
#include <errno.h>
#include <string.h>

#include "agent/api/api.h"
#include "agent/endpoint/endpoint.h"
#include "agent/flow/flow_log.h"
#include "agent/monitor/flows.h"
#include "agent/monitor/sockets_list.h"
#include "lib/arena.h"
#include "lib/inet.h"

#define SECONDS_MAX 86400

void api_flows_follow(struct api_call *call)
{
	char text[16] = "";
	uint64_t seconds = 0;
	int ret = http_query_get(call->request->head.query, "seconds", text, sizeof(text));

	if (!ret)
		ret = number_parse(text, 1, SECONDS_MAX, &seconds);
	if (ret && ret != -ENOENT) {
		api_refuse(call, 400, "seconds: not a number between 1 and %d", SECONDS_MAX);
		return;
	}
	flows_follow(call->agent->flows, call->exchange, (uint32_t)seconds);
}

/* The number of a parameter; false, after an answer, if it is none.  Absent: 0. */
static bool query_number(struct api_call *call, const char *name, uint64_t max, uint64_t *ret)
{
	char text[24] = "";
	int found = http_query_get(call->request->head.query, name, text, sizeof(text));

	*ret = 0;
	if (found == -ENOENT || (!found && !number_parse(text, 0, max, ret)))
		return true;
	api_refuse(call, 400, "%s: not a number between 0 and %llu", name, (unsigned long long)max);
	return false;
}

void api_flows_recent(struct api_call *call)
{
	uint64_t last, since, follow;

	if (query_number(call, "last", UINT32_MAX, &last) &&
	    query_number(call, "since", INT64_MAX, &since) &&
	    query_number(call, "follow", 1, &follow))
		flow_log_stream(call->agent->flow_log, call->exchange,
				&(struct flow_log_query){ .last = last,
							  .since_ns = (int64_t)since,
							  .follow = follow });
}

void api_sockets_list(struct api_call *call)
{
	struct agent *agent = call->agent;
	auto_buffer struct buffer out = { 0 };
	struct endpoint_info pod = { .slot = 0 };
	char name[512], *slash;
	int ret = http_query_get(call->request->head.query, "pod", name, sizeof(name));

	slash = ret ? NULL : strchr(name, '/');
	if (slash)
		*slash = '\0';
	if (ret != -ENOENT &&
	    (!slash || !endpoints_by_pod(agent->endpoints, name, slash + 1, &pod))) {
		api_refuse(call, 404, "pod: not NAMESPACE/NAME of a pod of this node");
		return;
	}
	sockets_list(agent->datapath, agent->endpoints, pod.slot, &out);
	api_reply_text(call, out.data);
}
