/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The policy in the place of one that is not understood, be it newer than this agent or damaged: it
 * lets nothing through.  It may close too much, it never opens anything.
 */
#ifndef TENDRIL_AGENT_OBJECTS_OBJECT_CLOSED_H
#define TENDRIL_AGENT_OBJECTS_OBJECT_CLOSED_H

#include "policy/objects/object.h"

struct cJSON;

/* For the pods that the original selects where its selector is understood, for all of its namespace
 * (or of the cluster) where not.  NULL: it is no policy, or its name is not one. */
struct object *object_closed(enum object_kind kind, const char *namespace, const char *name,
			     const struct cJSON *original);

#endif
