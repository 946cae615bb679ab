/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects of a Kubernetes API server.  tendril-kube, a process without privileges, follows the API
 * server and hands them over in batches; they are kept in memory alone, because whoever starts
 * again begins with all of them.
 */
#ifndef TENDRIL_AGENT_OBJECTS_OBJECT_KUBE_H
#define TENDRIL_AGENT_OBJECTS_OBJECT_KUBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cJSON;
struct kube_object;
struct kube_waiting;
struct object;
struct objects;

#define KUBE_ERROR_MAX 400

struct object_kube {
	bool enabled;
	struct kube_object *list;     /* of all that are in the store */
	struct kube_waiting *waiting; /* refused: another object has their name or address */
	bool freed;                   /* something was given up that others may be waiting for */
	bool begun;                   /* a client has said that everything comes */
	bool synced;                  /* everything that the API server has was handed over once */
	uint64_t heard_ns;            /* last batch; 0: none yet */
	size_t closed;                /* policies that are not understood and therefore closed */
	char problem[KUBE_ERROR_MAX]; /* of the client with its API server, or "" */
};

void object_kube_done(struct objects *objects);

/* Tries again what was refused because of another object.  Returns whether the store changed. */
bool object_kube_retry(struct objects *objects);

/* Why objects of the API server may be missing; "": all of them are known, or none are wanted. */
const char *object_kube_missing(const struct object_kube *kube);

/* The object as it was handed over, owned by the caller. */
struct cJSON *object_kube_get(const struct object *object);

#endif
