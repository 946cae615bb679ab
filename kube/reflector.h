/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Follows one kind of objects: lists them, watches for changes, and lists again if the watch is
 * lost.  The list is streamed (WatchList, Kubernetes 1.32 and later) or comes in pages.  Reports
 * only differences to what it reported before.
 */
#ifndef TENDRIL_KUBE_REFLECTOR_H
#define TENDRIL_KUBE_REFLECTOR_H

#include "kube/apiserver.h"
#include "kube/resource.h"

struct reflector;
struct cJSON;

struct reflector_ops {
	/* An object is new or has changed; borrowed, as the API server sent it. */
	void (*changed)(const struct resource *resource, const struct cJSON *object, void *arg);
	/* namespace is "" for cluster-scoped kinds. */
	void (*deleted)(const struct resource *resource, const char *namespace, const char *name,
			void *arg);
	/* The first complete list was reported. */
	void (*synced)(const struct resource *resource, void *arg);
};

/* Which objects of a kind. */
struct reflector_scope {
	const struct resource *resource;
	const char *namespace; /* NULL: of all */
	const char *query;     /* appended to requests ("fieldSelector=..."), or NULL */
	bool (*wanted)(const struct cJSON *object); /* other objects are ignored; or NULL */
};

/* Starts at once.  All pointers are borrowed. */
int reflector_new(struct event_base *base, struct apiserver *apiserver,
		  const struct reflector_scope *scope, const struct reflector_ops *ops, void *arg,
		  struct reflector **ret, struct errmsg *err);
void reflector_free(struct reflector *reflector); /* before its API server; takes NULL */
/* Reports all its objects as deleted and frees it.  Not from within a request's ops. */
void reflector_end(struct reflector *reflector);

/* Takes an object that was requested alone: it may be newer than the watch. */
void reflector_offer(struct reflector *reflector, const struct cJSON *object);
bool reflector_has(const struct reflector *reflector, const char *namespace, const char *name);

/* Why objects of this kind may be out of date, or "". */
const char *reflector_problem(const struct reflector *reflector);

bool reflector_is_synced(const struct reflector *reflector);

#endif
