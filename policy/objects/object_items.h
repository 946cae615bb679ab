/* SPDX-License-Identifier: Apache-2.0 */
/* The texts of objects as they were given, for whoever stores or forwards them. */
#ifndef TENDRIL_POLICY_OBJECTS_OBJECT_ITEMS_H
#define TENDRIL_POLICY_OBJECTS_OBJECT_ITEMS_H

#include <stddef.h>

struct cJSON;

/* The objects that objects_parse() reads from a text which it accepts, in the same order, as a JSON
 * array that the caller owns (cJSON_Delete).  Lists are taken apart; their items get the kind and
 * apiVersion that the list implies.  Kinds that are not read are left out.  NULL: not such a text.
 */
struct cJSON *object_items(const char *text, size_t len);

#endif
