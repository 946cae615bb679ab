/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/objects/object_text.h"

#include <cjson/cJSON.h>
#include <string.h>

#include "lib/document.h"
#include "lib/json.h"

static const char *member_text(const cJSON *json, const char *key)
{
	return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, key));
}

/* Adds what an item of a "PodList" leaves to the list. */
static void item_complete(cJSON *item, const char *list_version, const char *list_kind)
{
	size_t len = strlen(list_kind) - strlen("List");
	char kind[64];

	if (!cJSON_IsObject(item) || len == 0 || len >= sizeof(kind))
		return;
	memcpy(kind, list_kind, len);
	kind[len] = '\0';
	if (!cJSON_GetObjectItemCaseSensitive(item, "kind"))
		cJSON_AddStringToObject(item, "kind", kind);
	if (list_version && !cJSON_GetObjectItemCaseSensitive(item, "apiVersion"))
		cJSON_AddStringToObject(item, "apiVersion", list_version);
}

/* Takes ownership of the document. */
static void items_add(cJSON *items, cJSON *document)
{
	const char *kind = member_text(document, "kind");
	size_t len = kind ? strlen(kind) : 0;
	cJSON *list;

	if (len < 4 || strcmp(kind + len - 4, "List") != 0) {
		if (cJSON_IsObject(document))
			cJSON_AddItemToArray(items, document);
		else
			cJSON_Delete(document);
		return;
	}
	list = cJSON_GetObjectItemCaseSensitive(document, "items");
	while (list && list->child) {
		cJSON *item = cJSON_DetachItemViaPointer(list, list->child);

		item_complete(item, member_text(document, "apiVersion"), kind);
		cJSON_AddItemToArray(items, item);
	}
	cJSON_Delete(document);
}

struct cJSON *object_text_items(const char *text, size_t len)
{
	auto_json cJSON *items = cJSON_CreateArray();
	struct text_error error;
	auto_json cJSON *documents = documents_parse(text, len, &error);

	if (!items || !documents)
		return NULL;
	while (documents->child)
		items_add(items, cJSON_DetachItemViaPointer(documents, documents->child));
	return take_ptr(items);
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
