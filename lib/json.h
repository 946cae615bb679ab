/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nodes of parsed JSON.  A struct json_node is a value and the path to it, so that every error
 * names the field: "spec.ports[1].port: 70000 is not between 1 and 65535".  lib/reader.h has the
 * typed reads.
 *
 * Nodes live on the caller's stack and point to their parents: a node must not outlive its parent.
 * The text of a path is made only when there is an error.
 */
#ifndef TENDRIL_LIB_JSON_H
#define TENDRIL_LIB_JSON_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/auto.h"
#include "lib/errmsg.h"

#define JSON_PATH_MAX 256

struct json_node {
	const struct cJSON *value;   /* NULL: absent or null, which is the same to Kubernetes */
	const struct cJSON *written; /* as value, but a written null is not NULL here */
	const struct json_node *parent;
	const char *key; /* NULL: an element of an array, or the root */
	size_t index;
	bool object_root; /* paths begin here */
};

static inline void json_auto_fn(struct cJSON **json)
{
	cJSON_Delete(*json);
}
#define auto_json __attribute__((cleanup(json_auto_fn)))

/* Makes cJSON end the program where it runs out of memory (lib/alloc.h), so that none of its
 * functions returns NULL for that.  Every main() calls it.  Texts from outside are parsed by
 * json_parse(), which checks. */
void json_init(void);

/* Parses one whole document; text after it is an error.  -EBADMSG: err has the line and column.
 * The caller owns the result (cJSON_Delete). */
int json_parse(const char *text, size_t len, struct cJSON **ret, struct errmsg *err);

struct json_node json_root(const struct cJSON *value);
/* The member of an object, or a node without a value. */
struct json_node json_member(const struct json_node *object, const char *key);
/* Nodes of an element or a member that the caller has already.  Here null is a value, because a
 * null in a list or a map is an error. */
struct json_node json_element(const struct json_node *array, const struct cJSON *value,
			      size_t index);
struct json_node json_member_node(const struct json_node *object, const struct cJSON *member);

static inline bool json_present(const struct json_node *node)
{
	return node->value != NULL;
}

/* "spec.ports[1].port", "metadata.labels[app.example/name]", "" for the root.  Returns buf. */
const char *json_path_write(const struct json_node *node, char *buf, size_t size);
/* The same, but "document" for the root.  Returns buf, JSON_PATH_MAX bytes. */
const char *json_path(const struct json_node *node, char *buf);

#endif
