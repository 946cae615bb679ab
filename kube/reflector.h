/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Follows one kind of objects: lists them, watches for changes, and lists again where the watch is
 * lost.  The list is streamed (WatchList, Kubernetes 1.32 and later) or comes in pages.  Tells only
 * differences from what it told before.
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
	/* The first whole list was told. */
	void (*synced)(const struct resource *resource, void *arg);
};

/* Starts at once; query is appended to requests ("fieldSelector=..."), or NULL.  What is passed is
 * borrowed. */
int reflector_new(struct event_base *base, struct apiserver *apiserver,
		  const struct resource *resource, const char *query,
		  const struct reflector_ops *ops, void *arg, struct reflector **ret,
		  struct errmsg *err);
void reflector_free(struct reflector *reflector); /* after its API server; takes NULL */

/* Why objects of this kind may be out of date, or "". */
const char *reflector_problem(const struct reflector *reflector);

bool reflector_is_synced(const struct reflector *reflector);

#endif
