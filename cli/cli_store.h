/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A store (policy/objects/store.h) that knows the source of each object: file and line, or what the
 * agent says about its source.
 */
#ifndef TENDRIL_CLI_CLI_STORE_H
#define TENDRIL_CLI_CLI_STORE_H

#include "lib/auto.h"
#include "lib/errmsg.h"
#include "policy/objects/parse.h"
#include "policy/objects/store.h"

#define SOURCE_MAX 4200 /* "FILE:LINE" */

struct cJSON;
struct source_file;

struct cli_store {
	struct store *objects; /* the source of an object is a struct source_file, or NULL */
	struct source_file *files;
	struct cJSON *listing;       /* of the agent: where its objects come from; or NULL */
	struct addr *node_addresses; /* of the agent's node */
	size_t node_address_count;
	bool verbose; /* name the objects that are skipped, on standard error */
	bool merges;  /* one object may be in several files, see cli_store_read() */
};

struct cli_store *cli_store_new(void);
void cli_store_free(struct cli_store *store);
DEFINE_AUTO(cli_store)

/* Adds the objects of one file.  Errors of its content, and contradictions to earlier files, go
 * into problems.  A negative errno: the file cannot be read.
 *
 * An object that an earlier file has is a contradiction, except in a store that merges, if one of
 * the two is a copy from a cluster (it has a uid), or if they are no policies.  Then the one
 * without a uid is used, else the later one.  It keeps what only a cluster knows: addresses of pods
 * and services, and the node of a pod. */
int cli_store_read(struct cli_store *store, const char *file, unsigned int parse_flags,
		   size_t *ret_count, struct problems *problems, struct errmsg *err);

/* Adds the objects of one -f: of a file, or of a directory's files.  The first problem is the
 * error. */
int cli_store_add(struct cli_store *store, const char *path, struct errmsg *err);

/* Adds the namespaces, nodes, pods and services that only the other store has.  Skips a pod whose
 * address already has an owner.  The other store must live as long. */
int cli_store_fill(struct cli_store *store, const struct cli_store *other, struct errmsg *err);

/* The source of a field of an object (path as in problems, "" for the object): "FILE:LINE", or what
 * the agent says about the object; "" if not known.  Returns buf. */
const char *cli_store_source(const struct cli_store *store, const struct object *object,
			     const char *path, char *buf, size_t size);

/* The same for many fields, in one pass over each file. */
struct source_location {
	const struct object *object;
	const char *path;
	const char *file; /* result: its file, what the agent says about the object, or "" */
	size_t line;      /* 0: not known */
	size_t column;
};

void cli_store_locate(const struct cli_store *store, struct source_location *locations,
		      size_t count);

/* Tells the policy library the addresses of the agent's node. */
void cli_store_know_node(struct cli_store *store);

/* Whether an address is one of the agent's node.  False without an agent: then only Node objects
 * tell. */
bool cli_store_is_node_address(const struct cli_store *store, const struct addr *addr);

/* Appends the objects of a file that was read, as they were given, to a JSON array. */
void cli_store_documents(const struct cli_store *store, const char *file, struct cJSON *array);

#endif
