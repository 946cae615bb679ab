/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replaces a policy that is not understood, because it is newer than this agent or damaged, by one
 * that denies everything.  It may deny too much, it never allows anything.
 */
#ifndef TENDRIL_AGENT_OBJECTS_OBJECT_CLOSED_H
#define TENDRIL_AGENT_OBJECTS_OBJECT_CLOSED_H

#include "policy/objects/object.h"

struct cJSON;

/* The policy is for the pods that the original selects.  If the selector is not understood, it is
 * for all pods of the namespace, or of the cluster.  NULL: it is no policy, or its name is not
 * valid. */
struct object *object_closed(enum object_kind kind, const char *namespace, const char *name,
			     const struct cJSON *original);

#endif
