/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hands objects to the agent, in batches: POST /v1/sources/kubernetes on its socket, whose body is
 * lines like those of a watch (agent/api/API.md).  One request at a time; what changes meanwhile
 * waits, and of an object only its last state.
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
	/* A line of the agent's (API.md): what it wants to know. */
	void (*asked)(const struct cJSON *question, void *arg);
	void *arg;
};

/* lost() is called once when the agent cannot be reached or refuses a batch as a whole: what it has
 * is unknown then, and only a new feed that begins with everything helps. */
int feed_new(struct event_base *base, const struct feed_options *options, struct feed **ret,
	     struct errmsg *err);
void feed_free(struct feed *feed); /* takes NULL */

void feed_put(struct feed *feed, const struct resource *resource, const struct cJSON *object);
void feed_delete(struct feed *feed, const struct resource *resource, const char *namespace,
		 const char *name);
/* How the client gets on with its API server; "": well. */
void feed_status(struct feed *feed, const char *problem);
/* Everything that the API server has was handed on: what the agent has besides is no more. */
void feed_synced(struct feed *feed);
/* So was everything of the interest that has this number. */
void feed_known(struct feed *feed, double number);

#endif
