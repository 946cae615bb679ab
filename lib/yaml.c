/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/yaml.h"

#include <cjson/cJSON.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "lib/auto.h"
#include "lib/json.h"
#include "lib/position.h"

#define ANCHORS_MAX     256
#define ALIAS_NODES_MAX 100000 /* what aliases may add in all: no billion laughs */
#define TAG_PREFIX      "tag:yaml.org,2002:"
#define NUMBER_TEXT_MAX 64

struct anchor {
	char *name;
	cJSON *node;
	bool complete; /* false while its own content is being read */
};

struct frame {
	cJSON *node;
	char *key; /* of the value that comes next; NULL: a key comes next */
	size_t anchor;
};

struct builder {
	cJSON *documents;
	struct frame frames[TEXT_DEPTH_MAX];
	size_t depth;
	struct anchor anchors[ANCHORS_MAX];
	size_t anchor_count;
	size_t alias_nodes;
	struct text_error *error;
};

#define NO_ANCHOR SIZE_MAX

static int builder_fail(struct builder *builder, const yaml_mark_t *mark, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int builder_fail(struct builder *builder, const yaml_mark_t *mark, const char *fmt, ...)
{
	va_list args;

	builder->error->line = mark->line + 1;
	builder->error->column = mark->column + 1;
	va_start(args, fmt);
	vsnprintf(builder->error->text, sizeof(builder->error->text), fmt, args);
	va_end(args);
	return -1;
}

static int fail_memory(struct builder *builder, const yaml_mark_t *mark)
{
	return builder_fail(builder, mark, "out of memory");
}

/* ---- plain scalars ---- */

static bool text_in(const char *text, const char *const *words)
{
	for (; *words; words++) {
		if (strcmp(text, *words) == 0)
			return true;
	}
	return false;
}

/* Digits of one base, to the end of the text. */
static bool digits_parse(const char *text, unsigned int base, double *ret_value)
{
	static const char digits[] = "0123456789abcdef";
	double value = 0;

	if (*text == '\0')
		return false;
	for (; *text; text++) {
		char lower = *text >= 'A' && *text <= 'F' ? (char)(*text - 'A' + 'a') : *text;
		const char *digit = memchr(digits, lower, base);

		if (!digit)
			return false;
		value = value * base + (double)(digit - digits);
	}
	*ret_value = value;
	return true;
}

/* Go's base 0: 0x, 0o, 0b, and 0 alone for octal. */
static bool integer_parse(const char *text, double *ret_value)
{
	bool negative = *text == '-';
	bool known;

	if (*text == '-' || *text == '+')
		text++;
	if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X'))
		known = digits_parse(text + 2, 16, ret_value);
	else if (text[0] == '0' && (text[1] == 'o' || text[1] == 'O'))
		known = digits_parse(text + 2, 8, ret_value);
	else if (text[0] == '0' && (text[1] == 'b' || text[1] == 'B'))
		known = digits_parse(text + 2, 2, ret_value);
	else if (text[0] == '0' && text[1] != '\0')
		known = digits_parse(text + 1, 8, ret_value);
	else
		known = digits_parse(text, 10, ret_value);
	if (known && negative)
		*ret_value = -*ret_value;
	return known;
}

/* [-+]? ( .digits | digits [. digits?] ) ( [eE] [-+]? digits )? */
static bool float_parse(const char *text, double *ret_value)
{
	static const char decimal[] = "0123456789";
	const char *c = text;
	size_t whole;
	size_t fraction = 0;

	if (*c == '-' || *c == '+')
		c++;
	whole = strspn(c, decimal);
	c += whole;
	if (*c == '.') {
		fraction = strspn(++c, decimal);
		c += fraction;
	}
	if (whole + fraction == 0)
		return false;
	if (*c == 'e' || *c == 'E') {
		c++;
		if (*c == '-' || *c == '+')
			c++;
		if (strspn(c, decimal) == 0)
			return false;
		c += strspn(c, decimal);
	}
	if (*c != '\0')
		return false;
	*ret_value = strtod(text, NULL);
	return true;
}

static bool number_resolve(const char *text, double *ret_value)
{
	char plain[NUMBER_TEXT_MAX];
	size_t len = 0;

	if (!strchr("+-.0123456789", text[0]))
		return false;
	for (; *text; text++) {
		if (*text == '_')
			continue;
		if (len == sizeof(plain) - 1)
			return false;
		plain[len++] = *text;
	}
	plain[len] = '\0';
	return integer_parse(plain, ret_value) || float_parse(plain, ret_value);
}

/* YAML 1.1 as sigs.k8s.io/yaml reads it: yes, on and y are booleans.  Timestamps stay strings. */
static cJSON *plain_resolve(const char *text)
{
	static const char *const truths[] = { "y",    "Y",    "yes", "Yes", "YES", "true",
					      "True", "TRUE", "on",  "On",  "ON",  NULL };
	static const char *const falsehoods[] = { "n",     "N",     "no",  "No",  "NO",  "false",
						  "False", "FALSE", "off", "Off", "OFF", NULL };
	static const char *const nulls[] = { "", "~", "null", "Null", "NULL", NULL };
	double number;

	if (text_in(text, truths))
		return cJSON_CreateTrue();
	if (text_in(text, falsehoods))
		return cJSON_CreateFalse();
	if (text_in(text, nulls))
		return cJSON_CreateNull();
	if (*text && number_resolve(text, &number))
		return cJSON_CreateNumber(number);
	return cJSON_CreateString(text);
}

static bool tag_is(const char *tag, const char *name)
{
	return strncmp(tag, TAG_PREFIX, strlen(TAG_PREFIX)) == 0 &&
	       strcmp(tag + strlen(TAG_PREFIX), name) == 0;
}

static int scalar_resolve(struct builder *builder, const yaml_event_t *event, cJSON **ret_node)
{
	static const char *const infinities[] = { ".inf",  ".Inf",  ".INF",  "+.inf", "+.Inf",
						  "+.INF", "-.inf", "-.Inf", "-.INF", ".nan",
						  ".NaN",  ".NAN",  NULL };
	const char *text = (const char *)event->data.scalar.value;
	const char *tag = (const char *)event->data.scalar.tag;
	bool plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	cJSON *node;

	if (strlen(text) != event->data.scalar.length)
		return builder_fail(builder, &event->start_mark, "a NUL character");
	if (tag && (strcmp(tag, "!") == 0 || tag_is(tag, "str")))
		plain = false;
	else if (tag && !tag_is(tag, "bool") && !tag_is(tag, "int") && !tag_is(tag, "float") &&
		 !tag_is(tag, "null"))
		return builder_fail(builder, &event->start_mark, "tag \"%.60s\" is not supported",
				    tag);
	else if (tag)
		plain = true;
	if (plain && text_in(text, infinities))
		return builder_fail(builder, &event->start_mark, "\"%s\" has no JSON form", text);
	node = plain ? plain_resolve(text) : cJSON_CreateString(text);
	if (!node)
		return fail_memory(builder, &event->start_mark);
	if (tag && plain &&
	    !(tag_is(tag, "bool")   ? cJSON_IsBool(node)
	      : tag_is(tag, "null") ? cJSON_IsNull(node)
				    : cJSON_IsNumber(node))) {
		cJSON_Delete(node);
		return builder_fail(builder, &event->start_mark, "\"%.60s\" is no %s", text,
				    tag + strlen(TAG_PREFIX));
	}
	*ret_node = node;
	return 0;
}

/* ---- building the tree ---- */

/* Puts a finished or beginning node where it belongs; takes it over. */
static int builder_place(struct builder *builder, const yaml_mark_t *mark, cJSON *node)
{
	struct frame *frame = builder->depth ? &builder->frames[builder->depth - 1] : NULL;
	bool placed;

	if (!frame) {
		placed = cJSON_AddItemToArray(builder->documents, node);
	} else if (cJSON_IsArray(frame->node)) {
		placed = cJSON_AddItemToArray(frame->node, node);
	} else {
		placed = cJSON_AddItemToObject(frame->node, frame->key, node);
		free(take_ptr(frame->key));
	}
	if (placed)
		return 0;
	cJSON_Delete(node);
	return fail_memory(builder, mark);
}

static bool builder_expects_key(const struct builder *builder)
{
	const struct frame *frame = builder->depth ? &builder->frames[builder->depth - 1] : NULL;

	return frame && cJSON_IsObject(frame->node) && !frame->key;
}

static int builder_key(struct builder *builder, const yaml_event_t *event)
{
	const char *text = (const char *)event->data.scalar.value;
	bool plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	cJSON *node = NULL;
	char number[32];

	if (plain && strcmp(text, "<<") == 0)
		return builder_fail(builder, &event->start_mark,
				    "merge keys (<<) are not supported");
	if (scalar_resolve(builder, event, &node) < 0)
		return -1;
	if (cJSON_IsNull(node)) {
		cJSON_Delete(node);
		return builder_fail(builder, &event->start_mark, "null as a key");
	}
	if (cJSON_IsBool(node)) {
		text = cJSON_IsTrue(node) ? "true" : "false";
	} else if (cJSON_IsNumber(node)) {
		snprintf(number, sizeof(number), "%.17g", node->valuedouble);
		text = number;
	}
	builder->frames[builder->depth - 1].key = strdup(text);
	cJSON_Delete(node);
	return builder->frames[builder->depth - 1].key ? 0
						       : fail_memory(builder, &event->start_mark);
}

static int builder_anchor(struct builder *builder, const yaml_mark_t *mark, const yaml_char_t *name,
			  cJSON *node, bool complete, size_t *ret_anchor)
{
	struct anchor *anchor = &builder->anchors[builder->anchor_count];

	*ret_anchor = NO_ANCHOR;
	if (!name)
		return 0;
	if (builder->anchor_count == ANCHORS_MAX)
		return builder_fail(builder, mark, "more than %d anchors", ANCHORS_MAX);
	anchor->name = strdup((const char *)name);
	if (!anchor->name)
		return fail_memory(builder, mark);
	/* NOLINTNEXTLINE(*Malloc): the builder owns its anchors' names */
	anchor->node = node;
	anchor->complete = complete;
	*ret_anchor = builder->anchor_count++;
	return 0;
}

static void builder_forget_anchors(struct builder *builder)
{
	while (builder->anchor_count > 0)
		free(builder->anchors[--builder->anchor_count].name);
}

static size_t node_count(const cJSON *node)
{
	size_t count = 1;

	for (const cJSON *child = node->child; child; child = child->next)
		count += node_count(child);
	return count;
}

static int builder_alias(struct builder *builder, const yaml_event_t *event)
{
	const char *name = (const char *)event->data.alias.anchor;
	const struct anchor *anchor = NULL;
	cJSON *copy;

	if (builder_expects_key(builder))
		return builder_fail(builder, &event->start_mark, "an alias as a key");
	for (size_t i = builder->anchor_count; i > 0 && !anchor; i--) {
		if (strcmp(builder->anchors[i - 1].name, name) == 0)
			anchor = &builder->anchors[i - 1];
	}
	if (!anchor)
		return builder_fail(builder, &event->start_mark, "no anchor \"%.60s\"", name);
	if (!anchor->complete)
		return builder_fail(builder, &event->start_mark, "anchor \"%.60s\" contains itself",
				    name);
	builder->alias_nodes += node_count(anchor->node);
	if (builder->alias_nodes > ALIAS_NODES_MAX)
		return builder_fail(builder, &event->start_mark, "aliases expand to too much");
	copy = cJSON_Duplicate(anchor->node, true);
	if (!copy)
		return fail_memory(builder, &event->start_mark);
	/* The copy's own key, if it was a member, is replaced when it is placed. */
	return builder_place(builder, &event->start_mark, copy);
}

static int builder_scalar(struct builder *builder, const yaml_event_t *event)
{
	cJSON *node = NULL;
	size_t anchor;

	if (builder_expects_key(builder))
		return builder_key(builder, event);
	if (scalar_resolve(builder, event, &node) < 0 ||
	    builder_place(builder, &event->start_mark, node) < 0)
		return -1;
	return builder_anchor(builder, &event->start_mark, event->data.scalar.anchor, node, true,
			      &anchor);
}

static int builder_begin(struct builder *builder, const yaml_event_t *event)
{
	bool mapping = event->type == YAML_MAPPING_START_EVENT;
	const yaml_char_t *anchor_name =
		mapping ? event->data.mapping_start.anchor : event->data.sequence_start.anchor;
	const char *tag = (const char *)(mapping ? event->data.mapping_start.tag
						 : event->data.sequence_start.tag);
	cJSON *node;
	size_t anchor;

	if (builder_expects_key(builder))
		return builder_fail(builder, &event->start_mark, "a key must be plain text");
	if (builder->depth == TEXT_DEPTH_MAX)
		return builder_fail(builder, &event->start_mark, "nested deeper than %d",
				    TEXT_DEPTH_MAX);
	if (tag && strcmp(tag, "!") != 0 && !tag_is(tag, mapping ? "map" : "seq"))
		return builder_fail(builder, &event->start_mark, "tag \"%.60s\" is not supported",
				    tag);
	node = mapping ? cJSON_CreateObject() : cJSON_CreateArray();
	if (!node)
		return fail_memory(builder, &event->start_mark);
	if (builder_place(builder, &event->start_mark, node) < 0 ||
	    builder_anchor(builder, &event->start_mark, anchor_name, node, false, &anchor) < 0)
		return -1;
	builder->frames[builder->depth++] = (struct frame){ .node = node, .anchor = anchor };
	return 0;
}

static void builder_end(struct builder *builder)
{
	struct frame *frame = &builder->frames[--builder->depth];

	if (frame->anchor != NO_ANCHOR)
		builder->anchors[frame->anchor].complete = true;
}

static int builder_event(struct builder *builder, const yaml_event_t *event)
{
	switch (event->type) {
	case YAML_DOCUMENT_START_EVENT:
		builder_forget_anchors(builder);
		return 0;
	case YAML_SCALAR_EVENT:
		return builder_scalar(builder, event);
	case YAML_ALIAS_EVENT:
		return builder_alias(builder, event);
	case YAML_MAPPING_START_EVENT:
	case YAML_SEQUENCE_START_EVENT:
		return builder_begin(builder, event);
	case YAML_MAPPING_END_EVENT:
	case YAML_SEQUENCE_END_EVENT:
		builder_end(builder);
		return 0;
	default:
		return 0;
	}
}

static void parser_error(const yaml_parser_t *parser, const char *text, size_t len,
			 struct text_error *ret_error)
{
	const char *problem = parser->problem ? parser->problem : "out of memory";
	const char *hint = "";

	if (parser->error == YAML_READER_ERROR) {
		if (parser->problem_offset < len)
			position_of_offset(text, parser->problem_offset, &ret_error->line,
					   &ret_error->column);
	} else if (parser->error != YAML_MEMORY_ERROR) {
		ret_error->line = parser->problem_mark.line + 1;
		ret_error->column = parser->problem_mark.column + 1;
		if (parser->problem_mark.index < len && text[parser->problem_mark.index] == '\t')
			hint = " (a tab: YAML wants spaces)";
	}
	snprintf(ret_error->text, sizeof(ret_error->text), "not valid YAML: %s%s", problem, hint);
}

struct cJSON *yaml_parse(const char *text, size_t len, struct text_error *ret_error)
{
	struct builder builder = { .documents = cJSON_CreateArray(), .error = ret_error };
	size_t bom = text_bom(text, len);
	yaml_parser_t parser;
	bool more = true;
	int ret = -1;

	/* libyaml would count it as a column, and only the first line as indented. */
	text += bom;
	len -= bom;
	*ret_error = (struct text_error){ .text = "out of memory" };
	if (!builder.documents)
		return NULL;
	if (!yaml_parser_initialize(&parser)) {
		cJSON_Delete(builder.documents);
		return NULL;
	}
	yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
	while (more) {
		yaml_event_t event;

		if (!yaml_parser_parse(&parser, &event)) {
			parser_error(&parser, text, len, ret_error);
			ret = -1;
			break;
		}
		ret = builder_event(&builder, &event);
		more = ret == 0 && event.type != YAML_STREAM_END_EVENT;
		yaml_event_delete(&event);
	}
	yaml_parser_delete(&parser);
	builder_forget_anchors(&builder);
	for (size_t i = 0; i < builder.depth; i++)
		free(builder.frames[i].key);
	if (ret < 0)
		cJSON_Delete(take_ptr(builder.documents));
	return builder.documents;
}

/* ---- JSON ---- */

size_t text_bom(const char *text, size_t len)
{
	return len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
}

size_t text_skip_space(const char *text, size_t len, size_t offset)
{
	while (offset < len && text[offset] && strchr(" \t\r\n", text[offset]))
		offset++;
	return offset;
}

bool text_is_json(const char *text, size_t len)
{
	size_t first = text_skip_space(text, len, text_bom(text, len));

	return first < len && (text[first] == '{' || text[first] == '[');
}

/* cJSON's strings end at a NUL: a value with one inside would be read as another, shorter value. */
static bool find_nul(const char *text, size_t len, size_t *ret_offset)
{
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '\0') {
			*ret_offset = i;
			return true;
		}
		if (text[i] != '\\' || i + 1 >= len)
			continue;
		if (i + 5 < len && memcmp(text + i, "\\u0000", 6) == 0) {
			*ret_offset = i;
			return true;
		}
		i++;
	}
	return false;
}

/* Says what was read where JSON ended. */
static void json_near(const char *rest, size_t len, struct text_error *ret_error)
{
	char near[24];
	size_t count = 0;

	while (len > 0 && strchr(" \t\r\n", *rest)) {
		rest++;
		len--;
	}
	while (count < len && count < sizeof(near) - 1 && rest[count] > ' ' && rest[count] < 0x7f) {
		near[count] = rest[count];
		count++;
	}
	near[count] = '\0';
	if (count)
		snprintf(ret_error->text, sizeof(ret_error->text), "not valid JSON at \"%s\"",
			 near);
	else
		snprintf(ret_error->text, sizeof(ret_error->text), "not valid JSON%s",
			 len == 0 ? ": it ends too early" : "");
}

struct cJSON *json_value_parse(const char *text, size_t len, size_t *ret_len,
			       struct text_error *ret_error)
{
	const char *end = NULL;
	cJSON *json = cJSON_ParseWithLengthOpts(text, len, &end, false);
	size_t offset, seen, deep;

	*ret_error = (struct text_error){ 0 };
	if (!json) {
		offset = end && end >= text && end < text + len ? (size_t)(end - text) : len;
		/* cJSON is one past what it took for the start of a key. */
		if (offset > 0 && text[offset - 1] == '}')
			offset--;
		seen = offset < len ? offset + 1 : len;
		deep = json_depth_find(text, seen, TEXT_DEPTH_MAX);
		if (deep < seen) {
			offset = deep;
			snprintf(ret_error->text, sizeof(ret_error->text), "nested deeper than %d",
				 TEXT_DEPTH_MAX);
		} else {
			json_near(text + offset, len - offset, ret_error);
		}
		position_of_offset(text, offset, &ret_error->line, &ret_error->column);
		return NULL;
	}
	*ret_len = (size_t)(end - text);
	if (find_nul(text, *ret_len, &offset)) {
		position_of_offset(text, offset, &ret_error->line, &ret_error->column);
		snprintf(ret_error->text, sizeof(ret_error->text), "a NUL character");
		cJSON_Delete(json);
		return NULL;
	}
	return json;
}

/* JSON values one after the other, as an array. */
static cJSON *json_documents(const char *text, size_t len, struct text_error *ret_error)
{
	cJSON *documents = cJSON_CreateArray();
	size_t offset = text_skip_space(text, len, text_bom(text, len));

	while (documents && offset < len) {
		size_t used;
		cJSON *json = json_value_parse(text + offset, len - offset, &used, ret_error);

		if (!json) {
			size_t line;
			size_t column;

			position_of_offset(text, offset, &line, &column);
			if (ret_error->line == 1)
				ret_error->column += column - 1;
			ret_error->line += line - 1;
			cJSON_Delete(documents);
			return NULL;
		}
		cJSON_AddItemToArray(documents, json);
		offset = text_skip_space(text, len, offset + used);
	}
	return documents;
}

struct cJSON *documents_parse(const char *text, size_t len, struct text_error *ret_error)
{
	return text_is_json(text, len) ? json_documents(text, len, ret_error)
				       : yaml_parse(text, len, ret_error);
}
