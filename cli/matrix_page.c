/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The page itself is matrix_page.html, embedded at build.  This file puts the data into it: groups,
 * tables, and for each cell the number of the text that tells which rule decides.
 */
#include "cli/matrix_page.h"

#include <stdio.h>
#include <string.h>

#include "cli/html_page.h"
#include "cli/output_explain.h"
#include "cli/output_matrix.h"
#include "lib/auto.h"

/* More cells than this are shown without their rules: the page would become too large. */
#define EXPLAINED_CELLS_MAX 250000

HTML_PAGE(matrix_page_html, "cli/matrix_page.html");

static void add_json_string(struct buffer *text, const char *words)
{
	buffer_print(text, "\"");
	for (; *words; words++) {
		unsigned char c = (unsigned char)*words;

		if (c < ' ' || c == '"' || c == '\\')
			buffer_print(text, "\\u%04x", c);
		else
			buffer_add(text, words, 1);
	}
	buffer_print(text, "\"");
}

static void add_group_data(const struct matrix_group *group, struct buffer *text)
{
	char name[600];

	buffer_print(text, "{\"name\":");
	add_json_string(text, group->name);
	buffer_print(text, ",\"pods\":[");
	for (size_t i = 0; i < group->pod_count; i++) {
		snprintf(name, sizeof(name), "%s/%s", group->pods[i]->namespace,
			 group->pods[i]->name);
		buffer_print(text, i ? "," : "");
		add_json_string(text, name);
	}
	buffer_print(text, "],\"namespace\":");
	add_json_string(text, group->namespace ? group->namespace : "");
	buffer_print(text, "}");
}

/* ---- rules ---- */

/* The end that stands for a group, with an address of a family that the table has. */
static struct explain_end representative(const struct matrix_table *table, const struct object *pod)
{
	struct explain_end end = { .pod = pod };

	for (size_t i = 0; i < pod->pod.address_count && !end.has_addr; i++) {
		end.addr = pod->pod.addresses[i];
		end.has_addr = table->families[addr_is_v4(&end.addr) ? FAMILY_V4 : FAMILY_V6];
	}
	return end;
}

/* Which rules decide a cell, where they are the same for all of it: one port, and pods that are
 * alike.  False where nothing can be said of the cell as a whole. */
static bool cell_explain(const struct matrix_page *page, const struct matrix_table *table,
			 size_t from, size_t to, struct explanation *ret_why)
{
	const struct matrix_group *sender = &page->matrix->groups[from];
	const struct matrix_group *receiver = &page->matrix->groups[to];
	enum matrix_cell cell = matrix_cell(page->matrix, table, from, to);
	struct explain_end ends[2];

	if (table->ports[0].proto == 0 || (cell != CELL_ALLOW && cell != CELL_DENY))
		return false;
	ends[0] = representative(table, sender->pods[0]);
	ends[1] = representative(table, receiver->pods[from == to && receiver->pod_count > 1]);
	*ret_why = policy_explain(page->store->objects, &ends[0], &ends[1], table->ports[0].proto,
				  table->ports[0].port);
	if ((ret_why->verdict == VERDICT_ALLOW) == (cell == CELL_ALLOW))
		return true;
	explanation_done(ret_why);
	return false;
}

struct reasons { /* interned by their text without files and lines, which take long to find */
	struct intern keys;
	struct buffer texts; /* the elements of a JSON array */
};

static size_t cell_reason(const struct matrix_page *page, const struct matrix_table *table,
			  size_t from, size_t to, struct reasons *reasons)
{
	auto_buffer struct buffer key = { 0 };
	auto_buffer struct buffer text = { 0 };
	struct explanation why = { 0 };
	size_t known = reasons->keys.count;
	bool explained = cell_explain(page, table, from, to, &why);
	size_t number;

	buffer_string(&key, "");
	if (explained)
		explanation_text(NULL, &why, &key);
	number = intern_add(&reasons->keys, key.data, key.len);
	if (reasons->keys.count > known) {
		buffer_string(&text, "");
		if (explained)
			explanation_text(page->store, &why, &text);
		buffer_string(&reasons->texts, known ? ",\n" : "");
		add_json_string(&reasons->texts, text.data);
	}
	if (explained)
		explanation_done(&why);
	return number;
}

/* "why": for each cell the number of its reason. */
static void add_reasons(const struct matrix_page *page, const struct matrix_table *table,
			struct reasons *reasons, struct buffer *text)
{
	size_t count = page->matrix->group_count;

	buffer_string(text, ",\"why\":[");
	for (size_t i = 0; i < count * count; i++) {
		size_t number = cell_reason(page, table, i / count, i % count, reasons);

		buffer_print(text, "%s%zu", i % count ? "," : i ? "],\n[" : "[", number);
	}
	buffer_string(text, "]]");
}

/* ---- the document ---- */

static void add_table(const struct matrix_page *page, const struct matrix_table *table,
		      struct reasons *reasons, struct buffer *text)
{
	size_t count = page->matrix->group_count;
	char title[512], port[24];

	buffer_string(text, "{\"title\":");
	add_json_string(text, matrix_table_title(table, title, sizeof(title)));
	snprintf(port, sizeof(port), "%u/%s", table->ports[0].port,
		 table->ports[0].proto ? proto_name(table->ports[0].proto) : "all");
	buffer_string(text, ",\"port\":");
	add_json_string(text, port);
	buffer_string(text, ",\"rows\":[");
	for (size_t row = 0; row < count; row++) {
		buffer_string(text, row ? ",\n\"" : "\"");
		buffer_add(text, &table->cells[row * count], count);
		buffer_string(text, "\"");
	}
	buffer_string(text, "]");
	if (count * count * page->matrix->table_count <= EXPLAINED_CELLS_MAX)
		add_reasons(page, table, reasons, text);
	buffer_string(text, "}");
}

static void add_data(const struct matrix_page *page, struct buffer *text)
{
	const struct matrix *matrix = page->matrix;
	auto_(arena) struct arena *arena = arena_new();
	struct reasons reasons = { .keys.arena = arena };

	buffer_string(text, "{\"date\":");
	add_json_string(text, page->date);
	buffer_string(text, ",\"inputs\":");
	add_json_string(text, page->inputs);
	buffer_string(text, ",\n\"groups\":[");
	for (size_t i = 0; i < matrix->group_count; i++) {
		buffer_string(text, i ? ",\n" : "");
		add_group_data(&matrix->groups[i], text);
	}
	buffer_string(text, "],\n\"tables\":[");
	for (size_t i = 0; i < matrix->table_count; i++) {
		buffer_string(text, i ? ",\n" : "");
		add_table(page, &matrix->tables[i], &reasons, text);
	}
	buffer_string(text, "],\n\"reasons\":[");
	buffer_add(text, reasons.texts.data, reasons.texts.len);
	buffer_string(text, "]}");
	buffer_done(&reasons.texts);
	intern_done(&reasons.keys);
}

void matrix_page_add(const struct matrix_page *page, struct buffer *text)
{
	auto_buffer struct buffer data = { 0 };

	add_data(page, &data);
	html_page_fill(text, matrix_page_html, data.data);
}
