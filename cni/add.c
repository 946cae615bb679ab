/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ADD: an address from the IPAM plugin if one is named, then the agent wires the pod.  Whatever
 * fails takes back what came before it.  With "chained" the plugin before has wired it: the agent
 * guards what that made, and the result goes on as it is.
 */
#include <cjson/cJSON.h>
#include <string.h>

#include "cni/agent.h"
#include "cni/command.h"
#include "cni/delegate.h"
#include "cni/netns.h"
#include "cni/result.h"
#include "cni/spool.h"
#include "lib/auto.h"

#define UNDO_TIMEOUT_MS 1000 /* for an agent that has just been too slow */

struct add {
	const struct netconf *conf;
	const struct cni_environ *env;
	struct cni_args args;
	struct netconf_pod pod;
	int netns_fd;
	cJSON *earlier;   /* result of the plugins before us, or NULL */
	cJSON *addresses; /* with "chained": those of the interface in that result */
	cJSON *ipam;      /* result of the IPAM plugin, or NULL */
	cJSON *result;    /* the agent's */
};

/* As the first plugin of a chain there is no prevResult.  Behind plugins that made other things
 * our interface joins theirs; one that has already made this interface leaves us no place. */
static int earlier_read(struct add *add, struct cni_error *err)
{
	int ret;

	if (!add->conf->prev_result && add->conf->chained)
		return cni_fail(err, CNI_INVALID_CONFIG,
				"prevResult: missing; with \"chained\" tendril stands behind the "
				"plugin that makes the interface");
	if (!add->conf->prev_result)
		return 0;
	ret = result_parse(add->conf->prev_result, "prevResult", CNI_INVALID_CONFIG, &add->earlier,
			   err);
	if (ret)
		return ret;
	if (add->conf->chained)
		return result_addresses(add->earlier, add->env->ifname, &add->addresses, err);
	if (result_has_interface(add->earlier, add->env->ifname))
		return cni_fail(err, CNI_INVALID_CONFIG,
				"prevResult: an earlier plugin has already made %s; tendril makes "
				"the interface and must come before it in the chain, or after it "
				"with \"chained\": true",
				add->env->ifname);
	return 0;
}

static cJSON *request_new(const struct add *add)
{
	const struct cni_args *args = &add->args;
	cJSON *request = cJSON_CreateObject(), *pod, *ipam;

	cJSON_AddStringToObject(request, "containerId", add->env->container_id);
	cJSON_AddStringToObject(request, "ifname", add->env->ifname);
	cJSON_AddStringToObject(request, "netns", add->env->netns);
	cJSON_AddStringToObject(request, "network", add->conf->name);
	pod = cJSON_AddObjectToObject(request, "pod");
	if (args->pod_namespace[0])
		cJSON_AddStringToObject(pod, "namespace", args->pod_namespace);
	if (args->pod_name[0])
		cJSON_AddStringToObject(pod, "name", args->pod_name);
	if (args->pod_uid[0])
		cJSON_AddStringToObject(pod, "uid", args->pod_uid);
	cJSON_AddItemReferenceToObject(request, "labels", add->pod.labels);
	if (add->pod.ports && !add->conf->chained)
		cJSON_AddItemReferenceToObject(request, "portMappings", add->pod.ports);
	if (add->pod.mtu)
		cJSON_AddNumberToObject(request, "mtu", add->pod.mtu);
	if (add->pod.mac[0] && !add->conf->chained)
		cJSON_AddStringToObject(request, "mac", add->pod.mac);
	if (add->conf->chained) {
		cJSON_AddTrueToObject(request, "chained");
		ipam = cJSON_AddObjectToObject(request, "ipam");
		cJSON_AddItemReferenceToObject(ipam, "ips", add->addresses);
		return request;
	}
	if (!add->ipam) {
		cJSON_AddItemReferenceToObject(request, "ips", add->pod.ips);
		return request;
	}
	/* Which addresses were asked for is then the IPAM plugin's business: it has seen it all. */
	ipam = cJSON_AddObjectToObject(request, "ipam");
	cJSON_AddItemReferenceToObject(ipam, "ips", cJSON_GetObjectItem(add->ipam, "ips"));
	cJSON_AddItemReferenceToObject(ipam, "routes", cJSON_GetObjectItem(add->ipam, "routes"));
	return request;
}

static int endpoint_wire(struct add *add, struct cni_error *err)
{
	cJSON *request = request_new(add), *answer = NULL;
	struct agent_call call = {
		.socket = add->conf->socket,
		.path = "/v1/cni/add",
		.body = request,
		.fd = add->netns_fd,
		.timeout_ms = AGENT_ADD_MS,
		.retry_ms = AGENT_RESTART_MS,
	};
	enum agent_outcome outcome;
	struct cni_error ignored = {};
	int ret;

	/* What an interrupted DEL left must not hit the endpoint that is made now. */
	spool_remove(add->conf->socket, add->env);
	ret = agent_call(&call, &answer, &outcome, err);
	cJSON_Delete(request);
	if (!ret) {
		ret = result_parse(answer, "the agent's answer", CNI_AGENT_FAILED, &add->result,
				   err);
		cJSON_Delete(answer);
	} else if (outcome == AGENT_LOST || outcome == AGENT_UNCLEAR) {
		/* It may have been made, with an address that we are about to give back. */
		endpoint_forget(add->conf, add->env, UNDO_TIMEOUT_MS, &ignored);
	}
	return ret;
}

/* dns: the configuration's (or the runtime's), else the IPAM plugin's, else an earlier plugin's. */
static void result_complete(struct add *add)
{
	const cJSON *dns = add->pod.dns;

	if (!dns)
		dns = cJSON_GetObjectItemCaseSensitive(add->ipam, "dns");
	if (dns) {
		cJSON_DeleteItemFromObjectCaseSensitive(add->result, "dns");
		cJSON_AddItemToObject(add->result, "dns", cJSON_Duplicate(dns, true));
	}
	if (add->earlier)
		result_prepend(add->result, take_ptr(add->earlier));
}

/* The result of the plugins before us, as it is: also members that only they and the runtime know.
 */
static cJSON *result_hand_on(struct add *add)
{
	const cJSON *version =
		cJSON_GetObjectItemCaseSensitive(add->conf->prev_result, "cniVersion");

	if (cJSON_IsString(version) &&
	    strcmp(version->valuestring, version_text(add->conf->version)) == 0)
		return cJSON_Duplicate(add->conf->prev_result, true);
	return result_render(add->earlier, add->conf->version);
}

static int add_prepare(struct add *add, struct cni_error *err)
{
	if (strlen(add->env->container_id) > CNI_CONTAINER_ID_MAX)
		return cni_fail(err, CNI_INVALID_ENVIRONMENT,
				"CNI_CONTAINERID: longer than %d characters", CNI_CONTAINER_ID_MAX);
	return args_parse(add->env->args, &add->args, err) ?:
	       netconf_pod_load(add->conf, &add->args, &add->pod, err) ?:
	       earlier_read(add, err) ?:
	       netns_open(add->env->netns, &add->netns_fd, err);
}

static int add_perform(struct add *add, struct cni_error *err)
{
	struct cni_error ignored = {};
	int ret;

	if (add->conf->ipam_type) {
		ret = delegate_add(add->conf, add->env, &add->ipam, err);
		if (ret)
			return ret;
	}
	ret = endpoint_wire(add, err);
	if (ret && add->ipam)
		delegate_run(add->conf, add->env, "DEL", &ignored);
	return ret;
}

int command_add(const struct netconf *conf, const struct cni_environ *env, cJSON **ret_answer,
		struct cni_error *err)
{
	struct add add = { .conf = conf, .env = env, .netns_fd = -1 };
	int ret = add_prepare(&add, err) ?: add_perform(&add, err);

	if (!ret && conf->chained) {
		*ret_answer = result_hand_on(&add);
	} else if (!ret) {
		result_complete(&add);
		*ret_answer = result_render(add.result, conf->version);
	}
	netconf_pod_done(&add.pod);
	if (add.netns_fd >= 0)
		close(add.netns_fd);
	cJSON_Delete(add.earlier);
	cJSON_Delete(add.addresses);
	cJSON_Delete(add.ipam);
	cJSON_Delete(add.result);
	return ret;
}
