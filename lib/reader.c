/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/reader.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Doubles hold every integer up to this one. */
#define INTEGER_MAX 9007199254740992LL

/* ---- problems -------------------------------------------------------------------------------- */

void reader_problem(struct reader *reader, const struct json_node *at, enum problem_kind kind,
		    const char *fmt, ...)
{
	char path[JSON_PATH_MAX];
	char text[sizeof(reader->err->text) - JSON_PATH_MAX];
	va_list args;

	va_start(args, fmt);
	if (reader->problem) {
		reader->problem(reader, at, kind, fmt, args);
	} else if (!reader->ret) {
		vsnprintf(text, sizeof(text), fmt, args);
		reader_fail(reader, -EINVAL, "%s: %s", json_path(at, path), text);
	}
	va_end(args);
}

void reader_fail(struct reader *reader, int code, const char *fmt, ...)
{
	char text[sizeof(reader->err->text)];
	va_list args;

	if (reader->ret)
		return;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	reader->ret = fail_plain(reader->err, code, "%s", text);
}

void reader_missing(struct reader *reader, const struct json_node *at)
{
	reader_error(reader, at, "missing");
}

bool read_required(struct reader *reader, const struct json_node *at)
{
	if (!at->value)
		reader_missing(reader, at);
	return at->value != NULL;
}

/* ---- types ----------------------------------------------------------------------------------- */

static const char *type_name(const struct cJSON *json)
{
	if (cJSON_IsObject(json))
		return "an object";
	if (cJSON_IsArray(json))
		return "a list";
	if (cJSON_IsString(json))
		return "a string";
	if (cJSON_IsNumber(json))
		return "a number";
	if (cJSON_IsBool(json))
		return "a boolean";
	return "null";
}

static void type_error(struct reader *reader, const struct json_node *at, const char *wanted)
{
	const char *hint = "";

	if (strcmp(wanted, "a string") == 0 &&
	    (cJSON_IsNumber(at->value) || cJSON_IsBool(at->value)))
		hint = " (put it in quotes)";
	if (reader->yaml && strcmp(wanted, "a list") == 0 && cJSON_IsObject(at->value) &&
	    at->value->child)
		hint = " (begin its first line with \"- \")";
	reader_error(reader, at, "%s, where %s is needed%s", type_name(at->value), wanted, hint);
}

bool read_is_object(struct reader *reader, const struct json_node *at)
{
	if (at->value && !cJSON_IsObject(at->value))
		type_error(reader, at, "an object");
	return cJSON_IsObject(at->value);
}

bool read_is_array(struct reader *reader, const struct json_node *at)
{
	if (at->value && !cJSON_IsArray(at->value))
		type_error(reader, at, "a list");
	return cJSON_IsArray(at->value);
}

const char *read_string(struct reader *reader, const struct json_node *at)
{
	if (at->value && !cJSON_IsString(at->value))
		type_error(reader, at, "a string");
	return cJSON_GetStringValue(at->value);
}

const char *read_required_string(struct reader *reader, const struct json_node *at)
{
	const char *text = read_required(reader, at) ? read_string(reader, at) : NULL;

	return text ? text : "";
}

bool read_bool(struct reader *reader, const struct json_node *at, bool absent)
{
	if (!at->value)
		return absent;
	if (!cJSON_IsBool(at->value))
		type_error(reader, at, "a boolean");
	return cJSON_IsTrue(at->value);
}

int64_t read_integer(struct reader *reader, const struct json_node *at, int64_t min, int64_t max,
		     int64_t absent)
{
	double number;

	if (!at->value)
		return absent;
	number = at->value->valuedouble;
	if (!cJSON_IsNumber(at->value))
		type_error(reader, at, "a number");
	else if (!isfinite(number) || fabs(number) > INTEGER_MAX ||
		 number != (double)(int64_t)number)
		reader_error(reader, at, "%g is not a whole number", number);
	else if ((int64_t)number < min || (int64_t)number > max)
		reader_error(reader, at, "%.0f is not between %lld and %lld", number,
			     (long long)min, (long long)max);
	else
		return (int64_t)number;
	return absent;
}
