/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DEL: by container and interface alone, so it needs neither the namespace nor a running agent,
 * and may be repeated.
 */
#include <cjson/cJSON.h>
#include <string.h>

#include "cni/agent.h"
#include "cni/command.h"
#include "cni/delegate.h"
#include "cni/spool.h"

int endpoint_forget(const struct netconf *conf, const struct cni_environ *env, int timeout_ms,
		    struct cni_error *err)
{
	struct cni_error spool_err = {};
	enum agent_outcome outcome;
	cJSON *request = cJSON_CreateObject();
	const struct agent_call call = {
		.socket = conf->socket,
		.path = "/v1/cni/del",
		.body = request,
		.fd = -1,
		.timeout_ms = timeout_ms,
	};
	bool left;
	int ret;

	cJSON_AddStringToObject(request, "containerId", env->container_id);
	cJSON_AddStringToObject(request, "ifname", env->ifname);
	/* First the note, then the call: see spool.h. */
	spool_put(conf->socket, env, &left, &spool_err);
	ret = agent_call(&call, NULL, &outcome, err);
	cJSON_Delete(request);
	if (!ret) {
		if (left)
			spool_remove(conf->socket, env);
		return 0;
	}
	/* An agent that lives could not do it, or has not yet: the runtime must know. */
	if (outcome != AGENT_ABSENT && outcome != AGENT_LOST)
		return ret;
	if (spool_err.code)
		*err = spool_err;
	return spool_err.code;
}

int command_del(const struct netconf *conf, const struct cni_environ *env, cJSON **ret_answer,
		struct cni_error *err)
{
	int ret;

	(void)ret_answer;
	/* ADD has refused it: there is nothing to find. */
	if (strlen(env->container_id) > CNI_CONTAINER_ID_MAX)
		return 0;
	/* The address is given back only when nothing uses it any more. */
	ret = endpoint_forget(conf, env, AGENT_TIMEOUT_MS, err);
	if (!ret && conf->ipam_type)
		ret = delegate_run(conf, env, "DEL", err);
	return ret;
}
