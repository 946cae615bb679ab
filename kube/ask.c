/* SPDX-License-Identifier: Apache-2.0 */
#define LOG_MODULE "ask"
#include "kube/ask.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <string.h>
#include <sys/queue.h>

#include "lib/alloc.h"
#include "lib/arena.h"
#include "lib/auto.h"
#include "lib/log.h"

#define TIMEOUT_S  5
#define ANSWER_MAX (4 << 20)

struct ask {
	LIST_ENTRY(ask) link;
	struct asks *asks;
	struct apiserver_request *request;
	struct buffer answer;
	bool forgotten;
	char path[]; /* "/api/v1/namespaces/shop/pods/web" */
};

struct asks {
	struct apiserver *apiserver;
	void (*found)(const struct cJSON *pod, void *arg);
	void *arg;
	LIST_HEAD(, ask) list;
};

static void ask_free(struct ask *ask)
{
	LIST_REMOVE(ask, link);
	buffer_done(&ask->answer);
	free(ask);
}

static int on_data(const char *data, size_t len, void *arg)
{
	struct ask *ask = arg;

	if (ask->answer.len + len > ANSWER_MAX)
		return -EMSGSIZE;
	buffer_add(&ask->answer, data, len);
	return 0;
}

static void on_done(const struct transfer_result *result, void *arg)
{
	struct ask *ask = arg;
	const struct asks *asks = ask->asks;
	cJSON *pod = NULL;

	if (result->error || result->status != 200)
		log_warn("%s: %s", ask->path, result->text);
	else if (!ask->forgotten)
		pod = cJSON_ParseWithLength(ask->answer.data, ask->answer.len);
	if (pod)
		asks->found(pod, asks->arg);
	cJSON_Delete(pod);
	ask_free(ask);
}

static const struct transfer_ops ask_ops = { .data = on_data, .done = on_done };

/* What needs no escaping in a path. */
static bool is_name(const char *text)
{
	return *text && !text[strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-.")];
}

static char *path_make(const char *namespace, const char *name)
{
	return xasprintf("/api/v1/namespaces/%s/pods/%s", namespace, name);
}

void asks_pod(struct asks *asks, const char *namespace, const char *name)
{
	auto_free char *path = path_make(namespace, name);
	struct ask *ask;

	if (!is_name(namespace) || !is_name(name))
		return;
	ask = xcalloc(1, sizeof(*ask) + strlen(path) + 1);
	memcpy(ask->path, path, strlen(path) + 1);
	ask->asks = asks;
	LIST_INSERT_HEAD(&asks->list, ask, link);
	ask->request = apiserver_get(asks->apiserver, path, NULL, TIMEOUT_S, &ask_ops, ask);
}

void asks_forget(struct asks *asks, const char *namespace, const char *name)
{
	struct ask *ask;

	if (LIST_EMPTY(&asks->list))
		return;
	auto_free char *path = path_make(namespace, name);

	LIST_FOREACH(ask, &asks->list, link)
	{
		if (strcmp(ask->path, path) == 0)
			ask->forgotten = true;
	}
}

struct asks *asks_new(struct apiserver *apiserver,
		      void (*found)(const struct cJSON *pod, void *arg), void *arg)
{
	struct asks *asks = xcalloc(1, sizeof(*asks));

	asks->apiserver = apiserver;
	asks->found = found;
	asks->arg = arg;
	return asks;
}

void asks_free(struct asks *asks)
{
	struct ask *ask;

	if (!asks)
		return;
	while ((ask = LIST_FIRST(&asks->list))) {
		/* NOLINTNEXTLINE(*Malloc): ask_free() takes it off the list */
		apiserver_cancel(ask->request);
		ask_free(ask);
	}
	free(asks);
}
