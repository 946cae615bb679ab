/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects of the API server that are not in the store: another source has given them, another
 * object has their address, or they are Pods whose Namespace is not known yet.  They wait.
 */
#ifndef TENDRIL_AGENT_OBJECTS_OBJECT_WAITING_H
#define TENDRIL_AGENT_OBJECTS_OBJECT_WAITING_H

#include "policy/objects/object.h"

struct object_kube;

/* What identifies an object, borrowed. */
struct object_ref {
	enum object_kind kind;
	const char *namespace;
	const char *name;
};

struct kube_waiting { /* in a list */
	char *json;   /* packed */
	bool stale;   /* the client has started again and has not handed it over yet */
	enum object_kind kind;
	struct kube_waiting *prev;
	struct kube_waiting *next;
	char *name;
	char namespace[];
};

void kube_waiting_add(struct object_kube *kube, const struct object_ref *ref,
		      char *text); /* takes text */
void kube_waiting_free(struct object_kube *kube, struct kube_waiting *item);
void kube_waiting_forget(struct object_kube *kube, const struct object_ref *ref);
/* Drops all of them, or only the stale ones. */
void kube_waiting_drop(struct object_kube *kube, bool only_stale);
void kube_waiting_mark(struct object_kube *kube); /* all as stale */

#endif
