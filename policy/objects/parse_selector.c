/* SPDX-License-Identifier: Apache-2.0 */
/* Label selectors, wherever a policy has one. */
#include <string.h>

#include "lib/alloc.h"
#include "lib/auto.h"
#include "policy/objects/name.h"
#include "policy/objects/reader.h"

static void term_keep_value(struct selector_term *term, const char *value)
{
	term->values[term->value_count++] = xstrdup(value);
}

static void check_label_key(struct reader *reader, const struct json_node *at,
			    enum problem_kind kind, const char *key)
{
	const char *wanted = name_check_label_key(key);

	if (wanted)
		reader_problem(reader, at, kind, "\"%s\" is not a label key: %s", key, wanted);
}

static void check_label_value(struct reader *reader, const struct json_node *at, const char *value)
{
	const char *wanted = name_check_label_value(value);

	if (wanted)
		reader_error(reader, at, "\"%s\" is not a label value: %s", value, wanted);
}

/* matchLabels: {key: value} is In with one value. */
static void read_match_labels(struct reader *reader, const struct json_node *at,
			      struct selector *selector)
{
	const cJSON *member;

	if (!cJSON_IsObject(at->value))
		return;
	cJSON_ArrayForEach (member, at->value) {
		struct json_node child = json_member_node(at, member);
		const char *value = read_string(reader, &child);
		struct selector_term *term = &selector->terms[selector->count];

		check_label_key(reader, &child, PROBLEM_AT_KEY, member->string);
		if (!value)
			continue;
		check_label_value(reader, &child, value);
		term->op = SELECTOR_IN;
		term->key = xstrdup(member->string);
		term->values = xcalloc(1, sizeof(*term->values));
		selector->count++;
		term_keep_value(term, value);
	}
}

static bool read_operator(struct reader *reader, const struct json_node *at,
			  enum selector_operator *ret_operator)
{
	static const char *const names[] = {
		[SELECTOR_IN] = "In",
		[SELECTOR_NOT_IN] = "NotIn",
		[SELECTOR_EXISTS] = "Exists",
		[SELECTOR_NOT_EXISTS] = "DoesNotExist",
	};
	const char *text = read_string(reader, at);

	if (!read_required(reader, at) || !text)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (strcmp(text, names[i]) == 0) {
			*ret_operator = (enum selector_operator)i;
			return true;
		}
	}
	reader_error(reader, at, "\"%s\" is not an operator (In, NotIn, Exists or DoesNotExist)",
		     text);
	return false;
}

static void read_term_values(struct reader *reader, const struct json_node *at,
			     struct selector_term *term)
{
	bool wanted = term->op == SELECTOR_IN || term->op == SELECTOR_NOT_IN;
	size_t count = read_is_array(reader, at) ? (size_t)cJSON_GetArraySize(at->value) : 0;
	const cJSON *json;
	size_t index = 0;

	if (wanted && count == 0 && (!at->value || cJSON_IsArray(at->value)))
		reader_error(reader, at, "In and NotIn need at least one value");
	if (!wanted && count > 0)
		reader_error(reader, at, "Exists and DoesNotExist take no values");
	term->values = xcalloc(count, sizeof(*term->values));
	if (count == 0)
		return;
	cJSON_ArrayForEach (json, at->value) {
		struct json_node child = json_element(at, json, index++);
		const char *value = read_string(reader, &child);

		if (!value)
			continue;
		check_label_value(reader, &child, value);
		term_keep_value(term, value);
	}
}

static void read_match_expressions(struct reader *reader, const struct json_node *at,
				   struct selector *selector)
{
	const cJSON *json;
	size_t index = 0;

	if (!cJSON_IsArray(at->value))
		return;
	cJSON_ArrayForEach (json, at->value) {
		struct json_node child = json_element(at, json, index++);
		struct json_node key = json_member(&child, "key");
		struct json_node operator= json_member(&child, "operator");
		struct json_node values = json_member(&child, "values");
		struct selector_term *term = &selector->terms[selector->count];
		const char *text;

		if (!read_is_object(reader, &child))
			continue;
		KNOWN(reader, &child, "key", "operator", "values");
		text = read_string(reader, &key);
		read_required(reader, &key);
		if (text)
			check_label_key(reader, &key, PROBLEM_ERROR, text);
		if (!read_operator(reader, &operator, & term->op) || !text)
			continue;
		term->key = xstrdup(text);
		selector->count++;
		read_term_values(reader, &values, term);
	}
}

void read_selector(struct reader *reader, const struct json_node *at, struct selector *selector)
{
	struct json_node labels = json_member(at, "matchLabels");
	struct json_node expressions = json_member(at, "matchExpressions");
	size_t count = 0;

	if (!read_is_object(reader, at))
		return;
	KNOWN(reader, at, "matchLabels", "matchExpressions");
	if (read_is_object(reader, &labels))
		count += (size_t)cJSON_GetArraySize(labels.value);
	if (read_is_array(reader, &expressions))
		count += (size_t)cJSON_GetArraySize(expressions.value);
	if (count == 0)
		return;
	selector->terms = xcalloc(count, sizeof(*selector->terms));
	read_match_labels(reader, &labels, selector);
	read_match_expressions(reader, &expressions, selector);
}

struct selector *read_selector_kept(struct reader *reader, const struct json_node *at)
{
	struct selector *selector;

	if (!at->value)
		return NULL;
	selector = xcalloc(1, sizeof(*selector));
	read_selector(reader, at, selector);
	return selector;
}
