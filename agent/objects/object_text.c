/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/objects/object_text.h"

#include <cjson/cJSON.h>
#include <string.h>

static const char *member_text(const cJSON *json, const char *key)
{
	return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, key));
}

bool object_text_is(const struct cJSON *item, enum object_kind kind, const char *namespace,
		    const char *name)
{
	const cJSON *metadata = cJSON_GetObjectItemCaseSensitive(item, "metadata");
	const char *item_kind = member_text(item, "kind");
	const char *item_name = member_text(metadata, "name");
	const char *item_namespace = member_text(metadata, "namespace");

	if (!item_kind || strcmp(item_kind, object_kind_name(kind)) != 0 || !item_name ||
	    strcmp(item_name, name) != 0)
		return false;
	if (!*namespace) /* not a namespaced kind: whatever is written there is ignored */
		return true;
	return strcmp(item_namespace && *item_namespace ? item_namespace : "default", namespace) ==
	       0;
}

const struct cJSON *object_text_find(const struct cJSON *item, enum object_kind kind,
				     const char *namespace, const char *name)
{
	while (item && !object_text_is(item, kind, namespace, name))
		item = item->next;
	return item;
}
