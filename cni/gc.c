/* SPDX-License-Identifier: Apache-2.0 */
/* GC: the agent drops this network's endpoints that the runtime does not list, then the IPAM
 * plugin its reservations. */
#include <cjson/cJSON.h>

#include "cni/agent.h"
#include "cni/command.h"
#include "cni/delegate.h"

int command_gc(const struct netconf *conf, const struct cni_environ *env, cJSON **ret_answer,
	       struct cni_error *err)
{
	struct agent_call call = {
		.socket = conf->socket,
		.path = "/v1/cni/gc",
		.fd = -1,
		.timeout_ms = AGENT_TIMEOUT_MS,
		.retry_ms = AGENT_RESTART_MS,
	};
	enum agent_outcome outcome;
	cJSON *attachments, *request;
	int ret;

	(void)ret_answer;
	ret = netconf_attachments(conf, &attachments, err);
	if (ret)
		return ret;
	request = cJSON_CreateObject();
	cJSON_AddStringToObject(request, "network", conf->name);
	cJSON_AddItemToObject(request, "validAttachments", attachments);
	call.body = request;
	ret = agent_call(&call, NULL, &outcome, err);
	cJSON_Delete(request);
	if (!ret && conf->ipam_type)
		ret = delegate_run(conf, env, "GC", err);
	return ret;
}
