/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The world as the CLI sees it: objects from files, or everything an agent holds, with the file
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
struct cli_world;

struct cli_world *cli_world_new(void); /* NULL: out of memory */
void cli_world_free(struct cli_world *world);
DEFINE_AUTO(cli_world)

const struct world *cli_world_objects(const struct cli_world *world);

/* Adds the objects of one file.  What is wrong with its content, or contradicts what was read
 * before, goes into problems; a negative errno is for a file that cannot be read. */
int cli_world_read(struct cli_world *world, const char *file, unsigned int parse_flags,
		   size_t *ret_count, struct problems *problems, struct errmsg *err);

/* From args: the files of -f (the first problem is the error; kinds Tendril does not read are
 * passed over), or, without -f, the agent's objects and endpoints. */
int cli_world_load(const struct arguments *args, struct cli_world **ret, struct errmsg *err);

/* The agent's objects and endpoints, as they would be with these documents (a JSON array, or NULL)
 * applied. */
int cli_world_load_agent(const struct arguments *args, const struct cJSON *documents,
			 struct cli_world **ret, struct errmsg *err);

/* Adds what one -f names: the objects of a file, or of a directory's files. */
int cli_world_add(struct cli_world *world, const char *path, struct errmsg *err);

/* Gives a world the namespaces, nodes, pods and services that only the other one has; a pod whose
 * address is somebody else's there is left out.  The other one must live as long. */
int cli_world_fill(struct cli_world *world, const struct cli_world *other, struct errmsg *err);

/* Where a field of an object (path as in problems, "" for the object) was read: "FILE:LINE", or
 * what the agent said of the object; "" if not known.  Returns buf. */
const char *cli_world_source(const struct cli_world *world, const struct object *object,
			     const char *path, char *buf, size_t size);

/* The same for many fields, in one pass over each file. */
struct cli_place {
	const struct object *object;
	const char *path;
	const char *file; /* result: its file, what the agent said of the object, or "" */
	size_t line;      /* 0: not known */
	size_t column;
};

int cli_world_locate(const struct cli_world *world, struct cli_place *places, size_t count);

/* Lets the library know the agent's node by its addresses, too. */
int cli_world_know_node(struct cli_world *world, struct errmsg *err);

/* Whether the agent calls an address its node's own; offline the Node objects say so. */
bool cli_world_is_node_address(const struct cli_world *world, const struct addr *addr);

/* Appends the documents of a file that was read to a JSON array, Lists flattened. */
int cli_documents_read(const struct cli_world *world, const char *file, struct cJSON *array,
		       struct errmsg *err);

#endif
