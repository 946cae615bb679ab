/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors: a negative errno as return value, and a text with context in a struct on the outermost
 * caller's stack.  Functions below main() never print; they fail() or wrap().
 */
#ifndef TENDRIL_LIB_ERRMSG_H
#define TENDRIL_LIB_ERRMSG_H

struct errmsg {
	int code;       /* negative errno, 0 while nothing has failed */
	char text[500]; /* outermost context first */
};

/* Writes the formatted text, then ": " and strerror(-code); returns code (a negative errno).  err
 * may be NULL. */
int fail(struct errmsg *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* As fail(), without strerror: for a text that is complete. */
int fail_plain(struct errmsg *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Prefixes the text of a failure with context; returns err->code. */
int wrap(struct errmsg *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
