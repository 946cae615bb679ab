/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Typed reading of a JSON tree with a path to every value, so that each problem can say where it
 * is.  Reading goes on after a problem: one run reports them all.  Internal to the parser.
 */
#ifndef TENDRIL_POLICY_OBJECTS_READER_H
#define TENDRIL_POLICY_OBJECTS_READER_H

#include <cjson/cJSON.h>

#include "lib/arena.h"
#include "lib/document.h"
#include "lib/json.h"
#include "policy/objects/parse.h"

#define PROBLEMS_MAX 100

struct reader {
	struct problems *problems;
	unsigned int flags; /* enum parse_flag */
	struct documents
		*documents; /* what is read is of the document at hand; NULL: it has no text */
	size_t document;    /* its number, from 0 */
	char object[600];   /* how problems name the object at hand */
};

void problem_done(struct problem *problem);

enum problem_kind {
	PROBLEM_ERROR,
	PROBLEM_WARNING,
	PROBLEM_AT_KEY,
	PROBLEM_WARNING_AT_KEY,
};

void reader_problem(struct reader *reader, const struct json_node *at, enum problem_kind kind,
		    const char *fmt, ...) __attribute__((format(printf, 4, 5)));
#define reader_error(reader, at, ...) reader_problem(reader, at, PROBLEM_ERROR, __VA_ARGS__)

/* The text is no document. */
void reader_text_error(struct reader *reader, const struct text_error *error);

/* The root of an object: paths for people begin here. */
struct json_node reader_root(const cJSON *json);
/* An item of a list.  Other than for json_element(), null is a value: it is refused as one. */
struct json_node reader_item(const struct json_node *at, const cJSON *item, size_t index);

/* True if the value is there and of the type; a problem if it is there and of another one. */
bool read_is_object(struct reader *reader, const struct json_node *at);
bool read_is_array(struct reader *reader, const struct json_node *at);
/* The string, borrowed, or NULL. */
const char *read_string(struct reader *reader, const struct json_node *at);
bool read_bool(struct reader *reader, const struct json_node *at, bool absent);
/* 1..65535, or 0 if absent or wrong. */
uint16_t read_port(struct reader *reader, const struct json_node *at);
/* "TCP", "UDP" or "SCTP"; absent: TCP. */
uint8_t read_proto(struct reader *reader, const struct json_node *at);
/* False if absent, empty or wrong. */
bool read_addr(struct reader *reader, const struct json_node *at, struct addr *ret_addr);

/* Keys are unique, nesting is bounded: a problem where they are not.  depth is that of at. */
void reader_check_tree(struct reader *reader, const struct json_node *at, size_t depth);

/* A required field is missing: a problem at its path. */
void reader_missing(struct reader *reader, const struct json_node *at);

/* Objects whose every field is known (networking/v1): reports members not in names. */
void read_known_fields(struct reader *reader, const struct json_node *at, const char *const *names,
		       size_t count);

#define KNOWN(reader, at, ...)                                             \
	do {                                                               \
		static const char *const names_[] = { __VA_ARGS__ };       \
		read_known_fields(reader, at, names_, ARRAY_SIZE(names_)); \
	} while (0)

/* ---- shared between nouns ---- */

/* The selector at the node, into a zeroed struct; absent: one that matches everything. */
void read_selector(struct reader *reader, const struct json_node *at, struct selector *selector);
/* Likewise, NULL where it is absent. */
struct selector *read_selector_kept(struct reader *reader, const struct json_node *at);
/* A CIDR; host bits are taken as Kubernetes takes them, but said. */
bool read_cidr(struct reader *reader, const struct json_node *at, struct prefix *ret_prefix,
	       bool *ret_host_bits);
/* What stands around the spec of a policy: its fields must be known. */
void read_policy_envelope(struct reader *reader, const struct json_node *root);
/* A port's name; a problem if it cannot be one. */
char *read_port_name(struct reader *reader, const struct json_node *at);

void read_labels(struct reader *reader, const struct json_node *at, struct labels *labels);
void labels_set(struct labels *labels, const char *key, const char *value);

void read_namespace(struct reader *reader, const struct json_node *root, struct object *object);
void read_node(struct reader *reader, const struct json_node *root, struct object *object);
void read_pod(struct reader *reader, const struct json_node *root, struct object *object);
void read_service(struct reader *reader, const struct json_node *root, struct object *object);
void read_slice(struct reader *reader, const struct json_node *root, struct object *object);
void read_policy(struct reader *reader, const struct json_node *root, struct object *object);
void read_cluster_policy(struct reader *reader, const struct json_node *root,
			 struct object *object);

#endif
