/* SPDX-License-Identifier: Apache-2.0 */
/* YAML text -> cJSON trees, with plain scalars resolved as Kubernetes' own tools resolve them. */
#ifndef TENDRIL_LIB_YAML_H
#define TENDRIL_LIB_YAML_H

#include <stdbool.h>
#include <stddef.h>

struct cJSON;

#define TEXT_DEPTH_MAX 128 /* nesting, in either format */

struct text_error {
	size_t line; /* from 1; 0 if not known */
	size_t column;
	char text[200];
};

/* All documents as a cJSON array (an empty document is null); NULL and *ret_error on failure.
 * Aliases are copied, up to a bound; merge keys and unknown tags are refused. */
struct cJSON *yaml_parse(const char *text, size_t len, struct text_error *ret_error);

/* JSON text[0..len): one value; *ret_len is how many bytes it took.  NULL and *ret_error on
 * failure, with positions counted from text. */
struct cJSON *json_value_parse(const char *text, size_t len, size_t *ret_len,
			       struct text_error *ret_error);

/* All documents of a text in either format as a cJSON array; NULL and *ret_error on failure. */
struct cJSON *documents_parse(const char *text, size_t len, struct text_error *ret_error);

/* Bytes of the byte order mark that a text begins with; the first byte from offset on that is no
 * white space. */
size_t text_bom(const char *text, size_t len);
size_t text_skip_space(const char *text, size_t len, size_t offset);

/* Whether a text is to be read as JSON: it begins with '{' or '['. */
bool text_is_json(const char *text, size_t len);

#endif
