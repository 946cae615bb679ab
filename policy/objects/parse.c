/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text -> documents -> objects: kinds, lists, metadata, and what holds for a text as a whole.  The
 * fields of each kind are read in parse_*.c.
 */
#include "policy/objects/parse.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/arena.h"
#include "lib/document.h"
#include "lib/shared.h"
#include "lib/task.h"
#include "policy/objects/kind.h"
#include "policy/objects/name.h"
#include "policy/objects/reader.h"

static const struct kind_spec {
	bool namespaced;
	const char *(*name_check)(const char *text);
	void (*read)(struct reader *reader, const struct json_node *root, struct object *object);
} kind_specs[OBJECT_KIND_COUNT] = {
	[OBJECT_NAMESPACE] = { false, name_check_dns_label, read_namespace },
	[OBJECT_NODE] = { false, name_check_dns_subdomain, read_node },
	[OBJECT_POD] = { true, name_check_pod, read_pod },
	[OBJECT_SERVICE] = { true, name_check_dns_label, read_service },
	[OBJECT_ENDPOINT_SLICE] = { true, name_check_dns_subdomain, read_slice },
	[OBJECT_NETWORK_POLICY] = { true, name_check_dns_subdomain, read_policy },
	[OBJECT_CLUSTER_POLICY] = { false, name_check_dns_subdomain, read_cluster_policy },
};

/* One text being parsed. */
struct parse {
	struct object_reader reader;
	struct object_list list;
	size_t capacity;
	struct arena *arena;
	struct intern seen; /* kind, namespace and name of each object */
	bool broken;        /* reading by item cannot go on */
};

void object_list_done(struct object_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		object_free(list->items[i]);
	free(list->items);
	*list = (struct object_list){ 0 };
}

/* ---- the tree as such ---- */

static int member_compare(const void *a, const void *b)
{
	return strcmp((*(const cJSON *const *)a)->string, (*(const cJSON *const *)b)->string);
}

#define FEW_MEMBERS 16 /* fewer comparisons than sorting takes, and no memory */

static void check_few_duplicates(struct reader *reader, const struct json_node *at)
{
	const cJSON *member, *earlier;

	cJSON_ArrayForEach (member, at->value) {
		struct json_node child = json_member_node(at, member);

		for (earlier = at->value->child; earlier != member; earlier = earlier->next) {
			if (*earlier->string != *member->string ||
			    strcmp(earlier->string, member->string) != 0)
				continue;
			reader_problem(reader, &child, PROBLEM_AT_KEY, "the same key twice");
			break;
		}
	}
}

static void check_duplicates(struct reader *reader, const struct json_node *at)
{
	size_t count = (size_t)cJSON_GetArraySize(at->value);
	const cJSON **members;
	const cJSON *member;
	size_t i = 0;

	if (count <= FEW_MEMBERS) {
		check_few_duplicates(reader, at);
		return;
	}
	members = xcalloc(count, sizeof(cJSON *));
	cJSON_ArrayForEach (member, at->value)
		members[i++] = member;
	qsort(members, count, sizeof(cJSON *), member_compare);
	for (i = 1; i < count; i++) {
		struct json_node child = json_member_node(at, members[i]);

		if (strcmp(members[i - 1]->string, members[i]->string) == 0)
			reader_problem(reader, &child, PROBLEM_AT_KEY, "the same key twice");
	}
	free(members);
}

/* Keys are unique, nesting is bounded. */
void reader_check_tree(struct reader *reader, const struct json_node *at, size_t depth)
{
	const cJSON *json;
	size_t index = 0;

	if (depth > TEXT_DEPTH_MAX) {
		reader_error(reader, at, "nested deeper than %d", TEXT_DEPTH_MAX);
		return;
	}
	if (cJSON_IsObject(at->value))
		check_duplicates(reader, at);
	for (json = at->value->child; json; json = json->next, index++) {
		struct json_node child;

		if (!json->child)
			continue;
		child = json->string ? json_member_node(at, json) : json_element(at, json, index);
		reader_check_tree(reader, &child, depth + 1);
	}
}

/* ---- one object ---- */

static void read_metadata(struct reader *reader, const struct json_node *root,
			  struct object *object)
{
	const struct kind_spec *spec = &kind_specs[object->kind];
	struct json_node metadata = json_member(root, "metadata");
	struct json_node name = json_member(&metadata, "name");
	struct json_node namespace = json_member(&metadata, "namespace");
	struct json_node uid = json_member(&metadata, "uid");
	struct json_node annotations = json_member(&metadata, "annotations");
	const char *name_text;
	const char *text;
	const char *wanted;

	read_is_object(reader, &metadata);
	name_text = read_string(reader, &name);
	text = read_string(reader, &namespace);
	if (!spec->namespaced)
		text = "";
	else if (!text || !*text)
		text = "default";
	if (name_text)
		snprintf(object_reader_of(reader)->object, OBJECT_TEXT_MAX, "%s %s%s%s",
			 object_kind_name(object->kind), text, spec->namespaced ? "/" : "",
			 name_text);
	object->namespace = shared_string(text);
	wanted = spec->namespaced ? name_check_dns_label(text) : NULL;
	if (wanted)
		reader_error(reader, &namespace, "\"%s\" is not a namespace: %s", text, wanted);

	object->name = shared_string(name_text ? name_text : "");
	wanted = name_text ? spec->name_check(name_text) : NULL;
	if (wanted)
		reader_error(reader, &name, "\"%s\" is not a name: %s", name_text, wanted);
	read_required(reader, &name);
	text = read_string(reader, &uid);
	object->uid = xstrdup(text ? text : "");
	if (read_is_object(reader, &annotations)) {
		struct json_node ignore = json_member(&annotations, "tendril.io/lint-ignore");

		text = read_string(reader, &ignore);
		object->lint_ignore = text ? xstrdup(text) : NULL;
	}
}

/* Notes an object of somebody else's kind: "Deployment shop/web". */
static void problems_skip(struct object_reader *reader, const char *kind, const char *namespace,
			  const char *name)
{
	struct problems *problems = reader->problems;
	char text[OBJECT_TEXT_MAX];

	if (reader->flags & PARSE_NAME_SKIPPED) {
		snprintf(text, sizeof(text), "%s %s%s%s", kind, namespace ? namespace : "",
			 namespace ? "/" : "", name ? name : "");
		problems->skipped_names =
			xreallocarray(problems->skipped_names, problems->skipped + 1,
				      sizeof(*problems->skipped_names));
		problems->skipped_names[problems->skipped] = xstrdup(text);
	}
	problems->skipped++;
}

/* An object that is not read: a problem, or somebody else's. */
static void kind_skip(struct reader *reader, const struct json_node *root, const char *kind,
		      const struct kind_match *match)
{
	struct json_node metadata = json_member(root, "metadata");
	struct json_node name = json_member(&metadata, "name");
	struct json_node namespace = json_member(&metadata, "namespace");
	struct json_node fault = json_member(root, match->version_is_wrong ? "apiVersion" : "kind");

	if (match->class == KIND_REFUSED)
		reader_error(reader, &fault, "%s", match->text);
	else if (match->class == KIND_WARNED)
		reader_problem(reader, &fault, PROBLEM_WARNING, "%s", match->text);
	else
		problems_skip(object_reader_of(reader), kind, cJSON_GetStringValue(namespace.value),
			      cJSON_GetStringValue(name.value));
}

/* NULL: not an object of ours, or it is beyond reading; problems say why. */
static struct object *read_object(struct reader *reader, const struct json_node *root,
				  const char *list_version, const char *list_kind)
{
	struct json_node api_version = json_member(root, "apiVersion");
	struct json_node kind = json_member(root, "kind");
	const char *version_text;
	const char *kind_text;
	struct kind_match match;
	struct object *object;

	if (!root->value || cJSON_IsNull(root->value)) {
		reader_error(reader, root, "null, where an object is needed");
		return NULL;
	}
	if (!read_is_object(reader, root))
		return NULL;
	version_text = read_string(reader, &api_version);
	kind_text = read_string(reader, &kind);
	if (list_kind && !api_version.value)
		version_text = list_version;
	if (list_kind && !kind.value)
		kind_text = list_kind;
	if (!version_text && !api_version.value)
		reader_missing(reader, &api_version);
	if (!kind_text && !kind.value)
		reader_missing(reader, &kind);
	if (!version_text || !kind_text)
		return NULL;
	kind_match(version_text, kind_text, &match);
	if (match.class != KIND_READ) {
		kind_skip(reader, root, kind_text, &match);
		return NULL;
	}
	object = object_new(match.kind);
	read_metadata(reader, root, object);
	reader_check_tree(reader, root, 1);
	kind_specs[match.kind].read(reader, root, object);
	return object;
}

int object_parse(const struct cJSON *json, unsigned int flags, struct object **ret_object,
		 struct problems *problems)
{
	struct json_node root = json_root(json);
	size_t errors = problems->errors;
	struct object_reader reader;
	struct object *object;

	object_reader_init(&reader, problems, flags, NULL);
	object = read_object(&reader.reader, &root, NULL, NULL);
	if (problems->errors == errors) {
		*ret_object = object;
		return 0;
	}
	object_free(object);
	return -EINVAL;
}

/* ---- a text ---- */

static void parse_add(struct parse *parse, const struct json_node *root, struct object *object)
{
	bool listed = root->parent != NULL;

	auto_buffer struct buffer key = { 0 };
	size_t known = parse->seen.count;

	if (!object)
		return;
	object->document = (uint32_t)parse->reader.document;
	object->item = listed ? (uint32_t)root->index + 1 : 0;
	buffer_number(&key, object->kind);
	buffer_text(&key, object->namespace);
	buffer_text(&key, object->name);
	intern_add(&parse->seen, key.data, key.len);
	array_room(&parse->list.items, parse->list.count, &parse->capacity,
		   sizeof(struct object *));
	parse->list.items[parse->list.count++] = object;
	if (parse->seen.count == known && *object->name)
		reader_error(&parse->reader.reader, root, "the same object is there twice");
}

/* "PodList" -> "Pod"; false if it is no list. */
static bool list_item_kind(const char *kind, char *buf, size_t size)
{
	size_t len = strlen(kind);

	if (len < 4 || strcmp(kind + len - 4, "List") != 0 || len - 4 >= size)
		return false;
	memcpy(buf, kind, len - 4);
	buf[len - 4] = '\0';
	return true;
}

static void parse_item(struct parse *parse, const struct json_node *items, const cJSON *json,
		       size_t index, const char *version, const char *kind)
{
	struct json_node item = json_element(items, json, index);

	task_pause();
	item.object_root = true;
	snprintf(parse->reader.object, sizeof(parse->reader.object), "document %zu, item %zu",
		 parse->reader.document + 1, index + 1);
	parse_add(parse, &item, read_object(&parse->reader.reader, &item, version, kind));
}

static void parse_list(struct parse *parse, const struct json_node *root, const char *item_kind)
{
	struct documents *documents = parse->reader.documents;
	struct reader *reader = &parse->reader.reader;
	struct json_node api_version = json_member(root, "apiVersion");
	struct json_node items = json_member(root, "items");
	const char *version = read_string(reader, &api_version);
	const char *kind = *item_kind ? item_kind : NULL;
	size_t index = 0;
	cJSON *item;

	if (!kind)
		version = NULL;
	check_duplicates(reader, root);
	if (!read_is_array(reader, &items))
		return;
	parse->list.documents++;
	while (documents->in_list) {
		int found = documents_next_item(documents, &item);

		parse->broken = found < 0;
		if (found <= 0)
			break;
		parse_item(parse, &items, item, index++, version, kind);
		cJSON_Delete(item);
	}
	/* Each goes once it is read: to free the whole of a large tree takes long. */
	while ((item = cJSON_DetachItemFromArray((cJSON *)items.value, 0))) {
		parse_item(parse, &items, item, index++, version, kind);
		cJSON_Delete(item);
	}
}

static void parse_document(struct parse *parse, const cJSON *json)
{
	struct json_node root = json_root(json);
	const char *kind = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "kind"));
	char item_kind[64];

	if (!root.value) /* an empty YAML document */
		return;
	snprintf(parse->reader.object, sizeof(parse->reader.object), "document %zu",
		 parse->reader.document + 1);
	if (kind && list_item_kind(kind, item_kind, sizeof(item_kind))) {
		parse_list(parse, &root, item_kind);
		return;
	}
	parse->list.documents++;
	parse_add(parse, &root, read_object(&parse->reader.reader, &root, NULL, NULL));
}

static void parse_documents(struct parse *parse)
{
	struct text_error error;
	cJSON *document;
	int found = 1;

	while (found == 1 && !parse->broken) {
		found = documents_next(parse->reader.documents, &document, &error);
		if (found < 0)
			reader_text_error(&parse->reader, &error);
		if (found != 1)
			break;
		parse_document(parse, document);
		parse->reader.document++;
		cJSON_Delete(document);
	}
}

/* -EAGAIN: reading by item found no JSON where an item should be. */
static int text_parse(const char *text, size_t len, unsigned int flags, bool by_item,
		      struct object_list *ret_list, struct problems *problems)
{
	struct documents documents;
	struct parse parse = { 0 };
	size_t errors = problems->errors;

	object_reader_init(&parse.reader, problems, flags, &documents);
	parse.arena = arena_new();
	parse.seen.arena = parse.arena;
	*ret_list = (struct object_list){ 0 };
	documents_init(&documents, text, len);
	documents.by_item = by_item;
	parse_documents(&parse);
	documents_done(&documents);
	intern_done(&parse.seen);
	arena_free(parse.arena);
	if (!parse.broken && problems->errors == errors) {
		*ret_list = parse.list;
		return 0;
	}
	object_list_done(&parse.list);
	return parse.broken ? -EAGAIN : -EINVAL;
}

int objects_parse(const char *text, size_t len, unsigned int flags, struct object_list *ret_list,
		  struct problems *problems)
{
	const struct problems before = *problems;
	int ret = text_parse(text, len, flags, true, ret_list, problems);

	if (ret != -EAGAIN)
		return ret;
	while (problems->count > before.count)
		problem_done(&problems->items[--problems->count]);
	while (problems->skipped_names && problems->skipped > before.skipped)
		free(problems->skipped_names[--problems->skipped]);
	problems->skipped = before.skipped;
	problems->errors = before.errors;
	return text_parse(text, len, flags, false, ret_list, problems);
}

/* The value at the first step of a path, which moves to the next; NULL: it is not written. */
static const cJSON *path_step(const cJSON *json, const char **path)
{
	const char *at = *path, *end;
	size_t len;

	if (*at == '[') {
		end = strchr(++at, ']');
		if (!end)
			return NULL;
		*path = end + 1;
	} else {
		at += *at == '.';
		*path = end = at + strcspn(at, ".[");
	}
	len = (size_t)(end - at);
	if (cJSON_IsArray(json))
		return cJSON_GetArrayItem(json, (int)strtol(at, NULL, 10));
	for (json = cJSON_IsObject(json) ? json->child : NULL; json; json = json->next) {
		if (strlen(json->string) == len && memcmp(json->string, at, len) == 0)
			break;
	}
	return json;
}

/* The value at the path, or the nearest around it that is written. */
static const cJSON *position_find(const cJSON *document, const struct object_position *position)
{
	const char *path = position->path;
	const cJSON *json = document, *next;

	if (position->object->item) {
		next = cJSON_GetObjectItemCaseSensitive(document, "items");
		next = cJSON_GetArrayItem(next, (int)position->object->item - 1);
		json = next ? next : document;
	}
	while (*path && (next = path_step(json, &path)))
		json = next;
	return json;
}

struct found_position {
	struct object_position *position;
	const cJSON *json;
};

static int document_compare(const void *a, const void *b)
{
	const struct found_position *left = a, *right = b;
	uint32_t of_left = left->position->object->document;
	uint32_t of_right = right->position->object->document;

	return (of_left > of_right) - (of_left < of_right);
}

static int text_order(const void *a, const void *b)
{
	const struct found_position *left = a, *right = b;
	uint32_t at_left = ((const struct document_node *)left->json)->at;
	uint32_t at_right = ((const struct document_node *)right->json)->at;

	return (at_left > at_right) - (at_left < at_right);
}

/* Fills in the positions in one document: in the order of the text, as going back costs. */
static void document_positions(struct documents *documents, const cJSON *document,
			       struct found_position *found, size_t count)
{
	for (size_t i = 0; i < count; i++)
		found[i].json = position_find(document, found[i].position);
	qsort(found, count, sizeof(*found), text_order);
	for (size_t i = 0; i < count; i++)
		documents_position(documents, found[i].json, false, &found[i].position->line,
				   &found[i].position->column);
}

void objects_position(const char *text, size_t len, struct object_position *positions, size_t count)
{
	auto_free struct found_position *found = xcalloc(count, sizeof(*found));
	struct documents documents;
	struct text_error error;
	cJSON *document;
	size_t first = 0, end;

	for (size_t i = 0; i < count; i++) {
		positions[i].line = 0;
		found[i].position = &positions[i];
	}
	qsort(found, count, sizeof(*found), document_compare);
	documents_init(&documents, text, len);
	for (size_t number = 0; first < count; number++, first = end) {
		if (documents_next(&documents, &document, &error) != 1)
			break;
		for (end = first; end < count && found[end].position->object->document == number;)
			end++;
		if (end > first)
			document_positions(&documents, document, &found[first], end - first);
		cJSON_Delete(document);
	}
	documents_done(&documents);
}
