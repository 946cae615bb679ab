/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the agent asks tendril-kube for, over a stream that stays open: the missing Pod objects of
 * ADDs, and the pods of other nodes that the policies of this node's pods refer to.
 */
#ifndef TENDRIL_AGENT_OBJECTS_OBJECT_INTEREST_H
#define TENDRIL_AGENT_OBJECTS_OBJECT_INTEREST_H

#include <stdbool.h>
#include <stdint.h>

struct objects;

/* Called when an object is added or removed: checks whether that may change the interest. */
struct object;
void kube_interest_doubt(struct objects *objects, const struct object *object);
/* Computes the interest again if it may have changed, sends it to the client, and closes policies
 * that deny pods which are not known yet.  Called before objects_sync(). */
void kube_interest_update(struct objects *objects);
/* The client has handed over everything of the interest with this number. */
void kube_interest_known(struct objects *objects, int64_t number);
/* Whether all pods that the policies of this node's pods refer to are known. */
bool kube_interest_is_known(const struct objects *objects);
/* Whether the client has handed over the pods of all nodes. */
bool kube_knows_all_pods(const struct objects *objects);
/* The client has said again that it has handed over everything. */
void kube_interest_listed(struct objects *objects);
void kube_interest_done(struct objects *objects);

/* Tells the client what is wrong with an object, for an Event; json is the object as it came. */
struct cJSON;
void kube_report_refused(struct objects *objects, const struct cJSON *json, const char *reason,
			 const char *message);

/* The same of an address or port that a Service or a Pod cannot have; arg is the struct objects. */
struct service_conflict;
void kube_report_conflict(const struct service_conflict *conflict, void *arg);

/* Asks for one pod at once. */
void kube_ask_pod(struct objects *objects, const char *namespace, const char *name);

#endif
