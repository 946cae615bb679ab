/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects of a Kubernetes API server.  tendril-kube, a process without privileges, follows the API
 * server and hands them over in batches.  They are kept only in memory: after a restart of either
 * process all of them are handed over again.
 */
#ifndef TENDRIL_AGENT_OBJECTS_OBJECT_KUBE_H
#define TENDRIL_AGENT_OBJECTS_OBJECT_KUBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/objects/object_change.h"
#include "lib/wireguard_key.h"
#include "policy/objects/interest.h"

struct cJSON;
struct http_exchange;
struct kube_object;
struct kube_waiting;
struct object;
struct objects;
struct pod_await;

#define KUBE_ERROR_MAX 400

struct kube_object {
	struct object_source source; /* first: struct object's source points here */
	bool closed;                 /* the store has a policy that denies everything instead */
	bool held;                   /* the same, until the pods that it refers to are known */
	bool stale; /* the client has started again and has not handed it over yet */
	const struct object *object;
	struct kube_object *prev;
	struct kube_object *next;
	char json[]; /* packed */
};

struct object_kube {
	bool enabled;
	struct kube_object *list;     /* of all that are in the store */
	struct kube_waiting *waiting; /* objects that cannot be in the store yet */
	bool freed;                   /* a name or address is free that others may wait for */
	bool begun;                   /* a client has begun to hand over everything */
	bool listed;                  /* and has handed over everything */
	bool synced;                  /* once; with what policies on this node's pods refer to */
	uint64_t heard_ns;            /* last batch; 0: none yet */
	size_t closed;                /* policies that are not understood and therefore closed */
	char problem[KUBE_ERROR_MAX]; /* of the client with its API server, or "" */

	/* What the agent asks the client for (object_interest.c). */
	char node[254];                  /* this node's name; "": everything is followed */
	struct http_exchange *questions; /* the stream to the client, or NULL */
	struct interest wanted;          /* what policies on this node's pods refer to */
	struct interest known;           /* of that, what was handed over */
	bool ready;                      /* the agent takes pods */
	struct wireguard_key node_key;   /* what the Node object must announce; all zero: nothing */
	bool all_nodes;                  /* the agent needs them, whatever policies say */
	uint32_t number;                 /* of the interest that the client was told last */
	bool interest_in_doubt;
	struct pod_await *awaits; /* ADDs that wait for their pods */
	uint32_t await_s;         /* how long */
};

void object_kube_done(struct objects *objects);

static inline struct kube_object *kube_object_of(const struct object *object)
{
	return (struct kube_object *)object_source_of(object);
}

/* Adds an object to the store, or replaces the one with its name.  Takes object, and copies text,
 * its packed JSON.  -EPERM, -EEXIST. */
int kube_object_put(struct objects *objects, struct object *object, const char *text, bool closed,
		    struct errmsg *err);
/* Removes the objects that the client has not handed over since it started again, and for which
 * go() is true. */
void kube_objects_expire(struct objects *objects,
			 bool (*go)(const struct objects *objects, const struct object *object));

/* Tries the refused objects again.  Returns whether the store changed. */
bool object_kube_retry(struct objects *objects);

/* Why objects of the API server may be missing; "": all of them are known, or none are wanted. */
const char *object_kube_missing(const struct object_kube *kube);

/* The object as it was handed over, owned by the caller. */
struct cJSON *object_kube_get(const struct object *object);

#endif
