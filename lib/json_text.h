/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON parser: text to trees of struct document_node (lib/document.h). */
#ifndef TENDRIL_LIB_JSON_TEXT_H
#define TENDRIL_LIB_JSON_TEXT_H

#include "lib/document.h"

/* A text that is being read.  The caller sets text, len, at, error and by_item. */
struct json_text {
	const char *text;
	size_t len;
	size_t at;
	unsigned int depth;
	struct text_error *error;
	bool by_item;     /* skip the "items" of the outermost object */
	size_t items;     /* byte after their opening bracket; 0: there are none */
	size_t items_end; /* byte of their closing bracket */
	bool items_twice;
};

/* Reads the value that begins at `at`, and moves `at` behind it.  The caller owns the value
 * (cJSON_Delete).  NULL: *error has the text and the position of the error. */
struct cJSON *json_text_value(struct json_text *json);
/* Skips white space.  Returns the next character, or NUL at the end. */
char json_text_space(struct json_text *json);

#endif
