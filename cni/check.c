/* SPDX-License-Identifier: Apache-2.0 */
/* CHECK: the agent compares the pod with what it made, the IPAM plugin looks at its reservation. */
#include <cjson/cJSON.h>

#include "cni/agent.h"
#include "cni/command.h"
#include "cni/delegate.h"
#include "cni/netns.h"
#include "cni/result.h"
#include "lib/auto.h"

int command_check(const struct netconf *conf, const struct cni_environ *env, cJSON **ret_answer,
		  struct cni_error *err)
{
	struct agent_call call = {
		.socket = conf->socket,
		.path = "/v1/cni/check",
		.timeout_ms = AGENT_TIMEOUT_MS,
		.retry_ms = AGENT_RESTART_MS,
	};
	enum agent_outcome outcome;
	auto_close int netns_fd = -1;
	cJSON *previous, *request;
	int ret;

	(void)ret_answer;
	if (!conf->prev_result)
		return cni_fail(err, CNI_INVALID_CONFIG, "prevResult: missing; CHECK needs it");
	ret = netns_open(env->netns, &netns_fd, err);
	if (!ret && conf->ipam_type)
		ret = delegate_run(conf, env, "CHECK", err);
	if (!ret)
		ret = result_parse(conf->prev_result, "prevResult", CNI_INVALID_CONFIG, &previous,
				   err);
	if (ret)
		return ret;
	request = cJSON_CreateObject();
	cJSON_AddStringToObject(request, "containerId", env->container_id);
	cJSON_AddStringToObject(request, "ifname", env->ifname);
	cJSON_AddItemToObject(request, "prevResult", previous);
	call.body = request;
	call.fd = netns_fd;
	ret = agent_call(&call, NULL, &outcome, err);
	cJSON_Delete(request);
	return ret;
}
