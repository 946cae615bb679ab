/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/output_matrix.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

#include "cli/output.h"
#include "lib/alloc.h"
#include "lib/auto.h"

#define PODS_MAX 8 /* names of one group in a line for people */

const char *matrix_table_title(const struct matrix_table *table, char *buf, size_t size)
{
	size_t used = 0;

	buf[0] = '\0';
	for (size_t i = 0; i < table->port_count && used < size; i++) {
		const struct matrix_port *port = &table->ports[i];
		const char *comma = i ? ", " : "";

		if (port->proto == 0)
			used += (size_t)snprintf(buf + used, size - used, "%sall ports", comma);
		else
			used += (size_t)snprintf(buf + used, size - used, "%s%u/%s", comma,
						 port->port, proto_name(port->proto));
	}
	if (!(table->families[FAMILY_V4] && table->families[FAMILY_V6]) && used < size)
		snprintf(buf + used, size - used, ", only %s",
			 table->families[FAMILY_V4] ? "IPv4" : "IPv6");
	return buf;
}

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

/* Pods of a namespace are not listed: its name says which they are. */
static bool listed(const struct matrix_group *group)
{
	return group->pod_count > 1 &&
	       !(group->namespace && strcmp(group->name, group->namespace) == 0);
}

void matrix_print(const struct matrix *matrix)
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
	printf("%sx allowed  . denied  ~ allowed for some\n", several ? "\n" : "");
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
	auto_free char *row = xmalloc(count + 1);

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
	for (size_t from = 0; from < count; from++) {
		memcpy(row, &table->cells[from * count], count);
		row[count] = '\0';
		cJSON_AddItemToArray(array, cJSON_CreateString(row));
	}
	return json;
}

void matrix_json_print(const struct matrix *matrix)
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
