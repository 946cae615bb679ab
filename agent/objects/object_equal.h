/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TENDRIL_AGENT_OBJECTS_OBJECT_EQUAL_H
#define TENDRIL_AGENT_OBJECTS_OBJECT_EQUAL_H

#include "policy/objects/object.h"

/* Whether two objects are equal, except for their sources. */
bool object_equal(const struct object *a, const struct object *b);

#endif
