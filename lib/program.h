/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Command line and signals of the programs without privileges, tendril-kube and tendril-http. These
 * options are theirs without a row: --log-level, --version and --help.
 */
#ifndef TENDRIL_LIB_PROGRAM_H
#define TENDRIL_LIB_PROGRAM_H

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>

struct program_option {
	const char *name;
	const char **values; /* where the value is stored; NULL: the option takes none */
	size_t *count; /* of values, for an option that may be repeated; NULL: the last wins */
	size_t max;    /* values that fit */
	bool *given;   /* of an option without a value: becomes true */
};

struct program {
	const char *name;
	const char *usage;                    /* --help prints it */
	const struct program_option *options; /* up to one without a name */
};

/* Stores what the command line says, and sets the log level.  Values are borrowed from argv. False:
 * a message or the help has been printed, and the program ends with *ret_status. */
bool program_options(const struct program *program, int argc, char **argv, int *ret_status);

/* SIGINT and SIGTERM end the loop of the base. */
struct program_signals {
	struct event *events[2];
};

/* Returns 0 or -ENOMEM. */
int program_signals_watch(struct program_signals *signals, struct event_base *base);
void program_signals_done(struct program_signals *signals); /* before the base is freed */

#endif
