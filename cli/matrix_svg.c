/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A panel for each table.  Neighbouring cells of one row and state are one rectangle, and lines
 * show where the namespace changes.
 */
#include "cli/matrix_svg.h"

#include <stdio.h>
#include <string.h>

#include "cli/output_matrix.h"
#include "lib/auto.h"
#include "lib/xml.h"

#define CELL        14 /* side, in pixels */
#define CHAR_WIDTH  7  /* of a label, at most */
#define NAME_MAX    48 /* characters of a label; the page shows the rest */
#define MARGIN      10
#define TITLE_SPACE 34

static const struct {
	enum matrix_cell cell;
	const char *colour;
	const char *meaning;
} states[] = {
	{ CELL_ALLOW, "#1f7a5c", "allowed" },
	{ CELL_SOME, "#e8b13a", "allowed for some" },
	{ CELL_DENY, "#eed9d6", "denied" },
	{ CELL_APART, "#ffffff", "no common address family" },
};

struct layout {
	size_t label; /* room for names, to the left and above */
	size_t side;  /* of the square of cells */
	size_t width;
	size_t height; /* of a panel */
};

static struct layout layout_of(const struct matrix *matrix)
{
	struct layout layout = { .side = matrix->group_count * CELL };
	size_t longest = strlen("from v  to >  ");

	for (size_t i = 0; i < matrix->group_count; i++) {
		size_t len = strlen(matrix->groups[i].name);

		longest = len > longest ? len : longest;
	}
	if (longest > NAME_MAX)
		longest = NAME_MAX + 1;
	layout.label = longest * CHAR_WIDTH + MARGIN;
	layout.width = layout.label + layout.side + 2 * MARGIN;
	if (layout.width < 640)
		layout.width = 640;
	layout.height = TITLE_SPACE + layout.label + layout.side + 2 * MARGIN;
	return layout;
}

/* ---- a panel ---- */

/* All cells of one state, as one path. */
static void add_cells(const struct matrix *matrix, const struct matrix_table *table,
		      enum matrix_cell state, const char *colour, struct buffer *text)
{
	size_t count = matrix->group_count;
	bool begun = false;

	for (size_t row = 0; row < count; row++) {
		for (size_t first = 0; first < count;) {
			size_t end = first;

			while (end < count && matrix_cell(matrix, table, row, end) == state)
				end++;
			if (end == first) {
				first++;
				continue;
			}
			if (!begun)
				buffer_print(text, "<path fill=\"%s\" d=\"", colour);
			begun = true;
			buffer_print(text, "M%zu %zuh%zuv%dh-%zuz", first * CELL, row * CELL,
				     (end - first) * CELL, CELL, (end - first) * CELL);
			first = end;
		}
	}
	if (begun)
		buffer_print(text, "\"/>\n");
}

static bool namespace_changes(const struct matrix *matrix, size_t group)
{
	const char *before = matrix->groups[group - 1].namespace;
	const char *here = matrix->groups[group].namespace;

	return before && here ? strcmp(before, here) != 0 : before != here;
}

/* A fine grid, and stronger lines where the namespace changes. */
static void add_lines(const struct matrix *matrix, const struct layout *layout, struct buffer *text)
{
	for (int strong = 0; strong < 2; strong++) {
		buffer_print(text, "<path fill=\"none\" stroke=\"%s\" d=\"",
			     strong ? "#666" : "#fff");
		for (size_t i = 0; i <= matrix->group_count; i++) {
			bool edge = i == 0 || i == matrix->group_count;

			if (strong && !edge && !namespace_changes(matrix, i))
				continue;
			buffer_print(text, "M0 %zuh%zuM%zu 0v%zu", i * CELL, layout->side, i * CELL,
				     layout->side);
		}
		buffer_print(text, "\"/>\n");
	}
}

static void add_labels(const struct matrix *matrix, struct buffer *text)
{
	for (size_t i = 0; i < matrix->group_count; i++) {
		const char *name = matrix->groups[i].name;

		buffer_print(text, "<text x=\"-5\" y=\"%zu\" text-anchor=\"end\">",
			     i * CELL + CELL - 3);
		xml_add(text, name, NAME_MAX);
		buffer_print(text, "</text><text transform=\"translate(%zu,-5) rotate(-90)\">",
			     i * CELL + CELL - 3);
		xml_add(text, name, NAME_MAX);
		buffer_print(text, "</text>\n");
	}
}

static void add_panel(const struct matrix *matrix, const struct matrix_table *table,
		      const struct layout *layout, struct buffer *text)
{
	char title[512];

	buffer_print(text, "<text class=\"title\" x=\"%d\" y=\"20\">", MARGIN);
	xml_add(text, matrix_table_title(table, title, sizeof(title)), 200);
	buffer_print(text,
		     "</text>\n<text x=\"%zu\" y=\"%zu\" text-anchor=\"end\">from \xe2\x86\x93  to "
		     "\xe2\x86\x92</text>\n<g class=\"cells\" transform=\"translate(%zu,%zu)\">\n",
		     layout->label - 5, TITLE_SPACE + layout->label - 5, layout->label,
		     TITLE_SPACE + layout->label);
	for (size_t i = 0; i < ARRAY_SIZE(states); i++)
		add_cells(matrix, table, states[i].cell, states[i].colour, text);
	add_lines(matrix, layout, text);
	add_labels(matrix, text);
	buffer_print(text, "</g>\n");
}

static const char style[] = "text{font:11px system-ui,\"DejaVu Sans\",sans-serif;fill:#222}"
			    "text.title{font-size:14px;font-weight:600}";

static void add_svg_open(size_t width, size_t height, struct buffer *text)
{
	buffer_print(text,
		     "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%zu\" height=\"%zu\" "
		     "viewBox=\"0 0 %zu %zu\">\n<style>%s</style>\n",
		     width, height, width, height, style);
}

/* Returns its height. */
static size_t add_legend(struct buffer *text)
{
	size_t x = MARGIN;

	for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
		buffer_print(text,
			     "<rect x=\"%zu\" y=\"8\" width=\"%d\" height=\"%d\" fill=\"%s\" "
			     "stroke=\"#999\"/><text x=\"%zu\" y=\"19\">%s</text>\n",
			     x, CELL, CELL, states[i].colour, x + CELL + 5, states[i].meaning);
		x += CELL + 25 + strlen(states[i].meaning) * CHAR_WIDTH;
	}
	return 30;
}

void matrix_svg(const struct matrix *matrix, struct buffer *text)
{
	struct layout layout = layout_of(matrix);
	size_t y;

	add_svg_open(layout.width, matrix->table_count * layout.height + 30, text);
	buffer_print(text, "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n");
	y = add_legend(text);
	for (size_t i = 0; i < matrix->table_count; i++) {
		buffer_print(text, "<g transform=\"translate(0,%zu)\">\n", y);
		add_panel(matrix, &matrix->tables[i], &layout, text);
		buffer_print(text, "</g>\n");
		y += layout.height;
	}
	buffer_print(text, "</svg>\n");
}
