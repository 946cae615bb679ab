/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the CLI prints: aligned tables for people, coloured on a terminal (not with NO_COLOR), and
 * JSON for programs.
 */
#ifndef TENDRIL_CLI_OUTPUT_H
#define TENDRIL_CLI_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>

struct cJSON;

enum colour { COLOUR_NONE, COLOUR_GOOD, COLOUR_WARN, COLOUR_BAD, COLOUR_STRONG, COLOUR_FAINT };

struct cell {
	char text[256];
	enum colour colour;
};

/* A column: its title, and how its cell is made from one JSON object. */
struct column {
	const char *title;
	const char *member; /* shown as it is; NULL: by fill() */
	void (*fill)(const struct cJSON *row, struct cell *cell);
	bool wide; /* only with -o wide */
};
void column_fill(const struct column *column, const struct cJSON *row, struct cell *cell);

/* Prints the objects of a JSON array as a table, with a header line; "(none)" for an empty one. */
enum table_flag { TABLE_WIDE = 1 << 0, TABLE_NO_HEADER = 1 << 1 };
void output_table(const struct cJSON *array, const struct column *columns, size_t count,
		  unsigned int flags);

/* The fields of one object, one a line: "title:  value". */
void output_fields(const struct cJSON *object, const struct column *columns, size_t count);

/* Whether output_json() prints YAML instead. */
void output_yaml_set(bool yaml);

/* Prints JSON, or a JSON text, as UTF-8 without control characters. */
void output_json(const struct cJSON *json);
void output_json_text(const char *text);

/* Escape sequence that begins a colour and the one that ends it; "" when not on a terminal. */
const char *output_colour(enum colour colour);
const char *output_colour_end(void);

/* The text without control characters, for a terminal.  If it had some, this is a copy that is
 * valid until SHOWN_MAX more copies are made: enough for the arguments of one printf(). */
#define SHOWN_MAX 8
const char *output_shown(const char *text);

/* One line to standard error, without control characters. */
void output_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The member as text: strings as they are, numbers and booleans printed, arrays joined by ", ",
 * objects as "key=value" joined by ", ", null and absent as "-". */
void output_member(const struct cJSON *object, const char *name, struct cell *cell);

/* Writes formatted text into a cell. */
void cell_set(struct cell *cell, enum colour colour, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#endif
