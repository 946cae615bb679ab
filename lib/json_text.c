/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/json_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/json.h"
#include "lib/text.h"

#define NUMBER_TEXT_MAX 64

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

char json_text_space(struct json_text *json)
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
		if (json_text_space(json) != '"')
			return parse_invalid(json);
		key_at = json->at;
		key = parse_string(json);
		if (!key)
			return NULL;
		if (json_text_space(json) != ':')
			return parse_invalid(json);
		json->at++;
	}
	json_text_space(json);
	if (json->by_item && json->depth == 1 && member && strcmp(key, "items") == 0 &&
	    json->at < json->len)
		child = items_skip(json);
	if (!child)
		child = json_text_value(json);
	if (!child)
		return NULL;
	child->string = take_ptr(key);
	((struct document_node *)child)->key_at = (uint32_t)key_at;
	return child;
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
	next = json_text_space(json);
	if (next != close) {
		do {
			child = parse_child(json, object);
			if (!child)
				return NULL;
			document_child_add(node, child);
			next = json_text_space(json);
		} while (next == ',' && ++json->at);
	}
	if (next != close)
		return parse_invalid(json);
	json->depth--;
	json->at++;
	return take_ptr(node);
}

struct cJSON *json_text_value(struct json_text *json)
{
	size_t at = json->at;
	struct cJSON *node;
	char *string;

	switch (json_text_space(json)) {
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
