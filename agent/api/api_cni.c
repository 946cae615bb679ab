/* SPDX-License-Identifier: Apache-2.0 */
/* API: the plugin's calls, and the stream of events. */
#define LOG_MODULE "api"
#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include <utlist.h>

#include "agent/api/api.h"
#include "agent/endpoint/endpoint.h"
#include "agent/flow/flow_log.h"
#include "agent/monitor/monitor.h"
#include "agent/objects/object_await.h"
#include "agent/objects/objects.h"
#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/cni_code.h"
#include "lib/inet.h"
#include "lib/json.h"
#include "lib/log.h"

static int cni_http_status(int cni_code)
{
	switch (cni_code) {
	case CNI_INVALID_ENVIRONMENT:
	case CNI_DECODING_FAILURE:
	case CNI_INVALID_CONFIG:
		return 400;
	case CNI_TRY_AGAIN_LATER:
		return 503;
	default:
		return 500;
	}
}

static void cni_fail(struct api_call *call, const struct endpoint_error *error)
{
	cJSON *json = cJSON_CreateObject();
	auto_free char *text = NULL;

	cJSON_AddStringToObject(json, "error", error->text.text);
	cJSON_AddNumberToObject(json, "code", error->cni_code);
	cJSON_AddStringToObject(json, "step", error->step ? error->step : "");
	text = cJSON_PrintUnformatted(json);
	cJSON_Delete(json);
	log_warn("%s failed: %s: %s", call->request->head.path, error->step ? error->step : "-",
		 error->text.text);
	http_reply(call->exchange, cni_http_status(error->cni_code), text);
}

/* The request's body; NULL after the call was refused. */
static cJSON *cni_request(struct api_call *call, bool needs_netns)
{
	struct endpoint_error error = { .cni_code = CNI_DECODING_FAILURE, .step = "read request" };
	cJSON *json = NULL;

	if (json_parse(call->request->body, call->request->head.body_len, &json, &error.text)) {
		cni_fail(call, &error);
		return NULL;
	}
	if (!cJSON_IsObject(json)) {
		fail_plain(&error.text, -EINVAL, "the request is not an object");
	} else if (needs_netns && call->request->fd < 0) {
		error.cni_code = CNI_INVALID_ENVIRONMENT;
		fail_plain(&error.text, -EINVAL, "no network namespace was passed");
	} else {
		return json;
	}
	cJSON_Delete(json);
	cni_fail(call, &error);
	return NULL;
}

/* ---- ADD ------------------------------------------------------------------------------------- */

static void add_run(struct api_call *call, const cJSON *request, int netns_fd)
{
	struct endpoint_error error = {};
	cJSON *result = NULL;

	if (endpoints_add(call->agent->endpoints, request, netns_fd, &result, &error))
		cni_fail(call, &error);
	else
		api_reply(call, result);
}

#define WAITING_ADDS_MAX 32 /* they hold connections that others need, too */

/* An ADD whose pod is not known yet.  Nothing is wired before it is. */
struct waiting_add {
	struct api_call call;
	cJSON *request;
	int netns_fd;
	struct pod_await *await;
	struct waiting_add *prev;
	struct waiting_add *next;
};

static const char *text_get(const cJSON *object, const char *key)
{
	const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));

	return text ? text : "";
}

static void waiting_add_free(struct waiting_add *add)
{
	/* NOLINTNEXTLINE(*NullDereference): every item has one before it, the first the last */
	DL_DELETE(add->call.agent->waiting_adds, add);
	cJSON_Delete(add->request);
	close(add->netns_fd);
	free(add);
}

static void waiting_add_fail(struct waiting_add *add, const char *why)
{
	struct endpoint_error error = { .cni_code = CNI_TRY_AGAIN_LATER,
					.step = "wait for the pod" };

	fail_plain(&error.text, -EAGAIN, "%s", why);
	cni_fail(&add->call, &error);
	waiting_add_free(add);
}

static void on_awaited(const char *missing, void *arg)
{
	struct waiting_add *add = arg;

	if (missing) {
		waiting_add_fail(add, missing);
		return;
	}
	add_run(&add->call, add->request, add->netns_fd);
	waiting_add_free(add);
}

/* Of the same interface: the runtime has given it up. */
static void waiting_adds_cancel(struct agent *agent, const cJSON *request)
{
	struct waiting_add *add, *next;

	DL_FOREACH_SAFE (agent->waiting_adds, add, next) {
		if (strcmp(text_get(add->request, "containerId"),
			   text_get(request, "containerId")) != 0 ||
		    strcmp(text_get(add->request, "ifname"), text_get(request, "ifname")) != 0)
			continue;
		pod_await_cancel(add->await);
		waiting_add_fail(add, "the runtime has given it up");
	}
}

void api_cni_stop(struct agent *agent)
{
	struct waiting_add *add, *next;

	DL_FOREACH_SAFE (agent->waiting_adds, add, next) {
		pod_await_cancel(add->await);
		waiting_add_fail(add, "the agent stops");
	}
}

/* Whether it has to wait; takes request then.  A pod that no API server knows of does not. */
static bool add_waits(struct api_call *call, cJSON *request)
{
	struct agent *agent = call->agent;
	const cJSON *pod = cJSON_GetObjectItemCaseSensitive(request, "pod");
	const char *namespace = text_get(pod, "namespace"), *name = text_get(pod, "name");
	const char *uid = text_get(pod, "uid");
	struct waiting_add *add, *other;
	int count = 0;

	if (!*namespace || !*name || objects_unknown(agent->objects) ||
	    objects_pod_is_known(agent->objects, namespace, name, uid))
		return false;
	add = xcalloc(1, sizeof(*add));
	add->call = *call;
	add->request = request;
	add->netns_fd = fcntl(call->request->fd, F_DUPFD_CLOEXEC, 0);
	DL_COUNT(agent->waiting_adds, other, count);
	DL_APPEND(agent->waiting_adds, add);
	if (count >= WAITING_ADDS_MAX)
		waiting_add_fail(add, "too many pods wait for their Pod objects");
	else if (add->netns_fd < 0)
		waiting_add_fail(add, strerror(errno));
	else
		add->await =
			objects_pod_await(agent->objects, namespace, name, uid, on_awaited, add);
	return true;
}

void api_cni_add(struct api_call *call)
{
	cJSON *request = cni_request(call, true);

	if (!request)
		return;
	waiting_adds_cancel(call->agent, request);
	if (add_waits(call, request))
		return;
	add_run(call, request, call->request->fd);
	cJSON_Delete(request);
}

/* ---- the other calls ------------------------------------------------------------------------- */

void api_cni_check(struct api_call *call)
{
	auto_json cJSON *request = cni_request(call, true);
	struct endpoint_error error = {};

	if (!request)
		return;
	if (endpoints_check(call->agent->endpoints, request, call->request->fd, &error))
		cni_fail(call, &error);
	else
		api_reply(call, cJSON_CreateObject());
}

void api_cni_del(struct api_call *call)
{
	auto_json cJSON *request = cni_request(call, false);
	struct endpoint_error error = {};

	if (!request)
		return;
	waiting_adds_cancel(call->agent, request);
	if (endpoints_del(call->agent->endpoints, request, &error))
		cni_fail(call, &error);
	else
		api_reply(call, cJSON_CreateObject());
}

void api_cni_gc(struct api_call *call)
{
	auto_json cJSON *request = cni_request(call, false);
	struct endpoint_error error = {};
	cJSON *result = NULL;

	if (!request)
		return;
	if (endpoints_gc(call->agent->endpoints, request, &result, &error))
		cni_fail(call, &error);
	else
		api_reply(call, result);
}

void api_cni_status(struct api_call *call)
{
	struct endpoint_error error = {};

	if (endpoints_cni_status(call->agent->endpoints, &error))
		cni_fail(call, &error);
	else
		api_reply(call, cJSON_CreateObject());
}

/* Whether pods can be added now: what the runtime is told by the plugin's STATUS. */
void api_ready_get(struct api_call *call)
{
	struct endpoint_error error = {};

	if (endpoints_cni_status(call->agent->endpoints, &error))
		api_refuse(call, 503, "%s: %s", error.step, error.text.text);
	else
		api_reply(call, cJSON_CreateObject());
}

void api_events_follow(struct api_call *call)
{
	const char *query = call->request->head.query;
	char text[64] = "", number[16];
	unsigned int types;
	uint64_t bytes = 0;
	int ret = http_query_get(query, "type", text, sizeof(text));

	if ((ret && ret != -ENOENT) || monitor_types_parse(text, &types)) {
		api_refuse(call, 400, "type: not a list of drop, verdict, audit and kernel");
		return;
	}
	if (types & 1u << EVENT_KERNEL_DROP && *flow_log_freed_problem(call->agent->flow_log)) {
		api_refuse(call, 503, "what the kernel drops is not told: %s",
			   flow_log_freed_problem(call->agent->flow_log));
		return;
	}
	ret = http_query_get(query, "bytes", number, sizeof(number));
	if ((ret && ret != -ENOENT) || (!ret && number_parse(number, 0, EVENT_BYTES_MAX, &bytes))) {
		api_refuse(call, 400, "bytes: not a number up to %d", EVENT_BYTES_MAX);
		return;
	}
	monitor_subscribe(call->agent->monitor, call->exchange, types, (uint32_t)bytes);
}
