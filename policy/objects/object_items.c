/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/objects/object_items.h"

#include <cjson/cJSON.h>
#include <string.h>

#include "lib/document.h"
#include "policy/objects/kind.h"

static const char *member_string(const cJSON *json, const char *key)
{
	const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, key));

	return text ? text : "";
}

/* Takes ownership of the item. */
static void item_add(cJSON *items, cJSON *item)
{
	struct kind_match match;

	kind_match(member_string(item, "apiVersion"), member_string(item, "kind"), &match);
	if (match.class == KIND_READ)
		cJSON_AddItemToArray(items, item);
	else
		cJSON_Delete(item);
}

/* An item of a PodList and the like may leave out kind and apiVersion. */
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
	if (*list_version && !cJSON_GetObjectItemCaseSensitive(item, "apiVersion"))
		cJSON_AddStringToObject(item, "apiVersion", list_version);
}

/* Takes ownership of the document. */
static void document_add(cJSON *items, cJSON *document)
{
	const char *kind = member_string(document, "kind");
	size_t len = strlen(kind);
	cJSON *list;

	if (len < 4 || strcmp(kind + len - 4, "List") != 0) {
		item_add(items, document);
		return;
	}
	list = cJSON_GetObjectItemCaseSensitive(document, "items");
	while (list && list->child) {
		cJSON *item = cJSON_DetachItemViaPointer(list, list->child);

		item_complete(item, member_string(document, "apiVersion"), kind);
		item_add(items, item);
	}
	cJSON_Delete(document);
}

cJSON *object_items(const char *text, size_t len)
{
	struct text_error error;
	cJSON *documents = documents_parse(text, len, &error);
	cJSON *items;

	if (!documents)
		return NULL;
	items = cJSON_CreateArray();
	while (documents->child)
		document_add(items, cJSON_DetachItemViaPointer(documents, documents->child));
	cJSON_Delete(documents);
	return items;
}
