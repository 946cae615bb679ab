/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the parts of Kubernetes objects.  Keeps all problems, each with its object and its position
 * in the text, so that one run reports them all.  Internal to the parser.
 */
#ifndef TENDRIL_POLICY_OBJECTS_READER_H
#define TENDRIL_POLICY_OBJECTS_READER_H

#include <cjson/cJSON.h>

#include "lib/arena.h"
#include "lib/document.h"
#include "lib/reader.h"
#include "policy/objects/parse.h"

#define PROBLEMS_MAX    100
#define OBJECT_TEXT_MAX 600

/* Every reader in policy/ is one of these; object_reader_of() finds it. */
struct object_reader {
	struct reader reader; /* first */
	struct problems *problems;
	unsigned int flags; /* enum parse_flag */
	/* The values that are read belong to its current document; NULL: there is no text. */
	struct documents *documents;
	size_t document;              /* its number, from 0 */
	char object[OBJECT_TEXT_MAX]; /* name of the current object in problems */
};

void object_reader_init(struct object_reader *reader, struct problems *problems, unsigned int flags,
			struct documents *documents);
static inline struct object_reader *object_reader_of(struct reader *reader)
{
	return (struct object_reader *)reader;
}

void problem_done(struct problem *problem);

/* The text is no document. */
void reader_text_error(struct object_reader *reader, const struct text_error *error);

/* 1..65535, or 0 if absent or wrong. */
uint16_t read_port(struct reader *reader, const struct json_node *at);
/* 0, which is what an unset port looks like, is none. */
uint16_t read_optional_port(struct reader *reader, const struct json_node *at);
/* "TCP", "UDP" or "SCTP"; absent: TCP. */
uint8_t read_proto(struct reader *reader, const struct json_node *at);
/* False if absent, empty or wrong. */
bool read_addr(struct reader *reader, const struct json_node *at, struct addr *ret_addr);

/* Reports keys that are not unique, and too much nesting.  depth is that of at. */
void reader_check_tree(struct reader *reader, const struct json_node *at, size_t depth);

/* Objects whose every field is known (networking/v1): reports members not in names. */
void read_known_fields(struct reader *reader, const struct json_node *at, const char *const *names,
		       size_t count);

#define KNOWN(reader, at, ...)                                             \
	do {                                                               \
		static const char *const names_[] = { __VA_ARGS__ };       \
		read_known_fields(reader, at, names_, ARRAY_SIZE(names_)); \
	} while (0)

/* ---- shared by several kinds ---- */

/* Reads a selector into a zeroed struct; absent: it matches everything. */
void read_selector(struct reader *reader, const struct json_node *at, struct selector *selector);
/* The same, but NULL if it is absent. */
struct selector *read_selector_kept(struct reader *reader, const struct json_node *at);
/* Reads a CIDR.  Accepts host bits as Kubernetes does, and reports them in *ret_host_bits. */
bool read_cidr(struct reader *reader, const struct json_node *at, struct prefix *ret_prefix,
	       bool *ret_host_bits);
/* Reads an address that a service may have, or an endpoint.  Refuses loopback and the like: with
 * them a service could take traffic that pods and the node keep to themselves.  False if absent or
 * wrong. */
bool read_routable(struct reader *reader, const struct json_node *at, struct addr *ret_addr);
/* Whether labels assign an object to another service proxy, by the rules of kube-proxy. */
bool read_foreign(struct reader *reader, const struct json_node *labels);
/* Reports unknown fields of a policy outside its spec. */
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
