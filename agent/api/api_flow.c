/* SPDX-License-Identifier: Apache-2.0 */
/* API: the stream of flows that are observed. */
#include <errno.h>

#include "agent/api/api.h"
#include "agent/monitor/flows.h"
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
