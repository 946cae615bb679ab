/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Three kinds of requests: a page of a list, a watch that begins with the list ("streaming"), and a
 * watch from a resourceVersion.  Each ends in on_done(), which decides what comes next.
 * https://kubernetes.io/docs/reference/using-api/api-concepts/
 */
#define LOG_MODULE "reflector"
#include "kube/reflector.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <sys/random.h>

#include "kube/known.h"
#include "lib/alloc.h"
#include "lib/arena.h"
#include "lib/auto.h"
#include "lib/clock.h"
#include "lib/log.h"

#define PAGE_SIZE        100 /* objects; a page is parsed as a whole */
#define PAGE_TIMEOUT_S   30
#define EVENT_MAX        (8 << 20) /* of a page and of an event; etcd takes objects of 1.5 MiB */
#define WATCH_MIN_S      300 /* watches end after this and up to twice as long: not all at once */
#define BACKOFF_FIRST_MS 100
#define BACKOFF_MAX_MS   30000
#define STEADY_S         10 /* a watch that lived as long began well */

/* Whoever cannot give metadata alone gives whole objects. */
#define METADATA_AS(kind) "application/json;as=" kind ";v=v1;g=meta.k8s.io,application/json"
#define METADATA_LIST     METADATA_AS("PartialObjectMetadataList")
#define METADATA_OBJECT   METADATA_AS("PartialObjectMetadata")

enum phase { PHASE_PAGE, PHASE_STREAM, PHASE_WATCH };

struct reflector {
	struct apiserver *apiserver;
	struct apiserver_request *request; /* under way, or NULL */
	struct reflector_scope scope;
	const struct reflector_ops *ops;
	void *arg;
	struct event *timer;
	enum phase phase;
	bool pages_only; /* the server has no streaming lists */
	bool synced;
	bool listed; /* the request under way has brought the whole list */
	bool expired;
	bool progress;           /* it has brought an event */
	bool gone;               /* an optional kind that the cluster does not have */
	struct errmsg problem;   /* of the request under way */
	struct buffer text;      /* an event, or a page, that has not come whole */
	char *version;           /* watch from here; NULL: list first */
	char *next_page;         /* continue token; NULL: the first page */
	uint32_t generation;     /* of the list under way, or the last one */
	uint32_t failures;       /* in a row */
	char last_problem[1000]; /* "" while requests are answered */
	uint64_t began_ns;
	struct known_set known;
};

/* ---- what is known --------------------------------------------------------------------------- */

static void object_forget(struct reflector *reflector, const struct known *known)
{
	auto_free char *name = xstrdup(known_name(&reflector->known, known));
	char *slash = strchr(name, '/');

	*slash = '\0';
	reflector->ops->deleted(reflector->scope.resource, name, slash + 1, reflector->arg);
	known_del(&reflector->known, known);
}

static int object_key(const cJSON *object, char **ret, struct errmsg *err)
{
	const char *name = metadata_text(object, "name");

	if (!*name)
		return fail_plain(err, -EBADMSG, "an object without metadata.name");
	*ret = xasprintf("%s/%s", metadata_text(object, "namespace"), name);
	return 0;
}

static int object_changed(struct reflector *reflector, const cJSON *object, bool offered)
{
	auto_free char *key = NULL;
	struct known *known;

	if (object_key(object, &key, &reflector->problem) < 0)
		return -EBADMSG;
	if (reflector->scope.wanted && !reflector->scope.wanted(object)) {
		known = known_find(&reflector->known, key);
		if (known)
			object_forget(reflector, known);
		return 0;
	}
	known = known_add(&reflector->known, key);
	known->generation = reflector->generation;
	if (known_renew(known, metadata_text(object, "resourceVersion"), offered))
		reflector->ops->changed(reflector->scope.resource, object, reflector->arg);
	return 0;
}

static int object_deleted(struct reflector *reflector, const cJSON *object)
{
	auto_free char *key = NULL;
	const struct known *known;

	if (object_key(object, &key, &reflector->problem) < 0)
		return -EBADMSG;
	known = known_find(&reflector->known, key);
	if (known)
		object_forget(reflector, known);
	return 0;
}

/* A list is whole: what it did not bring is no more. */
static void list_end(struct reflector *reflector)
{
	const struct known *known;
	size_t pos = 0;

	while ((known = known_next(&reflector->known, &pos))) {
		if (known->generation != reflector->generation)
			object_forget(reflector, known);
	}
	reflector->listed = true;
	if (reflector->synced)
		return;
	reflector->synced = true;
	log_info("%s: %zu objects", reflector->scope.resource->name, reflector->known.table.count);
	reflector->ops->synced(reflector->scope.resource, reflector->arg);
}

static void version_set(struct reflector *reflector, const char *version)
{
	if (!*version)
		return;
	free(reflector->version);
	reflector->version = xstrdup(version);
}

/* ---- what comes ------------------------------------------------------------------------------ */

/* A Status object in the place of an event. */
static int error_event(struct reflector *reflector, const cJSON *status)
{
	const cJSON *code = cJSON_GetObjectItemCaseSensitive(status, "code");
	const char *message =
		cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(status, "message"));

	if (cJSON_IsNumber(code) && code->valuedouble == 410)
		reflector->expired = true;
	else if (reflector->phase == PHASE_STREAM && !reflector->listed)
		reflector->pages_only = true; /* etcd is too old for streaming lists */
	return fail_plain(&reflector->problem, -EPROTO, "%s", message ? message : "ERROR event");
}

/* One line of a watch: {"type": ..., "object": {...}}. */
static int event_take(struct reflector *reflector, const char *line, size_t len)
{
	cJSON *event = cJSON_ParseWithLength(line, len);
	const cJSON *object = cJSON_GetObjectItemCaseSensitive(event, "object");
	const char *type = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(event, "type"));
	int ret = 0;

	if (!type || !cJSON_IsObject(object)) {
		ret = fail_plain(&reflector->problem, -EBADMSG, "a watch event is malformed");
	} else if (strcmp(type, "ADDED") == 0 || strcmp(type, "MODIFIED") == 0) {
		ret = object_changed(reflector, object, false);
	} else if (strcmp(type, "DELETED") == 0) {
		ret = object_deleted(reflector, object);
	} else if (strcmp(type, "ERROR") == 0) {
		ret = error_event(reflector, object);
	} else if (strcmp(type, "BOOKMARK") == 0) {
		const cJSON *metadata = cJSON_GetObjectItemCaseSensitive(object, "metadata");
		const cJSON *annotations =
			cJSON_GetObjectItemCaseSensitive(metadata, "annotations");

		if (reflector->phase == PHASE_STREAM && !reflector->listed &&
		    cJSON_GetObjectItemCaseSensitive(annotations, "k8s.io/initial-events-end"))
			list_end(reflector);
	} /* types that are not known may be passed over, say the API conventions */
	reflector->progress |= ret == 0;
	/* Until a streamed list is whole there is nothing to go on from. */
	if (!ret && (reflector->phase == PHASE_WATCH || reflector->listed))
		version_set(reflector, metadata_text(object, "resourceVersion"));
	cJSON_Delete(event);
	return ret;
}

static void on_began(void *arg)
{
	struct reflector *reflector = arg;

	reflector->last_problem[0] = '\0';
}

static int on_data(const char *data, size_t len, void *arg)
{
	struct reflector *reflector = arg;
	struct buffer *text = &reflector->text;

	if (text->len + len > EVENT_MAX)
		return fail_plain(&reflector->problem, -EMSGSIZE, "an answer of more than %d bytes",
				  EVENT_MAX);
	if (reflector->phase == PHASE_PAGE) {
		buffer_add(text, data, len);
		return 0;
	}
	while (len > 0) {
		const char *end = memchr(data, '\n', len);
		size_t part = end ? (size_t)(end - data) + 1 : len;
		int ret;

		if (!end || text->len > 0)
			buffer_add(text, data, part);
		if (!end)
			return 0;
		ret = text->len > 0 ? event_take(reflector, text->data, text->len)
				    : event_take(reflector, data, part);
		text->len = 0;
		if (ret)
			return ret;
		data += part;
		len -= part;
	}
	return 0;
}

static int page_take(struct reflector *reflector)
{
	cJSON *page = cJSON_ParseWithLength(reflector->text.data ? reflector->text.data : "",
					    reflector->text.len);
	const cJSON *items = cJSON_GetObjectItemCaseSensitive(page, "items");
	const char *next = metadata_text(page, "continue");
	const cJSON *item;
	int ret = 0;

	if (!cJSON_IsArray(items) && !cJSON_IsNull(items)) {
		cJSON_Delete(page);
		return fail_plain(&reflector->problem, -EBADMSG, "the list is malformed");
	}
	cJSON_ArrayForEach (item, items) {
		ret = object_changed(reflector, item, false);
		if (ret)
			break;
	}
	free(reflector->next_page);
	reflector->next_page = NULL;
	if (!ret && *next) {
		reflector->next_page = xstrdup(next);
	} else if (!ret) {
		version_set(reflector, metadata_text(page, "resourceVersion"));
		list_end(reflector);
	}
	cJSON_Delete(page);
	return ret;
}

/* ---- requests -------------------------------------------------------------------------------- */

static uint32_t random_below(uint32_t limit)
{
	uint32_t value = 0;

	if (getrandom(&value, sizeof(value), 0) < 0)
		value = (uint32_t)now_ns();
	return value % limit;
}

static void next_schedule(struct reflector *reflector, uint32_t delay_ms)
{
	struct timeval delay = { .tv_sec = delay_ms / 1000, .tv_usec = delay_ms % 1000 * 1000 };

	event_add(reflector->timer, &delay);
}

/* Doubles with each failure and is spread over as much again, so that nodes do not come at once. */
static uint32_t backoff_ms(const struct reflector *reflector, uint32_t retry_after_s)
{
	uint32_t doublings = reflector->failures > 9 ? 8 : reflector->failures - 1;
	uint32_t ms = BACKOFF_FIRST_MS << doublings;

	if (ms > BACKOFF_MAX_MS / 2)
		ms = BACKOFF_MAX_MS / 2;
	if (ms < retry_after_s * 1000)
		ms = retry_after_s * 1000;
	return ms + random_below(ms);
}

/* The list has to be asked for anew; what is known stays until the new one says otherwise. */
static void list_again(struct reflector *reflector)
{
	free(reflector->version);
	reflector->version = NULL;
	free(reflector->next_page);
	reflector->next_page = NULL;
	reflector->pages_only = false; /* the server may be a newer one */
}

/* The cluster has no such kind, or has it no longer: all objects of it are gone. */
static void kind_is_missing(struct reflector *reflector)
{
	if (!reflector->gone)
		log_info("%s: this cluster does not have them", reflector->scope.resource->name);
	reflector->gone = true;
	reflector->failures = 0; /* this was an answer */
	reflector->last_problem[0] = '\0';
	reflector->generation++;
	list_again(reflector);
	list_end(reflector);
	next_schedule(reflector, BACKOFF_MAX_MS + random_below(BACKOFF_MAX_MS));
}

static void on_done(const struct transfer_result *result, void *arg)
{
	struct reflector *reflector = arg;
	bool steady =
		reflector->progress || now_ns() - reflector->began_ns > STEADY_S * 1000000000ull;
	bool ended = result->error == 0 && result->status == 200;
	const char *why = *reflector->problem.text ? reflector->problem.text : result->text;

	reflector->request = NULL;
	if (result->error == -ECANCELED)
		return;
	if (ended && reflector->phase == PHASE_PAGE && page_take(reflector) < 0) {
		ended = false;
		why = reflector->problem.text;
	}
	buffer_done(&reflector->text); /* a page may be large */
	reflector->text = (struct buffer){ 0 };
	if (reflector->scope.resource->optional && result->status == 404) {
		kind_is_missing(reflector);
		return;
	}
	if (result->status == 410 || reflector->expired)
		list_again(reflector);
	/* A server without streaming lists refuses their parameters. */
	if (reflector->phase == PHASE_STREAM && (result->status == 400 || result->status == 422))
		reflector->pages_only = true;
	if (reflector->phase == PHASE_STREAM && reflector->pages_only) {
		next_schedule(reflector, 0);
		return;
	}
	/* Watches end after their time; that is no failure, unless it happens over and over. */
	if (ended && (reflector->phase == PHASE_PAGE || reflector->listed || steady)) {
		reflector->failures = 0;
		reflector->gone = false;
		next_schedule(reflector, 0);
		return;
	}
	if (steady)
		reflector->failures = 0;
	reflector->failures++;
	snprintf(reflector->last_problem, sizeof(reflector->last_problem), "%s: %s: %s",
		 reflector->scope.resource->name, apiserver_address(reflector->apiserver),
		 *why ? why : "the watch ended");
	/* Connections break now and then; the first failure of a running watch says little. */
	if (reflector->failures > 1 || !reflector->synced || *reflector->problem.text)
		log_warn("%s", reflector->last_problem);
	next_schedule(reflector, backoff_ms(reflector, result->retry_after_s));
}

static const struct transfer_ops request_ops = { .began = on_began,
						 .data = on_data,
						 .done = on_done };

/* Tokens of the server are opaque: they may hold anything. */
static void parameter_add(struct buffer *path, const char *name, const char *value)
{
	char *escaped = curl_easy_escape(NULL, value, 0);

	if (!escaped)
		out_of_memory(strlen(value));
	buffer_print(path, "&%s=%s", name, escaped);
	curl_free(escaped);
}

/* "/api/v1/pods", or "/api/v1/namespaces/shop/pods". */
static void path_add(struct buffer *path, const struct reflector_scope *scope)
{
	const struct resource *resource = scope->resource;
	size_t parent_len = strlen(resource->path) - strlen(resource->name);

	if (scope->namespace)
		buffer_print(path, "%.*snamespaces/%s/%s", (int)parent_len, resource->path,
			     scope->namespace, resource->name);
	else
		buffer_string(path, resource->path);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct reflector *reflector = arg;
	const struct resource *resource = reflector->scope.resource;
	bool metadata_only = resource->metadata_only;
	uint32_t timeout_s = WATCH_MIN_S + random_below(WATCH_MIN_S);
	auto_buffer struct buffer path = { 0 };

	(void)fd;
	(void)what;
	reflector->phase = reflector->version      ? PHASE_WATCH
			   : reflector->pages_only ? PHASE_PAGE
						   : PHASE_STREAM;
	if (reflector->phase != PHASE_WATCH && !reflector->next_page)
		reflector->generation++;
	reflector->listed = false;
	reflector->expired = false;
	reflector->progress = false;
	reflector->problem = (struct errmsg){ 0 };
	reflector->began_ns = now_ns();

	path_add(&path, &reflector->scope);
	if (reflector->phase == PHASE_PAGE) {
		timeout_s = PAGE_TIMEOUT_S;
		buffer_print(&path, "?limit=%d", PAGE_SIZE);
		if (reflector->next_page)
			parameter_add(&path, "continue", reflector->next_page);
	} else {
		buffer_print(&path, "?watch=1&allowWatchBookmarks=true&timeoutSeconds=%u",
			     timeout_s);
		timeout_s += PAGE_TIMEOUT_S; /* the server should have ended it before */
		if (reflector->phase == PHASE_WATCH)
			parameter_add(&path, "resourceVersion", reflector->version);
		else
			buffer_string(&path, "&sendInitialEvents=true&"
					     "resourceVersionMatch=NotOlderThan");
	}
	if (resource->label_selector)
		buffer_print(&path, "&labelSelector=%s", resource->label_selector);
	if (reflector->scope.query)
		buffer_print(&path, "&%s", reflector->scope.query);
	reflector->request = apiserver_get(reflector->apiserver, path.data,
					   !metadata_only                   ? NULL
					   : reflector->phase == PHASE_PAGE ? METADATA_LIST
									    : METADATA_OBJECT,
					   timeout_s, &request_ops, reflector);
}

/* ---- life ------------------------------------------------------------------------------------ */

DEFINE_AUTO(reflector)

int reflector_new(struct event_base *base, struct apiserver *apiserver,
		  const struct reflector_scope *scope, const struct reflector_ops *ops, void *arg,
		  struct reflector **ret, struct errmsg *err)
{
	auto_(reflector) struct reflector *reflector = xcalloc(1, sizeof(*reflector));

	known_init(&reflector->known);
	reflector->apiserver = apiserver;
	reflector->scope = *scope;
	reflector->ops = ops;
	reflector->arg = arg;
	reflector->timer = event_new(base, -1, 0, on_timer, reflector);
	if (!reflector->timer)
		return fail(err, -ENOMEM, "follow %s", scope->resource->name);
	next_schedule(reflector, 0);
	*ret = take_ptr(reflector);
	return 0;
}

void reflector_free(struct reflector *reflector)
{
	if (!reflector)
		return;
	if (reflector->request)
		apiserver_cancel(reflector->request);
	known_done(&reflector->known);
	if (reflector->timer)
		event_free(reflector->timer);
	buffer_done(&reflector->text);
	free(reflector->version);
	free(reflector->next_page);
	free(reflector);
}

void reflector_end(struct reflector *reflector)
{
	const struct known *known;
	size_t pos = 0;

	while ((known = known_next(&reflector->known, &pos)))
		object_forget(reflector, known);
	reflector_free(reflector);
}

void reflector_offer(struct reflector *reflector, const struct cJSON *object)
{
	object_changed(reflector, object, true);
}

bool reflector_has(const struct reflector *reflector, const char *namespace, const char *name)
{
	auto_free char *key = xasprintf("%s/%s", namespace, name);

	return known_find(&reflector->known, key) != NULL;
}

const char *reflector_problem(const struct reflector *reflector)
{
	return reflector->failures > 1 ? reflector->last_problem : "";
}

bool reflector_is_synced(const struct reflector *reflector)
{
	return reflector->synced;
}
