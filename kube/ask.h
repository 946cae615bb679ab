/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gets one pod of this node from the API server at once: an ADD waits for it, and the watch may be
 * late.
 */
#ifndef TENDRIL_KUBE_ASK_H
#define TENDRIL_KUBE_ASK_H

#include "kube/apiserver.h"

struct asks;
struct cJSON;

/* found() gets the object as the API server has it. */
struct asks *asks_new(struct apiserver *apiserver,
		      void (*found)(const struct cJSON *pod, void *arg), void *arg);
void asks_free(struct asks *asks); /* before its API server; takes NULL */

/* Ignores an answer that is still to come: the pod was deleted meanwhile. */
void asks_forget(struct asks *asks, const char *namespace, const char *name);
/* Gets a pod; ignores names that a pod cannot have. */
void asks_pod(struct asks *asks, const char *namespace, const char *name);

#endif
