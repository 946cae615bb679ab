/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where in a text a field stands.  Objects are read from a tree without positions; only when there
 * is a problem is the text walked once more, with libyaml's marks (JSON is read by the same
 * walker).
 */
#ifndef TENDRIL_LIB_POSITION_H
#define TENDRIL_LIB_POSITION_H

#include <stdbool.h>
#include <stddef.h>

struct position {
	char *path; /* from the document's root, as path_key() and path_index() write it; owned */
	size_t document; /* from 0 */
	bool at_key;     /* the field's name is meant, not its value */
	bool last;       /* of several fields of the same path, the last one is meant */
	size_t line;     /* result, from 1; 0 if the text has nothing like it */
	size_t column;
	size_t matched; /* how much of path was found: the deepest enclosing field wins */
};

/* Fills line and column of each location.  The text has to be one that parsed. */
void positions_find(const char *text, size_t len, struct position *positions, size_t count);

/* A byte of a text that is walked, {} at its beginning: going on costs only what lies between. */
struct text_mark {
	size_t offset;
	size_t lines;      /* that end before it */
	size_t line_start; /* where its own begins */
};

/* Line and column, from 1, of a byte at the mark or after it, to which the mark goes on. */
void position_next(struct text_mark *mark, const char *text, size_t offset, size_t *ret_line,
		   size_t *ret_column);

/* The same for a single byte. */
void position_of_offset(const char *text, size_t offset, size_t *ret_line, size_t *ret_column);

struct buffer;

/* Appends one step of a field path: ".name", "[a.dotted/name]" or "[3]". */
void path_key(struct buffer *path, const char *key);
void path_index(struct buffer *path, size_t index);

#endif
