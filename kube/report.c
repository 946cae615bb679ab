/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All nodes refuse the same policy, and the cluster needs one Event about it: its name comes from
 * what it says, so the second one that is created meets the first.
 */
#define LOG_MODULE "report"
#include "kube/report.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>

#include "lib/alloc.h"
#include "lib/arena.h"
#include "lib/auto.h"
#include "lib/clock.h"
#include "lib/log.h"

#define TIMEOUT_S   10
#define QUEUE_MAX   64
#define TRIES_MAX   3
#define BURST       20 /* Events at once; then one at each tick */
#define SENT_MAX    256
#define AGAIN_NS    (3600 * UINT64_C(1000000000)) /* the API server forgets Events after an hour */
#define NAME_MAX_   200                           /* of the object, within an Event's name */
#define MESSAGE_MAX 1000
#define PATCH_NS    (60 * UINT64_C(1000000000)) /* others may have reasons for another condition */

struct event_report {
	STAILQ_ENTRY(event_report) link;
	char *path;
	char *body;
	uint64_t hash;
	unsigned int tries;
};

struct sent { /* hashes of Events, and when they were taken */
	uint64_t hash;
	uint64_t at_ns;
};

#define KEY_ANNOTATION "tendril.io/wireguard-key"

struct reports {
	struct apiserver *apiserver;
	const char *node;
	bool ready;
	bool seen; /* the Node object was */
	bool up;   /* its condition says so */
	uint64_t patched_ns;
	struct apiserver_request *patch; /* under way, or NULL */
	char *key;                       /* that the Node object shall announce; or NULL */
	bool announced;                  /* it does */
	uint64_t key_ns;                 /* when it was last written */
	struct apiserver_request *key_patch;
	struct apiserver_request *post; /* of the first of the queue */
	STAILQ_HEAD(, event_report) queue;
	size_t queued;
	unsigned int tokens;
	struct sent sent[SENT_MAX];
	size_t next_sent;
};

static void time_write(char buf[32])
{
	time_t now = time(NULL);
	struct tm parts;

	gmtime_r(&now, &parts);
	strftime(buf, 32, "%Y-%m-%dT%H:%M:%SZ", &parts);
}

static int on_data(const char *data, size_t len, void *arg)
{
	(void)data;
	(void)len;
	(void)arg;
	return 0;
}

/* ---- the condition --------------------------------------------------------------------------- */

static void on_patched(const struct transfer_result *result, void *arg)
{
	struct reports *reports = arg;

	reports->patch = NULL;
	reports->up = result->status == 200;
	if (result->status == 0 || result->status >= 500) /* with the next tick */
		reports->patched_ns = 0;
	if (!reports->up && result->error != -ECANCELED)
		log_warn("condition of Node %s: %s", reports->node, result->text);
}

static const struct transfer_ops patch_ops = { .data = on_data, .done = on_patched };

static char *condition_make(void)
{
	cJSON *patch = cJSON_CreateObject();
	cJSON *conditions =
		cJSON_AddArrayToObject(cJSON_AddObjectToObject(patch, "status"), "conditions");
	cJSON *condition = cJSON_CreateObject();
	char now[32];
	char *text;

	time_write(now);
	cJSON_AddStringToObject(condition, "type", "NetworkUnavailable");
	cJSON_AddStringToObject(condition, "status", "False");
	cJSON_AddStringToObject(condition, "reason", "TendrilIsUp");
	cJSON_AddStringToObject(condition, "message", "Tendril is running on this node");
	cJSON_AddStringToObject(condition, "lastHeartbeatTime", now);
	cJSON_AddStringToObject(condition, "lastTransitionTime", now);
	cJSON_AddItemToArray(conditions, condition);
	text = cJSON_PrintUnformatted(patch);
	cJSON_Delete(patch);
	return text;
}

static void condition_write(struct reports *reports)
{
	uint64_t now = now_ns();

	if (!reports->ready || !reports->seen || reports->up || reports->patch ||
	    (reports->patched_ns && now - reports->patched_ns < PATCH_NS))
		return;
	auto_free char *path = xasprintf("/api/v1/nodes/%s/status", reports->node);
	auto_free char *body = condition_make();

	reports->patched_ns = now;
	reports->patch = apiserver_send(
		reports->apiserver,
		&(struct apiserver_write){ .method = "PATCH",
					   .path = path,
					   .type = "application/strategic-merge-patch+json",
					   .body = body },
		TIMEOUT_S, &patch_ops, reports);
}

void reports_ready(struct reports *reports)
{
	reports->ready = true;
	condition_write(reports);
}

/* ---- the key --------------------------------------------------------------------------------- */

static void on_key_patched(const struct transfer_result *result, void *arg)
{
	struct reports *reports = arg;

	reports->key_patch = NULL;
	if (result->status == 0 || result->status >= 500) /* with the next tick */
		reports->key_ns = 0;
	if (result->status != 200 && result->error != -ECANCELED)
		log_warn("annotation " KEY_ANNOTATION " of Node %s: %s", reports->node,
			 result->text);
}

static const struct transfer_ops key_ops = { .data = on_data, .done = on_key_patched };

/* By the status, as kubelets do: so no right to change the rest of the object is needed. */
static void key_write(struct reports *reports)
{
	uint64_t now = now_ns();

	if (!reports->key || !reports->seen || reports->announced || reports->key_patch ||
	    (reports->key_ns && now - reports->key_ns < PATCH_NS))
		return;
	auto_free char *path = xasprintf("/api/v1/nodes/%s/status", reports->node);
	auto_free char *body = xasprintf(
		"{\"metadata\":{\"annotations\":{\"" KEY_ANNOTATION "\":\"%s\"}}}", reports->key);

	reports->key_ns = now;
	reports->key_patch =
		apiserver_send(reports->apiserver,
			       &(struct apiserver_write){ .method = "PATCH",
							  .path = path,
							  .type = "application/merge-patch+json",
							  .body = body },
			       TIMEOUT_S, &key_ops, reports);
}

/* Characters of base64 need no escaping in JSON. */
static bool is_base64(const char *text)
{
	return *text && !text[strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
					   "0123456789+/=")];
}

void reports_key(struct reports *reports, const char *key)
{
	if (!is_base64(key))
		return;
	free(reports->key);
	reports->key = xstrdup(key);
	reports->announced = false;
	reports->key_ns = 0;
	if (reports->key_patch)
		apiserver_cancel(reports->key_patch);
	reports->key_patch = NULL;
	key_write(reports);
}

static void key_see(struct reports *reports, const cJSON *node)
{
	const cJSON *metadata = cJSON_GetObjectItemCaseSensitive(node, "metadata");
	const cJSON *annotations = cJSON_GetObjectItemCaseSensitive(metadata, "annotations");
	const char *key =
		cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(annotations, KEY_ANNOTATION));

	reports->announced = reports->key && key && strcmp(key, reports->key) == 0;
}

void reports_node(struct reports *reports, const struct cJSON *node)
{
	const cJSON *status = cJSON_GetObjectItemCaseSensitive(node, "status");
	const cJSON *condition;

	reports->seen = true;
	reports->up = false;
	cJSON_ArrayForEach (condition, cJSON_GetObjectItemCaseSensitive(status, "conditions")) {
		const char *type =
			cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(condition, "type"));
		const char *value =
			cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(condition, "status"));

		if (type && value && strcmp(type, "NetworkUnavailable") == 0)
			reports->up = strcmp(value, "False") == 0;
	}
	key_see(reports, node);
}

/* ---- Events ---------------------------------------------------------------------------------- */

static void event_report_free(struct reports *reports, struct event_report *report)
{
	STAILQ_REMOVE_HEAD(&reports->queue, link);
	reports->queued--;
	free(report->path);
	free(report->body);
	free(report);
}

/* It was not written after all. */
static void sent_forget(struct reports *reports, uint64_t hash)
{
	for (size_t i = 0; i < SENT_MAX; i++) {
		if (reports->sent[i].hash == hash)
			reports->sent[i] = (struct sent){ 0 };
	}
}

static void events_write(struct reports *reports);

static void on_posted(const struct transfer_result *result, void *arg)
{
	struct reports *reports = arg;
	struct event_report *report = STAILQ_FIRST(&reports->queue);
	bool written = result->status / 100 == 2 || result->status == 409;

	reports->post = NULL;
	if (result->error == -ECANCELED)
		return;
	if (!written)
		log_warn("Event: %s", result->text);
	/* The API server may be away or busy: the Event is tried again with the next tick. */
	if ((result->status == 0 || result->status == 429 || result->status >= 500) &&
	    ++report->tries < TRIES_MAX)
		return;
	if (!written)
		sent_forget(reports, report->hash);
	event_report_free(reports, report);
	events_write(reports);
}

static const struct transfer_ops post_ops = { .data = on_data, .done = on_posted };

static void events_write(struct reports *reports)
{
	struct event_report *report = STAILQ_FIRST(&reports->queue);

	if (!report || reports->post || reports->tokens == 0)
		return;
	reports->tokens--;
	reports->post = apiserver_send(reports->apiserver,
				       &(struct apiserver_write){ .method = "POST",
								  .path = report->path,
								  .type = "application/json",
								  .body = report->body },
				       TIMEOUT_S, &post_ops, reports);
}

/* Whether it was written a while ago, or never; it counts as written now. */
static bool is_due(struct reports *reports, uint64_t hash)
{
	uint64_t now = now_ns();

	for (size_t i = 0; i < SENT_MAX; i++) {
		if (reports->sent[i].hash == hash && now - reports->sent[i].at_ns < AGAIN_NS)
			return false;
	}
	reports->sent[reports->next_sent++ % SENT_MAX] = (struct sent){ hash, now };
	return true;
}

static const char *text_of(const cJSON *object, const char *key)
{
	const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));

	return text ? text : "";
}

/* What needs no escaping in a path. */
static bool is_name(const char *text)
{
	return !text[strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-.")];
}

static char *event_make(const struct reports *reports, const cJSON *object, const char *name,
			const char *reason, const char *message)
{
	static const char *const copied[] = { "apiVersion", "kind", "namespace", "name", "uid" };
	const char *namespace = text_of(object, "namespace");
	cJSON *event = cJSON_CreateObject();
	cJSON *metadata = cJSON_AddObjectToObject(event, "metadata");
	cJSON *involved = cJSON_AddObjectToObject(event, "involvedObject");
	cJSON *source = cJSON_AddObjectToObject(event, "source");
	char now[32], *text;

	time_write(now);
	cJSON_AddStringToObject(event, "apiVersion", "v1");
	cJSON_AddStringToObject(event, "kind", "Event");
	cJSON_AddStringToObject(metadata, "name", name);
	cJSON_AddStringToObject(metadata, "namespace", *namespace ? namespace : "default");
	for (size_t i = 0; i < ARRAY_SIZE(copied); i++) {
		if (*text_of(object, copied[i]))
			cJSON_AddStringToObject(involved, copied[i], text_of(object, copied[i]));
	}
	cJSON_AddStringToObject(source, "component", "tendril");
	cJSON_AddStringToObject(source, "host", reports->node);
	cJSON_AddStringToObject(event, "type", "Warning");
	cJSON_AddStringToObject(event, "reason", reason);
	cJSON_AddStringToObject(event, "message", message);
	cJSON_AddStringToObject(event, "firstTimestamp", now);
	cJSON_AddStringToObject(event, "lastTimestamp", now);
	cJSON_AddNumberToObject(event, "count", 1);
	text = cJSON_PrintUnformatted(event);
	cJSON_Delete(event);
	return text;
}

void reports_refused(struct reports *reports, const struct cJSON *line)
{
	const cJSON *object = cJSON_GetObjectItemCaseSensitive(line, "object");
	const char *namespace = text_of(object, "namespace");
	const char *name = text_of(object, "name");
	const char *reason = text_of(line, "reason");
	auto_buffer struct buffer content = { 0 };
	auto_free char *message = xasprintf("%.*s", MESSAGE_MAX, text_of(line, "message"));
	auto_free char *event_name = NULL;
	struct event_report *report;
	uint64_t hash;

	if (!*name || !is_name(name) || !is_name(namespace) || reports->queued == QUEUE_MAX)
		return;
	buffer_text(&content, text_of(object, "kind"));
	buffer_text(&content, text_of(object, "uid"));
	buffer_text(&content, namespace);
	buffer_text(&content, name);
	buffer_text(&content, reason);
	buffer_text(&content, message);
	hash = hash_bytes(content.data, content.len);
	if (!is_due(reports, hash))
		return;
	event_name = xasprintf("%.*s.%016" PRIx64, NAME_MAX_, name, hash);
	report = xcalloc(1, sizeof(*report));
	report->hash = hash;
	report->path =
		xasprintf("/api/v1/namespaces/%s/events", *namespace ? namespace : "default");
	report->body = event_make(reports, object, event_name, reason, message);
	STAILQ_INSERT_TAIL(&reports->queue, report, link);
	reports->queued++;
	events_write(reports);
}

/* ---- life ------------------------------------------------------------------------------------ */

void reports_tick(struct reports *reports)
{
	if (reports->tokens < BURST)
		reports->tokens++;
	condition_write(reports);
	key_write(reports);
	events_write(reports);
}

struct reports *reports_new(struct apiserver *apiserver, const char *node)
{
	struct reports *reports = xcalloc(1, sizeof(*reports));

	reports->apiserver = apiserver;
	reports->node = node;
	reports->tokens = BURST;
	STAILQ_INIT(&reports->queue);
	return reports;
}

void reports_free(struct reports *reports)
{
	if (!reports)
		return;
	if (reports->patch)
		apiserver_cancel(reports->patch);
	if (reports->post)
		apiserver_cancel(reports->post);
	if (reports->key_patch)
		apiserver_cancel(reports->key_patch);
	free(reports->key);
	while (!STAILQ_EMPTY(&reports->queue))
		event_report_free(reports, STAILQ_FIRST(&reports->queue));
	free(reports);
}
