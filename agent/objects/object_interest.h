/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What tendril-kube is asked, over a stream that it keeps open: the pods that are being started and
 * whose objects are missing, and which pods of other nodes the policies on this node's pods refer
 * to.
 */
#ifndef TENDRIL_AGENT_OBJECTS_OBJECT_INTEREST_H
#define TENDRIL_AGENT_OBJECTS_OBJECT_INTEREST_H

#include <stdbool.h>
#include <stdint.h>

struct objects;

/* An object has come or gone: whether that may change the interest. */
struct object;
void kube_interest_doubt(struct objects *objects, const struct object *object);
/* Works out the interest anew if it is in doubt, tells the client, and closes policies that refuse
 * pods which are not known yet; before objects_sync(). */
void kube_interest_update(struct objects *objects);
/* The client has handed over everything of the interest with this number. */
void kube_interest_known(struct objects *objects, int64_t number);
/* Whether all pods that policies on this node's pods refer to are known. */
bool kube_interest_is_known(const struct objects *objects);
/* The client has said again that everything has come. */
void kube_interest_listed(struct objects *objects);
void kube_interest_done(struct objects *objects);

/* Tells the client what is wrong with an object, for an Event; json is the object as it came. */
struct cJSON;
void kube_report_refused(struct objects *objects, const struct cJSON *json, const char *reason,
			 const char *message);

/* Asks for one pod at once. */
void kube_ask_pod(struct objects *objects, const char *namespace, const char *name);

#endif
