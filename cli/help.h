/* SPDX-License-Identifier: Apache-2.0 */
/* The texts of --help, made from the tables of commands and options. */
#ifndef TENDRIL_CLI_HELP_H
#define TENDRIL_CLI_HELP_H

#include <stdio.h>

#include "cli/command.h"

void help_overview(FILE *file);
void help_group(FILE *file, const char *group); /* the commands that begin with a word */
void help_command(FILE *file, const struct command *command);
void help_usage(const struct command *command); /* one line, to standard error */

/* Prints the help of a command, of a group, or, without words, of everything.  EXIT_USAGE after a
 * message if there is no such command. */
int help_words(char **words, size_t count);

/* Prints a message about words that are no command; returns EXIT_USAGE. */
int command_unknown(char **words, size_t count);

#endif
