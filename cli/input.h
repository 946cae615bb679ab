/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store as the CLI sees it: objects from files, or everything an agent holds, with the file
 * and line each came from.
 */
#ifndef TENDRIL_CLI_INPUT_H
#define TENDRIL_CLI_INPUT_H

#include "cli/cli.h"
#include "lib/auto.h"
#include "policy/objects/parse.h"
#include "policy/objects/store.h"

#define SOURCE_MAX 4200 /* "FILE:LINE" */

struct cJSON;
struct cli_input;

struct cli_input *cli_input_new(void); /* NULL: out of memory */
void cli_input_free(struct cli_input *store);
DEFINE_AUTO(cli_input)

const struct store *cli_input_objects(const struct cli_input *store);

/* Adds the objects of one file.  What is wrong with its content, or contradicts what was read
 * before, goes into problems; a negative errno is for a file that cannot be read. */
int cli_input_read(struct cli_input *store, const char *file, unsigned int parse_flags,
		   size_t *ret_count, struct problems *problems, struct errmsg *err);

/* From args: the files of -f (the first problem is the error; kinds Tendril does not read are
 * passed over), or, without -f, the agent's objects and endpoints. */
int cli_input_load(const struct arguments *args, struct cli_input **ret, struct errmsg *err);

/* The agent's objects and endpoints, as they would be with these documents (a JSON array, or NULL)
 * applied. */
int cli_input_load_agent(const struct arguments *args, const struct cJSON *documents,
			 struct cli_input **ret, struct errmsg *err);

/* Adds what one -f names: the objects of a file, or of a directory's files. */
int cli_input_add(struct cli_input *store, const char *path, struct errmsg *err);

/* Gives a store the namespaces, nodes, pods and services that only the other one has; a pod whose
 * address is somebody else's there is left out.  The other one must live as long. */
int cli_input_fill(struct cli_input *store, const struct cli_input *other, struct errmsg *err);

/* Where a field of an object (path as in problems, "" for the object) was read: "FILE:LINE", or
 * what the agent said of the object; "" if not known.  Returns buf. */
const char *cli_input_source(const struct cli_input *store, const struct object *object,
			     const char *path, char *buf, size_t size);

/* The same for many fields, in one pass over each file. */
struct cli_position {
	const struct object *object;
	const char *path;
	const char *file; /* result: its file, what the agent said of the object, or "" */
	size_t line;      /* 0: not known */
	size_t column;
};

int cli_input_position(const struct cli_input *store, struct cli_position *places, size_t count);

/* Lets the library know the agent's node by its addresses, too. */
int cli_input_know_node(struct cli_input *store, struct errmsg *err);

/* Whether the agent calls an address its node's own; offline the Node objects say so. */
bool cli_input_is_node_address(const struct cli_input *store, const struct addr *addr);

/* Appends the documents of a file that was read to a JSON array, Lists flattened. */
int cli_documents_read(const struct cli_input *store, const char *file, struct cJSON *array,
		       struct errmsg *err);

#endif
