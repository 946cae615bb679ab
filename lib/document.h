/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Documents of a text in JSON or YAML, one after the other, as cJSON trees whose values know where
 * they stand.  As kubectl does it: a text that begins as JSON is read as JSON, and from the first
 * value that is not JSON on as YAML.
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

/* Every value of a tree that is read here; cJSON's functions read and free it as theirs. */
struct document_node {
	struct cJSON json;
	uint32_t at; /* where the value begins: bytes of a JSON text, characters of a YAML text */
	uint32_t key_at; /* the same for its key, if it has one */
};

/* A byte of a text, and what line and column, from 1, it is on. */
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
	struct yaml *yaml;     /* reads on from base; NULL: it is JSON */
	struct text_mark base; /* where that begins */
	struct text_mark mark; /* of the last position */
	bool by_item;          /* to be set: of a JSON List, documents_next() reads no items */
	bool in_list;          /* the document at hand is such a List */
	size_t items_next;     /* byte after the last item */
	size_t items_end;      /* of the bracket that closes them */
	size_t items_count;
};

/* The text must outlive the documents. */
void documents_init(struct documents *documents, const char *text, size_t len);
void documents_done(struct documents *documents);

/* The next document, owned by the caller (cJSON_Delete); an empty YAML document is null.  Returns
 * 1, 0 at the end, or -EINVAL and *ret_error.  Aliases are copied, up to a bound, and merge keys
 * (<<) carried out; unknown tags are refused. */
int documents_next(struct documents *documents, struct cJSON **ret, struct text_error *ret_error);

/* The same for the items of the document at hand if it is in_list: the tree of a whole List takes
 * ten times the memory of its text and is cold when it is read.  -EAGAIN: this is not
 * JSON; the text has to be read again without by_item, which finds the error to report. */
int documents_next_item(struct documents *documents, struct cJSON **ret);

/* Line and column of a value of the document at hand, or of its key.  Cheap if it stands after the
 * last one that was asked for. */
void documents_position(struct documents *documents, const struct cJSON *value, bool of_key,
			size_t *ret_line, size_t *ret_column);

/* All documents as a cJSON array; NULL and *ret_error on failure. */
struct cJSON *documents_parse(const char *text, size_t len, struct text_error *ret_error);

/* ---- for readers of a format ---- */

/* A struct document_node without a value.  NULL: out of memory. */
struct cJSON *document_node_new(int type, size_t at);
/* As cJSON_AddItemToArray(), for a child that has its key. */
void document_child_add(struct cJSON *node, struct cJSON *child);
/* Fills in line and column. */
void text_error_at(const char *text, size_t byte, struct text_error *error);

#endif
