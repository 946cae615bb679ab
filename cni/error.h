/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors of CNI calls.  Every function in cni/ that takes a struct cni_error returns 0 or the code
 * that it has set there; only main() turns it into JSON.
 */
#ifndef TENDRIL_CNI_ERROR_H
#define TENDRIL_CNI_ERROR_H

#include <stdbool.h>

#include "lib/cni_code.h"

struct cni_error {
	int code;          /* 0 while nothing has failed */
	char msg[600];     /* what is wrong, with the name of the variable, field or object */
	char details[600]; /* more for people; may be empty */
};

/* Writes the message and returns code. */
int cni_fail(struct cni_error *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Adds the long text to a failure; returns its code. */
int cni_details(struct cni_error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
