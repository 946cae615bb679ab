/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/yaml_print.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/auto.h"

#define INDENT 2

/* Words that YAML 1.1 reads as something else than a text. */
static const char *const words[] = { "true", "false", "yes", "no", "on", "off", "null", "y", "n" };

/* Letters, digits and what is in names, with a letter at the head. */
static bool is_plain(const char *text)
{
	if (!isalpha((unsigned char)*text))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (strcasecmp(text, words[i]) == 0)
			return false;
	}
	while (isalnum((unsigned char)*text) || (*text && strchr("-_./", *text)))
		text++;
	return !*text;
}

/* A JSON scalar is a YAML scalar. */
static void print_scalar(FILE *file, const cJSON *json)
{
	auto_free char *text = NULL;

	if (cJSON_IsString(json) && is_plain(json->valuestring)) {
		fputs(json->valuestring, file);
		return;
	}
	text = cJSON_PrintUnformatted(json);
	fputs(text ? text : "null", file);
}

static void print_key(FILE *file, const char *key)
{
	cJSON *text = cJSON_CreateStringReference(key);

	if (text)
		print_scalar(file, text);
	cJSON_Delete(text);
	fputc(':', file);
}

/* NOLINTBEGIN(misc-no-recursion): as deep as the tree, which the program made itself */
static void print_block(FILE *file, const cJSON *json, int indent, bool begun);

/* What stands behind "key:". */
static void print_value(FILE *file, const cJSON *json, int indent)
{
	bool is_list = cJSON_IsArray(json);

	if ((!is_list && !cJSON_IsObject(json)) || !json->child) {
		fputc(' ', file);
		print_scalar(file, json);
		fputc('\n', file);
		return;
	}
	fputc('\n', file);
	print_block(file, json, is_list ? indent : indent + INDENT, false);
}

/* begun: the first line has its indentation already, and a dash. */
static void print_block(FILE *file, const cJSON *json, int indent, bool begun)
{
	const cJSON *item;

	if ((!cJSON_IsArray(json) && !cJSON_IsObject(json)) || !json->child) {
		print_scalar(file, json);
		fputc('\n', file);
		return;
	}
	cJSON_ArrayForEach (item, json) {
		if (!begun)
			fprintf(file, "%*s", indent, "");
		begun = false;
		if (cJSON_IsArray(json)) {
			fputs("- ", file);
			print_block(file, item, indent + INDENT, true);
		} else {
			print_key(file, item->string);
			print_value(file, item, indent);
		}
	}
}
/* NOLINTEND(misc-no-recursion) */

void yaml_print(FILE *file, const cJSON *json)
{
	print_block(file, json, 0, false);
}
