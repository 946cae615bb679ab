/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/agent_call.h"

#include <cjson/cJSON.h>
#include <errno.h>

#include "lib/http.h"

#define CALL_TIMEOUT_MS 10000

/* The agent's own words for a failure: {"error": TEXT}. */
static int answer_failure(const struct http_response *response, const cJSON *json,
			  struct errmsg *err)
{
	const cJSON *text = cJSON_GetObjectItemCaseSensitive(json, "error");
	int ret = response->status == 404 ? -ENOENT : -EBADMSG;

	if (cJSON_IsString(text))
		return fail_plain(err, ret, "%s", text->valuestring);
	return fail_plain(err, ret, "the agent answered with status %d", response->status);
}

/* A socket that is not there, or that nobody listens on, means that no agent runs. */
static int call_failed(const struct arguments *args, int ret, struct errmsg *err)
{
	if (ret == -ENOENT || ret == -ECONNREFUSED)
		return fail_plain(err, ret, "no agent answers on %s: is tendrild running?",
				  args->socket);
	return ret;
}

struct request {
	const char *method;
	const char *path;
	const char *body;
	int fd; /* -1: none */
	int timeout_ms;
};

static int call(const struct arguments *args, const struct request *request, cJSON **ret_json,
		struct errmsg *err)
{
	struct http_response response = { 0 };
	cJSON *json;
	int ret;

	ret = http_call(args->socket, request->method, request->path, request->body, request->fd,
			request->timeout_ms, &response, err);
	if (ret)
		return call_failed(args, ret, err);
	json = cJSON_ParseWithLength(response.body, response.body_len);
	if (response.status >= 400)
		ret = answer_failure(&response, json, err);
	else if (!json)
		ret = fail_plain(err, -EBADMSG, "the agent's answer is not JSON");
	http_response_done(&response);
	if (ret || !ret_json) {
		cJSON_Delete(json);
		return ret;
	}
	*ret_json = json;
	return 0;
}

int agent_call(const struct arguments *args, const char *method, const char *path, const char *body,
	       cJSON **ret_json, struct errmsg *err)
{
	const struct request request = { method, path, body, -1, CALL_TIMEOUT_MS };

	return call(args, &request, ret_json, err);
}

int agent_call_fd(const struct arguments *args, const char *path, const char *body, int fd,
		  int timeout_ms, cJSON **ret_json, struct errmsg *err)
{
	const struct request request = { "POST", path, body, fd, timeout_ms };

	return call(args, &request, ret_json, err);
}

int agent_follow(const struct arguments *args, const char *path,
		 int (*each)(const char *line, void *arg), void *arg, struct errmsg *err)
{
	int ret = http_follow(args->socket, path, each, arg, err);

	return ret < 0 ? call_failed(args, ret, err) : ret;
}

const cJSON *member_get(const cJSON *object, const char *name)
{
	return cJSON_GetObjectItemCaseSensitive(object, name);
}

const char *member_text(const cJSON *object, const char *name, const char *absent)
{
	const char *value = cJSON_GetStringValue(member_get(object, name));

	return value ? value : absent;
}

double member_number(const cJSON *object, const char *name)
{
	const cJSON *value = member_get(object, name);

	return cJSON_IsNumber(value) ? value->valuedouble : 0;
}
