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
	int code = agent_call(&call, NULL, &outcome, err);

	cJSON_Delete(request);
	/* However it fails to answer, it cannot serve ADD. */
	if (code && (outcome != AGENT_ANSWERED || code != CNI_LIMITED_CONNECTIVITY))
		err->code = code = CNI_NOT_AVAILABLE;
	return code;
}

int command_status(const struct netconf *conf, const struct cni_environ *env, cJSON **ret_answer,
		   struct cni_error *err)
{
	static const struct cni_args no_args;
	struct netconf_pod pod;
	int code;

	(void)ret_answer;
	/* A configuration that no ADD would accept. */
	code = netconf_pod_load(conf, &no_args, &pod, err);
	netconf_pod_done(&pod);
	if (!code)
		code = agent_status(conf, err);
	if (!code && conf->ipam_type)
		code = delegate_run(conf, env, "STATUS", err);
	return code;
}
