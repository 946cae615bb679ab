/* SPDX-License-Identifier: Apache-2.0 */
/* Checked access to parsed JSON: types, ranges and the path of what is wrong. */
#include "lib/json.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/document.h"

/* Doubles hold every integer up to this one. */
#define JSON_INTEGER_MAX 9007199254740992LL

int json_parse(const char *text, size_t len, struct cJSON **ret, struct errmsg *err)
{
	struct text_error error;
	size_t at = 0;
	struct cJSON *json = json_value_parse(text, len, &at, &error);

	while (json && at < len && text[at] && strchr(" \t\r\n", text[at]))
		at++;
	if (json && at == len) {
		*ret = json;
		return 0;
	}
	if (json) {
		cJSON_Delete(json);
		snprintf(error.text, sizeof(error.text), "more than one JSON value");
		text_error_at(text, at, &error);
	}
	return fail_plain(err, -EBADMSG, "line %zu, column %zu: %s", error.line, error.column,
			  error.text);
}

struct json_node json_root(const struct cJSON *value)
{
	return (struct json_node){ .value = value, .written = value };
}

static struct json_node node_new(const struct json_node *parent, const struct cJSON *written)
{
	/* As cJSON_IsNull(), without the call: this is what reading a large text mostly does. */
	bool null = written && (written->type & 0xff) == cJSON_NULL;

	return (struct json_node){
		.value = null ? NULL : written,
		.written = written,
		.parent = parent,
	};
}

struct json_node json_member(const struct json_node *object, const char *key)
{
	const struct cJSON *member = object->value ? object->value->child : NULL;
	struct json_node node;

	if (member && !member->string) /* elements of an array */
		member = NULL;
	/* Most keys differ in their first letter: no call for those. */
	while (member && (*member->string != *key || strcmp(member->string, key) != 0))
		member = member->next;
	node = node_new(object, member);
	node.key = key;
	return node;
}

struct json_node json_member_node(const struct json_node *object, const struct cJSON *member)
{
	struct json_node node = node_new(object, member);

	node.value = member;
	node.key = member->string;
	return node;
}

struct json_node json_at(const struct json_node *array, size_t index)
{
	const struct cJSON *value = array->value && index < INT32_MAX
					    ? cJSON_GetArrayItem(array->value, (int)index)
					    : NULL;

	return json_element(array, value, index);
}

struct json_node json_element(const struct json_node *array, const struct cJSON *value,
			      size_t index)
{
	struct json_node node = node_new(array, value);

	node.index = index;
	return node;
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

int json_fail(const struct json_node *node, struct errmsg *err, const char *fmt, ...)
{
	char path[JSON_PATH_MAX];
	char text[sizeof(err->text) - JSON_PATH_MAX];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	return fail_plain(err, -EINVAL, "%s: %s", json_path(node, path), text);
}

int json_object(const struct json_node *node, struct errmsg *err)
{
	if (!node->value)
		return json_fail(node, err, "missing");
	if (!cJSON_IsObject(node->value))
		return json_fail(node, err, "not an object");
	return 0;
}

int json_array(const struct json_node *node, size_t *ret_count, struct errmsg *err)
{
	if (!node->value)
		return json_fail(node, err, "missing");
	if (!cJSON_IsArray(node->value))
		return json_fail(node, err, "not an array");
	*ret_count = (size_t)cJSON_GetArraySize(node->value);
	return 0;
}

int json_string(const struct json_node *node, const char **ret, struct errmsg *err)
{
	if (!node->value)
		return json_fail(node, err, "missing");
	if (!cJSON_IsString(node->value))
		return json_fail(node, err, "not a string");
	*ret = node->value->valuestring;
	return 0;
}

int json_integer(const struct json_node *node, int64_t min, int64_t max, int64_t *ret,
		 struct errmsg *err)
{
	double number;

	if (!node->value)
		return json_fail(node, err, "missing");
	if (!cJSON_IsNumber(node->value))
		return json_fail(node, err, "not a number");
	number = node->value->valuedouble;
	if (!isfinite(number) || number != trunc(number) || fabs(number) > JSON_INTEGER_MAX)
		return json_fail(node, err, "%g is not a whole number", number);
	if ((int64_t)number < min || (int64_t)number > max)
		return json_fail(node, err, "%.0f is not between %lld and %lld", number,
				 (long long)min, (long long)max);
	*ret = (int64_t)number;
	return 0;
}

int json_bool(const struct json_node *node, bool *ret, struct errmsg *err)
{
	if (!node->value)
		return json_fail(node, err, "missing");
	if (!cJSON_IsBool(node->value))
		return json_fail(node, err, "not true or false");
	*ret = cJSON_IsTrue(node->value);
	return 0;
}

int json_string_opt(const struct json_node *node, const char **ret, struct errmsg *err)
{
	return node->value ? json_string(node, ret, err) : 0;
}

int json_integer_opt(const struct json_node *node, int64_t min, int64_t max, int64_t *ret,
		     struct errmsg *err)
{
	return node->value ? json_integer(node, min, max, ret, err) : 0;
}

int json_bool_opt(const struct json_node *node, bool *ret, struct errmsg *err)
{
	return node->value ? json_bool(node, ret, err) : 0;
}

int json_known(const struct json_node *object, const char *const known[], size_t count,
	       struct errmsg *err)
{
	const struct cJSON *member;

	cJSON_ArrayForEach (member, object->value) {
		struct json_node node = json_member_node(object, member);
		size_t i = 0;

		while (i < count && strcmp(known[i], member->string) != 0)
			i++;
		if (i == count)
			return json_fail(&node, err, "unknown field");
	}
	return 0;
}
