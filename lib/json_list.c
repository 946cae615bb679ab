/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding the items needs no more than matching brackets outside of strings: whether what lies
 * between them is JSON is for the parser to say, which sees every byte of it.
 */
#include "lib/json_list.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "lib/auto.h"
#include "lib/yaml.h"

struct cursor {
	const char *at;
	const char *end;
};

static void skip_space(struct cursor *cursor)
{
	cursor->at += text_skip_space(cursor->at, (size_t)(cursor->end - cursor->at), 0);
}

static bool skip_char(struct cursor *cursor, char c)
{
	skip_space(cursor);
	if (cursor->at == cursor->end || *cursor->at != c)
		return false;
	cursor->at++;
	return true;
}

/* A string whose opening quote is behind the cursor. */
static bool skip_string(struct cursor *cursor)
{
	while (cursor->at < cursor->end) {
		char c = *cursor->at++;

		if (c == '"')
			return true;
		if (c == '\\' && cursor->at < cursor->end)
			cursor->at++;
	}
	return false;
}

/* Up to the bracket that closes the one behind the cursor, and past it. */
static bool skip_nested(struct cursor *cursor)
{
	size_t depth = 1;

	while (cursor->at < cursor->end) {
		switch (*cursor->at++) {
		case '"':
			if (!skip_string(cursor))
				return false;
			break;
		case '{':
		case '[':
			depth++;
			break;
		case '}':
		case ']':
			if (--depth == 0)
				return true;
			break;
		default:
			break;
		}
	}
	return false;
}

static bool skip_value(struct cursor *cursor)
{
	skip_space(cursor);
	if (cursor->at == cursor->end)
		return false;
	if (*cursor->at == '{' || *cursor->at == '[') {
		cursor->at++;
		return skip_nested(cursor);
	}
	if (*cursor->at == '"') {
		cursor->at++;
		return skip_string(cursor);
	}
	while (cursor->at < cursor->end && !strchr(",]}", *cursor->at))
		cursor->at++;
	return true;
}

/* One member; notes where the items lie if it is that one. */
static bool skip_member(struct cursor *cursor, struct json_list *list)
{
	static const char items[] = "\"items\"";
	const char *key, *value;
	bool is_items;

	skip_space(cursor);
	key = cursor->at;
	if (!skip_char(cursor, '"') || !skip_string(cursor))
		return false;
	is_items = (size_t)(cursor->at - key) == sizeof(items) - 1 &&
		   memcmp(key, items, sizeof(items) - 1) == 0;
	if (!skip_char(cursor, ':'))
		return false;
	skip_space(cursor);
	value = cursor->at;
	if (!skip_value(cursor))
		return false;
	if (!is_items)
		return true;
	if (list->at || *value != '[' || cursor->at[-1] != ']')
		return false; /* twice, or no array */
	list->at = value + 1;
	list->end = cursor->at - 1;
	return true;
}

static bool list_find(struct cursor *cursor, struct json_list *list)
{
	if (!skip_char(cursor, '{'))
		return false;
	do {
		if (!skip_member(cursor, list))
			return false;
	} while (skip_char(cursor, ','));
	return skip_char(cursor, '}') && list->at;
}

/* The text without what is between the items' brackets. */
static cJSON *head_parse(const char *text, size_t len, const struct json_list *list)
{
	size_t before = (size_t)(list->at - text), after = (size_t)(text + len - list->end);
	auto_free char *head = malloc(before + after);
	struct text_error error;
	size_t used;

	if (!head)
		return NULL;
	memcpy(head, text, before);
	memcpy(head + before, list->end, after);
	return json_value_parse(head, before + after, &used, &error);
}

static bool head_is_list(const cJSON *head)
{
	const char *kind = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(head, "kind"));
	size_t len = kind ? strlen(kind) : 0;

	return len >= 4 && strcmp(kind + len - 4, "List") == 0;
}

bool json_list_open(const char *text, size_t len, struct json_list *ret, size_t *ret_len)
{
	struct cursor cursor = { text, text + len };
	struct json_list list = { .first = true };

	if (!list_find(&cursor, &list))
		return false;
	*ret_len = (size_t)(cursor.at - text);
	list.head = head_parse(text, *ret_len, &list);
	if (!head_is_list(list.head)) {
		json_list_done(&list);
		return false;
	}
	*ret = list;
	return true;
}

void json_list_done(struct json_list *list)
{
	cJSON_Delete(take_ptr(list->head));
}

struct cJSON *json_list_next(struct json_list *list)
{
	struct cursor cursor = { list->at, list->end };
	struct text_error error;
	cJSON *item;
	size_t used;

	skip_space(&cursor);
	if (list->broken || (cursor.at == cursor.end && list->first))
		return NULL;
	if (!list->first) {
		if (cursor.at == cursor.end)
			return NULL;
		list->broken = !skip_char(&cursor, ',');
		skip_space(&cursor);
	}
	list->broken |= cursor.at == cursor.end;
	item = list->broken ? NULL
			    : json_value_parse(cursor.at, (size_t)(cursor.end - cursor.at), &used,
					       &error);
	list->broken |= !item;
	list->first = false;
	if (item)
		list->at = cursor.at + used;
	return item;
}
