/* SPDX-License-Identifier: Apache-2.0 */
#define LOG_MODULE "feed"
#include "kube/feed.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <event2/event.h>
#include <malloc.h>

#include "kube/transfer.h"
#include "lib/alloc.h"
#include "lib/arena.h"
#include "lib/auto.h"
#include "lib/log.h"
#include "lib/table.h"

/* Keys are names of objects: nobody can choose such that collide. */
#define HASH_FUNCTION(key, len, hash) ((hash) = (unsigned int)table_hash(key, len))
#include <uthash.h>

#define BATCH_MAX                                                                       \
	(256 << 10) /* bytes, one object more: the agent's loop is not held up for long \
		     */
#define ANSWER_MAX   (1 << 20)
#define QUESTION_MAX (1 << 20)
#define TIMEOUT_S    60 /* when everything is known, a busy node writes all maps in one go */

struct pending { /* in the order in which they came first */
	UT_hash_handle hh;
	char *line;
	char key[]; /* "Kind/namespace/name"; "SYNCED", "STATUS" */
};

struct feed {
	struct transfers *transfers;
	struct feed_options options;
	struct event *wake; /* sends what the events of one turn of the loop have brought */
	struct pending *pending;
	struct buffer body; /* of the request under way */
	struct buffer answer;
	struct buffer question; /* a line that has not come whole */
	bool begun;             /* the agent was told that everything comes anew */
	bool sending;
	bool large; /* so much was sent that memory is to be given back */
	bool failed;
};

/* ---- what waits ------------------------------------------------------------------------------ */

static void pending_free(struct feed *feed, struct pending *pending)
{
	/* NOLINTNEXTLINE(*Malloc): it is out of the list by then */
	HASH_DEL(feed->pending, pending);
	free(pending->line);
	free(pending);
}

/* Takes line. */
/* NOLINTNEXTLINE(*readability-function-size): the macros of uthash */
static void pending_set(struct feed *feed, const char *key, char *line)
{
	const struct timeval now = { 0 };
	struct pending *pending;

	HASH_FIND_STR(feed->pending, key, pending);
	if (!pending) {
		pending = xcalloc(1, sizeof(*pending) + strlen(key) + 1);
		memcpy(pending->key, key, strlen(key) + 1);
		HASH_ADD_STR(feed->pending, key, pending);
	}
	free(pending->line);
	pending->line = line;
	if (!feed->sending && !feed->failed)
		event_add(feed->wake, &now);
}

/* Takes object. */
static char *line_make(const char *type, cJSON *object)
{
	cJSON *event = cJSON_CreateObject();
	char *line;

	cJSON_AddStringToObject(event, "type", type);
	if (object)
		cJSON_AddItemToObject(event, "object", object);
	line = cJSON_PrintUnformatted(event);
	if (!line)
		out_of_memory(0);
	cJSON_Delete(event);
	return line;
}

void feed_put(struct feed *feed, const struct resource *resource, const struct cJSON *object)
{
	auto_free char *key =
		xasprintf("%s/%s/%s", resource->kind, metadata_text(object, "namespace"),
			  metadata_text(object, "name"));

	pending_set(feed, key, line_make("MODIFIED", resource_reduce(resource, object)));
}

void feed_delete(struct feed *feed, const struct resource *resource, const char *namespace,
		 const char *name)
{
	auto_free char *key = xasprintf("%s/%s/%s", resource->kind, namespace, name);
	cJSON *object = cJSON_CreateObject();
	cJSON *metadata = cJSON_AddObjectToObject(object, "metadata");

	cJSON_AddStringToObject(object, "kind", resource->kind);
	cJSON_AddStringToObject(metadata, "namespace", namespace);
	cJSON_AddStringToObject(metadata, "name", name);
	pending_set(feed, key, line_make("DELETED", object));
}

void feed_status(struct feed *feed, const char *problem)
{
	cJSON *object = cJSON_CreateObject();

	cJSON_AddStringToObject(object, "problem", problem);
	pending_set(feed, "STATUS", line_make("STATUS", object));
}

void feed_synced(struct feed *feed)
{
	pending_set(feed, "SYNCED", line_make("SYNCED", NULL));
}

/* NOLINTNEXTLINE(*readability-function-size): the macros of uthash */
void feed_known(struct feed *feed, double number)
{
	cJSON *object = cJSON_CreateObject();
	struct pending *former;

	/* It goes behind the objects that it speaks of. */
	HASH_FIND_STR(feed->pending, "KNOWN", former);
	if (former)
		pending_free(feed, former);
	cJSON_AddNumberToObject(object, "number", number);
	pending_set(feed, "KNOWN", line_make("KNOWN", object));
}

/* ---- requests -------------------------------------------------------------------------------- */

static void feed_fail(struct feed *feed, const char *why)
{
	if (feed->failed)
		return;
	feed->failed = true;
	feed->options.lost(why, feed->options.arg);
}

static int on_data(const char *data, size_t len, void *arg)
{
	struct feed *feed = arg;

	if (feed->answer.len + len > ANSWER_MAX)
		return -EMSGSIZE;
	buffer_add(&feed->answer, data, len);
	return 0;
}

/* The agent names the objects that it cannot take; it has dealt with them safely. */
static void refusals_log(const struct feed *feed)
{
	cJSON *answer = feed->answer.len > 0
				? cJSON_ParseWithLength(feed->answer.data, feed->answer.len)
				: NULL;
	const cJSON *refused = cJSON_GetObjectItemCaseSensitive(answer, "refused");
	const cJSON *item;

	cJSON_ArrayForEach (item, refused) {
		const char *text =
			cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, "error"));

		log_warn("%s", text ? text : "an object was refused");
	}
	cJSON_Delete(answer);
}

/* Lists take memory that changes do not. */
static void memory_return(struct feed *feed)
{
	buffer_done(&feed->body);
	feed->body = (struct buffer){ 0 };
	feed->large = false;
	malloc_trim(0);
}

static void batch_send(struct feed *feed);

static void on_done(const struct transfer_result *result, void *arg)
{
	struct feed *feed = arg;

	feed->sending = false;
	if (result->error == -ECANCELED)
		return;
	if (result->error || result->status != 200) {
		feed_fail(feed, result->text);
		return;
	}
	refusals_log(feed);
	if (feed->pending)
		batch_send(feed);
	else if (feed->large)
		memory_return(feed);
}

static const struct transfer_ops request_ops = { .data = on_data, .done = on_done };

static void reset_add(struct feed *feed)
{
	cJSON *object = cJSON_CreateObject();
	auto_free char *line = NULL;

	if (feed->options.node)
		cJSON_AddStringToObject(object, "node", feed->options.node);
	line = line_make("RESET", object);
	buffer_print(&feed->body, "%s\n", line);
}

/* A request to the agent, which has one path for this. */
static struct transfer_request request_make(const struct feed *feed)
{
	struct transfer_request request = { .easy = curl_easy_init() };

	if (!request.easy)
		out_of_memory(0);
	curl_easy_setopt(request.easy, CURLOPT_URL, "http://agent/v1/sources/kubernetes");
	curl_easy_setopt(request.easy, CURLOPT_UNIX_SOCKET_PATH, feed->options.socket_path);
	curl_easy_setopt(request.easy, CURLOPT_NOPROXY, "*");
	curl_easy_setopt(request.easy, CURLOPT_FORBID_REUSE, 1L);
	curl_easy_setopt(request.easy, CURLOPT_NOSIGNAL, 1L);
	return request;
}

static void batch_send(struct feed *feed)
{
	struct transfer_request request = request_make(feed);
	struct pending *pending, *next;

	feed->body.len = 0;
	feed->answer.len = 0;
	if (!feed->begun)
		reset_add(feed);
	feed->begun = true;
	HASH_ITER(hh, feed->pending, pending, next)
	{
		if (feed->body.len > BATCH_MAX)
			break;
		buffer_string(&feed->body, pending->line);
		buffer_string(&feed->body, "\n");
		pending_free(feed, pending);
	}
	feed->large |= feed->body.len > BATCH_MAX;
	/* "Expect: 100-continue" would cost a round trip that the agent does not offer. */
	request.headers = curl_slist_append(NULL, "Content-Type: application/json");
	request.headers = curl_slist_append(request.headers, "Expect:");
	curl_easy_setopt(request.easy, CURLOPT_TIMEOUT, (long)TIMEOUT_S);
	curl_easy_setopt(request.easy, CURLOPT_POSTFIELDSIZE, (long)feed->body.len);
	curl_easy_setopt(request.easy, CURLOPT_POSTFIELDS, feed->body.data);
	feed->sending = true;
	transfer_start(feed->transfers, &request, &request_ops, feed);
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
	struct feed *feed = arg;

	(void)fd;
	(void)what;
	if (!feed->sending && !feed->failed && feed->pending)
		batch_send(feed);
}

/* ---- questions --------------------------------------------------------------------------------
 */

static int on_question_data(const char *data, size_t len, void *arg)
{
	struct feed *feed = arg;

	while (len > 0) {
		const char *end = memchr(data, '\n', len);
		size_t part = end ? (size_t)(end - data) + 1 : len;
		cJSON *question;

		if (feed->question.len + part > QUESTION_MAX)
			return -EMSGSIZE;
		buffer_add(&feed->question, data, part);
		data += part;
		len -= part;
		if (!end)
			break;
		question = cJSON_ParseWithLength(feed->question.data, feed->question.len);
		feed->question.len = 0;
		feed->options.asked(question, feed->options.arg);
		cJSON_Delete(question);
	}
	return 0;
}

/* The stream ends with the agent. */
static void on_question_done(const struct transfer_result *result, void *arg)
{
	if (result->error != -ECANCELED)
		feed_fail(arg, *result->text ? result->text : "it asks no more");
}

static const struct transfer_ops question_ops = { .data = on_question_data,
						  .done = on_question_done };

/* ---- life ------------------------------------------------------------------------------------ */

DEFINE_AUTO(feed)

int feed_new(struct event_base *base, const struct feed_options *options, struct feed **ret,
	     struct errmsg *err)
{
	auto_(feed) struct feed *feed = xcalloc(1, sizeof(*feed));
	struct transfer_request questions;

	feed->options = *options;
	feed->wake = event_new(base, -1, 0, on_wake, feed);
	if (!feed->wake)
		return fail(err, -ENOMEM, "feed");
	if (transfers_new(base, &feed->transfers, err) < 0)
		return err->code;
	questions = request_make(feed);
	transfer_start(feed->transfers, &questions, &question_ops, feed);
	*ret = take_ptr(feed);
	return 0;
}

void feed_free(struct feed *feed)
{
	struct pending *pending, *next;

	if (!feed)
		return;
	transfers_free(feed->transfers);
	HASH_ITER(hh, feed->pending, pending, next)
	pending_free(feed, pending);
	if (feed->wake)
		event_free(feed->wake);
	buffer_done(&feed->body);
	buffer_done(&feed->answer);
	buffer_done(&feed->question);
	free(feed);
}
