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

struct printer {
	FILE *file;
	const char *(*comment)(const cJSON *value, void *arg); /* NULL: no comments */
	void *arg;
};

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
static void print_block(const struct printer *printer, const cJSON *json, int indent, bool begun);

/* What stands behind "key:". */
static void print_value(const struct printer *printer, const cJSON *json, int indent)
{
	bool is_list = cJSON_IsArray(json);
	const char *comment;

	if ((!is_list && !cJSON_IsObject(json)) || !json->child) {
		fputc(' ', printer->file);
		print_scalar(printer->file, json);
		comment = printer->comment ? printer->comment(json, printer->arg) : NULL;
		if (comment)
			fprintf(printer->file, "  # %s", comment);
		fputc('\n', printer->file);
		return;
	}
	fputc('\n', printer->file);
	print_block(printer, json, is_list ? indent : indent + INDENT, false);
}

/* begun: the first line has its indentation already, and a dash. */
static void print_block(const struct printer *printer, const cJSON *json, int indent, bool begun)
{
	const cJSON *item;

	if ((!cJSON_IsArray(json) && !cJSON_IsObject(json)) || !json->child) {
		print_scalar(printer->file, json);
		fputc('\n', printer->file);
		return;
	}
	cJSON_ArrayForEach (item, json) {
		if (!begun)
			fprintf(printer->file, "%*s", indent, "");
		begun = false;
		if (cJSON_IsArray(json)) {
			fputs("- ", printer->file);
			print_block(printer, item, indent + INDENT, true);
		} else {
			print_key(printer->file, item->string);
			print_value(printer, item, indent);
		}
	}
}
/* NOLINTEND(misc-no-recursion) */

void yaml_print(FILE *file, const cJSON *json)
{
	yaml_print_commented(file, json, NULL, NULL);
}

void yaml_print_commented(FILE *file, const cJSON *json,
			  const char *(*comment)(const cJSON *value, void *arg), void *arg)
{
	const struct printer printer = { file, comment, arg };

	print_block(&printer, json, 0, false);
}
