/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/json.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/json_text.h"

void json_init(void)
{
	cJSON_InitHooks(&(cJSON_Hooks){ .malloc_fn = xmalloc, .free_fn = free });
}

int json_parse(const char *text, size_t len, struct cJSON **ret, struct errmsg *err)
{
	struct text_error error = { 0 };
	struct json_text json = { .text = text, .len = len, .error = &error };
	struct cJSON *value = json_text_value(&json);

	json_text_space(&json);
	if (value && json.at == len) {
		*ret = value;
		return 0;
	}
	if (value) {
		cJSON_Delete(value);
		snprintf(error.text, sizeof(error.text), "more than one JSON value");
		text_error_at(text, json.at, &error);
	}
	return fail_plain(err, -EBADMSG, "line %zu, column %zu: %s", error.line, error.column,
			  error.text);
}

struct json_node json_root(const struct cJSON *value)
{
	return (struct json_node){
		.value = cJSON_IsNull(value) ? NULL : value,
		.written = value,
		.object_root = true,
	};
}

struct json_node json_member(const struct json_node *object, const char *key)
{
	const struct cJSON *member = object->value ? object->value->child : NULL;
	bool null;

	if (member && !member->string) /* elements of an array */
		member = NULL;
	/* Most keys differ in their first letter: no call for those. */
	while (member && (*member->string != *key || strcmp(member->string, key) != 0))
		member = member->next;
	/* As cJSON_IsNull(), without the call: this is what reading a large text mostly does. */
	null = member && (member->type & 0xff) == cJSON_NULL;
	return (struct json_node){
		.value = null ? NULL : member,
		.written = member,
		.parent = object,
		.key = key,
	};
}

struct json_node json_member_node(const struct json_node *object, const struct cJSON *member)
{
	return (struct json_node){
		.value = member, .written = member, .parent = object, .key = member->string
	};
}

struct json_node json_element(const struct json_node *array, const struct cJSON *value,
			      size_t index)
{
	return (struct json_node){
		.value = value, .written = value, .parent = array, .index = index
	};
}

static bool key_is_plain(const char *key)
{
	const char *c = key;

	while (isalnum((unsigned char)*c) || *c == '-' || *c == '_')
		c++;
	return *key && !*c;
}

/* Returns the length of the path; one that is longer than buf is cut off. */
static size_t path_add(const struct json_node *node, char *buf, size_t size)
{
	size_t len;
	int more;

	buf[0] = '\0';
	if (!node->parent || node->object_root)
		return 0;
	len = path_add(node->parent, buf, size);
	if (!node->key)
		more = snprintf(buf + len, size - len, "[%zu]", node->index);
	else if (key_is_plain(node->key))
		more = snprintf(buf + len, size - len, "%s%s", len > 0 ? "." : "", node->key);
	else
		more = snprintf(buf + len, size - len, "[%s]", node->key);
	return more < 0 || (size_t)more >= size - len ? size - 1 : len + (size_t)more;
}

const char *json_path_write(const struct json_node *node, char *buf, size_t size)
{
	path_add(node, buf, size);
	return buf;
}

const char *json_path(const struct json_node *node, char *buf)
{
	if (path_add(node, buf, JSON_PATH_MAX) == 0)
		snprintf(buf, JSON_PATH_MAX, "document");
	return buf;
}
