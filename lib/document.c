/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/document.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/auto.h"
#include "lib/json_text.h"
#include "lib/task.h"
#include "lib/yaml.h"

/* ---- positions ------------------------------------------------------------------------------- */

static const struct text_mark text_begin = { .line = 1, .column = 1 };

static void mark_step(struct text_mark *mark, const char *text)
{
	unsigned char c = (unsigned char)text[mark->byte++];

	if ((c & 0xc0) == 0x80) /* a character goes on */
		return;
	mark->character++;
	mark->column++;
	if (c == '\n') {
		mark->line++;
		mark->column = 1;
	}
}

static struct text_mark mark_of_byte(struct text_mark mark, const char *text, size_t byte)
{
	while (mark.byte < byte)
		mark_step(&mark, text);
	return mark;
}

void text_error_at(const char *text, size_t byte, struct text_error *error)
{
	struct text_mark mark = mark_of_byte(text_begin, text, byte);

	error->line = mark.line;
	error->column = mark.column;
}

void documents_position(struct documents *documents, const struct cJSON *value, bool of_key,
			size_t *ret_line, size_t *ret_column)
{
	const struct document_node *node = (const struct document_node *)value;
	size_t at = of_key ? node->key_at : node->at;
	struct text_mark *mark = &documents->mark;

	if (documents->yaml) {
		at += documents->base.character;
		if (mark->character > at || mark->byte < documents->base.byte)
			*mark = documents->base;
		while (mark->character < at && mark->byte < documents->len)
			mark_step(mark, documents->text);
	} else {
		*mark = mark_of_byte(mark->byte > at ? documents->base : *mark, documents->text,
				     at);
	}
	*ret_line = mark->line;
	*ret_column = mark->column;
}

/* ---- trees ----------------------------------------------------------------------------------- */

struct cJSON *document_node_new(int type, size_t at)
{
	struct document_node *node = calloc(1, sizeof(*node));

	task_pause();
	if (!node)
		return NULL;
	node->json.type = type;
	node->at = (uint32_t)at;
	return &node->json;
}

void document_child_add(struct cJSON *node, struct cJSON *child)
{
	if (node->child) {
		child->prev = node->child->prev; /* the last one */
		child->prev->next = child;
	} else {
		node->child = child;
	}
	node->child->prev = child;
}

/* ---- documents ------------------------------------------------------------------------------- */

static size_t space_skip(const struct documents *documents, size_t at)
{
	struct json_text json = { .text = documents->text, .len = documents->len, .at = at };

	json_text_space(&json);
	return json.at;
}

static bool is_json_at(const struct documents *documents, size_t at)
{
	return at < documents->len && (documents->text[at] == '{' || documents->text[at] == '[');
}

void documents_init(struct documents *documents, const char *text, size_t len)
{
	*documents = (struct documents){ .text = text, .len = len, .base = text_begin };
	/* libyaml would count a byte order mark as a column, and only the first line as indented.
	 */
	if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
		documents->next = documents->base.byte = 3;
	documents->mark = documents->base;
}

void documents_done(struct documents *documents)
{
	yaml_close(take_ptr(documents->yaml));
}

static int yaml_begin(struct documents *documents, size_t at, struct text_error *ret_error)
{
	if (documents->mark.byte <= at)
		documents->base = documents->mark;
	documents->base = mark_of_byte(documents->base, documents->text, at);
	documents->mark = documents->base;
	documents->yaml = yaml_open(documents->text + at, documents->len - at);
	if (documents->yaml)
		return 0;
	*ret_error = (struct text_error){ .text = "out of memory" };
	return -EINVAL;
}

static int next_yaml(struct documents *documents, struct cJSON **ret, struct text_error *ret_error)
{
	int found = yaml_next(documents->yaml, ret, ret_error);

	if (found < 0 && ret_error->line) {
		if (ret_error->line == 1)
			ret_error->column += documents->base.column - 1;
		ret_error->line += documents->base.line - 1;
	}
	return found;
}

static bool is_list(const struct cJSON *document)
{
	const char *kind = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(document, "kind"));
	size_t len = kind ? strlen(kind) : 0;

	return len >= 4 && strcmp(kind + len - 4, "List") == 0;
}

static struct cJSON *next_json(struct documents *documents, size_t at, struct text_error *ret_error)
{
	struct json_text json = {
		.text = documents->text,
		.len = documents->len,
		.at = at,
		.error = ret_error,
		.by_item = documents->by_item,
	};
	struct cJSON *document;

	*ret_error = (struct text_error){ 0 };
	document = json_text_value(&json);
	documents->in_list = json.items && !json.items_twice && is_list(document);
	if (json.by_item && json.items && !documents->in_list) {
		/* The items were skipped, and it is no List. */
		cJSON_Delete(document);
		*ret_error = (struct text_error){ 0 };
		json = (struct json_text){
			.text = documents->text, .len = documents->len, .at = at, .error = ret_error
		};
		document = json_text_value(&json);
	}
	documents->items_next = json.items;
	documents->items_end = json.items_end;
	documents->items_count = 0;
	documents->next = json.at;
	return document;
}

int documents_next(struct documents *documents, struct cJSON **ret, struct text_error *ret_error)
{
	size_t at = documents->yaml ? 0 : space_skip(documents, documents->next);
	struct text_error error;

	if (!documents->yaml && is_json_at(documents, at)) {
		*ret = next_json(documents, at, &error);
		if (*ret)
			return 1;
		/* A text that ends too early is no YAML either. */
		if (space_skip(documents, documents->next) == documents->len) {
			*ret_error = error;
			return -EINVAL;
		}
		if (yaml_begin(documents, at, ret_error))
			return -EINVAL;
		if (next_yaml(documents, ret, ret_error) == 1)
			return 1;
		*ret_error = error; /* it looks like JSON: so do the complaints */
		return -EINVAL;
	}
	if (!documents->yaml && at == documents->len)
		return 0;
	if (!documents->yaml && yaml_begin(documents, documents->next, ret_error))
		return -EINVAL;
	return next_yaml(documents, ret, ret_error);
}

int documents_next_item(struct documents *documents, struct cJSON **ret)
{
	struct text_error error = { 0 };
	struct json_text json = { .text = documents->text,
				  .len = documents->items_end,
				  .at = space_skip(documents, documents->items_next),
				  .depth = 2,
				  .error = &error };

	if (json.at == documents->items_end)
		return 0;
	if (documents->items_count > 0 && json.text[json.at++] != ',')
		return -EAGAIN;
	*ret = json_text_value(&json);
	if (!*ret)
		return -EAGAIN;
	documents->items_next = json.at;
	documents->items_count++;
	return 1;
}

struct cJSON *documents_parse(const char *text, size_t len, struct text_error *ret_error)
{
	struct cJSON *array = cJSON_CreateArray(), *document;
	struct documents documents;
	int found = array ? 1 : -EINVAL;

	*ret_error = (struct text_error){ .text = "out of memory" };
	documents_init(&documents, text, len);
	while (found == 1) {
		found = documents_next(&documents, &document, ret_error);
		if (found == 1)
			cJSON_AddItemToArray(array, document);
	}
	documents_done(&documents);
	if (found < 0)
		cJSON_Delete(take_ptr(array));
	return array;
}
