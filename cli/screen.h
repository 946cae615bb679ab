/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A picture that is drawn again and again, as top does: on a terminal always in the same place,
 * until q, and the terminal is then as it was; else one below the other.
 */
#ifndef TENDRIL_CLI_SCREEN_H
#define TENDRIL_CLI_SCREEN_H

#include <stddef.h>

#include "cli/command.h"

/*
 * Calls draw() at once and then every --interval, for so long as --for says, or until a signal or q
 * ends it.  seconds: since the last call, 0 in the first one.  A result other than 0 ends it and is
 * returned.
 */
int screen_run(const struct arguments *args,
	       int (*draw)(double seconds, void *arg, struct errmsg *err), void *arg,
	       struct errmsg *err);

/* How many of these rows fit below so many other lines; all of them where it is no terminal. */
size_t screen_rows(size_t rows, size_t other_lines);

#endif
