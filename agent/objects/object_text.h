/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the JSON of an object, as it was given, in a file. */
#ifndef TENDRIL_AGENT_OBJECTS_OBJECT_TEXT_H
#define TENDRIL_AGENT_OBJECTS_OBJECT_TEXT_H

#include "policy/objects/object.h"

struct cJSON;

/* Whether a JSON value (or NULL) is this object. */
bool object_text_is(const struct cJSON *item, enum object_kind kind, const char *namespace,
		    const char *name);

/* The object in a list of JSON values that begins with item (or NULL); NULL: it is not there. */
const struct cJSON *object_text_find(const struct cJSON *item, enum object_kind kind,
				     const char *namespace, const char *name);

#endif
