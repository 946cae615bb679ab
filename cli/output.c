/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/output.h"

#include <cjson/cJSON.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/text.h"
#include "lib/yaml_print.h"

#define NOTE_MAX 8192

static bool output_coloured(void)
{
	static int coloured = -1;

	if (coloured < 0)
		coloured = isatty(STDOUT_FILENO) && !getenv("NO_COLOR");
	return coloured;
}

const char *output_colour(enum colour colour)
{
	static const char *const begins[] = {
		[COLOUR_NONE] = "",        [COLOUR_GOOD] = "\033[32m",  [COLOUR_WARN] = "\033[33m",
		[COLOUR_BAD] = "\033[31m", [COLOUR_STRONG] = "\033[1m", [COLOUR_FAINT] = "\033[2m",
	};

	return output_coloured() ? begins[colour] : "";
}

const char *output_colour_end(void)
{
	return output_coloured() ? "\033[0m" : "";
}

const char *output_shown(const char *text)
{
	static char *copies[SHOWN_MAX];
	static size_t next;
	bool shown = true;

	for (const char *c = text; *c && shown;)
		c += text_char(c, &shown);
	if (shown)
		return text;
	next = (next + 1) % SHOWN_MAX;
	free(copies[next]);
	copies[next] = xstrdup(text);
	text_make_shown(copies[next]);
	return copies[next];
}

void output_note(const char *fmt, ...)
{
	char text[NOTE_MAX];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	text_make_shown(text);
	fprintf(stderr, "%s\n", text);
}

void cell_set(struct cell *cell, enum colour colour, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(cell->text, sizeof(cell->text), fmt, args);
	va_end(args);
	cell->colour = colour;
}

static void cell_append(struct cell *cell, const char *text)
{
	size_t len = strlen(cell->text);

	snprintf(cell->text + len, sizeof(cell->text) - len, "%s", text);
}

static void cell_append_value(struct cell *cell, const cJSON *value)
{
	char number[32];

	if (cJSON_IsString(value)) {
		cell_append(cell, value->valuestring);
	} else if (cJSON_IsNumber(value)) {
		snprintf(number, sizeof(number), "%.15g", value->valuedouble);
		cell_append(cell, number);
	} else if (cJSON_IsBool(value)) {
		cell_append(cell, cJSON_IsTrue(value) ? "yes" : "no");
	} else {
		cell_append(cell, "-");
	}
}

void output_member(const cJSON *object, const char *name, struct cell *cell)
{
	const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, name);
	const cJSON *child;

	cell_set(cell, COLOUR_NONE, "%s", "");
	if (!cJSON_IsArray(value) && !cJSON_IsObject(value)) {
		cell_append_value(cell, value);
		return;
	}
	cJSON_ArrayForEach (child, value) {
		if (child != value->child)
			cell_append(cell, ", ");
		if (cJSON_IsObject(value)) {
			cell_append(cell, child->string);
			cell_append(cell, "=");
		}
		cell_append_value(cell, child);
	}
	if (!value->child)
		cell_append(cell, "-");
}

/* Bytes that begin a UTF-8 character: what a terminal counts. */
static size_t text_width(const char *text)
{
	size_t width = 0;

	for (; *text; text++)
		width += ((unsigned char)*text & 0xc0) != 0x80;
	return width;
}

static void print_cell(const struct cell *cell, size_t width, bool last)
{
	printf("%s%s%s", output_colour(cell->colour), cell->text,
	       cell->colour == COLOUR_NONE ? "" : output_colour_end());
	if (!last)
		printf("%*s", (int)(width - text_width(cell->text) + 2), "");
}

void column_fill(const struct column *column, const cJSON *row, struct cell *cell)
{
	if (column->member)
		output_member(row, column->member, cell);
	else
		column->fill(row, cell);
}

/* Copies the columns that are shown; returns how many. */
static size_t columns_select(const struct column *all, size_t all_count, bool wide,
			     struct column *ret)
{
	size_t count = 0;

	for (size_t i = 0; i < all_count; i++) {
		if (wide || !all[i].wide)
			ret[count++] = all[i];
	}
	return count;
}

void output_table(const cJSON *array, const struct column *all, size_t all_count,
		  unsigned int flags)
{
	auto_free struct column *columns = xcalloc(all_count, sizeof(*columns));
	size_t count = columns_select(all, all_count, flags & TABLE_WIDE, columns);
	size_t rows = (size_t)cJSON_GetArraySize(array);
	auto_free struct cell *cells = xcalloc((rows + 1) * count, sizeof(*cells));
	auto_free size_t *widths = xcalloc(count, sizeof(*widths));
	const cJSON *row;
	size_t r = 1;

	if (rows == 0) {
		printf("(none)\n");
		return;
	}
	for (size_t c = 0; c < count; c++)
		cell_set(&cells[c], COLOUR_STRONG, "%s", columns[c].title);
	cJSON_ArrayForEach (row, array) {
		for (size_t c = 0; c < count; c++) {
			column_fill(&columns[c], row, &cells[r * count + c]);
			text_make_shown(cells[r * count + c].text);
		}
		r++;
	}
	for (size_t i = 0; i < (rows + 1) * count; i++) {
		size_t width = text_width(cells[i].text);

		if (width > widths[i % count])
			widths[i % count] = width;
	}
	for (size_t i = flags & TABLE_NO_HEADER ? count : 0; i < (rows + 1) * count; i++) {
		bool last = i % count == count - 1;

		print_cell(&cells[i], widths[i % count], last);
		if (last)
			putchar('\n');
	}
}

void output_fields(const cJSON *object, const struct column *columns, size_t count)
{
	size_t width = 0;

	for (size_t c = 0; c < count; c++) {
		if (strlen(columns[c].title) > width)
			width = strlen(columns[c].title);
	}
	for (size_t c = 0; c < count; c++) {
		struct cell cell = { 0 };

		column_fill(&columns[c], object, &cell);
		text_make_shown(cell.text);
		printf("%s%s:%s%*s", output_colour(COLOUR_STRONG), columns[c].title,
		       output_colour_end(), (int)(width - strlen(columns[c].title) + 2), "");
		print_cell(&cell, 0, true);
		putchar('\n');
	}
}

/* JSON escapes the control characters of ASCII.  It allows the others, and cJSON passes on bytes
 * that are not UTF-8: these are escaped here. */
void output_json_text(const char *text)
{
	const char *run = text; /* what is to be written as it is */
	size_t len;

	for (; *text; text += len) {
		unsigned char first = (unsigned char)*text;
		bool shown;

		len = text_char(text, &shown);
		if (shown || first < ' ')
			continue;
		fwrite(run, 1, (size_t)(text - run), stdout);
		run = text + len;
		if (len > 1 || first == 0x7f)
			printf("\\u00%02x", (unsigned char)text[len - 1]);
		else
			putchar('?');
	}
	puts(run);
}

static bool yaml_output;

void output_yaml_set(bool yaml)
{
	yaml_output = yaml;
}

void output_json(const cJSON *json)
{
	auto_free char *text = NULL;

	if (yaml_output) {
		yaml_print(stdout, json);
		return;
	}
	text = cJSON_Print(json);
	if (text)
		output_json_text(text);
}
