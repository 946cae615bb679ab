/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/help.h"

#include <string.h>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "datapath/abi.h"

#define HELP_COLUMN 28 /* how wide the left column is */

#define STATUSES "0 done, 1 failed or refused, 2 wrong usage"

static void print_row(FILE *file, const char *head, const char *help)
{
	if (strlen(head) <= HELP_COLUMN)
		fprintf(file, "  %-*s %s\n", HELP_COLUMN, head, help);
	else
		fprintf(file, "  %s\n  %*s %s\n", head, HELP_COLUMN, "", help);
}

static void print_options(FILE *file, uint64_t bits, const char *outputs)
{
	const struct option_spec *spec;

	for (size_t i = 0; (spec = option_at(i)); i++) {
		char text[64], letter[6] = "";
		const char *value = spec->bit == OPT_OUTPUT ? outputs : spec->placeholder;
		bool maybe = spec->type == OPTION_MAYBE;

		if (!(spec->bit & bits))
			continue;
		if (spec->letter)
			snprintf(letter, sizeof(letter), "-%c, ", spec->letter);
		snprintf(text, sizeof(text), "%s--%s%s%s%s", letter, spec->name,
			 maybe   ? "[="
			 : value ? " "
				 : "",
			 value ? value : "", maybe ? "]" : "");
		print_row(file, text, spec->help);
	}
}

/* All commands, or those that begin with a word. */
static void print_commands(FILE *file, const char *group)
{
	const struct command *command;
	size_t len = group ? strlen(group) : 0;
	char text[64];

	fprintf(file, "commands:\n");
	for (size_t i = 0; (command = command_at(i)); i++) {
		if (group && (strncmp(command->name, group, len) != 0 || command->name[len] != ' '))
			continue;
		snprintf(text, sizeof(text), "%s %s", command->name, command->operands);
		print_row(file, text, command->help);
	}
}

void help_overview(FILE *file)
{
	fprintf(file, "usage: tendril COMMAND [OPTION...]\n\n");
	print_commands(file, NULL);
	fprintf(file, "\noptions of every command:\n");
	print_options(file, OPT_COMMON | OPT_VERSION, "FORMAT");
	fprintf(file,
		"\nA POD, SERVICE or POLICY is NAMESPACE/NAME, or NAME with -n NAMESPACE; a\n"
		"ClusterNetworkPolicy is /NAME.  tendril help COMMAND describes one command.\n"
		"\nexit status: " STATUSES "\n");
}

void help_group(FILE *file, const char *group)
{
	fprintf(file, "usage: tendril %s COMMAND [OPTION...]\n\n", group);
	print_commands(file, group);
	fprintf(file, "\ntendril help %s COMMAND describes one of them.\n", group);
}

void help_command(FILE *file, const struct command *command)
{
	fprintf(file, "usage: tendril %s %s%s[OPTION...]\n\n%s\n\noptions:\n", command->name,
		command->operands, *command->operands ? " " : "", command->help);
	print_options(file, command->options | OPT_COMMON, command->outputs);
	fprintf(file, "\nexit status: %s\n", command->statuses ? command->statuses : STATUSES);
	if (command->options & OPT_CANARY)
		fprintf(file,
			"with --dry-run or --canary: 0 no connection would be cut off, 1 some "
			"would, 2 it could not be tried\n");
}

void help_usage(const struct command *command)
{
	output_note("usage: tendril %s %s%s[OPTION...]", command->name, command->operands,
		    *command->operands ? " " : "");
}

int command_unknown(char **words, size_t count)
{
	bool group = count > 1 && command_is_group(words[0]);
	char name[256], guess[64];

	snprintf(name, sizeof(name), "%s%s%s", words[0], group ? " " : "", group ? words[1] : "");
	if (command_guess(group ? words[0] : NULL, words[group], guess, sizeof(guess)))
		output_note("tendril: unknown command %s; did you mean tendril %s?", name, guess);
	else
		output_note("tendril: unknown command %s; see tendril %s%s--help", name,
			    group ? words[0] : "", group ? " " : "");
	return EXIT_USAGE;
}

int help_words(char **words, size_t count)
{
	size_t used;
	const struct command *command = command_find(words, count, &used);

	if (command)
		help_command(stdout, command);
	else if (count == 0)
		help_overview(stdout);
	else if (count == 1 && command_is_group(words[0]))
		help_group(stdout, words[0]);
	else
		return command_unknown(words, count);
	return EXIT_OK;
}

int cmd_help(const struct arguments *args, struct errmsg *err)
{
	(void)err;
	return help_words(args->operands, args->operand_count);
}

int cmd_version(const struct arguments *args, struct errmsg *err)
{
	(void)args;
	(void)err;
	printf("tendril %s (ABI %d)\n", TENDRIL_VERSION, ABI_VERSION);
	return EXIT_OK;
}
