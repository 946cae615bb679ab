/* SPDX-License-Identifier: Apache-2.0 */
/* Routes of the API, and what all its answers share. */
#define LOG_MODULE "api"
#include "agent/api/api.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <stdarg.h>

#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/task.h"
#include "lib/text.h"

#define API_BODY_MAX       (8u << 20)
#define API_CLIENTS_MAX    64
#define API_STREAMS_MAX    32 /* the other connections are for requests: the plugin's, above all */
#define API_IDLE_MS        10000
#define API_STREAM_BACKLOG (1u << 20)
#define API_TRIM_SIZE      (256u << 10)

/* The CLI and the plugin may do everything.  A program that reads from a network has a socket with
 * just the routes it needs, in a folder of its own, which is all of RUN_DIR that it sees: whoever
 * takes it over cannot write policy or wire pods. */
enum api_socket { SOCKET_FULL, SOCKET_KUBE, SOCKET_HTTP };

#define KUBE (1u << SOCKET_KUBE)
#define HTTP (1u << SOCKET_HTTP)

static const char *const socket_names[API_SOCKETS] = {
	[SOCKET_FULL] = "tendril.sock",
	[SOCKET_KUBE] = "kube/kube.sock",
	[SOCKET_HTTP] = "http/http.sock",
};

/* "*" takes one segment.  Rows of one path follow each other. */
static const struct route {
	const char *method;
	const char *path;
	api_handler handler;
	bool is_long;         /* it may read long texts, or ask each pod: it runs as a task */
	unsigned int sockets; /* besides SOCKET_FULL */
} routes[] = {
	{ "GET", "/v1/status", api_status_get, false, 0 },
	{ "GET", "/v1/ready", api_ready_get, false, HTTP },
	{ "GET", "/v1/metrics", api_metrics_get, false, HTTP },
	{ "GET", "/v1/endpoints", api_endpoints_list, false, 0 },
	{ "GET", "/v1/endpoints/*/*", api_endpoints_get, false, 0 },
	{ "GET", "/v1/nodes", api_nodes_list, false, 0 },
	{ "GET", "/v1/nodes/*", api_nodes_get, false, 0 },
	{ "POST", "/v1/probe", api_nodes_probe, false, 0 },
	{ "POST", "/v1/key/rotate", api_key_rotate, false, 0 },
	{ "GET", "/v1/services", api_services_list, false, 0 },
	{ "GET", "/v1/services/*/*", api_services_get, false, 0 },
	{ "GET", "/v1/healthchecks", api_health_checks_get, false, HTTP },
	{ "GET", "/v1/policies", api_policies_list, false, 0 },
	{ "GET", "/v1/policies/*/*", api_policies_get, false, 0 },
	{ "GET", "/v1/identities", api_identities_list, false, 0 },
	{ "GET", "/v1/conntrack", api_conntrack_list, false, 0 },
	{ "GET", "/v1/objects", api_objects_list, true, 0 },
	{ "PUT", "/v1/objects", api_objects_put, true, 0 },
	{ "GET", "/v1/objects/*/*/*", api_objects_get, true, 0 },
	{ "DELETE", "/v1/objects/*/*/*", api_objects_del, true, 0 },
	{ "POST", "/v1/sources/kubernetes", api_kube_put, true, KUBE },
	{ "GET", "/v1/sources/kubernetes", api_kube_follow, false, KUBE },
	{ "GET", "/v1/events", api_events_follow, false, 0 },
	{ "GET", "/v1/sockets", api_sockets_list, true, 0 },
	{ "GET", "/v1/flows", api_flows_follow, false, 0 },
	{ "GET", "/v1/flows/recent", api_flows_recent, false, 0 },
	{ "POST", "/v1/cni/add", api_cni_add, false, 0 },
	{ "POST", "/v1/cni/del", api_cni_del, false, 0 },
	{ "POST", "/v1/cni/check", api_cni_check, false, 0 },
	{ "POST", "/v1/cni/gc", api_cni_gc, false, 0 },
	{ "POST", "/v1/cni/status", api_cni_status, false, 0 },
};

/* ---- answers --------------------------------------------------------------------------------- */

static void reply_text(struct api_call *call, int status, cJSON *json)
{
	auto_free char *text = cJSON_PrintUnformatted(json);

	cJSON_Delete(json);
	text_make_utf8(text); /* names and contents of files may be anything */
	http_reply(call->exchange, status, text);
	/* The tree of a large answer leaves the heap many times larger than the agent needs. */
	if (strlen(text) >= API_TRIM_SIZE)
		malloc_trim(0);
}

void api_reply(struct api_call *call, cJSON *json)
{
	reply_text(call, 200, json);
}

void api_reply_text(struct api_call *call, const char *text)
{
	http_reply(call->exchange, 200, text);
}

static void refuse_text(struct api_call *call, int status, const char *text)
{
	cJSON *json = cJSON_CreateObject();

	cJSON_AddStringToObject(json, "error", text);
	reply_text(call, status, json);
}

void api_refuse(struct api_call *call, int status, const char *fmt, ...)
{
	char text[sizeof(((struct errmsg *)NULL)->text)];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	refuse_text(call, status, text);
}

static int error_status(int code)
{
	switch (code) {
	case -EINVAL:
	case -EBADMSG:
	case -E2BIG:
		return 400;
	case -ENOENT:
		return 404;
	case -EEXIST:
	case -EPERM:
		return 409;
	case -ENOMEM:
		return 503;
	case -ENOSPC:
		return 507;
	default:
		return 500;
	}
}

void api_error(struct api_call *call, const struct errmsg *err)
{
	refuse_text(call, error_status(err->code), err->text);
}

/* ---- pieces ---------------------------------------------------------------------------------- */

cJSON *api_name_json(const char *namespace, const char *name)
{
	char text[512];

	snprintf(text, sizeof(text), "%s/%s", namespace, name);
	return cJSON_CreateString(text);
}

cJSON *api_addresses_json(const struct addr *addresses, size_t count)
{
	cJSON *array = cJSON_CreateArray();
	char text[ADDR_TEXT_MAX];

	for (size_t i = 0; i < count; i++)
		cJSON_AddItemToArray(array, cJSON_CreateString(addr_format(&addresses[i], text)));
	return array;
}

cJSON *api_labels_json(const struct labels *labels)
{
	cJSON *object = cJSON_CreateObject();

	for (size_t i = 0; labels && i < labels->count; i++)
		cJSON_AddStringToObject(object, labels->items[i].key, labels->items[i].value);
	return object;
}

/* ---- routing --------------------------------------------------------------------------------- */

/* Matches path (cut into segments in place) against a route; its "*" segments go to args. */
static bool route_matches(const char *pattern, char *path, char *args[API_ARGS_MAX])
{
	size_t count = 0;

	while (*pattern && *path) {
		char *end = strchrnul(path + 1, '/');
		size_t len = (size_t)(end - path);
		size_t pattern_len = (size_t)(strchrnul(pattern + 1, '/') - pattern);

		if (strncmp(pattern, "/*", pattern_len) == 0 && len > 1)
			args[count++] = path + 1;
		else if (pattern_len != len || memcmp(pattern, path, len) != 0)
			return false;
		pattern += pattern_len;
		path = end;
	}
	return !*pattern && !*path;
}

/* Ends each argument at the slash behind it. */
static void args_terminate(char *args[API_ARGS_MAX])
{
	for (size_t i = 0; i < API_ARGS_MAX; i++) {
		if (args[i])
			*strchrnul(args[i], '/') = '\0';
	}
}

/* A call with its path, which its arguments point into. */
struct task_call {
	struct api_call call;
	api_handler handler;
	char path[sizeof(((struct http_head *)NULL)->path)];
};

static void task_handle(void *arg)
{
	struct task_call *task = arg;

	task->handler(&task->call);
	free(task);
}

/* The request is there until it is answered, even if its client leaves. */
static void call_run(const struct api_call *call, const struct route *route, const char *path)
{
	struct task_call *task;

	if (!route->is_long) {
		struct api_call now = *call;

		route->handler(&now);
		return;
	}
	task = xcalloc(1, sizeof(*task));
	task->call = *call;
	task->handler = route->handler;
	memcpy(task->path, path, sizeof(task->path));
	for (size_t i = 0; i < API_ARGS_MAX; i++) {
		if (call->args[i])
			task->call.args[i] = task->path + (call->args[i] - path);
	}
	task_run(call->agent->base, task_handle, task);
}

static void api_handle(struct http_exchange *exchange, const struct http_request *request,
		       void *arg)
{
	const struct api_listener *listener = arg;
	struct api_call call = {
		.agent = listener->agent,
		.exchange = exchange,
		.request = request,
	};
	char path[sizeof(request->head.path)];
	const char *allowed = NULL;

	snprintf(path, sizeof(path), "%s", request->head.path);
	for (size_t i = 0; i < ARRAY_SIZE(routes); i++) {
		char *args[API_ARGS_MAX] = {};

		if (listener->id != SOCKET_FULL && !(routes[i].sockets & 1u << listener->id))
			continue;
		if (!route_matches(routes[i].path, path, args))
			continue;
		if (strcmp(request->head.method, routes[i].method) == 0) {
			memcpy(call.args, args, sizeof(args));
			args_terminate(call.args);
			call_run(&call, &routes[i], path);
			return;
		}
		allowed = routes[i].method;
	}
	if (allowed)
		api_refuse(&call, 405, "%s %s: the method is %s", request->head.method, path,
			   allowed);
	else
		api_refuse(&call, 404, "%s: no such path", path);
}

/* Makes its folder, too. */
static int socket_path(const struct agent *agent, unsigned int socket, char path[PATH_MAX],
		       struct errmsg *err)
{
	char *slash;
	int ret;

	snprintf(path, PATH_MAX, "%s/%s", agent->run_dir, socket_names[socket]);
	slash = strrchr(path, '/');
	*slash = '\0';
	ret = file_make_dir(path, 0700, err);
	*slash = '/';
	return ret;
}

int api_listen(struct agent *agent, struct errmsg *err)
{
	const struct http_limits limits = {
		.body_max = API_BODY_MAX,
		.clients = API_CLIENTS_MAX,
		.streams = API_STREAMS_MAX,
		.idle_ms = API_IDLE_MS,
		.stream_backlog = API_STREAM_BACKLOG,
	};
	char path[PATH_MAX];

	for (unsigned int i = 0; i < API_SOCKETS; i++) {
		struct api_listener *listener = &agent->listeners[i];

		listener->agent = agent;
		listener->id = i;
		if (socket_path(agent, i, path, err) < 0 ||
		    http_server_new(agent->base, path, &limits, api_handle, listener,
				    &listener->server, err) < 0)
			return err->code;
	}
	return 0;
}

void api_ensure_sockets(struct agent *agent)
{
	for (unsigned int i = 0; i < API_SOCKETS; i++) {
		struct errmsg err = {};
		char path[PATH_MAX];
		int ret = socket_path(agent, i, path, &err);

		if (!ret)
			ret = http_server_ensure_socket(agent->listeners[i].server, &err);
		if (ret < 0)
			log_error("%s", err.text);
		else if (ret > 0)
			log_warn("%s/%s was removed; put back", agent->run_dir, socket_names[i]);
	}
}

unsigned long api_slow_readers(const struct agent *agent)
{
	unsigned long count = 0;

	for (unsigned int i = 0; i < API_SOCKETS; i++)
		count += http_server_slow_readers(agent->listeners[i].server);
	return count;
}

void api_close(struct agent *agent)
{
	for (unsigned int i = 0; i < API_SOCKETS; i++)
		http_server_free(agent->listeners[i].server);
}
