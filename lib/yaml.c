/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/yaml.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "lib/json.h"
#include "lib/task.h"

#define ANCHORS_MAX     256
#define ALIAS_NODES_MAX 100000   /* what aliases may add in all: no billion laughs */
#define MERGE_WORK_MAX  10000000 /* comparisons of keys for all merge keys */
#define MERGE_FLAG                                                                    \
	(1 << 16) /* in cJSON's type, which is the low byte: the value of a merge key \
		   */
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
	size_t key_at;
	bool merge;             /* it is a merge key */
	bool merges;            /* one of the values was a merge key's */
	yaml_mark_t merge_mark; /* of the last merge key */
	size_t anchor;
};

struct yaml {
	const char *text;
	size_t len;
	yaml_parser_t parser;
	cJSON *document;
	struct frame frames[TEXT_DEPTH_MAX];
	size_t depth;
	struct anchor anchors[ANCHORS_MAX];
	size_t anchor_count;
	size_t alias_nodes;
	cJSON *merged; /* the values of merge keys */
	size_t merge_work;
	struct text_error *error;
};

#define NO_ANCHOR SIZE_MAX

static int node_fail(struct yaml *yaml, const yaml_mark_t *mark, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int node_fail(struct yaml *yaml, const yaml_mark_t *mark, const char *fmt, ...)
{
	va_list args;

	yaml->error->line = mark->line + 1;
	yaml->error->column = mark->column + 1;
	va_start(args, fmt);
	vsnprintf(yaml->error->text, sizeof(yaml->error->text), fmt, args);
	va_end(args);
	return -1;
}

static int fail_memory(struct yaml *yaml, const yaml_mark_t *mark)
{
	return node_fail(yaml, mark, "out of memory");
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
static int plain_resolve(const char *text, double *ret_number)
{
	static const char *const truths[] = { "y",    "Y",    "yes", "Yes", "YES", "true",
					      "True", "TRUE", "on",  "On",  "ON",  NULL };
	static const char *const falsehoods[] = { "n",     "N",     "no",  "No",  "NO",  "false",
						  "False", "FALSE", "off", "Off", "OFF", NULL };
	static const char *const nulls[] = { "", "~", "null", "Null", "NULL", NULL };

	if (text_in(text, truths))
		return cJSON_True;
	if (text_in(text, falsehoods))
		return cJSON_False;
	if (text_in(text, nulls))
		return cJSON_NULL;
	return *text && number_resolve(text, ret_number) ? cJSON_Number : cJSON_String;
}

static bool tag_is(const char *tag, const char *name)
{
	return strncmp(tag, TAG_PREFIX, strlen(TAG_PREFIX)) == 0 &&
	       strcmp(tag + strlen(TAG_PREFIX), name) == 0;
}

static int scalar_resolve(struct yaml *yaml, const yaml_event_t *event, cJSON **ret_node)
{
	static const char *const infinities[] = { ".inf",  ".Inf",  ".INF",  "+.inf", "+.Inf",
						  "+.INF", "-.inf", "-.Inf", "-.INF", ".nan",
						  ".NaN",  ".NAN",  NULL };
	const char *text = (const char *)event->data.scalar.value;
	const char *tag = (const char *)event->data.scalar.tag;
	bool plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	int type = cJSON_String;
	double number = 0;
	cJSON *node;

	if (strlen(text) != event->data.scalar.length)
		return node_fail(yaml, &event->start_mark, "a NUL character");
	if (tag && (strcmp(tag, "!") == 0 || tag_is(tag, "str")))
		plain = false;
	else if (tag && !tag_is(tag, "bool") && !tag_is(tag, "int") && !tag_is(tag, "float") &&
		 !tag_is(tag, "null"))
		return node_fail(yaml, &event->start_mark, "tag \"%.60s\" is not supported", tag);
	else if (tag)
		plain = true;
	if (plain && text_in(text, infinities))
		return node_fail(yaml, &event->start_mark, "\"%s\" has no JSON form", text);
	if (plain)
		type = plain_resolve(text, &number);
	if (tag && plain &&
	    !(tag_is(tag, "bool")   ? type == cJSON_True || type == cJSON_False
	      : tag_is(tag, "null") ? type == cJSON_NULL
				    : type == cJSON_Number))
		return node_fail(yaml, &event->start_mark, "\"%.60s\" is no %s", text,
				 tag + strlen(TAG_PREFIX));
	node = document_node_new(type, event->start_mark.index);
	if (!node)
		return fail_memory(yaml, &event->start_mark);
	if (type == cJSON_Number)
		cJSON_SetNumberValue(node, number);
	if (type == cJSON_String)
		node->valuestring = strdup(text);
	if (type == cJSON_String && !node->valuestring) {
		cJSON_Delete(node);
		return fail_memory(yaml, &event->start_mark);
	}
	*ret_node = node;
	return 0;
}

/* ---- building the tree ---- */

/* Puts a finished or beginning node where it belongs; takes it over. */
static void node_place(struct yaml *yaml, cJSON *node)
{
	struct frame *frame = yaml->depth ? &yaml->frames[yaml->depth - 1] : NULL;

	if (!frame) {
		yaml->document = node;
		return;
	}
	if (cJSON_IsObject(frame->node)) {
		/* NOLINTNEXTLINE(*NullDereference): set, as no error was returned */
		((struct document_node *)node)->key_at = (uint32_t)frame->key_at;
		node->string = take_ptr(frame->key);
		if (frame->merge)
			node->type |= MERGE_FLAG;
		frame->merges |= frame->merge;
	}
	document_child_add(frame->node, node);
}

static bool key_expected(const struct yaml *yaml)
{
	const struct frame *frame = yaml->depth ? &yaml->frames[yaml->depth - 1] : NULL;

	return frame && cJSON_IsObject(frame->node) && !frame->key;
}

static int key_read(struct yaml *yaml, const yaml_event_t *event)
{
	const char *text = (const char *)event->data.scalar.value;
	bool plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	struct frame *frame = &yaml->frames[yaml->depth - 1];
	cJSON *node = NULL;
	char number[32];

	if (scalar_resolve(yaml, event, &node) < 0)
		return -1;
	if (cJSON_IsNull(node)) {
		cJSON_Delete(node);
		return node_fail(yaml, &event->start_mark, "null as a key");
	}
	if (cJSON_IsBool(node)) {
		text = cJSON_IsTrue(node) ? "true" : "false";
	} else if (cJSON_IsNumber(node)) {
		/* NOLINTNEXTLINE(*NullDereference): set, as no error was returned */
		snprintf(number, sizeof(number), "%.17g", node->valuedouble);
		text = number;
	}
	frame->key = strdup(text);
	frame->key_at = event->start_mark.index;
	frame->merge = plain && strcmp(text, "<<") == 0;
	if (frame->merge)
		frame->merge_mark = event->start_mark;
	cJSON_Delete(node);
	return frame->key ? 0 : fail_memory(yaml, &event->start_mark);
}

static int anchor_add(struct yaml *yaml, const yaml_mark_t *mark, const yaml_char_t *name,
		      cJSON *node, bool complete, size_t *ret_anchor)
{
	struct anchor *anchor = &yaml->anchors[yaml->anchor_count];

	*ret_anchor = NO_ANCHOR;
	if (!name)
		return 0;
	if (yaml->anchor_count == ANCHORS_MAX)
		return node_fail(yaml, mark, "more than %d anchors", ANCHORS_MAX);
	anchor->name = strdup((const char *)name);
	if (!anchor->name)
		return fail_memory(yaml, mark);
	/* NOLINTNEXTLINE(*Malloc): the reader owns its anchors' names */
	anchor->node = node;
	anchor->complete = complete;
	*ret_anchor = yaml->anchor_count++;
	return 0;
}

static size_t node_count(const cJSON *node, size_t depth, size_t *ret_depth)
{
	size_t count = 1;

	if (*ret_depth < depth)
		*ret_depth = depth;
	for (const cJSON *child = node->child; child; child = child->next)
		count += node_count(child, depth + 1, ret_depth);
	return count;
}

/* All of it stands where it is copied to.  The key is copied, too. */
static cJSON *node_copy(const cJSON *node, size_t at)
{
	auto_json cJSON *copy = document_node_new(node->type & ~MERGE_FLAG, at);

	if (!copy)
		return NULL;
	((struct document_node *)copy)->key_at = (uint32_t)at;
	copy->valueint = node->valueint;
	copy->valuedouble = node->valuedouble;
	copy->valuestring = node->valuestring ? strdup(node->valuestring) : NULL;
	copy->string = node->string ? strdup(node->string) : NULL;
	if (!copy->valuestring != !node->valuestring || !copy->string != !node->string)
		return NULL;
	for (const cJSON *child = node->child; child; child = child->next) {
		cJSON *child_copy = node_copy(child, at);

		if (!child_copy)
			return NULL;
		document_child_add(copy, child_copy);
	}
	return take_ptr(copy);
}

/* A copy for a place at the depth of what is being read. */
static int copy_bounded(struct yaml *yaml, const yaml_mark_t *mark, const cJSON *node, size_t at,
			cJSON **ret_copy)
{
	size_t depth = 0;

	yaml->alias_nodes += node_count(node, yaml->depth, &depth);
	if (yaml->alias_nodes > ALIAS_NODES_MAX)
		return node_fail(yaml, mark, "aliases expand to too much");
	if (depth > TEXT_DEPTH_MAX)
		return node_fail(yaml, mark, "nested deeper than %d", TEXT_DEPTH_MAX);
	*ret_copy = node_copy(node, at);
	return *ret_copy ? 0 : fail_memory(yaml, mark);
}

static int alias_read(struct yaml *yaml, const yaml_event_t *event)
{
	const char *name = (const char *)event->data.alias.anchor;
	const struct anchor *anchor = NULL;
	cJSON *copy;

	if (key_expected(yaml))
		return node_fail(yaml, &event->start_mark, "an alias as a key");
	for (size_t i = yaml->anchor_count; i > 0 && !anchor; i--) {
		if (strcmp(yaml->anchors[i - 1].name, name) == 0)
			anchor = &yaml->anchors[i - 1];
	}
	if (!anchor)
		return node_fail(yaml, &event->start_mark, "no anchor \"%.60s\"", name);
	if (!anchor->complete)
		return node_fail(yaml, &event->start_mark, "anchor \"%.60s\" contains itself",
				 name);
	if (copy_bounded(yaml, &event->start_mark, anchor->node, event->start_mark.index, &copy) <
	    0)
		return -1;
	/* NOLINTNEXTLINE(*NullDereference): set, as no error was returned */
	free(take_ptr(copy->string)); /* the place has its own key, or none */
	node_place(yaml, copy);
	return 0;
}

static int scalar_read(struct yaml *yaml, const yaml_event_t *event)
{
	cJSON *node = NULL;
	size_t anchor;

	if (key_expected(yaml))
		return key_read(yaml, event);
	if (scalar_resolve(yaml, event, &node) < 0)
		return -1;
	node_place(yaml, node);
	return anchor_add(yaml, &event->start_mark, event->data.scalar.anchor, node, true, &anchor);
}

static int collection_begin(struct yaml *yaml, const yaml_event_t *event)
{
	bool mapping = event->type == YAML_MAPPING_START_EVENT;
	const yaml_char_t *anchor_name =
		mapping ? event->data.mapping_start.anchor : event->data.sequence_start.anchor;
	const char *tag = (const char *)(mapping ? event->data.mapping_start.tag
						 : event->data.sequence_start.tag);
	cJSON *node;
	size_t anchor;

	if (key_expected(yaml))
		return node_fail(yaml, &event->start_mark, "a key must be plain text");
	if (yaml->depth == TEXT_DEPTH_MAX)
		return node_fail(yaml, &event->start_mark, "nested deeper than %d", TEXT_DEPTH_MAX);
	if (tag && strcmp(tag, "!") != 0 && !tag_is(tag, mapping ? "map" : "seq"))
		return node_fail(yaml, &event->start_mark, "tag \"%.60s\" is not supported", tag);
	node = document_node_new(mapping ? cJSON_Object : cJSON_Array, event->start_mark.index);
	if (!node)
		return fail_memory(yaml, &event->start_mark);
	node_place(yaml, node);
	if (anchor_add(yaml, &event->start_mark, anchor_name, node, false, &anchor) < 0)
		return -1;
	yaml->frames[yaml->depth++] = (struct frame){ .node = node, .anchor = anchor };
	return 0;
}

/* ---- merge keys ---- */

static bool member_is(const cJSON *map, const char *key, size_t *work)
{
	const cJSON *member = map->child;

	for (; member; member = member->next) {
		++*work;
		if (!(member->type & MERGE_FLAG) && strcmp(member->string, key) == 0)
			return true;
	}
	return false;
}

/* Gives the map what it does not have: its own keys win, and then who is merged first. */
static int map_merge(struct yaml *yaml, const yaml_mark_t *mark, cJSON *map, const cJSON *from)
{
	size_t at = ((const struct document_node *)from)->at;

	if (!cJSON_IsObject(from))
		return node_fail(yaml, mark, "a merge key (<<) wants a mapping or a list of them");
	for (const cJSON *member = from->child; member; member = member->next) {
		cJSON *copy;

		if (member_is(map, member->string, &yaml->merge_work))
			continue;
		if (yaml->merge_work > MERGE_WORK_MAX)
			return node_fail(yaml, mark, "merge keys expand to too much");
		if (copy_bounded(yaml, mark, member, at, &copy) < 0)
			return -1;
		document_child_add(map, copy);
	}
	return 0;
}

static int merges_resolve(struct yaml *yaml, const yaml_mark_t *mark, cJSON *map)
{
	cJSON *next;
	int ret = 0;

	for (cJSON *member = map->child; member && !ret; member = next) {
		const cJSON *item;

		next = member->next;
		if (!(member->type & MERGE_FLAG))
			continue;
		/* It lives on to the document's end: anchors may point into it. */
		cJSON_DetachItemViaPointer(map, member);
		document_child_add(yaml->merged, member);
		if (!cJSON_IsArray(member)) {
			ret = map_merge(yaml, mark, map, member);
			continue;
		}
		for (item = member->child; item && !ret; item = item->next)
			ret = map_merge(yaml, mark, map, item);
	}
	return ret;
}

static int collection_end(struct yaml *yaml)
{
	struct frame *frame = &yaml->frames[--yaml->depth];
	int ret = frame->merges ? merges_resolve(yaml, &frame->merge_mark, frame->node) : 0;

	if (frame->anchor != NO_ANCHOR)
		yaml->anchors[frame->anchor].complete = true;
	return ret;
}

/* ---- documents ---- */

static int event_read(struct yaml *yaml, const yaml_event_t *event)
{
	switch (event->type) {
	case YAML_SCALAR_EVENT:
		return scalar_read(yaml, event);
	case YAML_ALIAS_EVENT:
		return alias_read(yaml, event);
	case YAML_MAPPING_START_EVENT:
	case YAML_SEQUENCE_START_EVENT:
		return collection_begin(yaml, event);
	case YAML_MAPPING_END_EVENT:
	case YAML_SEQUENCE_END_EVENT:
		return collection_end(yaml);
	default:
		return 0;
	}
}

static void parser_error(const struct yaml *yaml, struct text_error *ret_error)
{
	const yaml_parser_t *parser = &yaml->parser;
	const yaml_mark_t *mark = &parser->problem_mark;
	const char *problem = parser->problem ? parser->problem : "out of memory";
	const char *hint = "";

	if (parser->error == YAML_READER_ERROR) {
		if (parser->problem_offset < yaml->len)
			text_error_at(yaml->text, parser->problem_offset, ret_error);
	} else if (parser->error != YAML_MEMORY_ERROR) {
		ret_error->line = mark->line + 1;
		ret_error->column = mark->column + 1;
		if (mark->index < yaml->len && yaml->text[mark->index] == '\t')
			hint = " (a tab: YAML wants spaces)";
	}
	snprintf(ret_error->text, sizeof(ret_error->text), "not valid YAML: %s%s", problem, hint);
}

struct yaml *yaml_open(const char *text, size_t len)
{
	struct yaml *yaml = calloc(1, sizeof(*yaml));

	if (!yaml || !yaml_parser_initialize(&yaml->parser)) {
		free(yaml);
		return NULL;
	}
	yaml->text = text;
	yaml->len = len;
	yaml_parser_set_encoding(&yaml->parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&yaml->parser, (const unsigned char *)text, len);
	return yaml;
}

static void document_forget(struct yaml *yaml)
{
	while (yaml->anchor_count > 0)
		free(yaml->anchors[--yaml->anchor_count].name);
	for (size_t i = 0; i < yaml->depth; i++)
		free(take_ptr(yaml->frames[i].key));
	yaml->depth = 0;
	cJSON_Delete(take_ptr(yaml->document));
	cJSON_Delete(take_ptr(yaml->merged));
}

void yaml_close(struct yaml *yaml)
{
	if (!yaml)
		return;
	document_forget(yaml);
	yaml_parser_delete(&yaml->parser);
	free(yaml);
}

int yaml_next(struct yaml *yaml, struct cJSON **ret, struct text_error *ret_error)
{
	yaml_event_type_t type = YAML_NO_EVENT;
	yaml_event_t event;

	*ret_error = (struct text_error){ .text = "out of memory" };
	document_forget(yaml);
	yaml->error = ret_error;
	yaml->merged = cJSON_CreateArray();
	if (!yaml->merged)
		return -EINVAL;
	while (type != YAML_DOCUMENT_END_EVENT && type != YAML_STREAM_END_EVENT) {
		int failed;

		task_pause();
		if (!yaml_parser_parse(&yaml->parser, &event)) {
			parser_error(yaml, ret_error);
			return -EINVAL;
		}
		type = event.type;
		failed = event_read(yaml, &event);
		yaml_event_delete(&event);
		if (failed)
			return -EINVAL;
	}
	if (type == YAML_STREAM_END_EVENT)
		return 0;
	*ret = take_ptr(yaml->document);
	return 1;
}
