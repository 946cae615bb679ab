/* SPDX-License-Identifier: Apache-2.0 */
/* The table of commands. */
#ifndef TENDRIL_CLI_COMMANDS_H
#define TENDRIL_CLI_COMMANDS_H

#include "cli/command.h"

/* The command in a row of the table; NULL after the last. */
const struct command *command_at(size_t row);

/* The command whose name the words begin with, or NULL; *ret_words is how many words it took. */
const struct command *command_find(char **words, size_t count, size_t *ret_words);

/* Whether commands of two words begin with this one: "policy". */
bool command_is_group(const char *word);

/* Guesses the command, or first word of commands, that a wrong word means: "policy test".  group:
 * the first word, if it is right; or NULL.  False: no command is similar. */
bool command_guess(const char *group, const char *name, char *buf, size_t size);

#endif
