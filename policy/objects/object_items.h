/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON of objects as it was given, for code that stores or forwards objects. */
#ifndef TENDRIL_POLICY_OBJECTS_OBJECT_ITEMS_H
#define TENDRIL_POLICY_OBJECTS_OBJECT_ITEMS_H

#include <stddef.h>

struct cJSON;

/* The objects that objects_parse() reads from a text, in the same order, as a JSON array that the
 * caller owns (cJSON_Delete).  Lists become their items, which get the kind and apiVersion that the
 * list implies.  Kinds that are not read are left out.  NULL: objects_parse() would not accept the
 * text. */
struct cJSON *object_items(const char *text, size_t len);

#endif
