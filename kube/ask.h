/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asks the API server for one pod of this node at once: a pod that is being started waits for it,
 * and the watch may lag behind.
 */
#ifndef TENDRIL_KUBE_ASK_H
#define TENDRIL_KUBE_ASK_H

#include "kube/apiserver.h"

struct asks;
struct cJSON;

/* found() is handed the object as the API server has it. */
struct asks *asks_new(struct apiserver *apiserver,
		      void (*found)(const struct cJSON *pod, void *arg), void *arg);
void asks_free(struct asks *asks); /* before its API server; takes NULL */

/* An answer that is under way counts no longer: the pod was deleted meanwhile. */
void asks_forget(struct asks *asks, const char *namespace, const char *name);
/* Names that a pod cannot have are passed over. */
void asks_pod(struct asks *asks, const char *namespace, const char *name);

#endif
