/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/document.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/json.h"
#include "lib/task.h"
#include "lib/text.h"
#include "lib/yaml.h"

#define NUMBER_TEXT_MAX 64

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

/* ---- JSON ------------------------------------------------------------------------------------ */

/* A JSON text that is being read. */
struct json_text {
	const char *text;
	size_t len;
	size_t at;
	unsigned int depth;
	struct text_error *error;
	bool by_item;     /* the items of the outermost object are skipped */
	size_t items;     /* byte after their opening bracket; 0: there are none */
	size_t items_end; /* of the closing one */
	bool items_twice;
};

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

static void *parse_fail(struct json_text *json, size_t at, const char *text)
{
	snprintf(json->error->text, sizeof(json->error->text), "%s", text);
	text_error_at(json->text, at, json->error);
	return NULL;
}

/* Says what stands where JSON ended. */
static void *parse_invalid(struct json_text *json)
{
	const char *rest = json->text + json->at;
	size_t len = json->len - json->at, count = 0;
	char text[64], near[24];

	while (count < len && count < sizeof(near) - 1 && rest[count] > ' ' && rest[count] < 0x7f) {
		near[count] = rest[count];
		count++;
	}
	near[count] = '\0';
	if (len == 0) {
		size_t end = json->len;

		while (end > 0 && strchr(" \t\r\n", json->text[end - 1]))
			end--;
		return parse_fail(json, end, "not valid JSON: it ends too early");
	}
	snprintf(text, sizeof(text), "not valid JSON%s%s%s", count ? " at \"" : "", near,
		 count ? "\"" : "");
	return parse_fail(json, json->at, text);
}

static bool is_space(char c)
{
	return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static char skip_space(struct json_text *json)
{
	while (json->at < json->len && is_space(json->text[json->at]))
		json->at++;
	return json->at < json->len ? json->text[json->at] : '\0';
}

/* The four digits after "\u"; -1 if they are none. */
static long utf16_unit(const struct json_text *json, size_t at)
{
	long unit = 0;

	for (size_t i = at; i < at + 4; i++) {
		int digit = i < json->len ? text_hex_digit(json->text[i]) : -1;

		if (digit < 0)
			return -1;
		unit = unit << 4 | digit;
	}
	return unit;
}

static char *utf8_put(char *out, unsigned long code)
{
	if (code < 0x80) {
		*out++ = (char)code;
	} else if (code < 0x800) {
		*out++ = (char)(0xc0 | code >> 6);
		*out++ = (char)(0x80 | (code & 0x3f));
	} else if (code < 0x10000) {
		*out++ = (char)(0xe0 | code >> 12);
		*out++ = (char)(0x80 | (code >> 6 & 0x3f));
		*out++ = (char)(0x80 | (code & 0x3f));
	} else {
		*out++ = (char)(0xf0 | code >> 18);
		*out++ = (char)(0x80 | (code >> 12 & 0x3f));
		*out++ = (char)(0x80 | (code >> 6 & 0x3f));
		*out++ = (char)(0x80 | (code & 0x3f));
	}
	return out;
}

/* An escape sequence whose backslash is at `at`; NULL after parse_fail(). */
static char *parse_escape(struct json_text *json, char *out)
{
	static const char escapes[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
	char c = json->at + 1 < json->len ? json->text[json->at + 1] : '\0';
	const char *hit = c ? strchr(escapes, c) : NULL;
	long unit, low;

	if (hit) {
		json->at += 2;
		*out = values[hit - escapes];
		return out + 1;
	}
	unit = c == 'u' ? utf16_unit(json, json->at + 2) : -1;
	if (unit == 0) /* our strings end there: it would be read as another, shorter one */
		return parse_fail(json, json->at, "a NUL character");
	if (unit < 0 || (unit >= 0xdc00 && unit < 0xe000))
		return parse_invalid(json);
	if (unit >= 0xd800 && unit < 0xdc00) {
		bool pair = json->at + 8 < json->len && json->text[json->at + 6] == '\\' &&
			    json->text[json->at + 7] == 'u';

		low = pair ? utf16_unit(json, json->at + 8) : -1;
		if (low < 0xdc00 || low >= 0xe000)
			return parse_invalid(json);
		unit = 0x10000 + ((unit - 0xd800) << 10 | (low - 0xdc00));
		json->at += 6;
	}
	json->at += 6;
	return utf8_put(out, (unsigned long)unit);
}

/* The byte after the string whose opening quote is at `at`; 0: it has no end. */
static size_t string_end(const struct json_text *json, size_t at)
{
	for (at++; at < json->len; at++) {
		if (json->text[at] == '"')
			return at + 1;
		at += json->text[at] == '\\';
	}
	return 0;
}

/* A string, owned by the caller. */
static char *parse_string(struct json_text *json)
{
	size_t plain = json->at + 1, end;
	auto_free char *string = NULL;
	char *out;

	while (plain < json->len && (unsigned char)json->text[plain] >= ' ' &&
	       json->text[plain] != '"' && json->text[plain] != '\\')
		plain++;
	end = plain < json->len ? string_end(json, plain - 1) : 0;
	if (!end) {
		json->at = json->len;
		return parse_invalid(json);
	}
	/* What an escape stands for is shorter than the escape. */
	string = malloc(end - json->at);
	if (!string)
		return parse_fail(json, json->at, "out of memory");
	/* Nearly all strings are plain to their end. */
	memcpy(string, json->text + json->at + 1, plain - json->at - 1);
	out = string + (plain - json->at - 1);
	for (json->at = plain; json->at < end - 1;) {
		const char *from = json->text + json->at;

		if (*from == '\\') {
			out = parse_escape(json, out);
			if (!out)
				return NULL;
		} else if (*from == '\0') {
			/* NOLINTNEXTLINE(*Malloc): its owner frees it */
			return parse_fail(json, json->at, "a NUL character");
		} else if ((unsigned char)*from < ' ') {
			return parse_invalid(json);
		} else {
			*out++ = *from;
			json->at++;
		}
	}
	json->at = end;
	*out = '\0';
	return take_ptr(string);
}

static size_t digits(const struct json_text *json, size_t at)
{
	size_t count = 0;

	while (at + count < json->len && json->text[at + count] >= '0' &&
	       json->text[at + count] <= '9')
		count++;
	return count;
}

static struct cJSON *parse_number(struct json_text *json)
{
	size_t at = json->at, whole, part;
	char number[NUMBER_TEXT_MAX];
	struct cJSON *node;

	at += json->text[at] == '-';
	whole = digits(json, at);
	if (whole == 0 || (whole > 1 && json->text[at] == '0'))
		return parse_invalid(json);
	at += whole;
	if (at < json->len && json->text[at] == '.') {
		part = digits(json, ++at);
		if (!part)
			return parse_invalid(json);
		at += part;
	}
	if (at < json->len && (json->text[at] == 'e' || json->text[at] == 'E')) {
		at++;
		at += at < json->len && (json->text[at] == '+' || json->text[at] == '-');
		part = digits(json, at);
		if (!part)
			return parse_invalid(json);
		at += part;
	}
	if (at - json->at >= sizeof(number))
		return parse_fail(json, json->at, "a number of more than 63 characters");
	memcpy(number, json->text + json->at, at - json->at);
	number[at - json->at] = '\0';
	node = document_node_new(cJSON_Number, json->at);
	if (!node)
		return parse_fail(json, json->at, "out of memory");
	cJSON_SetNumberValue(node, strtod(number, NULL));
	json->at = at;
	return node;
}

static struct cJSON *parse_word(struct json_text *json)
{
	static const struct {
		const char *word;
		int type;
	} words[] = { { "true", cJSON_True }, { "false", cJSON_False }, { "null", cJSON_NULL } };

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		size_t len = strlen(words[i].word);
		struct cJSON *node;

		if (json->len - json->at < len ||
		    memcmp(json->text + json->at, words[i].word, len) != 0)
			continue;
		node = document_node_new(words[i].type, json->at);
		if (!node)
			return parse_fail(json, json->at, "out of memory");
		json->at += len;
		return node;
	}
	return parse_invalid(json);
}

/* Past the bracket that closes the one at `at`; 0: none does. */
static size_t nested_end(const struct json_text *json, size_t at)
{
	size_t depth = 0;

	while (at < json->len) {
		switch (json->text[at]) {
		case '"':
			at = string_end(json, at);
			if (!at)
				return 0;
			continue;
		case '{':
		case '[':
			depth++;
			break;
		case '}':
		case ']':
			if (--depth == 0)
				return json->text[at] == ']' ? at + 1 : 0;
			break;
		default:
			break;
		}
		at++;
	}
	return 0;
}

static struct cJSON *parse_value(struct json_text *json);

/* The array of items at `at`, without them; NULL: it is not one, or it does not end. */
static struct cJSON *items_skip(struct json_text *json)
{
	size_t end = json->text[json->at] == '[' ? nested_end(json, json->at) : 0;
	struct cJSON *node = end && !json->items ? document_node_new(cJSON_Array, json->at) : NULL;

	json->items_twice |= json->items > 0;
	if (!node)
		return NULL;
	json->items = json->at + 1;
	json->items_end = end - 1;
	json->at = end;
	return node;
}

/* One member of an object, or element of an array, without what separates it from the next. */
static struct cJSON *parse_child(struct json_text *json, bool member)
{
	auto_free char *key = NULL;
	size_t key_at = json->at;
	struct cJSON *child = NULL;

	if (member) {
		if (skip_space(json) != '"')
			return parse_invalid(json);
		key_at = json->at;
		key = parse_string(json);
		if (!key)
			return NULL;
		if (skip_space(json) != ':')
			return parse_invalid(json);
		json->at++;
	}
	skip_space(json);
	if (json->by_item && json->depth == 1 && member && strcmp(key, "items") == 0 &&
	    json->at < json->len)
		child = items_skip(json);
	if (!child)
		child = parse_value(json);
	if (!child)
		return NULL;
	child->string = take_ptr(key);
	((struct document_node *)child)->key_at = (uint32_t)key_at;
	return child;
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

static struct cJSON *parse_nested(struct json_text *json)
{
	bool object = json->text[json->at] == '{';
	char close = object ? '}' : ']', next;
	auto_json struct cJSON *node = NULL;
	struct cJSON *child;

	if (json->depth == TEXT_DEPTH_MAX) {
		char text[40];

		snprintf(text, sizeof(text), "nested deeper than %d", TEXT_DEPTH_MAX);
		return parse_fail(json, json->at, text);
	}
	node = document_node_new(object ? cJSON_Object : cJSON_Array, json->at);
	if (!node)
		return parse_fail(json, json->at, "out of memory");
	json->at++;
	json->depth++;
	next = skip_space(json);
	if (next != close) {
		do {
			child = parse_child(json, object);
			if (!child)
				return NULL;
			document_child_add(node, child);
			next = skip_space(json);
		} while (next == ',' && ++json->at);
	}
	if (next != close)
		return parse_invalid(json);
	json->depth--;
	json->at++;
	return take_ptr(node);
}

static struct cJSON *parse_value(struct json_text *json)
{
	size_t at = json->at;
	struct cJSON *node;
	char *string;

	switch (skip_space(json)) {
	case '{':
	case '[':
		return parse_nested(json);
	case '"':
		at = json->at;
		string = parse_string(json);
		if (!string)
			return NULL;
		node = document_node_new(cJSON_String, at);
		if (!node) {
			free(string);
			return parse_fail(json, at, "out of memory");
		}
		node->valuestring = string;
		return node;
	case '-':
	case '0' ... '9':
		return parse_number(json);
	default:
		return parse_word(json);
	}
}

struct cJSON *json_value_parse(const char *text, size_t len, size_t *at,
			       struct text_error *ret_error)
{
	struct json_text json = { .text = text, .len = len, .at = *at, .error = ret_error };
	struct cJSON *node;

	*ret_error = (struct text_error){ 0 };
	node = parse_value(&json);
	*at = json.at;
	return node;
}

/* ---- documents ------------------------------------------------------------------------------- */

static size_t space_skip(const struct documents *documents, size_t at)
{
	struct json_text json = { .text = documents->text, .len = documents->len, .at = at };

	skip_space(&json);
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
	document = parse_value(&json);
	documents->in_list = json.items && !json.items_twice && is_list(document);
	if (json.by_item && json.items && !documents->in_list) {
		/* The items were skipped, and it is no List. */
		cJSON_Delete(document);
		*ret_error = (struct text_error){ 0 };
		json = (struct json_text){
			.text = documents->text, .len = documents->len, .at = at, .error = ret_error
		};
		document = parse_value(&json);
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
	*ret = parse_value(&json);
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
