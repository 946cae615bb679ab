/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pods that are being started wait for their Pod object, and for the pods that their policies refer
 * to.  One that started earlier could have the wrong policy.
 */
#ifndef TENDRIL_AGENT_OBJECTS_OBJECT_AWAIT_H
#define TENDRIL_AGENT_OBJECTS_OBJECT_AWAIT_H

#include <stdbool.h>

struct objects;
struct pod_await;

/* Whether nothing has to be waited for; always, where no API server is followed.  uid may be "". */
bool objects_pod_is_known(const struct objects *objects, const char *namespace, const char *name,
			  const char *uid);
/* Asks for the pod at once.  done() is called from the loop, once: when it is known (NULL), or
 * after a while with what is missing. */
struct pod_await *objects_pod_await(struct objects *objects, const char *namespace,
				    const char *name, const char *uid,
				    void (*done)(const char *missing, void *arg), void *arg);
void pod_await_cancel(struct pod_await *await); /* done() is not called */

/* After a change: looks which of them are known now. */
void kube_awaits_look(struct objects *objects);
/* Asks a new client for what is awaited. */
void kube_awaits_ask(struct objects *objects);

#endif
