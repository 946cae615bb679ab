/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TENDRIL_AGENT_OBJECTS_OBJECT_EQUAL_H
#define TENDRIL_AGENT_OBJECTS_OBJECT_EQUAL_H

#include "policy/objects/object.h"

/* Whether two objects say the same; where they come from does not count. */
bool object_equal(const struct object *a, const struct object *b);

#endif
