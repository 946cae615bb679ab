/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The audit log: a line for each object that was applied or deleted, with who did it and the hash
 * of the object's text before and after.
 */
#ifndef TENDRIL_AGENT_OBJECTS_OBJECT_AUDIT_H
#define TENDRIL_AGENT_OBJECTS_OBJECT_AUDIT_H

#include "agent/objects/object_change.h"

struct event_base;

/* Logs a change that has an author.  Of a large one the lines are added to *later, each with its 0,
 * behind the last another one: who reads the log may be slow, and the loop must not wait for it. */
void object_audit(const struct object_change *change, char **later);

/* Writes such lines beside what the loop has to do; takes them.  NULL: none. */
void object_audit_write(struct event_base *base, char *lines);

#endif
