/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parses text (JSON, or YAML with several documents) to objects.  No I/O.  Every problem is
 * reported, not only the first.  Each names the object, the path of the field and, if there is a
 * text, the line.
 */
#ifndef TENDRIL_POLICY_OBJECTS_PARSE_H
#define TENDRIL_POLICY_OBJECTS_PARSE_H

#include <stdbool.h>
#include <stddef.h>

#include "policy/objects/object.h"

struct cJSON;

struct problem {
	char *object;  /* "NetworkPolicy shop/cart", or "document 2" while the name is not known */
	char *path;    /* "spec.ingress[1].ports[0].port", "" for the whole object */
	char *message; /* "70000 is not a port" */
	size_t line;   /* from 1; 0 if not known */
	size_t column;
	bool warning;
};

struct problems {
	struct problem *items;
	size_t count;
	size_t errors;        /* items that are not warnings */
	size_t skipped;       /* objects that are not about the network (see kind.h) */
	char **skipped_names; /* "Deployment shop/web"; NULL without PARSE_NAME_SKIPPED */
};

/* Writes "FILE:LINE:COLUMN: OBJECT: PATH: MESSAGE" without the parts that are not known, as one
 * line without control characters.  Returns buf. */
const char *problem_format(const struct problem *problem, const char *file, char *buf, size_t size);
void problems_done(struct problems *problems);

struct object_list {
	struct object **items; /* owned */
	size_t count;
	size_t documents; /* objects and Lists; 0: the text has nothing, not even an empty List */
};

void object_list_done(struct object_list *list);

enum parse_flag {
	PARSE_LENIENT = 1 << 0,      /* unknown fields in policies are warnings, not errors */
	PARSE_NAME_SKIPPED = 1 << 1, /* keep the names of objects that are skipped */
};

/* Parses single objects, v1 List and KINDList objects, and YAML streams of them.  Returns 0 if
 * there was no error (there may be warnings), or -EINVAL with problems filled.  On failure the list
 * is empty: a text is accepted whole or not at all.  The same object twice in one text is an error.
 * Within a task (lib/task.h) it pauses. */
int objects_parse(const char *text, size_t len, unsigned int flags, struct object_list *ret_list,
		  struct problems *problems);

/* The position of a field in the text of its object; if the field is not written, that of the
 * nearest enclosing field.  objects_position() finds many of them in one pass over the text. */
struct object_position {
	const struct object *object;
	const char *path; /* as in problems; "" is the object */
	size_t line;      /* result; 0: not known */
	size_t column;
};

void objects_position(const char *text, size_t len, struct object_position *positions,
		      size_t count);

/* Reads one parsed JSON value; a List is an error here.  For an object that is skipped, returns 0
 * and sets *ret_object to NULL. */
int object_parse(const struct cJSON *json, unsigned int flags, struct object **ret_object,
		 struct problems *problems);

#endif
