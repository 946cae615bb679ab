/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON parser: text to trees of struct document_node (lib/document.h). */
#ifndef TENDRIL_LIB_JSON_TEXT_H
#define TENDRIL_LIB_JSON_TEXT_H

#include "lib/document.h"

/* A text that is being read; text, len, at and error are to be set. */
struct json_text {
	const char *text;
	size_t len;
	size_t at;
	unsigned int depth;
	struct text_error *error;
	bool by_item;     /* to be set: the items of the outermost object are skipped */
	size_t items;     /* byte after their opening bracket; 0: there are none */
	size_t items_end; /* of the closing one */
	bool items_twice;
};

/* The value that begins at `at`, which moves behind it.  The caller owns it (cJSON_Delete); NULL:
 * *error is filled, with the position in the text. */
struct cJSON *json_text_value(struct json_text *json);
/* Skips white space; the character that follows, or NUL at the end. */
char json_text_space(struct json_text *json);

#endif
