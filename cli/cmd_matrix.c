/* SPDX-License-Identifier: Apache-2.0 */
/* tendril policy matrix: the table of who reaches whom, as text, JSON and pictures. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/argument.h"
#include "cli/files.h"
#include "cli/matrix_picture.h"
#include "cli/output.h"
#include "cli/store_load.h"

#define PORTS_MAX 64
#define KEYS_MAX  8
#define PODS_MAX  8 /* names of one group in a line for people */

static inline void auto_matrix_fn(struct matrix **matrix)
{
	matrix_free(*matrix);
}

/* ---- the question -----------------------------------------------------------------------------
 */

struct words { /* the parts of a list with commas; ends in NULL */
	char *copy;
	const char *items[PORTS_MAX];
	size_t count;
};

static int words_split(const char *text, size_t max, struct words *words, struct errmsg *err)
{
	char *rest;

	words->copy = rest = strdup(text);
	if (!rest)
		return fail(err, -ENOMEM, "%s", text);
	while (rest) {
		if (words->count == max)
			return misused(err, "%s: more than %zu", text, max);
		words->items[words->count++] = strsep(&rest, ",");
	}
	return 0;
}

static int ports_parse(const char *text, struct words *words, struct matrix_port *ports,
		       struct errmsg *err)
{
	int ret = words_split(text, PORTS_MAX, words, err);

	for (size_t i = 0; i < words->count && !ret; i++) {
		if (strcmp(words->items[i], "all") == 0)
			ports[i] = (struct matrix_port){ 0 };
		else
			ret = port_argument_parse(words->items[i], &ports[i].port, &ports[i].proto,
						  err);
	}
	return ret;
}

static int by_parse(const char *text, struct words *words, struct matrix_query *query,
		    struct errmsg *err)
{
	static const char labels[] = "labels=";

	query->by = MATRIX_BY_POD;
	if (!text || strcmp(text, "pod") == 0)
		return 0;
	query->by = MATRIX_BY_NAMESPACE;
	if (strcmp(text, "namespace") == 0)
		return 0;
	query->by = MATRIX_BY_LABELS;
	if (strncmp(text, labels, strlen(labels)) != 0 || !text[strlen(labels)])
		return misused(err, "--by %s: must be pod, namespace, or labels=KEY[,KEY]", text);
	query->keys = words->items;
	if (words_split(text + strlen(labels), KEYS_MAX, words, err))
		return err->code;
	query->key_count = words->count;
	for (size_t i = 0; i < words->count; i++) {
		if (!*words->items[i])
			return misused(err, "--by %s: an empty key", text);
	}
	return 0;
}

/* ---- the answer -------------------------------------------------------------------------------
 */

static void print_pods(const struct matrix_group *group)
{
	for (size_t i = 0; i < group->pod_count && i < PODS_MAX; i++)
		printf("%s %s/%s", i ? "," : "", group->pods[i]->namespace, group->pods[i]->name);
	if (group->pod_count > PODS_MAX)
		printf(" and %zu more", group->pod_count - PODS_MAX);
	putchar('\n');
}

static void print_cell(enum matrix_cell cell, int width)
{
	static const enum colour colours[] = {
		[CELL_ALLOW] = COLOUR_GOOD, [CELL_SOME] = COLOUR_WARN, [CELL_DENY] = COLOUR_BAD
	};
	bool coloured = cell != CELL_APART;

	printf("%*s%s%c%s", width, "", coloured ? output_colour(colours[cell]) : "", (char)cell,
	       coloured ? output_colour_end() : "");
}

static void print_table(const struct matrix *matrix, const struct matrix_table *table,
			int name_width, int width)
{
	char title[512];

	printf("%s%s%s\n", output_colour(COLOUR_STRONG),
	       matrix_table_title(table, title, sizeof(title)), output_colour_end());
	printf("%*s", width + name_width + 3, "from \\ to");
	for (size_t i = 0; i < matrix->group_count; i++)
		printf(" %*zu", width, i + 1);
	putchar('\n');
	for (size_t from = 0; from < matrix->group_count; from++) {
		printf(" %*zu  %-*s", width, from + 1, name_width, matrix->groups[from].name);
		for (size_t to = 0; to < matrix->group_count; to++)
			print_cell(matrix_cell(matrix, table, from, to), width);
		putchar('\n');
	}
	putchar('\n');
}

/* A namespace's name says who is in it. */
static bool listed(const struct matrix_group *group)
{
	return group->pod_count > 1 &&
	       !(group->namespace && strcmp(group->name, group->namespace) == 0);
}

static void print_matrix(const struct matrix *matrix)
{
	size_t longest = strlen("to");
	char number[24];
	int width = snprintf(number, sizeof(number), "%zu", matrix->group_count);
	bool several = false;

	for (size_t i = 0; i < matrix->group_count; i++) {
		size_t len = strlen(matrix->groups[i].name);

		longest = len > longest ? len : longest;
		several |= listed(&matrix->groups[i]);
	}
	for (size_t i = 0; i < matrix->table_count; i++)
		print_table(matrix, &matrix->tables[i], (int)longest, width);
	for (size_t i = 0; several && i < matrix->group_count; i++) {
		if (listed(&matrix->groups[i])) {
			printf(" %*zu  %s:", width, i + 1, matrix->groups[i].name);
			print_pods(&matrix->groups[i]);
		}
	}
	printf("%sx allowed  . denied  ~ some of them\n", several ? "\n" : "");
}

static cJSON *group_json(const struct matrix_group *group)
{
	cJSON *json = cJSON_CreateObject(), *pods;
	char name[600];

	cJSON_AddStringToObject(json, "name", group->name);
	pods = cJSON_AddArrayToObject(json, "pods");
	for (size_t i = 0; i < group->pod_count; i++) {
		snprintf(name, sizeof(name), "%s/%s", group->pods[i]->namespace,
			 group->pods[i]->name);
		cJSON_AddItemToArray(pods, cJSON_CreateString(name));
	}
	return json;
}

static cJSON *table_json(const struct matrix *matrix, const struct matrix_table *table)
{
	cJSON *json = cJSON_CreateObject(), *array = cJSON_AddArrayToObject(json, "ports");
	size_t count = matrix->group_count;
	auto_free char *row = malloc(count + 1);

	for (size_t i = 0; i < table->port_count; i++) {
		const struct matrix_port *port = &table->ports[i];
		cJSON *item = cJSON_CreateObject();

		cJSON_AddStringToObject(item, "protocol",
					port->proto ? proto_name(port->proto) : "all");
		if (port->proto)
			cJSON_AddNumberToObject(item, "port", port->port);
		cJSON_AddItemToArray(array, item);
	}
	array = cJSON_AddArrayToObject(json, "families");
	if (table->families[FAMILY_V4])
		cJSON_AddItemToArray(array, cJSON_CreateString("IPv4"));
	if (table->families[FAMILY_V6])
		cJSON_AddItemToArray(array, cJSON_CreateString("IPv6"));
	array = cJSON_AddArrayToObject(json, "rows");
	for (size_t from = 0; row && from < count; from++) {
		memcpy(row, &table->cells[from * count], count);
		row[count] = '\0';
		cJSON_AddItemToArray(array, cJSON_CreateString(row));
	}
	return json;
}

static void print_matrix_json(const struct matrix *matrix)
{
	cJSON *json = cJSON_CreateObject(), *array = cJSON_AddArrayToObject(json, "groups");

	for (size_t i = 0; i < matrix->group_count; i++)
		cJSON_AddItemToArray(array, group_json(&matrix->groups[i]));
	array = cJSON_AddArrayToObject(json, "tables");
	for (size_t i = 0; i < matrix->table_count; i++)
		cJSON_AddItemToArray(array, table_json(matrix, &matrix->tables[i]));
	output_json(json);
	cJSON_Delete(json);
}

static int picture_write(const char *file, const struct matrix *matrix,
			 void (*draw)(const struct matrix *matrix, struct buffer *text),
			 struct errmsg *err)
{
	auto_buffer struct buffer text = { 0 };

	if (!file)
		return 0;
	draw(matrix, &text);
	return text.failed ? fail(err, -ENOMEM, "%s", file)
			   : file_write_text(file, text.data, text.len, err);
}

static bool is_stdout(const char *file)
{
	return file && strcmp(file, "-") == 0;
}

static int pictures_check(const struct arguments *args, struct errmsg *err)
{
	if (is_stdout(args->html) + is_stdout(args->svg) + args->json > 1)
		return misused(err, "standard output takes one of --html, --svg and -o json");
	return 0;
}

static int answer(const struct arguments *args, const struct matrix *matrix, struct errmsg *err)
{
	int ret = picture_write(args->html, matrix, picture_html, err);

	if (!ret)
		ret = picture_write(args->svg, matrix, picture_svg, err);
	if (ret)
		return ret;
	if (args->json)
		print_matrix_json(matrix);
	else if (is_stdout(args->html) || is_stdout(args->svg))
		return EXIT_OK;
	else if (args->html || args->svg)
		printf("%zu pods in %zu groups\n", matrix->pod_count, matrix->group_count);
	else
		print_matrix(matrix);
	return EXIT_OK;
}

int cmd_policy_matrix(const struct arguments *args, struct errmsg *err)
{
	auto_(cli_store) struct cli_store *store = NULL;
	auto_(matrix) struct matrix *matrix = NULL;
	struct matrix_port ports[PORTS_MAX];
	struct matrix_query query = { .ports = ports };
	struct words port_words = { 0 }, key_words = { 0 };
	int ret = pictures_check(args, err);

	if (!ret)
		ret = by_parse(args->by, &key_words, &query, err);
	if (!ret && args->port)
		ret = ports_parse(args->port, &port_words, ports, err);
	query.port_count = port_words.count;
	if (!ret)
		ret = store_load(args, &store, err);
	if (!ret && store_count(store->objects, OBJECT_POD) == 0)
		ret = fail_plain(err, -ENOENT, "there are no pods in the files");
	if (!ret)
		ret = matrix_new(store->objects, &query, &matrix, err);
	if (!ret)
		ret = answer(args, matrix, err);
	free(port_words.copy);
	free(key_words.copy);
	return ret;
}
