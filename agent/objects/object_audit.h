/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The audit log: a line for each object that was applied or deleted, with who did it and the hash
 * of the object's text before and after.
 */
#ifndef TENDRIL_AGENT_OBJECTS_OBJECT_AUDIT_H
#define TENDRIL_AGENT_OBJECTS_OBJECT_AUDIT_H

#include "agent/objects/object_change.h"

struct event_base;

/* Logs a change that has an author.  The lines of a large change are added to *later, each with its
 * NUL and another NUL after the last: a reader of the log may be slow, and the loop must not wait.
 */
void object_audit(const struct object_change *change, char **later);

/* Writes these lines without blocking the loop, and frees them.  NULL: none. */
void object_audit_write(struct event_base *base, char *lines);

#endif
