/* SPDX-License-Identifier: Apache-2.0 */
#include "cni/agent.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdint.h>
#include <time.h>

#include "agent/lib/auto.h"
#include "agent/lib/http.h"

#define RETRY_PACE_MS 20

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* No socket, nobody behind it, or an agent that was killed at work: every call may be repeated. */
static bool error_means_absent(int error)
{
	return error == -ENOENT || error == -ECONNREFUSED || error == -ECONNRESET ||
	       error == -EPIPE;
}

/* {"error": TEXT, "code": N, "step": NAME} */
static int refusal_read(const struct http_response *response, struct cni_error *err)
{
	cJSON *json = cJSON_ParseWithLength(response->body, response->body_len);
	const cJSON *text = cJSON_GetObjectItemCaseSensitive(json, "error");
	const cJSON *code = cJSON_GetObjectItemCaseSensitive(json, "code");
	const cJSON *step = cJSON_GetObjectItemCaseSensitive(json, "step");
	/* 503: too many clients at once. */
	int status = response->status == 503 ? CNI_TRY_AGAIN_LATER : CNI_AGENT_FAILED;

	if (cJSON_IsNumber(code) && code->valueint > 0)
		status = code->valueint;
	if (cJSON_IsString(text))
		cni_fail(err, status, "%s", text->valuestring);
	else
		cni_fail(err, status, "the agent answered with status %d and no reason",
			 response->status);
	if (cJSON_IsString(step) && step->valuestring[0])
		cni_details(err, "failed step: %s", step->valuestring);
	cJSON_Delete(json);
	return status;
}

static int answer_read(const struct http_response *response, cJSON **ret_answer,
		       struct cni_error *err)
{
	cJSON *json;

	if (response->status != 200)
		return refusal_read(response, err);
	if (!ret_answer)
		return 0;
	json = cJSON_ParseWithLength(response->body, response->body_len);
	if (!json)
		return cni_fail(err, CNI_AGENT_FAILED, "the agent's answer is not JSON");
	*ret_answer = json;
	return 0;
}

static int failure_report(const struct agent_call *call, const struct errmsg *fault,
			  enum agent_outcome *ret_outcome, struct cni_error *err)
{
	if (fault->code == -ETIMEDOUT) {
		*ret_outcome = AGENT_UNKNOWN;
		cni_fail(err, CNI_TRY_AGAIN_LATER, "the agent did not answer within %d seconds",
			 AGENT_TIMEOUT_MS / 1000);
	} else if (error_means_absent(fault->code)) {
		*ret_outcome = AGENT_ABSENT;
		cni_fail(err, CNI_TRY_AGAIN_LATER,
			 "the agent is not running: nothing answers on %s", call->socket);
	} else {
		*ret_outcome = AGENT_ABSENT;
		cni_fail(err, CNI_IO_FAILURE, "cannot talk to the agent on %s", call->socket);
	}
	return cni_details(err, "%s", fault->text);
}

int agent_call(const struct agent_call *call, cJSON **ret_answer, enum agent_outcome *ret_outcome,
	       struct cni_error *err)
{
	const struct timespec pace = { .tv_nsec = RETRY_PACE_MS * 1000000L };
	auto_free char *body = cJSON_PrintUnformatted(call->body);
	int64_t deadline = now_ms() + call->retry_ms;

	for (;;) {
		struct http_response response = {};
		struct errmsg fault = {};
		int error = http_call(call->socket, "POST", call->path, body, call->fd,
				      AGENT_TIMEOUT_MS, &response, &fault);
		bool again = error ? error_means_absent(error) : response.status == 503;
		int code;

		if (error) {
			code = failure_report(call, &fault, ret_outcome, err);
		} else {
			*ret_outcome = AGENT_ANSWERED;
			code = answer_read(&response, ret_answer, err);
			http_response_done(&response);
		}
		if (!again || now_ms() >= deadline)
			return code;
		nanosleep(&pace, NULL);
	}
}
