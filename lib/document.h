/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the documents of a JSON or YAML text, one after the other, as cJSON trees.  Each value
 * knows its position in the text.  As with kubectl, a text that begins as JSON is read as JSON, and
 * as YAML from the first value on that is not JSON.
 */
#ifndef TENDRIL_LIB_DOCUMENT_H
#define TENDRIL_LIB_DOCUMENT_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TEXT_DEPTH_MAX 128 /* nesting, in either format */

struct text_error {
	size_t line; /* from 1; 0 if not known */
	size_t column;
	char text[200];
};

/* A value of a tree that was read here.  cJSON's functions read and free it like their own. */
struct document_node {
	struct cJSON json;
	uint32_t at; /* where the value begins: a byte of a JSON text, a character of a YAML text */
	uint32_t key_at; /* the same for its key, if it has one */
};

/* A position in a text.  Lines and columns count from 1. */
struct text_mark {
	size_t byte;
	size_t character;
	size_t line;
	size_t column;
};

struct documents {
	const char *text;
	size_t len;
	size_t next;           /* byte where the next JSON value begins */
	struct yaml *yaml;     /* reads from base on; NULL: the text is JSON so far */
	struct text_mark base; /* where the YAML part begins */
	struct text_mark mark; /* the last position that was asked for */
	bool by_item;          /* the caller sets it: documents_next() skips a JSON List's items */
	bool in_list;          /* the current document is such a List */
	size_t items_next;     /* byte after the last item */
	size_t items_end;      /* byte of the bracket that closes them */
	size_t items_count;
};

/* The text must outlive the documents. */
void documents_init(struct documents *documents, const char *text, size_t len);
void documents_done(struct documents *documents);

/* Reads the next document, which the caller owns (cJSON_Delete); an empty YAML document is null.
 * Returns 1, 0 at the end, or -EINVAL and *ret_error.  Aliases are replaced by copies, up to a
 * limit, and merge keys (<<) are merged; unknown tags are refused. */
int documents_next(struct documents *documents, struct cJSON **ret, struct text_error *ret_error);

/* Reads the next item of the current document, if in_list is set: the tree of a whole List would
 * take ten times the memory of its text.  -EAGAIN: the rest is not JSON.  The caller then reads the
 * text again without by_item, and gets the error to report. */
int documents_next_item(struct documents *documents, struct cJSON **ret);

/* Line and column of a value of the current document, or of its key.  Cheap for a value that comes
 * after the last one that was asked for. */
void documents_position(struct documents *documents, const struct cJSON *value, bool of_key,
			size_t *ret_line, size_t *ret_column);

/* All documents as a cJSON array; NULL and *ret_error on failure. */
struct cJSON *documents_parse(const char *text, size_t len, struct text_error *ret_error);

/* ---- for the parsers (json_text.c, yaml.c) ---- */

/* A struct document_node without a value.  NULL: out of memory. */
struct cJSON *document_node_new(int type, size_t at);
/* As cJSON_AddItemToArray(), for a child that has its key already. */
void document_child_add(struct cJSON *node, struct cJSON *child);
/* Fills in the error's line and column. */
void text_error_at(const char *text, size_t byte, struct text_error *error);

#endif
