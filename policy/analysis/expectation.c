/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/analysis/expectation.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/auto.h"
#include "policy/objects/reader.h"

struct texts { /* one or several texts of a field */
	const char **items;
	size_t count;
};

/* A text, or the digits of a port's number; NULL with a problem. */
static const char *text_read(struct reader *reader, struct arena *arena, const struct json_node *at,
			     bool number)
{
	char digits[16];
	const char *text;

	if (number && cJSON_IsNumber(at->value)) {
		snprintf(digits, sizeof(digits), "%u", read_port(reader, at));
		return arena_string(arena, digits);
	}
	text = read_string(reader, at);
	if (text && !*text)
		reader_error(reader, at, "must not be empty");
	return text && *text ? arena_string(arena, text) : NULL;
}

/* A field that holds one text or a list of them. */
static void texts_read(struct reader *reader, struct arena *arena, const struct json_node *at,
		       bool number, struct texts *texts)
{
	size_t count = cJSON_IsArray(at->value) ? (size_t)cJSON_GetArraySize(at->value) : 1;
	const cJSON *json;
	size_t index = 0;

	texts->items = arena_alloc(arena, count * sizeof(const char *));
	if (!at->value) {
		reader_missing(reader, at);
	} else if (!cJSON_IsArray(at->value)) {
		texts->items[0] = text_read(reader, arena, at, number);
		texts->count = texts->items[0] != NULL;
	} else if (count == 0) {
		reader_error(reader, at, "an empty list");
	}
	if (!cJSON_IsArray(at->value))
		return;
	cJSON_ArrayForEach (json, at->value) {
		struct json_node item = json_element(at, json, index++);
		const char *text;

		if (cJSON_IsNull(json)) {
			reader_missing(reader, &item);
			continue;
		}
		text = text_read(reader, arena, &item, number);
		if (text)
			texts->items[texts->count++] = text;
	}
}

static bool expect_read(struct reader *reader, const struct json_node *at)
{
	const char *text = read_required(reader, at) ? read_string(reader, at) : NULL;

	if (text && strcmp(text, "allow") != 0 && strcmp(text, "deny") != 0)
		reader_error(reader, at, "\"%s\" is not a verdict (allow or deny)", text);
	return text && strcmp(text, "allow") == 0;
}

/* Every sender with every receiver on every port. */
static void expectations_multiply(struct reader *reader, const struct json_node *at,
				  struct expectations *list, const struct expectation *one,
				  const struct texts fields[3])
{
	size_t count = fields[0].count * fields[1].count * fields[2].count;

	if (count > EXPECTATIONS_MAX - list->count) {
		reader_error(reader, at, "more than %d expectations in one file", EXPECTATIONS_MAX);
		return;
	}
	for (size_t i = 0; i < count; i++) {
		size_t pair = i / fields[2].count;
		struct expectation *item;

		item = array_add(list);
		*item = *one;
		item->from = fields[0].items[pair / fields[1].count];
		item->to = fields[1].items[pair % fields[1].count];
		item->port = fields[2].items[i % fields[2].count];
	}
}

static void test_read(struct reader *reader, const struct json_node *at, struct expectations *list)
{
	static const char *const names[] = { "name", "from", "to", "port", "expect" };
	struct expectation one = { 0 };
	struct json_node name = json_member(at, "name"), expect = json_member(at, "expect");
	struct json_node from = json_member(at, "from"), to = json_member(at, "to");
	struct json_node port = json_member(at, "port");
	struct texts fields[3] = { { 0 } };
	size_t column;

	documents_position(object_reader_of(reader)->documents, at->value, false, &one.line,
			   &column);
	if (!cJSON_IsObject(at->value)) {
		reader_error(reader, at, "an object with from, to, port and expect is needed");
		return;
	}
	read_known_fields(reader, at, names, ARRAY_SIZE(names));
	if (name.value)
		one.name = text_read(reader, list->arena, &name, false);
	texts_read(reader, list->arena, &from, false, &fields[0]);
	texts_read(reader, list->arena, &to, false, &fields[1]);
	texts_read(reader, list->arena, &port, true, &fields[2]);
	one.allow = expect_read(reader, &expect);
	expectations_multiply(reader, at, list, &one, fields);
}

static void document_read(struct reader *reader, const cJSON *json, struct expectations *list)
{
	static const char *const names[] = { "tests" };
	struct json_node root = json_root(json);
	struct json_node tests = json_member(&root, "tests");
	const cJSON *item;
	size_t index = 0;

	if (!cJSON_IsObject(json)) {
		reader_error(reader, &root, "an object with a list \"tests\" is needed");
		return;
	}
	reader_check_tree(reader, &root, 0);
	read_known_fields(reader, &root, names, ARRAY_SIZE(names));
	if (!read_required(reader, &tests) || !read_is_array(reader, &tests))
		return;
	if (!tests.value->child) /* would always pass */
		reader_error(reader, &tests, "an empty list");
	cJSON_ArrayForEach (item, tests.value) {
		struct json_node at = json_element(&tests, item, index++);

		test_read(reader, &at, list);
	}
}

static void text_read_all(struct object_reader *reader, struct expectations *list)
{
	cJSON *document = NULL;
	struct text_error error;
	int found;

	found = documents_next(reader->documents, &document, &error);
	if (found >= 0)
		document_read(&reader->reader, document, list);
	cJSON_Delete(document);
	for (size_t count = 2; found == 1; count++) {
		found = documents_next(reader->documents, &document, &error);
		if (found == 1 && count == 2) {
			struct json_node root = json_root(document);

			reader->document = 1;
			reader_error(&reader->reader, &root,
				     "one document is needed, here is another");
		}
		if (found == 1)
			cJSON_Delete(document);
	}
	if (found < 0)
		reader_text_error(reader, &error);
}

int expectations_parse(const char *text, size_t len, struct expectations *ret_list,
		       struct problems *problems)
{
	struct expectations list = { .arena = arena_new() };
	struct documents documents;
	struct object_reader reader;
	size_t errors = problems->errors;
	int ret = 0;

	object_reader_init(&reader, problems, 0, &documents);
	documents_init(&documents, text, len);
	text_read_all(&reader, &list);
	documents_done(&documents);
	if (problems->errors > errors)
		ret = -EINVAL;
	if (ret < 0)
		expectations_done(&list);
	else
		*ret_list = list;
	return ret;
}

void expectations_done(struct expectations *expectations)
{
	free(expectations->items);
	arena_free(expectations->arena);
	*expectations = (struct expectations){ 0 };
}
