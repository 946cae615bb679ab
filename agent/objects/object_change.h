/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A change of several objects of a store, all or none, and what it affects: policies, or which
 * services.
 */
#ifndef TENDRIL_AGENT_OBJECTS_OBJECT_CHANGE_H
#define TENDRIL_AGENT_OBJECTS_OBJECT_CHANGE_H

#include <sys/types.h>

#include "policy/objects/store.h"

enum object_source_kind { OBJECT_SOURCE_FILE, OBJECT_SOURCE_API, OBJECT_SOURCE_KUBE };

/* Where objects come from; struct object's source points to one. */
struct object_source {
	enum object_source_kind kind;
	const char *name; /* a file's name, "api" or "kubernetes" */
};

/* Who changes objects, for the log. */
struct object_author {
	uid_t uid; /* of the API's client, or the owner of the file; AUTHOR_UNKNOWN */
	pid_t pid; /* of the API's client, or 0 */
};

#define AUTHOR_UNKNOWN ((uid_t)-1)

struct object_step {              /* one is NULL */
	struct object *old;       /* removed from the store, owned */
	const struct object *put; /* added to it, owned by the store */
	const struct object_author *author;
	uint64_t hash; /* of the object's text */
};

struct object_change {
	struct store *store;
	const struct object_author *author; /* of the next steps; NULL: they are not logged */
	struct object_step *steps;
	size_t count;
	size_t room;
};

#define OBJECT_TOUCHED_MAX 64 /* more services than this are synced as all of them */

struct object_touched {
	bool policies; /* what the compiler reads */
	bool nodes;
	bool all_services;
	struct {
		char *namespace;
		char *name;
	} services[OBJECT_TOUCHED_MAX];
	size_t service_count;
	uint64_t since_ns; /* CLOCK_MONOTONIC: of the first change; 0: nothing was touched */
	char *audit;       /* lines that object_audit_write() still has to write, or NULL */
};

void object_change_begin(struct object_change *change, struct store *store,
			 const struct object_author *author);

/* Removes an object from the store; it must be there. */
int object_change_take(struct object_change *change, const struct object *object, uint64_t hash);

/* Adds a new object with its source; the store owns it then, or it is freed on failure.  -EEXIST:
 * it exists already, or contradicts another one; the text names the source of the other. */
int object_change_put(struct object_change *change, struct object *object,
		      const struct object_source *source, uint64_t hash, struct errmsg *err);

/* Ends the change: undoes it, or keeps it and adds to touched what it affects. */
void object_change_undo(struct object_change *change);
void object_change_commit(struct object_change *change, struct object_touched *touched);

void object_touched_done(struct object_touched *touched);

static inline const struct object_source *object_source_of(const struct object *object)
{
	return object->source;
}

/* "Pod shop/cart", "Node n1".  Returns buf. */
const char *object_label(const struct object *object, char *buf, size_t size);

#endif
