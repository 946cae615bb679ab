/* SPDX-License-Identifier: Apache-2.0 */
#include "cni/agent.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdint.h>
#include <time.h>

#include "lib/auto.h"
#include "lib/clock.h"
#include "lib/http.h"

#define RETRY_PACE_MS 20

static enum agent_outcome outcome_of(int error)
{
	switch (-error) {
	case 0:
		return AGENT_ANSWERED;
	case ENOENT:
	case ENOTDIR:
	case ECONNREFUSED:
		return AGENT_ABSENT;
	case ECONNRESET:
	case EPIPE:
		return AGENT_LOST;
	default:
		return AGENT_UNCLEAR;
	}
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
			  enum agent_outcome outcome, struct cni_error *err)
{
	if (outcome != AGENT_UNCLEAR)
		cni_fail(err, CNI_TRY_AGAIN_LATER,
			 "the agent is not running: nothing answers on %s", call->socket);
	else if (fault->code == -ETIMEDOUT)
		cni_fail(err, CNI_TRY_AGAIN_LATER, "the agent did not answer within %d ms",
			 call->timeout_ms);
	else
		cni_fail(err, CNI_IO_FAILURE, "cannot talk to the agent on %s", call->socket);
	return cni_details(err, "%s", fault->text);
}

/* Every call may be repeated, so one that was cut short is. */
int agent_call(const struct agent_call *call, cJSON **ret_answer, enum agent_outcome *ret_outcome,
	       struct cni_error *err)
{
	const struct timespec pace = { .tv_nsec = RETRY_PACE_MS * 1000000L };
	auto_free char *body = cJSON_PrintUnformatted(call->body);
	int64_t deadline = now_ms() + call->retry_ms;
	bool lost = false;

	for (;;) {
		struct http_response response = {};
		struct errmsg fault = {};
		int error = http_call(call->socket, "POST", call->path, body, call->fd,
				      call->timeout_ms, &response, &fault);
		enum agent_outcome outcome = outcome_of(error);
		bool again = outcome == AGENT_ABSENT || outcome == AGENT_LOST;
		int ret;

		if (error) {
			ret = failure_report(call, &fault, outcome, err);
		} else {
			again = response.status == 503;
			ret = answer_read(&response, ret_answer, err);
			http_response_done(&response);
		}
		lost |= outcome == AGENT_LOST;
		if (!again || now_ms() >= deadline) {
			*ret_outcome = outcome == AGENT_ABSENT && lost ? AGENT_LOST : outcome;
			return ret;
		}
		nanosleep(&pace, NULL);
	}
}
