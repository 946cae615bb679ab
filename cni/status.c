/* SPDX-License-Identifier: Apache-2.0 */
/* STATUS: can an ADD succeed now? */
#include <cjson/cJSON.h>

#include "cni/agent.h"
#include "cni/command.h"
#include "cni/delegate.h"

static int agent_status(const struct netconf *conf, struct cni_error *err)
{
	cJSON *request = cJSON_CreateObject();
	const struct agent_call call = {
		.socket = conf->socket,
		.path = "/v1/cni/status",
		.body = request,
		.fd = -1,
		.timeout_ms = AGENT_TIMEOUT_MS,
	};
	enum agent_outcome outcome;
	int ret = agent_call(&call, NULL, &outcome, err);

	cJSON_Delete(request);
	/* However it fails to answer, it cannot serve ADD. */
	if (ret && (outcome != AGENT_ANSWERED || ret != CNI_LIMITED_CONNECTIVITY))
		err->code = ret = CNI_NOT_AVAILABLE;
	return ret;
}

int command_status(const struct netconf *conf, const struct cni_environ *env, cJSON **ret_answer,
		   struct cni_error *err)
{
	static const struct cni_args no_args;
	struct netconf_pod pod;
	int ret;

	(void)ret_answer;
	/* A configuration that no ADD would accept. */
	ret = netconf_pod_load(conf, &no_args, &pod, err);
	netconf_pod_done(&pod);
	if (!ret)
		ret = agent_status(conf, err);
	if (!ret && conf->ipam_type)
		ret = delegate_run(conf, env, "STATUS", err);
	return ret;
}
