/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hands objects to the agent in batches: POST /v1/sources/kubernetes on its socket, with lines like
 * those of a watch as body (agent/api/API.md).  There is one request at a time.  Changes wait
 * meanwhile, and only the last state of an object is sent.
 */
#ifndef TENDRIL_KUBE_FEED_H
#define TENDRIL_KUBE_FEED_H

#include "kube/resource.h"
#include "lib/errmsg.h"

struct event_base;
struct feed;

struct feed_options { /* borrowed */
	const char *socket_path;
	const char *node; /* this node's name, NULL: everything is followed, whatever the node */
	void (*lost)(const char *why, void *arg);
	/* A line of the agent (API.md) with what it asks for. */
	void (*asked)(const struct cJSON *question, void *arg);
	void *arg;
};

/* lost() is called once if the agent cannot be reached or refuses a whole batch.  Then the agent's
 * objects are unknown, and only a new feed that begins with everything helps. */
int feed_new(struct event_base *base, const struct feed_options *options, struct feed **ret,
	     struct errmsg *err);
void feed_free(struct feed *feed); /* takes NULL */

void feed_put(struct feed *feed, const struct resource *resource, const struct cJSON *object);
void feed_delete(struct feed *feed, const struct resource *resource, const char *namespace,
		 const char *name);
/* Reports a problem with the API server; "": none. */
void feed_status(struct feed *feed, const char *problem);
/* Everything that the API server has was handed over: the agent removes other objects. */
void feed_synced(struct feed *feed);
/* The same for the interest with this number. */
void feed_known(struct feed *feed, double number);

#endif
