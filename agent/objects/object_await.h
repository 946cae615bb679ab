/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ADDs that wait for their Pod object, and for the pods that its policies refer to.  Without
 * waiting a pod could start with the wrong policy.
 */
#ifndef TENDRIL_AGENT_OBJECTS_OBJECT_AWAIT_H
#define TENDRIL_AGENT_OBJECTS_OBJECT_AWAIT_H

#include <stdbool.h>

struct objects;
struct pod_await;

/* Whether the ADD need not wait; always true if no API server is followed.  uid may be "". */
bool objects_pod_is_known(const struct objects *objects, const char *namespace, const char *name,
			  const char *uid);
/* Asks for the pod at once.  The loop calls done() once: with NULL when the pod is known, or after
 * some time with what is missing. */
struct pod_await *objects_pod_await(struct objects *objects, const char *namespace,
				    const char *name, const char *uid,
				    void (*done)(const char *missing, void *arg), void *arg);
void pod_await_cancel(struct pod_await *await); /* done() is not called */

/* Called after a change: ends the waiting for pods that are known now. */
void kube_awaits_look(struct objects *objects);
/* Asks a new client for all pods that ADDs wait for. */
void kube_awaits_ask(struct objects *objects);

#endif
