/* SPDX-License-Identifier: Apache-2.0 */
/* API: the plugin's calls, and the stream of events. */
#define LOG_MODULE "api"
#include <cjson/cJSON.h>
#include <errno.h>

#include "agent/api/api.h"
#include "agent/endpoint/endpoint.h"
#include "agent/monitor/monitor.h"
#include "lib/auto.h"
#include "lib/cni_code.h"
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
	http_reply(call->exchange, cni_http_status(error->cni_code),
		   text ? text : "{\"error\":\"out of memory\",\"code\":11}");
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

void api_cni_add(struct api_call *call)
{
	auto_json cJSON *request = cni_request(call, true);
	struct endpoint_error error = {};
	cJSON *result = NULL;

	if (!request)
		return;
	if (endpoints_add(call->agent->endpoints, request, call->request->fd, &result, &error))
		cni_fail(call, &error);
	else
		api_reply(call, result);
}

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
	char text[64] = "";
	unsigned int types;
	int ret = http_query_get(call->request->head.query, "type", text, sizeof(text));

	if ((ret && ret != -ENOENT) || monitor_types_parse(text, &types)) {
		api_refuse(call, 400, "type: not a list of drop, verdict and audit");
		return;
	}
	if (monitor_subscribe(call->agent->monitor, call->exchange, types))
		api_refuse(call, 503, "out of memory");
}
