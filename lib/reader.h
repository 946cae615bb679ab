/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Typed reads of a JSON tree.  Reading goes on after a problem, so a caller reads all fields and
 * checks once, at the end.  A reader either keeps the first problem as an error, or passes every
 * problem to a function.
 */
#ifndef TENDRIL_LIB_READER_H
#define TENDRIL_LIB_READER_H

#include <stdarg.h>

#include "lib/json.h"

enum problem_kind {
	PROBLEM_ERROR,
	PROBLEM_WARNING,
	PROBLEM_AT_KEY, /* the key is wrong, not the value */
	PROBLEM_WARNING_AT_KEY,
};

/* { .err = err } is a reader that keeps the first problem. */
struct reader {
	struct errmsg *err; /* "spec.mtu: 9 is not between 68 and 65535"; may be NULL */
	int ret;            /* 0, -EINVAL, or the code that reader_fail() got */
	bool yaml;          /* the text may be YAML: hints say how it is written there */
	/* Gets every problem; NULL: the first one goes to err and ret. */
	void (*problem)(struct reader *reader, const struct json_node *at, enum problem_kind kind,
			const char *fmt, va_list args);
};

void reader_problem(struct reader *reader, const struct json_node *at, enum problem_kind kind,
		    const char *fmt, ...) __attribute__((format(printf, 4, 5)));
#define reader_error(reader, at, ...) reader_problem(reader, at, PROBLEM_ERROR, __VA_ARGS__)

/* Reports an error that is not -EINVAL, or not about a field, to a reader that keeps the first. */
void reader_fail(struct reader *reader, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* A required field is missing: a problem at its path. */
void reader_missing(struct reader *reader, const struct json_node *at);
/* Whether the field is there; a problem if not. */
bool read_required(struct reader *reader, const struct json_node *at);

/* True if the value is there and of the type; a problem if it is there and of another one. */
bool read_is_object(struct reader *reader, const struct json_node *at);
bool read_is_array(struct reader *reader, const struct json_node *at);
/* The string (borrowed), or NULL. */
const char *read_string(struct reader *reader, const struct json_node *at);
/* The same for a required field; "" and a problem if it is missing. */
const char *read_required_string(struct reader *reader, const struct json_node *at);
bool read_bool(struct reader *reader, const struct json_node *at, bool absent);
/* A whole number from min to max; `absent` if it is missing or wrong. */
int64_t read_integer(struct reader *reader, const struct json_node *at, int64_t min, int64_t max,
		     int64_t absent);

#endif
