/* SPDX-License-Identifier: Apache-2.0 */
#define LOG_MODULE "kube"
#include "agent/objects/object_await.h"

#include <event2/event.h>
#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "agent/objects/object_interest.h"
#include "agent/objects/objects_internal.h"
#include "lib/alloc.h"

struct pod_await {
	struct objects *objects;
	void (*done)(const char *missing, void *arg);
	void *arg;
	struct event *timer;
	struct pod_await *prev;
	struct pod_await *next;
	char *namespace;
	char *name;
	char *uid;
};

static bool pod_is_there(const struct objects *objects, const char *namespace, const char *name,
			 const char *uid)
{
	const struct object *pod = store_find(objects->files.store, OBJECT_POD, namespace, name);

	/* An earlier pod of the same name is another pod. */
	return pod && (!*uid || !*pod->uid || strcmp(pod->uid, uid) == 0);
}

bool objects_pod_is_known(const struct objects *objects, const char *namespace, const char *name,
			  const char *uid)
{
	return !objects->kube.enabled ||
	       (pod_is_there(objects, namespace, name, uid) && kube_interest_is_known(objects));
}

static void await_free(struct pod_await *await)
{
	DL_DELETE(await->objects->kube.awaits, await);
	event_free(await->timer);
	free(await->namespace);
	free(await->name);
	free(await->uid);
	free(await);
}

void pod_await_cancel(struct pod_await *await)
{
	await_free(await);
}

/* After a while, or because the pod is known. */
static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct pod_await *await = arg;
	struct objects *objects = await->objects;
	void (*done)(const char *missing, void *arg) = await->done;
	void *done_arg = await->arg;
	char missing[KUBE_ERROR_MAX + 700] = "";

	(void)fd;
	(void)what;
	if (!store_find(objects->files.store, OBJECT_NAMESPACE, "", await->namespace))
		snprintf(missing, sizeof(missing), "Namespace %s of pod %s/%s is not known yet%s%s",
			 await->namespace, await->namespace, await->name,
			 *objects->kube.problem ? ": " : "", objects->kube.problem);
	else if (!pod_is_there(objects, await->namespace, await->name, await->uid))
		snprintf(missing, sizeof(missing), "the API server has not shown pod %s/%s%s%s%s%s",
			 await->namespace, await->name, *await->uid ? " with uid " : "", await->uid,
			 *objects->kube.problem ? ": " : "", objects->kube.problem);
	else if (!kube_interest_is_known(objects))
		snprintf(missing, sizeof(missing),
			 "the pods that policies on pod %s/%s refer to are not known yet%s%s",
			 await->namespace, await->name, *objects->kube.problem ? ": " : "",
			 objects->kube.problem);
	await_free(await);
	done(*missing ? missing : NULL, done_arg);
}

struct pod_await *objects_pod_await(struct objects *objects, const char *namespace,
				    const char *name, const char *uid,
				    void (*done)(const char *missing, void *arg), void *arg)
{
	const struct timeval limit = { .tv_sec = objects->kube.await_s };
	struct pod_await *await = xcalloc(1, sizeof(*await));

	await->objects = objects;
	await->done = done;
	await->arg = arg;
	await->namespace = xstrdup(namespace);
	await->name = xstrdup(name);
	await->uid = xstrdup(uid);
	await->timer = event_new(objects->base, -1, 0, on_timer, await);
	if (!await->timer || event_add(await->timer, &limit) < 0)
		out_of_memory(0);
	DL_APPEND(objects->kube.awaits, await);
	if (!pod_is_there(objects, namespace, name, uid))
		kube_ask_pod(objects, namespace, name);
	return await;
}

void kube_awaits_look(struct objects *objects)
{
	struct pod_await *await;

	DL_FOREACH (objects->kube.awaits, await) {
		if (objects_pod_is_known(objects, await->namespace, await->name, await->uid))
			event_active(await->timer, EV_TIMEOUT, 0);
	}
}

void kube_awaits_ask(struct objects *objects)
{
	const struct pod_await *await;

	DL_FOREACH (objects->kube.awaits, await)
		kube_ask_pod(objects, await->namespace, await->name);
}
